"""`atri search` on an index: tables, JSON, playlists, cut sounds, agreement, and mistakes in one line."""

import json

import numpy as np
import pytest
import soundfile

from modeling_atri.cli.commands.search import hits_table, questions_by_language
from modeling_atri.cli.main import main
from modeling_atri.search import Hit, SoundIndex
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An index of five sounds with a licence, of which one has several windows, and an index without sounds."""
    root = tmp_path_factory.mktemp("search")
    for part in (tiny_model(), tiny_processor()):
        part.save_pretrained(root / "model")
    (root / "sounds").mkdir()
    rows = []
    for number in range(5):
        samples = np.random.default_rng(number).normal(scale=0.1, size=5 * 16000 if number == 3 else 16000)
        soundfile.write(root / "sounds" / f"{number}.wav", samples, 16000)
        rows.append(json.dumps({"file_name": f"{number}.wav", "licence": "cc0" if number % 2 else "by"}))
    (root / "sounds" / "metadata.jsonl").write_text("\n".join(rows))
    SoundIndex.open(root / "index", root / "model", window_s=1.0, hop_s=0.5).add(root / "sounds")
    SoundIndex.open(root / "empty", root / "model")
    return root


def search(folders, capsys, *words: str) -> str:
    """What the command prints."""
    capsys.readouterr()
    assert main(["search", str(folders / "index"), *words]) == 0
    return capsys.readouterr().out


def test_a_table_with_the_columns_of_the_index(folders, capsys):
    expected = SoundIndex.open(folders / "index").search("un chien aboie", "fr", top_k=3)
    lines = search(folders, capsys, "un chien aboie", "--top_k", "3").splitlines()
    assert lines[0].startswith("Language: French, as found in the question.") and "--language fr" in lines[0]
    assert lines[2].split() == ["rank", "score", "length", "path", "licence"]
    assert [line.split() for line in lines[3:]] == [
        [str(rank), f"{hit.score:.3f}", "0:05" if hit.path == "3.wav" else "0:01", hit.path, hit.metadata["licence"]]
        for rank, hit in enumerate(expected, 1)
    ]
    assert search(folders, capsys, "un chien aboie", "--top_k", "3", "--language", "fr").splitlines() == lines[2:]


def test_json_has_the_hits_of_the_index(folders, capsys):
    options = {"where": "licence = 'cc0'", "without": "la pluie tombe", "like": "2.wav", "like_weight": 0.25}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    found = json.loads(search(folders, capsys, "un chien aboie", "--json", *words))
    expected = SoundIndex.open(folders / "index").search("un chien aboie", **options)
    assert (found["language"], found["language_was_found"]) == ("fra_Latn", True)
    assert [(hit["path"], hit["score"]) for hit in found["hits"]] == [(hit.path, hit.score) for hit in expected]
    assert {hit["metadata"]["licence"] for hit in found["hits"]} == {"cc0"} and len(expected) == 2


def test_moments_as_a_playlist_and_as_cut_sounds(folders, tmp_path, capsys):
    playlist, cut = tmp_path / "found.m3u", tmp_path / "cut"
    words = ["a dog barks", "--language", "en", "--by", "moment", "--moments_per_file", "2", "--top_k", "4"]
    printed = search(folders, capsys, *words, "--m3u", str(playlist), "--export", str(cut))
    hits = SoundIndex.open(folders / "index").search("a dog barks", "en", 4, by="moment", moments_per_file=2)
    assert printed.splitlines()[0].split()[:4] == ["rank", "score", "moment", "path"]
    assert f"Playlist of 4 entries: {playlist}" in printed and f"4 sounds cut out and written to {cut}." in printed
    entries = [line for line in playlist.read_text().splitlines() if not line.startswith("#")]
    assert entries == [hit.file for hit in hits]
    lengths = [soundfile.info(path).frames for path in sorted(cut.iterdir())]
    assert lengths == [round(hit.end_s * 16000) - round(hit.start_s * 16000) for hit in hits]
    other = tmp_path / "other.m3u"
    assert main(["search", str(folders / "index"), *words, "--export", str(cut), "--m3u", str(other)]) == 2
    output = capsys.readouterr()
    assert "4 files already that would be overwritten" in output.err
    assert output.out == "" and not other.exists(), "nothing is shown or written before all targets are checked"


def test_a_sound_is_most_similar_to_itself(folders, capsys):
    for like in ("3.wav", str(folders / "sounds" / "3.wav")):
        found = json.loads(search(folders, capsys, "--like", like, "--json"))
        assert found["language"] is None and found["hits"][0]["path"] == "3.wav"
        assert found["hits"][0]["score"] == pytest.approx(1.0, abs=1e-5)


def test_languages_are_compared(folders, capsys):
    words = ["--ask", "en=a dog barks", "fr=un chien aboie", "--top_k", "2"]
    agreement = SoundIndex.open(folders / "index").compare_languages({"en": "a dog barks", "fr": "un chien aboie"}, 2)
    assert search(folders, capsys, *words) == f"{agreement.table()}\n\n{agreement.summary()}\n"
    found = json.loads(search(folders, capsys, *words, "--json"))
    assert found["overlap"] == agreement.overlap and list(found["languages"]) == ["eng_Latn", "fra_Latn"]


@pytest.mark.parametrize(
    "index, words, message",
    [
        ("gone", ["a dog"], "There is no index"),
        ("sounds", ["a dog"], "is no index"),
        ("empty", ["a dog"], "has no sounds yet. `atri index SOUNDS"),
        ("index", [], "There is no question"),
        ("index", [""], "arguments are empty|question is empty"),
        ("index", ["a dog", "--where", "license = 'cc0'"], "The filter \"license = 'cc0'\" cannot be used"),
        ("index", ["a dog", "--language", "Klingon"], "Unknown language 'Klingon'"),
        ("index", ["a dog", "--language", "sv"], "does not know the language 'sv'"),
        ("index", ["--like", "gone.wav"], "There is no file 'gone.wav', and the index has no such sound"),
        ("index", ["a dog", "--like_weight", "2"], "like_weight"),
        ("index", ["a dog", "--top_k", "0"], "top_k"),
        ("index", ["a dog", "--ask", "en=a dog", "fr=un chien"], "does not go with query"),
        ("index", ["--ask", "en=a dog"], "at least two"),
        ("index", ["--ask", "a dog", "fr=un chien"], "LANGUAGE=TEXT"),
        ("index", ["a dog", "--m3u", "."], "it is a folder"),
        ("gone", ["a dog", "--m3u", __file__], "exists and is no playlist"),  # before the index is opened
        ("index", ["лает собака"], "not in the script of any language of the model"),
    ],
)
def test_mistakes_are_one_line(folders, capsys, index, words, message):
    import re

    capsys.readouterr()
    assert main(["search", str(folders / index), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if line.startswith("atri search: ")]
    assert len(said) == 1 and re.search(message, said[0]), lines


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    shown = capsys.readouterr().out
    for words in ("examples:", "--without", "a few words", "--by moment", "--ask", "cosine"):
        assert words in shown


def test_questions_of_several_languages_are_told_apart():
    assert questions_by_language(["en=a=b", "fr=un chien"]) == {"en": "a=b", "fr": "un chien"}
    with pytest.raises(ValueError, match="'en' twice"):
        questions_by_language(["en=a", "en=b"])


def test_a_table_for_a_narrow_terminal_shows_fewer_columns():
    hits = [Hit("a.wav", 61.0, 71.0, 0.5, {"place": "a long name of a place", "year": None}, 100.0)]
    assert hits_table(hits, "moment").splitlines() == [
        "rank  score     moment  path   place                   year",
        "   1  0.500  1:01-1:11  a.wav  a long name of a place",
    ]
    assert hits_table(hits, "moment", 45).splitlines()[0] == "rank  score     moment  path   place"


@pytest.mark.parametrize("width", [None, 200])
def test_a_table_cuts_long_values_and_leaves_out_nested_ones(width):
    values = [
        {"note": "rain " * 30, "sources": '[{"start": 0}]', "parts": ['{"a": 1}'], "tags": ["a", "b"], "q": "[sic]"},
        {"note": None, "sources": "[]", "parts": [], "tags": None, "q": None},
        {"note": "two\nlines", "sources": None, "parts": None, "tags": [], "q": None},
    ]
    hits = [Hit(f"{number}\n.wav", 0.0, 5.0, 0.5, metadata, 5.0) for number, metadata in enumerate(values)]
    assert hits_table(hits, "file", width).splitlines() == [
        f"rank  score  length  path    {'note':<40}  tags  q",
        f"   1  0.500    0:05  0 .wav  {'rain ' * 7}rain…  a, b  [sic]",
        "   2  0.500    0:05  1 .wav",
        "   3  0.500    0:05  2 .wav  two lines",
    ]
