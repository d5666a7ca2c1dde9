"""What is known of a file is remembered until it changes."""

import io
import os

import pytest

from modeling_atri.file_memory_atri import FileMemory


def put(memory: FileMemory[str], path, fact: str) -> None:
    with open(path, "rb", buffering=0) as file:
        memory.keep(file, fact)


def find(memory: FileMemory[str], path) -> str | None:
    with open(path, "rb") as file:
        return memory.find(file)


def test_a_file_is_known_under_every_name(tmp_path):
    memory, path = FileMemory(), tmp_path / "it"
    path.write_bytes(b"1")
    os.link(path, tmp_path / "linked")
    put(memory, path, "a fact")
    assert find(memory, path) == find(memory, tmp_path / "linked") == "a fact"
    put(memory, path, "another one")
    assert find(memory, path) == "another one"


@pytest.mark.parametrize("way", ["longer", "in place", "another file"])
def test_a_changed_file_is_unknown(tmp_path, way):
    """Also if it has the same size and the same time of change as before."""
    memory, path = FileMemory(), tmp_path / "it"
    path.write_bytes(b"1")
    before = path.stat()
    put(memory, path, "a fact")
    if way == "longer":
        path.write_bytes(b"22")
    elif way == "in place":
        while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of the file system has ticked
            path.write_bytes(b"2")
    else:
        (tmp_path / "new").write_bytes(b"2")
        os.replace(tmp_path / "new", path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert find(memory, path) is None


def test_the_last_files_are_remembered(tmp_path):
    memory, paths = FileMemory(2), [tmp_path / str(number) for number in range(3)]
    for path in paths:
        path.write_bytes(b"1")
    for path in paths[:2]:
        put(memory, path, path.name)
    assert find(memory, paths[0]) == "0"
    put(memory, paths[2], "2")
    assert [find(memory, path) for path in paths] == ["0", None, "2"]


@pytest.mark.parametrize("make", [io.BytesIO, lambda content: io.BufferedReader(io.BytesIO(content))])
def test_nothing_is_remembered_of_files_in_memory(make):
    memory, file = FileMemory(), make(b"1")
    memory.keep(file, "a fact")
    assert memory.find(file) is None
