"""Compare the search of an index with one pass over memory, and its vector index with faiss and usearch.

The vectors lie in clusters of uneven size, and the questions lie apart from all of them by the same gap, as texts do
from sounds (`shared/clustered_vectors.py`).

Exact search of one question, ways in turns in one process on one thread:

- `ours`: `nearest.search` with the vectors in memory, to the ten rows with all their columns.
- `floor`: a bare product of the same matrix with the question, which reads each vector once.

The vector index, with the questions one after another, on all cores:

- `ours`: in a new process that opens the index and then asks with `answer`, as `SoundIndex.search` does. The first
  question reads what later ones find in memory.
- `faiss_ivf`, `faiss_hnsw`, `usearch`: with all vectors in memory, of at most `--graph-rows` rows for the two that
  build graphs. What they read is the least of some values at which they find 95 % of the true ten rows.

It prints one JSON line. The figures of the full size are in `results/search.jsonl`, made with `--vectors 1000000
--graph-rows 5000 --rounds 3 --questions 100`.
"""

from shared.measuring import cpu_seconds, medians, print_report, ratio, row, seconds_in_turns  # first: one thread


# isort: split
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from shared.clustered_vectors import ClusteredVectors
from shared.options import ROUNDS, SEED, option_parser

from modeling_atri.search.answers import answer
from modeling_atri.search.index import nearest
from modeling_atri.search.index.tables import VECTOR, IndexFacts, IndexTables
from modeling_atri.search.questions import Question


os.environ["LANCE_LOG"] = "error"
K = 10
WANTED = 0.95
ROWS_AT_ONCE = 50_000


def main() -> None:
    """Run the command."""
    parser = option_parser(
        __doc__,
        "some minutes; the full size about ten on two free cores",
        exact_vectors=(100_000, "vectors of the exact search"),
        exact_dim=(1024, "their width"),
        vectors=(100_000, "vectors of the vector index"),
        dim=(512, "their width"),
        graph_rows=(20_000, "the most vectors for faiss HNSW and usearch"),
        questions=(200, "number of questions"),
        rounds=(21, ROUNDS),
        seed=(0, SEED),
    )
    parser.add_argument("--cold", type=Path, help=argparse.SUPPRESS)  # what the new process gets
    options = parser.parse_args()
    if options.cold is not None:
        print(json.dumps(ask(options.cold, np.load(options.cold / "questions.npy"))))
        return
    with tempfile.TemporaryDirectory() as folder:
        exact_rows, exact = compare_exact(Path(folder), options)
        index_rows, index = compare_index(Path(folder), options)
    numbers = {name: value for name, value in vars(options).items() if name != "cold"}
    print_report("search", rows=exact_rows + index_rows, exact=exact, vector_index=index, **numbers)


def compare_exact(folder: Path, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Exact search against one pass over memory."""
    made = ClusteredVectors(options.exact_dim, seed=options.seed)
    vectors, questions = made.vectors(options.exact_vectors, 2), made.queries(8, 3)
    tables = write_tables(folder / "exact", vectors)
    found = nearest.search(tables, questions, K, exact=True)
    for question, rows in zip(questions, found, strict=True):
        best = np.argsort(-(vectors @ question), kind="stable")[:K]
        if [item["size"] for item in rows] != best.tolist():
            raise SystemExit("The exact search has not found the rows of the bare product.")
    ways = {
        "ours": lambda: nearest.search(tables, questions[:1], K, exact=True),
        "floor": lambda: vectors @ questions[0],
        "eight_questions": lambda: nearest.search(tables, questions, K, exact=True),
    }
    seconds = seconds_in_turns(ways, options.rounds, cpu_seconds)
    work = f"exact search, {options.exact_vectors:,} x {options.exact_dim}"
    rows = [
        row(f"{work}, one question", "times one pass over memory", ratio(seconds, "ours", "floor"), "<= 1.15"),
        row(f"{work}, eight questions", "times eight passes", ratio(seconds, "eight_questions", "floor") / 8, "<= 1"),
    ]
    return rows, {"seconds": medians(seconds), "memory_mb": nearest.figures(tables).memory_bytes >> 20}


def compare_index(folder: Path, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The vector index against faiss and usearch."""
    made = ClusteredVectors(options.dim, seed=options.seed)
    vectors, questions = made.vectors(options.vectors, 2), made.queries(options.questions, 3)
    np.save(folder / "questions.npy", questions)
    truth = nearest_rows(vectors, questions)
    tables = write_tables(folder / "index", vectors)
    build = timed(partial(nearest.build, tables))
    measure = timed(partial(nearest.refresh, tables))
    figures = nearest.figures(tables)
    command = [sys.executable, __file__, "--cold", str(folder)]
    cold = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    ours = summary(cold["seconds"], cold["cpu_seconds"], recall(cold["rows"], truth))
    ours |= {"rows": len(vectors), "open_seconds": cold["open_seconds"], "build": build, "measure": measure}
    ours |= {"megabytes": figures.index_bytes / 1e6, "effort": vars(figures.efforts["file"][0])}
    few = min(options.graph_rows, len(vectors))
    truth_of_few = truth if few == len(vectors) else nearest_rows(vectors[:few], questions)
    ways = {
        "ours": ours,
        "faiss_ivf": peer(faiss_ivf(vectors), questions, truth) | {"rows": len(vectors)},
        "faiss_hnsw": peer(faiss_hnsw(vectors[:few]), questions, truth_of_few) | {"rows": few},
        "usearch": peer(usearch_graph(vectors[:few]), questions, truth_of_few) | {"rows": few},
    }
    work = f"vector index, {options.vectors:,} x {options.dim}, after a cold open"
    rows = [
        row(work, "milliseconds, median", ours["p50_ms"], "<= 20"),
        row(work, "milliseconds, 95 % of questions", ours["p95_ms"], "<= 60"),
        row(work, "recall of the first ten", ours["recall"], ">= 0.95"),
        row(work, "of the memory of faiss IVF", ours["megabytes"] / ways["faiss_ivf"]["megabytes"], "<= 0.1"),
    ]
    return rows, ways


def write_tables(folder: Path, vectors: np.ndarray) -> IndexTables:
    """An index of sounds that have these vectors. The column `size` has their places."""
    number, dim = vectors.shape
    tables = IndexTables.create(folder, IndexFacts(model=None, fingerprint="", projection_dim=dim))
    schema = tables.windows.schema
    for start in range(0, number, ROWS_AT_ONCE):
        places = np.arange(start, min(start + ROWS_AT_ONCE, number))
        paths = [f"{place % 100:02d}/{place:07d}.flac" for place in places]
        columns = {
            "id": [f"/sounds/{path}#0" for path in paths],
            "path": paths,
            "folder": ["/sounds"] * len(paths),
            "kind": ["clip"] * len(paths),
            "start_s": np.zeros(len(paths)),
            "end_s": 5 + places % 5,
            "duration_s": 5 + places % 5,
            "size": places,
            "mtime_ns": places,
            "content": [f"{place:032x}" for place in places],
            VECTOR: pa.FixedSizeListArray.from_arrays(pa.array(vectors[places].ravel()), dim),
        }
        tables.windows.add(pa.table(columns, schema=schema))
    tables.compact()
    return tables


def ask(folder: Path, questions: np.ndarray) -> dict[str, Any]:
    """Open an index and ask the questions one after another."""
    import lancedb  # noqa: F401 - takes a second, which is no part of opening

    start = time.perf_counter()
    tables = IndexTables.open(folder / "index")
    opened = time.perf_counter() - start
    seconds, cpu, found = timed_questions(lambda question: answer(tables, [Question(question)], K)[0], questions)
    rows = [[int(Path(hit.path).stem) for hit in of_question] for of_question in found]
    return {"open_seconds": opened, "seconds": seconds, "cpu_seconds": cpu, "rows": rows}


def timed_questions(
    run: Callable[[np.ndarray], Any], questions: np.ndarray
) -> tuple[list[float], list[float], list[Any]]:
    seconds, cpu, found = [], [], []
    for question in questions:
        wall, process = time.perf_counter(), time.process_time()
        found.append(run(question))
        seconds.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - process)
    return seconds, cpu, found


