"""A folder of sounds, encoded, and encoded again after changes."""

import json
import os
import unicodedata

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from modeling_atri.embedding_store.store import load_embeddings
from modeling_atri.encode.encoding import encode_audio
from modeling_atri.encode.folder import encode_folder
from tests.helpers.tiny import tiny_model, tiny_processor


NAMES = ["a.wav", "b/c.flac", "b/d.WAV", "e.ogg", "f/g/h.wav", "i.wav", "j.wav"]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def write_sound(path, seed: int, num_samples: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    file_format = path.suffix[1:].upper()
    soundfile.write(path, rng.normal(scale=0.1, size=num_samples), 16000, format=file_format)


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(NAMES):
        write_sound(tmp_path / "sounds" / name, seed, 8000 + 400 * seed)
    (tmp_path / "sounds" / "notes.txt").write_text("no sound")
    write_sound(tmp_path / "sounds" / ".hidden" / "x.wav", 0)
    write_sound(tmp_path / "sounds" / "._a.wav", 0)
    return tmp_path / "sounds"


@pytest.fixture
def encoded(model, processor, monkeypatch):
    """The files that were read, and a function that encodes a folder."""
    read = []

    def listening(extractor, path):
        read.append(path.name)
        return read_file(extractor, path)

    read_file = encode_folder.__globals__["read_or_scan"]
    monkeypatch.setattr("modeling_atri.encode.folder.read_or_scan", listening)

    def encode(folder, out, **options):
        read.clear()
        return encode_folder(model, processor, folder, out, model_name="tiny", **({"part_size": 3} | options))

    return read, encode


def parts(out) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "embeddings").iterdir()}


def test_every_sound_gets_its_embedding(folder, tmp_path, model, processor, encoded):
    summary = encoded[1](folder, tmp_path / "out", batch_size=2)
    ids, embeddings = load_embeddings(tmp_path / "out")
    assert ids == NAMES
    expected = encode_audio(model, processor, [folder / name for name in NAMES])
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert (summary.num_clips, summary.num_encoded, summary.num_dropped, summary.failures) == (7, 7, 0, {})
    assert summary.other_files == {".txt": 1}
    assert summary.hours == pytest.approx(sum(8000 + 400 * seed for seed in range(7)) / 16000 / 3600)
    assert sorted(parts(tmp_path / "out")) == ["00000.parquet", "00001.parquet", "00002.parquet"]


