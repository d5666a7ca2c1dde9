import pytest

from modeling_atri.trainer.data.corpora.caption_files import parse_files, read_csv


def test_languages_and_files():
    words = ["en=test.csv", "Japanese=a=b/test.csv"]
    assert parse_files(words) == {"eng_Latn": "test.csv", "jpn_Jpan": "a=b/test.csv"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["test.csv"], "LANGUAGE=FILE, such as eng_Latn=test.csv, but this is 'test.csv'"),
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
    path.write_bytes('\ufeffname,text\r\na,"one, ""two""\r\nthree"\r\né,four\r\n'.encode())
    assert list(read_csv(path, ("name", "text"))) == [
        ("line 3", {"name": "a", "text": 'one, "two"\r\nthree'}),
        ("line 4", {"name": "é", "text": "four"}),
    ]
    path.write_bytes("name,text\né,four\n".encode("latin-1"))
    with pytest.raises(ValueError, match="cannot be read as CSV in UTF-8"):
        list(read_csv(path, ("name", "text")))
    assert [row["name"] for _, row in read_csv(path, ("name",), fallback_encoding="latin-1")] == ["é"]
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="lacks name; it has none"):
        list(read_csv(path, ("name",)))
