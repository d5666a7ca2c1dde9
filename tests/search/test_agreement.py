"""The agreement of languages: overlaps and ranks by their definitions."""

import numpy as np
import pytest

from modeling_atri.search.agreement import Agreement, by_code
from modeling_atri.search.hits import Hit


def hits(paths: str) -> list[Hit]:
    return [Hit(path, 0.0, 1.0, 1.0 - place / 100, {}, 1.0, "/s") for place, path in enumerate(paths)]


def agreement(**paths: str) -> Agreement:
    texts = by_code(dict.fromkeys(paths, "a text"))
    return Agreement(dict(zip(texts, map(hits, paths.values()), strict=True)), texts, top_k=3, depth=6)


def test_overlaps_are_those_of_the_first_hits():
    found = agreement(en="abcdef", fr="acbxyz", de="axydef")
    # of three: en and fr share a, b, c; en and de a; fr and de a
    assert found.overlap == pytest.approx((3 + 1 + 1) / 9)
    assert found.overlap_of("eng_Latn") == pytest.approx((3 + 1) / 6)
    assert found.found_by_all == [("/s", "a")]


def test_ranks_are_those_of_the_first_sound_in_the_other_languages():
    found = agreement(en="abcdef", fr="bcdefa", de="xabcde")
    assert found.ranks == {
        "eng_Latn": {"eng_Latn": 1, "fra_Latn": 6, "deu_Latn": 2},
        "fra_Latn": {"eng_Latn": 2, "fra_Latn": 1, "deu_Latn": 3},
        "deu_Latn": {"eng_Latn": None, "fra_Latn": None, "deu_Latn": 1},
    }
    # A sound that is not found has the rank after the last one, 7.
    assert found.rank_variance == pytest.approx(np.mean([np.var([1, 6, 2]), np.var([2, 1, 3]), np.var([7, 7, 1])]))


def test_languages_that_agree_have_no_variance():
    found = agreement(en="abc", ja="abc")
    assert (found.overlap, found.rank_variance, len(found.found_by_all)) == (1.0, 0.0, 3)


def test_moments_of_one_file_count_once():
    moments = [Hit("a", 0.0, 1.0, 0.9), Hit("a", 5.0, 6.0, 0.8), Hit("b", 0.0, 1.0, 0.7)]
    found = Agreement({"eng_Latn": moments, "fra_Latn": moments[::-1]}, {"eng_Latn": "", "fra_Latn": ""}, 2, 10)
    assert found.first("eng_Latn") == [("", "a"), ("", "b")]
    assert found.overlap == 1.0


def test_fewer_sounds_than_wanted_and_none_at_all():
    assert agreement(en="ab", fr="ba").overlap == 1.0
    none = agreement(en="", fr="")
    assert (none.overlap, none.rank_variance, none.found_by_all) == (1.0, 0.0, [])
    assert "-" in none.table()


def test_the_table_has_a_row_for_each_language():
    lines = agreement(en="abcdef", fr="bcdefa", ja="xyz").table().splitlines()
    assert lines[0].split() == [
        "language",
        "first",
        "sound",
        "score",
        "overlap",
        *["in", "en", "in", "fr", "in", "ja"],
        "question",
    ]
    assert lines[2].split() == ["English", "a", "1.00", "33", "%", "1", "6", ">", "6", "a", "text"]


def test_figures_are_json():
    values = agreement(en="abc", fr="abd").as_dict()
    assert values["overlap"] == pytest.approx(2 / 3) and values["found_by_all"] == ["a", "b"]
    assert [hit["path"] for hit in values["languages"]["fra_Latn"]["hits"]] == ["a", "b", "d"]


@pytest.mark.parametrize(
    "queries, message",
    [
        ({}, "at least two"),
        ({"en": "dog"}, "at least two"),
        ({"en": "dog", "eng_Latn": "a dog"}, "given twice"),
        ({"en": "dog", "xx": "dog"}, "Unknown language 'xx'"),
    ],
)
def test_wrong_languages_are_refused(queries, message):
    with pytest.raises(ValueError, match=message):
        by_code(queries)
