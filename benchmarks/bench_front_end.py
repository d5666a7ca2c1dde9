"""Log-mel features of 64 clips of 10 s against two ways users have today, and against the bare Fourier transform.

Ways that take turns in one process, on one thread, and are timed by CPU time:

- `ours`: `AtriFeatureExtractor`, from a list of waveforms to one stacked batch;
- `clap`: transformers' `ClapFeatureExtractor` with the same 64 mel bins, window, hop and rate, its clips 10 s long, so
  that it neither cuts nor repeats them, and `truncation="rand_trunc"`, which spares it the four copies of "fusion";
- `batched_stft`: what torchaudio's transforms do on the stacked batch, in plain torch: `torch.stft`, power, one matrix
  product with the same mel filters, decibels, floor per clip;
- `fft_torch`, `fft_numpy`: the real transforms of as many frames, and nothing else: blocks of 256 frames that stay in
  the cache, written to memory that is there. The faster one is the floor (scipy's lies between them).

Ours must equal the batched STFT to 1e-5 dB on every clip (tones, noise and clicks from full scale down to -120 dB), or
the benchmark fails.

Beside the rows it says how long the same clips take from FLAC files, decoding included, on one thread and on as many
as the process has cores. That is time on the clock: it means something only where nothing else runs.
"""

from measuring import print_report, ratio, row, seconds_in_turns  # first: it keeps numpy and torch to one thread


# isort: split
import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers import ClapFeatureExtractor

from modeling_atri import AtriFeatureExtractor
from modeling_atri.audio_io import load_audio


SAMPLING_RATE = 16_000  # Hz
NUM_SAMPLES = 160_000
BLOCK_FRAMES = 256  # of the bare transforms
LARGEST_DIFFERENCE = 1e-5  # dB


def main() -> None:
    options = parse_options()
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
    }
    difference = (ways["ours"]()["input_features"] - ways["batched_stft"]()).abs().max().item()
    if not difference <= LARGEST_DIFFERENCE:
        raise SystemExit(f"Features differ from the batched STFT's by {difference:.1e} dB.")
    seconds = seconds_in_turns(ways, options.rounds)
    floor = min(("fft_torch", "fft_numpy"), key=lambda way: statistics.median(seconds[way]))
    rows = [
        row("log-mel features", "times faster than ClapFeatureExtractor", ratio(seconds, "clap", "ours"), ">= 5"),
        row("log-mel features", "times faster than a batched STFT", ratio(seconds, "batched_stft", "ours"), ">= 2.5"),
        row("log-mel features", "times the bare FFT of the same frames", ratio(seconds, "ours", floor), "<= 4"),
    ]
    print_report(
        "front_end",
        rows,
        seconds,
        floor=floor,
        largest_difference_db=difference,
        **from_files(clips, extractor, options.rounds),
        clips=options.clips,
        clip_seconds=NUM_SAMPLES / SAMPLING_RATE,
        rounds=options.rounds,
        seed=options.seed,
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Takes about half a minute."
    )
    parser.add_argument("--clips", type=int, default=64, help="number of clips (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of every way (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the clips (default: %(default)s)")
    return parser.parse_args()


def make_clips(num_clips: int, seed: int) -> list[np.ndarray]:
    """A tone that rises, noise and a click; every clip 20 dB softer than the one before, until it begins again."""
    generator = np.random.default_rng(seed)
    rising = np.sin(np.pi * 7000 * np.arange(NUM_SAMPLES) ** 2 / (NUM_SAMPLES * SAMPLING_RATE))
    clips = []
    for clip in range(num_clips):
        waveform = 0.3 * rising + 0.1 * generator.standard_normal(NUM_SAMPLES)
        waveform[generator.integers(NUM_SAMPLES)] = 1.0
        clips.append((waveform * 0.1 ** (clip % 7)).astype(np.float32))
    return clips


def clap_extractor() -> ClapFeatureExtractor:
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
    """`(clips, frames, mel bins)`, decibels."""
    power = torch.stft(batch, 512, 160, window=extractor.window, return_complex=True).abs().pow(2)
    mel = torch.matmul(power.transpose(1, 2), extractor.mel_filters)
    decibels = 10.0 * torch.log10(mel.clamp(min=1e-10))
    return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - extractor.top_db)


def bare_fft(num_clips: int, in_torch: bool) -> Callable[[], None]:
    """The transforms of as many frames as the clips have."""
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


def from_files(clips: list[np.ndarray], extractor: AtriFeatureExtractor, rounds: int) -> dict[str, float | int]:
    """Files to features on one thread and on as many as there are cores: seconds on the clock."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    seconds: dict[int, list[float]] = {1: [], cores: []}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{index}.flac" for index in range(len(clips))]
        for file, clip in zip(files, clips, strict=True):
            soundfile.write(file, 0.5 * clip, SAMPLING_RATE)
        for turn in range(rounds + 1):
            for num_threads, values in seconds.items():
                torch.set_num_threads(num_threads)
                start = time.perf_counter()
                extractor([partial(load_audio, file) for file in files], sampling_rate=SAMPLING_RATE)
                if turn > 0:  # the first warms up
                    values.append(time.perf_counter() - start)
    torch.set_num_threads(1)
    alone, together = (statistics.median(seconds[num_threads]) for num_threads in (1, cores))
    return {
        "cores": cores,
        "from_files_seconds_on_one_thread": round(alone, 4),
        "from_files_seconds_on_all_cores": round(together, 4),
        "from_files_times_faster_on_all_cores": round(alone / together, 2),
    }


if __name__ == "__main__":
    main()
