"""The results file of `teaching.py`: one line of JSON for each run."""

import json
from pathlib import Path
from typing import Any

from modeling_atri.files import write_json_lines

from .cells import CELLS


def read_results(file: Path) -> list[dict[str, Any]]:
    """Read all results; an empty list if there is no file yet."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def add_result(file: Path, result: dict[str, Any]) -> None:
    """Add a result, in place of an earlier one of the same cell and seed. The file is in the order of the cells."""
    places = {name: place for place, name in enumerate(CELLS)}
    others = [old for old in read_results(file) if (old["cell"], old["seed"]) != (result["cell"], result["seed"])]
    write_json_lines(file, sorted([*others, result], key=lambda one: (places[one["cell"]], one["seed"])))
