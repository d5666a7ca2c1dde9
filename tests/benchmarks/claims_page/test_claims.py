"""The claims of `benchmarks/claims.py`, their verdicts and the table."""

import dataclasses

import numpy as np
import pytest

from tests.helpers.study import made_up_run


CLAIM = {"claim": "", "said_by": "", "study": "consistency", "first": "kcl", "second": "cacl", "figure": "recall"}


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
    from claims_page.claims import Claim
    from claims_page.claims import verdict as verdict_of
    from consistency_study.bootstrap import Estimate

    claim = Claim(**CLAIM, expected=expected)
    assert verdict_of(claim, Estimate(mean, mean - 0.5, mean + 0.5, p_value), p_value) == verdict


def cells_by_study():
    from consistency_study.grid import CELLS
    from evidence_study.studies import cost, paper, queries, supclap, weak

    asked = {name for of_tower in queries.TOWERS.values() for name in of_tower} | {"use-joint-mlclap"}
    asked |= {cell.name for cell in queries.SHORT}
    return {
        "consistency": {*CELLS},
        "paper": {f"{part}-{name}" for part in ("equal", "long", "trained") for name in paper.EQUAL},
        "cost": {cell.name for cells in cost.CELLS.values() for cell in cells},
        "supclap": {cell.name for cell in supclap.STUDY.cells},
        "weak": {cell.name for cell in (*weak.CLEAN.values(), *weak.STUDY.cells)},
        "queries": {name + way for name in asked for way in ("", " alone", " subtracted")},
    }


def test_every_claim_names_two_cells_of_its_study():
    from claims_page.claims import COSTS, FrontClaim, figure_of, read_sections
    from claims_page.figures import COMMANDS
    from evidence_study.studies import cost

    cells = cells_by_study()
    assert COMMANDS.keys() == cells.keys()
    for section in read_sections():
        assert len({claim.claim for claim in section.claims}) == len(section.claims)
        for claim in section.claims:
            assert figure_of(claim).title
            assert claim.expected in ("higher", "lower")
            if isinstance(claim, FrontClaim):
                assert (claim.text in cost.CELLS, claim.cost in COSTS) == (True, True), claim
            else:
                assert {claim.first, claim.second} <= cells[claim.study], claim
                assert claim.first != claim.second


def test_cells_of_the_paper_that_train_for_equal_steps_are_no_long_ones(monkeypatch):
    from claims_page.figures import paper_cells
    from evidence_study.studies import paper

    monkeypatch.setattr(paper, "CHOSEN_STEPS", dict.fromkeys(paper.EQUAL, paper.EQUAL_STEPS))
    assert {name.split("-")[0] for name in paper_cells()} == {"equal", "trained"}
    monkeypatch.setattr(paper, "CHOSEN_STEPS", paper.CHOSEN_STEPS | {"kcl": 2400})
    monkeypatch.setattr(paper, "LONG", {name: paper.frozen(name, 2400) for name in paper.EQUAL})
    assert paper_cells()["long-kcl"] == "use-kcl-2400"


def study_of(of_cells):
    """A study of two clips, with the ranks of their ten captions by seed. They are the same in all languages."""
    from claims_page.figures import Studies
    from consistency_study.runs import Runs

    cells = {}
    for name, of_seeds in of_cells.items():
        ranks = np.repeat(np.array(list(of_seeds.values()), dtype=float)[:, None], 8, axis=1)
        rows = [{"cpu_seconds": 10.0 * (seed + 1)} for seed in of_seeds]
        cells[name] = Runs(None, list(of_seeds), rows, ranks)
    return Studies({"consistency": cells}, {})


def test_a_difference_is_paired_by_seed_and_has_the_margin():
    from claims_page.claims import Claim
    from query_set.tables import Bootstraps

    studies = study_of({"kcl": {0: [1] * 10, 1: [1] * 5 + [9] * 5, 2: [9] * 10}, "cacl": {2: [1] * 10, 1: [9] * 10}})
    claim = Claim(**CLAIM, expected="higher")
    found = claim.compare(studies, Bootstraps(100))
    assert (found.first, found.second, found.num_seeds) == ("25.0", "50.0", 2)  # seeds 1 and 2
    assert found.difference.mean == pytest.approx(-0.25)
    with_margin = dataclasses.replace(claim, times=0.5, plus=-10).compare(studies, Bootstraps(100))
    assert with_margin.second == "0.5 x 50.0 - 10"
    assert with_margin.difference.mean == pytest.approx(0.25 - 0.5 * 0.5 + 0.1)


def test_cpu_seconds_are_compared_by_seed():
    from claims_page.claims import Claim
    from query_set.tables import Bootstraps

    studies = study_of({"kcl": {0: [1] * 10, 1: [1] * 10}, "cacl": {0: [1] * 10, 1: [1] * 10}})
    claim = Claim(**CLAIM | {"figure": "seconds"}, expected="lower", times=1.2)
    found = claim.compare(studies, Bootstraps(100))
    assert (found.first, found.second) == ("15.0", "1.2 x 15.0")
    assert found.difference.mean == pytest.approx(-3.0)


