"""`atri index` in processes that `torchrun` and `accelerate launch` start."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_atri.search import SoundIndex
from tests.helpers.launched_commands import LAUNCHERS, launch
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.slow
pytest.importorskip("lancedb")
NUM_SOUNDS = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, and sounds."""
    folder = tmp_path_factory.mktemp("launch")
    tiny_model().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    (folder / "sounds").mkdir()
    for number in range(NUM_SOUNDS):
        samples = 0.1 * np.random.default_rng(number).normal(size=16000 * (25 if number == 2 else 1))
        soundfile.write(folder / "sounds" / f"{number}.wav", samples.astype(np.float32), 16000)
    (folder / "sounds" / "broken.wav").write_bytes(b"no sound")
    return folder


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_write_the_rows_of_one(folder, launcher):
    command = ["index", str(folder / "sounds"), str(folder / launcher), "--model", str(folder / "model")]
    ended = launch(launcher, command, folder)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert ended.stdout.count("sounds  encoded") == 1, "said by one process, not by each"
    assert ended.stdout.count("broken.wav: Cannot decode") == 1
    index = SoundIndex.open(folder / launcher)
    assert sorted(path.name for path in (folder / launcher).glob(".lock*")) == [".lock", ".lock.1"], (
        "both have written"
    )

    alone = SoundIndex.open(folder / f"{launcher}-alone", folder / "model")
    alone.add(folder / "sounds")
    rows = [each.tables.rows().sort_by("id") for each in (index, alone)]
    assert rows[0].drop(["vector"]).equals(rows[1].drop(["vector"]))
    vectors = [np.stack(of["vector"].to_pylist()) for of in rows]
    np.testing.assert_allclose(*vectors, atol=1e-5)
