import pytest

from modeling_atri.corpora.clips.clip import AMBIGUOUS_RECORDING, DUPLICATE_LINE, OTHER_CLIP
from modeling_atri.corpora.folders.writing import write_corpus
from modeling_atri.corpora.readers.audiocaps import read_audiocaps
from modeling_atri.corpora.rows.bad_rows import EMPTY_CAPTION, MISSING_LANGUAGE, MISSING_RECORDING, count_kinds
from modeling_atri.corpora.rows.load import load_rows
from tests.helpers.corpora import write_audiocaps, write_sound


ONE, TWO = "aaaaaaaaaaa", "-bbbbbbbbb_"


def read(tmp_path, rows, files, other_rows=None):
    """The corpus of these captions (and those of Japanese), and the names of the files that its clips have."""
    captions = {"eng_Latn": write_audiocaps(tmp_path / "test.csv", rows)}
    if other_rows is not None:
        captions["jpn_Jpan"] = write_audiocaps(tmp_path / "ja" / "test.csv", other_rows)
    for name in (*files, "unrelated.wav"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).touch()
    corpus = read_audiocaps(captions, tmp_path / "clips")
    return corpus, {clip.audio_id: str(clip.sound.relative_to(tmp_path / "clips")) for clip in corpus.clips}


@pytest.mark.parametrize(
    "name",
    [
        f"Y{TWO}.wav",
        f"{TWO}.flac",
        f"below/{TWO}.mp3",
        f"{TWO}_30.wav",
        f"Y{TWO}_30.wav",
        f"{TWO}_30000.wav",
        f"{TWO}_30_40.wav",
        f"Y{TWO}_30000_40000.flac",
        f"{TWO}_30.000_37.500.wav",
        "103.wav",
    ],
)
def test_names_of_clips(tmp_path, name):
    _, files = read(tmp_path, [(103, TWO, 30, "a"), (104, TWO, 30, "b")], [name])
    assert files == {f"{TWO}_30": name}


@pytest.mark.parametrize(
    "name", [f"{TWO}_40.wav", f"{TWO}_300.wav", f"{TWO}_30_50.wav", f"Z{TWO}.wav", f"{TWO}x.wav", f"{TWO[:-1]}.wav"]
)
def test_names_of_other_clips(tmp_path, name):
    corpus, files = read(tmp_path, [(103, TWO, 30, "a")], [name])
    assert files == {}
    (row,) = corpus.left_out
    assert (row.audio_id, row.kind) == (f"{TWO}_30", MISSING_RECORDING)
    assert f"({TWO}, 30 s)" in row.reason or f"others of its video are {name}" in row.reason


def test_captions_of_a_clip_are_collected_and_start_times_kept_apart(tmp_path):
    rows = [(1, ONE, 0, "a"), (2, TWO, 30, "b"), (3, ONE, 0, "c"), (4, TWO, 130, "d"), (5, TWO, 30.0, "e")]
    corpus, files = read(tmp_path, rows, [f"Y{ONE}.wav", f"Y{TWO}_30.wav", f"Y{TWO}_130000_140000.wav"])
    assert files == {
        f"{ONE}_0": f"Y{ONE}.wav",
        f"{TWO}_30": f"Y{TWO}_30.wav",
        f"{TWO}_130": f"Y{TWO}_130000_140000.wav",
    }
    assert [clip.captions for clip in corpus.clips] == [
        {"eng_Latn": ["a", "c"]},
        {"eng_Latn": ["b", "e"]},
        {"eng_Latn": ["d"]},
    ]
    assert corpus.clips[1].source_ids == corpus.clips[2].source_ids == (f"youtube:{TWO}",)


def test_a_file_that_may_be_of_several_clips_is_nobodys(tmp_path):
    rows = [(1, ONE, 30, "a"), (2, ONE, 130, "b"), (3, TWO, 1, "c"), (4, TWO, 1000, "d")]
    corpus, files = read(tmp_path, rows, [f"Y{ONE}.wav", f"Y{ONE}_30.wav", f"{TWO}_1000.wav"])
    assert files == {f"{ONE}_30": f"Y{ONE}_30.wav"}  # the name says which one
    reasons = {row.audio_id: (row.kind, row.reason) for row in corpus.left_out}
    assert reasons[f"{ONE}_130"][0] == reasons[f"{TWO}_1"][0] == reasons[f"{TWO}_1000"][0] == AMBIGUOUS_RECORDING
    assert "which start at 30, 130 s" in reasons[f"{ONE}_130"][1]
    assert "which start at 1, 1000 s" in reasons[f"{TWO}_1"][1]  # seconds or milliseconds


def test_several_files_of_a_clip_are_not_chosen_from(tmp_path):
    corpus, files = read(tmp_path, [(1, ONE, 0, "a")], [f"16k/Y{ONE}.wav", f"32k/Y{ONE}.wav"])
    assert files == {}
    assert corpus.left_out[0].kind == AMBIGUOUS_RECORDING
    assert f"16k/Y{ONE}.wav, 32k/Y{ONE}.wav; name a folder" in corpus.left_out[0].reason