def test_claims_without_runs_are_listed():
    from claims_page.claims import NOT_RUN, Claim, Section
    from claims_page.tables import page
    from query_set.tables import Bootstraps

    section = Section("name", "title", "limits", [Claim(**CLAIM, expected="higher")])
    rows = page([section], study_of({"kcl": {0: [1] * 10}}), Bootstraps(10)).splitlines()
    assert [cell.strip() for cell in rows[-1].split("|")][4:-1] == ["", "", "", "", NOT_RUN]
    assert rows[2].split("|")[1:-1] == [" title ", " 0 ", " 0 ", " 0 ", " 1 "]


@pytest.mark.parametrize(("num_seeds", "verdict"), [(1, "not told apart"), (2, "holds")])
def test_one_seed_gives_no_verdict(num_seeds, verdict):
    from claims_page.claims import Claim, Section
    from claims_page.tables import page
    from query_set.tables import Bootstraps

    seeds = range(num_seeds)
    studies = study_of({"kcl": {seed: [1] * 10 for seed in seeds}, "cacl": {seed: [9] * 10 for seed in seeds}})
    section = Section("name", "title", "limits", [Claim(**CLAIM, expected="higher")])
    assert page([section], studies, Bootstraps(1000)).splitlines()[-1].endswith(f"| {num_seeds} | {verdict} |")


def points_of(of_cells):
    """Points of the study `cost`, from CPU seconds, and the share of captions that are found."""
    from evidence_study.reports.points import Point
    from evidence_study.studies import cost

    cells = {cell.name: cell for cell in cost.CELLS["scratch"]}
    found = []
    for name, (seconds, share) in of_cells.items():
        ranks = 2 * ([1] * round(5 * share) + [9] * (5 - round(5 * share)))
        runs = study_of({name: {0: ranks, 1: ranks}}).cells["consistency"][name]
        found.append(Point(cells[name], dataclasses.replace(runs, cell=cells[name]), seconds, 0.0))
    return found


TAUGHT, JOINT, DEAR = "scratch-taught-akcl-150-50", "scratch-kcl-300", "scratch-kcl-2400"


@pytest.mark.parametrize(
    ("points", "verdict", "where"),
    [
        ({TAUGHT: (10.0, 0.6), JOINT: (8.0, 0.2)}, "holds", "at 10 CPU s"),
        # the joint run can be paid from the second budget on
        ({TAUGHT: (10.0, 0.6), JOINT: (8.0, 0.2), DEAR: (15.0, 1.0)}, "the reverse holds", "at 20 CPU s"),
        ({TAUGHT: (10.0, 0.6), JOINT: (8.0, 0.6)}, "not told apart", "at 10 CPU s"),
    ],
)
def test_the_front_is_taught_where_no_other_run_is_better_at_any_budget(points, verdict, where):
    from claims_page.claims import FrontClaim
    from claims_page.claims import verdict as verdict_of
    from claims_page.figures import Studies
    from query_set.tables import Bootstraps

    claim = FrontClaim("", "", "recall", "scratch", "CPU s")
    found = claim.compare(Studies({}, {"scratch": points_of(points)}), Bootstraps(1000))
    assert verdict_of(claim, found.difference, found.p_value) == verdict
    assert found.where.startswith(f"{where}; {len(points)} of ")
    assert claim.compare(Studies({}, {"scratch": points_of({JOINT: (8.0, 0.2)})}), Bootstraps(10)) is None


def test_the_page_is_that_of_the_results(benchmarks_folder):
    """With few draws, the figures are those of the page that is shown; only intervals and p-values differ.

    The p-values choose the budget that a claim about a front shows.
    """
    from claims_page.claims import read_sections
    from claims_page.figures import read_studies
    from claims_page.tables import page
    from query_set.tables import Bootstraps

    shown = (benchmarks_folder / "results" / "claims.md").read_text(encoding="utf-8").splitlines()
    made = page(read_sections(), read_studies(), Bootstraps(50)).splitlines()
    assert len(shown) == len(made)
    for row, other in list(zip(shown, made, strict=True))[len(read_sections()) + 3 :]:  # not the verdicts' table
        end = 3 if "is on the front" in row else 5
        assert row.split("|")[:end] == other.split("|")[:end]


def test_runs_that_were_added_are_read(tmp_path):
    from claims_page.figures import read_studies
    from consistency_study.results import add_run
    from evidence_study.studies import cost, weak

    add_run(tmp_path / "consistency.parquet", made_up_run("kcl", 0))
    add_run(tmp_path / "evidence" / "cost.parquet", made_up_run(cost.english("use", 600).name, 1))
    add_run(tmp_path / "evidence" / "supclap.parquet", made_up_run(weak.CLEAN["kcl"].name, 2))
    add_run(tmp_path / "evidence" / "paper.parquet", made_up_run("use-kcl-600", 0))
    studies = read_studies(tmp_path)
    assert {name: [*cells] for name, cells in studies.cells.items()} == {
        "consistency": ["kcl"],
        "paper": ["equal-kcl"],
        "supclap": ["heads-kcl"],
        "weak": ["heads-kcl"],
        "cost": ["scratch-kcl-600", "use-kcl-600", "use-english-600"],
        "queries": [],
    }
    assert studies.cells["weak"]["heads-kcl"].seeds == [2]
