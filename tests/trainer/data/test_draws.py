"""What a step draws: the same everywhere, evenly, and checked once."""

from collections import Counter
from itertools import combinations

import pytest

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer.data.draws import Draw, LanguageDraws, random_stream
from tests.helpers.statistics import assert_even


ONE_A_CLIP = LanguageDraws("mlclap", ATRI_LANGUAGES)


def language_of(draws: LanguageDraws, draw: Draw) -> str:
    """The language that is drawn for a clip: the last row, beside the anchor's, if there is one."""
    (language,) = draws.languages_of([draw])[-1]
    return language


def languages_of_step(draws: LanguageDraws, draw: Draw) -> list[str]:
    return [language for (language,) in draws.languages_of([draw])]


def test_caption_and_language_of_a_clip_are_even():
    draws = [Draw(epoch, 0, item) for epoch in range(4) for item in range(500)]
    assert_even(Counter(ONE_A_CLIP.caption_index(5, draw) for draw in draws), 5)
    assert_even(Counter(language_of(ONE_A_CLIP, draw) for draw in draws), 8)
    # The two do not go together, and one clip's epochs are not one draw.
    assert_even(Counter((ONE_A_CLIP.caption_index(2, draw), language_of(ONE_A_CLIP, draw)) for draw in draws), 16)
    assert_even(Counter(language_of(ONE_A_CLIP, Draw(epoch, 0, 7)) for epoch in range(1000)), 8)


def test_draws_of_a_clip_ignore_its_step():
    here, there = Draw(1, 0, 7), Draw(1, 9, 7)
    assert ONE_A_CLIP.caption_index(1000, here) == ONE_A_CLIP.caption_index(1000, there)
    assert language_of(ONE_A_CLIP, here) == language_of(ONE_A_CLIP, there)


def test_the_anchor_stands_beside_another_language():
    draws = LanguageDraws("cacl", ATRI_LANGUAGES, anchor="ja")
    clips = [Draw(0, 0, item) for item in range(1000)]
    anchor, other = draws.languages_of(clips)
    assert anchor == ["jpn_Jpan"] * 1000
    assert "jpn_Jpan" not in other
    assert_even(Counter(other), 7)
    assert draws.anchor_row([anchor, other]) == 0
    assert ONE_A_CLIP.anchor_row([other]) is None


@pytest.mark.parametrize("anchor", [None, "jpn_Jpan"])
def test_languages_of_a_step_are_even_and_without_replacement(anchor):
    draws = LanguageDraws("kcl" if anchor is None else "akcl", ATRI_LANGUAGES, anchor or "eng_Latn", per_step=3)
    counts = Counter()
    for step in range(2000):
        drawn = languages_of_step(draws, Draw(0, step, step + 5))
        assert len(drawn) == 3
        assert drawn == [language for language in ATRI_LANGUAGES if language in drawn], "in the order of all"
        assert anchor is None or anchor in drawn
        counts[tuple(drawn)] += 1
    free = [language for language in ATRI_LANGUAGES if language != anchor]
    assert_even(counts, len(list(combinations(free, 3 if anchor is None else 2))))


def test_languages_of_a_step_are_the_same_for_all_its_clips():
    draws = LanguageDraws("kcl", ATRI_LANGUAGES, per_step=4)
    drawn = [languages_of_step(draws, Draw(2, 3, item)) for item in range(20)]
    assert all(one == drawn[0] for one in drawn)
    assert draws.languages_of([Draw(2, 3, item) for item in range(20)]) == [[code] * 20 for code in drawn[0]]
    assert languages_of_step(LanguageDraws("kcl", ATRI_LANGUAGES), Draw(0, 0, 0)) == list(ATRI_LANGUAGES)
    assert languages_of_step(LanguageDraws("akcl", ATRI_LANGUAGES, per_step=8), Draw(0, 0, 0)) == list(ATRI_LANGUAGES)


def test_draws_are_these():
    """Written down, so that no change of the code changes the data of a run that is resumed."""
    clips = [Draw(1, 2, item) for item in range(4)]
    drawn = {
        name: LanguageDraws(name, ATRI_LANGUAGES, per_step=per_step, seed=3).languages_of(clips)
        for name, per_step in {"kcl": 3, "akcl": 3, "cacl": None, "mlclap": None}.items()
    }
    of_step = {name: [row[0] for row in drawn[name]] for name in ("kcl", "akcl")}
    assert of_step == {
        "kcl": ["spa_Latn", "cat_Latn", "jpn_Jpan"],
        "akcl": ["eng_Latn", "jpn_Jpan", "zho_Hans"],
    }
    assert drawn["cacl"][1] == ["cat_Latn", "zho_Hans", "spa_Latn", "jpn_Jpan"]
    assert drawn["mlclap"][0] == ["nld_Latn", "zho_Hans", "deu_Latn", "jpn_Jpan"]
    assert [LanguageDraws("kcl", ["fr"], seed=3).caption_index(5, draw) for draw in clips] == [1, 3, 1, 4]


def test_the_first_caption():
    draws = LanguageDraws("kcl", ["fr"], caption_choice="first")
    assert {draws.caption_index(5, Draw(epoch, 0, 1)) for epoch in range(20)} == {0}


def test_streams_are_apart():
    numbers = [
        random_stream(seed, kind, *place).random() for seed in (0, 1) for kind in (0, 1) for place in ((0, 1), (1, 0))
    ]
    assert len(set(numbers)) == 8
    assert random_stream(1, 2, 3, 4).random() == random_stream(1, 2, 3, 4).random()


def test_languages_by_any_name():
    draws = LanguageDraws("akcl", ["English", "fr", "ja"], anchor="en")
    assert (draws.languages, draws.anchor) == (("eng_Latn", "fra_Latn", "jpn_Jpan"), "eng_Latn")


@pytest.mark.parametrize("languages", ["en-US,br,no", ["en", "br", False], ["eng_Latn,bre,nb"], "en br no"])
def test_languages_as_people_and_yaml_write_them(languages):
    assert LanguageDraws("akcl", languages).languages == ("eng_Latn", "bre_Latn", "nob_Latn")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "clap"}, "Unknown objective 'clap'; choose one of kcl, akcl, cacl, mlclap, teach."),
        ({"languages": []}, "`languages` must name each language once and at least one; got []"),
        ({"languages": ["en", "eng_Latn"]}, "must name each language once and at least one"),
        ({"languages": "en"}, "`languages` must be a list of languages; got 'en'"),
        ({"languages": ["xx"]}, "xx"),
        ({"languages": ["en", "fr"], "anchor": "ja"}, "anchor language jpn_Jpan is not among the languages"),
        ({"languages": ["en"]}, "akcl compares languages and needs at least two; got ['eng_Latn']"),
        ({"per_step": 1}, "`languages_per_step` must be a whole number between 2 and the number of languages (8)"),
        ({"objective": "kcl", "per_step": 9}, "the number of languages (8) for kcl, or None; got 9"),
        (
            {"objective": "cacl", "per_step": 2},
            "is for kcl, akcl and teach; cacl draws two languages a clip by definition",
        ),
        ({"objective": "mlclap", "per_step": 1}, "mlclap draws one language a clip by definition"),
        ({"caption_choice": "last"}, "`caption_choice` must be 'random' or 'first'; got 'last'"),
    ],
)
def test_wrong_values(options, message):
    with pytest.raises(ValueError) as error:
        LanguageDraws(**{"objective": "akcl", "languages": ATRI_LANGUAGES} | options)
    assert message in str(error.value)
