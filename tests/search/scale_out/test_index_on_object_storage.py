"""An index and its sounds on object storage, with a server on loopback that speaks S3."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_atri.search import SoundIndex
from modeling_atri.search.index import nearest
from modeling_atri.search.index.tables import IndexedSound, IndexFacts, IndexTables
from tests.helpers.forks import check_call
from tests.helpers.object_storage import BUCKET, put, remove_all, s3_server
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.heavy
pytest.importorskip("lancedb")
pytest.importorskip("moto.server")
NAMES = ["a.wav", "b/long.wav", "b/ü.flac"]


def recording(name: str, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed + NAMES.index(name))
    samples = 0.1 * rng.normal(size=16000 * (25 if "long" in name else 1))
    file = io.BytesIO()
    soundfile.write(file, samples.astype(np.float32), 16000, format=name.rpartition(".")[2])
    return file.getvalue()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with s3_server() as options:
        yield options


@pytest.fixture
def sounds(tmp_path) -> Path:
    folder = tmp_path / "sounds"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(recording(name))
    return folder


def vectors(index: SoundIndex) -> dict[str, np.ndarray]:
    """The vector of each row, by path, kind and start."""
    rows = index.tables.rows().to_pylist()
    return {f"{row['path']} {row['kind']} {row['start_s']}": np.array(row["vector"]) for row in rows}


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, vector in first.items():
        np.testing.assert_allclose(vector, second[name], atol=1e-5)


def test_an_index_on_object_storage(server, sounds, tmp_path):
    address = f"s3://{BUCKET}/index"
    index = SoundIndex.open(address, tiny_model(), tiny_processor(), storage_options=server)
    assert index.add(sounds).num_encoded == 3
    here = SoundIndex.open(tmp_path / "index", tiny_model(), tiny_processor())
    here.add(sounds)
    assert_same(vectors(index), vectors(here))
    assert [hit.path for hit in index.search("a dog", "en")] == [hit.path for hit in here.search("a dog", "en")]

    check_call(add_more, address, server, sounds)  # another process
    assert index.add(sounds).num_encoded == 0
    assert index.tables.count_sounds() == 4
    index.optimize()
    assert index.remove(["more.wav"]) == 1
    assert_same(vectors(index), vectors(here))


def test_an_index_on_object_storage_that_was_made_anew_gives_no_old_answers(server):
    address = f"s3://{BUCKET}/index"
    sound = IndexedSound("a.wav", "", 1.0, [(0.0, 1.0)], np.ones((1, 1), np.float32), np.ones(1, np.float32))
    old = IndexTables.create(address, IndexFacts(None, "f", 1), server)
    old.append([sound])
    other = IndexTables.open(address, server)
    other.append([replace(sound, path="b.wav")])  # another process may write
    assert old.count_sounds() == 2
    old.check_present()
    remove_all(server, "index/")
    with pytest.raises(ValueError, match="deleted or made anew since it was opened"):
        old.check_present()
    IndexTables.create(address, IndexFacts(None, "f", 1), server).append([sound])
    with pytest.raises(ValueError, match="deleted or made anew since it was opened"):
        nearest.search(old, np.ones((1, 1), np.float32), 1)


def add_more(address: str, options: dict[str, str], sounds: Path) -> None:
    (sounds / "more.wav").write_bytes(recording("a.wav", seed=7))
    index = SoundIndex.open(address, tiny_model(), tiny_processor(), storage_options=options)
    assert index.add(sounds).num_encoded == 1


def test_sounds_on_object_storage(server, sounds, tmp_path):
    for name in NAMES:
        put(server, f"sounds/{name}", recording(name))
    put(server, "sounds/broken.wav", b"no sound")
    there = SoundIndex.open(tmp_path / "there", tiny_model(), tiny_processor(), storage_options=server)
    summary = there.add(f"s3://{BUCKET}/sounds/")
    assert (summary.num_encoded, list(summary.failures)) == (3, ["broken.wav"])
    here = SoundIndex.open(tmp_path / "here", tiny_model(), tiny_processor())
    here.add(sounds)
    assert_same(vectors(there), vectors(here))
    facts = [index.tables.files(["path", "size", "content"]).sort_by("path") for index in (there, here)]
    assert facts[0].equals(facts[1])
    assert {hit.file for hit in there.search("a dog", "en")} == {f"s3://{BUCKET}/sounds/{name}" for name in NAMES}

    put(server, "sounds/a.wav", recording("a.wav", seed=1) + b"\0\0")
    summary = there.add(f"s3://{BUCKET}/sounds")
    assert (summary.num_sounds, summary.num_encoded, summary.num_dropped) == (3, 1, 0)
