"""Paired differences of runs, and how a report says what is missing."""

import numpy as np
import pytest

from tests.helpers.study import made_up_run


def runs_of(name: str, hits: list[list[int]], ranks_of_misses: int = 5):
    """Runs of a cell whose captions are found first (1) or not (0), by seed and clip, alike in all languages."""
    from consistency_study.runs import Runs
    from evidence_study.cells import Cell

    cell = Cell(name, name.upper(), {"objective": "kcl", "learning_rate": 1e-3, "max_steps": 2})
    ranks = np.where(np.array(hits)[:, None, :, None], 1.0, ranks_of_misses)
    shape = (len(hits), 8, len(hits[0]), 5)
    seeds = list(range(len(hits)))
    rows = [made_up_run(name, seed) for seed in seeds]
    return Runs(cell, seeds, rows, np.broadcast_to(ranks, shape).reshape(len(hits), 8, -1).copy())


def test_differences_are_paired_by_seed_and_clip():
    from consistency_study.bootstrap import Bootstrap
    from evidence_study.tables import differences

    first = runs_of("first", [[1, 1, 0, 1], [1, 0, 0, 1]])
    second = runs_of("second", [[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0]])
    text = differences(
        [("one", first, second), ("none", second, second)],
        {"R@1": (lambda one: one.recall, 100.0)},
        Bootstrap(4, num_draws=200),
    )
    # Seeds 0 and 1 are in both: a clip more of eight.
    assert "| one | 2 | 12.5 [0.0, 50.0]" in text or "| one | 2 | 12.5 [0.0, 37.5]" in text
    assert "| none | 3 | 0.0 [0.0, 0.0] | 1.00 |" in text


def test_the_head_names_the_missing_runs():
    from evidence_study.tables import head

    first = runs_of("first", [[1], [1]])
    text = head("A question", "study", [first.cell], {"first": first})
    assert text.startswith("# A question\n\n")
    assert "2 of 3 planned runs are done" in text
    assert "Missing: first (1 of its seeds)." in text


@pytest.mark.parametrize("language", ["eng_Latn", "cat_Latn", "zho_Hans"])
def test_the_figures_of_a_weak_language_and_of_the_others(language):
    from evidence_study.reports.weak import hits_of_language, hits_of_others, variance_of_others

    from modeling_atri.languages_atri import ATRI_LANGUAGES

    runs = runs_of("one", [[1, 0], [1, 1]])
    place = list(ATRI_LANGUAGES).index(language)
    runs.ranks[0, place, :5] = 9  # this language misses the first clip with seed 0
    runs.ranks[1, (place + 1) % 8, 5:] = 9  # the next one misses the second clip with seed 1
    np.testing.assert_allclose(hits_of_language(runs, language), [[0, 0], [1, 1]])
    np.testing.assert_allclose(hits_of_others(runs, language), [[1, 0], [1, 6 / 7]])
    spread = np.var([9, *[1] * 6])
    np.testing.assert_allclose(variance_of_others(runs, language), [[0, 0], [0, spread]])
