"""What is the same sound, and what is not: on noise, tones, and real recordings."""

import io
import json

import numpy as np
import pytest
import soundfile
import soxr

from modeling_atri.audio_io import load_audio
from modeling_atri.corpora.folders import sound_fingerprints
from modeling_atri.corpora.folders.sound_fingerprints import (
    HOP,
    MAX_BIT_ERRORS,
    NUM_BITS,
    FingerprintIndex,
    SoundFingerprint,
    fingerprint,
    fingerprint_waveform,
)
from tests.helpers.corpora import noise, write_sound


SOUNDS = [noise(seed, seconds=6.0).astype(np.float32) for seed in range(4)]


@pytest.fixture(scope="module")
def index() -> FingerprintIndex:
    return FingerprintIndex([fingerprint_waveform(sound) for sound in SOUNDS])


def encoded(waveform: np.ndarray, rate: int = 16_000, **options) -> np.ndarray:
    """Through a file and back to 16 kHz."""
    file = io.BytesIO()
    soundfile.write(file, soxr.resample(waveform, 16_000, rate), rate, **options)
    return load_audio(file.getvalue())


def found(index: FingerprintIndex, waveform: np.ndarray) -> list[int]:
    return [match.number for match in index.find(fingerprint_waveform(np.asarray(waveform, dtype=np.float32)))]


@pytest.mark.parametrize(
    "change",
    [
        lambda sound: sound,
        lambda sound: 0.1 * sound,
        lambda sound: sound[40_001:],
        lambda sound: np.concatenate([SOUNDS[0][:20_003] * 0.5, sound[:60_000]]),
        lambda sound: encoded(sound, 8_000, format="WAV", subtype="ULAW"),
        lambda sound: encoded(sound, 44_100, format="OGG", subtype="VORBIS"),
        lambda sound: encoded(sound, format="MP3", subtype="MPEG_LAYER_III"),
    ],
)
def test_a_sound_is_found_again(index, change):
    assert 2 in found(index, change(SOUNDS[2]))
    assert set(found(index, change(SOUNDS[2]))) <= {0, 2}


def test_other_sounds_are_not_found(index):
    time = np.arange(96_000) / 16_000
    for other in (
        noise(9, seconds=6.0),
        np.sin(2 * np.pi * 440 * time),
        np.zeros(96_000),
        SOUNDS[0][::-1],
        SOUNDS[0][:30_000],  # too short to tell
        np.zeros(100),
    ):
        assert found(index, other) == []


def test_tones_and_silence_are_not_heard():
    time = np.arange(96_000) / 16_000
    for waveform in (np.zeros(96_000), np.sin(2 * np.pi * 440 * time), 1e-5 * noise(0, 6.0)):
        assert not fingerprint_waveform(waveform.astype(np.float32)).is_heard.any()
    assert len(fingerprint_waveform(np.zeros(4_000, np.float32)).words) == 0


def test_equal_samples_in_other_files(tmp_path):
    for name in ("a.wav", "b.flac"):
        write_sound(tmp_path / name, seed=0, seconds=6.0)
    first, second = fingerprint(tmp_path / "a.wav"), fingerprint(tmp_path / "b.flac")
    assert first.digest == second.digest
    index = FingerprintIndex([fingerprint_waveform(SOUNDS[0]), first])
    assert index.same_samples(second) == [1]
    assert {match.number for match in index.find(second)} == {0, 1}
    with pytest.raises(ValueError, match=r"none\.wav"):
        fingerprint(tmp_path / "none.wav")


