"""MPEG audio (MP3, MP2 and MP1): its frames are counted, and joined streams are told apart.

libsndfile takes the length of a stream from the Xing or Info header in its first frame, and else estimates it from the
size of the first frame; it then reads no sample beyond that length. Encoders that write to a pipe leave the header
out, and in joined files the first header states the length of the first file only. This module therefore walks from
frame to frame and hands libsndfile streams that each state their own length. To go to a place, libsndfile too walks
there from frame to frame, so the places of some frames are noted, and a stream can be handed out from there on.

Source: ISO/IEC 11172-3 and 13818-3 for frames; http://gabriel.mp3-tech.org/mp3infotag.html for Xing and Info headers.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple, cast

from .byte_marks_atri import MAPPED_AT_ONCE, Content, find_marks, forget_pages, tag_size
from .sound_errors_atri import BrokenStreamError


_LAYER_III = 3
_VERSIONS = {0: 2.5, 2: 2, 3: 1}  # by the two bits of a frame's header
_RATES = {1: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 2.5: (11_025, 12_000, 8_000)}  # Hz
_KILOBITS = {  # per second, by MPEG-1 or later and layer; 0 is the free format
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MAX_FREE_SIZE = 8192  # bytes between two frames of the free format, more than 640 kbit/s need
# The third byte of a frame's header, whose bits 1111 (bit rate) and 11 (sampling rate) stand for nothing.
_BIT_RATE_AND_RATE = b"".join(re.escape(bytes([byte])) for byte in range(0xF0) if byte >> 2 & 3 != 3)
_FRAME_OR_TAG = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][%s]|ID3|APETAGEX" % _BIT_RATE_AND_RATE)
# After other bytes than frames and tags, so many frames in a row are taken for sound and not for chance.
_MIN_FRAMES_AFTER_JUNK = 4
_NOTED = 1024  # every so many frames, the place of a frame is noted: 27 s at 44.1 kHz

Pieces = list[bytes | tuple[int, int]]  # bytes, and ranges of a file


class FrameIndex(NamedTuple):
    """Where some frames of a stream of layer III are, so that the stream can be read from there on."""

    header: bytes  # the frame that states the number of frames, and maybe what to leave out at both ends
    stated_at: int  # place of that number in `header`
    ranges: list[tuple[int, int]]  # of the frames with sound
    numbers: array  # of the frames that are noted, from 0
    places: array
    num_frames: int
    frame_samples: int

    def pieces_from(self, number: int) -> tuple[Pieces, int]:
        """The stream from the last noted frame up to a frame on, and the number of the noted frame.

        Its header states the frames that are left. What libsndfile leaves out at the beginning, it leaves out here
        too, so all samples are so many whole frames nearer to the beginning than in the whole stream.
        """
        noted = max(0, bisect_right(self.numbers, number) - 1)
        first, place = self.numbers[noted], self.places[noted]
        stated = (self.num_frames - first).to_bytes(4, "big")
        header = self.header[: self.stated_at] + stated + self.header[self.stated_at + 4 :]
        return [header, *((max(start, place), stop) for start, stop in self.ranges if stop > place)], first


class MpegStream(NamedTuple):
    """One stream, from one encoder, without tags."""

    pieces: Pieces  # as libsndfile reads it whole
    num_samples: int | None  # per channel; None where libsndfile finds the right number in `content`
    frame_index: FrameIndex | None = None  # of layer III, but not of the free format


class _Kind(NamedTuple):
    """What all frames of a stream have in common."""

    version: float
    layer: int
    rate: int
    num_channels: int
    is_free: bool

    @property
    def num_samples(self) -> int:
        return 384 if self.layer == 1 else 576 if self.layer == _LAYER_III and self.version != 1 else 1152

    @property
    def side_information(self) -> int:
        """Bytes between the header of a frame of layer III and its sound, where encoders put their own header."""
        return {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}[self.version == 1, self.num_channels]


class _Frame(NamedTuple):
    size: int  # in bytes; in the free format that of the padding alone
    kind: _Kind


class _Run(NamedTuple):
    """Frames of one kind with nothing between them."""

    kind: _Kind
    start: int
    stop: int
    num_frames: int
    is_cut: bool  # whether an incomplete frame follows
    last: int  # place of the last frame
    noted: list[int]  # places of every 1024th frame, from the first on


# Equal kinds are one object, in all threads, and are compared as such.
_KINDS = {
    values: _Kind(*values)
    for version, rates in _RATES.items()
    for values in product((version,), (1, 2, _LAYER_III), rates, (1, 2), (False, True))
}


def _frame(header: bytes) -> _Frame | None:
    """The frame that four bytes begin; None where they begin none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = _VERSIONS.get(header[1] >> 3 & 3), 4 - (header[1] >> 1 & 3)
    bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version is None or layer == 4 or bit_rate == 15 or rate == 3:
        return None
    kilobits = _KILOBITS[version == 1, layer][bit_rate]
    kind = _KINDS[version, layer, _RATES[version][rate], 1 if header[3] >> 6 == 3 else 2, kilobits == 0]
    slot = 4 if layer == 1 else 1  # bytes that sizes are counted in
    slots = 0 if kind.is_free else kind.num_samples // 8 // slot * 1000 * kilobits // kind.rate
    return _Frame((slots + padding) * slot, kind)


