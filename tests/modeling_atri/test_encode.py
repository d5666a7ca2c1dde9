from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from modeling_atri.encode import encode_audio, encode_text
from tests.tiny import CAPTIONS, tiny_model, tiny_processor


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture
def clips() -> list[np.ndarray]:
    """From short to longer than a chunk, quiet and loud, in no order."""
    seconds_and_gains = [(1.0, 0.1), (0.15, 0.5), (11.0, 0.01), (0.5, 0.9), (3.0, 0.001), (0.2, 0.1), (1.0, 0.3)]
    return [(gain * np.random.randn(int(16000 * s))).astype(np.float32) for s, gain in seconds_and_gains]


def one_by_one(model, processor, clips: list[np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        inputs = [processor(audio=clip, sampling_rate=16000) for clip in clips]
        return np.concatenate([model.get_audio_features(**item).pooler_output.numpy() for item in inputs])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_clips_in_batches_equal_clips_alone(model, processor, clips, batch_size):
    embeddings = encode_audio(model, processor, clips, sampling_rate=16000, batch_size=batch_size)
    assert (embeddings.shape, embeddings.dtype) == ((7, 12), np.float32)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_more_clips_than_are_read_ahead_from_a_generator(model, processor):
    clips = [(0.1 * np.random.randn(2400 + 37 * index)).astype(np.float32) for index in np.random.permutation(40)]
    embeddings = encode_audio(model, processor, (clip for clip in clips), sampling_rate=16000, batch_size=2)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)


def test_reads_a_generator_bit_by_bit(model, processor):
    read = []

    def generator():
        for index in range(40):
            read.append(index)
            yield np.full(2400, np.nan if index == 35 else 0.1, dtype=np.float32)

    with pytest.raises(ValueError, match="NaN"):
        encode_audio(model, processor, generator(), sampling_rate=16000, batch_size=2)
    assert len(read) == 36


def test_sources_of_audio(model, processor, clips, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, clips[0], 16000, subtype="FLOAT")
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([clips[0], clips[0]], axis=1), 16000, subtype="FLOAT")
    audios = [
        path,
        str(path),
        path.read_bytes(),
        stereo,
        {"path": str(path), "bytes": None},
        {"array": clips[0], "sampling_rate": 16000},
        clips[0],
        torch.from_numpy(clips[0]),
    ]
    embeddings = encode_audio(model, processor, audios, sampling_rate=16000)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips[:1]).repeat(8, axis=0), atol=1e-5)


def test_features_from_elsewhere(model, processor, clips):
    features = {str(index): processor.feature_extractor.extract_clip(clip) for index, clip in enumerate(clips)}
    embeddings = encode_audio(model, processor, list(features), read_features=features.__getitem__, batch_size=3)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_captions_in_batches_equal_captions_alone(model, processor, batch_size):
    captions = [*CAPTIONS.values(), "rain", "a dog " * 40]
    languages = [*CAPTIONS, "fr", "German"]
    embeddings = encode_text(model, processor, captions, languages, batch_size=batch_size)
    assert (embeddings.shape, embeddings.dtype) == ((10, 12), np.float32)
    for caption, language, embedding in zip(captions, languages, embeddings, strict=True):
        with torch.no_grad():
            alone = model.get_text_features(**processor(text=caption, language=language)).pooler_output[0]
        np.testing.assert_allclose(embedding, alone.numpy(), atol=1e-5, rtol=0)


def test_one_language_for_all_captions(model, processor):
    captions = ["a dog", "a much longer caption", "rain"]
    in_french = encode_text(model, processor, captions, "fr", batch_size=2)
    np.testing.assert_array_equal(in_french, encode_text(model, processor, captions, ["fr"] * 3, batch_size=2))
    default = encode_text(model, processor, captions)
    np.testing.assert_allclose(default, encode_text(model, processor, captions, "en"), atol=1e-6)
    assert np.abs(default - in_french).max() > 1e-3
    np.testing.assert_allclose(encode_text(model, processor, "a dog"), default[:1], atol=1e-5)