def test_bit_errors_are_those_of_the_best_offset():
    """Against all offsets, word by word."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, size=(3, 200), dtype=np.uint32)
    recordings = [SoundFingerprint(str(row), words[row], np.ones(200, bool)) for row in range(3)]
    flips = rng.random((100, NUM_BITS)) < 0.1
    flipped = words[1, 60:160] ^ np.packbits(flips, axis=1, bitorder="little").view("<u4")[:, 0]
    heard = rng.random(100) < 0.9
    (match,) = FingerprintIndex(recordings).find(SoundFingerprint("", flipped, heard))
    assert match.number == 1
    assert match.bit_errors == pytest.approx(flips[heard].mean())
    assert match.seconds == pytest.approx(heard.sum() * HOP / 16_000)


def test_an_empty_index_finds_nothing():
    index = FingerprintIndex([])
    assert found(index, SOUNDS[0]) == []
    assert index.same_samples(fingerprint_waveform(SOUNDS[0])) == []


def read_scenes(folder, step: int = 1) -> tuple[list[str], list[set[str]], list[SoundFingerprint]]:
    """Names, recordings (by fold and number on Freesound) and fingerprints of every so-manieth ESC-10 scene."""
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()][::step]
    recordings = [{source["clip"].rpartition("-")[0].rpartition("-")[0] for source in row["sources"]} for row in rows]
    names = [str(folder / row["file_name"]) for row in rows]
    return names, recordings, [fingerprint(name) for name in names]


@pytest.mark.heavy
def test_real_recordings(shared_dir, monkeypatch):
    """ESC-10 scenes: what shares a recording may match, what does not never comes near."""
    names, clips, prints = read_scenes(shared_dir / "esc10" / "dev", step=2)
    index = FingerprintIndex(prints)
    monkeypatch.setattr(sound_fingerprints, "MAX_BIT_ERRORS", 0.4)
    for own, item in enumerate(prints):
        matches = index.find(item)
        assert matches[0][:2] == (own, 0.0)
        assert all(clips[own] & clips[match.number] for match in matches)
    for own in range(0, len(names), 10):
        waveform = encoded(load_audio(names[own]), 22_050, format="MP3", compression_level=0.9)
        best = index.find(fingerprint_waveform(waveform))[0]
        assert best.number == own
        assert best.bit_errors < 0.2 < MAX_BIT_ERRORS


@pytest.mark.slow
def test_all_pairs_of_real_recordings(shared_dir, monkeypatch):
    """1.4 million pairs, of which those that come near are one fire, published under two numbers."""
    parts = [read_scenes(shared_dir / "esc10" / split) for split in ("train", "dev")]
    recordings, prints = ([item for part in parts for item in part[place]] for place in (1, 2))
    num_strangers = sum(not (one & two) for place, one in enumerate(recordings) for two in recordings[:place])
    assert num_strangers == 1_398_364
    index = FingerprintIndex(prints)
    monkeypatch.setattr(sound_fingerprints, "MAX_BIT_ERRORS", 0.43)
    near = [
        recordings[own] | recordings[match.number]
        for own, item in enumerate(prints)
        for match in index.find(item)
        if not recordings[own] & recordings[match.number]
    ]
    assert near
    assert all({"2-28314", "2-30322"} <= both for both in near)


@pytest.mark.slow
def test_codecs_at_their_lowest_quality(shared_dir):
    names, _, prints = read_scenes(shared_dir / "esc10" / "dev")
    index = FingerprintIndex(prints)
    for own, name in enumerate(names):
        for options in ({"format": "MP3", "compression_level": 0.99}, {"format": "OGG", "compression_level": 1.0}):
            best = index.find(fingerprint_waveform(encoded(load_audio(name), **options)))[0]
            assert (best.number, best.bit_errors < 0.19) == (own, True)


def common_words(seed: int, length: int, num_halves: int = 6000) -> np.ndarray:
    """Words whose halves are few, as in sounds of one kind, so that many agree by chance."""
    halves = np.random.default_rng(100).integers(0, 2**16, size=num_halves).astype(np.uint32)
    chosen = np.random.default_rng(seed).choice(halves, size=(2, length))
    return chosen[0] | chosen[1] << np.uint32(16)


def damaged(words: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Words of which so many bits differ."""
    flips = np.random.default_rng(seed).random((len(words), NUM_BITS)) < share
    return words ^ np.packbits(flips, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)


def as_sound(words: np.ndarray) -> SoundFingerprint:
    return SoundFingerprint("", words, np.ones(len(words), bool))


@pytest.mark.parametrize(("side", "num_halves"), [("sound", 3000), ("index", 6000)])
def test_a_badly_damaged_copy_is_found_inside_hours_of_sound(side, num_halves):
    """Two hours, and six seconds of them with a quarter of the bits wrong."""
    hours, copy = common_words(0, 2 * 112_500, num_halves), common_words(1, 190, num_halves)
    places = [77, 100_000, len(hours) - 200]
    for place in places:
        hours[place : place + 190] = damaged(copy, 0.25, place)
    others = [as_sound(common_words(seed, 300, num_halves)) for seed in range(2, 8)]
    if side == "sound":
        matches = FingerprintIndex([*others, as_sound(copy)]).find(as_sound(hours))
        assert [match.number for match in matches] == [6]
    else:
        matches = FingerprintIndex([*others, as_sound(hours)]).find(as_sound(copy))
        assert [match.number for match in matches] == [6]
    assert 0.2 < matches[0].bit_errors < 0.3


def test_what_is_compared_is_bounded(monkeypatch):
    compared = []
    compare = FingerprintIndex._compare
    monkeypatch.setattr(FingerprintIndex, "_compare", lambda *args: compared.append(1) or compare(*args))
    index = FingerprintIndex([as_sound(common_words(0, 112_500))])
    index.find(as_sound(common_words(1, 11_250)))
    assert len(compared) <= 64 * (112_500 // 2**17 + 3) * (2 * 11_250 // 1024)


def test_a_file_is_read_in_blocks(tmp_path, monkeypatch):
    sound = np.concatenate([noise(seed, seconds=30.0) for seed in range(3)]).astype(np.float32)
    soundfile.write(tmp_path / "it.wav", sound, 16_000)
    expected = fingerprint_waveform(load_audio(tmp_path / "it.wav"))
    monkeypatch.setattr("modeling_atri.sndfile_streams_atri.BLOCK_LENGTH", 5000)
    one = fingerprint(tmp_path / "it.wav")
    assert one.digest == expected.digest
    np.testing.assert_array_equal(one.words, expected.words)
    np.testing.assert_array_equal(one.is_heard, expected.is_heard)


def test_a_real_sound_is_found_inside_a_long_recording(shared_dir):
    """A scene at a low level, through a telephone and with noise, between thirty others."""
    folder = shared_dir / "esc10"
    scenes = sorted((folder / "train").glob("*.ogg"))[:30]
    hidden = [load_audio(path) for path in sorted((folder / "dev").glob("*.ogg"))[:3]]
    loudness = [float(np.abs(sound).mean()) for sound in hidden]
    parts = [load_audio(path) for path in scenes]
    for number, sound in enumerate(hidden):
        telephone = encoded(0.5 * sound, 8_000, format="WAV", subtype="ULAW")
        parts.insert(7 + 9 * number, telephone + noise(number, seconds=len(telephone) / 16_000) * loudness[number])
    index = FingerprintIndex([fingerprint_waveform(sound) for sound in hidden])
    recording = np.concatenate(parts)
    length = len(hidden[0])
    beginnings = [(7 + 9 * number) * length // HOP * HOP for number in range(3)]  # of the same frames
    near = {number for number, start in enumerate(beginnings) if number in found(index, recording[start:][:length])}
    assert len(near) >= 2
    assert set(found(index, recording)) >= near
