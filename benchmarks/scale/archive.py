"""Measure the retrieval pipeline on an archive of a million embeddings of 1024 dimensions (4 GB).

CPU seconds on one thread, medians of ways that take turns. The pipeline belongs to a tiny model of that width, and its
queries are embeddings, so that the time of a text tower is not in the figures.

- `one_query_times_a_pass`: one query, divided by one pass over memory, the bare product of the archive and a vector.
- `hundred_queries_times_bare_product`: 100 queries, divided by the bare product, in tiles.
- `extra_memory_mb`: what the searches add to the peak memory of the process, which holds the archive.

The archive is made of rows that are drawn once and shifted. The benchmark fails if a result differs from a sort of all
scores. It prints one JSON line.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import medians, print_scale_report, ratio, seconds_in_turns  # first: it sets one thread


# isort: split
import numpy as np
from shared.options import ROUNDS, SEED, option_parser
from shared.processes import peak_memory

from modeling_atri.pipelines_atri import AtriAudioTextRetrievalPipeline
from modeling_atri.trainer.scratch import ScratchArguments, model_from_scratch


ROWS, DIM, QUERIES, TOP_K, TILE = 1_000_000, 1024, 100, 10, 8192
BARS = {
    "one_query_times_a_pass": 1.15,
    "hundred_queries_times_bare_product": 1.3,
    "extra_memory_mb": 200,
}


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "a minute",
        part=(1.0, "part of the million embeddings"),
        rounds=(5, ROUNDS),
        many_rounds=(1, "timed rounds of 100 queries"),
        seed=(0, SEED),
    ).parse_args()
    sizes = ScratchArguments(projection_dim=DIM, audio_layers=1, text_layers=1)
    model, processor = model_from_scratch(["a dog barks"], ["eng_Latn"], sizes, options.seed)
    pipeline = AtriAudioTextRetrievalPipeline(model, processor, top_k=TOP_K)
    generator = np.random.default_rng(options.seed)
    archive = make_archive(generator, max(1000, int(ROWS * options.part)))
    queries = unit(generator.standard_normal((QUERIES, DIM), dtype=np.float32))
    before = peak_memory()
    found = pipeline(queries, audios=archive)
    extra = (peak_memory() - before) // 2**20
    check(found, queries, archive)
    one = seconds_in_turns(
        {"ours": lambda: pipeline(queries[:1], audios=archive), "a_pass": lambda: archive @ queries[0]},
        options.rounds,
    )
    many = seconds_in_turns(
        {"ours": lambda: pipeline(queries, audios=archive), "product": lambda: bare_product(archive, queries)},
        options.many_rounds,
    )
    figures = {
        "one_query_times_a_pass": round(ratio(one, "ours", "a_pass"), 3),
        "one_query_cpu_seconds": medians(one)["ours"],
        "hundred_queries_times_bare_product": round(ratio(many, "ours", "product"), 2),
        "hundred_queries_cpu_seconds": medians(many)["ours"],
        "extra_memory_mb": extra,
    }
    print_scale_report("archive", figures, BARS, {"rows": len(archive), "dim": DIM, "queries": QUERIES})


def unit(rows: np.ndarray) -> np.ndarray:
    """L2-normalise rows, in place."""
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def make_archive(generator: np.random.Generator, number: int) -> np.ndarray:
    """Rows of unit length. All but the first ones are those, turned by some places."""
    archive = np.empty((number, DIM), np.float32)
    drawn = unit(generator.standard_normal((TILE, DIM), dtype=np.float32))
    for turn, start in enumerate(range(0, number, TILE)):
        archive[start : start + TILE] = np.roll(drawn, turn, axis=1)[: number - start]
    return archive


def check(found: list, queries: np.ndarray, archive: np.ndarray) -> None:
    """End the benchmark if the best matches of the first query are not those of a sort."""
    scores = archive @ queries[0]
    expected = np.argsort(-scores, kind="stable")[:TOP_K]
    if [match["index"] for match in found[0]] != expected.tolist():
        raise SystemExit(f"Not the best matches: {found[0]}, a sort finds {expected}.")


def bare_product(archive: np.ndarray, queries: np.ndarray) -> None:
    """Compute all scores and keep none."""
    memory = np.empty((len(queries), TILE), np.float32)
    for start in range(0, len(archive), TILE):
        tile = archive[start : start + TILE]
        np.matmul(queries, tile.T, out=memory[:, : len(tile)])


if __name__ == "__main__":
    main()
