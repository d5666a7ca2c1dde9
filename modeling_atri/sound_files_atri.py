"""Sound files: which names they have, how they are opened and decoded, and which of them are refused.

Decoding needs soundfile, which is imported when the first file is opened, and PyAV for formats that soundfile does not
read. Files are decoded block by block, so that a long recording with many channels never needs more memory than its
mono version.

A length is never an estimate: MPEG frames are counted, joined files are read one after the other, and a header that
promises more than the file holds is an error. Truncated files are detected in WAV, RF64, W64, AIFF, AU, SVX, CAF, VOC,
MAT4, FLAC and OGG, in MP3 with a Xing or Info header, and in MP4, Matroska, WavPack, APE, TAK and TTA. They are not
detected in rare formats (NIST, PVF, IRCAM, AVR, PAF, XI), and in formats that state no length (MP3 without that
header, AAC, AC-3, AMR).
"""

import io
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from huggingface_hub.utils import httpx

from .av_sounds_atri import AvStream
from .file_kinds_atri import HEAD_SIZE, NUM_ZEROS, foreign_kind, needs_av
from .sndfile_streams_atri import SndfileStream
from .sound_errors_atri import BrokenStreamError, MissingAudioError, MissingDecoderError, UndecodableStreamError
from .sound_streams_atri import after_tags, mpeg_after_junk, size_of, streams_in


