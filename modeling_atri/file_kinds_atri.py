"""What a file is that stands in the place of a sound: an error page, a pointer, a format for another decoder."""

import re


NUM_ZEROS = 512  # a file that begins with so many zeros is not what its name says
# The beginning of a file, and what it is. The first that fits counts.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs", "it is a Git LFS pointer and not the sound itself. Fetch the sound: `git lfs pull`"),
    (rb"(\.\./)*(\.git|\.datalad)?/?annex/objects/", "it is a git-annex pointer. Fetch the sound: `git annex get`"),
    (rb"\x00\x05\x16[\x00\x07]", "it holds metadata of macOS (AppleDouble). The sound is in the file without `._`"),
    (rb"(?i)\s*<(!doctype\s+html|html|head|body|script)", "it is an HTML page, probably a failed download"),
    (rb"(?i)\s*<(\?xml|error|!--)", "it is an XML text, probably the error message of a failed download"),
    (rb"\s*(#EXTM3U|\[playlist\])", "it is a playlist, which names sounds elsewhere"),
    (rb"\s*[{\[]\s*(\"|\{|\[|[}\]])", "it is a JSON text, probably the error message of a failed download"),
    (rb"PK\x03\x04|PK\x05\x06", "it is a zip archive. Unpack it first"),
    (rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "it is a compressed file. Unpack it first"),
    (rb".{257}ustar", "it is a tar archive. Unpack it first"),
    (rb"\x93NUMPY", "it is a NumPy file. Load it with `numpy.load` and pass the array with its sampling rate"),
    (rb"PAR1", "it is a parquet file"),
    (rb"MThd", "it is a MIDI file, which holds notes and no sound"),
    (rb"%PDF-", "it is a PDF file"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\x00{4}|RIFF.{4}WEBP", "it is an image"),
    (rb"\x00{%d}" % NUM_ZEROS, "it begins with zeros only, probably a download that was not finished"),
)
_KINDS_OF = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _KINDS]
# The beginning of formats that PyAV reads and soundfile does not: MP4 and its kin, Matroska and WebM, ASF (WMA),
# WavPack, Monkey's Audio, TTA, AMR, AC-3, AAC, FLV, AVI, RealMedia, Musepack, MPEG program and transport streams, DSD,
# TAK, DTS, Shorten; and containers that both read, with other codecs in them.
_FOR_AV = re.compile(
    rb".{4}(ftyp|moov|mdat|wide|free|skip)|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11|wvpk|MAC |TTA[12]|#!AMR"
    rb"|\x0b\x77|\xff[\xf0\xf1\xf8\xf9]|FLV\x01|RIFF.{4}AVI |\.RMF|MPCK|MP\+|\x00\x00\x01\xba|G.{187}G|DSD |FRM8|tBaK"
    rb"|\x7f\xfe\x80\x01|ajkg|NIST_1A|OggS|RIFF.{4}WAVE|caff|FORM.{4}AIF",
    re.DOTALL,
)
HEAD_SIZE = 1024  # bytes that are looked at


def foreign_kind(head: bytes) -> str | None:
    """What a file is by its first bytes, with what to do, where it is no sound; None where it may be one."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head.decode("utf-16", errors="replace").encode()
    head = head.removeprefix(b"\xef\xbb\xbf")
    for pattern, kind in _KINDS_OF:
        if pattern.match(head):
            return kind
    if _is_text(head):
        return f"it is a text and not a sound, and begins with {head[:40].decode(errors='replace').strip()!r}"
    return None


def needs_av(head: bytes) -> bool:
    """Whether a file that soundfile refuses is one that PyAV reads, by its first bytes."""
    return bool(_FOR_AV.match(head))


def _is_text(head: bytes) -> bool:
    try:
        text = head[:-3].decode() if len(head) == HEAD_SIZE else head.decode()  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return bool(text) and all(character.isprintable() or character in "\t\r\n\f" for character in text)
