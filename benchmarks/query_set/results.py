"""The file of what models found: a Parquet table with one row for each model, form of query and way to ask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modeling_atri.files import written_whole

from .answers import Answers


ANSWERS = Path(__file__).parents[1] / "results" / "evidence" / "queries_answers.parquet"
SCHEMA = pa.schema(
    {
        "cell": pa.string(),
        "seed": pa.int64(),
        "form": pa.string(),
        "way": pa.string(),
        "doubled_ranks": pa.list_(pa.list_(pa.uint16())),  # (languages, texts), 2 x the rank: .5 where scores tie
        "first": pa.list_(pa.list_(pa.uint8())),  # (languages, texts), the scene that ranks first
        "r_precision": pa.float64(),
        "weights": pa.string(),  # digest of the weights
        "queries": pa.string(),  # digest of the file of queries
    }
)
Digests = tuple[str, str]  # of the weights, and of the file of queries


def read_answers(file: Path) -> list[dict[str, Any]]:
    """Read all rows, with arrays; an empty list if there is no file yet."""
    if not file.exists():
        return []
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        row["doubled_ranks"] = np.array(row["doubled_ranks"], dtype=np.uint16)
        row["first"] = np.array(row["first"], dtype=np.uint8)
    return rows


def is_done(rows: Sequence[dict[str, Any]], model: str, digests: Digests) -> bool:
    """Whether the model, `<cell>-<seed>`, was asked with these weights and queries."""
    return any((f"{row['cell']}-{row['seed']}", row["weights"], row["queries"]) == (model, *digests) for row in rows)


def add_answers(file: Path, model: str, digests: Digests, answers: Sequence[Answers]) -> None:
    """Add what a model, `<cell>-<seed>`, found, in place of earlier rows of the model."""
    cell, _, seed = model.rpartition("-")
    rows = [row for row in read_answers(file) if (row["cell"], row["seed"]) != (cell, int(seed))]
    rows += [
        {
            "cell": cell,
            "seed": int(seed),
            "form": one.form,
            "way": one.way,
            "doubled_ranks": (2 * one.ranks).astype(np.uint16),
            "first": one.first.astype(np.uint8),
            "r_precision": one.r_precision,
            "weights": digests[0],
            "queries": digests[1],
        }
        for one in answers
    ]
    rows.sort(key=lambda row: (row["cell"], row["seed"]))
    lists = [row | {name: row[name].tolist() for name in ("doubled_ranks", "first")} for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(file) as output:
        pq.write_table(pa.Table.from_pylist(lists, SCHEMA), output, compression="zstd")
