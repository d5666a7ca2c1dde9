"""The figures that claims compare, and the runs of all studies that have them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from consistency_study.runs import Runs, read_runs
from evidence_study.reports.paper import further_deviation
from evidence_study.reports.points import Point, read_points
from evidence_study.reports.weak import hits_of_language, hits_of_others
from evidence_study.studies import cost, find_study, paper, weak
from query_set.answers import CAPTIONS, TYPED
from query_set.found import Found, read_found
from query_set.results import read_answers
from query_set.rules import read_queries


RESULTS = Path(__file__).parents[1] / "results"
GRID, QUERIES = "consistency", "queries"
CATALAN = "cat_Latn"
COMMANDS = {  # that do the runs of a study
    GRID: "consistency.py --data $ATRI_SCENES",
    QUERIES: "evidence.py queries --data $ATRI_SCENES` and `ask_queries.py",
    **{name: f"evidence.py {name} --data $ATRI_SCENES" for name in ("paper", "cost", "supclap", "weak")},
}


@dataclass(frozen=True)
class Figure:
    """A figure of a cell.

    Args:
        title: its title, with the unit.
        of: its values of a cell, `(seeds, clips)` or `(seeds, meanings)`, whose mean is the figure.
        scale: the factor that it is shown with.
    """

    title: str
    of: Callable[[Any], np.ndarray]
    scale: float = 100.0


def _seconds(runs: Runs) -> np.ndarray:
    """CPU seconds of training, the same for all clips: `(seeds, 1)`."""
    return np.array([[row["cpu_seconds"]] for row in runs.rows])


OF_RUNS = {
    "recall": Figure("R@1, %", lambda runs: runs.recall),
    "variance": Figure("MRV", lambda runs: runs.variance, 1),
    "English": Figure("English R@1, %", partial(hits_of_language, language="eng_Latn")),
    "Catalan": Figure("Catalan R@1, %", partial(hits_of_language, language=CATALAN)),
    "others": Figure("R@1 of the other seven, %", partial(hits_of_others, language=CATALAN)),
    "deviation": Figure("Catalan's rank deviation - the others'", further_deviation, 1),
    "seconds": Figure("CPU s", _seconds, 1),
}


def _asked(title: str, form: str, name: str, scale: float = 100) -> Figure:
    return Figure(title, lambda cell: getattr(cell.forms[form], name), scale)


OF_QUERIES = {
    "recall": _asked("R@1 of captions, %", CAPTIONS, "recall"),
    "variance": _asked("MRV of captions", CAPTIONS, "variance", 1),
    "short": _asked("R@1 of short forms, %", "short", "recall"),
    "words": _asked("R@1 of two bare words, %", "words", "recall"),
    "paraphrase": _asked("R@1 of paraphrases, %", "paraphrase", "recall"),
    "without": _asked("first scene is right, %", "without", "recall"),
}


@dataclass(frozen=True)
class Asked:
    """What the models of a cell found for queries that were asked in one way, by the form of the query."""

    forms: Mapping[str, Found]

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return next(iter(self.forms.values())).seeds


@dataclass(frozen=True)
class Studies:
    """The runs of all studies.

    Args:
        cells: for each study, its cells by name: `Runs`, or `Asked` in the study of queries.
        points: the points of the study `cost`, by text tower.
    """

    cells: Mapping[str, Mapping[str, Any]]
    points: Mapping[str, list[Point]]


def figures_of(study: str) -> Mapping[str, Figure]:
    """The figures that the cells of a study have."""
    return OF_QUERIES if study == QUERIES else OF_RUNS


def read_studies(results: Path = RESULTS) -> Studies:
    """The runs of all studies, from their results files. Cells and files without runs are left out."""
    of_study = {
        name: {cell.name: cell for cell in find_study(name).cells} for name in ("paper", "supclap", weak.STUDY.name)
    }
    of_study["weak"] |= {cell.name: cell for cell in weak.CLEAN.values()}  # two of them are runs of `supclap`
    evidence = results / "evidence"
    read = {name: read_runs(evidence / f"{name}.parquet", cells) for name, cells in of_study.items()}
    read["weak"] |= read_runs(evidence / "supclap.parquet", of_study["weak"])
    read["paper"] = {other: read["paper"][name] for other, name in paper_cells().items() if name in read["paper"]}
    points = {text: read_points(cells, cost.OF_GRID, evidence / "cost.parquet") for text, cells in cost.CELLS.items()}
    read["cost"] = {point.cell.name: point.runs for of_text in points.values() for point in of_text}
    asked = _read_asked(evidence / "queries_answers.parquet")
    return Studies({GRID: read_runs(results / "consistency.parquet"), **read, QUERIES: asked}, points)


def paper_cells() -> dict[str, str]:
    """The cells of the study `paper` by the names that claims use.

    `equal-kcl` trains for the same number of steps as the others, `long-kcl` for as many as the tuning runs chose, and
    `trained-kcl` trains the encoder too. The longer runs have no names as long as tuning has not found more steps.
    """
    parts = {"equal": paper.EQUAL, "trained": paper.TRAINED}
    if set(paper.CHOSEN_STEPS.values()) != {paper.EQUAL_STEPS}:
        parts["long"] = paper.LONG
    return {f"{part}-{name}": cell.name for part, cells in parts.items() for name, cell in cells.items()}


def _read_asked(file: Path) -> dict[str, Asked]:
    """What was found, by cell; the way to ask follows the name of the cell unless the query was typed."""
    by_name: dict[str, dict[str, Found]] = {}
    for (cell, form, way), found in read_found(read_answers(file), read_queries()).items():
        by_name.setdefault(cell if way == TYPED else f"{cell} {way}", {})[form] = found
    return {name: Asked(forms) for name, forms in by_name.items()}
