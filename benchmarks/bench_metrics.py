"""Retrieval metrics against the loop the field uses and against the bare matrix product.

Four ways take turns in one process, on one thread, and are timed by CPU time:

- `ours`: `retrieval_metrics`, both directions, ground truth checked, ties counted;
- `field_loop`: one query at a time: its cosine with everything (which normalises everything again), one argsort, a
  search for the positives. That is what the public evaluation scripts of audio-text retrieval do;
- `tidy_loop`: the same loop on embeddings normalised once, before it: the gain that remains when that is put right;
- `floor`: the one float32 product that holds every score, and nothing else.

The embeddings are random; captions lie around their clip so that recall is like that of a trained model. The twelve
figures must equal those of the loop run in float64, or the benchmark fails. It prints one JSON line: the rows of the
table, medians in CPU seconds, and how far the float32 loops are from our figures (in theirs, rounding decides where
two items score within 1e-8 of each other).
"""

from measuring import print_report, ratio, row, seconds_in_turns  # first: it keeps numpy and torch to one thread


# isort: split
import argparse
from collections.abc import Callable

import numpy as np

from modeling_atri.trainer.metrics import retrieval_metrics


def main() -> None:
    """Run the command."""
    options = parse_options()
    audio, text, positives = make_embeddings(options)
    results: dict[str, dict[str, float]] = {}

    def kept(way: str, run: Callable[[], dict[str, float]]) -> Callable[[], None]:
        return lambda: results.update({way: run()})

    ours = kept("ours", lambda: retrieval_metrics(audio, text, positives))
    loops = {
        "tidy_loop": kept("tidy_loop", lambda: loop_metrics(unit_rows(audio), unit_rows(text), dot_products)),
        "field_loop": kept("field_loop", lambda: loop_metrics(audio, text, cosine_similarities)),
    }
    # The loops take seconds, so they have fewer turns than the floor.
    near = seconds_in_turns({"ours": ours, "floor": lambda: text @ audio.T}, options.rounds)
    far = seconds_in_turns({"ours": ours, **loops}, options.loop_rounds)

    exact = loop_metrics(unit_rows(audio.astype(np.float64)), unit_rows(text.astype(np.float64)), dot_products)
    if largest_difference(results["ours"], exact) > 1e-12:
        raise SystemExit(f"Not the figures of the loop in float64.\n ours: {results['ours']}\n loop: {exact}")
    work = f"retrieval metrics, {options.clips} clips x {options.captions} captions"
    rows = [
        row(work, "times faster than the field's loop", ratio(far, "field_loop", "ours"), ">= 15"),
        row(work, "times faster than that loop, normalising once", ratio(far, "tidy_loop", "ours"), ">= 4"),
        row(work, "times a bare product of all embeddings", ratio(near, "ours", "floor"), "<= 4"),
    ]
    print_report(
        "metrics",
        rows,
        far | near,
        clips=options.clips,
        captions=options.captions,
        dim=options.dim,
        seed=options.seed,
        rounds=options.rounds,
        loop_rounds=options.loop_rounds,
        difference_from_float64_loop=largest_difference(results["ours"], exact),
        difference_from_float32_loops=max(largest_difference(results["ours"], results[way]) for way in loops),
        text_to_audio_recall_at_1=round(results["ours"]["text_to_audio_R@1"], 4),
    )


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
