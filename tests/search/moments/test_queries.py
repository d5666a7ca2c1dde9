"""Files of queries with relevant windows: forms of CASTELLA and Lighthouse, languages, errors that name the line."""

import json

import pytest

from modeling_atri.search.moments.queries import MomentQuery, read_moment_queries


HORN = {
    "qid": "a_1",
    "query": "A car horn blares",
    "duration": 299,
    "vid": "a",
    "relevant_windows": [[27, 28], [289, 290.5]],
}


def write(path, *rows):
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def test_reads_the_lines_of_lighthouse(tmp_path):
    path = write(
        tmp_path / "q.jsonl", HORN, {**HORN, "qid": 7, "vid": "b", "fg_dB": -2.0, "relevant_windows": [[298, 300]]}
    )
    assert read_moment_queries(path) == [
        MomentQuery("A car horn blares", "eng_Latn", "a", ((27.0, 28.0), (289.0, 290.5)), "a_1", "line 1"),
        MomentQuery("A car horn blares", "eng_Latn", "b", ((298.0, 300.0),), "7", "line 2"),
    ]


def test_reads_castellas_own_file(tmp_path):
    recording = {
        "yid": "--0w",
        "global_caption": "車",
        "duration": 299,
        "num_moments": 2,
        "moments": [
            {"local_caption": "車のドアを閉める音がする", "timestamps": [[297, 298], [290, 291]]},
            {"local_caption": "電話の音", "timestamps": [[72, 76]]},
        ],
    }
    path = tmp_path / "test.json"
    path.write_text(json.dumps([recording]), encoding="utf-8")
    assert read_moment_queries(path, "ja") == [
        MomentQuery(
            "車のドアを閉める音がする", "jpn_Jpan", "--0w", ((297.0, 298.0), (290.0, 291.0)), "--0w_1", "item 0"
        ),
        MomentQuery("電話の音", "jpn_Jpan", "--0w", ((72.0, 76.0),), "--0w_2", "item 0"),
    ]


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"language": "fr"}, [("fra_Latn", "A car horn blares")]),
        ({"query": ["one", "two"], "language": "German"}, [("deu_Latn", "one"), ("deu_Latn", "two")]),
        (
            {"query": {"en": "a horn", "ja": ["警笛", "クラクション"]}},
            [("eng_Latn", "a horn"), ("jpn_Jpan", "警笛"), ("jpn_Jpan", "クラクション")],
        ),
    ],
)
def test_texts_in_languages(tmp_path, change, expected):
    queries = read_moment_queries(write(tmp_path / "q.jsonl", {**HORN, **change}))
    assert [(query.language, query.text) for query in queries] == expected
    assert {query.qid for query in queries} == {"a_1"}


def test_qid_is_optional(tmp_path):
    row = {name: HORN[name] for name in ("query", "vid", "relevant_windows")}
    first, second = read_moment_queries(write(tmp_path / "q.jsonl", row, row))
    assert first.qid != second.qid


def test_allows_what_castellas_rounding_makes(tmp_path):
    path = write(tmp_path / "q.jsonl", {**HORN, "relevant_windows": [[299, 301], [168, 168]]})
    assert read_moment_queries(path)[0].windows == ((299, 301), (168, 168))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"query": None}, "line 2: `query` must be there"),
        ({"query": "", "vid": None}, "`query` and `vid` must be there"),
        ({"relevant_windows": []}, "`relevant_windows` must be there"),
        ({"relevant_windows": [27, 28]}, r"list of \[start, end\] in seconds, but has 27"),
        ({"relevant_windows": "27-28"}, "but is '27-28'"),
        ({"relevant_windows": [["27", "28"]]}, r"but has \['27', '28'\]"),
        ({"relevant_windows": [[28, 27]]}, r"0 <= start <= end, but is \[28, 27\]"),
        ({"relevant_windows": [[-1, 28]]}, "0 <= start <= end"),
        ({"relevant_windows": [[1, float("nan")]]}, "0 <= start <= end"),
        ({"relevant_windows": [[1, True]]}, "list of"),
        ({"relevant_windows": [[301, 302]]}, r"\[301, 302\] begins after the recording of 299 s"),
        ({"duration": "299"}, "`duration` must be a positive number of seconds, but is '299'"),
        ({"vid": 3}, "`vid` must be the name of a recording, but is 3"),
        ({"language": "Klingonese"}, "line 2: Unknown language"),
        ({"query": {"tlh-x": "a"}}, "line 2: Unknown language"),
        ({"query": ["a", 3]}, r"none of them empty; got \['a', 3\]"),
        ({"query": [" "]}, "none of them empty"),
        ({"moments": 3}, "`moments` must be a list"),
        ({"moments": [3]}, "moment 1 must be an object"),
        ({"moments": [{"timestamps": [[1, 2]]}]}, "`query` and `vid` must be there"),
    ],
)
def test_errors_name_the_line(tmp_path, change, message):
    path = write(tmp_path / "q.jsonl", HORN, {**HORN, **change})
    with pytest.raises(ValueError, match=message) as caught:
        read_moment_queries(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")


@pytest.mark.parametrize(
    "content, message",
    [("", "has no queries"), ("[1]\n", "line 1"), ("{nope\n", "line 1: this is not JSON"), ("[]", "line 1")],
)
def test_files_that_are_none(tmp_path, content, message):
    path = tmp_path / "q.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_moment_queries(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"There is no file '.*none\.jsonl'. Name a file of lines such as"):
        read_moment_queries(tmp_path / "none.jsonl")
