"""Sounds in formats that soundfile does not read, decoded by PyAV (`av`): AAC, MP4, WebM, WMA, WavPack and others.

`av` is imported when the first such file is opened. Its wheel carries the libraries of FFmpeg.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from typing import Any, BinaryIO

import numpy as np

from .sound_errors_atri import BrokenStreamError, UndecodableStreamError


# Formats of FFmpeg that hold their sound in the file itself. Others, such as playlists, open further files and URLs.
_FORMATS = (
    "aa,aac,ac3,adp,adx,aiff,alac,amr,amrnb,amrwb,ape,asf,avi,caf,dsf,dts,dtshd,eac3,flac,flv,iff,loas,matroska,mlp,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,oma,rm,shn,spdif,swf,tak,truehd,tta,vqf,wav,webm,wsd,wv,xwma"
)
# Those that state the length of a track, by the first of their names. Elsewhere it is estimated from the bit rate.
_STATE_LENGTH = ("ape", "mov", "tak", "tta", "wv")
_TOLERANCE = 0.1  # seconds that the length in a header may be off, because of the encoder's padding


class AvStream:
    """The default audio track of a file, which is decoded forward from its beginning.

    Attributes:
        samplerate (`int`): in hertz (Hz).
        num_frames (`None`): only known when everything has been decoded.
    """

    num_frames: int | None = None

    def __init__(self, file: BinaryIO):
        self._file = file
        self._av = import_module("av")
        self._container: Any = None
        self.seek(0)
        self.samplerate: int = self._rate

    def close(self) -> None:
        """Close the decoder, but not the file."""
        if self._container is not None:
            self._container.close()

    def seek(self, frame: int) -> None:
        """Go to a frame. Everything before it is decoded, because times in these formats are not exact."""
        self._open()
        self._position, self._rest = 0, np.zeros(0, dtype=np.float32)
        for block in self._blocks:
            self._position += len(block)
            if self._position >= frame:
                self._rest = block[len(block) - (self._position - frame) :]
                break
        self._position -= len(self._rest)

    def mono_blocks(self, num_frames: int | None) -> Iterator[np.ndarray]:
        """Decode block after block, each of shape `(block_length,)`, float32, the mean over the channels.

        Args:
            num_frames: samples per channel to read; None reads all up to the end.
        """
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
        seconds = self._position / self.samplerate
        if self._stated is not None and seconds < self._stated - _TOLERANCE:
            raise BrokenStreamError(
                f"the file is truncated, {seconds:.2f} of the {self._stated:.2f} s that its header states could be "
                "read."
            )

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
        self._blocks = self._decoded(track)
        # Some codecs know their rate only with the first frame.
        first = next(self._blocks, None)
        if first is None:
            raise BrokenStreamError("it holds no samples.")
        self._blocks = chain([first], self._blocks)

    def _decoded(self, track: Any) -> Iterator[np.ndarray]:
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
                    yield _mono(frame)

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
