import json

import pytest

from modeling_atri.corpora.clips.clip import OVERLAP, Clip, Corpus
from modeling_atri.corpora.folders.dropping import drop_overlaps
from modeling_atri.corpora.folders.overlap import Overlap
from modeling_atri.corpora.folders.prepared import read_clips
from modeling_atri.corpora.folders.writing import write_corpus
from modeling_atri.corpora.rows.bad_rows import (
    EMPTY_CAPTION,
    MISSING_RECORDING,
    SHORT_RECORDING,
    UNREADABLE_RECORDING,
    BadRow,
    read_bad_rows,
)
from modeling_atri.corpora.rows.load import load_rows
from tests.helpers.corpora import write_sound


def captions(*texts: str) -> dict[str, list[str]]:
    return {"eng_Latn": list(texts), "fra_Latn": [text.upper() for text in texts]}


def clip(sound, name: str, *texts: str, **fields) -> Clip:
    return Clip(name, sound, captions(*(texts or ("a",))), **fields)


def corpus(*clips: Clip, left_out=(), lost=()) -> Corpus:
    return Corpus("Corpus", list(clips), list(left_out), list(lost), {"audio": "sounds"})


def test_the_folder_is_read_as_rows_wherever_the_recordings_are(tmp_path):
    elsewhere = write_sound(tmp_path / "elsewhere" / "x y.wav", seconds=0.5)
    below = write_sound(tmp_path / "data" / "wav" / "z.flac", seconds=0.25)
    made = corpus(
        clip(elsewhere, "first", "a", "b", source_ids=("youtube:x",), seconds=0.5), clip(below, "second", seconds=2.0)
    )
    report = write_corpus(made, tmp_path / "data")
    lines = [json.loads(line) for line in (tmp_path / "data" / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert [line["file_name"] for line in lines] == [str(elsewhere), "wav/z.flac"]
    assert lines[0] | {"file_name": ""} == {
        "file_name": "",
        "audio_id": "first",
        "captions": captions("a", "b"),
        "source_ids": ["youtube:x"],
        "seconds": 0.5,
    }
    assert load_rows(tmp_path / "data").to_list() == [
        {
            "audio": {"path": str(path), "bytes": None},
            "audio_id": name,
            "captions": captions(*texts),
            "group_id": name,
        }
        for path, name, texts in ((elsewhere, "first", "ab"), (below, "second", "a"))
    ]
    assert report == {
        "corpus": "Corpus",
        "clips": 2,
        "hours": round(0.75 / 3600, 4),
        "captions": {"eng_Latn": 3, "fra_Latn": 3},
        "captions_per_clip": {"1": 1, "2": 1},
        "left_out": {},
        "lost_captions": {},
        "of_other_length": 1,
        "made_from": {"audio": "sounds"},
    }
    assert json.loads((tmp_path / "data" / "report.json").read_text("utf-8")) == report


def test_what_is_left_out_is_listed(tmp_path):
    good = write_sound(tmp_path / "good.wav")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    short = write_sound(tmp_path / "short.wav", seconds=0.1)
    missing = BadRow(None, "missing", MISSING_RECORDING, "there is no file of it")
    lost = BadRow("caption 2", "good", EMPTY_CAPTION, "it is empty")
    made = corpus(
        clip(tmp_path / "broken.wav", "broken"),
        clip(good, "good"),
        clip(short, "short"),
        clip(tmp_path / "gone.wav", "gone"),
        left_out=[missing],
        lost=[lost],
    )
    report = write_corpus(made, tmp_path / "data")
    left_out = read_bad_rows(tmp_path / "data" / "left_out.jsonl")
    assert left_out[0] == missing
    assert {row.audio_id: row.kind for row in left_out[1:]} == {
        "broken": UNREADABLE_RECORDING,
        "short": SHORT_RECORDING,
        "gone": MISSING_RECORDING,
    }
    assert report["left_out"] == {MISSING_RECORDING: 2, SHORT_RECORDING: 1, UNREADABLE_RECORDING: 1}
    assert report["lost_captions"] == {EMPTY_CAPTION: 1}
    assert read_bad_rows(tmp_path / "data" / "lost_captions.jsonl") == [lost]
    # Written again from better data, the old lists are gone.
    write_corpus(corpus(clip(good, "good")), tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["metadata.jsonl", "report.json"]


def test_clips_that_were_dropped_as_overlaps_stay_out(tmp_path):
    sounds = {name: write_sound(tmp_path / f"{name}.wav", seed) for seed, name in enumerate("abc")}
    made, folder = corpus(*(clip(path, name) for name, path in sounds.items())), tmp_path / "data"
    write_corpus(made, folder)
    first, second, _ = read_clips(folder)
    drop_overlaps([Overlap(first, second, ("id",), None)])
    reasons = (folder / "left_out.jsonl").read_bytes()
    report = write_corpus(made, folder)
    assert load_rows(folder)["audio_id"][:] == ["b", "c"]
    assert (report["clips"], report["left_out"]) == (2, {OVERLAP: 1})
    assert (folder / "left_out.jsonl").read_bytes() == reasons
    gone = BadRow(None, "a", MISSING_RECORDING, "there is no file of it")
    assert write_corpus(made._replace(clips=made.clips[1:], left_out=[gone]), folder)["left_out"] == {
        MISSING_RECORDING: 1
    }
    assert write_corpus(made, folder)["left_out"] == {OVERLAP: 1}
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match="1 of them, such as 'a', are none of these clips"):
        write_corpus(corpus(clip(sounds["a"], "Ya")), folder)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_copies_have_names_of_their_own(tmp_path):
    first, second = write_sound(tmp_path / "in" / "1.wav", seed=1), write_sound(tmp_path / "in" / "2.flac", seed=2)
    names = ["a/b?", "a_b?", "plain"]
    made = corpus(*(clip(path, name) for path, name in zip((first, second, second), names, strict=True)))
    write_corpus(made, tmp_path / "data", copy_audio=True)
    rows = load_rows(tmp_path / "data")
    paths = [row["audio"]["path"] for row in rows]
    assert [row["audio_id"] for row in rows] == names
    assert paths[2] == str(tmp_path / "data" / "sounds" / "plain.flac")
    contents = [(tmp_path / "data" / path) for path in paths]
    assert [path.read_bytes() for path in contents] == [path.read_bytes() for path in (first, second, second)]
    (tmp_path / "data").rename(tmp_path / "moved")
    assert len(load_rows(tmp_path / "moved")) == 3


def test_folders_of_another_make_stay(tmp_path):
    made = corpus(clip(write_sound(tmp_path / "a.wav"), "a"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.jsonl").touch()
    with pytest.raises(ValueError, match="was not made here"):
        write_corpus(made, tmp_path / "data")
    with pytest.raises(ValueError, match="is a file"):
        write_corpus(made, tmp_path / "a.wav")


def test_nothing_left(tmp_path):
    made = corpus(left_out=[BadRow(None, "x", MISSING_RECORDING, "there is no file of it")])
    with pytest.raises(ValueError, match="No clip of Corpus can be used. The first of 1 .* x: there is no file"):
        write_corpus(made, tmp_path / "data")
