"""Rows of a stream on disk, to evaluate on."""

import tempfile
from pathlib import Path
from typing import Any

import datasets
from datasets.arrow_writer import ArrowWriter

from modeling_atri.corpora.rows.bad_rows import BadRow, BadRowError, describe
from modeling_atri.corpora.rows.lookup import EMBEDDING_COLUMN
from modeling_atri.corpora.streams.row_shards import RowStream, StreamFacts


def copy_stream(stream: RowStream, left_out: list[BadRow] | None = None) -> datasets.Dataset:
    """Copy a stream to a file in the temporary folder of the system, which disappears with the process.

    Every process has its own copy.

    Args:
        stream: A stream of one source.
        left_out: Receives the rows that are wrong. None raises an error for them.

    Raises:
        ValueError: There are several sources, rows are wrong, or no row is right.
    """
    if len(stream.sources) > 1:
        raise ValueError(
            "An evaluation set is one source, because the rows of several sources that alternate by weights are not "
            "all used. Give a dict of several sets."
        )
    (source,) = stream.sources
    bad_rows: list[BadRow] = []
    # The file is mapped into memory, so that it can be deleted at once, and a process that is killed leaves nothing.
    with tempfile.TemporaryDirectory(prefix="atri-evaluation-") as folder:
        path = str(Path(folder) / "rows.arrow")
        with ArrowWriter(path=path, features=_features(stream.facts), writer_batch_size=100) as writer:
            for shard in range(source.num_shards):
                for row in source.open(shard):
                    if isinstance(row, BadRow):
                        bad_rows.append(row)
                    else:
                        writer.write(_plain(row))
            num_rows, _ = writer.finalize()
        if bad_rows and (left_out is None or num_rows == 0):
            raise BadRowError(
                f"{source.name}: {describe(bad_rows, num_rows + len(bad_rows))} The first: "
                f"{bad_rows[0].name}: {bad_rows[0].reason}",
                bad_rows[0].kind,
            )
        if num_rows == 0:
            raise ValueError(f"{source.name} holds no rows.")
        if left_out is not None:
            left_out += bad_rows
        return datasets.Dataset.from_file(path)


def _features(facts: StreamFacts) -> datasets.Features:
    text, vector = datasets.Value("string"), datasets.List(datasets.Value("float32"))
    captions = {code: datasets.List(text) for code in facts.languages}
    columns: dict[str, Any] = {"audio_id": text, "captions": captions, "group_id": text}
    if facts.has_audio:
        columns["audio"] = datasets.Audio(decode=False)
    if facts.embeddings is not None:
        columns[EMBEDDING_COLUMN] = vector
    return datasets.Features(columns)


def _plain(row: Any) -> dict[str, Any]:
    """A row with what is written of it."""
    names = ("audio_id", "captions", "group_id", "audio", EMBEDDING_COLUMN)
    return {name: row[name] for name in names if name in row}
