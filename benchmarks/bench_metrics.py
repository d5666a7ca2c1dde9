"""Retrieval metrics against the loop the field uses and against the bare matrix product.

Four ways take turns in one process, on one thread, and are timed by CPU time:

- `ours`: `retrieval_metrics`, both directions, ground truth checked, ties counted;
- `field_loop`: one query at a time: its cosine with everything (which normalises everything again), one argsort, a
  search for the positives. That is what the public evaluation scripts of audio-text retrieval do;
- `tidy_loop`: the same loop on embeddings normalised once, before it: the gain that remains when that is put right;
- `floor`: the one float32 product that holds every score, and nothing else.

The embeddings are random; captions lie around their clip so that recall is like that of a trained model. The twelve
figures must equal those of the loop run in float64, or the benchmark fails. It prints one JSON line: medians in CPU
seconds, the ratios, and how far the float32 loops are from our figures (in theirs, rounding decides where two items
score within 1e-8 of each other).
"""

import os


# One thread for BLAS, which reads these when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np

from modeling_atri.trainer.metrics import retrieval_metrics


def main() -> None:
    options = parse_options()
    audio, text, positives = make_embeddings(options)
    ways = {
        "ours": (lambda: retrieval_metrics(audio, text, positives), options.rounds),
        "floor": (lambda: text @ audio.T, options.rounds),
        "tidy_loop": (lambda: loop_metrics(unit_rows(audio), unit_rows(text), dot_products), options.loop_rounds),
        "field_loop": (lambda: loop_metrics(audio, text, cosine_similarities), options.loop_rounds),
    }
    seconds, results = time_in_turns(ways)
    ours = results["ours"]
    exact = loop_metrics(unit_rows(audio.astype(np.float64)), unit_rows(text.astype(np.float64)), dot_products)
    if largest_difference(ours, exact) > 1e-12:
        raise SystemExit(f"Not the figures of the loop in float64.\n ours: {ours}\n loop: {exact}")
    report = {
        "benchmark": "metrics",
        "clips": options.clips,
        "captions": options.clips * options.captions,
        "dim": options.dim,
        "seed": options.seed,
        "cpu_seconds": {way: round(value, 4) for way, value in seconds.items()},
        "times_faster_than_field_loop": round(seconds["field_loop"] / seconds["ours"], 1),
        "times_faster_than_tidy_loop": round(seconds["tidy_loop"] / seconds["ours"], 1),
        "times_the_floor": round(seconds["ours"] / seconds["floor"], 2),
        "difference_from_float64_loop": largest_difference(ours, exact),
        "difference_from_float32_loops": max(
            largest_difference(ours, results[f"{kind}_loop"]) for kind in ("field", "tidy")
        ),
        "text_to_audio_R@1": round(ours["text_to_audio_R@1"], 4),
        "rounds": {way: rounds for way, (_, rounds) in ways.items()},
        "threads": 1,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(report))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Takes about a minute."
    )
    parser.add_argument("--clips", type=int, default=1045, help="number of clips (default: %(default)s, Clotho's)")
    parser.add_argument("--captions", type=int, default=5, help="captions a clip (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=1024, help="width of an embedding (default: %(default)s)")
    parser.add_argument("--noise", type=float, default=10.0, help="spread of captions around clips (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of ours and the floor (default: %(default)s)")
    parser.add_argument("--loop-rounds", type=int, default=3, help="turns of the loops (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the embeddings (default: %(default)s)")
    return parser.parse_args()


def make_embeddings(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(options.seed)
    audio = generator.standard_normal((options.clips, options.dim), dtype=np.float32)
    positives = np.repeat(np.arange(options.clips), options.captions)
    noise = generator.standard_normal((len(positives), options.dim), dtype=np.float32)
    return audio, audio[positives] + np.float32(options.noise) * noise, positives


def time_in_turns(ways: dict[str, tuple[Callable, int]]) -> tuple[dict[str, float], dict]:
    """Median CPU seconds and result of each way, the ways taking turns so that a slow minute is slow for all."""
    seconds, results = {way: [] for way in ways}, {}
    for turn in range(max(rounds for _, rounds in ways.values())):
        for way, (run, rounds) in ways.items():
            if turn < rounds:
                start = time.process_time()
                results[way] = run()
                seconds[way].append(time.process_time() - start)
    return {way: statistics.median(values) for way, values in seconds.items()}, results


def largest_difference(first: dict[str, float], second: dict[str, float]) -> float:
    return float(max(abs(first[name] - second[name]) for name in first))


# The loops: captions in order, the same number for every clip, as the field's scripts assume.


def unit_rows(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def cosine_similarities(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return unit_rows(gallery) @ (query / np.linalg.norm(query))


def dot_products(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return gallery @ query


def loop_metrics(audio: np.ndarray, text: np.ndarray, similarities: Callable) -> dict[str, float]:
    captions = len(text) // len(audio)
    ranks, precisions = np.zeros(len(text)), np.zeros(len(text))
    for query in range(len(text)):
        order = np.argsort(similarities(text[query], audio))[::-1]
        ranks[query] = np.where(order == query // captions)[0][0] + 1
        precisions[query] = 1 / ranks[query] if ranks[query] <= 10 else 0
    metrics = summary("text_to_audio_", ranks, precisions)

    ranks, precisions = np.zeros(len(audio)), np.zeros(len(audio))
    for query in range(len(audio)):
        order = np.argsort(similarities(audio[query], text))[::-1]
        own = range(query * captions, (query + 1) * captions)
        positions = sorted(np.where(order == caption)[0][0] + 1 for caption in own)
        ranks[query] = positions[0]
        precisions[query] = sum(i / p for i, p in enumerate(positions, start=1) if p <= 10) / captions
    return metrics | summary("audio_to_text_", ranks, precisions)


def summary(prefix: str, ranks: np.ndarray, precisions: np.ndarray) -> dict[str, float]:
    return {
        **{f"{prefix}R@{k}": (ranks <= k).mean() for k in (1, 5, 10)},
        f"{prefix}mAP@10": precisions.mean(),
        f"{prefix}median_rank": np.floor(np.median(ranks)),
        f"{prefix}mean_rank": ranks.mean(),
    }


if __name__ == "__main__":
    main()
