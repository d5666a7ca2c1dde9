"""sentence-transformers opens a saved folder as it is: no file of its own in it, no code of ours for it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode.encoding import encode_audio, encode_text
from tests.helpers.bare_environment import link_packages, run_bare
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor
from tests.helpers.towerless import embedded_model, embedded_processor
from tests.helpers.towers import TOWERS, tower_model, tower_processor


pytest.importorskip(
    "sentence_transformers", reason="needs the extra: pip install 'modeling_atri[sentence-transformers]'"
)

from sentence_transformers import SentenceTransformer


pytestmark = pytest.mark.heavy


RATE = 16_000  # Hz
TEXTS = ["a dog barks while rain falls, far away", "rain", "un chien aboie", "a dog </s> barks", "犬"]


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sentences(folder) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def pair(folder) -> tuple[AtriModel, AtriProcessor]:
    return AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)


def in_language(language: str) -> dict:
    return {"processing_kwargs": {"text": {"language": language}}}


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# What it finds


def test_a_folder_is_understood(folder, sentences):
    assert not {"modules.json", "sentence_bert_config.json"} & {path.name for path in folder.iterdir()}
    assert type(sentences[0].model) is AtriModel
    assert sentences.modalities == ["text", "audio"]
    assert sentences.get_embedding_dimension() == 12
    assert sentences.max_seq_length == 512
    assert sentences.similarity_fn_name == "cosine"
    assert sentences.device.type == "cpu"


def test_length_of_a_tokenizer_that_allows_more(tmp_path):
    processor = tiny_processor()
    processor.tokenizer.model_max_length = 1024  # as NLLB's
    AtriProcessor(processor.feature_extractor, processor.tokenizer).save_pretrained(tmp_path)
    tiny_model().save_pretrained(tmp_path)
    assert SentenceTransformer(str(tmp_path), device="cpu").max_seq_length == 514


def test_a_shorter_length_is_kept_to(folder, pair):
    shorter = SentenceTransformer(str(folder), device="cpu")
    shorter.max_seq_length = 6
    model, processor = pair
    inputs = processor(text=TEXTS, max_length=6)
    with torch.no_grad():
        expected = model.get_text_features(**inputs).pooler_output
    assert inputs["input_ids"].shape[1] == 6
    assert_close(shorter.encode(TEXTS), expected.numpy())


# Text


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_texts_equal_encode_text(sentences, pair, batch_size):
    found = sentences.encode(TEXTS, batch_size=batch_size)
    assert found.dtype == np.float32
    assert_close(found, encode_text(*pair, TEXTS))
    assert_close(np.linalg.norm(found, axis=1), np.ones(len(TEXTS)))


def test_a_single_text(sentences, pair):
    assert_close(sentences.encode("rain"), encode_text(*pair, ["rain"])[0])


@pytest.mark.parametrize("language", CAPTIONS)
def test_language_of_a_call(sentences, pair, language):
    expected = encode_text(*pair, TEXTS, language)
    assert_close(sentences.encode(TEXTS, **in_language(language)), expected)
    if language != "eng_Latn":
        assert np.abs(expected - encode_text(*pair, TEXTS)).max() > 1e-3


@pytest.mark.parametrize("writing", ["fr", "French"])
def test_any_writing_of_the_language(sentences, pair, writing):
    assert_close(sentences.encode_query(TEXTS, **in_language(writing)), encode_text(*pair, TEXTS, "fra_Latn"))


def test_language_of_a_model(folder, pair):
    french = SentenceTransformer(str(folder), device="cpu", processor_kwargs={"src_lang": "fra_Latn"})
    assert_close(french.encode(TEXTS), encode_text(*pair, TEXTS, "fra_Latn"))
    assert_close(french.encode(TEXTS, **in_language("de")), encode_text(*pair, TEXTS, "deu_Latn"))


def test_a_language_per_text_is_refused(sentences):
    """It sorts texts by length: languages in the order given would end up with the wrong texts."""
    with pytest.raises(ValueError, match="must be one language for all captions"):
        sentences.encode(["a long caption", "rain"], **in_language(["fr", "en"]))
    with pytest.raises(ValueError, match="Unknown language 'xx'"):
        sentences.encode(TEXTS, **in_language("xx"))


def test_a_prompt_stands_before_the_text(sentences, pair):
    assert_close(sentences.encode(["dog"], prompt="a "), encode_text(*pair, ["a dog"]))


# Audio


def test_waveforms_equal_encode_audio(sentences, pair):
    clips = [noise(num_samples, seed) for seed, num_samples in enumerate((16_000, 5_000, 24_321, 170_000))]
    expected = encode_audio(*pair, clips, sampling_rate=RATE)
    dicts = [{"array": clip, "sampling_rate": RATE} for clip in clips]
    for given in (clips, [torch.from_numpy(clip) for clip in clips], dicts, [{"audio": item} for item in dicts]):
        assert_close(sentences.encode(given, batch_size=2), expected)
    assert_close(sentences.encode(clips, processing_kwargs={"audio": {"sampling_rate": RATE}}), expected)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_files_equal_encode_audio(sentences, pair, tmp_path, rate):
    paths = []
    for index, suffix in enumerate(("wav", "flac", "ogg")):
        stereo = np.stack([noise(rate, index), noise(rate, index + 9)], axis=1)
        paths.append(str(tmp_path / f"clip{index}.{suffix}"))
        soundfile.write(paths[-1], stereo, rate)
    expected = encode_audio(*pair, paths)
    assert_close(sentences.encode(paths), expected)
    assert_close(sentences.encode(paths[0]), expected[0])


def test_a_language_leaves_audio_alone(folder, pair):
    kwargs = in_language("fr")["processing_kwargs"]
    french = SentenceTransformer(str(folder), device="cpu")
    french[0].processing_kwargs = kwargs
    assert_close(french.encode([noise(8_000)]), encode_audio(*pair, [noise(8_000)], sampling_rate=RATE))
    assert_close(french.encode(TEXTS), encode_text(*pair, TEXTS, "fr"))


def test_short_clips(sentences, pair):
    with pytest.raises(ValueError, match="pad_short=True"):
        sentences.encode([noise(100)])
    found = sentences.encode([noise(100)], processing_kwargs={"audio": {"pad_short": True}})
    assert_close(found, encode_audio(*pair, [noise(100)], sampling_rate=RATE, pad_short=True))


def test_another_rate_is_refused(sentences):
    with pytest.raises(ValueError, match="44100 Hz, but the model was trained at 16000 Hz"):
        sentences.encode([{"array": noise(44_100), "sampling_rate": 44_100}])


# Both


def test_similarity_of_texts_and_clips(sentences, pair):
    clips = [noise(8_000, 1), noise(16_000, 2)]
    found = sentences.similarity(sentences.encode(TEXTS), sentences.encode(clips))
    assert_close(found.numpy(), encode_text(*pair, TEXTS) @ encode_audio(*pair, clips, sampling_rate=RATE).T)


def test_what_it_saves_opens_here(sentences, pair, tmp_path):
    sentences.save_pretrained(str(tmp_path), create_model_card=False)
    model, processor = AtriModel.from_pretrained(tmp_path), AtriProcessor.from_pretrained(tmp_path)
    assert_close(encode_text(model, processor, TEXTS, "fr"), encode_text(*pair, TEXTS, "fr"))
    clips = [noise(8_000)]
    assert_close(
        encode_audio(model, processor, clips, sampling_rate=RATE), encode_audio(*pair, clips, sampling_rate=RATE)
    )
    again = SentenceTransformer(str(tmp_path), device="cpu")
    assert_close(again.encode(TEXTS), sentences.encode(TEXTS))
    assert_close(again.encode(clips), sentences.encode(clips))
    assert again.get_embedding_dimension() == 12


WITHOUT_THE_PACKAGE = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from sentence_transformers import SentenceTransformer

assert importlib.util.find_spec("modeling_atri") is None
inputs = np.load("inputs.npz")
sentences = SentenceTransformer("model", device="cpu", trust_remote_code=True)
french = {"text": {"language": "fr"}}
text = sentences.encode(inputs["texts"].tolist(), processing_kwargs=french)
np.savez("found.npz", text=text, audio=sentences.encode([inputs["clip"]]))
"""


