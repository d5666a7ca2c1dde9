"""What other libraries hand to the processor: files beside waveforms, arguments by kind."""

import io

import numpy as np
import pytest
import soundfile
import torch

from modeling_atri.audio_io import load_audio
from modeling_atri.processing_atri import AtriProcessor
from tests.helpers.tiny import tiny_processor


RATE = 44_100  # Hz, of the files


@pytest.fixture(scope="module")
def processor() -> AtriProcessor:
    return tiny_processor()


def stereo(seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((RATE // 2, 2))).astype(np.float32)


def wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def test_files_in_any_form_are_decoded_and_resampled(processor, tmp_path, caplog):
    contents = [wav(stereo(seed)) for seed in range(4)]
    for index, content in enumerate(contents[:2]):
        (tmp_path / f"{index}.wav").write_bytes(content)
    mono = stereo(4).mean(axis=1)
    audio = [
        str(tmp_path / "0.wav"),
        tmp_path / "1.wav",
        contents[2],
        {"bytes": contents[3], "path": "3.wav"},
        {"array": mono, "sampling_rate": RATE},
    ]
    waveforms = [*map(load_audio, contents), load_audio(mono, source_rate=RATE)]
    expected = processor(audio=waveforms, sampling_rate=16_000)
    found = processor(audio=audio)
    assert caplog.text == "", "files know their rate: nothing to warn of"
    for key, value in expected.items():
        assert torch.equal(found[key], value)
    # Beside bare waveforms the rate is that of the waveforms.
    mixed = processor(audio=[audio[0], waveforms[1]], sampling_rate=16_000)
    assert torch.equal(mixed["input_features"], expected["input_features"][:2])
    with pytest.raises(ValueError, match="sampling rate of 8000 Hz"):
        processor(audio=[audio[0], waveforms[1]], sampling_rate=8_000)


def test_files_are_read_in_threads(processor, tmp_path):
    for seed in range(5):
        (tmp_path / f"{seed}.wav").write_bytes(wav(np.tile(stereo(seed), (10, 1))))
    files = [tmp_path / f"{seed}.wav" for seed in range(5)]
    files.insert(2, {"array": stereo(5)[:, 0], "sampling_rate": RATE})
    expected = processor(audio=files)
    broken = [*files[:3], tmp_path / "second.wav", *files[3:], b"third"]
    broken[1] = tmp_path / "first.wav"
    broken[1].write_bytes(wav(stereo(6))[:-100])
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = processor(audio=files)
        for _ in range(5):
            with pytest.raises(ValueError, match=r"first.wav.* truncated"):
                processor(audio=broken)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_single_file(processor, tmp_path):
    path = tmp_path / "one.wav"
    path.write_bytes(wav(stereo(0)))
    expected = processor(audio=load_audio(path), sampling_rate=16_000)["input_features"]
    assert torch.equal(processor(audio=str(path))["input_features"], expected)
    assert torch.equal(processor(audio=path)["input_features"], expected)


def test_whole_numbers_are_scaled(processor):
    """Taken for floats they would be 90 dB too loud."""
    samples = (32767 * stereo(0)[:, 0]).astype(np.int16)
    for rate in (16_000, RATE):
        found = processor(audio={"array": samples, "sampling_rate": rate})["input_features"]
        expected = processor(audio={"array": samples / 32768, "sampling_rate": rate})["input_features"]
        assert torch.equal(found, expected)
    floats = (samples / 32768).tolist()
    listed = processor(audio={"array": floats, "sampling_rate": RATE})["input_features"]
    expected = processor(audio={"array": np.float32(floats), "sampling_rate": RATE})["input_features"]
    assert torch.equal(listed, expected)


def test_a_missing_file(processor, tmp_path):
    with pytest.raises(ValueError, match="nothing.wav"):
        processor(audio=[str(tmp_path / "nothing.wav")])


def test_language_by_kind(processor):
    captions = ["un chien aboie", "la pluie"]
    expected = processor(text=captions, language="fr")["input_ids"]
    assert torch.equal(processor(text=captions, text_kwargs={"language": "fr"})["input_ids"], expected)
    with pytest.raises(ValueError, match=r"\['language'\] came twice, alone and in `text_kwargs`"):
        processor(text=captions, language="fr", text_kwargs={"language": "fr"})
    with pytest.raises(ValueError, match=r"is \['fr', 'en'\], but must be one language for all captions"):
        processor(text=captions, text_kwargs={"language": ["fr", "en"]})


def test_arguments_for_captions_are_ignored_where_there_are_none(processor):
    clip = stereo(0).mean(axis=1)
    expected = processor(audio=clip, sampling_rate=16_000)["input_features"]
    kinds = {"text_kwargs": {"language": "fr", "max_length": 9}, "audio_kwargs": {"sampling_rate": 16_000}}
    assert torch.equal(processor(audio=clip, **kinds)["input_features"], expected)


def test_the_tokenizers_own_limit_is_that_of_the_processor():
    processor = tiny_processor()
    processor.tokenizer.model_max_length = 1024
    AtriProcessor(processor.feature_extractor, processor.tokenizer, max_text_length=77)
    assert processor.tokenizer.model_max_length == 77
    AtriProcessor(processor.feature_extractor, processor.tokenizer, max_text_length=514)
    assert processor.tokenizer.model_max_length == 77
