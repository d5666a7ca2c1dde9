"""Fingerprints are kept between runs: equal to those of the recording, and made again when it has changed."""

import os
import shutil

import numpy as np
import pytest
import soundfile

from modeling_atri.corpora.folders import kept_fingerprints
from modeling_atri.corpora.folders.kept_fingerprints import KEPT_NAME, KeptFingerprints
from modeling_atri.corpora.folders.sound_fingerprints import fingerprint


def write(path, seed: int = 0, seconds: float = 3.0) -> None:
    soundfile.write(path, np.random.default_rng(seed).normal(scale=0.1, size=int(16000 * seconds)), 16000)


def assert_same(found, expected) -> None:
    assert found.digest == expected.digest
    for name in ("words", "is_heard"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def made(monkeypatch):
    """The names of the recordings that are decoded."""
    names = []
    monkeypatch.setattr(kept_fingerprints, "fingerprint", lambda sound: names.append(sound.name) or fingerprint(sound))
    return names


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_fingerprints, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "modeling_atri"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "below").mkdir(parents=True)
    return tmp_path / "data"


@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.45, 0.7, 3.0, 3.1, 3.333])
def test_what_was_kept_equals_what_is_made(folder, made, seconds):
    sound = folder / "below" / "a.wav"
    write(sound, seconds=seconds)
    for _ in range(2):  # two runs
        kept = KeptFingerprints()
        for _ in range(2):
            assert_same(kept(sound), fingerprint(sound))
    assert made == ["a.wav"]


def test_a_changed_recording_is_made_again(folder, made):
    sound = folder / "a.wav"
    write(sound, seed=0)
    first = KeptFingerprints()(sound)
    write(sound, seed=1)  # of the same size
    os.utime(sound, ns=(7, 7))
    second = KeptFingerprints()(sound)
    assert made == ["a.wav", "a.wav"]
    assert_same(second, fingerprint(sound))
    assert first.digest != second.digest


def test_a_moved_touched_or_copied_recording_is_not_decoded(folder, made, tmp_path):
    sound = folder / "a.wav"
    write(sound)
    expected = KeptFingerprints()(sound)
    os.utime(sound, ns=(7, 7))
    assert_same(KeptFingerprints()(sound), expected)
    sound.rename(folder / "below" / "b.wav")
    assert_same(KeptFingerprints()(folder / "below" / "b.wav"), expected)
    folder.rename(tmp_path / "moved")
    assert_same(KeptFingerprints()(tmp_path / "moved" / "below" / "b.wav"), expected)
    assert made == ["a.wav"]


def test_another_version_is_made_again(folder, made, monkeypatch):
    write(folder / "a.wav")
    KeptFingerprints()(folder / "a.wav")
    monkeypatch.setattr(kept_fingerprints, "KEPT_NAME", "fingerprints-other")
    KeptFingerprints()(folder / "a.wav")
    assert made == ["a.wav", "a.wav"]


def test_what_cannot_be_read_is_an_error_each_time(folder):
    (folder / "a.wav").write_bytes(b"no sound")
    for _ in range(2):
        for name in ("a.wav", "missing.wav"):
            with pytest.raises(ValueError, match=name):
                KeptFingerprints()(folder / name)
    write(folder / "a.wav")
    assert_same(KeptFingerprints()(folder / "a.wav"), fingerprint(folder / "a.wav"))


def test_a_recording_that_changes_while_it_is_read_is_not_kept(folder, cache, monkeypatch):
    sound = folder / "a.wav"
    write(sound)

    def change(path):
        found = fingerprint(path)
        write(path, seed=1, seconds=2.5)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(kept_fingerprints, "fingerprint", change)
        KeptFingerprints()(sound)
    assert not list(cache.glob("*/*"))
    assert_same(KeptFingerprints()(sound), fingerprint(sound))


def test_a_cache_that_cannot_be_written_to(folder, made, tmp_path, caplog):
    write(folder / "a.wav")
    (tmp_path / "cache").touch()
    for _ in range(2):
        assert_same(KeptFingerprints()(folder / "a.wav"), fingerprint(folder / "a.wav"))
    assert made == ["a.wav"] * 2
    assert "Fingerprints are not kept" in caplog.text


def test_damaged_fingerprints_are_made_again(folder, cache, made):
    write(folder / "a.wav")
    expected = KeptFingerprints()(folder / "a.wav")
    for path in (cache / KEPT_NAME).glob("*.arrow"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert_same(KeptFingerprints()(folder / "a.wav"), expected)
    shutil.rmtree(cache / KEPT_NAME)
    assert_same(KeptFingerprints()(folder / "a.wav"), expected)
    assert made == ["a.wav"] * 3
