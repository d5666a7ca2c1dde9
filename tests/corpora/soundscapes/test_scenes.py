"""Soundscapes: parallel captions that name one scene each, splits without leaks, scenes that sound as described."""

import json
import re
import zlib
from collections import Counter
from importlib import resources

import numpy as np
import pytest
import soundfile

from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.soundscapes.captions import (
    CAPTION_LANGUAGES,
    NUM_CAPTIONS,
    bare_captions,
    scene_captions,
    written_out,
)
from modeling_atri.corpora.soundscapes.combinations import (
    NUM_HELDOUT,
    Combination,
    Sound,
    all_combinations,
    is_heldout,
)
from modeling_atri.corpora.soundscapes.scenes import make_scene, make_soundscapes, write_soundscapes
from modeling_atri.corpora.soundscapes.synthesis import SAMPLING_RATE, SOURCES
from modeling_atri.hub_cards.example_captions import EXAMPLE_CAPTIONS


pytestmark = pytest.mark.heavy


COMBINATIONS = all_combinations()


@pytest.fixture(scope="module")
def all_captions() -> dict[Combination, dict[str, list[str]]]:
    return {combination: scene_captions(combination) for combination in COMBINATIONS}


@pytest.fixture(scope="module")
def tables() -> dict:
    file = resources.files("modeling_atri.corpora.soundscapes").joinpath("captions.json")
    return json.loads(file.read_text(encoding="utf-8"))


def waveform_of(row: dict) -> np.ndarray:
    return row["audio"]["array"]


def level_db(waveform: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))


def single(source: str, count: str, distance: str) -> Combination:
    return Combination("only", (Sound(source, count, distance),))


# Combinations and splits


def test_combinations_are_all_there_and_have_names_of_their_own():
    num_steady = sum(source.counts == ("steady",) for source in SOURCES.values())
    num_events = len(SOURCES) - num_steady
    counts = Counter(combination.relation for combination in COMBINATIONS)
    assert counts["only"] == 2 * num_steady + 4 * num_events
    assert counts["then"] == 4 * len(SOURCES) * (len(SOURCES) - 1)
    assert counts["while"] == (num_steady + 2 * num_events) * (len(SOURCES) - 1)
    assert len({combination.key for combination in COMBINATIONS}) == len(COMBINATIONS)


def test_every_attribute_a_scene_can_have_is_named():
    for combination in COMBINATIONS:
        for sound in combination.sounds:
            assert (sound.count == "steady") == (SOURCES[sound.source].counts == ("steady",))
            named = {"only": True, "then": sound.count == "steady", "while": False}[combination.relation]
            assert (sound.distance != "plain") == named
        if combination.relation == "while":
            assert combination.sounds[1].count != "once"


def test_heldout_rule_is_the_documented_hash():
    rain_dog = [c for c in COMBINATIONS if c.relation == "then" and c.sources == ("rain", "dog")]
    assert len(rain_dog) == 4
    assert not is_heldout(single("rain", "steady", "near"))
    assert {is_heldout(c) for c in rain_dog} == {zlib.crc32(b"then_rain_dog") % 5 == 0}
    assert is_heldout(single("rain", "steady", "far")) == (zlib.crc32(b"only_rain-far") % 5 == 0)
    assert sum(map(is_heldout, COMBINATIONS)) == NUM_HELDOUT == 355


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_share_no_combination_and_no_pair(seed):
    train = make_soundscapes(5000, seed).combinations
    heldout = make_soundscapes(NUM_HELDOUT, seed, "heldout").combinations
    assert not set(train) & set(heldout)
    assert not set(map(_pair, train)) & {_pair(c) for c in heldout if c.relation != "only"}
    assert len(set(train)) == len(COMBINATIONS) - NUM_HELDOUT


def _pair(combination: Combination) -> tuple:
    return combination.relation, combination.sources


def test_a_thousand_training_scenes_hold_every_sound_in_every_role():
    def roles(combinations):
        return {
            (combination.relation, position, sound)
            for combination in combinations
            for position, sound in enumerate(combination.sounds)
            if combination.relation != "only"
        }

    combinations = make_soundscapes(1000, seed=0).combinations
    assert roles(combinations) == roles(COMBINATIONS)
    alone = Counter(combination.sources[0] for combination in combinations if combination.relation == "only")
    assert set(alone) == set(SOURCES)
    assert set(alone.values()) == {11, 12}  # 200 scenes, each source in turn
    counts = Counter(combination.relation for combination in combinations)
    assert counts == {"then": 400, "while": 400, "only": 200}


