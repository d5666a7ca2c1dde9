"""Compare the log-mel features of 64 clips of 10 s with two existing implementations and the bare Fourier transform.

The following ways take turns in one process on one thread, and their CPU time is measured:

- `ours`: `AtriFeatureExtractor`, from a list of waveforms to one stacked batch.
- `clap`: `ClapFeatureExtractor` of transformers with the same 64 mel bins, window, hop and sampling rate. Clips are as
  long as its window of 10 s, so it neither cuts nor repeats them, and `truncation="rand_trunc"` avoids the four copies
  that "fusion" makes.
- `batched_stft`: the computation of torchaudio's transforms on the stacked batch, in plain torch: `torch.stft`, power,
  one matrix product with the same mel filters, decibels, floor of each clip.
- `fft_torch`, `fft_numpy`: only the real Fourier transforms of as many frames, in blocks of 256 frames that stay in
  the cache, with preallocated outputs. The faster of the two is the floor (scipy lies between them).

- `pass_*`: the passes of ours one by one: window, Fourier transform with its output, squares, products with the mel
  filters (which also add the squares), decibels, check and copy of the waveforms, copy of the features to one batch.

Our features must equal those of the batched STFT to 1e-5 dB on every clip (tones, noise and clicks from full scale
down to -120 dB); otherwise the benchmark fails.

The report also has the wall-clock time from FLAC files to features, decoding included, on one thread and on all cores
of the process. It is meaningful only on a machine that runs nothing else.
"""

from shared.measuring import (  # first: it sets one thread
    medians,
    print_report,
    ratio,
    row,
    seconds_in_turns,
    wall_seconds,
)


# isort: split
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from shared.options import ROUNDS, SEED, option_parser
from transformers import ClapFeatureExtractor

from modeling_atri import AtriFeatureExtractor
from modeling_atri.audio_io import load_audio


SAMPLING_RATE = 16_000  # Hz
NUM_SAMPLES = 160_000
BLOCK_FRAMES = 256  # of the bare transforms
LARGEST_DIFFERENCE = 1e-5  # dB


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__, "about half a minute", clips=(64, "number of clips"), rounds=(9, ROUNDS), seed=(0, SEED)
    ).parse_args()
    clips = make_clips(options.clips, options.seed)
    extractor = AtriFeatureExtractor()
    clap = clap_extractor()
    batch = torch.from_numpy(np.stack(clips))
    ways = {
        "ours": lambda: extractor(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt"),
        "clap": lambda: clap(clips, sampling_rate=SAMPLING_RATE, return_tensors="pt"),
        "batched_stft": lambda: batched_stft(batch, extractor),
        "fft_torch": bare_fft(options.clips, in_torch=True),
        "fft_numpy": bare_fft(options.clips, in_torch=False),
        **passes(clips, extractor),
    }
    difference = (ways["ours"]()["input_features"] - ways["batched_stft"]()).abs().max().item()
    if not difference <= LARGEST_DIFFERENCE:
        raise SystemExit(f"Features differ from the batched STFT's by {difference:.1e} dB.")
    seconds = seconds_in_turns(ways, options.rounds)
    floor = min(("fft_torch", "fft_numpy"), key=medians(seconds, digits=9).get)
    rows = [
        row("log-mel features", "times faster than ClapFeatureExtractor", ratio(seconds, "clap", "ours"), ">= 5"),
        row("log-mel features", "times faster than a batched STFT", ratio(seconds, "batched_stft", "ours"), ">= 2.5"),
        row("log-mel features", "times the bare FFT of the same frames", ratio(seconds, "ours", floor), "<= 4"),
    ]
    print_report(
        "front_end",
        rows=rows,
        seconds=medians(seconds),
        floor=floor,
        largest_difference_db=difference,
        **from_files(clips, extractor, options.rounds),
        clip_seconds=NUM_SAMPLES / SAMPLING_RATE,
        **vars(options),
    )


def make_clips(num_clips: int, seed: int) -> list[np.ndarray]:
    """Make clips of a rising tone, noise and a click, each 20 dB softer than the one before, in cycles of seven."""
    generator = np.random.default_rng(seed)
    rising = np.sin(np.pi * 7000 * np.arange(NUM_SAMPLES) ** 2 / (NUM_SAMPLES * SAMPLING_RATE))
    clips = []
    for clip in range(num_clips):
        waveform = 0.3 * rising + 0.1 * generator.standard_normal(NUM_SAMPLES)
        waveform[generator.integers(NUM_SAMPLES)] = 1.0
        clips.append((waveform * 0.1 ** (clip % 7)).astype(np.float32))
    return clips


def clap_extractor() -> ClapFeatureExtractor:
    """Make CLAP's extractor with our settings."""
    return ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=SAMPLING_RATE,
        hop_length=160,
        max_length_s=NUM_SAMPLES // SAMPLING_RATE,
        fft_window_size=512,
        frequency_min=0,
        frequency_max=8000,
        truncation="rand_trunc",
    )