def _frame_at(content: Content, place: int) -> _Frame:
    """The frame at a place where one is known to begin."""
    return cast(_Frame, _frame(content[place : place + 4]))


class _KnownFrames(dict):
    """Frames by the four bytes that begin them, because a stream has few different ones."""

    def __missing__(self, header: bytes) -> _Frame | None:
        return self.setdefault(header, _frame(header))


def mpeg_streams(content: Content) -> list[MpegStream]:
    """The streams that are joined in a file, in their order; none where it holds no MPEG audio.

    Tags (ID3, APE, Lyrics3) and other bytes before, between and after the streams are left out. A new stream begins at
    a frame that states a length, and where sampling rate, channels, version or layer change.

    Raises:
        BrokenStreamError: a stream is shorter than its header states.
    """
    heads = _header_frames(content)
    streams: list[list[_Run]] = []
    for run in _runs(content, sorted(heads)):
        if streams and run.start not in heads and run.kind is streams[-1][-1].kind:
            streams[-1].append(run)
        else:
            streams.append([run])
    return [stream for runs in streams if (stream := _playable(content, runs, heads.get(runs[0].start)))]


def first_frame(content: Content) -> int | None:
    """Where MPEG audio begins; None where there is none."""
    return _next_frame(content, 0)


def _header_frames(content: Content) -> dict[int, int]:
    """Frames that hold a Xing, Info or VBRI header and no sound: their places, and those of the headers."""
    found = {}
    for place in find_marks(content, b"Xing", b"Info", b"VBRI"):
        for before in (13, 21, 36, 15, 23, 38):  # some encoders count a checksum of two bytes
            frame = _frame(content[max(0, place - before) : place - before + 4])
            if frame and frame.kind.layer == _LAYER_III:
                side = 32 if content[place : place + 4] == b"VBRI" else frame.kind.side_information
                has_room = frame.kind.is_free or frame.size >= before + 12
                if before - 4 - side in (0, 2) and has_room:
                    found[place - before] = place
    return found


def _runs(content: Content, heads: list[int]) -> Iterator[_Run]:
    """All frames of a file. A run ends before a frame that holds a header."""
    place = _next_frame(content, 0)
    while place is not None:
        kind = _frame_at(content, place).kind
        size = _free_size(content, place, kind) if kind.is_free else 0
        index = bisect_right(heads, place)
        limit = heads[index] if index < len(heads) else len(content)
        run = _run(content, place, limit, kind, size)
        if run.num_frames:
            yield run
        place = _next_frame(content, max(run.stop, place + 1))


