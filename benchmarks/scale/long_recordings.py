"""Measure the memory and the time of `encode_audio` for recordings of three hours.

Each figure of memory is the largest resident size of a process of its own, which has imported torch and transformers
and encodes with a very small model:

- `base_peak_gb`: one clip of ten seconds, which is what the libraries take.
- `one_wav_peak_gb`, `one_flac_peak_gb`, `one_mp3_peak_gb`: one recording: WAV of 16 kHz, FLAC of 44.1 kHz in stereo,
  and MP3 without a Xing header.
- `four_wav_peak_gb`, `four_mp3_peak_gb`: four recordings with four threads.
- `mixed_peak_gb`: 64 recordings of four minutes with 16 threads, none of which is read in pieces.

Then the ways take turns in one process, and their CPU time is measured:

- `pieces_cpu_ratio`: a recording of 20 minutes in pieces, divided by the same recording read at once. It is decoded
  twice, so this is more than one.
- `short_cpu_ratio`: 64 clips of ten seconds with `encode_audio`, divided by the same with a `read_features` that reads
  each clip whole.
- `largest_difference`: between the embeddings of the two ways.

The benchmark prints one JSON line.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import medians, print_scale_report, ratio, seconds_in_turns  # first: it sets one thread


# isort: split
import argparse
import os
import subprocess
import tempfile

import numpy as np
import torch
from shared.options import ROUNDS, SEED, option_parser
from shared.processes import peak_memory
from shared.recordings import write, write_mp3

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor, encode_audio, long_sounds_atri
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


SECONDS = 3 * 3600
TINY = {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 96, "num_hidden_layers": 2}
TEXT = {"vocab_size": 600, "d_model": 32, "encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2}
BARS = {
    "one_wav_peak_gb": 0.7,
    "one_flac_peak_gb": 0.7,
    "one_mp3_peak_gb": 0.7,
    "four_wav_peak_gb": 1.0,
    "four_mp3_peak_gb": 1.0,
    "mixed_peak_gb": 1.0,
    "short_cpu_ratio": 1.05,
    "largest_difference": 1e-6,
}


def main() -> None:
    """Run the command."""
    parser = option_parser(
        __doc__, "three minutes", part=(1.0, "part of the three hours"), rounds=(5, ROUNDS), seed=(0, SEED)
    )
    parser.add_argument("--work", type=Path, help="existing folder for the files (default: a temporary one)")
    parser.add_argument("--encode", nargs="+", help=argparse.SUPPRESS)  # what a child process encodes
    options = parser.parse_args()
    if options.encode:
        workers, *files = options.encode
        encode_audio(*make_model(options.seed), files, num_workers=int(workers))
        print(round(peak_memory() / 1e9, 3))
        return
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder, seconds = Path(name), max(600, round(SECONDS * options.part))
        figures = memory(folder, seconds, options.seed) | time(folder, options.rounds, options.seed)
    size = {"hours": round(seconds / 3600, 3), "mixed_recordings": 64, "short_clips": 64}
    print_scale_report("long_recordings", figures, BARS, size)


def memory(folder: Path, seconds: int, seed: int) -> dict[str, float]:
    """The largest sizes of processes, in GB."""
    short = write(folder / "short.wav", 10, seed=seed)
    wav = write(folder / "long.wav", seconds, seed=seed)
    flac = write(folder / "long.flac", seconds, 44_100, 2, seed)
    mp3 = write_mp3(folder / "long.mp3", seconds, seed)
    minutes = write(folder / "minutes.wav", 240, seed=seed)
    ways = {
        "base": [1, short],
        "one_wav": [1, wav],
        "one_flac": [1, flac],
        "one_mp3": [1, mp3],
        "four_wav": [4, *[wav] * 4],
        "four_mp3": [4, *[mp3] * 4],
        "mixed": [16, *[minutes] * 64],
    }
    return {f"{name}_peak_gb": in_a_process(arguments, seed) for name, arguments in ways.items()}


def time(folder: Path, rounds: int, seed: int) -> dict[str, float]:
    """CPU time of the ways, and the largest difference of their embeddings."""
    model, processor = make_model(seed)
    long = [write(folder / "twenty.wav", 1200, 44_100, 2, seed)]
    clips = [write(folder / f"{number}.wav", 10, 44_100, 1, number) for number in range(64)]

    def whole(files: list[Path]) -> np.ndarray:
        read = processor.feature_extractor.extract_clip
        return encode_audio(model, processor, files, num_workers=1, read_features=read)

    def pieces(files: list[Path]) -> np.ndarray:
        return encode_audio(model, processor, files, num_workers=1)

    assert long_sounds_atri.LONG_SECONDS < 1200
    ways = {
        "long_whole": lambda: whole(long),
        "long": lambda: pieces(long),
        "short_whole": lambda: whole(clips),
        "short": lambda: pieces(clips),
    }
    seconds = seconds_in_turns(ways, rounds)
    return {
        "pieces_cpu_ratio": round(ratio(seconds, "long", "long_whole"), 3),
        "short_cpu_ratio": round(ratio(seconds, "short", "short_whole"), 3),
        "largest_difference": float(max(np.abs(whole(files) - pieces(files)).max() for files in (long, clips))),
        **{f"{name}_cpu_seconds": value for name, value in medians(seconds).items()},
    }


def in_a_process(arguments: list[int | Path], seed: int) -> float:
    """The largest size of a process that encodes files, in GB."""
    command = [sys.executable, __file__, "--seed", str(seed), "--encode", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.splitlines()[-1])


def make_model(seed: int) -> tuple[AtriModel, AtriProcessor]:
    """Make a very small model with random weights, and its processor."""
    torch.manual_seed(seed)
    model = AtriModel(AtriConfig(audio_config=TINY, text_config=TEXT)).eval()
    with torch.no_grad():
        model.audio_model.mel_norm.set_statistics(torch.full((64,), -20.0), torch.full((64,), 400.0))
    tokenizer = train_tokenizer(["A dog barks while rain falls."] * 3, vocab_size=TEXT["vocab_size"])
    return model, AtriProcessor(AtriFeatureExtractor(), tokenizer)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
