"""The tables of what was found, from made-up answers."""

import numpy as np
import pytest

from tests.helpers.queries import a_query


@pytest.fixture
def found():
    """Two cells with two seeds: the first finds nothing, the second everything, for two meanings."""
    from query_set.answers import ALONE, CAPTIONS, SUBTRACTED, TYPED
    from query_set.found import Found
    from query_set.rules import FORMS

    queries = [a_query("without", ("dog",), None, ("rain",)), a_query("without", ("rain",), None, ("dog",))]
    triples = ["dog|then|rain", "dog|only", "rain|only"]

    def of(form, rank, places):
        shape = (2, 8, 2, 3 if form == "word" else 2)
        ranks = np.full(shape, float(rank))
        ranks[:, 0] += rank - 1  # another rank in the first language, unless all are 1
        first = np.broadcast_to(np.array(places)[:, None], shape)
        return Found([0, 1], ranks, first, np.full(2, 1 / rank), queries, triples)

    ways = [(form, TYPED) for form in (CAPTIONS, *FORMS)] + [("without", ALONE), ("without", SUBTRACTED)]
    none = {("none", *way): of(way[0], 3, [0, 0]) for way in ways}
    return none | {("all", *way): of(way[0], 1, [1, 2]) for way in ways}


def cells_of(table):
    lines = [line for line in table.splitlines() if "---" not in line]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]


def test_figures_have_a_row_for_each_cell_and_chance(found):
    from query_set.tables import ASKED, Bootstraps, by_form, by_language, by_wording

    titles = {"none": "deaf", "all": "good"}
    header, chance, deaf, good = cells_of(by_form(titles, found, "recall", ASKED, Bootstraps(2000)))
    assert header[:3] == ["", "seeds", "full captions"]
    assert chance[2:] == ["133.3"] * 5  # four right scenes of three, as made up
    assert deaf == ["deaf", "2", *["0.0 [0.0, 0.0]"] * 5]
    assert good == ["good", "2", *["100.0 [100.0, 100.0]"] * 5]
    _, deaf, good = cells_of(by_form(titles, found, "variance", ["short"], Bootstraps(2000)))
    assert (deaf[2], good[2]) == (f"{np.var([5, *[3] * 7]):.1f} [0.4, 0.4]", "0.0 [0.0, 0.0]")
    assert [row[1:] for row in cells_of(by_wording(titles, found))[1:]] == [["0.0"] * 7, ["100.0"] * 7]
    assert cells_of(by_language(titles, found, ["short"]))[2][2:] == ["100.0"] * 8


def test_first_scenes_are_judged_by_their_sounds(found):
    from query_set.answers import TYPED
    from query_set.tables import Bootstraps, without, without_differences

    assert found["none", "without", TYPED].sounds.tolist() == [[1, 1], [1, 1]]
    assert found["none", "without", TYPED].lacks.tolist() == [[0, 0], [0, 0]]
    assert found["all", "without", TYPED].lacks.tolist() == [[1, 1], [1, 1]]
    titles = {"none": "deaf", "all": "good"}
    rows = cells_of(without(titles, found, Bootstraps(2000)))[1:]
    assert [row[-2:] for row in rows] == [["0.0 [0.0, 0.0]", "33.3"]] * 3 + [["100.0 [100.0, 100.0]", "100.0"]] * 3
    assert len(cells_of(without_differences(titles, found, Bootstraps(2000)))) == 5


def test_changes_are_paired_by_seed_and_starred(found):
    from query_set.tables import ASKED, Bootstraps, changes

    header, better, same = cells_of(
        changes([("good - deaf", "all", "none"), ("deaf", "none", "none")], found, Bootstraps(2000))
    )
    assert len(header) == 1 + len(ASKED)
    assert better == ["good - deaf", *["100.0 [100.0, 100.0] *"] * len(ASKED)]
    assert same == ["deaf", *["0.0 [0.0, 0.0]"] * len(ASKED)]
