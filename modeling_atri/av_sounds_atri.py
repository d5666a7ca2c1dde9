"""Sounds in formats that soundfile does not read, decoded by PyAV (`av`): AAC, MP4, WebM, WMA, WavPack and others.

`av` is imported when the first such file is opened. Its wheel carries the libraries of FFmpeg.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from typing import Any, BinaryIO

import numpy as np

from .file_memory_atri import FileMemory
from .sound_errors_atri import BrokenStreamError, UndecodableStreamError


# Formats of FFmpeg that hold their sound in the file itself. Others, such as playlists, open further files and URLs.
_FORMATS = (
    "aa,aac,ac3,adp,adx,aiff,alac,amr,amrnb,amrwb,ape,asf,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,mlp,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,oma,rm,shn,spdif,swf,tak,truehd,tta,vqf,wav,webm,wsd,wv,xwma"
)
# Those that state the length of a track, by the first of their names. Elsewhere it is estimated from the bit rate.
_STATE_LENGTH = ("ape", "mov", "tak", "tta", "wv")
_TOLERANCE = 0.1  # seconds that the length in a header may be off, because of the encoder's padding
# Formats in which each packet has its own place, by the first of their names.
_HAVE_PLACES = ("mov", "tta", "wv")
_NEAR = 60  # seconds; a place up to here is reached by decoding everything before it
_RUN_UPS = (2, 4)  # seconds that are decoded before a place, in two attempts
_LONGEST_PART = 2**24  # samples of a part that is read from its place

# Whether the samples of a file are the same where decoding begins later, as far as is known.
_EXACT: FileMemory[bool] = FileMemory()


class AvStream:
    """The default audio track of a file, which is decoded forward from its beginning, or from just before a part of it
    where that gives exactly the same samples.

    Attributes:
        samplerate (`int`): in hertz (Hz).
        num_frames (`None`): only known when everything has been decoded.
    """

    num_frames: int | None = None

    def __init__(self, file: BinaryIO):
        self._file = file
        self._av = import_module("av")
        self._container: Any = None
        self._wanted: int | None = None  # the frame to go to
        self._first_place: int | None = None  # that the file states for its first sample
        self._rest = np.zeros(0, dtype=np.float32)
        self._skip_to(0)
        self.samplerate: int = self._rate

    def close(self) -> None:
        """Close the decoder, but not the file."""
        if self._container is not None:
            self._container.close()

    def seek(self, frame: int) -> None:
        """Go to a frame, as soon as samples are read from there."""
        self._wanted = frame

    def mono_blocks(self, num_frames: int | None) -> Iterator[np.ndarray]:
        """Decode block after block, each of shape `(block_length,)`, float32, the mean over the channels.

        Args:
            num_frames: samples per channel to read; None reads all up to the end.
        """
        if self._wanted is not None:
            start, self._wanted = self._wanted, None
            part = None if num_frames is None else self._part(start, num_frames)
            if part is not None:
                self._wanted = start + len(part)
                yield part
                if len(part) < (num_frames or 0):
                    self._check_end(start + len(part))
                return
            self._skip_to(start)
        num_left = num_frames
        for block in chain([self._rest] * (len(self._rest) > 0), self._blocks):
            taken = block if num_left is None else block[:num_left]
            self._rest = block[len(taken) :]
            self._position += len(taken)
            yield taken
            if num_left is not None:
                num_left -= len(taken)
                if num_left == 0:
                    return
        self._check_end(self._position)

    def _check_end(self, position: int) -> None:
        seconds = position / self.samplerate
        if self._stated is not None and seconds < self._stated - _TOLERANCE:
            raise BrokenStreamError(
                f"the file is truncated, {seconds:.2f} of the {self._stated:.2f} s that its header states could be "
                "read."
            )

    def _skip_to(self, frame: int) -> None:
        """Decode everything before a frame."""
        self._open()
        self._position, self._rest = 0, np.zeros(0, dtype=np.float32)
        for block in self._blocks:
            self._position += len(block)
            if self._position >= frame:
                self._rest = block[len(block) - (self._position - frame) :]
                break
        self._position -= len(self._rest)

    def _part(self, start: int, num_frames: int) -> np.ndarray | None:
        """Samples from a frame on, without those before; None where that is not certain to give the same samples.

        Decoders carry something over from one packet to the next. Most of them forget it soon, but some fill bands
        with noise that depends on all packets before. Therefore, the part is decoded twice, from different places
        before it, and it is used only if both give the same samples, bit for bit.
        """
        if start < _NEAR * self.samplerate or num_frames > _LONGEST_PART:
            return None
        is_exact = _EXACT.find(self._file)
        if is_exact is None:
            is_exact = self._has_places()
            _EXACT.keep(self._file, is_exact)
        if not is_exact:
            return None
        one, other = (self._part_from(start, num_frames, run_up * self.samplerate) for run_up in _RUN_UPS)
        if one is None or other is None or not np.array_equal(one, other):
            _EXACT.keep(self._file, False)
            return None
        return one

    def _has_places(self) -> bool:
        """Whether the packets state their places in samples, and all but the last have the same length, without gaps.

        A gap in a recording may be stated as a longer packet.
        """
        if None in (self._first_place, self._track.time_base) or self._track.time_base * self.samplerate != 1:
            return False
        if self._container.format.name.split(",")[0] not in _HAVE_PLACES:
            return False
        self._open()
        first_length = last_length = end = None
        try:
            with self._damage_explained():
                for packet in self._container.demux(self._track):
                    if packet.size == 0:  # it only says that there are no more
                        continue
                    if packet.pts is None or not packet.duration:
                        return False
                    if end not in (None, packet.pts) or last_length != first_length:
                        return False
                    last_length = packet.duration
                    first_length = first_length or last_length
                    end = packet.pts + last_length
        except BrokenStreamError:  # which may be behind the part that is wanted
            return False
        return True

    def _part_from(self, start: int, num_frames: int, run_up: int) -> np.ndarray | None:
        """Samples from a frame on, decoded from so many frames before; None if their places are not certain."""
        samples, end = [np.zeros(0, dtype=np.float32)], None
        first = start + (self._first_place or 0)
        try:
            with self._damage_explained():
                self._container.seek(first - run_up, stream=self._track)
                for frame in self._container.decode(self._track):
                    if frame.pts is None or frame.sample_rate != self.samplerate or end not in (None, frame.pts):
                        return None
                    end = frame.pts + frame.samples
                    skipped = first - frame.pts
                    if skipped < 0 and len(samples) == 1:
                        return None
                    if skipped < frame.samples:
                        samples.append(_mono(frame)[max(0, skipped) :])
                    if end >= first + num_frames:
                        break
        except BrokenStreamError:  # the usual way says what is wrong
            return None
        return np.concatenate(samples)[:num_frames]

    def _open(self) -> None:
        self.close()
        self._file.seek(0)
        with self._damage_explained():
            self._container = self._av.open(self._file, options={"format_whitelist": _FORMATS})
            track = self._container.streams.best("audio")
        if track is None:
            raise BrokenStreamError("it holds no audio track, only video or other data.")
        if track.codec_context is None:
            raise BrokenStreamError(
                "PyAV has no decoder for its audio track, which may be encrypted or damaged. Convert it to WAV."
            )
        self._stated = _stated_length(self._container, track)
        self._track = track
        decoded = self._decoded(track)
        # Some codecs know their rate only with the first frame.
        self._first_place, first = next(decoded, (None, None))
        if first is None:
            raise BrokenStreamError("it holds no samples.")
        self._blocks = chain([first], (block for _, block in decoded))

    def _decoded(self, track: Any) -> Iterator[tuple[int | None, np.ndarray]]:
        """The samples of a track from the beginning, block by block, with the places that the file states for them."""
        track.codec_context.thread_count = 1  # several files are read at the same time
        self._rate: Any = None
        with self._damage_explained():
            for frame in self._container.decode(track):
                if self._rate not in (None, frame.sample_rate):
                    raise BrokenStreamError(
                        f"its sampling rate changes from {self._rate} to {frame.sample_rate} Hz. Convert it to one."
                    )
                self._rate = frame.sample_rate
                if frame.samples:
                    yield frame.pts, _mono(frame)

    @contextmanager
    def _damage_explained(self) -> Iterator[None]:
        try:
            yield
        except BrokenStreamError:
            raise
        # A damaged header may send the decoder to a place that no file has: OSError of a file, ValueError of bytes.
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise UndecodableStreamError(f"it is damaged or truncated: {_reason(error)}") from error


def _stated_length(container: Any, track: Any) -> float | None:
    """Length of a track in seconds, where the file states it."""
    format_name = container.format.name.split(",")[0]
    if format_name in _STATE_LENGTH and track.duration:
        return float(track.duration * track.time_base)
    if format_name == "matroska" and (written := track.metadata.get("DURATION")):
        hours, minutes, seconds = written.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return None


def _mono(frame: Any) -> np.ndarray:
    """The mean over the channels of a decoded frame, of shape `(num_samples,)`, float32, with full scale at 1.0."""
    samples, num_channels = frame.to_ndarray(), len(frame.layout.channels)
    if not frame.format.is_planar:
        samples = samples.reshape(-1, num_channels).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples / np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return samples.mean(axis=0, dtype=np.float32) if num_channels > 1 else samples[0].astype(np.float32)


def _reason(error: Any) -> str:
    return f"{getattr(error, 'strerror', None) or error}."
