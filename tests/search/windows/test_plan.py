"""Where windows begin and end."""

from types import SimpleNamespace

import numpy as np
import pytest

from modeling_atri.search.windows import WindowPlan, plan_windows
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.towerless import embedded_model, embedded_processor
from tests.helpers.towers import TOWERS, tower_model, tower_processor


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (0.5, [(0, 50)]),
        (1.0, [(0, 100)]),
        (1.5, [(0, 100), (50, 150)]),
        (1.6, [(0, 100), (50, 150), (60, 160)]),
        (2.0, [(0, 100), (50, 150), (100, 200)]),
        (2.009, [(0, 100), (50, 150), (100, 200)]),
    ],
)
def test_windows_begin_at_every_hop_and_the_last_ends_with_the_sound(seconds, expected):
    assert WindowPlan(1.0, 0.5).stretches(round(seconds * 16_000), 16_000, step=160) == expected


@pytest.mark.parametrize("hop_s", [0.1, 0.35, 1.0])
def test_windows_cover_the_sound_and_have_one_length(hop_s):
    generator = np.random.default_rng(0)
    for num_samples in generator.integers(16_001, 200_000, 50).tolist():
        stretches = WindowPlan(1.0, hop_s).stretches(num_samples, 16_000)
        assert stretches[0][0] == 0 and stretches[-1][1] == num_samples
        assert {stop - start for start, stop in stretches} == {16_000}
        steps = np.diff([start for start, _ in stretches])
        assert (steps[:-1] == round(hop_s * 16_000)).all() and 0 < steps[-1] <= round(hop_s * 16_000)


def test_the_default_is_the_length_of_the_tower():
    plan = plan_windows(tiny_model(), tiny_processor())
    assert (plan.window_s, plan.hop_s) == (10.12, 5.06)
    for kind, tower in TOWERS.items():
        plan = plan_windows(tower_model(tower), tower_processor(tower))
        assert plan.window_s == pytest.approx(tower.window_seconds), kind
        assert plan.hop_s == plan.window_s / 2


@pytest.mark.parametrize(
    "window_s, hop_s, message",
    [
        (0.1, None, "`window_s` must be at least 0.15 seconds.* got 0.1"),
        (float("nan"), None, "`window_s` must be"),
        (float("inf"), None, "`window_s` must be"),
        (2.0, 2.5, r"`hop_s` must be from 0.01 to 2 seconds.* got 2.5"),
        (2.0, 0, "`hop_s` must be from 0.01"),
        (None, -1, "`hop_s` must be from 0.01 to 10.12"),
    ],
)
def test_impossible_windows_are_refused(window_s, hop_s, message):
    with pytest.raises(ValueError, match=message):
        plan_windows(tiny_model(), tiny_processor(), window_s, hop_s)


def test_an_exported_model_has_windows_too():
    model = SimpleNamespace(config=tiny_model().config)
    assert plan_windows(model, tiny_processor()).window_s == 10.12


def test_stored_embeddings_have_no_windows():
    assert plan_windows(embedded_model(), embedded_processor()) == WindowPlan(0.0, 0.0)
    with pytest.raises(ValueError, match="no audio tower.*Leave them out"):
        plan_windows(embedded_model(), embedded_processor(), window_s=5.0)
