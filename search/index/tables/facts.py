"""What an index notes when it is made: its model, its windows, and the form of its tables."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .places import FACTS, damaged, table_names


FORM = 1  # version of the tables
FACTS_SCHEMA = pa.schema({"facts": pa.string()})


@dataclass(frozen=True)
class IndexFacts:
    """What an index notes when it is made.

    Args:
        model: Hub id or absolute folder of the model; None if it is not known.
        fingerprint: `audio_fingerprint` of the model.
        projection_dim: width of a vector.
        languages: languages of the model, as FLORES-200 codes.
        window_s, hop_s: length of a window and distance between the starts of two, in seconds; None for a model
            without an audio tower.
        version: of the form of the tables.
    """

    model: str | None
    fingerprint: str
    projection_dim: int
    languages: Sequence[str] = ()
    window_s: float | None = None
    hop_s: float | None = None
    version: int = FORM


def read_facts(database: Any, location: str) -> IndexFacts | None:
    """The facts of an index; None if there is no index."""
    if FACTS not in table_names(database):
        return None
    try:
        found = database.open_table(FACTS).to_arrow()["facts"].to_pylist()
        values = json.loads(found[0]) if found else None
    except (ValueError, RuntimeError) as error:
        raise ValueError(damaged(location, error)) from error
    if values is None:
        return None
    if values["version"] > FORM:
        raise ValueError(
            f"The index {location!r} was made by a newer version of this package (form {values['version']}; this one "
            f"knows {FORM}). Run `pip install --upgrade modeling_atri`."
        )
    return IndexFacts(**values)
