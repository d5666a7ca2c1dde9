"""Sounds to log-mel spectrograms, one clip at a time and in one way."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from transformers import AutoFeatureExtractor

from .audio_inputs_atri import MIN_NUM_SAMPLES, SAMPLING_RATE
from .clip_features_atri import AtriClipExtractor
from .configuration_atri import IS_REMOTE_CODE, AtriAudioConfig, AtriConfig


_BLOCK_FRAMES = 128  # so many spectra, a quarter of a megabyte, stay in the cache of a core from one step to the next
_BAND_SIZE = 32  # mel bins of one matrix product, which only takes the frequencies that they cover
_LOGARITHM_FRAMES = 1024  # whose logarithms are taken at once: half a megabyte in float64


class AtriFeatureExtractor(AtriClipExtractor):
    r"""
    Log-mel spectrogram in decibels, as CED computes it.

    For each clip, it is the power spectrum of a centred STFT (periodic Hann window, reflected edges), passed through
    triangular filters on the HTK mel scale without area normalisation, as `10 * log10(max(power, 1e-10))`. Values
    more than `top_db` below the clip's own loudest bin are raised to that floor. The same clip gives the same features
    alone and in any batch. Source: the front end of https://github.com/RicherMans/CED (torchaudio's `MelSpectrogram`
    and `AmplitudeToDB`), where the floor is taken over the whole batch.

    Args:
        feature_size (`int`, *optional*, defaults to 64):
            Number of mel bins.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the waveforms, in hertz (Hz).
        padding_value (`float`, *optional*, defaults to 0.0):
            Value of the frames after a clip's end, which the model ignores.
        hop_length (`int`, *optional*, defaults to 160):
            Step from frame to frame, in samples.
        n_fft (`int`, *optional*, defaults to 512):
            Length of the window and of the Fourier transform, in samples.
        frequency_min (`float`, *optional*, defaults to 0.0):
            Lowest frequency of the mel bins, in Hz.
        frequency_max (`float`, *optional*, defaults to 8000.0):
            Highest frequency of the mel bins, in Hz.
        top_db (`float`, *optional*, defaults to 120.0):
            Dynamic range kept below a clip's loudest bin, in decibels.
        min_num_samples (`int`, *optional*, defaults to 2400):
            Shortest clip accepted, in samples: 2400 samples give the 16 frames of one patch.

    Example:

    ```python
    >>> import numpy as np
    >>> from modeling_atri import AtriFeatureExtractor

    >>> feature_extractor = AtriFeatureExtractor()
    >>> waveform = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    >>> inputs = feature_extractor(waveform, sampling_rate=16000, return_tensors="pt")
    >>> inputs["input_features"].shape  # (clips, frames, mel bins): 1 + 16000 // 160 frames
    torch.Size([1, 101, 64])
    ```
    """

    def __init__(
        self,
        feature_size: int = 64,
        sampling_rate: int = SAMPLING_RATE,
        padding_value: float = 0.0,
        hop_length: int = 160,
        n_fft: int = 512,
        frequency_min: float = 0.0,
        frequency_max: float = 8000.0,
        top_db: float = 120.0,
        min_num_samples: int = MIN_NUM_SAMPLES,
        **kwargs,
    ):
        kwargs.setdefault("return_attention_mask", True)
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)
        if frequency_max > sampling_rate / 2:
            raise ValueError(
                f"`frequency_max` ({frequency_max} Hz) is above half the sampling rate ({sampling_rate / 2} Hz)."
            )
        if min_num_samples <= n_fft // 2:
            raise ValueError(
                f"`min_num_samples` ({min_num_samples}) must be above n_fft // 2 ({n_fft // 2}): the first and last "
                "frames reflect that many samples."
            )
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.frequency_min = frequency_min
        self.frequency_max = frequency_max
        self.top_db = top_db
        self.min_num_samples = min_num_samples
        self.window = torch.hann_window(n_fft, periodic=True)
        self.mel_filters = mel_filter_bank(n_fft, feature_size, frequency_min, frequency_max, sampling_rate)
        self.mel_bands = _bands(self.mel_filters)

    def to_dict(self) -> dict[str, Any]:
        """The settings that are saved, without the tables that are computed from them."""
        settings = super().to_dict()  # leaves out `window` and `mel_filters`
        del settings["mel_bands"]
        return settings

    def num_frames(self, num_samples: int) -> int:
        """Frames of a clip of `num_samples` samples."""
        return 1 + num_samples // self.hop_length

    def extract_waveform(self, waveform: torch.Tensor) -> torch.Tensor:
        """Log-mel spectrogram in decibels, of shape `(1 + num_samples // hop_length, feature_size)`.

        The loudest bin sets the floor of the clip, so one bin that is not finite leaves no finite bin.
        """
        num_frames = self.num_frames(len(waveform))
        block_size = _block_size(num_frames)
        write = self._mel_writer(block_size)
        mel = waveform.new_empty(num_frames, self.feature_size)
        for block in range(-(-num_frames // block_size)):
            # The last block overlaps the one before, because a product of few rows would round differently.
            first = min(block * block_size, num_frames - block_size)
            write(self._frames(waveform, first, first + block_size), mel[first : first + block_size])
        decibels = _to_decibels(mel)
        return decibels.clamp_(min=decibels.max() - self.top_db)

    def decibel_blocks(
        self, blocks: Iterable[torch.Tensor], num_samples: int | None = None, only_loud: bool = False
    ) -> Iterator[torch.Tensor]:
        """Log-mel spectrogram of a waveform that comes in blocks, without the floor, in blocks of shape
        `(frames, feature_size)`.

        Args:
            blocks: the waveform in any number of blocks, of shape `(block_length,)`.
            num_samples (`int`, *optional*): its length. With it, the values equal those of `extract_waveform` bit for
                bit, wherever those are above the floor; without it, they are rounded differently.
            only_loud (`bool`, *optional*, defaults to `False`): leave out blocks of frames that cannot hold the
                loudest bin, because an earlier one is louder than all of their sound.
        """
        block_size = _BLOCK_FRAMES if num_samples is None else _block_size(self.num_frames(num_samples))
        write, before = self._mel_writer(block_size), self.n_fft // 2
        samples, begin, frame = torch.zeros(0), 0, 0  # samples from `begin` on; `frame` comes next
        loudest = -math.inf
        for block in chain(blocks, [None]):
            if block is not None:
                samples = torch.cat([samples, block])
            stop = begin + len(samples)
            last = self.num_frames(stop) if block is None else (stop - before) // self.hop_length
            while frame < last and (block is None or last - frame >= block_size):
                size = min(block_size, last)
                first = min(frame, last - size)
                if not only_loud or self._loudest_possible(samples, first, size, begin) >= loudest:
                    mel = samples.new_empty(size, self.feature_size)
                    if size < block_size:
                        write = self._mel_writer(size)
                    write(self._frames(samples, first, first + size, begin), mel)
                    decibels = _to_decibels(mel)
                    loudest = max(loudest, float(decibels.max())) if only_loud else loudest
                    yield decibels[frame - first :]
                frame = first + size
            # The last block may begin up to a block earlier.
            kept = max(begin, (frame - block_size) * self.hop_length - before)
            samples, begin = samples[kept - begin :], kept

    def _mel_writer(self, num_frames: int) -> Callable[[torch.Tensor, torch.Tensor], None]:
        """A function that takes samples `(num_frames, n_fft)` and writes mel powers `(num_frames, feature_size)`."""
        # All calls share one buffer, because fresh memory would cost more time than the arithmetic.
        windowed = self.window.new_empty(num_frames, self.n_fft)

        def write(frames: torch.Tensor, mel: torch.Tensor) -> None:
            torch.mul(frames, self.window, out=windowed)
            # Squares of the real and imaginary parts, in turns. The products below add the two as well, because the
            # sum of neighbours alone takes as long as a product.
            squares = torch.view_as_real(torch.fft.rfft(windowed)).square_().flatten(1)
            for parts, filters, bins in self.mel_bands:
                torch.mm(squares[:, parts], filters, out=mel[:, bins])

        return write

    def _loudest_possible(self, samples: torch.Tensor, first: int, num_frames: int, begin: int) -> float:
        """A bound, in decibels, for all bins of some frames: the energy of the loudest of them in one bin."""
        start = first * self.hop_length - self.n_fft // 2 - begin
        stop = start + (num_frames - 1) * self.hop_length + self.n_fft
        squares = samples[max(0, start) : stop].square()
        hops = torch.nn.functional.pad(squares, (0, -len(squares) % self.hop_length)).view(-1, self.hop_length).sum(1)
        hops_per_frame = 1 + -(-self.n_fft // self.hop_length)
        energies = torch.nn.functional.pad(hops, (0, hops_per_frame)).unfold(0, hops_per_frame, 1).sum(1)
        # The sum of squares over all frequencies is `n_fft` times that over the samples, and neither the window nor a
        # filter is above 1. The edges of a clip are reflected, so that their samples count twice.
        bound = self.n_fft * float(energies.max()) * (2 if start < 0 or stop > len(samples) else 1)
        return 10 * math.log10(max(bound, 1e-10)) if math.isfinite(bound) else math.inf

    def _frames(self, waveform: torch.Tensor, first: int, last: int, begin: int = 0) -> torch.Tensor:
        """Samples of the frames from `first` up to `last`, of shape `(frames, n_fft)`; a view except at the edges.

        `waveform` may be a part of the clip's, from the sample `begin` on.
        """
        start = first * self.hop_length - self.n_fft // 2 - begin
        stop = (last - 1) * self.hop_length - self.n_fft // 2 + self.n_fft - begin
        left, right = max(0, -start), max(0, stop - len(waveform))
        samples = waveform[max(0, start) : stop]
        if left or right:  # takes a fifth of the time of `pad(mode="reflect")`
            samples = torch.cat([samples[1 : 1 + left].flip(0), samples, samples[-1 - right : -1].flip(0)])
        return samples.unfold(0, self.n_fft, self.hop_length)

    def is_silent(self, features: torch.Tensor) -> bool:
        """Whether all features of a clip are at their floor, because all samples are zero or nearly so."""
        low, high = torch.aminmax(features)
        return bool(low == high)


def _block_size(num_frames: int) -> int:
    """Frames of a block, where all blocks of a clip have the same number of frames."""
    return -(-num_frames // -(-num_frames // _BLOCK_FRAMES))


def _to_decibels(mel: torch.Tensor) -> torch.Tensor:
    """Mel powers `(frames, feature_size)` in decibels, in the same memory."""
    for part in mel.split(_LOGARITHM_FRAMES):
        # In float64, because below -80 dB the rounding of a float32 logarithm grows to 1e-5 dB.
        part.copy_(part.double().clamp_(min=1e-10).log10_().mul_(10.0))
    return mel


def mel_filter_bank(
    n_fft: int, num_mel_bins: int, frequency_min: float, frequency_max: float, sampling_rate: int
) -> torch.Tensor:
    """Triangular filters on the HTK mel scale, peak 1, without area normalisation.

    The table is computed in float32 throughout. In float64 it would move the emptiest bins by up to 6e-3 dB from the
    features that CED was trained on.

    Returns:
        `torch.Tensor` of shape `(n_fft // 2 + 1, num_mel_bins)`, float32.
    """
    frequencies = torch.linspace(0, sampling_rate // 2, n_fft // 2 + 1)
    mel_min, mel_max = (2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (frequency_min, frequency_max))
    corners = 700.0 * (10.0 ** (torch.linspace(mel_min, mel_max, num_mel_bins + 2) / 2595.0) - 1.0)
    widths = corners.diff()
    slopes = corners[None, :] - frequencies[:, None]  # (n_fft // 2 + 1, num_mel_bins + 2)
    rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0.0)


def _bands(mel_filters: torch.Tensor) -> list[tuple[slice, torch.Tensor, slice]]:
    """Bands of mel bins: for each the parts of the spectrum it covers, its filters there, and its mel bins.

    A spectrum is a row of real and imaginary parts in turns.
    """
    bands = []
    for start in range(0, mel_filters.shape[1], _BAND_SIZE):
        bins = slice(start, start + _BAND_SIZE)
        covered = mel_filters[:, bins].any(dim=1).nonzero()[:, 0].tolist() or [0]
        first, stop = covered[0], covered[-1] + 1
        bands.append((slice(2 * first, 2 * stop), mel_filters[first:stop, bins].repeat_interleave(2, dim=0), bins))
    return bands


AtriFeatureExtractor.register_for_auto_class()
if not IS_REMOTE_CODE:
    AutoFeatureExtractor.register(AtriConfig, AtriFeatureExtractor, exist_ok=True)
    AutoFeatureExtractor.register(AtriAudioConfig, AtriFeatureExtractor, exist_ok=True)

__all__ = ["AtriFeatureExtractor"]
