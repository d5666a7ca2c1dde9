"""Sound files: which names they have, how they are opened and decoded, and which of them are refused.

Decoding needs soundfile, which is imported when the first file is opened. Files are decoded block by block, so that a
long recording with many channels never needs more memory than its mono version.

libsndfile reads most truncated files as shorter recordings without an error. This module therefore compares the length
that a header promises with the samples that are there. It detects truncated files of the formats WAV, RF64, W64, AIFF,
AU, SVX, CAF, VOC, MAT4, FLAC and OGG, and of MP3 with a Xing or Info header, which nearly all encoders write. It does
not detect truncated files of rare formats (NIST, PVF, IRCAM, AVR, PAF, XI), or of MP3 without that header, whose
length libsndfile only estimates.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
from huggingface_hub.utils import httpx


# Suffixes that are looked for in folders: soundfile reads these formats.
SOUND_SUFFIXES = (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav")
# Further suffixes of sound and video files. A string that ends in one of them is taken for the name of a file.
_CONTAINER_SUFFIXES = (".3gp", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".webm")
OTHER_SOUND_SUFFIXES = (".aac", ".amr", ".mp2", ".rf64", ".snd", ".wave", ".wma", *_CONTAINER_SUFFIXES)

_URL_PREFIXES = ("http://", "https://")
_FETCH_TIMEOUT = 30.0  # seconds without an answer

# Samples per channel that are decoded at once: 4 s at 16 kHz. Larger blocks are slower, because the system has to
# provide fresh pages of memory for each of them.
BLOCK_LENGTH = 2**16
_RATES = range(1_000, 768_001)  # Hz; a header with another rate is broken, and resampling might need any memory

# What libsndfile logs of a file whose header promises more bytes than the file holds
_SHORT_CHUNK = re.compile(
    r"^\s*(?:data|SSND|BODY|riff|Riff size|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE
)
_CUT = re.compile(r"Seems to be a truncated file|File seems to be truncated")  # the same for VOC and MAT4
# Programs that write to a pipe cannot seek back, and leave a size near 2**31 or 2**32 in the header of a whole file.
_STREAMED_SIZE = 0x7FFF_0000
_UNKNOWN_LENGTH = 2**63 - 1  # what libsndfile says of a FLAC file that was written to a pipe
# The length in an MP3 header may include the header's own frame and the encoder's padding: two frames at most.
_MP3_PADDING = 2 * 1152
_MP3_HEAD = 4096  # the first frame begins within so many bytes
_OGG_TAIL = 2**17  # the last page, of up to 2**16 bytes, begins within so many bytes of the end


class MissingAudioError(FileNotFoundError, ValueError):
    """There is no file at a path. This is a `ValueError`, as for every wrong input, and a `FileNotFoundError`."""


def names_sound(text: str) -> bool:
    """Whether a string looks like the name or URL of a sound file and not like a caption."""
    return text.startswith(_URL_PREFIXES) or text.lower().endswith(SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES)


def open_sound(source: str | os.PathLike | bytes | BinaryIO, name: str) -> "SoundFile":
    """Open a sound file, which error messages call `name`, and check its header.

    It is given by a path, a URL (http or https), its `bytes`, or a binary file object that can seek, which is read
    from its beginning.

    Raises:
        MissingAudioError: there is no such file.
        ValueError: the file is empty, no sound file, truncated as far as its header shows, or of an impossible rate.
        ImportError: soundfile is not installed.
    """
    if isinstance(source, str) and source.startswith(_URL_PREFIXES):
        source = _fetch(source)
    if isinstance(source, (bytes, bytearray)):
        if not source:
            raise ValueError(f"Cannot decode {name}: there are 0 bytes.")
        return SoundFile(io.BytesIO(source), name)
    if isinstance(source, (str, os.PathLike)):
        source = os.fspath(source)
        _check_path(Path(source))
    else:
        source.seek(0)  # it may have been read before
    return SoundFile(source, name)


class SoundFile:
    """An open sound file, which is read forward from its beginning or from where `seek` put it.

    Attributes:
        samplerate (`int`): in hertz (Hz).
        num_frames (`int` or `None`): samples per channel; an estimate for MP3 without a Xing or Info header, and None
            for FLAC that was written to a pipe.
        states_length (`bool`): whether `num_frames` is stated by the file and not an estimate.
    """

    def __init__(self, target: str | BinaryIO, name: str):
        self.name = name
        soundfile = import_library("soundfile")
        self._error = soundfile.SoundFileError
        try:
            self._file = soundfile.SoundFile(target)
        # soundfile expects headerless samples in a file whose name ends in `.raw`, and misses their rate: TypeError.
        except (soundfile.SoundFileError, TypeError) as error:
            raise ValueError(f"Cannot decode {name}: {_reason(error)}") from error
        # Otherwise soundfile seeks to where it is after each block, which fails for FLAC of unknown length.
        self._file.seekable = lambda: False
        self.samplerate: int = self._file.samplerate
        self.num_frames: int | None = self._file.frames if self._file.frames != _UNKNOWN_LENGTH else None
        self._is_mp3 = self._file.format == "MP3"
        try:
            self._check_header(target)
            self.states_length = self.num_frames is not None and not (
                self._is_mp3 and not _peek(target, _mp3_states_length)
            )
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "SoundFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def seek(self, frame: int) -> None:
        """Go to a frame, or raise a ValueError if the file cannot be decoded there."""
        try:
            self._file.seek(frame)
        except self._error as error:
            place = f"{self.name} from {frame / self.samplerate:.1f} s on"
            raise ValueError(f"Cannot decode {place}: {_reason(error)}") from error

    def mono_blocks(self, num_frames: int | None = None) -> Iterator[np.ndarray]:
        """Decode block after block, each of shape `(block_length,)`, float32, the mean over the channels.

        Without `num_frames`, the number of samples per channel to read, all up to the end are read.

        Raises:
            ValueError: the file cannot be decoded, or ends before the length in its header.
        """
        if num_frames is None:
            num_frames = _UNKNOWN_LENGTH if self.num_frames is None else self.num_frames
        num_left = num_frames
        while num_left > 0:
            asked = min(BLOCK_LENGTH, num_left)
            try:
                # Not `soundfile.blocks`: it yields blocks of full length also where fewer samples were decoded.
                block = self._file.read(asked, dtype="float32", always_2d=True)
            except self._error as error:
                place = f"{self.name} beyond {num_frames - num_left} samples"
                raise ValueError(f"Cannot decode {place}: {_reason(error)}") from error
            num_left -= len(block)
            if len(block):
                yield _mean_over_channels(block)
            if len(block) < asked:
                break
        if self.states_length and num_left > (_MP3_PADDING if self._is_mp3 else 0):
            raise ValueError(
                f"Cannot use {self.name}: the file is truncated, {num_frames - num_left} of {num_frames} samples "
                "could be read."
            )

    def _check_header(self, target: str | BinaryIO) -> None:
        if self.samplerate not in _RATES:
            raise ValueError(
                f"Cannot use {self.name}: it states a sampling rate of {self.samplerate} Hz, but {_RATES[0]} to "
                f"{_RATES[-1]} Hz are allowed. Correct its header, or leave it out."
            )
        log = self._file.extra_info  # libsndfile only logs that a file is truncated
        if _CUT.search(log):
            raise ValueError(f"Cannot use {self.name}: the file is truncated, its end is missing.")
        for promised, present in _SHORT_CHUNK.findall(log):
            if int(present) < int(promised) < _STREAMED_SIZE:
                raise ValueError(
                    f"Cannot use {self.name}: the file is truncated, its header promises {promised} bytes of sound, "
                    f"but {present} are there."
                )
        if self._file.format == "OGG" and not _peek(target, _ends_with_last_page):
            raise ValueError(f"Cannot use {self.name}: the file is truncated, its last page is missing or incomplete.")
        if self.num_frames == 0:
            raise ValueError(f"Cannot use {self.name}: it holds no samples.")


def import_library(name: str) -> ModuleType:
    """Import soundfile or soxr, or say how to install them."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Reading this sound needs {name}: `pip install soundfile soxr`. Waveforms (arrays) at the model's "
            "sampling rate need neither."
        ) from error


