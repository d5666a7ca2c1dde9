"""The rules by which tuning runs choose settings."""

import pytest


def test_the_rate_of_the_highest_recall_is_best():
    from evidence_study.choices import best_rate

    assert best_rate({4e-3: 0.1, 1e-3: 0.3, 2e-3: 0.3}) == 1e-3


@pytest.mark.parametrize(
    ("recalls", "expected"),
    [
        ({300: 0.10, 600: 0.20, 1200: 0.205, 2400: 0.30}, (600, True)),  # the first plateau counts
        ({300: 0.10, 600: 0.20, 1200: 0.30}, (1200, False)),  # still rises
        ({300: 0.10}, (300, False)),  # no double was run
        ({300: 0.30, 600: 0.25}, (300, True)),  # recall falls
        ({300: 0.30, 1200: 0.31}, (1200, False)),  # neither is the double of the other
    ],
)
def test_steps_are_enough_where_their_double_brings_too_little(recalls, expected):
    from evidence_study.choices import enough_steps

    assert enough_steps(recalls) == expected
