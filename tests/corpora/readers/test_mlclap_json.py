import json

import pytest

from modeling_atri.corpora.readers.mlclap_json import read_mlclap_json
from modeling_atri.corpora.rows.bad_rows import EMPTY_CAPTION, MISSING_LANGUAGE, MISSING_RECORDING, UNEQUAL_CAPTIONS
from tests.helpers.corpora import write_items


def item(name: str, *captions: tuple[str, str | None]) -> dict:
    """As in ml-clap's `test.json`."""
    fields = {"wav": f"AudioCaps/waveforms/test/{name}.wav", "audio": f"/path/audiocaps/16k/{name}.wav"}
    fields |= {"duration": 10.0, "id": f"{name}.wav", "duration_sample": 160000}
    for number, (text, language) in enumerate(captions, start=1):
        fields[f"caption_{number}"] = text
        if language is not None:
            fields[f"source_lang_{number}"] = language
    return fields


def read(tmp_path, *files, languages=None, names=("Yaaaaaaaaaaa", "Ybbbbbbbbbbb", "Yccccccccccc")):
    for name in names:
        path = tmp_path / "waveforms" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    paths = [write_items(tmp_path / f"{number}.json", items, 5) for number, items in enumerate(files)]
    return read_mlclap_json(paths, tmp_path / "waveforms", languages)


def test_languages_of_the_captions(tmp_path):
    first = item("Yaaaaaaaaaaa", ("a", "eng_Latn"), ("A", "fra_Latn"), ("b", None), ("B", "fr"))
    second = item("Ybbbbbbbbbbb", ("C", "fra_Latn"), ("c", "eng_Latn"))
    corpus = read(tmp_path, [first, second])
    assert [clip.captions for clip in corpus.clips] == [
        {"eng_Latn": ["a", "b"], "fra_Latn": ["A", "B"]},
        {"eng_Latn": ["c"], "fra_Latn": ["C"]},
    ]
    assert corpus.clips[0].source_ids == ("youtube:aaaaaaaaaaa",)
    assert corpus.clips[0].seconds == 10.0


def test_captions_that_cannot_be_parallel_leave_the_clip_out(tmp_path):
    rows = [
        item("Yaaaaaaaaaaa", ("a", None), ("A", "fra_Latn")),
        item("Ybbbbbbbbbbb", ("b", None), ("c", None), ("B", "fra_Latn")),
        item("Yccccccccccc", ("d", None)),
    ]
    corpus = read(tmp_path, rows)
    assert [clip.captions["eng_Latn"] for clip in corpus.clips] == [["a"]]
    assert [row.kind for row in corpus.left_out] == [UNEQUAL_CAPTIONS, MISSING_LANGUAGE]
    assert corpus.left_out[0].reason == "its captions cannot be parallel: eng_Latn 2, fra_Latn 1"
    assert len(read(tmp_path, rows, languages=["eng_Latn"]).clips) == 3
    with pytest.raises(ValueError, match="No clip has as many captions in each of eng_Latn, fra_Latn"):
        read(tmp_path, rows[1:])


def test_a_null_caption_is_lost_in_all_languages(tmp_path):
    fields = item("Yaaaaaaaaaaa", ("a", None), ("A", "fra_Latn"), ("b", None), (None, "fra_Latn"))
    corpus = read(tmp_path, [fields])
    assert corpus.clips[0].captions == {"eng_Latn": ["a"], "fra_Latn": ["A"]}
    assert [(row.kind, row.reason) for row in corpus.lost_captions] == [(EMPTY_CAPTION, "it is empty in fra_Latn")]


def test_several_files(tmp_path):
    english = [item("Yaaaaaaaaaaa", ("a", None), ("b", None)), item("Ybbbbbbbbbbb", ("c", None))]
    german = [item("Yaaaaaaaaaaa", ("A", "deu_Latn"), ("B", "deu_Latn")), item("Ybbbbbbbbbbb", ("C", "deu_Latn"))]
    corpus = read(tmp_path, english, german)
    assert corpus.clips[0].captions == {"eng_Latn": ["a", "b"], "deu_Latn": ["A", "B"]}
    with pytest.raises(ValueError, match="has captions in eng_Latn already"):
        read(tmp_path, english, english)


def test_where_recordings_are(tmp_path):
    corpus = read(tmp_path, [item("Yddddddddddd", ("a", None)), item("Yaaaaaaaaaaa", ("b", None))])
    assert [clip.sound for clip in corpus.clips] == [tmp_path / "waveforms" / "Yaaaaaaaaaaa.wav"]
    assert [row.kind for row in corpus.left_out] == [MISSING_RECORDING]


@pytest.mark.parametrize(
    "rows, languages, message",
    [
        ([item("Yaaaaaaaaaaa", ("a", "frensh"))], None, "item 0, `source_lang_1`: .*frensh"),
        ([item("Yaaaaaaaaaaa", (3, None))], None, "`caption_1` must be a string or null, but is 3"),
        ([{"caption_1": "a"}], None, "one of `wav`, `audio` and `id` must name the clip"),
        ([item("Yaaaaaaaaaaa", ("a", None))], ["jpn_Jpan"], "No caption is in jpn_Jpan; there are eng_Latn"),
    ],
)
def test_faulty_files(tmp_path, rows, languages, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, rows, languages=languages)


@pytest.mark.parametrize("corpus_name, num_clips", [("AudioCaps", 957), ("Clotho", 1045)])
def test_real_files(shared_dir, tmp_path, corpus_name, num_clips):
    path = shared_dir / "formats" / "ml-clap" / corpus_name / "test.json"
    items = json.loads(path.read_text("utf-8"))["data"]
    for item in items:
        # On disk an apostrophe is an apostrophe, where ml-clap writes `&#39;`.
        (tmp_path / item["wav"].rpartition("/")[2].replace("&#39;", "'").replace("&amp;", "&")).touch()
    corpus = read_mlclap_json([path], tmp_path)
    assert len(corpus.clips) == num_clips
    assert corpus.left_out == corpus.lost_captions == []
    assert all(len(clip.captions["eng_Latn"]) == 5 for clip in corpus.clips)
    sources = {source_id.partition(":")[0] for clip in corpus.clips for source_id in clip.source_ids}
    assert sources == ({"youtube"} if corpus_name == "AudioCaps" else {"clotho", "freesound"})
    assert all(clip.source_ids for clip in corpus.clips)
