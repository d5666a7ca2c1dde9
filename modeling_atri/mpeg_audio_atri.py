"""MPEG audio (MP3, MP2 and MP1): its frames are counted, and joined streams are told apart.

libsndfile takes the length of a stream from the Xing or Info header in its first frame, and else estimates it from the
size of the first frame; it then reads no sample beyond that length. Encoders that write to a pipe leave the header
out, and in joined files the first header states the length of the first file only. This module therefore walks from
frame to frame and hands libsndfile streams that each state their own length.

Source: ISO/IEC 11172-3 and 13818-3 for frames; http://gabriel.mp3-tech.org/mp3infotag.html for Xing and Info headers.
"""

import re
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


class MpegStream(NamedTuple):
    """One stream, from one encoder, without tags."""

    pieces: list[bytes | tuple[int, int]]  # as libsndfile reads it whole: bytes, and ranges of the file
    num_samples: int | None  # per channel; None where libsndfile finds the right number in `content`


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
                if before - 4 - side in (0, 2):
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
    place, before, num_frames, frames = start, start, 0, _KnownFrames()
    ends = False
    while place < limit and not ends:
        stop = min(limit, place + MAPPED_AT_ONCE)
        while place < stop:
            frame = frames[content[place : place + 4]]
            if frame is None or frame[1] is not kind:
                ends = True
                break
            before = place
            place += frame[0] + free_size
            num_frames += 1
        forget_pages(content)
    is_cut = place > limit
    return _Run(kind, start, before if is_cut else place, num_frames - is_cut, is_cut)


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
    ranges: list[bytes | tuple[int, int]] = [(run.start, run.stop) for run in runs]
    if kind.layer != _LAYER_III or kind.is_free:
        frames = b"".join(content[run.start : run.stop] for run in runs)
        return MpegStream([_with_more_frames(frames, num_frames)], num_frames * kind.num_samples)
    if stated == num_frames and not is_vbri:
        return MpegStream(ranges, None)
    if stated and header is not None and not is_vbri:  # the header is in the first frame
        place, first = header + 8, runs[0]
        ranges[:1] = [(first.start, place), num_frames.to_bytes(4, "big"), (place + 4, first.stop)]
        return MpegStream(ranges, None)
    if header is not None:
        first_sound = start + _frame_at(content, start).size
        ranges[0] = (first_sound, runs[0].stop)
        start = first_sound if first_sound < runs[0].stop else runs[1].start
    return MpegStream([_xing_frame(content[start : start + 4], num_frames), *ranges], None)


def _stated_frames(header: bytes, is_vbri: bool) -> int:
    if is_vbri:
        return int.from_bytes(header[14:18], "big")
    return int.from_bytes(header[8:12], "big") if len(header) > 7 and header[7] & 1 else 0


def _xing_frame(header: bytes, num_frames: int) -> bytes:
    """A frame of the kind that `header` begins, without sound, which states a number of frames."""
    # Without checksum and padding, and with the highest bit rate of the kind, so that there is room.
    header = bytes([header[0], header[1] | 1, 0xE0 | header[2] & 0x0C, header[3]])
    frame = _frame_at(header, 0)
    stated = b"Xing" + (1).to_bytes(4, "big") + num_frames.to_bytes(4, "big")
    return (header + bytes(frame.kind.side_information) + stated).ljust(frame.size, b"\0")


def _with_more_frames(frames: bytes, num_frames: int) -> bytes:
    """A stream of layer I or II, or of a free format, which cannot state its length.

    Its last frame is repeated until libsndfile, which estimates the length from the first frame, reads beyond the end.
    """
    first = _frame_at(frames, 0)
    size = _free_size(frames, 0, first.kind) if first.kind.is_free else first.size
    place = last = 0
    while place < len(frames):
        last = place
        frame = _frame_at(frames, place)
        place += frame.size + (size if frame.kind.is_free else 0)
    num_more = 2 + max(0, (num_frames + 1) * size - len(frames)) // (len(frames) - last)
    return frames + num_more * frames[last:]
