from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_atri.corpora.folders.overlap import find_overlaps
from modeling_atri.corpora.folders.prepared import PreparedClip, read_clips
from tests.helpers.corpora import prepare_folder, write_sound


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
    clips = prepare_folder(
        tmp_path / "data", {"short": short, "steady": steady, "long": write_sound(tmp_path / "l.wav", 1, 4)}
    )
    found = find_overlaps(clips, clips)
    assert [clip.audio_id for clip in found.unheard] == 2 * ["short", "steady"]
    assert [(item.train.audio_id, item.by) for item in found.overlaps] == [
        ("short", ("samples",)),
        ("steady", ("samples",)),
        ("long", ("samples", "sound")),
    ]


def test_folders_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        read_clips(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('\n{"audio_id": "x"}\n')
    with pytest.raises(ValueError, match="line 2: this is no row with a `file_name`"):
        read_clips(tmp_path)
