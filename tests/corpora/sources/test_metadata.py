"""Files of rows as tables."""

from pathlib import Path

import pytest

from modeling_atri.corpora.rows.load import load_rows, read_other_columns
from modeling_atri.corpora.sources.csv_rows import read_csv_rows
from tests.helpers.rows import sound


def write(folder: Path, text: str, name: str = "metadata.csv", encoding: str = "utf-8") -> Path:
    for sound_name in ("a.wav", "b.wav"):
        (folder / sound_name).write_bytes(sound())
    (folder / name).write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        ("file_name,caption\na.wav,a dog\nb.wav,a cat\n", [{"eng_Latn": ["a dog"]}, {"eng_Latn": ["a cat"]}]),
        (
            "\ufefffile_name, en ,fr,id\r\na.wav,a dog,un chien,7\r\n",
            [{"eng_Latn": ["a dog"], "fra_Latn": ["un chien"]}],
        ),
        ("file_name;caption\na.wav;a dog, barking\n", [{"eng_Latn": ["a dog, barking"]}]),
        (
            'file_name,caption\na.wav,"a ""dog"", barking &amp; running"\n',
            [{"eng_Latn": ['a "dog", barking & running']}],
        ),
        (
            "file_name,caption_1,caption_2\na.wav,a dog,\nb.wav,x,y\n",
            [{"eng_Latn": ["a dog"]}, {"eng_Latn": ["x", "y"]}],
        ),
        (
            'file_name,captions\na.wav,"{""en"": ""a dog"", ""fr"": [""x""]}"\n',
            [{"eng_Latn": ["a dog"], "fra_Latn": ["x"]}],
        ),
    ],
)
def test_captions_in_a_table(tmp_path, text, captions):
    rows = load_rows(write(tmp_path, text))
    assert rows["captions"][:] == captions
    assert rows["audio_id"][:] == ["a", "b"][: len(rows)]
    assert load_rows(tmp_path / "metadata.csv").to_list() == rows.to_list()


def test_tabs(tmp_path):
    write(tmp_path, "file_name\tcaption_fr\tscene\na.wav\tun chien, là\tx\n", "metadata.tsv")
    assert load_rows(tmp_path)["captions"][:] == [{"fra_Latn": ["un chien, là"]}]
    assert load_rows(tmp_path, group_column="scene")["group_id"][:] == ["x"]
    assert read_other_columns(tmp_path, None) == [{"scene": "x"}]


def test_metadata_jsonl_goes_before_other_tables(tmp_path):
    write(tmp_path, "file_name,caption\na.wav,from csv\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "b.wav", "caption": "from jsonl"}\n')
    assert load_rows(tmp_path)["captions"][:] == [{"eng_Latn": ["from jsonl"]}]


def test_wrong_lines_of_a_table_are_left_out(tmp_path):
    text = "file_name,caption\na.wav,a dog, barking\nb.wav,a cat\n,x\nzz.wav,x\n\nb.wav\n"
    left_out = []
    rows = load_rows(write(tmp_path, text + 'a.wav,"x\n'), left_out=left_out)
    assert rows["audio_id"][:] == ["b"]
    assert [(row.place, row.kind) for row in left_out] == [
        ("line 2", "wrong line"),
        ("line 4", "missing recording"),
        ("line 5", "missing recording"),
        ("line 7", "missing language"),
        ("line 8", "wrong line"),
    ]
    assert "Quote a caption that has a comma" in left_out[0].reason
    assert "Close every quote" in left_out[-1].reason


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding(tmp_path, encoding):
    with pytest.raises(ValueError, match=r"metadata.csv cannot be read as CSV in UTF-8: .* Save it as UTF-8\."):
        load_rows(write(tmp_path, "file_name,caption\na.wav,été\n", encoding=encoding))


def test_places_of_rows(tmp_path):
    (tmp_path / "x.csv").write_text('a,b\n1,2\n\n"3\n",4\n5\n')
    names, rows = read_csv_rows(tmp_path / "x.csv")
    assert names == ["a", "b"]
    assert [(row.place, row.cells, bool(row.problem)) for row in rows] == [
        ("line 2", {"a": "1", "b": "2"}, False),
        ("line 4", {"a": "3\n", "b": "4"}, False),
        ("line 6", {"a": "5"}, False),
    ]


@pytest.mark.parametrize("has_sound", [True, False])
def test_a_folder_without_metadata(tmp_path, has_sound):
    if has_sound:
        (tmp_path / "a.wav").write_bytes(sound())
    with pytest.raises(ValueError, match=r"metadata\.jsonl") as error:
        load_rows(tmp_path)
    assert 'such as {"file_name": "dog.wav", "captions": {"eng_Latn": ["a dog barks"]}}' in str(error.value)
    if has_sound:
        assert "has none of metadata.jsonl, metadata.csv, metadata.tsv, metadata.parquet, metadata" in str(error.value)


def test_languages_that_the_first_row_lacks_are_told(tmp_path, caplog):
    rows = load_rows(write(tmp_path, "file_name,en,fr\na.wav,a dog,\nb.wav,a cat,un chat\n"))
    assert rows["captions"][:] == [{"eng_Latn": ["a dog"]}, {"eng_Latn": ["a cat"]}]
    (record,) = caplog.records
    assert "captions in fra_Latn are left out, because the first row has none" in record.getMessage()
    with pytest.raises(ValueError, match="1 wrong row, 1 problem:\n  line 2: captions are missing in fra_Latn"):
        load_rows(tmp_path, languages=["en", "fr"])
