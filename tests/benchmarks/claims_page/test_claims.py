"""The claims of `benchmarks/claims.py`, their verdicts, and the agreement of languages."""

import dataclasses

import numpy as np
import pytest

from modeling_atri.languages_atri import ATRI_LANGUAGES


@pytest.mark.parametrize(
    ("mean", "p_value", "expected", "verdict"),
    [
        (1.0, 0.01, "higher", "holds"),
        (-1.0, 0.01, "lower", "holds"),
        (1.0, 0.01, "lower", "the reverse holds"),
        (-1.0, 0.01, "higher", "the reverse holds"),
        (1.0, 0.06, "higher", "not told apart"),
    ],
)
def test_verdicts(mean, p_value, expected, verdict):
    from claims_page.claims import read_claims
    from consistency_study.bootstrap import Estimate

    claim = dataclasses.replace(read_claims()[0], expected=expected)
    assert claim.verdict(Estimate(mean, mean - 0.5, mean + 0.5, p_value), p_value) == verdict


def test_every_claim_names_two_cells_of_its_study():
    from claims_page.claims import FIGURES, read_claims
    from consistency_study.grid import CELLS
    from evidence_study.studies import NAMES, find_study

    cells = {"consistency": CELLS} | {name: {cell.name for cell in find_study(name).cells} for name in NAMES}
    claims = read_claims()
    assert len({claim.claim for claim in claims}) == len(claims)
    for claim in claims:
        assert {claim.first, claim.second} <= {*cells[claim.study]}, claim
        assert claim.first != claim.second
        assert claim.figure in FIGURES
        assert claim.expected in ("higher", "lower")


def test_the_table_is_that_of_the_results(benchmarks_folder):
    """With few draws, the figures are those of the table that is shown; only intervals and p-values differ."""
    from claims_page.claims import read_claims, read_studies, table
    from consistency_study.bootstrap import Bootstrap

    shown = (benchmarks_folder / "results" / "claims.md").read_text(encoding="utf-8").splitlines()
    made = table(read_claims(), read_studies(), Bootstrap(190, 50)).splitlines()
    assert len(shown) == len(made)
    for row, other in zip(shown, made, strict=True):
        assert row.split("|")[:6] == other.split("|")[:6]


def test_claims_without_runs_are_listed():
    from claims_page.claims import read_claims, table
    from consistency_study.bootstrap import Bootstrap

    claims = read_claims()[:1]
    rows = table(claims, {claims[0].study: {}}, Bootstrap(4, 10)).splitlines()
    assert [cell.strip() for cell in rows[-1].split("|")][5:9] == ["", "", "", "not run yet"]


def test_agreement_of_two_languages():
    from claims_page.plots import agreement

    ranks = np.full((1, len(ATRI_LANGUAGES), 4), 50)
    ranks[0, 0] = [1, 10, 11, 90]  # two captions find their clip
    ranks[0, 1] = [3, 50, 2, 90]  # one of these, and another one
    shares = agreement(ranks)
    assert shares[0, 1] == shares[1, 0] == pytest.approx(1 / 3)
    assert shares[0, 0] == 1
    assert shares[0, 2] == 0