def batched_stft(batch: torch.Tensor, extractor: AtriFeatureExtractor) -> torch.Tensor:
    """Log-mel features `(clips, frames, mel bins)` in decibels."""
    power = torch.stft(batch, 512, 160, window=extractor.window, return_complex=True).abs().pow(2)
    mel = torch.matmul(power.transpose(1, 2), extractor.mel_filters)
    decibels = 10.0 * torch.log10(mel.clamp(min=1e-10))
    return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - extractor.top_db)


def bare_fft(num_clips: int, in_torch: bool) -> Callable[[], None]:
    """Make a function that transforms as many frames as the clips have."""
    frames = torch.randn(BLOCK_FRAMES, 512)
    spectra = torch.empty(BLOCK_FRAMES, 257, dtype=torch.complex64)
    num_frames = num_clips * (1 + NUM_SAMPLES // 160)

    def run() -> None:
        for first in range(0, num_frames, BLOCK_FRAMES):
            size = min(BLOCK_FRAMES, num_frames - first)
            if in_torch:
                torch.fft.rfft(frames[:size], out=spectra[:size])
            else:
                np.fft.rfft(frames[:size].numpy(), out=spectra[:size].numpy())

    return run


def passes(clips: list[np.ndarray], extractor: AtriFeatureExtractor) -> dict[str, Callable[[], None]]:
    """The passes of our features, each as often as all clips need it."""
    size = 126  # frames of a block: a clip has eight
    num_blocks = 8 * len(clips)
    frames = torch.from_numpy(clips[0])[: (size - 1) * 160 + 512].unfold(0, 512, 160)
    windowed, mel = torch.empty(size, 512), torch.rand(8 * size, 64)
    squares = torch.view_as_real(torch.fft.rfft(frames * extractor.window)).flatten(1)
    features = [torch.rand(1 + NUM_SAMPLES // 160, 64) for _ in clips]

    def products() -> None:
        for parts, filters, bins in extractor.mel_bands:
            torch.mm(squares[:, parts], filters, out=mel[:size, bins])

    def repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
        def run_all() -> None:
            for _ in range(times):
                run()

        return run_all

    return {
        "pass_window": repeated(lambda: torch.mul(frames, extractor.window, out=windowed), num_blocks),
        "pass_transform": repeated(lambda: torch.fft.rfft(windowed), num_blocks),
        "pass_squares": repeated(lambda: squares.mul_(1.0), num_blocks),
        "pass_products": repeated(products, num_blocks),
        "pass_decibels": repeated(lambda: mel.double().clamp_(min=1e-10).log10_().mul_(10.0).float(), len(clips)),
        "pass_read": lambda: [load_audio(clip, SAMPLING_RATE, SAMPLING_RATE) for clip in clips],
        "pass_batch": lambda: extractor.pad_features(features),
    }


def from_files(clips: list[np.ndarray], extractor: AtriFeatureExtractor, rounds: int) -> dict[str, float | int]:
    """Time the way from files to features on one thread and on all cores, in wall-clock seconds."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.flac" for index in range(len(clips))]
        for file, clip in zip(files, clips, strict=True):
            soundfile.write(file, 0.5 * clip, SAMPLING_RATE)

        def extract(num_threads: int) -> None:
            torch.set_num_threads(num_threads)
            extractor([partial(load_audio, file) for file in files], sampling_rate=SAMPLING_RATE)

        ways = {"one": partial(extract, 1), "all": partial(extract, cores)}
        seconds = seconds_in_turns(ways, rounds, wall_seconds)
    torch.set_num_threads(1)
    found = medians(seconds)
    return {
        "cores": cores,
        "from_files_seconds_on_one_thread": found["one"],
        "from_files_seconds_on_all_cores": found["all"],
        "from_files_times_faster_on_all_cores": round(found["one"] / found["all"], 2),
    }


if __name__ == "__main__":
    main()
