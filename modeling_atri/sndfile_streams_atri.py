"""One stream of a sound file, decoded by soundfile, which is imported when the first file is opened."""

import os
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import BinaryIO

import numpy as np

from .sound_errors_atri import BrokenStreamError, UndecodableStreamError
from .sound_streams_atri import Stream, size_of, view_of


# Samples per channel that are decoded at once: 4 s at 16 kHz. Larger blocks are slower, because the system has to
# provide fresh pages of memory for each of them.
BLOCK_LENGTH = 2**16
# What libsndfile logs of truncated files of SVX, VOC and MAT4.
_CUT = re.compile(r"Seems to be a truncated file|File seems to be truncated|^\s*BODY : \d+ \(should be", re.MULTILINE)
_UNKNOWN_LENGTH = 2**63 - 1  # what libsndfile says of a FLAC file that was written to a pipe
# Frames of MP3 take bits from up to 511 bytes of the frames before them: 46 frames of the lowest bit rate. libsndfile
# decodes fewer frames in advance, and what it returns just after going there would be wrong.
_FRAMES_BEFORE = 46 * 576
_LEFT_OUT = 2 * 1152  # so many samples the decoder of MPEG audio may leave out where a frame is damaged: two frames


class SndfileStream:
    """One stream of a file.

    Attributes:
        samplerate (`int`): in hertz (Hz).
        num_frames (`int` or `None`): samples per channel; None for FLAC that was written to a pipe.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        self._open(stream.file)
        self._start, self._position = 0, 0  # frames where the open file begins, and that is read next
        self._last_page = stream.last_page if self._file.subtype == "VORBIS" else None
        self._is_mpeg = self._file.subtype.startswith("MPEG")
        self.samplerate: int = self._file.samplerate
        self.num_frames: int | None = self._file.frames if self._file.frames != _UNKNOWN_LENGTH else None
        if stream.num_frames is not None:
            self.num_frames = stream.num_frames
        if _CUT.search(self._file.extra_info):  # libsndfile only logs it
            self.close()
            raise BrokenStreamError("the file is truncated, its end is missing.")

    def _open(self, file: BinaryIO) -> None:
        soundfile = import_library("soundfile")
        self._error = soundfile.SoundFileError
        try:
            self._file = soundfile.SoundFile(_target(file), closefd=False)
        except soundfile.SoundFileError as error:
            raise UndecodableStreamError(_reason(error)) from error
        # Otherwise soundfile seeks to where it is after each block, which fails for FLAC of unknown length.
        self._file.seekable = lambda: False

    def close(self) -> None:
        """Close the decoder, but not the file."""
        self._file.close()

    def seek(self, frame: int) -> None:
        """Go to a frame.

        Raises:
            UndecodableStreamError: the stream cannot be decoded there.
        """
        place = frame
        if self._is_mpeg:
            place = max(0, frame - _FRAMES_BEFORE)
        elif self._last_page is not None:
            place = min(frame, self._last_page)
        try:
            self._begin_before(place)
            self._position = self._start + self._file.seek(place - self._start)
            for _ in self.mono_blocks(frame - place):
                pass
        except self._error as error:
            reason = f"from {frame / self.samplerate:.1f} s on it is damaged. {_reason(error)}"
            raise UndecodableStreamError(reason) from error

    def _begin_before(self, frame: int) -> None:
        """Open the stream from a later place on, because libsndfile walks through MPEG audio from its beginning."""
        file, start = (self._stream.file, 0) if self._stream.later is None else self._stream.later(frame)
        if start != self._start:
            self.close()
            self._open(file)
            self._start = start

    def mono_blocks(self, num_frames: int | None) -> Iterator[np.ndarray]:
        """Decode block after block, each of shape `(block_length,)`, float32, the mean over the channels.

        Args:
            num_frames: samples per channel to read; None reads all up to the end.

        Raises:
            BrokenStreamError: the stream cannot be decoded, or ends before.
        """
        num_left = _UNKNOWN_LENGTH if num_frames is None else num_frames
        while num_left > 0:
            asked = min(BLOCK_LENGTH, num_left)
            try:
                # Not `soundfile.blocks`: it yields blocks of full length also where fewer samples were decoded.
                block = self._file.read(asked, dtype="float32", always_2d=True)
            except self._error as error:
                raise UndecodableStreamError(f"beyond {self._position} samples, {_reason(error)}") from error
            num_left -= len(block)
            self._position += len(block)
            if len(block):
                yield _mean_over_channels(block)
            if len(block) < asked:
                break
        if self.num_frames is None or num_left <= 0:
            return
        if not self._is_mpeg or num_left > _LEFT_OUT:
            raise BrokenStreamError(
                f"the file is truncated, {self._position} of {self._position + num_left} samples could be read."
            )
        yield np.zeros(num_left, dtype=np.float32)


def import_library(name: str) -> ModuleType:
    """Import soundfile or soxr, or say how to install them."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Reading this sound needs {name}: `pip install soundfile soxr`. Waveforms (arrays) at the model's "
            "sampling rate need neither."
        ) from error


def _target(file: BinaryIO) -> BinaryIO | int:
    """What soundfile opens: never a name, because libsndfile takes `._x.mp3` for a part of `x.mp3`."""
    if os.name == "posix" and type(file).__name__ == "FileIO":
        file.seek(0)
        return file.fileno()  # saves the calls of Python for each block
    if str(getattr(file, "name", "")).lower().endswith(".raw"):  # soundfile would expect samples without a header
        return view_of(file, [(0, size_of(file))])
    return file


def _mean_over_channels(block: np.ndarray) -> np.ndarray:
    """`block.mean(axis=1)` of shape `(block_length,)`, forty times faster."""
    mono, num_channels = block[:, 0], block.shape[1]
    for channel in range(1, num_channels):
        mono = mono + block[:, channel]
    return mono if num_channels == 1 else mono / np.float32(num_channels)


def _reason(error: Exception) -> str:
    if "does not exist" in str(error):  # what libsndfile says of an open file that only begins like MPEG audio
        return "Format not recognised."
    return getattr(error, "error_string", str(error)).rstrip(".") + "."