def test_exactly_one_heldout_scene_fits_a_caption(all_captions):
    scenes = make_soundscapes(NUM_HELDOUT, 3, "heldout").combinations
    texts = Counter(
        text for combination in scenes for texts in all_captions[combination].values() for text in set(texts)
    )
    assert len(set(scenes)) == NUM_HELDOUT
    assert set(texts.values()) == {1}


def test_a_hundred_heldout_scenes_are_a_hundred_pairs():
    assert len(set(map(_pair, make_soundscapes(100, 0, "heldout").combinations))) == 100


@pytest.mark.parametrize("num_scenes", [18, 72])
def test_single_scenes_have_every_source_alike(num_scenes):
    scenes = make_soundscapes(num_scenes, 0, "single").combinations
    assert {combination.relation for combination in scenes} == {"only"}
    assert Counter(c.sources[0] for c in scenes) == dict.fromkeys(SOURCES, num_scenes // len(SOURCES))
    if num_scenes == 72:
        assert {combination for combination in COMBINATIONS if combination.relation == "only"} == set(scenes)


def test_a_single_scene_is_not_one_of_training():
    singles, train = make_soundscapes(18, 0, "single"), make_soundscapes(1500, 0)
    for row, combination in zip(singles, singles.combinations, strict=True):
        again = [index for index, other in enumerate(train.combinations) if other == combination][:1]
        for index in again:
            assert not np.array_equal(waveform_of(row), waveform_of(train[index]))
            assert row["audio_id"] != train[index]["audio_id"]
    assert len({row["audio_id"] for row in make_soundscapes(144, 0, "single")}) == 144


# Captions


def test_bare_captions_name_one_source_and_nothing_else():
    for language in CAPTION_LANGUAGES:
        texts = [text for source in SOURCES for text in bare_captions(source)[language]]
        assert len(set(texts)) == len(texts) == 4 * len(SOURCES)
    assert bare_captions("dog")["eng_Latn"] == ["dog", "a dog barks", "bark of a dog", "barking dog"]
    assert bare_captions("rain")["deu_Latn"] == ["Regen", "es regnet", "Regengeräusch", "fallender Regen"]
    assert {code: texts[1] for code, texts in bare_captions("dog").items()} == {
        code: EXAMPLE_CAPTIONS[code] for code in CAPTION_LANGUAGES
    }


@pytest.mark.parametrize("language", CAPTION_LANGUAGES)
def test_bare_captions_keep_to_the_small_rules_of_their_language(language):
    for text in (text for source in SOURCES for text in bare_captions(source)[language]):
        assert text == text.strip(), text
        assert not re.search(r"[.。,{}]|  ", text), text
        assert language == "deu_Latn" or text == text.lower(), text
        assert not re.search(FORBIDDEN[language], text.lower()), text
        assert not re.search(LONE_ELISION.get(language, "$^"), text.lower()), text


def test_bare_captions_are_as_short_as_queries():
    """English queries have 1.8 words on average; a noun alone is one or two."""
    for source in SOURCES:
        noun, *others = bare_captions(source)["eng_Latn"]
        assert len(noun.split()) <= 2
        assert all(len(text.split()) <= 5 for text in others)


def test_training_has_bare_captions_of_single_sounds_and_other_splits_have_none_beside_others():
    train, heldout = make_soundscapes(9, 0), make_soundscapes(100, 0, "heldout")
    for row, combination in zip(train, train.combinations, strict=True):
        full = scene_captions(combination)
        if combination.relation != "only":
            assert row["captions"] == full
            continue
        for language, texts in bare_captions(combination.sources[0]).items():
            sentences = [written_out(text, language) for text in (texts[1], texts[0])]
            assert row["captions"][language] == [*full[language], *texts, *sentences]
    assert all(
        row["captions"] == scene_captions(combination)
        for row, combination in zip(heldout[:9], heldout.combinations, strict=False)
    )
    single = make_soundscapes(1, 0, "single")[0]
    assert single["captions"] == bare_captions("rain")
    assert single["group_id"] == "rain"


def test_a_text_is_written_out_as_a_sentence():
    assert written_out("a dog barks", "eng_Latn") == "A dog barks."
    assert written_out("犬が吠える", "jpn_Jpan") == "犬が吠える。"


def test_no_two_combinations_share_a_caption(all_captions):
    for language in CAPTION_LANGUAGES:
        texts = [text for captions in all_captions.values() for text in captions[language]]
        assert len(set(texts)) == len(texts) == NUM_CAPTIONS * len(COMBINATIONS)


def test_captions_are_there_in_all_languages(all_captions):
    assert all(
        tuple(captions) == CAPTION_LANGUAGES and {len(texts) for texts in captions.values()} == {NUM_CAPTIONS}
        for captions in all_captions.values()
    )


def test_templates_of_one_index_name_the_same_sounds(tables):
    for relation, templates in tables["templates"].items():
        for index in range(NUM_CAPTIONS):
            used = {language: sorted(re.findall(r"{(\w)\[", templates[language][index])) for language in templates}
            expected = ["a"] if relation == "only" else ["a", "b"]
            assert all(names == expected for names in used.values()), (relation, index, used)


def test_finished_forms_name_one_sound_in_one_way(tables):
    """Within a language a clause or a nominal belongs to one source and one count."""
    for language in CAPTION_LANGUAGES:
        for form in ("clause", "nominal"):
            texts = [words[language][form] for counts in tables["sources"].values() for words in counts.values()]
            assert len(set(texts)) == len(texts)


FORBIDDEN = {
    "eng_Latn": r"\ba [aeiou]|\ban [^aeiou]",
    "fra_Latn": r"\b(?:de|que|le|la|se|ne|je|puisque|lorsque) (?:[aeiouéèê]|hé)|\b(?:de les?|à les?)\b",
    "deu_Latn": r"\b(?:mit|von) das\b|\b(?:von|mit) ein\b",
    "spa_Latn": r"\b(?:de|a) el\b|\by i|\bo o",
    "nld_Latn": r"\bde het\b|\ben en\b|\ber er\b",
    "cat_Latn": r"\b(?:de|a|per) els?\b|\b(?:de|el|la) [aeiouàèéíòóú]",
    "jpn_Jpan": r"[A-Za-z ,.]|をを|がが|のの",
    "zho_Hans": r"[A-Za-z ,.]|的的|有有|[ぁ-ヿ]",
}
LONE_ELISION = {"cat_Latn": r"\bl'[^aeiouàèéíòóúh]|\bd'[^aeiouàèéíòóúh]", "fra_Latn": r"\b[ldj]'[^aeiouéèêh]"}


@pytest.mark.parametrize("language", CAPTION_LANGUAGES)
def test_captions_keep_to_the_small_rules_of_their_language(all_captions, language):
    texts = [text for captions in all_captions.values() for text in captions[language]]
    stop = "。" if language in ("jpn_Jpan", "zho_Hans") else "."
    for text in texts:
        assert text.endswith(stop), text
        assert text == text.strip(), text
        assert text[0] == text[0].upper(), text
        assert not re.search(r"  | [,.;:]|[{}\[\]<>_]|[,，、]{2}|[.,，、。][.。]", text), text
        assert not re.search(r"\. [a-zà-ÿ]", text), text
        assert not re.search(FORBIDDEN[language], text.lower()), text
        assert not re.search(LONE_ELISION.get(language, "$^"), text.lower()), text


def test_german_and_dutch_verbs_stand_where_they_belong():
    scene = Combination("then", (Sound("rain", "steady", "far"), Sound("knock", "repeated")))
    german, dutch = (scene_captions(scene)[language][0] for language in ("deu_Latn", "nld_Latn"))
    assert german == "In der Ferne fällt Regen, dann klopft jemand mehrmals an eine Tür."
    assert dutch == "In de verte valt regen, daarna klopt er iemand meerdere keren op een deur."
    scene = Combination("while", (Sound("bell", "once"), Sound("knock", "repeated")))
    german, dutch = (scene_captions(scene)[language][0] for language in ("deu_Latn", "nld_Latn"))
    assert german == "Eine Kirchenglocke läutet einmal, während im Hintergrund jemand mehrmals an eine Tür klopft."
    assert dutch == "Er luidt één keer een kerkklok terwijl op de achtergrond iemand meerdere keren op een deur klopt."


def test_one_scene_reads_in_eight_languages():
    scene = Combination("while", (Sound("dog", "once"), Sound("wind", "steady")))
    assert {language: texts[0] for language, texts in scene_captions(scene).items()} == {
        "eng_Latn": "A dog barks once while the wind howls in the background.",
        "fra_Latn": "Un chien aboie une fois tandis qu'à l'arrière-plan le vent hurle.",
        "deu_Latn": "Ein Hund bellt einmal, während im Hintergrund der Wind heult.",
        "spa_Latn": "Un perro ladra una vez mientras de fondo el viento aúlla.",
        "nld_Latn": "Er blaft één keer een hond terwijl op de achtergrond de wind huilt.",
        "cat_Latn": "Un gos borda una vegada mentre de fons el vent udola.",
        "jpn_Jpan": "背景で風がうなる中、犬が一度吠える。",
        "zho_Hans": "有一只狗叫了一声，同时背景中有狂风在呼啸。",
    }


# Sound


def test_a_scene_depends_on_nothing_but_its_own_coordinates():
    scenes = make_soundscapes(40, seed=5)
    backwards = {index: waveform_of(scenes[index]) for index in reversed(range(40))}
    longer = make_soundscapes(60, seed=5)
    for index, row in enumerate(scenes):
        assert waveform_of(row).tobytes() == backwards[index].tobytes() == waveform_of(longer[index]).tobytes()
        alone = make_scene(scenes.combinations[index], seed=5, index=index)
        assert waveform_of(alone).tobytes() == waveform_of(row).tobytes()
        assert alone["audio_id"] == row["audio_id"]
    assert waveform_of(scenes[-1]).tobytes() == backwards[39].tobytes()
    other_seed = make_scene(scenes.combinations[0], seed=6, index=0)
    assert waveform_of(other_seed).tobytes() != backwards[0].tobytes()


@pytest.mark.parametrize("duration_s", [3.0, 4.0, 7.7])
def test_rows_hold_finite_waveforms_within_full_scale(duration_s):
    scenes = make_soundscapes(60, 2, "heldout", duration_s)
    for row in scenes:
        waveform = waveform_of(row)
        assert list(row) == ["audio", "audio_id", "captions", "group_id"]
        assert row["audio"]["sampling_rate"] == SAMPLING_RATE
        assert waveform.dtype == np.float32
        assert waveform.shape == (round(duration_s * SAMPLING_RATE),)
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() <= 1.0
        assert level_db(waveform) > -55  # dB relative to full scale; the quietest is one far drop of water
    assert len({row["audio_id"] for row in scenes}) == 60


def test_repeated_combinations_share_their_group_and_not_their_sound():
    scenes = make_soundscapes(1000)
    index = scenes.combinations.index(scenes.combinations[998])
    first, again = scenes[index], scenes[998]
    assert index < 998
    assert first["group_id"] == again["group_id"] == scenes.combinations[index].key
    assert first["captions"] == again["captions"]
    assert first["audio_id"] != again["audio_id"]
    assert not np.array_equal(waveform_of(first), waveform_of(again))


@pytest.mark.parametrize("source", SOURCES)
def test_far_is_softer_than_near(source):
    for count in SOURCES[source].counts:
        near, far = (waveform_of(make_scene(single(source, count, distance))) for distance in ("near", "far"))
        assert level_db(near) > level_db(far) + 8, count


@pytest.mark.parametrize("source", ["rain", "fire", "clock", "footsteps"])
def test_far_is_duller_than_near(source):
    def treble_share(waveform: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return power[len(power) // 4 :].sum() / power.sum()  # above 2 kHz

    near, far = (
        np.mean([treble_share(waveform_of(make_scene(single(source, "steady", distance), index=i))) for i in range(4)])
        for distance in ("near", "far")
    )
    assert far < 0.85 * near


def test_then_is_heard_one_after_the_other():
    scene = Combination("then", (Sound("crickets", "steady", "near"), Sound("engine", "steady", "near")))
    for index in range(5):
        spectrum = [
            np.abs(np.fft.rfft(half)) ** 2 for half in np.split(waveform_of(make_scene(scene, index=index)), 2)
        ]
        edge = len(spectrum[0]) * 3 // 8  # 3 kHz: crickets above, the engine below
        shares = [power[edge:].sum() / power.sum() for power in spectrum]
        assert shares[0] > 0.9
        assert shares[1] < 0.3


def test_while_is_heard_at_the_same_time_with_the_second_softer():
    scene = Combination("while", (Sound("crickets", "steady"), Sound("engine", "steady")))
    for index in range(5):
        for quarter in np.split(waveform_of(make_scene(scene, index=index)), 4):
            power = np.abs(np.fft.rfft(quarter)) ** 2
            edge = len(power) * 3 // 8
            difference_db = 10 * np.log10(power[edge:].sum() / power[:edge].sum())
            assert 4 < difference_db < 16


# Folders and errors


@pytest.mark.parametrize("audio_format", ["flac", "wav"])
def test_a_written_folder_is_a_dataset_like_any_other(tmp_path, audio_format):
    path = write_soundscapes(tmp_path / "train", 6, seed=4, audio_format=audio_format)
    assert path == tmp_path / "train" / "metadata.jsonl"
    scenes = make_soundscapes(6, seed=4)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line, row in zip(lines, scenes, strict=True):
        assert list(line) == ["file_name", "audio_id", "captions", "group_id"]
        waveform, sampling_rate = soundfile.read(path.parent / line.pop("file_name"), dtype="float32")
        assert sampling_rate == SAMPLING_RATE
        np.testing.assert_allclose(waveform, waveform_of(row), atol=2**-15)
        assert line == {key: value for key, value in row.items() if key != "audio"}
    rows = load_rows(tmp_path / "train")
    assert rows["audio_id"][:] == [row["audio_id"] for row in scenes]
    assert rows["group_id"][:] == [row["group_id"] for row in scenes]
    with pytest.raises(ValueError, match="already exists; remove it or choose another folder"):
        write_soundscapes(tmp_path / "train", 6)


def test_file_names_hold_no_word_that_loaders_take_for_a_split():
    """`datasets` invents splits from such words in file names and then drops the metadata."""
    words = {word for combination in COMBINATIONS for word in re.split(r"[_\-. ]", combination.key)}
    assert not words & {
        "train",
        "training",
        "validation",
        "valid",
        "val",
        "dev",
        "test",
        "testing",
        "eval",
        "evaluation",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_scenes": 0}, "`num_scenes` must be at least 1, but is 0"),
        ({"num_scenes": 5, "seed": -1}, "`seed` must be at least 0, but is -1"),
        ({"num_scenes": 5, "split": "dev"}, "Unknown split 'dev'; choose one of train, heldout, single"),
        ({"num_scenes": 1_000_001}, "`num_scenes` must be at most 1000000, but is 1000001"),
        ({"num_scenes": 5, "duration_s": 1.0}, "`duration_s` must be within 3.0 and 60.0 s, but is 1.0"),
        ({"num_scenes": 5, "duration_s": float("nan")}, "`duration_s` must be within"),
        ({"num_scenes": NUM_HELDOUT + 1, "split": "heldout"}, "There are 355 held-out combinations"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_soundscapes(**arguments)


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(ValueError, match="Unknown audio format 'mp3'; choose one of flac, wav"):
        write_soundscapes(tmp_path, 1, audio_format="mp3")


def test_an_index_beyond_the_end_is_refused():
    scenes = make_soundscapes(3)
    assert len(list(scenes)) == len(scenes) == 3
    with pytest.raises(IndexError):
        scenes[3]


def test_a_negative_index_of_a_lone_scene_is_refused():
    with pytest.raises(ValueError, match="`index` must be at least 0, but is -1"):
        make_scene(COMBINATIONS[0], index=-1)


def test_scenes_are_a_sequence():
    scenes = make_soundscapes(4, seed=0)
    assert [row["audio_id"] for row in scenes[1:3]] == [scenes[1]["audio_id"], scenes[2]["audio_id"]]
    assert scenes[-1]["audio_id"] == scenes[3]["audio_id"]
    assert len(list(scenes)) == 4
    with pytest.raises(IndexError, match="There are 4 scenes"):
        scenes[4]
