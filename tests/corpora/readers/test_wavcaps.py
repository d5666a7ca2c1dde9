import pytest

from modeling_atri.corpora.readers.wavcaps import read_wavcaps
from tests.helpers.corpora import write_items


def item(clip, caption: str, **fields) -> dict:
    """As in `fsd_final.json`."""
    full = {"title": "t.wav", "description": "d", "author": "a", "href": "/people/a/", "audio": f"wavs/{clip}.flac"}
    return full | {"download_link": "", "caption": caption, "id": clip, "duration": 3.5} | fields


@pytest.mark.parametrize(
    "subset, clip, file, source_ids",
    [
        ("freesound", "180913", "180913.flac", ("freesound:180913",)),
        ("freesound", 180913, "FreeSound/180913.mp3", ("freesound:180913",)),
        ("audioset", "Yb0RFKhbpFJA.wav", "Yb0RFKhbpFJA.flac", ("youtube:b0RFKhbpFJA",)),
        ("audioset", "Yb0RFKhbpFJA.wav", "Yb0RFKhbpFJA.wav", ("youtube:b0RFKhbpFJA",)),
        ("bbc", "NHU05093027", "NHU05093027.flac", ("bbc:NHU05093027",)),
        ("soundbible", "2219", "2219.flac", ("soundbible:2219",)),
    ],
)
def test_ids_of_the_subsets(tmp_path, subset, clip, file, source_ids):
    (tmp_path / "sounds" / file).parent.mkdir(parents=True)
    (tmp_path / "sounds" / file).touch()
    path = write_items(tmp_path / "final.json", [item(clip, "A dog barks."), item("404", "None.")])
    corpus = read_wavcaps({"eng_Latn": path}, tmp_path / "sounds", subset)
    (read,) = corpus.clips
    assert read.sound == tmp_path / "sounds" / file
    assert (read.source_ids, read.seconds) == (source_ids, 3.5)
    assert read.captions == {"eng_Latn": ["A dog barks."]}
    assert [row.audio_id for row in corpus.left_out] == ["404"]


def test_languages_are_parallel_by_id(tmp_path):
    for name in ("1.flac", "2.flac"):
        (tmp_path / name).touch()
    english = write_items(tmp_path / "en.json", [item("1", "one"), item("2", "two")])
    french = write_items(tmp_path / "fr.json", [item("2", "deux"), item("3", "trois")])
    corpus = read_wavcaps({"eng_Latn": english, "fra_Latn": french}, tmp_path, "bbc")
    assert [clip.captions for clip in corpus.clips] == [{"eng_Latn": ["two"], "fra_Latn": ["deux"]}]
    assert [row.reason for row in corpus.lost_captions] == ["it is missing in fra_Latn", "it is missing in eng_Latn"]


@pytest.mark.parametrize(
    "items, subset, message",
    [
        ([item("1", "a"), item("1", "b")], "bbc", "item 1: the `id` '1' is there twice"),
        ([{"id": "1"}], "bbc", "item 0: `id` and `caption` must be there"),
        ([item("1", "a")], "youtube", "must be one of audioset, bbc, freesound, soundbible, but is 'youtube'"),
    ],
)
def test_faulty_files(tmp_path, items, subset, message):
    (tmp_path / "1.flac").touch()
    with pytest.raises(ValueError, match=message):
        read_wavcaps({"eng_Latn": write_items(tmp_path / "a.json", items)}, tmp_path, subset)


@pytest.mark.parametrize("content", ["[]", '{"data": {}}', '{"data": [1]}', "{"])
def test_other_json(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="must hold|is not JSON"):
        read_wavcaps({"eng_Latn": tmp_path / "a.json"}, tmp_path, "bbc")