def test_only_what_is_new_or_changed_is_encoded(folder, tmp_path, model, processor, encoded):
    read, encode = encoded
    out = tmp_path / "out"
    encode(folder, out)
    before = parts(out)
    assert encode(folder, out).num_encoded == 0
    assert (read, parts(out)) == ([], before)

    write_sound(folder / "b" / "c.flac", seed=50, num_samples=9999)
    status = (folder / "i.wav").stat()
    os.utime(folder / "i.wav", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    write_sound(folder / "b" / "new.wav", seed=51)
    (folder / "e.ogg").unlink()
    summary = encode(folder, out)
    assert sorted(read) == ["c.flac", "i.wav", "new.wav"]
    assert (summary.num_clips, summary.num_encoded, summary.num_dropped) == (7, 3, 1)
    ids, embeddings = load_embeddings(out)
    assert ids == ["a.wav", "b/c.flac", "b/d.WAV", "b/new.wav", "f/g/h.wav", "i.wav", "j.wav"]
    np.testing.assert_allclose(embeddings, encode_audio(model, processor, [folder / name for name in ids]), atol=1e-5)


def test_files_that_cannot_be_read_are_listed_and_tried_again(folder, tmp_path, encoded):
    read, encode = encoded
    out = tmp_path / "out"
    (folder / "b" / "c.flac").write_bytes(b"broken")
    write_sound(folder / "short.wav", 0, num_samples=100)
    (folder / "nowhere.wav").symlink_to(folder / "gone.wav")
    summary = encode(folder, out)
    assert (summary.num_clips, sorted(summary.failures)) == (6, ["b/c.flac", "nowhere.wav", "short.wav"])
    listed = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert {item["id"]: item["reason"] for item in listed} == summary.failures
    assert "too short (100 samples" in summary.failures["short.wav"]
    assert load_embeddings(out)[0] == [name for name in NAMES if name != "b/c.flac"]

    write_sound(folder / "b" / "c.flac", seed=1)
    (folder / "nowhere.wav").unlink()
    summary = encode(folder, out, pad_short=True)
    assert sorted(read) == ["c.flac", "short.wav"]
    assert (summary.num_clips, summary.num_encoded, summary.failures) == (8, 2, {})
    assert not (out / "failures.jsonl").exists()


def test_a_broken_file_ends_the_run_when_asked(folder, tmp_path, encoded):
    (folder / "f" / "g" / "h.wav").write_bytes(b"broken")
    with pytest.raises(ValueError, match="f/g/h.wav"):
        encoded[1](folder, tmp_path / "out", on_error="raise")
    assert load_embeddings(tmp_path / "out")[0] == NAMES[:3]  # the first part stays


@pytest.mark.parametrize("broken", [None, "a.wav", "b/d.WAV"])  # a fault first in a part, last in it
def test_a_stopped_run_goes_on_to_the_same_bits(folder, tmp_path, encoded, broken, monkeypatch):
    read, encode = encoded
    if broken:
        (folder / broken).write_bytes(b"broken")
    encode(folder, tmp_path / "whole")

    class Stopped(BaseException):
        pass

    def stop_at_the_second(path):
        if path.name == "00001.parquet":
            raise Stopped
        return written_whole(path)

    written_whole = encode_folder.__globals__["written_whole"]
    with monkeypatch.context() as patch:
        patch.setattr("modeling_atri.embedding_store.store.written_whole", stop_at_the_second)
        with pytest.raises(Stopped):
            encode(folder, tmp_path / "stopped")
    assert len(parts(tmp_path / "stopped")) == 1
    encode(folder, tmp_path / "stopped")
    assert sorted(name.split("/")[-1] for name in NAMES[3:]) == sorted(set(read) - {str(broken).split("/")[-1]})
    assert parts(tmp_path / "stopped") == parts(tmp_path / "whole")


def test_one_array_for_all(folder, tmp_path, encoded):
    _, encode = encoded
    out = tmp_path / "out"
    encode(folder, out, format="npy")
    ids, embeddings = load_embeddings(out)
    np.testing.assert_array_equal(np.load(out / "embeddings.npy"), embeddings)
    assert json.loads((out / "ids.json").read_text()) == ids
    (folder / "a.wav").unlink()
    encode(folder, out)  # what is there is kept right, whether asked for again or not
    assert json.loads((out / "ids.json").read_text()) == NAMES[1:]
    np.testing.assert_array_equal(np.load(out / "embeddings.npy"), embeddings[1:])


def test_a_name_that_is_no_utf8_is_read_like_any_other(folder, tmp_path, encoded):
    (folder / "i.wav").rename(folder / os.fsdecode(b"caf\xe9.wav"))
    summary = encoded[1](folder, tmp_path / "out")
    assert not summary.failures
    assert set(load_embeddings(tmp_path / "out")[0]) == {*NAMES, "caf\\xe9.wav"} - {"i.wav"}


def test_another_model_is_refused(folder, tmp_path, processor, encoded):
    encoded[1](folder, tmp_path / "out")
    before = parts(tmp_path / "out")
    with pytest.raises(ValueError, match="of another model, 'tiny'"):
        encode_folder(tiny_model(seed=1), processor, folder, tmp_path / "out")
    assert parts(tmp_path / "out") == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"format": "csv"}, "`format` must be 'parquet' or 'npy', got 'csv'"),
        ({"part_size": 0}, "`part_size` must be at least 1, got 0"),
        ({"on_error": "ignore"}, "`on_error` must be 'raise' or 'skip', got 'ignore'"),
    ],
)
def test_options_that_do_not_fit(folder, tmp_path, encoded, options, message):
    with pytest.raises(ValueError, match=message):
        encoded[1](folder, tmp_path / "out", **options)