def _run(content: Content, start: int, limit: int, kind: _Kind, free_size: int) -> _Run:
    place, last, before, num_frames, frames, noted = start, start, start, 0, _KnownFrames(), list[int]()
    forgotten, ends = start, False
    while place < limit and not ends:
        noted.append(place)
        for _ in range(_NOTED):
            if place >= limit:
                break
            frame = frames[content[place : place + 4]]
            if frame is None or frame[1] is not kind:
                ends = True
                break
            last, before = before, place
            place += frame[0] + free_size
            num_frames += 1
        if place - forgotten > MAPPED_AT_ONCE:
            forget_pages(content)
            forgotten = place
    forget_pages(content)
    if place > limit:  # the last frame is incomplete
        return _Run(kind, start, before, num_frames - 1, True, last, noted[: -(-(num_frames - 1) // _NOTED)])
    return _Run(kind, start, place, num_frames, False, before, noted[: -(-num_frames // _NOTED)])


def _next_frame(content: Content, place: int) -> int | None:
    """The first place from `place` on where frames begin; None where there are no more."""
    min_frames = 2
    while place < len(content):
        if size := tag_size(content, place):
            place += size
        elif _begins_frames(content, place, min_frames):
            return place
        else:
            min_frames = _MIN_FRAMES_AFTER_JUNK
            mark = _FRAME_OR_TAG.search(content, place + 1)
            place = mark.start() if mark else len(content)
    return None


def _begins_frames(content: Content, place: int, min_frames: int) -> bool:
    """Whether at least so many complete frames of one kind begin here, or fewer up to the end of the sound."""
    first = frame = _frame(content[place : place + 4])
    if frame and frame.kind.is_free and min_frames == _MIN_FRAMES_AFTER_JUNK:
        return False  # any bytes may look like frames of a free format
    for _ in range(min_frames):
        if frame is None or first is None or frame.kind is not first.kind:
            return False
        size = frame.size + (_free_size(content, place, frame.kind) if frame.kind.is_free else 0)
        place += max(size, 4)
        if place >= len(content) or tag_size(content, place):
            return min_frames < _MIN_FRAMES_AFTER_JUNK and place <= len(content)
        frame = _frame(content[place : place + 4])
    return True


def _free_size(content: Content, place: int, kind: _Kind) -> int:
    """Size of the frames of a free format without their padding, by the distance of the next frame of the kind."""
    for next_place in range(place + 24, min(place + _MAX_FREE_SIZE, len(content))):
        if content[next_place] == 0xFF and (frame := _frame(content[next_place : next_place + 4])):
            if frame.kind is kind:
                return next_place - place - _frame_at(content, place).size
    return _MAX_FREE_SIZE


def _playable(content: Content, runs: list[_Run], header: int | None) -> MpegStream | None:
    """A stream that libsndfile reads whole; None for one without frames. `header` is the place of its Xing header."""
    kind, start = runs[0].kind, runs[0].start
    num_frames = sum(run.num_frames for run in runs) - (header is not None)
    is_vbri = header is not None and content[header : header + 4] == b"VBRI"
    stated = 0 if header is None else _stated_frames(content[header : header + 18], is_vbri)
    # Some encoders count the frame of the header too.
    if stated - num_frames > (0 if runs[-1].is_cut else 1):
        raise BrokenStreamError(
            f"the file is truncated, its header states {stated} MPEG frames, but {num_frames} are there."
        )
    if num_frames < 1:
        return None
    if kind.layer != _LAYER_III or kind.is_free:
        return _repeating_the_last(content, runs, num_frames)
    first = start if header is None else start + _frame_at(content, start).size
    if stated and header is not None and not is_vbri:
        index = _index(runs, content[start:first], header + 8 - start, first, num_frames)
    else:
        first = next(max(run.start, first) for run in runs if run.stop > first)
        index = _index(runs, *_xing_frame(content[first : first + 4]), first, num_frames)
    return MpegStream(index.pieces_from(0)[0], None, index)


def _index(runs: list[_Run], header: bytes, stated_at: int, first: int, num_frames: int) -> FrameIndex:
    """Where the frames with sound are, which begin at `first`; a frame before it is a header."""
    ranges = [(max(run.start, first), run.stop) for run in runs if run.stop > first]
    numbers, places = array("q", [0]), array("q", [ranges[0][0]])
    number = -1 if runs[0].start < first else 0
    for run in runs:
        for place, noted in zip(run.noted, range(number, number + run.num_frames, _NOTED), strict=True):
            if noted > 0:
                numbers.append(noted)
                places.append(place)
        number += run.num_frames
    return FrameIndex(header, stated_at, ranges, numbers, places, num_frames, runs[0].kind.num_samples)


def _stated_frames(header: bytes, is_vbri: bool) -> int:
    if is_vbri:
        return int.from_bytes(header[14:18], "big")
    return int.from_bytes(header[8:12], "big") if len(header) > 7 and header[7] & 1 else 0


def _xing_frame(header: bytes) -> tuple[bytes, int]:
    """A frame of the kind that `header` begins, without sound, and the place where it states the number of frames."""
    # Without checksum and padding, and with the highest bit rate of the kind, so that there is room.
    header = bytes([header[0], header[1] | 1, 0xE0 | header[2] & 0x0C, header[3]])
    frame = _frame_at(header, 0)
    begun = header + bytes(frame.kind.side_information) + b"Xing" + (1).to_bytes(4, "big")
    return begun.ljust(frame.size, b"\0"), len(begun)


def _repeating_the_last(content: Content, runs: list[_Run], num_frames: int) -> MpegStream:
    """A stream of layer I or II, or of a free format, which cannot state its length.

    Its last frame is repeated until libsndfile, which estimates the length from the first frame, reads beyond the end.
    """
    kind, start, last = runs[0].kind, runs[0].start, runs[-1]
    size = _free_size(content, start, kind) if kind.is_free else _frame_at(content, start).size
    num_bytes = sum(run.stop - run.start for run in runs)
    num_more = 2 + max(0, (num_frames + 1) * size - num_bytes) // (last.stop - last.last)
    pieces: Pieces = [(run.start, run.stop) for run in runs]
    return MpegStream([*pieces, num_more * content[last.last : last.stop]], num_frames * kind.num_samples)
