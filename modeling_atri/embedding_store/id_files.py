"""The ids of the rows of a `.npy` file, in a file beside it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..files import written_whole
from .facts import StoreFacts


ID_SUFFIXES = (".ids.json", ".ids.txt", ".ids.npy")


def ids_beside(array: Path) -> Path:
    """The file with the ids of a `.npy` file.

    The ids of `x.npy` are in `x.ids.json`, `x.ids.txt` or `x.ids.npy`, or else in `ids.json`, `ids.txt` or `ids.npy`
    in the same folder.

    Raises:
        ValueError: there is no such file, or several.
    """
    for stem in (f"{array.stem}.ids", "ids"):
        candidates = [array.with_name(stem + suffix) for suffix in (".json", ".txt", ".npy")]
        found = [path for path in candidates if path != array and path.is_file()]
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise ValueError(f"There are several files of ids for {str(array)!r}: {names}. Keep one of them.")
        if found:
            return found[0]
    names = ", ".join(array.stem + suffix for suffix in ID_SUFFIXES)
    raise ValueError(
        f"There are no ids for the rows of {str(array)!r}. Write them beside it, one for each row, as one of {names}: "
        "a JSON list, lines of text, or an array of strings."
    )


def read_ids(path: Path) -> tuple[pa.Array, StoreFacts]:
    """Read the ids of a `.json`, `.txt` or `.npy` file, and the facts of the model that it may contain.

    A `.json` file holds a list of ids, or an object with the list as `ids` and optional `model` and `fingerprint`. A
    `.txt` file has one id a line. Whole numbers become strings.

    Raises:
        ValueError: the file holds something else.
    """
    facts = StoreFacts()
    try:
        if path.suffix == ".npy":
            ids = pa.array(np.load(path, allow_pickle=False))
        elif path.suffix == ".txt":
            text = path.read_text(encoding="utf-8").removesuffix("\n")
            ids = pa.array([line.removesuffix("\r") for line in text.split("\n")] if text else [], pa.string())
        else:
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                facts = StoreFacts(content.get("model"), content.get("fingerprint"))
                content = content.get("ids")
            if not isinstance(content, list):
                raise ValueError("it holds no list of ids")
            ids = pa.array(content)
    except (ValueError, EOFError, pa.ArrowException) as error:
        raise ValueError(f"The ids in {str(path)!r} cannot be read: {error}.") from error
    return ids, facts


def write_ids(array: Path, ids: Sequence[str], facts: StoreFacts) -> None:
    """Write the ids of a `.npy` file beside it, as `x.ids.json`. The file appears only when it is complete."""
    content = {**facts._asdict(), "ids": list(ids)}
    with written_whole(_written(array)) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=0).encode())


def remove_ids(array: Path) -> None:
    """Remove the file that `write_ids` wrote for a `.npy` file, before the `.npy` file is replaced."""
    _written(array).unlink(missing_ok=True)


def _written(array: Path) -> Path:
    return array.with_name(f"{array.stem}.ids.json")