def test_nothing_to_encode(model, processor):
    for nothing in (
        encode_audio(model, processor, [], sampling_rate=16000),
        encode_text(model, processor, []),
        encode_text(model, processor, [], "fr"),
        encode_text(model, processor, [], []),
    ):
        assert (nothing.shape, nothing.dtype) == ((0, 12), np.float32)


def test_errors_call_clips_by_path_number_or_given_name(model, processor, tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(100, dtype=np.float32), 16000)
    for audio in (path, str(path), {"path": str(path), "bytes": None}):
        with pytest.raises(ValueError, match=f"'{path}' is too short: 100 samples"):
            encode_audio(model, processor, [audio])
    with pytest.raises(ValueError, match="Clip 0 is too short"):
        encode_audio(model, processor, [path.read_bytes()])
    with pytest.raises(ValueError, match="^Row 'x': .* is too short"):
        encode_audio(model, processor, [path], names=["Row 'x'"])
    with pytest.raises(ValueError, match="^b: no good$"):
        encode_audio(model, processor, [np.ones((16, 64)), path], read_features=_read_arrays, names="ab")


def _read_arrays(audio):
    if isinstance(audio, Path):
        raise ValueError("no good")
    return torch.tensor(audio, dtype=torch.float32)


def test_modes_of_training_are_put_back(processor, clips):
    model = tiny_model(patch_dropout=0.5).train()
    model.text_model.eval()
    before = [module.training for module in model.modules()]
    first = encode_audio(model, processor, clips[:2], sampling_rate=16000)
    np.testing.assert_array_equal(first, encode_audio(model, processor, clips[:2], sampling_rate=16000))
    encode_text(model, processor, "a dog")
    assert [module.training for module in model.modules()] == before
    with pytest.raises(ValueError, match="too short"):
        encode_audio(model, processor, [np.zeros(100, np.float32)], sampling_rate=16000)
    assert [module.training for module in model.modules()] == before


def test_progress_is_shown_only_when_asked(model, processor, clips, capsys):
    encode_audio(model, processor, clips[:2], sampling_rate=16000)
    encode_text(model, processor, "a dog")
    assert capsys.readouterr() == ("", "")
    encode_audio(model, processor, clips[:2], sampling_rate=16000, progress=True)
    encode_text(model, processor, ["a dog", "rain"], progress=True)
    shown = capsys.readouterr().err
    assert "clips: 100%" in shown
    assert "captions: 100%" in shown


def good() -> np.ndarray:
    return np.zeros(4000, np.float32)


@pytest.mark.parametrize(
    "audios, arguments, message",
    [
        ([good()], {"sampling_rate": None}, "Clip 0 is a bare waveform: pass its `sampling_rate`"),
        ([good(), np.zeros(100, np.float32)], {}, "Clip 1 is too short: 100 samples"),
        ([good(), Path("no_such_file.wav")], {}, "no_such_file.wav"),
        (good(), {}, r"`audios` is one clip \(ndarray\); pass a list of clips"),
        ("clip.wav", {}, r"`audios` is one clip \(str\)"),
        ({"array": good(), "sampling_rate": 16000}, {}, r"`audios` is one clip \(dict\)"),
        ([good()], {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ],
)
def test_clips_that_do_not_fit(model, processor, audios, arguments, message):
    with pytest.raises(ValueError, match=message):
        encode_audio(model, processor, audios, **({"sampling_rate": 16000} | arguments))


@pytest.mark.parametrize(
    "language, message",
    [
        ("frensh", "Unknown language 'frensh'. Did you mean"),
        (["fr"], "1 languages were given for 2 captions"),
        ([None, "fr"], "None is a NoneType"),
        (["fr", None], "None is a NoneType"),
    ],
)
def test_languages_that_do_not_fit(model, processor, language, message):
    with pytest.raises(ValueError, match=message):
        encode_text(model, processor, ["a dog", "rain"], language)


def test_short_clips_are_padded_when_asked(model, processor):
    short = (0.1 * np.random.randn(800)).astype(np.float32)
    embeddings = encode_audio(model, processor, [short], sampling_rate=16000, pad_short=True)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, [np.pad(short, (0, 1600))]), atol=1e-6)
