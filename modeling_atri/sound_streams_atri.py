"""The streams in a sound file: joined files are told apart, and wrong lengths in headers are corrected.

libsndfile reads the first of several joined files without an error, believes the sizes in most headers, and does not
know that a header of size 0 is that of a recorder that crashed. Here each stream of a file becomes a file of its own,
whose header is right. A file that needs nothing of this is handed on as it is. What was found in a file on disk is
remembered, so that an excerpt of a long recording does not need another walk through all of it.
"""

import io
import mmap
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, BinaryIO, Literal, NamedTuple, cast

from .byte_marks_atri import MAPPED_AT_ONCE, Content, find_marks, forget_pages, tag_size
from .file_memory_atri import FileMemory
from .mpeg_audio_atri import FrameIndex, MpegStream, first_frame, mpeg_streams
from .sound_errors_atri import BrokenStreamError


# Writers leave such sizes, of 32 bits, in the header of a file whose length they do not know yet.
_UNKNOWN_SIZE = 0x7FFF_0000
# So many bytes too many in a header are a miscount and no truncation: some writers count a pad byte or the header
# (44 bytes of a plain WAV file, 60 of a longer one) among the samples. It is 2 ms of 16-bit samples at 16 kHz.
_MISCOUNT = 64
_SEARCH_BLOCK = 2**20  # bytes
_MAPPED_FROM = 2**25  # bytes; a larger file is not read as a whole
_VIEWED_AT_ONCE = 2**16  # bytes that are read at once of a file that is put together
_JUNK = 2**20  # bytes before MPEG audio, at most
_FLAC_FIRST_BLOCK = (b"\0\0\0\x22", b"\x80\0\0\x22")  # its header, which follows the mark of a stream
_MPEG_IN_WAV = (0x50, 0x55)  # format tags of layers I and II, and of layer III
_W64_MARK = bytes.fromhex("2e91cf11a5d628db04c10000")  # what follows `riff` in the name of a chunk
# Frames of MPEG audio before the place to go to, so that the decoder has the bits that its first frames take from
# those before them. Its rounding depends on the number of frames that it has decoded: up to 1e-7 for samples of 1.
_FRAMES_AHEAD = 64
# What is remembered of a file is at most so long: pieces, and bytes in them. More are found in damaged files.
_MOST_PIECES, _MOST_BYTES = 256, 2**14

Pieces = Sequence[bytes | tuple[int, int]]  # bytes, and ranges of a file


class Stream(NamedTuple):
    """One stream of a file."""

    file: BinaryIO  # at its beginning
    num_frames: int | None = None  # samples per channel; None where libsndfile knows it
    last_page: int | None = None  # of OGG: a frame before the last page, on which libsndfile goes to wrong places
    # The stream from some place up to a frame (sample) on, as a file, and that place. None: only from its beginning.
    later: Callable[[int], tuple[BinaryIO, int]] | None = None


class _Found(NamedTuple):
    """One stream that was found in a file, as `Stream`."""

    pieces: Pieces | None = None  # None for the file as it is
    num_frames: int | None = None
    last_page: int | None = None
    frame_index: FrameIndex | None = None

    @property
    def num_bytes(self) -> int:
        return sum(len(piece) for piece in self.pieces or () if isinstance(piece, bytes))


_KNOWN: FileMemory[list[_Found]] = FileMemory()


def streams_in(file: BinaryIO) -> list[Stream]:
    """The streams of a sound file, in their order: one, or several where files were joined.

    Raises:
        BrokenStreamError: the file is truncated.
    """
    known = _KNOWN.find(file)
    if known is None:
        known = _find_streams(file)
        num_pieces = sum(len(found.pieces or ()) for found in known)
        if num_pieces <= _MOST_PIECES and sum(found.num_bytes for found in known) <= _MOST_BYTES:
            _KNOWN.keep(file, known)
    return _opened(file, known)


