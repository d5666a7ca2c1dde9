"""The shipped queries, and the rules that made them."""

import json
import re

import pytest

from modeling_atri.languages_atri import ATRI_LANGUAGES
from tests.helpers.queries import a_query


@pytest.fixture(scope="module")
def captions(shared_dir):
    file = shared_dir / "esc10" / "captions.json"
    if not file.exists():
        pytest.skip(f"There are no scenes in {file.parent}.")
    return json.loads(file.read_text(encoding="utf-8"))


def test_every_shipped_query_has_the_stated_answers_and_one_meaning():
    from query_set.checks import ambiguous, wrong_answers
    from query_set.rules import FORMS, read_queries, scene_triples

    queries = read_queries()
    triples = scene_triples(queries)
    assert len(triples) == len(set(triples)) == 190
    assert wrong_answers(queries, triples) == ambiguous(queries) == []
    expected = {"word": (10, 3, 37), "words": (45, 2, 4), "short": (190, 2, 1), "paraphrase": (190, 2, 1)}
    expected["without"] = (90, 1, 33)
    for form in FORMS:
        of_form = [query for query in queries if query.form == form]
        count, wordings, num_right = expected[form]
        assert len(of_form) == len({(query.has, query.relation, query.lacks) for query in of_form}) == count
        assert {query.num_right for query in of_form} == {num_right}
        for query in of_form:
            assert list(query.texts) == list(ATRI_LANGUAGES)
            assert {len(texts) for texts in query.texts.values()} == {wordings}
            assert all(re.fullmatch(r"\S(.*[^\s.。])?", text) for texts in query.texts.values() for text in texts)


def test_japanese_and_chinese_queries_have_no_spaces():
    from query_set.rules import read_queries

    for query in read_queries():
        assert not any(" " in text for language in ("jpn_Jpan", "zho_Hans") for text in query.texts[language])


@pytest.mark.parametrize(
    "has,relation,lacks,right",
    [
        (("dog", "rain"), "then", (), ["dog|then|rain"]),
        (("rain", "dog"), "while", (), ["rain|while|dog"]),
        (("dog",), "only", (), ["dog|only"]),
        (("dog", "rain"), None, (), ["dog|then|rain", "rain|then|dog", "dog|while|rain", "rain|while|dog"]),
        (("dog",), None, ("rain",), ["dog|then|sea", "sea|then|dog", "dog|while|sea", "sea|while|dog", "dog|only"]),
    ],
)
def test_a_query_fits_the_scenes_that_it_describes(has, relation, lacks, right):
    from query_set.rules import all_triples

    query = a_query(has=has, relation=relation, lacks=lacks)
    assert {triple for triple in all_triples(["dog", "rain", "sea"]) if query.fits(triple)} == set(right)


def test_texts_of_two_meanings_and_wrong_numbers_are_found():
    from query_set.checks import ambiguous, wrong_answers
    from query_set.rules import all_triples

    same = [a_query(), a_query(has=("rain", "dog_bark"), text="Dog; rain!")]  # both orders mean the same
    assert ambiguous(same) == []
    other = a_query("short", has=("dog_bark", "rain"), relation="then", num_right=1, text="dog rain")
    assert len(ambiguous([*same, other])) == 8
    triples = all_triples(["dog_bark", "rain", "rooster"])
    assert wrong_answers([*same, other], triples) == []
    assert len(wrong_answers([a_query(num_right=2), other], triples[1:])) == 2


def test_a_query_is_a_training_caption_whatever_its_capitals_and_punctuation():
    from query_set.checks import seen_in_training

    training = {language: ["dog then rain"] for language in ATRI_LANGUAGES} | {"eng_Latn": ["Dog. Rain!"]}
    assert seen_in_training([a_query()], training) == ["'dog, rain' (eng_Latn) is a training caption"]


@pytest.mark.parametrize(
    "text,language,captions,shared",
    [
        ("the barking of a hound", "eng_Latn", ["A dog is barking.", "The hounds of a house."], {"barking"}),
        ("{a} followed by {b}", "eng_Latn", ["A followed by b."], {"followed"}),
        ("l'océan qui gronde", "fra_Latn", ["l'eau d'un océan"], {"océan"}),
        ("子犬 の 遠吠え", "jpn_Jpan", ["犬の声", "子犬が鳴く"], {"子犬"}),
    ],
)
def test_words_that_training_captions_have_are_found(text, language, captions, shared):
    from query_set.rules import known_words, shared_words

    assert shared_words(text, language, known_words(captions, language)) == shared


def test_short_captions_of_training_are_no_queries():
    from query_set.rules import plain, read_queries, scene_triples
    from query_set.training import with_short_captions

    queries = read_queries()
    lines = [
        {"triple": triple, "captions": {language: ["a", "b"] for language in ATRI_LANGUAGES}}
        for triple in scene_triples(queries)
    ]
    changed = with_short_captions(lines, None)
    assert lines[0]["captions"]["eng_Latn"] == ["a", "b"]
    assert changed[0]["captions"]["eng_Latn"] == ["a", "b", "dog bark, later rain", "dog bark and rain"]
    assert changed[-1]["captions"]["deu_Latn"][2:] == ["bloß Feuerknistern", "Feuerknistern allein"]
    for language in ATRI_LANGUAGES:
        asked = {plain(text) for query in queries for text in query.texts[language]}
        added = [text for line in changed for text in line["captions"][language][2:]]
        assert len(added) == 2 * len(lines)
        assert asked.isdisjoint(map(plain, added))


def test_the_rules_make_the_shipped_queries(captions):
    from query_set.rules import make_queries, read_queries

    assert make_queries(captions) == read_queries()


def test_the_shipped_queries_suit_the_scenes(captions, shared_dir):
    from make_queries import problems
    from query_set.rules import read_queries

    assert problems(read_queries(), shared_dir / "esc10") == []
