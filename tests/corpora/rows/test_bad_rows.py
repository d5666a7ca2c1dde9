"""The account of rows that are left out."""

import json

import pytest

from modeling_atri.corpora.rows.bad_rows import BadRow, BadRowLog, count_kinds, describe, read_bad_rows, write_bad_rows


ROWS = [
    BadRow("line 3", "a", "missing recording", "there is no file 'a.wav'"),
    BadRow("line 4", None, "wrong line", "this is not JSON"),
    BadRow(None, "日本\u2028\n", "silent recording", "Row '日本' is silent"),
    BadRow("line 9", "d", "missing recording", "there is no file 'd.wav'"),
]


def test_counts_and_their_sentence():
    counts = count_kinds(ROWS)
    assert list(counts.items()) == [("missing recording", 2), ("silent recording", 1), ("wrong line", 1)]
    assert sum(counts.values()) == len(ROWS)
    assert describe(ROWS[:2], 4) == (
        "2 of 4 rows are left out: 1 missing recording (line 3, a), 1 wrong line (line 4)."
    )
    assert describe(ROWS[:2], 3).startswith("2 of 3 rows (67%!) are left out: ")
    assert describe(ROWS[:1], 2) == "1 of 2 rows is left out: 1 missing recording (line 3, a)."
    unequal = [row._replace(kind="unequal captions") for row in ROWS[:2]]
    assert describe([*unequal, ROWS[3], ROWS[0]], 9) == (
        "4 of 9 rows are left out: 2 missing recordings (line 9, d, ...), "
        "2 rows with unequal captions (line 3, a, ...)."
    )


def test_a_written_list_is_read_again(tmp_path):
    path = tmp_path / "run" / "eval_left_out.jsonl"
    assert read_bad_rows(path) == []
    write_bad_rows(path, ROWS)
    assert read_bad_rows(path) == ROWS
    assert [json.loads(line)["kind"] for line in path.read_bytes().split(b"\n")[:-1]] == [row.kind for row in ROWS]
    write_bad_rows(path, [])
    assert not path.exists()


def test_two_processes_note_each_row_once(tmp_path):
    before = []
    logs = [BadRowLog(tmp_path / "left_out.jsonl", before) for _ in range(2)]
    before += ROWS[:2]
    assert logs[0].rows() == ROWS[:2]
    assert not logs[0].path.exists()
    for log, is_main in zip(logs, (True, False), strict=True):
        log.begin(is_main)
    logs[0].add([ROWS[2], ROWS[2]])
    logs[1].add([ROWS[2], ROWS[3]])
    logs[0].add([ROWS[3]])
    assert logs[0].rows() == logs[1].rows() == read_bad_rows(logs[0].path) == ROWS


@pytest.mark.parametrize("tail", [b"", b'{"place": null, "audio_'], ids=["whole", "cut by a crash"])
def test_a_resumed_run_goes_on_with_the_list_and_a_new_one_begins_it_anew(tmp_path, tail):
    path = tmp_path / "left_out.jsonl"
    write_bad_rows(path, [ROWS[0], ROWS[2]])
    with open(path, "ab") as file:
        file.write(tail)
    log = BadRowLog(path, ROWS[3:])
    log.begin(resumed=True)
    assert read_bad_rows(path) == log.rows() == [ROWS[3], ROWS[2]], "what was left out before is said by the new run"
    log.begin(resumed=False)
    assert read_bad_rows(path) == log.rows() == [ROWS[3]]


def test_what_is_no_row_is_an_error(tmp_path):
    path = tmp_path / "left_out.jsonl"
    for line in (b"something else", b'{"place": null, "other": 1}', b"[1]", b'{"audio_id": '):
        path.write_bytes(line + b"\n")
        with pytest.raises(ValueError, match=r"left_out\.jsonl cannot be read"):
            read_bad_rows(path)


@pytest.mark.parametrize("size", range(1, 60, 7))
def test_a_line_that_a_killed_process_left_unfinished(tmp_path, size):
    """Another rank goes on, and neither loses its rows nor stumbles over the line, now or when it is read again."""
    logs = [BadRowLog(tmp_path / "left_out.jsonl") for _ in range(3)]
    logs[0].begin()
    logs[0].add(ROWS[:1])
    whole = logs[0].path.read_bytes()
    with open(logs[0].path, "ab") as file:
        file.write(whole.replace(b'"a"', b'"b"')[:size])
    for log, row in zip(logs[1:], ROWS[1:], strict=False):
        log.begin(is_main_process=False)
        log.add([row])
    assert logs[0].rows() == logs[1].rows() == logs[2].rows() == read_bad_rows(logs[0].path) == ROWS[:3]


def test_only_what_was_added_is_read(tmp_path, monkeypatch):
    """The work for each row does not grow with the list."""
    first, second = (BadRowLog(tmp_path / "left_out.jsonl") for _ in range(2))
    first.begin()
    second.begin(is_main_process=False)
    rows = [BadRow(None, f"clip {number:04}", "silent recording", "it is silent") for number in range(200)]
    for number, row in enumerate(rows):
        (second if number % 2 else first).add([row])
    parsed, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda line: parsed.append(line) or loads(line))
    assert first.rows() == second.rows() == rows
    assert len(parsed) <= 4
    assert first.rows() == rows
    assert len(parsed) <= 4
    assert read_bad_rows(first.path) == rows


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[1:2], []], ids=len)
def test_a_list_that_the_main_process_writes_anew_is_read_from_its_beginning(tmp_path, rows):
    logs = [BadRowLog(tmp_path / "left_out.jsonl", before) for before in (rows, ())]
    write_bad_rows(logs[0].path, ROWS[:3])  # of an earlier run
    logs[1].begin(is_main_process=False)
    logs[1].rows()
    logs[0].begin()
    logs[1].add([BadRow(None, "new", "silent recording", "it is silent")])
    assert read_bad_rows(logs[0].path)[: len(rows)] == list(rows)
    assert logs[0].rows() == read_bad_rows(logs[0].path)