def _check_path(path: Path) -> None:
    try:
        exists, size = path.exists(), path.stat().st_size if path.is_file() else None
    except OSError as error:  # the name is too long, or the folder may not be read
        raise ValueError(f"Cannot decode {str(path)!r}: {error.strerror}.") from error
    if not exists:
        raise MissingAudioError(f"There is no audio file {str(path)!r}.")
    if not size:
        problem = "it is not a file" if size is None else "the file is empty (0 bytes)"
        raise ValueError(f"Cannot decode {str(path)!r}: {problem}.")


def _fetch(url: str) -> bytes:
    try:
        return httpx.get(url, follow_redirects=True, timeout=_FETCH_TIMEOUT).raise_for_status().content
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"Cannot fetch {url}: {error}") from error


def _peek(target: str | BinaryIO, function: Callable[[BinaryIO], bool]) -> bool:
    """Apply a function to a file, and leave the file where it was."""
    if isinstance(target, str):
        with open(target, "rb") as file:
            return function(file)
    position = target.tell()
    try:
        return function(target)
    finally:
        target.seek(position)


def _ends_with_last_page(file: BinaryIO) -> bool:
    """Whether the last page of an OGG file is complete and marked as the last. Bytes after that page are ignored."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _OGG_TAIL))
    tail = file.read(_OGG_TAIL)
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    num_segments = page[26] if len(page) > 26 else 255
    size = 27 + num_segments + sum(page[27 : 27 + num_segments])
    return len(page) >= size and bool(page[5] & 4)


def _mp3_states_length(file: BinaryIO) -> bool:
    """Whether an MP3 states its number of frames. Otherwise libsndfile estimates it from the first frame."""
    file.seek(0)
    start = file.read(10)
    if start[:3] == b"ID3":  # tags, which may hold pictures; their size is written with 7 bits a byte
        file.seek(10 + sum(byte << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=False)))
    else:
        file.seek(0)
    head = file.read(_MP3_HEAD)
    place = max(head.find(b"Xing"), head.find(b"Info"))
    flags, num_frames = head[place + 4 : place + 8], head[place + 8 : place + 12]
    return place >= 0 and len(flags) == 4 and bool(flags[3] & 1) and any(num_frames)


def _mean_over_channels(block: np.ndarray) -> np.ndarray:
    """`block.mean(axis=1)` of shape `(block_length,)`, forty times faster."""
    mono, num_channels = block[:, 0], block.shape[1]
    for channel in range(1, num_channels):
        mono = mono + block[:, channel]
    return mono if num_channels == 1 else mono / np.float32(num_channels)


def _reason(error: Exception) -> str:
    return getattr(error, "error_string", str(error)).rstrip(".") + "."
