"""Questions: the vector of a text, a sound, or both, and what is to be absent."""

import numpy as np
import pytest
import soundfile

from modeling_atri.encode import encode_audio, encode_text
from modeling_atri.search.hits import Hit
from modeling_atri.search.questions import ABSENCE_WEIGHT, Question, make_question
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.towerless import embedded_model, embedded_processor


MODEL, PROCESSOR = tiny_model(), tiny_processor()
SAMPLES = np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)


def ask(*args, **options) -> Question:
    return make_question(MODEL, PROCESSOR, *args, **options)


def text_vector(text: str, language: str) -> np.ndarray:
    return encode_text(MODEL, PROCESSOR, text, language)[0]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("like") / "one.wav"
    soundfile.write(path, SAMPLES, 16000)
    return path


def test_a_text_is_encoded_in_its_language():
    found, given = ask("un chien aboie"), ask("un chien aboie", "Japanese")
    assert (found.language, found.language_was_found) == ("fra_Latn", True)
    assert (given.language, given.language_was_found) == ("jpn_Jpan", False)
    np.testing.assert_allclose(found.vector, text_vector("un chien aboie", "fra_Latn"), atol=1e-6)
    np.testing.assert_allclose(given.vector, text_vector("un chien aboie", "jpn_Jpan"), atol=1e-6)
    assert found.absent is None and found.direction[1] == 1.0 and found.offset(np.ones(12)) == 0.0


def test_a_sound_may_come_in_every_form(sound):
    expected = encode_audio(MODEL, PROCESSOR, [sound])[0]
    for like in (sound, str(sound), sound.read_bytes(), {"array": soundfile.read(sound)[0], "sampling_rate": 16000}):
        question = ask(like=like)
        np.testing.assert_allclose(question.vector, expected, atol=1e-5)
        assert question.language is None and not question.language_was_found


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_a_text_and_a_sound_are_a_weighted_mean(sound, weight):
    mean = (1 - weight) * text_vector("a dog barks", "en") + weight * encode_audio(MODEL, PROCESSOR, [sound])[0]
    question = ask("a dog barks", "en", like=sound, like_weight=weight)
    np.testing.assert_allclose(question.vector, mean / np.linalg.norm(mean), atol=1e-5)
    assert np.linalg.norm(question.vector) == pytest.approx(1.0, abs=1e-6)


def test_sounds_of_the_index_are_not_encoded():
    vector = np.eye(12, dtype=np.float32)[3]
    question = make_question(None, PROCESSOR, like="rain/1.wav", stored_vector={"rain/1.wav": vector}.get)
    np.testing.assert_array_equal(question.vector, vector)


def test_what_is_absent_is_in_the_language_of_the_question():
    question = ask("un chien aboie", without="la pluie tombe")
    np.testing.assert_allclose(question.absent, text_vector("la pluie tombe", "fr"), atol=1e-6)
    sounds = np.random.default_rng(1).normal(size=(5, 12)).astype(np.float32)
    direction, factor = question.direction
    mean = sounds.mean(axis=0)
    assert np.linalg.norm(direction) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(
        factor * (sounds @ direction) + question.offset(mean),
        sounds @ question.vector - ABSENCE_WEIGHT * (sounds @ question.absent - mean @ question.absent),
        atol=1e-5,
    )
    # The mean sound keeps its score.
    assert factor * (mean @ direction) + question.offset(mean) == pytest.approx(
        float(mean @ question.vector), abs=1e-5
    )


def test_what_is_absent_may_go_with_a_sound_alone(sound):
    question = ask(like=sound, without="la pluie tombe sur le toit")
    assert question.language == "fra_Latn"
    np.testing.assert_allclose(question.absent, text_vector("la pluie tombe sur le toit", "fr"), atol=1e-6)


@pytest.mark.parametrize(
    "args, options, message",
    [
        ((), {}, "There is no question"),
        ((), {"without": "rain"}, "There is no question"),
        (("",), {}, "question is empty"),
        (("  \n",), {}, "question is empty"),
        (("dog",), {"without": " "}, "`without` is empty"),
        (("caf\udce9",), {}, r"question 'caf\\udce9' is not Unicode text"),
        ((5,), {}, "must be a text"),
        (("dog", "xx"), {}, "Unknown language 'xx'"),
        (("dog",), {"like": "gone.wav", "like_weight": 1.5}, "like_weight"),
        (("dog",), {"like": "gone.wav", "like_weight": "0.5"}, "like_weight"),
        ((), {"like": "gone.wav"}, "There is no file 'gone.wav', and the index has no such sound"),
        ((), {"like": Hit("gone.wav", 0.0, 1.0, 0.5, {}, 1.0, "/s")}, "no sound '/s/gone.wav' any more"),
    ],
)
def test_wrong_questions_are_explained(args, options, message):
    with pytest.raises(ValueError, match=message):
        ask(*args, **options)


def test_a_sound_that_is_too_short_is_padded(tmp_path):
    soundfile.write(tmp_path / "short.wav", SAMPLES[:800], 16000)
    padded = np.concatenate([soundfile.read(tmp_path / "short.wav")[0], np.zeros(1600)])  # 0.15 s
    expected = encode_audio(MODEL, PROCESSOR, [{"array": padded, "sampling_rate": 16000}])[0]
    np.testing.assert_allclose(ask(like=tmp_path / "short.wav").vector, expected, atol=1e-5)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    with pytest.raises(ValueError, match="empty.wav"):
        ask(like=tmp_path / "empty.wav")


def test_a_broken_sound_is_named(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="broken.wav"):
        ask(like=tmp_path / "broken.wav")


def test_parts_that_cancel_out_are_refused():
    vector = text_vector("a dog barks", "en")
    with pytest.raises(ValueError, match="cancel each other out"):
        ask("a dog barks", "en", like="x", stored_vector=lambda like: -vector)


def test_a_model_without_an_audio_tower_takes_sounds_of_the_index_only(sound):
    model, processor = embedded_model(), embedded_processor()
    vector = np.eye(12, dtype=np.float32)[0]
    question = make_question(model, processor, "a dog barks", "en", like="a.wav", stored_vector=lambda like: vector)
    assert np.linalg.norm(question.vector) == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(ValueError, match="no audio tower.*sound of the index"):
        make_question(model, processor, like=sound)
    np.testing.assert_allclose(make_question(model, processor, like=2 * vector).vector, vector, atol=1e-6)