def _opened(file: BinaryIO, known: Sequence[_Found]) -> list[Stream]:
    file.seek(0)
    return [
        Stream(
            file if found.pieces is None else view_of(file, found.pieces),
            *(found.num_frames, found.last_page),
            None if found.frame_index is None else partial(_later, file, found.frame_index),
        )
        for found in known
    ]


def _later(file: BinaryIO, index: FrameIndex, frame: int) -> tuple[BinaryIO, int]:
    pieces, number = index.pieces_from(frame // index.frame_samples - _FRAMES_AHEAD)
    return view_of(file, pieces), number * index.frame_samples


def _find_streams(file: BinaryIO) -> list[_Found]:
    start = after_tags(file)
    magic = _read(file, start, 16)
    if magic[:4] == b"OggS":
        return _ogg_streams(_content(file), start)
    if magic[:4] == b"fLaC":
        return _flac_streams(file, start)
    if _layout(magic):
        return _chunked_streams(file, start)
    if magic[:1] == b"\xff" or start:
        if found := _mpeg_audio(file):
            return found
    return [_Found()]


def after_tags(file: BinaryIO) -> int:
    """Where a file begins behind its tags, such as ID3, which some programs write before any format."""
    start = 0
    while size := tag_size(_read(file, start, 32), 0):
        start += size
    return start


def mpeg_after_junk(file: BinaryIO) -> list[Stream]:
    """The streams of MPEG audio in a file that begins with something else; none where there are none."""
    return [] if first_frame(_read(file, 0, _JUNK)) is None else _opened(file, _mpeg_audio(file))


class FileView(io.RawIOBase):
    """A file put together from bytes and from ranges of another file."""

    def __init__(self, file: BinaryIO, pieces: Pieces):
        self._file = file
        self._pieces = pieces
        sizes = (len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
        self._starts = [0, *accumulate(sizes)]  # of each piece, and the end
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._starts[-1]:
            return 0
        number = bisect_right(self._starts, self._position) - 1
        piece, place = self._pieces[number], self._position - self._starts[number]
        count = min(len(buffer), self._starts[number + 1] - self._position)
        start = place if isinstance(piece, bytes) else piece[0] + place
        content = piece[start : start + count] if isinstance(piece, bytes) else _read(self._file, start, count)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def view_of(file: BinaryIO, pieces: Pieces) -> BinaryIO:
    """A file put together from bytes and from ranges of another file."""
    return cast(BinaryIO, io.BufferedReader(FileView(file, pieces), _VIEWED_AT_ONCE))


def _mpeg_audio(file: BinaryIO) -> list[_Found]:
    return _mpeg_streams(_content(file), 0)


def _mpeg_streams(content: Content, shift: int) -> list[_Found]:
    """The streams of MPEG audio in content that begins at some place of a file."""
    return [_found_mpeg(stream, shift) for stream in mpeg_streams(content)]


def _found_mpeg(stream: MpegStream, shift: int) -> _Found:
    frame_index = stream.frame_index if shift == 0 else None
    return _Found(_shifted(stream.pieces, shift), stream.num_samples, None, frame_index)


def _shifted(pieces: Pieces, shift: int) -> Pieces:
    return [piece if isinstance(piece, bytes) else (piece[0] + shift, piece[1] + shift) for piece in pieces]


def _content(file: BinaryIO) -> Content:
    """All bytes of a file; mapped to memory if they are many and in a file on disk."""
    if size_of(file) < _MAPPED_FROM or not isinstance(file, (io.FileIO, io.BufferedReader)):
        return _read(file, 0)
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read(file: BinaryIO, start: int, count: int | None = None) -> bytes:
    """Read `count` bytes from a place on, all of them unless the file ends; without a count, all up to the end."""
    file.seek(start)
    content = file.read() if count is None else file.read(count)
    while count is not None and 0 < len(content) < count:  # files without a buffer may return less
        more = file.read(count - len(content))
        if not more:
            break
        content += more
    return content


def size_of(file: BinaryIO) -> int:
    """Number of bytes in a file, which is left at its end."""
    file.seek(0, os.SEEK_END)
    return file.tell()


def _flac_streams(file: BinaryIO, start: int) -> list[_Found]:
    """A FLAC stream ends where the next one, or tags before it or at the end of the file, begin."""
    starts = _flac_starts(file, start)
    stops = [*starts[1:], size_of(file)]
    ranges = [(first, _before_tags(file, first, stop)) for first, stop in zip(starts, stops, strict=True)]
    return [_Found()] if ranges == [(0, stops[-1])] else [_Found([piece]) for piece in ranges]


def _before_tags(file: BinaryIO, start: int, stop: int) -> int:
    """Where the tags begin that a range ends with."""
    if stop - start > 128 and _read(file, stop - 128, 3) == b"TAG":
        return _before_tags(file, start, stop - 128)
    footer = _read(file, max(start, stop - 32), 32)
    if footer[:8] == b"APETAGEX":
        size = int.from_bytes(footer[12:16], "little") + (32 if footer[23] & 0x80 else 0)
        return _before_tags(file, start, stop - size) if size < stop - start else stop
    if stop == size_of(file):
        return stop
    tail_start = max(start, stop - _SEARCH_BLOCK)  # before the next stream, its ID3 tag may stand
    tail = _read(file, tail_start, stop - tail_start)
    place = tail.rfind(b"ID3")
    return tail_start + place if place >= 0 and place + tag_size(tail, place) == len(tail) else stop


def _flac_starts(file: BinaryIO, start: int) -> list[int]:
    """Where FLAC streams begin, from `start` on."""
    found, overlap = [start], 7
    header = _read(file, start + 8, 34)
    longest_block, shortest_frame = int.from_bytes(header[2:4], "big"), int.from_bytes(header[4:7], "big")
    num_samples = int.from_bytes(header[13:18], "big") & 0xF_FFFF_FFFF
    start += num_samples // max(1, longest_block) * shortest_frame  # the first stream is at least so long
    while True:
        block = _read(file, start, _SEARCH_BLOCK)
        places = find_marks(block, b"fLaC")
        found += [start + place for place in places if block[place + 4 : place + 8] in _FLAC_FIRST_BLOCK]
        if len(block) < _SEARCH_BLOCK:
            return sorted(set(found))
        start += len(block) - overlap


def _ogg_streams(content: Content, start: int) -> list[_Found]:
    """Chained streams of OGG: each begins with pages that are marked so, and ends with one that is marked so."""
    links: list[list[tuple[int, int]]] = []
    was_first = False
    for page, stop in _ogg_pages(content, start):
        is_first = bool(content[page + 5] & 2)
        if (is_first and not was_first) or not links:
            links.append([])
        links[-1].append((page, stop))
        was_first = is_first
    return [_ogg_stream(content, pages) for pages in links] or [_Found([(start, len(content))])]


def _ogg_stream(content: Content, pages: list[tuple[int, int]]) -> _Found:
    last = pages[-1][0]
    if not content[last + 5] & 4:
        raise BrokenStreamError("the file is truncated, its last page is missing or incomplete.")
    before = pages[-3][0] if len(pages) > 2 else pages[0][0]
    position = int.from_bytes(content[before + 6 : before + 14], "little", signed=True)
    return _Found([(pages[0][0], pages[-1][1])], last_page=max(0, position))


def _ogg_pages(content: Content, place: int) -> Iterator[tuple[int, int]]:
    """Start and end of each complete page."""
    place, forgotten = content.find(b"OggS\0", place), place
    while 0 <= place <= len(content) - 27:
        segments = content[place + 27 : place + 27 + content[place + 26]]
        stop = place + 27 + content[place + 26] + sum(segments)
        if stop > len(content):
            return
        is_followed = stop == len(content) or content[stop : stop + 5] == b"OggS\0"
        next_page = stop if is_followed else content.find(b"OggS\0", place + 5)
        if not place < next_page < stop:  # otherwise the page is cut and another file follows
            yield place, stop
        place = next_page if next_page < len(content) else -1
        if place - forgotten > MAPPED_AT_ONCE:
            forget_pages(content)
            forgotten = place


class _Layout(NamedTuple):
    """How a format made of chunks writes them. Sizes are in bytes."""

    first: int  # size of the file's header before the first chunk
    name: int  # size of a chunk's name
    size: int  # size of its size
    order: Literal["little", "big"]
    align: int  # chunks begin at multiples of this
    counts_header: bool  # whether a chunk's size includes its name and size
    data: bytes  # how the name of the chunk with the samples begins
    before_data: int  # size of what comes before the samples in that chunk


_RIFF = _Layout(12, 4, 4, "little", 2, False, b"data", 0)
_LAYOUTS = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"BW64": _RIFF,
    b"FORM": _Layout(12, 4, 4, "big", 2, False, b"SSND", 8),
    b"riff": _Layout(40, 16, 8, "little", 8, True, b"data", 0),
    b"caff": _Layout(8, 4, 8, "big", 1, False, b"data", 4),
    b".snd": _Layout(0, 0, 0, "big", 1, False, b"", 0),
}


def _layout(magic: bytes) -> _Layout | None:
    if magic[:4] in (b"RIFF", b"RF64", b"BW64") and magic[8:12] != b"WAVE":
        return None
    if magic[:4] == b"FORM" and magic[8:12] not in (b"AIFF", b"AIFC"):
        return None
    if magic[:4] == b"riff" and magic[4:16] != _W64_MARK:
        return None
    return _LAYOUTS.get(magic[:4])


class _Chunk(NamedTuple):
    name: bytes
    place: int
    start: int  # of its content
    size: int  # of its content, as its header says


def _chunks(file: BinaryIO, layout: _Layout, place: int, stop: int) -> Iterator[_Chunk]:
    """Chunks whose headers lie before `stop`, up to bytes that are no header of a chunk."""
    origin, head = place, layout.name + layout.size
    while place + head <= stop:
        header = _read(file, place, head)
        if not all(32 <= byte < 127 for byte in header[:4]):
            return
        size = int.from_bytes(header[layout.name :], layout.order) - (head if layout.counts_header else 0)
        yield _Chunk(header[: layout.name], place, place + head, size)
        place += head + max(size, 0)
        place += -(place - origin) % layout.align


class _Samples(NamedTuple):
    """The samples of one file, as its header says."""

    start: int
    size: int
    is_open: bool  # whether the size is one that stands for an unknown length
    size_field: int  # where the size is written
    format_tag: int  # of WAV


def _chunked_streams(file: BinaryIO, start: int) -> list[_Found]:
    size_of_file, streams = size_of(file), list[_Found]()
    next_start: int | None = start
    while next_start is not None:
        start = next_start
        magic = _read(file, start, 16)
        layout = _LAYOUTS[magic[:4]]
        samples = _au_samples(file, start) if magic[:4] == b".snd" else _samples(file, layout, start, size_of_file)
        if samples is None:
            break  # libsndfile says why
        next_start = None if samples.is_open else _next_file(file, layout, start, samples, size_of_file)
        stop = size_of_file if next_start is None else next_start
        present = max(0, stop - samples.start)
        if not samples.is_open and samples.size > present + _MISCOUNT:
            raise BrokenStreamError(
                f"the file is truncated, its header promises {samples.size} bytes of sound, but {present} are there."
            )
        size = present if samples.is_open else min(samples.size, present)
        if samples.format_tag in _MPEG_IN_WAV:
            streams += _mpeg_streams(_read(file, samples.start, size), samples.start)
        else:
            streams.append(_corrected(file, layout, magic, (start, stop), samples, size))
    return streams or [_Found()]


def _samples(file: BinaryIO, layout: _Layout, start: int, stop: int) -> _Samples | None:
    """Where the samples are and how long the header says they are; None where there is no such chunk."""
    long_size, long_place, format_tag = None, 0, 0
    for chunk in _chunks(file, layout, start + layout.first, stop):
        if chunk.name == b"ds64":  # the sizes of RF64: of the file, of the samples
            long_place = chunk.start + 8
            long_size = int.from_bytes(_read(file, long_place, 8), "little")
        elif chunk.name[:4] == b"fmt ":
            format_tag = int.from_bytes(_read(file, chunk.start, 2), "little")
        elif chunk.name[:4] == layout.data:
            size, place, limit = chunk.size, chunk.place + layout.name, _UNKNOWN_SIZE
            if long_size is not None and size in (0, 0xFFFF_FFFF):
                size, place = long_size, long_place
            if layout.size == 8 or place == long_place:
                limit = 2**62
            size -= layout.before_data
            first = chunk.start + layout.before_data
            is_open = size >= limit or (size <= 0 and first < stop and not _only_chunks(file, layout, first, stop))
            # More bytes than such a field can count follow the samples that it counts: it overflowed.
            is_open |= layout.size == 4 and stop - first - size >= 2**32
            return _Samples(first, max(size, 0), is_open, place, format_tag)
    return None


def _au_samples(file: BinaryIO, start: int) -> _Samples:
    offset, size = (int.from_bytes(_read(file, start + place, 4), "big") for place in (4, 8))
    return _Samples(start + offset, size, size == 0 or size >= _UNKNOWN_SIZE, start + 8, 0)


def _only_chunks(file: BinaryIO, layout: _Layout, start: int, stop: int) -> bool:
    """Whether chunks follow up to the end of the file, so that a chunk before them of size 0 is really empty."""
    ends = [chunk.start + chunk.size for chunk in _chunks(file, layout, start, stop)]
    return bool(ends) and abs(stop - ends[-1]) <= 1


def _next_file(file: BinaryIO, layout: _Layout, start: int, samples: _Samples, stop: int) -> int | None:
    """Where another sound file begins that was appended to this one; None where there is none."""
    end = samples.start + samples.size
    ends = [end, end + 1]
    if layout.name:
        chunks = _chunks(file, layout, end + -(end - start - layout.first) % layout.align, stop)
        ends += [chunk.place for chunk in chunks]
    for place in ends:
        if place < stop and _layout(_read(file, place, 16)):
            return place
    return None


def _corrected(
    file: BinaryIO, layout: _Layout, magic: bytes, place: tuple[int, int], samples: _Samples, size: int
) -> _Found:
    """A file with one header whose size of the samples is right; the file itself where nothing has to change."""
    start, stop = place
    is_whole = start == 0 and stop == size_of(file)
    is_right = samples.size == size and not samples.is_open and magic[:4] != b"BW64"
    if layout.name == 16:  # libsndfile reads W64 up to the end of the file, also what follows the samples
        is_right = is_right and samples.start + size == stop
    if is_whole and is_right:
        return _Found()
    if layout.name == 16:
        stop = samples.start + size
    header = bytearray(_read(file, start, samples.start - start))
    if magic[:4] in (b"RF64", b"BW64") or (layout is _RIFF and size >= 2**32):
        header = _rf64_header(header, stop - start - 8, size)
    else:
        written = size + layout.before_data + (layout.name + layout.size if layout.counts_header else 0)
        width, field = layout.size or 4, samples.size_field - start
        header[field : field + width] = min(written, 256**width - 1).to_bytes(width, layout.order)
    return _Found([bytes(header), (samples.start, stop)])


def _rf64_header(header: bytearray, size_of_file: int, size: int) -> bytearray:
    """The header of a WAV file, up to its samples, with sizes of 64 bits in a chunk `ds64`."""
    chunks = header[12:-4]
    if chunks[:4] == b"ds64":
        del chunks[: 8 + int.from_bytes(chunks[4:8], "little")]
    sizes = b"".join(number.to_bytes(8, "little") for number in (size_of_file + 36, size, 0)) + bytes(4)
    unknown = b"\xff" * 4
    return bytearray(b"RF64" + unknown + b"WAVEds64" + len(sizes).to_bytes(4, "little") + sizes + chunks + unknown)
