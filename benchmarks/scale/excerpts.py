"""Measure the time of excerpts of 30 s from recordings of three hours, which training with `max_audio_seconds` takes.

For WAV (16 kHz), FLAC, MP3 without a Xing header and M4A (AAC), the last three at 44.1 kHz in stereo:

- `{format}_first_cpu_s`: CPU time of the first excerpt from a file. The frames of MP3 are counted, and the packets of
  M4A are looked through; a process does it once for each file.
- `{format}_cpu_s`: CPU time of each further excerpt, the median.
- `{format}_length_ratio`: the latter divided by that of excerpts of a recording of ten minutes.
- `largest_difference`: between excerpts and the same part of the whole recording of ten minutes.

The benchmark prints one JSON line. It needs the extra `av`.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import cpu_seconds, print_scale_report  # first: it sets one thread


# isort: split
import statistics
import tempfile
from collections.abc import Callable

import numpy as np
from shared.options import ROUNDS, SEED, option_parser
from shared.recordings import write, write_m4a, write_mp3

from modeling_atri.audio_io import SAMPLING_RATE, load_audio, load_excerpt


SECONDS, SHORT_SECONDS, EXCERPT = 3 * 3600, 600, 30 * SAMPLING_RATE
WRITERS: dict[str, Callable[[Path, int, int], Path]] = {
    "wav": lambda path, seconds, seed: write(path, seconds, seed=seed),
    "flac": lambda path, seconds, seed: write(path, seconds, 44_100, 2, seed),
    "mp3": write_mp3,
    "m4a": write_m4a,
}
BARS = {
    "wav_length_ratio": 2.0,
    "flac_length_ratio": 2.0,
    "mp3_length_ratio": 2.0,
    "m4a_length_ratio": 2.0,
    "largest_difference": 1e-5,
}


def main() -> None:
    """Run the command."""
    parser = option_parser(
        __doc__, "three minutes", part=(1.0, "part of the three hours"), rounds=(9, ROUNDS), seed=(0, SEED)
    )
    parser.add_argument("--work", type=Path, help="existing folder for the files (default: a temporary one)")
    options = parser.parse_args()
    seconds = max(SHORT_SECONDS, round(SECONDS * options.part))
    figures: dict[str, float] = {}
    differences = []
    for name, write_file in WRITERS.items():
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            long = write_file(Path(folder, f"long.{name}"), seconds, options.seed)
            short = write_file(Path(folder, f"short.{name}"), SHORT_SECONDS, options.seed)
            first, later = time(long, seconds, options.rounds, options.seed)
            _, of_short = time(short, SHORT_SECONDS, options.rounds, options.seed)
            differences.append(difference(short, options.seed))
        figures |= {f"{name}_first_cpu_s": round(first, 3), f"{name}_cpu_s": round(later, 4)}
        figures[f"{name}_length_ratio"] = round(later / of_short, 2)
    figures["largest_difference"] = max(differences)
    print_scale_report("excerpts", figures, BARS, {"hours": round(seconds / 3600, 3), "excerpt_s": 30})


def time(path: Path, seconds: int, rounds: int, seed: int) -> tuple[float, float]:
    """CPU time of the first excerpt, and of a later one, from random places."""
    places = np.random.default_rng(seed).uniform(0.1, 0.9, 1 + rounds) * (seconds - 30) * SAMPLING_RATE
    first, *later = (cpu_seconds(lambda place=place: excerpt(path, int(place))) for place in places)
    return first, statistics.median(later)


def excerpt(path: Path, start: int) -> np.ndarray:
    """The excerpt at some sample."""
    return load_excerpt(path, start, EXCERPT, SAMPLING_RATE)


def difference(path: Path, seed: int) -> float:
    """The largest difference between excerpts and the same part of the whole recording."""
    whole = load_audio(path)
    places = np.random.default_rng(seed).integers(len(whole) - EXCERPT, size=5)
    return max(float(np.abs(excerpt(path, place) - whole[place : place + EXCERPT]).max()) for place in places.tolist())


if __name__ == "__main__":
    main()
