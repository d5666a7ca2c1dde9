"""Recordings judged by their headers."""

from pathlib import Path

import datasets
import pytest

from modeling_atri import AtriFeatureExtractor
from modeling_atri.audio_io import MIN_SECONDS
from modeling_atri.corpora.rows import recordings
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.rows.recordings import count_longer
from tests.helpers.rows import make_row, sound, write_folder


def test_the_shortest_recording_is_that_of_the_feature_extractor(tmp_path):
    extractor = AtriFeatureExtractor()
    assert extractor.min_num_samples / extractor.sampling_rate == MIN_SECONDS
    folder = write_folder(tmp_path, [make_row("a")])
    for num_samples, rate in ((2_400, 16_000), (7_200, 48_000), (6_615, 44_100), (1_200, 8_000)):
        (folder / "a.wav").write_bytes(sound(num_samples, rate))
        assert len(load_rows(folder)) == 1
        (folder / "a.wav").write_bytes(sound(num_samples - 10, rate))
        with pytest.raises(ValueError, match="too short"):
            load_rows(folder)


def test_a_header_is_read_once_and_again_when_the_file_changed(tmp_path, monkeypatch):
    read, audio_length = [], recordings.audio_length
    monkeypatch.setattr(recordings, "audio_length", lambda path: read.append(path) or audio_length(path))
    rows = load_rows(write_folder(tmp_path, [make_row("a"), make_row("b")]))
    load_rows(rows)
    assert len(read) == 2
    (tmp_path / "a.wav").write_bytes(sound(100))
    with pytest.raises(ValueError, match="row 0: .*a.wav': it is too short"):
        load_rows(rows)
    assert len(read) == 3


def test_longer_recordings_are_counted(tmp_path):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b"), make_row("c")])
    (folder / "b.wav").write_bytes(sound(32_001))
    (folder / "c.wav").write_bytes(sound(96_003, rate=48_000))
    rows = load_rows(folder)
    assert [count_longer(rows, seconds) for seconds in (0.1, 2.0, 2.5)] == [3, 2, 0]
    content = [{"path": None, "bytes": (folder / f"{name}.wav").read_bytes()} for name in "abc"]
    embedded = datasets.Dataset.from_dict({"audio": content}).cast_column("audio", datasets.Audio(decode=False))
    assert count_longer(embedded, 2.0) == 2


def test_a_file_that_may_not_be_looked_at(tmp_path, monkeypatch):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b")])
    is_file = Path.is_file

    def refuse(path):
        if path.name == "b.wav":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    left_out = []
    load_rows(folder, left_out=left_out)
    assert [(row.place, row.kind) for row in left_out] == [("line 2", "unreadable recording")]
    assert "Permission denied" in left_out[0].reason