@pytest.mark.parametrize("side", [pytest.param("clap", marks=pytest.mark.slow), "none"])
def test_models_with_another_audio_side(side, tmp_path):
    if side == "clap":
        model, processor = tower_model(TOWERS["clap"]), tower_processor(TOWERS["clap"])
    else:
        model, processor = embedded_model(), embedded_processor()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    sentences = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(sentences.encode(TEXTS), encode_text(model, processor, TEXTS), atol=1e-5)
    if side == "clap":
        clip = {"array": noise(150_000), "sampling_rate": 48_000}
        np.testing.assert_allclose(sentences.encode([clip]), encode_audio(model, processor, [clip]), atol=1e-5)


@pytest.mark.slow  # imports scipy, scikit-learn and sentence-transformers once more
def test_without_this_package(pair, tmp_path):
    for part in pair:
        part.save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "inputs.npz", texts=TEXTS, clip=noise(8_000))
    (tmp_path / "client.py").write_text(WITHOUT_THE_PACKAGE, encoding="utf-8")
    (tmp_path / "site").mkdir()
    run_bare(tmp_path / "client.py", link_packages(tmp_path / "site", ["sentence-transformers"]), tmp_path)
    found = np.load(tmp_path / "found.npz")
    assert_close(found["text"], encode_text(*pair, TEXTS, "fr"))
    assert_close(found["audio"], encode_audio(*pair, [noise(8_000)], sampling_rate=RATE))
