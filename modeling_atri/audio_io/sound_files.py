"""Sound files opened and decoded block by block; those that are not whole are refused.

libsndfile takes most files that were cut short for shorter recordings, and soundfile's `blocks` fills up what it could
not read with whatever is in memory: what is promised and what is there are compared here. A cut is seen in WAV, RF64,
W64, AIFF, AU, SVX, CAF, VOC, MAT4, FLAC, OGG, and in MP3 that states its length (a Xing or Info header, which nearly
all writers add). It is not seen in rare formats of which libsndfile does not tell it (NIST, PVF, IRCAM, AVR, PAF, XI),
nor in an MP3 without that header: libsndfile then estimates the length, and reads no further.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import soundfile


# Samples a channel, decoded at a time: 4 s at 16 kHz. Larger blocks would be fresh pages of memory every time, which
# take longer than what is done on them.
_BLOCK_LENGTH = 2**16
_RATES = range(1_000, 768_001)  # Hz; a header that says another is broken, and resampling would take any memory

# libsndfile's log of a file whose header promises more bytes than the file holds.
_SHORT_CHUNK = re.compile(
    r"^\s*(?:data|SSND|BODY|riff|Riff size|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE
)
_CUT = re.compile(r"Seems to be a truncated file|File seems to be truncated")  # the same of VOC and MAT4
# Writers that cannot seek back (a pipe) leave a size near 2**31 or 2**32 in the header: that file is whole.
_STREAMED_SIZE = 0x7FFF_0000
_UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's, of a FLAC file that was streamed
# An MP3's stated length may count its own header, and the samples that encoder and decoder add: two frames at most.
_MP3_PADDING = 2 * 1152
_MP3_HEAD = 4096  # bytes in which the first frame begins
_OGG_TAIL = 2**17  # bytes in which the last page begins, which has up to 2**16


class SoundFile(soundfile.SoundFile):
    """A sound file that is read from its beginning, or from where `seek` put it, on.

    Args:
        target: a path or a binary file object.
        name: of the file, for messages.

    Raises:
        ValueError: no sound file, one that is truncated as far as its header shows, or one of an impossible rate.
    """

    def __init__(self, target: str | BinaryIO, name: str):
        self.label = name
        try:
            super().__init__(target)
        # soundfile takes a name that ends in `.raw` for headerless samples and then misses their rate: TypeError.
        except (soundfile.SoundFileError, TypeError) as error:
            raise ValueError(f"Cannot decode {name}: {_reason(error)}") from error
        try:
            _check_rate(self)
            _check_log(self)
            if self.format == "OGG" and not _peek(target, _ends_with_last_page):
                raise ValueError(f"Cannot use {name}: the file is truncated, its last page is missing or not whole.")
            self.states_length = self.knows_length and (self.format != "MP3" or _peek(target, _mp3_states_length))
        except BaseException:
            self.close()
            raise

    @property
    def knows_length(self) -> bool:
        """Whether `frames` is a number of samples, stated or estimated."""
        return self.frames != _UNKNOWN_LENGTH

    def seekable(self) -> bool:
        """False: soundfile would seek to where it is after each block, which FLAC of unknown length fails at."""
        return False

    def mono_blocks(self, num_frames: int | None = None) -> Iterator[np.ndarray]:
        """Decodes block after block, each `(block_length,)` float32, the mean over the channels.

        Args:
            num_frames: how many samples a channel; default: to the end.

        Raises:
            ValueError: what is there cannot be decoded, or ends before it should by the header.
        """
        num_frames = self.frames if num_frames is None else num_frames
        num_left = num_frames
        while num_left > 0:
            asked = min(_BLOCK_LENGTH, num_left)
            try:
                # Not `blocks`: it gives blocks of full length also where fewer samples were decoded.
                block = self.read(asked, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                place = f"{self.label} beyond {num_frames - num_left} samples"
                raise ValueError(f"Cannot decode {place}: {_reason(error)}") from error
            num_left -= len(block)
            if len(block):
                yield _mean_over_channels(block)
            if len(block) < asked:
                break
        if self.states_length and num_left > (_MP3_PADDING if self.format == "MP3" else 0):
            raise ValueError(
                f"Cannot use {self.label}: the file is truncated, {num_frames - num_left} of {num_frames} samples "
                "could be read."
            )


def _check_rate(file: SoundFile) -> None:
    if file.samplerate not in _RATES:
        raise ValueError(
            f"Cannot use {file.label}: it states a sampling rate of {file.samplerate} Hz, where {_RATES[0]} to "
            f"{_RATES[-1]} Hz are allowed. Mend its header, or leave it out."
        )


def _check_log(file: SoundFile) -> None:
    """libsndfile itself takes a file that was cut short for a shorter recording, and only logs it."""
    log = file.extra_info
    if _CUT.search(log):
        raise ValueError(f"Cannot use {file.label}: the file is truncated, its end is missing.")
    for promised, present in _SHORT_CHUNK.findall(log):
        if int(present) < int(promised) < _STREAMED_SIZE:
            raise ValueError(
                f"Cannot use {file.label}: the file is truncated, its header promises {promised} bytes of sound and "
                f"{present} are there."
            )


def _peek(target: str | BinaryIO, function: Callable[[BinaryIO], bool]) -> bool:
    """What a function says of a file, which is then where it was."""
    if isinstance(target, str):
        with open(target, "rb") as file:
            return function(file)
    position = target.tell()
    try:
        return function(target)
    finally:
        target.seek(position)


def _ends_with_last_page(file: BinaryIO) -> bool:
    """Whether the last page of an OGG file is whole and says that it is the last; what may follow it is no matter."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _OGG_TAIL))
    tail = file.read(_OGG_TAIL)
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    num_segments = page[26] if len(page) > 26 else 255
    size = 27 + num_segments + sum(page[27 : 27 + num_segments])
    return len(page) >= size and bool(page[5] & 4)


def _mp3_states_length(file: BinaryIO) -> bool:
    """Whether an MP3 says how many frames it has; else libsndfile estimates that by the first one and the size."""
    file.seek(0)
    start = file.read(10)
    if start[:3] == b"ID3":  # tags, which may hold pictures; the size has 7 bits a byte
        file.seek(10 + sum(byte << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=False)))
    else:
        file.seek(0)
    head = file.read(_MP3_HEAD)
    place = max(head.find(b"Xing"), head.find(b"Info"))
    flags, num_frames = head[place + 4 : place + 8], head[place + 8 : place + 12]
    return place >= 0 and len(flags) == 4 and bool(flags[3] & 1) and any(num_frames)


def _mean_over_channels(block: np.ndarray) -> np.ndarray:
    """`(block_length, num_channels)` to `(block_length,)`: `block.mean(axis=1)`, forty times faster."""
    mono, num_channels = block[:, 0], block.shape[1]
    for channel in range(1, num_channels):
        mono = mono + block[:, channel]
    return mono if num_channels == 1 else mono / np.float32(num_channels)


def _reason(error: Exception) -> str:
    return getattr(error, "error_string", str(error)).rstrip(".") + "."


__all__ = ["SoundFile"]
