import pytest

from modeling_atri.corpora.clips.caption_files import parse_files, read_csv


def test_languages_and_files():
    words = ["en=test.csv", "Japanese=a=b/test.csv"]
    assert parse_files(words) == {"eng_Latn": "test.csv", "jpn_Jpan": "a=b/test.csv"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["test.csv"], "LANGUAGE=FILE, such as eng_Latn=test.csv; got 'test.csv'"),
        (["en="], "LANGUAGE=FILE"),
        (["en=a", "eng_Latn=b"], "eng_Latn is given twice, as 'a' and 'b'"),
        (["frensh=a"], "French"),
    ],
)
def test_other_words(words, message):
    with pytest.raises(ValueError, match=message):
        parse_files(words)


def test_places_encodings_and_quotes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffname, text \r\na,"one, ""two"""\r\n\r\né,four\r\n'.encode())
    assert list(read_csv(path, ("name", "text"))) == [
        ("line 2", {"name": "a", "text": 'one, "two"'}),
        ("line 4", {"name": "é", "text": "four"}),
    ]
    path.write_bytes("name,text\né,four\n".encode("latin-1"))
    with pytest.raises(ValueError, match="cannot be read as CSV in UTF-8"):
        list(read_csv(path, ("name", "text")))
    assert [row["name"] for _, row in read_csv(path, ("name",), fallback_encoding="latin-1")] == ["é"]
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="lacks name; it has none"):
        list(read_csv(path, ("name",)))


@pytest.mark.parametrize(
    "lines, message",
    [
        (["a,one", "b,two, three"], r"a\.csv, line 3: it has too many cells, 3 for .*Quote a caption that"),
        (["a,one", '"b"', "c,d"], r"line 3: it has too few cells, 1 for the columns name, text"),
        (["a,one", 'b,"two', "c,three", 'd,four"', "e,five"], r"line 3: `text` goes over several lines: 'two"),
        (["a,one", 'b,"two', "c,three"], "line 3: this cannot be read as CSV .*Close every quote"),
        (["a,one", 'b,"two', 'c,"three, four"'], "line 3: this cannot be read as CSV"),
        (["a,one", "", 'b,"two" three'], "line 4: this cannot be read as CSV"),
    ],
)
def test_a_caption_is_whole_or_refused(tmp_path, lines, message):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["name,text", *lines]) + "\n")
    with pytest.raises(ValueError, match=message):
        list(read_csv(path, ("name", "text")))