def test_a_caption_that_a_language_lacks_is_lost_in_all(tmp_path):
    rows = [(1, ONE, 0, "a"), (2, ONE, 0, "b"), (3, ONE, 0, "c"), (4, ONE, 0, "d"), (5, TWO, 0, "e")]
    japanese = [(4, ONE, 0, "D"), (1, ONE, 0, " A "), (2, ONE, 0, "  "), (6, ONE, 0, "F"), (5, ONE, 0, "E")]
    corpus, _ = read(tmp_path, rows, [f"Y{ONE}.wav", f"Y{TWO}.wav"], japanese)
    assert [clip.captions for clip in corpus.clips] == [{"eng_Latn": ["a", "d"], "jpn_Jpan": ["A", "D"]}]
    assert [(row.place, row.audio_id, row.kind) for row in corpus.lost_captions] == [
        ("caption 2", f"{ONE}_0", EMPTY_CAPTION),
        ("caption 3", f"{ONE}_0", MISSING_LANGUAGE),
        ("caption 6", f"{ONE}_0", MISSING_LANGUAGE),
        ("caption 5", f"{TWO}_0", OTHER_CLIP),
    ]
    assert corpus.lost_captions[1].reason == "it is missing in jpn_Jpan"
    assert [(row.audio_id, row.kind) for row in corpus.left_out] == [(f"{TWO}_0", MISSING_LANGUAGE)]


def test_spaces_around_cells(tmp_path):
    path, sound = tmp_path / "test.csv", tmp_path / "clips" / f"Y{ONE}.wav"
    path.write_text(f"audiocap_id, youtube_id ,start_time, caption\n 1, {ONE} , 30 , a \n")
    sound.parent.mkdir()
    sound.touch()
    (clip,) = read_audiocaps({"eng_Latn": path}, sound.parent).clips
    assert (clip.audio_id, clip.captions, clip.source_ids) == (
        f"{ONE}_30",
        {"eng_Latn": ["a"]},
        (f"youtube:{ONE}",),
    )


def test_a_line_that_is_there_twice_is_dropped_and_told(tmp_path):
    rows = [(1, ONE, 0, "a"), (2, ONE, 0, "b"), (1, ONE, 0, "a")]
    corpus, _ = read(tmp_path, rows, [f"Y{ONE}.wav"], rows[:2])
    assert [clip.captions["eng_Latn"] for clip in corpus.clips] == [["a", "b"]]
    assert [(row.place, row.audio_id, row.kind) for row in corpus.lost_captions] == [
        (f"{tmp_path / 'test.csv'}, line 4", f"{ONE}_0", DUPLICATE_LINE)
    ]


@pytest.mark.parametrize(
    "rows, other_rows, message",
    [
        ([(1, ONE, "soon", "a")], None, r"test\.csv, line 2: `start_time` must be seconds, 0 or more, but is 'soon'"),
        ([(1, ONE, 0, "a"), (2, ONE, "nan", "b")], None, "line 3: `start_time` must be .* 0 or more, but is 'nan'"),
        ([(1, ONE, 0, "a"), (2, ONE, "inf", "b")], None, "line 3: `start_time` must be .* 0 or more, but is 'inf'"),
        ([(1, ONE, 0, "a"), (2, ONE, "-1", "b")], None, "line 3: `start_time` must be .* 0 or more, but is '-1'"),
        ([(1, ONE, 0, "a"), (1, ONE, 0, "b")], None, r"line 3: the `audiocap_id` '1' is there twice, with another"),
        ([(1, ONE, 0)], None, "line 2: it has too few cells"),
        ([(1, ONE, 0, "a")], [(2, ONE, 0, "a")], "No caption in jpn_Jpan is parallel to one in eng_Latn"),
    ],
)
def test_faulty_files(tmp_path, rows, other_rows, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, rows, [], other_rows)


def test_real_captions_in_two_languages_are_parallel_rows(shared_dir, tmp_path):
    """All 975 test clips of AudioCaps with their Japanese, of which every third has a recording here."""
    folder = shared_dir / "formats" / "ml-audiocaps"
    captions = {"eng_Latn": folder / "en" / "test.csv", "jpn_Jpan": folder / "ja" / "test.csv"}
    (tmp_path / "clips").mkdir()
    sound = write_sound(tmp_path / "noise.wav").read_bytes()
    ids = [line.split(",")[1] for line in captions["eng_Latn"].read_text("utf-8").splitlines()[1:]]
    for name in list(dict.fromkeys(ids))[::3]:
        (tmp_path / "clips" / f"Y{name}.wav").write_bytes(sound)
    corpus = read_audiocaps(captions, tmp_path / "clips")
    report = write_corpus(corpus, tmp_path / "data")
    assert report["captions"] == {"eng_Latn": 5 * 325, "jpn_Jpan": 5 * 325}
    assert (report["left_out"], report["lost_captions"]) == ({MISSING_RECORDING: 650}, {})
    rows = load_rows(tmp_path / "data")
    assert len(rows) == 325
    assert rows[0]["audio_id"] == "7fmOlUlwoNg_20"
    assert rows[0]["captions"]["eng_Latn"][0] == "Constant rattling noise and sharp vibrations"
    assert rows[0]["captions"]["jpn_Jpan"][0] == "一定がガタガタいう音、鋭い振動"
    assert all(len(texts) == 5 for row in rows for texts in row["captions"].values())
    assert count_kinds(corpus.left_out) == {MISSING_RECORDING: 650}