@pytest.fixture
def close(monkeypatch):
    """A function that makes folders of a name unreadable."""

    def forbidding(path):
        if os.path.basename(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    closed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", forbidding)
    return closed.append


def test_a_closed_folder_keeps_its_embeddings(folder, tmp_path, encoded, close):
    read, encode = encoded
    encode(folder, tmp_path / "out")
    before = load_embeddings(tmp_path / "out")
    close("f")
    (folder / "i.wav").unlink()
    write_sound(folder / "new.wav", seed=50)
    summary = encode(folder, tmp_path / "out")
    assert read == ["new.wav"]
    assert summary.failures == {"f": "The folder cannot be searched: Permission denied."}
    assert (tmp_path / "out" / "failures.jsonl").read_text() == (
        '{"id": "f", "reason": "The folder cannot be searched: Permission denied."}\n'
    )
    assert (summary.num_clips, summary.num_encoded, summary.num_dropped) == (7, 1, 1)
    ids, embeddings = load_embeddings(tmp_path / "out")
    assert ids == [*NAMES[:5], "j.wav", "new.wav"]
    np.testing.assert_array_equal(embeddings[4], before[1][4])


def test_a_closed_folder_ends_the_run_when_asked(folder, tmp_path, encoded, close):
    encoded[1](folder, tmp_path / "out")
    before = parts(tmp_path / "out")
    close("g")
    with pytest.raises(ValueError, match="f/g: The folder cannot be searched"):
        encoded[1](folder, tmp_path / "out", on_error="raise")
    assert parts(tmp_path / "out") == before


@pytest.mark.parametrize("state", ["empty", "gone", "closed", "only a closed folder"])
def test_nothing_is_lost_while_the_archive_is_away(folder, tmp_path, encoded, close, state):
    encoded[1](folder, tmp_path / "out", format="npy")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    folder.rename(tmp_path / "elsewhere")
    if state != "gone":
        folder.mkdir()
    if state == "only a closed folder":
        (folder / "lost+found").mkdir()
        close("lost+found")
    if state == "closed":
        close(folder.name)
    with pytest.raises(PermissionError if state == "closed" else ValueError):
        encoded[1](folder, tmp_path / "out", format="npy")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()} == before


def test_a_link_to_a_disk_that_is_not_mounted_keeps_its_embeddings(folder, tmp_path, encoded):
    write_sound(tmp_path / "disk" / "k.wav", seed=60)
    (folder / "link").symlink_to(tmp_path / "disk")
    assert encoded[1](folder, tmp_path / "out").num_clips == 8
    (tmp_path / "disk").rename(tmp_path / "away")
    summary = encoded[1](folder, tmp_path / "out")
    assert (summary.num_clips, summary.num_dropped, list(summary.failures)) == (8, 0, ["link"])
    assert "link/k.wav" in load_embeddings(tmp_path / "out")[0]
    (folder / "link").unlink()
    assert encoded[1](folder, tmp_path / "out").num_dropped == 1


