"""Bootstrap intervals and Holm's correction."""

import numpy as np
import pytest


def test_holm_by_hand():
    from consistency_study.bootstrap import holm

    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_intervals():
    from consistency_study.bootstrap import Bootstrap, Estimate

    rng = np.random.default_rng(0)
    bootstrap = Bootstrap(40, num_draws=4000)
    same = bootstrap.estimate(np.full((5, 40), 0.25))
    assert (same.mean, same.low, same.high) == pytest.approx((0.25, 0.25, 0.25))
    assert same.p_value < 0.001
    # With one seed only clips vary, and the interval is that of a mean.
    values = rng.normal(1.0, 1.0, size=(1, 40))
    found = bootstrap.estimate(values)
    half = 1.96 * values.std() / 40**0.5
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    # If seeds vary too, the interval is wider.
    shifted = values + np.linspace(-1, 1, 5)[:, None]
    assert bootstrap.estimate(shifted).high - bootstrap.estimate(shifted).low > 1.5 * (found.high - found.low)
    # A paired difference is found although the intervals of the two figures overlap.
    first, second = shifted + 0.1, shifted
    assert bootstrap.estimate(first).low < bootstrap.estimate(second).high
    assert bootstrap.estimate(first - second).p_value < 0.001
    assert bootstrap.estimate(rng.normal(size=(5, 40))).p_value > 0.05
    assert Estimate(0.25, 0.125, 0.5, 0.01).text(scale=100) == "25.0 [12.5, 50.0]"
