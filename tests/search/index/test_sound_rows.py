"""Rows with sounds or their embeddings become sounds of an index, and are encoded once."""

import datetime

import datasets
import numpy as np
import pyarrow as pa
import pytest
import soundfile

from modeling_atri.encode import encode_audio
from modeling_atri.search import SoundIndex
from tests.helpers.embedded import embedding_processor, without_tower
from tests.helpers.tiny import tiny_model, tiny_processor


RATE = 16_000


def noise(seed: int, seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=int(seconds * RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def index(tmp_path, model):
    return SoundIndex.open(tmp_path / "index", model, tiny_processor())


@pytest.fixture
def sounds(tmp_path):
    (tmp_path / "sounds").mkdir()
    for number in range(3):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", noise(number), RATE)
    return tmp_path / "sounds"


def vectors(index) -> dict[str, np.ndarray]:
    rows = index.tables.rows("kind != 'window'").to_pylist()
    return {row["path"]: np.float32(row["vector"]) for row in rows}


def test_every_form_of_a_sound_has_the_embedding_of_encode_audio(index, sounds, model):
    wave = noise(9)
    rows = [
        {"audio": str(sounds / "0.wav"), "audio_id": "0.wav"},
        {"audio": {"path": str(sounds / "1.wav"), "bytes": None}, "audio_id": "other"},
        {"audio": {"path": "name.wav", "bytes": (sounds / "2.wav").read_bytes()}},
        {"audio": {"array": wave, "sampling_rate": RATE}, "audio_id": 4},
        {"audio": wave, "sampling_rate": RATE, "audio_id": "wave"},
    ]
    summary = index.add(iter(rows))
    assert (summary.num_sounds, summary.num_encoded, summary.failures) == (5, 5, {})
    assert summary.hours == pytest.approx(5 * 0.5 / 3600)
    expected = encode_audio(model, tiny_processor(), [*(sounds / f"{number}.wav" for number in range(3)), wave], RATE)
    found = vectors(index)
    for name, row in {"0.wav": 0, "other": 1, "name.wav": 2, "4": 3, "wave": 3}.items():
        np.testing.assert_allclose(found[name], expected[row], atol=1e-5)
    hits = {hit.path: hit for hit in index.search("a dog")}
    assert hits["0.wav"].folder == str(sounds) and hits["0.wav"].file == str(sounds / "0.wav")
    assert hits["other"].folder == ""
    assert hits["wave"].duration_s == 0.5


def test_rows_that_are_there_are_not_encoded_again(index, sounds, monkeypatch):
    wave = {"array": noise(9), "sampling_rate": RATE}
    rows = [
        {"audio": str(sounds / "0.wav"), "audio_id": "0.wav", "tag": "dog"},
        {"audio": {"bytes": (sounds / "1.wav").read_bytes(), "path": None}, "audio_id": "1", "tag": "rain"},
        {"audio": wave, "audio_id": "2", "tag": None},
    ]
    index.add(rows)
    rows[1] |= {"tag": "storm", "loudness": 0.5}
    rows[2] |= {"audio": {"array": noise(10), "sampling_rate": RATE}}
    summary = index.add(rows)
    assert (summary.num_sounds, summary.num_encoded) == (3, 1)
    metadata = {hit.path: hit.metadata for hit in index.search("a dog")}
    assert metadata == {
        "0.wav": {"tag": "dog", "loudness": None},
        "1": {"tag": "storm", "loudness": 0.5},
        "2": {"tag": None, "loudness": None},
    }
    monkeypatch.setattr(index.model, "load", lambda: pytest.fail("The model is not needed."))
    assert index.add(rows).num_encoded == 0


def test_scalar_columns_are_typed(index):
    day = datetime.date(2026, 11, 28)
    row = {"licence": "cc0", "bpm": 90, "gain": np.float32(0.5), "ok": True, "day": day, "tags": ["a", "b"]}
    others = {"captions": {"eng_Latn": ["x"]}, "box": {"a": 1}, "matrix": np.ones(3), "score": 3, "nan": float("nan")}
    index.add([{"audio": noise(1), "sampling_rate": RATE, "audio_id": "a"} | row | others])
    assert index.tables.columns == {
        "licence": pa.string(),
        "bpm": pa.int64(),
        "gain": pa.float64(),
        "ok": pa.bool_(),
        "day": pa.date32(),
        "tags": pa.list_(pa.string()),
        "metadata_score": pa.int64(),
    }
    index.add([{"audio": noise(2), "sampling_rate": RATE, "audio_id": "b", "bpm": 90.5}])
    assert [hit.path for hit in index.search("a dog", where="bpm > 90")] == ["b"]
    with pytest.raises(ValueError, match="row 'c': the column `bpm` holds 'fast'"):
        index.add([{"audio": noise(3), "sampling_rate": RATE, "audio_id": "c", "bpm": "fast"}])


@pytest.mark.parametrize("decode", [True, False])
def test_a_data_set_is_not_decoded_before_it_is_encoded(index, sounds, model, decode):
    paths = [str(sounds / f"{number}.wav") for number in range(3)]
    rows = datasets.Dataset.from_dict({"audio": paths, "audio_id": ["a", "b", "c"], "n": [1, 2, 3]})
    rows = rows.cast_column("audio", datasets.Audio(decode=decode))
    assert index.add(rows).num_encoded == 3
    expected = encode_audio(model, tiny_processor(), paths)
    np.testing.assert_allclose(np.stack([vectors(index)[name] for name in "abc"]), expected, atol=1e-5)
    assert index.add(rows.to_iterable_dataset()).num_encoded == 0


def test_embeddings_of_a_model_with_an_audio_tower(index, model, monkeypatch):
    monkeypatch.setattr(index.model, "load", lambda: pytest.fail("The model is not needed."))
    width = model.config.projection_dim
    given = np.random.default_rng(0).normal(size=(2, width))
    rows = [{"audio_embedding": vector, "audio_id": f"{row}", "duration_s": 7} for row, vector in enumerate(given)]
    rows += [{"audio_embedding": np.zeros(width), "audio_id": "zero"}, {"audio_embedding": [1.0], "audio_id": "short"}]
    summary = index.add(rows)
    assert summary.num_encoded == 2
    assert "is zero, or holds NaN" in summary.failures["zero"]
    assert f"has the shape (1,), but must hold {width}" in summary.failures["short"]
    for row in range(2):
        np.testing.assert_allclose(vectors(index)[str(row)], given[row] / np.linalg.norm(given[row]), atol=1e-6)
    assert index.tables.rows()["end_s"].to_pylist() == [7.0, 7.0]
    assert index.add(rows[:2]).num_encoded == 0


@pytest.mark.parametrize("has_audio_head", [True, False])
def test_a_model_that_takes_stored_embeddings(tmp_path, model, has_audio_head):
    other = without_tower(model, has_audio_head)
    processor = embedding_processor(other)
    index = SoundIndex.open(tmp_path / "index", other, processor)
    given = np.random.default_rng(0).normal(size=(3, other.config.audio_config.hidden_size)).astype(np.float32)
    rows = [{"audio_embedding": vector, "audio_id": name} for name, vector in zip("abc", given, strict=True)]
    assert index.add(rows).num_encoded == 3
    expected = encode_audio(other, processor, list(given))
    np.testing.assert_allclose(np.stack([vectors(index)[name] for name in "abc"]), expected, atol=1e-5)
    with pytest.raises(ValueError, match="takes stored embeddings and no sounds, so the folder .* cannot be added"):
        index.add(tmp_path)
    failures = index.add([{"audio": noise(0), "sampling_rate": RATE, "audio_id": "d"}]).failures
    assert "This model has no audio tower" in failures["d"]


def test_rows_that_cannot_be_used_are_listed(index, sounds):
    (sounds / "bad.wav").write_bytes(b"RIFF")
    rows = [
        {"audio": str(sounds / "0.wav"), "audio_id": "a"},
        {"audio": str(sounds / "1.wav"), "audio_id": "a"},
        {"audio": str(sounds / "bad.wav"), "audio_id": "bad"},
        {"audio": str(sounds / "gone.wav"), "audio_id": "gone"},
        {"audio": noise(0), "sampling_rate": RATE},
        {"audio_id": "nothing"},
    ]
    summary = index.add(rows)
    assert (summary.num_sounds, summary.num_encoded) == (1, 1)
    assert set(summary.failures) == {"a", "bad", "gone", "row 4", "nothing"}
    for name, reason in (
        ("a", "another row has the `audio_id` 'a' too"),
        ("row 4", "it has no `audio_id`, and its sound has no path"),
        ("nothing", "it has neither `audio` nor `audio_embedding`, only audio_id"),
    ):
        assert reason in summary.failures[name]
    assert {key.path for key in index.tables.failures()} == set(summary.failures)
    for row in rows[2:]:
        with pytest.raises(ValueError):
            index.add([row], on_error="raise")


def test_failures_of_other_rows_and_stores_stay_until_they_are_tried_again(index, sounds, tmp_path):
    (sounds / "bad.wav").write_bytes(b"RIFF")
    np.save(tmp_path / "x.npy", np.zeros((1, 12), np.float32))
    (tmp_path / "x.ids.json").write_text('{"ids": ["zero"]}')

    def failed() -> set[str]:
        return {key.path for key in index.tables.failures()}

    index.add([{"audio": str(sounds / "bad.wav"), "audio_id": "bad"}, {"audio_embedding": None}])
    assert failed() == {"bad", "row 1"}
    index.add(tmp_path / "x.npy")
    assert failed() == {"bad", "row 1", "zero"}
    index.add([{"audio": str(sounds / "0.wav"), "audio_id": "a"}])
    assert failed() == {"bad", "row 1", "zero"}
    index.add([{"audio": str(sounds / "0.wav"), "audio_id": "bad"}, {"audio": str(sounds / "1.wav"), "audio_id": "b"}])
    assert failed() == {"zero"}
    np.save(tmp_path / "x.npy", np.ones((1, 12), np.float32))
    index.add(tmp_path / "x.npy")
    assert failed() == set()


def test_what_is_no_row(index):
    for sounds, message in (
        (["a.wav"], "Row 0 is a str. Pass mappings with `audio`"),
        ({"audio": "x"}, "`sounds` must be a folder, stored embeddings, a data set, or a list of rows"),
        (3, "but is a int"),
    ):
        with pytest.raises(ValueError, match=message):
            index.add(sounds)
    with pytest.raises(ValueError, match="`columns` names a side file of a folder"):
        index.add([], columns="tags.csv")
    mixed = [{"audio": noise(0), "sampling_rate": RATE, "audio_id": "a"}, {"audio_embedding": [1.0], "audio_id": "b"}]
    with pytest.raises(ValueError, match="The row 'b' has `audio_embedding`, but the first one has `audio`"):
        index.add(mixed)
