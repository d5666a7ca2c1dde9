"""Training clips of overlaps, taken out of their folders."""

import json

import pytest

import modeling_atri.corpora.folders.dropping as dropping_module
from modeling_atri.corpora.clips.clip import OVERLAP
from modeling_atri.corpora.folders.dropping import drop_overlaps
from modeling_atri.corpora.folders.overlap import find_overlaps
from modeling_atri.corpora.folders.prepared import read_clips
from modeling_atri.corpora.rows.bad_rows import read_bad_rows
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.files import write_json_lines
from tests.helpers.corpora import prepare_folder


def test_dropped_rows_are_kept_aside_and_counted(sets, tmp_path):
    overlaps = find_overlaps(*sets).overlaps
    folder = tmp_path / "train"
    before = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert drop_overlaps(overlaps[:1]) == {folder: 1}
    assert drop_overlaps(overlaps[1:]) == {folder: 2}
    assert load_rows(folder)["audio_id"][:] == ["d", "e"]
    dropped = [json.loads(line) for line in (folder / "overlap.jsonl").read_text("utf-8").splitlines()]
    assert dropped == before[:3]
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert (report["clips"], report["captions"], report["left_out"]) == (2, {"eng_Latn": 2}, {OVERLAP: 3})
    assert report["hours"] == round(8 / 3600, 4)
    rows = read_bad_rows(folder / "left_out.jsonl")
    assert rows[0].reason == f"it is x of {tmp_path / 'test'}, by id"
    assert find_overlaps(read_clips(folder), sets[1]).overlaps == []


def test_rows_without_seconds_are_measured(sets, tmp_path):
    folder, overlaps = tmp_path / "train", find_overlaps(*sets).overlaps
    rows = [clip.row for clip in sets[0]]
    for row in rows:
        del row["seconds"]
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert drop_overlaps(overlaps) == {folder: 3}
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert (report["clips"], report["hours"], report["left_out"]) == (2, round(8 / 3600, 4), {OVERLAP: 3})


@pytest.mark.parametrize("broken", ["report.json", "left_out.jsonl", "overlap.jsonl", "recording"])
def test_nothing_is_written_where_one_thing_is_wrong(sets, tmp_path, broken):
    """Of the second of two folders, so that the first would have been cut already."""
    first, second = tmp_path / "train", tmp_path / "train_2"
    clips = prepare_folder(second, {clip.audio_id: clip.sound for clip in sets[0]})
    if broken == "recording":
        del clips[3].row["seconds"]
        (second / "metadata.jsonl").write_text("".join(f"{json.dumps(clip.row)}\n" for clip in clips))
    else:
        (second / broken).write_text('{"a": 1\n')
    overlaps = find_overlaps([*sets[0], *clips], sets[1]).overlaps
    if broken == "recording":
        clips[3].sound.unlink()
    before = {path: path.read_bytes() for folder in (first, second) for path in folder.iterdir()}
    with pytest.raises(ValueError, match="d of .*train_2 lasts is not known" if broken == "recording" else broken):
        drop_overlaps(overlaps)
    assert {path: path.read_bytes() for folder in (first, second) for path in folder.iterdir()} == before


def test_a_drop_that_was_stopped_is_done_by_the_same_call(sets, tmp_path, monkeypatch):
    folder, overlaps = tmp_path / "train", find_overlaps(*sets).overlaps

    def stop(path, rows):
        if path.name == "metadata.jsonl":
            raise KeyboardInterrupt
        write_json_lines(path, rows)

    with monkeypatch.context() as patch:
        patch.setattr(dropping_module, "write_json_lines", stop)
        with pytest.raises(KeyboardInterrupt):
            drop_overlaps(overlaps)
    assert len(read_clips(folder)) == 5
    drop_overlaps(overlaps)
    assert load_rows(folder)["audio_id"][:] == ["d", "e"]
    assert len((folder / "overlap.jsonl").read_text().splitlines()) == 3
    assert json.loads((folder / "report.json").read_text())["left_out"] == {OVERLAP: 3}


def test_a_set_is_not_emptied(sets, tmp_path):
    _, test = sets
    both = find_overlaps(test, test).overlaps
    before = (tmp_path / "test" / "metadata.jsonl").read_bytes()
    with pytest.raises(ValueError, match="All clips of .*test are in the test data too"):
        drop_overlaps(both)
    assert (tmp_path / "test" / "metadata.jsonl").read_bytes() == before
