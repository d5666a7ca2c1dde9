import hashlib
import json
import unicodedata
from pathlib import Path

import pytest

from modeling_atri.files import (
    content_digest,
    existing_path,
    folder_written_whole,
    json_line,
    normalized_name,
    printable,
    write_json_lines,
    written_whole,
)


def test_the_file_appears_at_the_end(tmp_path):
    path = tmp_path / "a.bin"
    with written_whole(path) as file:
        file.write(b"first")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"first"
    with written_whole(path) as file:
        file.write(b"second")
        file.flush()
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_failure(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"before")
    with pytest.raises(TypeError), written_whole(path) as file:
        file.writelines([b"half", "no bytes"])
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def half_write(path: Path) -> None:
    path.write_text("half")
    raise OSError("The disk is full.")


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_appears_at_the_end(tmp_path, monkeypatch, exists):
    folder = tmp_path / "a" / "b"
    if exists:
        folder.mkdir(parents=True)
        (folder / "mine").write_text("mine")
        (folder / "config").write_text("old")
        monkeypatch.chdir(folder)
    before = {path: path.read_text() for path in folder.glob("*")}
    name = Path(".") if exists else folder
    with pytest.raises(OSError, match="full"), folder_written_whole(name) as temporary:
        half_write(temporary / "config")
    assert {path: path.read_text() for path in folder.glob("*")} == before
    with folder_written_whole(name) as temporary:
        (temporary / "config").write_text("new")
        (temporary / "deep").mkdir()
        (temporary / "deep" / "weights").write_text("new")
        assert not (folder / "deep").exists()
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config": "new", "deep/weights": "new"} | ({"mine": "mine"} if exists else {})
    assert [path.name for path in folder.parent.iterdir()] == ["b"]


def test_json_lines_of_any_text(tmp_path):
    """Half characters, of which there is no UTF-8, come back as they were."""
    rows = [{"caption": "犬が吠える", "id": "a\ud800b"}, {"caption": "\udc00 \\ud800"}]
    path = tmp_path / "rows.jsonl"
    write_json_lines(path, rows)
    assert "犬が吠える" in path.read_text(encoding="utf-8")
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == rows
    assert json_line([1]) == b"[1]\n"


MIXED = unicodedata.normalize("NFC", "é") + unicodedata.normalize("NFD", "à")  # neither form


@pytest.mark.parametrize("on_disk", ["NFC", "NFD", None])
@pytest.mark.parametrize("asked", ["NFC", "NFD", None])
def test_a_file_is_found_in_every_unicode_form(tmp_path, on_disk, asked):
    def spelled(form):
        return Path(*(unicodedata.normalize(form, name) if form else name for name in (MIXED, f"{MIXED}.wav")))

    path = tmp_path / spelled(on_disk)
    path.parent.mkdir()
    path.touch()
    assert existing_path(tmp_path / spelled(asked)) == path
    assert normalized_name(str(spelled(asked))) == str(spelled("NFC"))


def test_a_file_is_found_by_a_path_from_windows(tmp_path):
    for name in ("sub/a.wav", "sub/caf\u00e9.wav", "odd\\name.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        assert existing_path(tmp_path / name.replace("/", "\\")) == tmp_path / name
    assert existing_path(tmp_path / "sub\\b.wav") == tmp_path / "sub\\b.wav"


def test_a_file_of_no_form_keeps_its_path(tmp_path):
    for path in (tmp_path / "é.wav", tmp_path / "è" / "é.wav", Path("é.wav"), tmp_path / ("é" * 300), Path("a\0é")):
        assert existing_path(path) == path
    (tmp_path / "é.wav").touch()
    assert existing_path(tmp_path / "é.wav" / "à.wav") == tmp_path / "é.wav" / "à.wav"


def test_a_name_is_found_as_it_is_before_others(tmp_path):
    names = [unicodedata.normalize(form, "é.wav") for form in ("NFC", "NFD")]
    for name in names:
        (tmp_path / name).touch()
    assert [existing_path(tmp_path / name).name for name in names] == names


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "a.wav").write_bytes(content)
    assert content_digest(tmp_path / "a.wav") == hashlib.blake2b(content, digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("rain 1.wav", "rain 1.wav"),
        ("été/雨.wav", "été/雨.wav"),
        ("two\nlines.wav", "two\\nlines.wav"),
        ("red\x1b[31m.wav", "red\\x1b[31m.wav"),
        ("no utf-8 \udcff.wav", "no utf-8 \\udcff.wav"),
    ],
)
def test_a_name_is_shown_in_one_line(name, shown):
    assert printable(name) == shown
