"""Long recordings: what is written is what is heard, the same for the same seed, with queries in the languages."""

import json
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from modeling_atri.corpora.soundscapes.long_recordings import (
    Event,
    Scene,
    make_long_recording,
    queries_of,
    soundscape_source,
    write_long_recordings,
)


pytestmark = pytest.mark.heavy

RATE = 16_000


def tone_source(rng: np.random.Generator) -> Scene:
    """A tone of one of four frequencies, which is heard in the middle of its scene, so that it can be found again."""
    number = int(rng.integers(4))
    size = int(rng.integers(4 * RATE, 9 * RATE))
    waveform = np.zeros(size, dtype=np.float32)
    start, end = RATE, size - RATE
    waveform[start:end] = 0.3 * np.sin(2 * np.pi * 500 * (number + 1) * np.arange(end - start) / RATE)
    captions = {"eng_Latn": [f"tone {number}", f"pitch {number}"], "fra_Latn": [f"ton {number}", f"son {number}"]}
    return Scene(waveform, [Event(start / RATE, end / RATE, captions, f"tone {number}")])


def heard_spans(waveform: np.ndarray, number: int) -> np.ndarray:
    """Whether each tenth of a second has the frequency of the tone, found by its energy."""
    frames = waveform[: len(waveform) // 1600 * 1600].reshape(-1, 1600)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(1600), axis=1))
    return spectrum[:, 50 * (number + 1)] > 20


@pytest.mark.parametrize("seed", range(3))
def test_events_are_where_they_are_heard(seed):
    recording = make_long_recording(tone_source, np.random.default_rng(seed), 60, 90)
    assert 60 <= recording.duration_s <= 90
    assert recording.waveform.dtype == np.float32 and np.abs(recording.waveform).max() <= 1
    for query in queries_of(recording.events, np.random.default_rng(0)):
        number = int(query.group_id[-1])
        frames = np.arange(len(recording.waveform) // 1600) / 10
        told = np.zeros(len(frames), dtype=bool)
        for start, end in query.windows:
            told |= (frames + 0.1 > start) & (frames < end)
        assert np.mean(told != heard_spans(recording.waveform, number)) < 0.02


def test_noise_fills_the_gaps():
    waveform = make_long_recording(tone_source, np.random.default_rng(1), 60, 60).waveform
    frames = np.sqrt(np.mean(np.square(waveform[: 60 * RATE].reshape(-1, RATE // 10)), axis=1))
    assert -65 < 20 * np.log10(frames.min()) < -45


def test_scenes_are_apart_or_abut_or_overlap():
    events = [
        event
        for seed in range(5)
        for event in make_long_recording(tone_source, np.random.default_rng(seed), 60, 90).events
    ]
    # Each scene has a second of silence at both ends.
    gaps = np.array([after.start_s - 2 - before.end_s for before, after in pairwise(events)])
    gaps = gaps[np.abs(gaps) < 30]
    assert (gaps > 1).any() and (np.abs(gaps) < 1e-3).any() and (gaps < -0.2).any()


def test_a_query_has_all_spans_of_its_group():
    events = [
        Event(10.0, 15.0, {"eng_Latn": ["a", "b"], "fra_Latn": ["c", "d"]}, "x"),
        Event(14.0, 18.0, {"eng_Latn": ["a", "b"], "fra_Latn": ["c", "d"]}, "x"),
        Event(1.0, 2.0, {"eng_Latn": ["a", "b"], "fra_Latn": ["c", "d"]}, "x"),
        Event(3.0, 4.0, {"eng_Latn": ["e"], "fra_Latn": ["f"]}, "y"),
    ]
    first, second = queries_of(events, np.random.default_rng(0))
    assert first.windows == [(1.0, 2.0), (10.0, 18.0)] and second.windows == [(3.0, 4.0)]
    assert first.captions in ({"eng_Latn": "a", "fra_Latn": "c"}, {"eng_Latn": "b", "fra_Latn": "d"})


def test_files_are_those_of_castella_and_the_same_for_the_same_seed(tmp_path):
    path = write_long_recordings(tmp_path / "a", tone_source, 2, seed=5, min_duration_s=20, max_duration_s=30)
    again = write_long_recordings(tmp_path / "b", tone_source, 2, seed=5, min_duration_s=20, max_duration_s=30)
    other = write_long_recordings(tmp_path / "c", tone_source, 1, seed=6, min_duration_s=20, max_duration_s=30)
    assert path == tmp_path / "a" / "moments.jsonl" and path.read_bytes() == again.read_bytes() != other.read_bytes()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {line["language"] for line in lines} == {"eng_Latn", "fra_Latn"}
    assert len({line["qid"] for line in lines}) == len(lines)
    sounds = {file.stem: file for file in path.parent.glob("*.flac")}
    assert sounds.keys() == {line["vid"] for line in lines}
    for name, sound in sounds.items():
        assert sound.read_bytes() == (tmp_path / "b" / f"{name}.flac").read_bytes()
        duration_s = soundfile.info(sound).duration
        for line in lines:
            if line["vid"] == name:
                assert line["duration"] == pytest.approx(duration_s, abs=1e-3)
                assert all(0 <= start < end <= line["duration"] for start, end in line["relevant_windows"])


def test_generated_soundscapes_have_their_captions_in_eight_languages():
    recording = make_long_recording(soundscape_source(heldout=True), np.random.default_rng(0), 60, 60)
    assert recording.events
    for event in recording.events:
        assert 3 <= event.end_s - event.start_s <= 20
        assert len(event.captions) == 8


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_recordings": 0}, "at least 1"),
        ({"seed": -1}, "but they are 1 and -1"),
        ({"min_duration_s": 70, "max_duration_s": 60}, "are 70 and 60"),
        ({"min_duration_s": 2, "max_duration_s": 3}, "does not fit into a recording"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_long_recordings(tmp_path, tone_source, **({"num_recordings": 1} | options))
    assert not (tmp_path / "moments.jsonl").exists()


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "moments.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="already exists"):
        write_long_recordings(tmp_path, tone_source, 1)
    assert (tmp_path / "moments.jsonl").read_text() == "mine"
