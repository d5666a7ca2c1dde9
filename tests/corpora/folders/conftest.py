"""Training and test folders that share clips."""

import pytest
import soundfile
import soxr

from tests.helpers.corpora import noise, prepare_folder, write_sound


@pytest.fixture
def sets(tmp_path):
    """Training clips of which one is a test clip by its id, one by its samples, one re-encoded, and two are none."""
    sounds = tmp_path / "sounds"
    paths = {number: write_sound(sounds / f"{number}.wav", number, seconds=4.0) for number in range(6)}
    soundfile.write(sounds / "same.flac", *soundfile.read(paths[1], dtype="int16"))
    soundfile.write(sounds / "like.ogg", 0.5 * soxr.resample(noise(2, 4.0), 16_000, 22_050), 22_050)
    train = prepare_folder(
        tmp_path / "train",
        {"a": paths[3], "b": sounds / "same.flac", "c": sounds / "like.ogg", "d": paths[4], "e": paths[5]},
        a=["freesound:7"],
        d=["youtube:7"],
    )
    test = prepare_folder(
        tmp_path / "test", {"x": paths[0], "y": paths[1], "z": paths[2]}, x=["clotho:x.wav", "freesound:7"]
    )
    return train, test
