import json

import pytest

from modeling_atri.corpora.clips.clip import OVERLAP, Clip, Corpus
from modeling_atri.corpora.folders.dropping import drop_overlaps
from modeling_atri.corpora.folders.joining import join_folders
from modeling_atri.corpora.folders.overlap import Overlap
from modeling_atri.corpora.folders.prepared import read_clips
from modeling_atri.corpora.folders.writing import write_corpus
from modeling_atri.corpora.rows.load import load_rows
from tests.helpers.corpora import write_sound


def prepare(folder, name: str, language: str = "eng_Latn", copy_audio: bool = False):
    sound = write_sound(folder.parent / "sounds" / f"{name}.wav")
    clip = Clip(name, sound, {language: [f"{name} one", f"{name} two"]}, (f"youtube:{name}",))
    write_corpus(Corpus("Corpus", [clip], [], [], {}), folder, copy_audio=copy_audio)
    return folder


def test_rows_and_recordings_of_all(tmp_path):
    first, second = prepare(tmp_path / "1", "a"), prepare(tmp_path / "2", "b", copy_audio=True)
    report = join_folders([first, second], tmp_path / "both")
    assert (report["clips"], report["captions"], report["hours"]) == (2, {"eng_Latn": 4}, round(1 / 3600, 4))
    rows = load_rows(tmp_path / "both")
    assert rows["audio_id"][:] == ["a", "b"]
    assert [row["audio"]["path"] for row in rows] == [
        str(tmp_path / "sounds" / "a.wav"),
        str(tmp_path / "2" / "sounds" / "b.wav"),
    ]
    assert [clip.row["source_ids"] for clip in read_clips(tmp_path / "both")] == [["youtube:a"], ["youtube:b"]]
    assert join_folders([first], tmp_path / "both")["clips"] == 1


def test_rows_without_seconds_are_measured(tmp_path):
    folder = prepare(tmp_path / "1", "a")
    row = json.loads((folder / "metadata.jsonl").read_text())
    del row["seconds"]
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    assert join_folders([folder], tmp_path / "both")["hours"] == round(0.5 / 3600, 4)
    assert read_clips(tmp_path / "both")[0].row["seconds"] == 0.5
    (tmp_path / "sounds" / "a.wav").unlink()
    with pytest.raises(ValueError, match="How long a of .*1 lasts is not known: its row has no `seconds`"):
        join_folders([folder], tmp_path / "both")


def test_what_was_dropped_as_an_overlap_stays_out(tmp_path):
    folders, both = [prepare(tmp_path / "1", "a"), prepare(tmp_path / "2", "b")], tmp_path / "both"
    join_folders(folders, both)
    first, second = read_clips(both)
    drop_overlaps([Overlap(first, second, ("id",), None)])
    report = join_folders(folders, both)
    assert (report["clips"], report["left_out"]) == (1, {OVERLAP: 1})
    assert [clip.audio_id for clip in read_clips(both)] == ["b"]
    with pytest.raises(ValueError, match="1 of them, such as 'a', are none of these clips"):
        join_folders(folders[1:], both)


def test_what_does_not_fit_together(tmp_path):
    first, french = prepare(tmp_path / "1", "a"), prepare(tmp_path / "2", "b", "fra_Latn")
    with pytest.raises(ValueError, match="2: b has captions in fra_Latn, those before in eng_Latn"):
        join_folders([first, french], tmp_path / "both")
    with pytest.raises(ValueError, match="the `audio_id` 'a' is in a folder before"):
        join_folders([first, first], tmp_path / "both")
    assert not (tmp_path / "both").exists()
