"""Lengths of sound files are kept by path, size and time of change."""

import os

import numpy as np

from modeling_atri.corpora.rows.kept.lengths import FileStates, Lengths, file_states, keys_of


def measured(calls, lengths):
    def measure(path):
        calls.append(path)
        if path not in lengths:
            raise ValueError(f"{path} is no sound")
        return lengths[path]

    return measure


def test_lengths_are_measured_once_and_kept_in_a_file(tmp_path):
    file, paths = tmp_path / "lengths.bin", [f"/{name}.wav" for name in "abca"]
    states, calls = FileStates(np.array([5, 6, 7, 5]), np.array([1, 1, 1, 1])), []
    measure = measured(calls, {"/a.wav": 3, "/b.wav": 4})
    for lengths in (Lengths(), Lengths()):
        for _ in range(2):
            assert lengths.lengths_of(paths, states, measure, file).tolist() == [3, 4, -1, 3]
    assert sorted(calls) == ["/a.wav", "/b.wav", *4 * ["/c.wav"]]
    with open(file, "ab") as opened:
        opened.write(b"killed")
    changed = states._replace(times=np.array([1, 2, 1, 1]))
    measure = measured(calls, {"/b.wav": 9})
    assert Lengths().lengths_of(paths[:2], FileStates(*(part[:2] for part in changed)), measure, file).tolist() == [
        3,
        9,
    ]
    assert file.stat().st_size == 3 * 32
    none = measured([], {})
    assert Lengths().lengths_of(paths[:2], FileStates(*(part[:2] for part in changed)), none, file).tolist() == [3, 9]


def test_lengths_that_cannot_be_kept(tmp_path, caplog):
    states = FileStates(np.array([5]), np.array([1]))
    assert Lengths().lengths_of(["/a.wav"], states, lambda path: 3, tmp_path).tolist() == [3]
    assert "Is a directory" in caplog.text


def test_states_of_files(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    os.utime(tmp_path / "a", ns=(5, 7))
    states = file_states([str(tmp_path / "a"), str(tmp_path), str(tmp_path / "b"), "\ud800", "a\x00b"])
    assert states.sizes.tolist() == [3, -1, -1, -1, -1]
    assert states.times.tolist() == [7, -1, -1, -1, -1]


def test_keys_do_not_depend_on_the_form_of_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert keys_of(["a.wav"]) == keys_of([str(tmp_path / "a.wav")])
    assert keys_of(["a.wav"]) != keys_of(["b.wav"])
