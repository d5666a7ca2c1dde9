"""The paper's condition: does the order of the objectives come out with a text encoder that knows the languages?"""

from pathlib import Path

from ..cells import Cell, Study


def _report(results: Path, tuning: Path, work: Path) -> str:
    raise SystemExit("This study has no report yet.")


STUDY = Study(
    "paper",
    "The paper's condition",
    [
        Cell(f"use-{name}", name, {"objective": name, "learning_rate": 1e-3, "max_steps": 600}, text="use")
        for name in ("mlclap", "cacl", "kcl", "akcl")
    ],
    _report,
)