def timed(run: Callable[[], Any]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {"seconds": round(time.perf_counter() - wall, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}


def summary(seconds: list[float], cpu: list[float], found: float) -> dict[str, float]:
    values = 1000 * np.array(seconds)
    return {
        "first_ms": round(values[0], 1),
        "p50_ms": round(float(np.median(values)), 2),
        "p95_ms": round(float(np.percentile(values, 95)), 2),
        "cpu_p50_ms": round(1000 * float(np.median(cpu)), 2),
        "cpu_p95_ms": round(1000 * float(np.percentile(cpu, 95)), 2),
        "recall": round(found, 4),
    }


def nearest_rows(vectors: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """The true ten nearest rows of each question."""
    best = []
    for start in range(0, len(questions), 20):
        scores = questions[start : start + 20] @ vectors.T
        chosen = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        best.append(chosen)
    return np.concatenate(best)


def recall(found: Any, truth: np.ndarray) -> float:
    return float(np.mean([len({*rows} & {*best}) / K for rows, best in zip(found, truth.tolist(), strict=True)]))


# The peers. Each yields the figures of its making first, and then ways to search with growing effort.

Peer = Iterator[Any]


def peer(ways: Peer, questions: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """The figures of a peer at the least effort that finds enough."""
    made = next(ways)
    for effort, run in ways:
        seconds, cpu, found = timed_questions(run, questions)
        figures = summary(seconds, cpu, recall(found, truth)) | {"effort": effort}
        if figures["recall"] >= WANTED:
            break
    return made | figures


def faiss_ivf(vectors: np.ndarray) -> Peer:
    import faiss

    faiss.omp_set_num_threads(os.cpu_count() or 1)
    groups = round(len(vectors) ** 0.5)
    centres = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(centres, vectors.shape[1], groups, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64
    index.cp.niter = 15

    def build() -> None:
        index.train(vectors)
        index.add(vectors)

    yield {"build": timed(build), "megabytes": vectors.nbytes / 1e6}
    for probes in (4, 8, 16, 32, 64, 128, 256):
        index.nprobe = probes
        yield {"nprobe": probes}, lambda question: index.search(question[None], K)[1][0].tolist()


def faiss_hnsw(vectors: np.ndarray) -> Peer:
    import faiss

    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    built = timed(lambda: index.add(vectors))
    yield {"build": built, "megabytes": (vectors.nbytes + len(vectors) * 64 * 4) / 1e6}
    for ef in (16, 32, 64, 128, 256, 512):
        index.hnsw.efSearch = ef
        yield {"efSearch": ef}, lambda question: index.search(question[None], K)[1][0].tolist()


def usearch_graph(vectors: np.ndarray) -> Peer:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=32, expansion_add=100)
    keys = np.arange(len(vectors))
    built = timed(lambda: index.add(keys, vectors, threads=os.cpu_count() or 1))
    yield {"build": built, "megabytes": index.memory_usage / 1e6}
    for ef in (16, 32, 64, 128, 256, 512):
        index.expansion_search = ef
        yield {"expansion_search": ef}, lambda question: index.search(question, K).keys.tolist()


if __name__ == "__main__":
    main()
