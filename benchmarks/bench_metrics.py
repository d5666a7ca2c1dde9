"""Compare the retrieval metrics with the usual loop over queries and with the bare matrix product.

The following ways take turns in one process on one thread, and their CPU time is measured:

- `ours`: `retrieval_metrics` in both directions, with its checks of the ground truth and its count of ties.
- `field_loop`: the loop of public evaluation scripts for audio-text retrieval. For each query it computes the cosine
  with all items (and normalises them all again), sorts once, and searches for the positives.
- `tidy_loop`: the same loop on embeddings that are normalised once, before the loop.
- `floor`: only the float32 matrix product of all scores.

The embeddings are random. Captions lie around their clip so that recall is like that of a trained model. The twelve
figures must equal those of the loop in float64; otherwise the benchmark fails. It prints one JSON line with the rows
of the table, medians in CPU seconds, and the difference between our figures and those of the float32 loops, where
rounding decides the order of items whose scores differ by less than 1e-8.
"""

from shared.measuring import medians, print_report, ratio, row, seconds_in_turns  # first: it sets one thread


# isort: split
import argparse
from collections.abc import Callable

import numpy as np
from shared.options import SEED, option_parser

from modeling_atri.trainer.metrics import retrieval_metrics


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "about a minute",
        clips=(1045, "number of clips, by default Clotho's"),
        captions=(5, "captions of each clip"),
        dim=(1024, "width of an embedding"),
        noise=(10.0, "spread of captions around their clip"),
        rounds=(9, "timed rounds of ours and the floor"),
        loop_rounds=(3, "timed rounds of the loops"),
        seed=(0, SEED),
    ).parse_args()
    audio, text, positives = make_embeddings(options)
    results: dict[str, dict[str, float]] = {}

    def kept(way: str, run: Callable[[], dict[str, float]]) -> Callable[[], None]:
        return lambda: results.update({way: run()})

    ours = kept("ours", lambda: retrieval_metrics(audio, text, positives))
    loops = {
        "tidy_loop": kept("tidy_loop", lambda: loop_metrics(unit_rows(audio), unit_rows(text), dot_products)),
        "field_loop": kept("field_loop", lambda: loop_metrics(audio, text, cosine_similarities)),
    }
    # The loops take seconds, so they run in fewer rounds than the floor.
    near = seconds_in_turns({"ours": ours, "floor": lambda: text @ audio.T}, options.rounds)
    far = seconds_in_turns({"ours": ours, **loops}, options.loop_rounds, warm_up=False)

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
        rows=rows,
        seconds=medians(far | near),
        **vars(options),
        difference_from_float64_loop=largest_difference(results["ours"], exact),
        difference_from_float32_loops=max(largest_difference(results["ours"], results[way]) for way in loops),
        text_to_audio_recall_at_1=round(results["ours"]["text_to_audio_R@1"], 4),
    )


def make_embeddings(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw embeddings of clips and of their captions, and the clip of each caption."""
    generator = np.random.default_rng(options.seed)
    audio = generator.standard_normal((options.clips, options.dim), dtype=np.float32)
    positives = np.repeat(np.arange(options.clips), options.captions)
    noise = generator.standard_normal((len(positives), options.dim), dtype=np.float32)
    return audio, audio[positives] + np.float32(options.noise) * noise, positives


def largest_difference(first: dict[str, float], second: dict[str, float]) -> float:
    return float(max(abs(first[name] - second[name]) for name in first))


# The loops. They assume that captions are in order and that all clips have the same number, as public scripts do.


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