@pytest.mark.parametrize("first, then", [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_archive_from_another_system_is_not_encoded_again(folder, tmp_path, encoded, first, then):
    (folder / "i.wav").rename(folder / unicodedata.normalize(first, "ü.wav"))
    encoded[1](folder, tmp_path / "out")
    before = parts(tmp_path / "out")
    (folder / unicodedata.normalize(first, "ü.wav")).rename(folder / unicodedata.normalize(then, "ü.wav"))
    summary = encoded[1](folder, tmp_path / "out")
    assert (encoded[0], summary.num_clips, summary.num_dropped, summary.failures) == ([], 7, 0, {})
    assert parts(tmp_path / "out") == before
    assert unicodedata.normalize("NFC", "ü.wav") in load_embeddings(tmp_path / "out")[0]


def test_names_that_an_earlier_version_stored_in_both_forms(folder, tmp_path, encoded, monkeypatch):
    names = [unicodedata.normalize(form, "ü.wav") for form in ("NFC", "NFD")]
    for seed, name in enumerate(names):
        write_sound(folder / name, seed)
    with monkeypatch.context() as patch:
        patch.setattr("modeling_atri.audio_io.discovery.normalized_name", str)
        patch.setattr("modeling_atri.encode.folder.normalized_name", str)
        assert encoded[1](folder, tmp_path / "out").num_clips == 9
    ids, embeddings = load_embeddings(tmp_path / "out")
    assert set(names) < set(ids) and len(np.unique(embeddings, axis=0)) == 9
    summary = encoded[1](folder, tmp_path / "out")
    assert (encoded[0], summary.num_clips, list(summary.failures)) == ([], 8, [names[1]])
    assert load_embeddings(tmp_path / "out")[0] == sorted([*NAMES, names[0]])


def test_a_renamed_folder_is_not_encoded_again(folder, tmp_path, encoded):
    read, encode = encoded
    encode(folder, tmp_path / "out")
    before = dict(zip(*load_embeddings(tmp_path / "out"), strict=True))
    (folder / "b").rename(folder / "c")
    (folder / "f" / "g" / "h.wav").rename(folder / "a0.wav")
    summary = encode(folder, tmp_path / "out")
    assert read == []
    assert (summary.num_clips, summary.num_encoded, summary.num_moved, summary.num_dropped) == (7, 0, 3, 0)
    ids, embeddings = load_embeddings(tmp_path / "out")
    assert ids == ["a.wav", "a0.wav", "c/c.flac", "c/d.WAV", "e.ogg", "i.wav", "j.wav"]
    old = {"a0.wav": "f/g/h.wav", "c/c.flac": "b/c.flac", "c/d.WAV": "b/d.WAV"}
    for name, row in zip(ids, embeddings, strict=True):
        np.testing.assert_array_equal(row, before[old.get(name, name)])
    again = encode(folder, tmp_path / "out")
    assert (read, again.num_moved, again.num_clips) == ([], 0, 7)


def test_only_equal_content_takes_an_embedding(folder, tmp_path, encoded):
    """Files of the size and time of one that is gone, and a copy of one that is still there, are encoded."""
    read, encode = encoded
    write_sound(folder / "k.wav", 70, 8000)
    encode(folder, tmp_path / "out")
    status = (folder / "a.wav").stat()
    (folder / "a.wav").unlink()
    write_sound(folder / "other.wav", 60, 8000)
    os.utime(folder / "other.wav", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "copy.wav").write_bytes((folder / "k.wav").read_bytes())
    summary = encode(folder, tmp_path / "out")
    assert sorted(read) == ["copy.wav", "other.wav"]
    assert (summary.num_moved, summary.num_dropped, summary.num_clips) == (0, 1, 9)


def test_a_file_that_takes_the_name_of_another(folder, tmp_path, encoded, model, processor):
    _, encode = encoded
    encode(folder, tmp_path / "out")
    (folder / "i.wav").replace(folder / "j.wav")
    (folder / "a.wav").rename(folder / "i.wav")
    summary = encode(folder, tmp_path / "out")
    assert summary.num_clips == 6
    assert summary.num_encoded + summary.num_moved == 2
    ids, embeddings = load_embeddings(tmp_path / "out")
    assert ids == sorted({*NAMES} - {"a.wav"})
    np.testing.assert_allclose(embeddings, encode_audio(model, processor, [folder / name for name in ids]), atol=1e-5)


def test_embeddings_without_a_digest_are_made_again(folder, tmp_path, encoded):
    read, encode = encoded
    encode(folder, tmp_path / "out")
    for path in (tmp_path / "out" / "embeddings").iterdir():
        pq.write_table(pq.read_table(path).drop_columns("content"), path)
    assert encode(folder, tmp_path / "out").num_encoded == 0
    (folder / "a.wav").rename(folder / "z.wav")
    assert encode(folder, tmp_path / "out").num_moved == 0
    assert read == ["z.wav"]


def test_an_array_of_what_has_not_changed_is_not_gathered_again(folder, tmp_path, encoded, monkeypatch):
    _, encode = encoded
    out, gathered = tmp_path / "out", []
    read = encode_folder.__globals__["read_parts"]
    monkeypatch.setitem(
        encode_folder.__globals__, "read_parts", lambda *args, **options: gathered.append(1) or read(*args, **options)
    )

    def run() -> int:
        gathered.clear()
        encode(folder, out, format="npy")
        assert json.loads((out / "ids.json").read_text()) == load_embeddings(out)[0]
        np.testing.assert_array_equal(np.load(out / "embeddings.npy"), load_embeddings(out)[1])
        return len(gathered)

    assert [run(), run()] == [1, 0]
    (folder / "a.wav").unlink()  # noted without writing a part
    assert [run(), run()] == [1, 0]
    np.save(out / "embeddings.npy", np.zeros((1, 1), np.float32))
    assert [run(), run()] == [1, 0]
    (out / "ids.json").unlink()
    assert [run(), run()] == [1, 0]
    write_sound(folder / "new.wav", 50)
    assert [run(), run()] == [1, 0]


def test_failures_are_added_part_by_part(folder, tmp_path, encoded, monkeypatch):
    _, encode = encoded
    for name in ("a.wav", "i.wav", "j.wav"):
        (folder / name).write_bytes(b"broken")
    written = []
    line = encode_folder.__globals__["json_line"]
    monkeypatch.setitem(encode_folder.__globals__, "json_line", lambda item: written.append(item["id"]) or line(item))
    for _ in range(2):
        written.clear()
        summary = encode(folder, tmp_path / "out", part_size=1)
        assert written == ["a.wav", "i.wav", "j.wav"], "each is written once"
        listed = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
        assert {item["id"]: item["reason"] for item in listed} == summary.failures


def test_odd_files_do_not_stop_the_others(folder, tmp_path, encoded, caplog):
    whole = (folder / "a.wav").read_bytes()
    names = [b"0 bytes.wav", b"0 bytes.mp3", b"a folder.wav/inside.wav", b"two\nlines.wav", b"bad\x1b[31m\xff.wav"]
    contents = [b"", b"", whole[:-2], whole[:-4], b"no sound"]
    names += [b"promises too much.wav", b"header.wav", b"zeros.wav", b"page.mp3"]
    contents += [whole[:40] + b"\xff\xff\0\0" + whole[44:], whole[:44], bytes(9000), b"<!DOCTYPE html>" * 99]
    (folder / "a folder.wav").mkdir()
    for name, content in zip(names, contents, strict=True):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(content)
    os.mkfifo(folder / "pipe.wav")
    os.symlink("loop.wav", folder / "loop.wav")
    os.symlink(folder, folder / "b" / "above")
    for num_encoded in (9, 0):
        summary = encoded[1](folder, tmp_path / "out")
        assert (summary.num_clips, summary.num_encoded) == (9, num_encoded)
        assert sorted(summary.failures) == sorted(
            [*("0 bytes.mp3", "0 bytes.wav", "bad\x1b[31m\\xff.wav", "header.wav", "loop.wav", "page.mp3")]
            + ["pipe.wav", "promises too much.wav", "zeros.wav"]
        )
    assert {"a folder.wav/inside.wav", "two\nlines.wav"} < set(load_embeddings(tmp_path / "out")[0])
    assert "\x1b" not in caplog.text