# Suffixes of the formats that soundfile reads.
SOUND_SUFFIXES = (
    *(".8svx", ".aif", ".aifc", ".aiff", ".au", ".avr", ".bw64", ".bwf", ".caf", ".flac", ".mp1", ".mp2", ".mp3"),
    *(".mpa", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".paf", ".pvf", ".rf64", ".snd", ".sph", ".svx", ".voc"),
    *(".w64", ".wav", ".wave"),
)
# Suffixes of the formats of sounds and videos that PyAV reads, with the extra `av`.
OTHER_SOUND_SUFFIXES = (
    *(".3g2", ".3gp", ".aac", ".ac3", ".adts", ".amr", ".ape", ".asf", ".avi", ".awb", ".dff", ".dsf", ".dts"),
    *(".eac3", ".f4v", ".flv", ".m2ts", ".m4a", ".m4b", ".m4r", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpc"),
    *(".mpeg", ".mpg", ".mts", ".oma", ".ra", ".rm", ".shn", ".spx", ".tak", ".tta", ".vob", ".weba", ".webm"),
    *(".wma", ".wmv", ".wv"),
)

_URL_PREFIXES = ("http://", "https://")
_FETCH_TIMEOUT = 30.0  # seconds without an answer

_RATES = range(1_000, 768_001)  # Hz; a header with another rate is broken, and resampling might need any memory


def names_sound(text: str) -> bool:
    """Whether a string looks like the name or URL of a sound file and not like a caption."""
    return text.startswith(_URL_PREFIXES) or text.lower().endswith(SOUND_SUFFIXES + OTHER_SOUND_SUFFIXES)


def open_sound(source: str | os.PathLike | bytes | BinaryIO, name: str) -> "SoundFile":
    """Open a sound file, which error messages call `name`, and check its header.

    It is given by a path, a URL (http or https), its `bytes`, or a binary file object that can seek, which is read
    from its beginning.

    Raises:
        MissingAudioError: there is no such file.
        MissingDecoderError: the format needs PyAV, which is not installed.
        ValueError: the file is empty, no sound file, truncated as far as its header shows, or of an impossible rate.
        ImportError: soundfile is not installed.
    """
    source = fetched(source)
    if isinstance(source, (bytes, bytearray)):
        if not source:
            raise ValueError(f"Cannot decode {name}: there are 0 bytes.")
        return SoundFile(io.BytesIO(source), name)
    if not isinstance(source, (str, os.PathLike)):
        return SoundFile(_seekable(source, name), name)
    file = _open_path(os.fspath(source))
    try:
        return SoundFile(file, name, owns_file=True)
    except BaseException:
        file.close()
        raise


class SoundFile:
    """An open sound file, which is read forward from its beginning or from where `seek` put it.

    Joined files are read one after the other.

    Attributes:
        samplerate (`int`): in hertz (Hz).
        num_frames (`int` or `None`): samples per channel; None where only decoding the file shows it: for FLAC that
            was written to a pipe and for formats that PyAV decodes.
    """

    def __init__(self, file: BinaryIO, name: str, owns_file: bool = False):
        self.name = name
        self._file = file if owns_file else None
        self._streams: Sequence[SndfileStream | AvStream] = ()
        self._first, self._start = 0, 0  # the stream, and the frame of it, that is read next
        try:
            self._streams = _open_streams(file, name)
            self.samplerate = _common_rate(self._streams)
            self._lengths = self._lengths_of_streams()
        except BrokenStreamError as error:
            self._close()
            raise ValueError(self._message(error)) from error
        except BaseException:
            self._close()
            raise
        known = [length for length in self._lengths if length is not None]
        self.num_frames: int | None = sum(known) if len(known) == len(self._lengths) else None

    def __enter__(self) -> "SoundFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def seek(self, frame: int) -> None:
        """Go to a frame, or raise a ValueError if the file cannot be decoded there."""
        if self.num_frames is not None:
            frame = min(frame, self.num_frames)
        self._first = 0
        for length in self._lengths[:-1]:
            if length is None or frame < length:
                break
            frame -= length
            self._first += 1
        self._start = frame
        try:
            for stream, place in zip(self._streams[self._first :], (frame, *([0] * len(self._streams))), strict=False):
                stream.seek(place)
        except BrokenStreamError as error:
            raise ValueError(self._message(error)) from error

    def mono_blocks(self, num_frames: int | None = None) -> Iterator[np.ndarray]:
        """Decode block after block, each of shape `(block_length,)`, float32, the mean over the channels.

        Without `num_frames`, the number of samples per channel to read, all up to the end are read.

        Raises:
            ValueError: the file cannot be decoded, or ends before the length in its header.
        """
        num_left, start = num_frames, self._start
        try:
            for stream, length in zip(self._streams[self._first :], self._lengths[self._first :], strict=True):
                counts = [count for count in (num_left, length and length - start) if count is not None]
                count = min(counts, default=None)
                yield from stream.mono_blocks(count)
                if num_left is not None and (num_left := num_left - (count or 0)) <= 0:
                    return
                start = 0
        except BrokenStreamError as error:
            raise ValueError(self._message(error)) from error

    def _lengths_of_streams(self) -> list[int | None]:
        lengths = [stream.num_frames for stream in self._streams]
        if len(lengths) > 1 and None in lengths:  # a stream that others follow has to know where it ends
            for index, stream in enumerate(self._streams):
                lengths[index] = sum(map(len, stream.mono_blocks(stream.num_frames)))
                stream.seek(0)
        if sum(length is None or length for length in lengths) == 0:
            raise BrokenStreamError("it holds no samples.")
        return lengths

    def _message(self, error: BrokenStreamError) -> str:
        return f"Cannot {'decode' if isinstance(error, UndecodableStreamError) else 'use'} {self.name}: {error}"

    def _close(self) -> None:
        _close_all(self._streams)
        if self._file is not None:
            self._file.close()


def _open_streams(file: BinaryIO, name: str) -> Sequence[SndfileStream | AvStream]:
    """The streams of a file, decoded by soundfile where it can, and else by PyAV."""
    opened: list[SndfileStream] = []
    try:
        for stream in streams_in(file):
            opened.append(SndfileStream(stream))
            _check_rate(opened[-1].samplerate)
        return opened
    except UndecodableStreamError as error:
        _close_all(opened)
        return _open_otherwise(file, name, error)
    except BaseException:
        _close_all(opened)
        raise


def _close_all(streams: Sequence[SndfileStream | AvStream]) -> None:
    for stream in streams:
        stream.close()


def _open_otherwise(file: BinaryIO, name: str, error: UndecodableStreamError) -> Sequence[SndfileStream | AvStream]:
    """Open a file that soundfile refuses, or raise the error that helps most."""
    file.seek(after_tags(file))
    head = file.read(HEAD_SIZE)
    kind, is_for_av = foreign_kind(head), needs_av(head)
    if kind and any(head[:NUM_ZEROS]):  # sound may follow zeros
        raise UndecodableStreamError(f"{kind}.") from error
    if not is_for_av and (streams := mpeg_after_junk(file)):
        return [SndfileStream(stream) for stream in streams]
    if kind:
        raise UndecodableStreamError(f"{kind}.") from error
    try:
        stream = AvStream(file)
    except BrokenStreamError as reason:
        raise (reason if is_for_av else error) from None
    except ImportError as missing:
        if not is_for_av and not name.rstrip("'\"").lower().endswith(OTHER_SOUND_SUFFIXES):
            raise error from None
        raise MissingDecoderError(
            f"Cannot decode {name}: its format needs PyAV, which is not installed. Install it with "
            '`pip install "modeling_atri[av]"` or `pip install av`.'
        ) from missing
    _check_rate(stream.samplerate)
    return [stream]


def _common_rate(streams: Sequence[SndfileStream | AvStream]) -> int:
    rates = list(dict.fromkeys(stream.samplerate for stream in streams))
    if len(rates) > 1:
        raise BrokenStreamError(
            f"it joins recordings of the sampling rates {', '.join(map(str, rates))} Hz. Convert them to one first."
        )
    return rates[0]


def _check_rate(rate: int) -> None:
    if rate not in _RATES:
        raise BrokenStreamError(
            f"it states a sampling rate of {rate} Hz, but {_RATES[0]} to {_RATES[-1]} Hz are allowed. Correct its "
            "header, or leave it out."
        )


def _open_path(path: str | bytes) -> BinaryIO:
    name = repr(os.fsdecode(path))
    if "\0" in os.fsdecode(path):
        raise ValueError(f"Cannot decode {name}: no file has a name with a null character.")
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"Cannot decode {name}: it is {_kind_of_place(status.st_mode)} and not a file.")
        if status.st_size == 0:
            raise ValueError(f"Cannot decode {name}: the file is empty (0 bytes).")
        return open(path, "rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError) as error:
        link = (
            f": it is a link to {os.readlink(os.fsdecode(path))!r}, which does not exist"
            if os.path.islink(path)
            else ""
        )
        raise MissingAudioError(f"There is no audio file {name}{link}.") from error
    except OSError as error:  # the file may not be read, its name is too long, links go in a circle, ...
        raise ValueError(f"Cannot decode {name}: {error.strerror}.") from error


def _kind_of_place(mode: int) -> str:
    kinds = {"a folder": stat.S_ISDIR, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((kind for kind, fits in kinds.items() if fits(mode)), "a device")


def _seekable(file: BinaryIO, name: str) -> BinaryIO:
    """A file object at its beginning, or an error that says what is wrong with it."""
    try:
        file.seek(0)  # it may have been read before
        is_binary, size = isinstance(file.read(0), bytes), size_of(file)
    except (OSError, ValueError) as error:  # a pipe, or a closed file
        raise ValueError(
            f"Cannot decode {name}: {str(error).rstrip('.')}. Pass an open file that can seek, or its bytes."
        ) from error
    if not is_binary:
        raise ValueError(f'Cannot decode {name}: it was opened as text. Open it with `open(path, "rb")`.')
    if size == 0:
        raise ValueError(f"Cannot decode {name}: the file is empty (0 bytes).")
    return file


def fetched(source: Any) -> Any:
    """The content of a source that is a URL, and any other source as it is.

    Raises:
        ValueError: the content cannot be fetched.
    """
    if not (isinstance(source, str) and source.startswith(_URL_PREFIXES)):
        return source
    try:
        return httpx.get(source, follow_redirects=True, timeout=_FETCH_TIMEOUT).raise_for_status().content
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"Cannot fetch {source}: {error}") from error
