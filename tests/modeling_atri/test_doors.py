"""The same sound in every form at every door gives the same embedding, with and without the package."""

import inspect
import io
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from transformers import pipeline

from modeling_atri.embedding_store import load_embeddings
from modeling_atri.encode import encode_audio, encode_folder
from modeling_atri.mteb import AtriMtebEncoder
from modeling_atri.trainer.data.collator import AtriDataCollator
from modeling_atri.trainer.data.draws import LanguageDraws
from modeling_atri.trainer.data.feature_cache import FeatureCache
from tests.helpers.forks import run_program
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


MODEL_RATE = 16_000
RATES = (MODEL_RATE, 44_100)  # Hz


def stereo(rate: int) -> np.ndarray:
    """Half a second of two channels of 16-bit samples, `(2, num_samples)`."""
    return np.random.default_rng(rate).integers(-20_000, 20_000, size=(2, rate // 2), dtype=np.int16)


def forms_with_rate(path: str, samples: np.ndarray, rate: int) -> dict[str, Any]:
    """A sound in every form that carries its own rate. Also executed where this package is missing."""
    content = Path(path).read_bytes()
    floats = samples / np.float32(32768)
    decoded = SimpleNamespace(data=torch.from_numpy(floats), sample_rate=rate)  # torchcodec's `AudioSamples`
    flac = io.BytesIO()
    soundfile.write(flac, samples.T, rate, format="FLAC", subtype="PCM_16")
    piped = bytearray(flac.getvalue())  # an encoder that writes to a pipe leaves the number of samples as 0
    piped[21] &= 0xF0
    piped[22:26] = bytes(4)
    half = (len(content) - 44) // 8 * 4
    parts = content[44 : 44 + half], content[44 + half :]
    halves = [content[:40] + len(part).to_bytes(4, "little") + part for part in parts]
    halves = [content[:4] + (len(part) - 8).to_bytes(4, "little") + part[8:] for part in halves]
    return {
        "FLAC from a pipe": bytes(piped),
        "joined files": b"".join(halves),
        "crashed recorder": content[:40] + bytes(4) + content[44:],
        "miscounted": content[:40] + (len(content) - 8).to_bytes(4, "little") + content[44:],
        "str": path,
        "Path": Path(path),
        "bytes": content,
        "bytearray": bytearray(content),
        "BytesIO": io.BytesIO(content),
        "open file": open(path, "rb"),
        "dict with path": {"path": path, "bytes": None},
        "dict with bytes": {"path": "elsewhere.wav", "bytes": content},
        "dict with integers": {"array": samples, "sampling_rate": rate},
        "dict with floats": {"path": None, "array": floats.astype(np.float64), "sampling_rate": rate},
        "dict with a list": {"raw": floats.mean(axis=0).tolist(), "sampling_rate": rate},
        "dict with a tensor": {"array": torch.from_numpy(samples), "sampling_rate": rate},
        "AudioDecoder": SimpleNamespace(get_all_samples=lambda: decoded),
    }


def waveforms(samples: np.ndarray) -> dict[str, Any]:
    """A sound in every form that needs its rate beside it."""
    floats = samples / np.float32(32768)
    return {
        "integers": samples,
        "integers of 32 bits": samples.astype(np.int32) << 16,
        "big-endian integers": samples.astype(">i2"),
        "floats": floats,
        "read-only floats": np.broadcast_to(floats.mean(axis=0), floats.shape),
        "doubles": floats.astype(np.float64),
        "mono": floats.mean(axis=0),
        "tensor of integers": torch.from_numpy(samples),
        "tensor of floats": torch.from_numpy(floats).requires_grad_(),
        "list": floats.mean(axis=0).tolist(),
    }


def names_of_forms() -> list[str]:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file, stereo(MODEL_RATE).T, MODEL_RATE, format="WAV", subtype="PCM_16")
        file.flush()
        return list(forms_with_rate(file.name, stereo(MODEL_RATE), MODEL_RATE))


FORMS = names_of_forms()
WAVEFORMS = list(waveforms(stereo(MODEL_RATE)))


class Doors:
    """Every way in: a function from a sound, and the rate of waveforms, to an embedding."""

    def __init__(self, folder: Path):
        self.model, self.processor = tiny_model(), tiny_processor()
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        self.folder = str(folder)
        self._pipeline = pipeline("audio-text-retrieval", model=self.folder)

    def _embed(self, features: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return self.model.get_audio_features(features, mask).pooler_output[0].numpy()

    def feature_extractor(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        inputs = self.processor.feature_extractor([sound], sampling_rate=sampling_rate, return_tensors="pt")
        return self._embed(inputs.input_features, inputs.input_features_mask)

    def processor_(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        inputs = self.processor(audio=[sound], **({"sampling_rate": sampling_rate} if sampling_rate else {}))
        return self._embed(inputs["input_features"], inputs["input_features_mask"])

    def pipeline_(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        return self._pipeline.encode_audio([sound], sampling_rate=sampling_rate)[0]

    def encode_audio(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        return encode_audio(self.model, self.processor, [sound], sampling_rate)[0]

    def row_of_a_data_set(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        return encode_audio(self.model, self.processor, [{"audio": sound, "audio_id": "x"}], sampling_rate)[0]

    def feature_cache(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        cache = FeatureCache(self.processor.feature_extractor, Path(self.folder, "features"))
        return self._embed(*self.processor.feature_extractor.pad_features([cache(sound)]))

    def collator(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        captions = {language: [caption] for language, caption in CAPTIONS.items()}
        collate = AtriDataCollator(self.processor, LanguageDraws("kcl", list(CAPTIONS)))
        batch = collate([{"audio": sound, "audio_id": "x", "captions": captions}])
        return self._embed(batch["input_features"], batch["input_features_mask"])

    def mteb_encoder(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        class Loader(list):
            dataset = SimpleNamespace(features={"audio": None})

        encoder = AtriMtebEncoder(self.model, self.processor)
        return encoder.encode(Loader([{"audio": [sound]}]), task_metadata=None, hf_split="", hf_subset="")[0]


TAKE_WAVEFORMS = ["feature_extractor", "processor_", "pipeline_", "encode_audio", "row_of_a_data_set"]
DOORS = [*TAKE_WAVEFORMS, "feature_cache", "collator", "mteb_encoder"]


@pytest.fixture(scope="module")
def doors(tmp_path_factory) -> Doors:
    return Doors(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[int, str]:
    folder = tmp_path_factory.mktemp("sounds")
    for rate in RATES:
        soundfile.write(folder / f"{rate}.wav", stereo(rate).T, rate, subtype="PCM_16")
    return {rate: str(folder / f"{rate}.wav") for rate in RATES}


@pytest.fixture(scope="module")
def expected(doors) -> dict[int, np.ndarray]:
    """Channels averaged and resampled here, straight through the log-mel arithmetic and the model."""
    embeddings = {}
    for rate in RATES:
        mono = (stereo(rate) / 32768).mean(axis=0).astype(np.float32)
        waveform = torch.from_numpy(soxr.resample(mono, rate, MODEL_RATE, quality="HQ"))
        features = doors.processor.feature_extractor.extract_waveform(waveform)[None]
        with torch.no_grad():
            embeddings[rate] = doors.model.get_audio_features(features).pooler_output[0].numpy()
    return embeddings


def assert_equal(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("form", FORMS)
def test_forms_that_carry_their_rate(doors, files, expected, door, rate, form):
    sound = forms_with_rate(files[rate], stereo(rate), rate)[form]
    assert_equal(getattr(doors, door)(sound, None), expected[rate])


@pytest.mark.parametrize("door", TAKE_WAVEFORMS)
@pytest.mark.parametrize("form", WAVEFORMS)
def test_waveforms_with_their_rate(doors, expected, door, form):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as torch's about read-only arrays
        found = getattr(doors, door)(waveforms(stereo(MODEL_RATE))[form], MODEL_RATE)
    assert_equal(found, expected[MODEL_RATE])


@pytest.mark.parametrize("door", ["pipeline_", "encode_audio", "row_of_a_data_set"])
def test_waveforms_at_another_rate_are_resampled_or_refused(doors, expected, door):
    assert_equal(getattr(doors, door)(stereo(44_100), 44_100), expected[44_100])
    for strict in ("feature_extractor", "processor_"):
        with pytest.raises(ValueError, match="44100 Hz, but the model was trained at 16000 Hz"):
            getattr(doors, strict)(stereo(44_100), 44_100)


def test_a_folder(doors, files, expected, tmp_path):
    encode_folder(doors.model, doors.processor, Path(files[MODEL_RATE]).parent, tmp_path)
    ids, embeddings = load_embeddings(tmp_path)
    assert ids == ["16000.wav", "44100.wav"]
    assert_equal(embeddings, np.stack([expected[rate] for rate in RATES]))


def refused(path: str, samples: np.ndarray, rate: int) -> dict[str, Any]:
    """Sounds that no door takes. Also executed where this package is missing."""
    content = Path(path).read_bytes()
    mp3 = io.BytesIO()
    soundfile.write(mp3, samples.T, rate, format="MP3")
    other_rate = content[:24] + (8_000).to_bytes(4, "little") + content[28:]
    return {
        "truncated": content[:-1000],
        "truncated MP3": mp3.getvalue()[:-1000],
        "joined rates": content + other_rate,
        "pointer": b"version https://git-lfs.github.com/spec/v1",
        "web page": b"<!DOCTYPE html>",
        "folder": "/",
        "no sound": b"\x80no sound",
        "missing": "missing.wav",
        "NaN": {"array": np.full(rate, np.nan), "sampling_rate": rate},
        "unsigned": {"array": np.zeros(rate, np.uint8), "sampling_rate": rate},
        "64 bits": {"array": samples.astype(np.int64), "sampling_rate": rate},
        "channels last": {"array": samples.T, "sampling_rate": rate},
        "no samples": {"array": samples[:, :0], "sampling_rate": rate},
        "no rate": {"array": samples},
        "None": None,
    }


REASONS = {
    "truncated": "the file is truncated",
    "truncated MP3": "the file is truncated",
    "joined rates": "it joins recordings of the sampling rates 16000, 8000 Hz",
    "pointer": "it is a Git LFS pointer",
    "web page": "it is an HTML page",
    "folder": "it is a folder",
    "no sound": "Cannot decode",
    "missing": "There is no audio file 'missing.wav'",
    "NaN": "it holds NaN or infinite samples",
    "unsigned": "it holds uint8 samples. Pass floats",
    "64 bits": "it holds int64 samples. Pass floats",
    "channels last": "it has the shape (8000, 2)",
    "no samples": "it holds no samples",
    "no rate": "sampling",
    "None": "is a NoneType",
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fault", REASONS)
def test_refusals(doors, files, door, fault):
    sound = refused(files[MODEL_RATE], stereo(MODEL_RATE), MODEL_RATE)[fault]
    with pytest.raises(ValueError) as error:
        getattr(doors, door)(sound, None)
    # The collator takes rows, in which None means that there is no recording.
    reason = "has no `audio`" if (door, fault) == ("collator", "None") else REASONS[fault]
    assert reason in str(error.value)


REMOTE_PROGRAM = """
import importlib.abc, io, json, sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("modeling_atri", "tests"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

import numpy as np
import soundfile
import torch
from transformers import AutoModel, AutoProcessor, pipeline

FUNCTIONS
folder, output, rates, files = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
pipe = pipeline("audio-text-retrieval", model=folder, trust_remote_code=True)
found, reasons = {}, {}
for path, rate in zip(files, rates):
    forms = forms_with_rate(path, stereo(rate), rate)
    through_pipeline = pipe.encode_audio(list(forms.values())).tolist()
    for number, (form, sound) in enumerate(forms_with_rate(path, stereo(rate), rate).items()):
        embedding = model.get_audio_features(**processor(audio=[sound])).pooler_output[0].tolist()
        found[f"{form} {rate}"] = [embedding, through_pipeline[number]]
for fault, sound in refused(files[0], stereo(rates[0]), rates[0]).items():
    try:
        processor(audio=[sound])
    except ValueError as error:
        reasons[fault] = str(error)
json.dump([found, reasons], open(output, "w"))
"""


@pytest.mark.heavy
def test_without_the_package(doors, files, expected, tmp_path):
    functions = "\n".join(map(inspect.getsource, (stereo, forms_with_rate, refused)))
    arguments = [doors.folder, str(tmp_path / "found.json"), json.dumps(RATES), *files.values()]
    run_program(REMOTE_PROGRAM.replace("FUNCTIONS", functions), *arguments, folder=tmp_path)
    found, reasons = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == {f"{form} {rate}" for form in FORMS for rate in RATES}
    for name, embeddings in found.items():
        for embedding in embeddings:
            assert_equal(embedding, expected[int(name.split()[-1])])
    sounds = refused(files[MODEL_RATE], stereo(MODEL_RATE), MODEL_RATE)
    assert reasons == {fault: _reason(lambda s: doors.processor(audio=[s]), sound) for fault, sound in sounds.items()}


def _reason(function: Callable[[Any], Any], sound: Any) -> str:
    with pytest.raises(ValueError) as error:
        function(sound)
    return str(error.value)
