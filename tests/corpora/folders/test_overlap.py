import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

import modeling_atri.corpora.folders.dropping as dropping_module
from modeling_atri.corpora.clips.clip import OVERLAP, Clip, Corpus
from modeling_atri.corpora.folders.dropping import drop_overlaps
from modeling_atri.corpora.folders.overlap import find_overlaps
from modeling_atri.corpora.folders.prepared import PreparedClip, read_clips
from modeling_atri.corpora.folders.writing import write_corpus
from modeling_atri.corpora.rows.bad_rows import read_bad_rows
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.files import write_json_lines
from tests.helpers.corpora import noise, write_sound


def prepare(folder, sounds, **source_ids):
    """A prepared folder of these files by name."""
    clips = [
        Clip(name, path, {"eng_Latn": [f"{name} {path.stem}"]}, tuple(source_ids.get(name, ())))
        for name, path in sounds.items()
    ]
    write_corpus(Corpus(folder.name, clips, [], [], {}), folder)
    return read_clips(folder)


@pytest.fixture
def sets(tmp_path):
    """Training clips of which one is a test clip by its id, one by its samples, one re-encoded, and two are none."""
    sounds = tmp_path / "sounds"
    paths = {number: write_sound(sounds / f"{number}.wav", number, seconds=4.0) for number in range(6)}
    soundfile.write(sounds / "same.flac", *soundfile.read(paths[1], dtype="int16"))
    soundfile.write(sounds / "like.ogg", 0.5 * soxr.resample(noise(2, 4.0), 16_000, 22_050), 22_050)
    train = prepare(
        tmp_path / "train",
        {"a": paths[3], "b": sounds / "same.flac", "c": sounds / "like.ogg", "d": paths[4], "e": paths[5]},
        a=["freesound:7"],
        d=["youtube:7"],
    )
    test = prepare(tmp_path / "test", {"x": paths[0], "y": paths[1], "z": paths[2]}, x=["clotho:x.wav", "freesound:7"])
    return train, test


def test_overlaps(sets):
    overlaps, unread, unheard = find_overlaps(*sets)
    assert unread == unheard == []
    assert [(item.train.audio_id, item.test.audio_id, item.by) for item in overlaps] == [
        ("a", "x", ("id",)),
        ("b", "y", ("samples", "sound")),
        ("c", "z", ("sound",)),
    ]
    assert overlaps[0].bit_errors is None
    assert overlaps[1].bit_errors == 0.0
    assert 0 < overlaps[2].bit_errors < 0.2
    assert overlaps[0].describe() == {
        "train": {"data": str(overlaps[0].train.folder), "audio_id": "a"},
        "test": {"data": str(overlaps[0].test.folder), "audio_id": "x"},
        "by": ["id"],
        "bit_errors": None,
    }


def test_ids_alone_need_no_recordings(sets):
    train, test = sets
    for clip in (*train, *test):
        clip.sound.unlink(missing_ok=True)
    overlaps, unread, _ = find_overlaps(train, test, by_sound=False)
    assert [(item.train.audio_id, item.by) for item in overlaps] == [("a", ("id",))]
    assert unread == []
    overlaps, unread, _ = find_overlaps(train, test)
    assert [item.by for item in overlaps] == [("id",)]
    assert {row.audio_id for row in unread} == set("abcdexyz")


@pytest.mark.parametrize(
    "train_ids, test_ids, is_shared",
    [
        (["clotho:Rain.wav"], ["clotho:Rain.wav"], True),
        (["clotho:Rain.wav"], ["clotho:Rain.wav", "freesound:1"], True),
        (["clotho:Rain.wav", "freesound:2"], ["clotho:Rain.wav", "freesound:1"], False),
        (["clotho:Wind.wav", "freesound:1"], ["clotho:Rain.wav", "freesound:1"], True),
        (["freesound:1"], ["clotho:Rain.wav", "freesound:1"], True),
        (["freesound:1"], ["soundbible:1"], False),
        (["youtube:Yabcdefghijk.wav"], ["youtube:abcdefghijk"], True),
        ([], [], False),
    ],
)
def test_numbers_on_freesound_go_before_names(train_ids, test_ids, is_shared):
    train, test = (
        [PreparedClip(Path("none"), {"file_name": "a.wav", "source_ids": ids})] for ids in (train_ids, test_ids)
    )
    assert len(find_overlaps(train, test, by_sound=False).overlaps) == is_shared


def test_what_cannot_be_known_by_sound_is_told(tmp_path):
    short, steady = write_sound(tmp_path / "short.wav", seconds=1.0), tmp_path / "steady.wav"
    soundfile.write(steady, np.sin(np.arange(64_000) / 5), 16_000)
    clips = prepare(
        tmp_path / "data", {"short": short, "steady": steady, "long": write_sound(tmp_path / "l.wav", 1, 4)}
    )
    found = find_overlaps(clips, clips)
    assert [clip.audio_id for clip in found.unheard] == 2 * ["short", "steady"]
    assert [(item.train.audio_id, item.by) for item in found.overlaps] == [
        ("short", ("samples",)),
        ("steady", ("samples",)),
        ("long", ("samples", "sound")),
    ]


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
    clips = prepare(second, {clip.audio_id: clip.sound for clip in sets[0]})
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


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        read_clips(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('\n{"audio_id": "x"}\n')
    with pytest.raises(ValueError, match="line 2: this is no row with a `file_name`"):
        read_clips(tmp_path)
