"""Compare LanceDB's kinds of vector indexes: time of building, size, time of a question and recall of the first ten.

    python benchmarks/index_kinds.py >> benchmarks/results/search.jsonl

Vectors and questions are those of `bench_search.py`. All kinds have the same groups, made with the same settings, and
are asked at the same numbers of groups. Ten times the rows that are asked for are compared by their stored vectors.
"""

from shared.measuring import print_report  # first: it sets one thread


# isort: split
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench_search import K, nearest_rows, recall, summary, timed, timed_questions, write_tables
from shared.clustered_vectors import ClusteredVectors
from shared.options import SEED, option_parser

from modeling_atri.search.index.tables import VECTOR


def main() -> None:
    """Run the command."""
    import lancedb.index

    options = option_parser(
        __doc__,
        "some minutes",
        vectors=(50_000, "number of vectors"),
        dim=(512, "their width"),
        questions=(100, "number of questions"),
        seed=(0, SEED),
    ).parse_args()
    made = ClusteredVectors(options.dim, seed=options.seed)
    vectors, questions = made.vectors(options.vectors, 2), made.queries(options.questions, 3)
    truth = nearest_rows(vectors, questions)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        table = write_tables(Path(folder) / "index", vectors).windows
        groups = round(options.vectors**0.5)
        for name in ("IvfRq", "IvfPq", "IvfSq", "HnswSq", "IvfFlat"):
            partitions = 1 if name == "HnswSq" else groups
            settings = {"distance_type": "l2", "num_partitions": partitions, "max_iterations": 15, "sample_rate": 64}
            config = getattr(lancedb.index, name)(**settings)
            build = timed(partial(table.create_index, VECTOR, config=config, replace=True))
            figures[name] = {"build": build, "bytes_per_row": bytes_per_row(Path(folder), options.vectors)}
            for effort in (16, 64) if name == "HnswSq" else (groups // 20, groups // 5):
                asked = partial(ask, table, effort, name == "HnswSq")
                seconds, cpu, found = timed_questions(asked, questions)
                figures[name][f"effort {effort}"] = summary(seconds, cpu, recall(found, truth))
    print_report("index_kinds", kinds=figures, **vars(options))


def ask(table: Any, effort: int, is_graph: bool, question: Any) -> list[int]:
    query = table.search(question, vector_column_name=VECTOR).limit(K).refine_factor(10)
    query = query.ef(effort) if is_graph else query.nprobes(effort)
    rows: list[int] = query.to_arrow()["size"].to_pylist()
    return rows


def bytes_per_row(folder: Path, num_rows: int) -> float:
    """Size of the newest vector index. Those that were replaced are still in storage."""
    parts = sorted((folder / "index").glob("windows.lance/_indices/*"), key=lambda part: part.stat().st_mtime)
    return round(sum(file.stat().st_size for file in parts[-1].rglob("*")) / num_rows, 1)


if __name__ == "__main__":
    main()
