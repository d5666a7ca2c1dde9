"""Files in the place of a sound that are something else are called what they are."""

import io
import zipfile

import numpy as np
import pytest

from modeling_atri.audio_io import audio_length, load_audio
from modeling_atri.file_kinds_atri import foreign_kind, needs_av
from tests.modeling_atri.test_sound_files_atri import FORMATS, encoded, noise


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.mp3", encoded(noise(0.5), "MP3"))
    return file.getvalue()


def saved_by_numpy() -> bytes:
    file = io.BytesIO()
    np.save(file, noise(0.5))
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
CASES = [
    (LFS, "is a Git LFS pointer.*`git lfs pull`"),
    (b"/annex/objects/SHA256E-s12--ab.wav\n", "git-annex pointer.*`git annex get`"),
    (b"../../.git/annex/objects/aa/bb/SHA256E-s12--ab.wav", "git-annex pointer"),
    (b"<!DOCTYPE html><html><body>404</body></html>", "is an HTML page, probably a failed download"),
    (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "is an HTML page"),
    ("<!doctype html>".encode("utf-16"), "is an HTML page"),
    (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "is an XML text"),
    (b'{"error": "not found"}', "is a JSON text"),
    (b"[]", "is a JSON text"),
    (b"Not Found", "is a text and not a sound, and begins with 'Not Found'"),
    ("übel gelaufen\n".encode(), "is a text"),
    (b"#EXTM3U\nhttp://example.org/a.mp3\n", "is a playlist"),
    (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(100), "AppleDouble"),
    (zipped(), "is a zip archive. Unpack it"),
    (b"\x1f\x8b\x08" + bytes(100), "is a compressed file"),
    (b"x" * 3 + bytes(254) + b"ustar" + bytes(300), "is a tar archive"),
    (saved_by_numpy(), "is a NumPy file. Load it with `numpy.load`"),
    (b"PAR1" + bytes(100), "is a parquet file"),
    (b"MThd" + bytes(20), "is a MIDI file"),
    (b"%PDF-1.7", "is a PDF"),
    (b"\x89PNG\r\n\x1a\n" + bytes(20), "is an image"),
    (bytes(5_000), "begins with zeros only"),
]


@pytest.mark.parametrize(("content", "reason"), CASES)
def test_kinds(tmp_path, content, reason):
    (tmp_path / "sound.wav").write_bytes(content)
    for read in (load_audio, audio_length):
        with pytest.raises(ValueError, match=rf"^Cannot decode '.*sound\.wav': it .*{reason}"):
            read(tmp_path / "sound.wav")
        with pytest.raises(ValueError, match=rf"^Cannot decode 'x\.mp3': it .*{reason}"):
            read({"path": "x.mp3", "bytes": content})


@pytest.mark.parametrize("format", FORMATS)
def test_sounds_are_no_other_kind(format):
    content = encoded(noise(0.5), format)
    assert foreign_kind(content[:1024]) is None


def test_what_needs_av_is_known_by_its_beginning():
    assert needs_av(b"\0\0\0\x18ftypisom")
    assert not needs_av(bytes(200))
    assert not needs_av(b"")
