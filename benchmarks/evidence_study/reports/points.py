"""Points of the curves of the study `cost`: a cell with what its runs cost, teachers included."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from consistency_study.results import Run
from consistency_study.runs import Runs, read_runs

from ..cells import Cell, with_beginnings


TAUGHT, ENGLISH, JOINT, DRAWN = "taught", "English alone", "joint", "drawn languages"


@dataclass(frozen=True)
class Point:
    """A cell on the curves.

    Args:
        cell: the cell.
        runs: its runs.
        seconds: CPU seconds of training, the mean over the seeds: of the run itself, of the embeddings of the clips
            that it is taught with, and of the training of its teacher.
        teacher_seconds: the part of the teacher.
    """

    cell: Cell
    runs: Runs
    seconds: float
    teacher_seconds: float

    @property
    def kind(self) -> str:
        """How the languages are learnt."""
        if self.cell.is_taught:
            return TAUGHT
        if "languages" in self.cell.options:
            return ENGLISH
        return DRAWN if "languages_per_step" in self.cell.options else JOINT

    @property
    def captions(self) -> int:
        """Captions that the text side encodes, those of the teacher included."""
        return self.cell.captions

    @property
    def label(self) -> str:
        """The title with the numbers of steps."""
        steps = [str(cell.options["max_steps"]) for cell in with_beginnings([self.cell])]
        return f"{self.cell.title} ({' + '.join(steps)})"

    @property
    def recall(self) -> float:
        """T2A R@1 as a fraction."""
        return float(self.runs.recall.mean())

    @property
    def variance(self) -> float:
        """Mean rank variance."""
        return float(self.runs.variance.mean())


def read_points(cells: Sequence[Cell], of_grid: Mapping[str, str], results: Path) -> list[Point]:
    """The points of all cells that have runs.

    Args:
        cells: the cells of a text tower.
        of_grid: names of cells of `consistency.py` that have runs of these cells, by the names of these cells.
        results: results of the study; those of the study `paper` and of `consistency.py` are near it.
    """
    by_name = {cell.name: cell for cell in cells}
    grid = read_runs(results.parents[1] / "consistency.parquet")
    runs = {
        name: _of_cell(by_name[name], grid[other])
        for name, other in of_grid.items()
        if other in grid and name in by_name
    }
    runs |= read_runs(results.with_name("paper.parquet"), by_name)
    runs |= {name: own for name, own in read_runs(results, by_name).items() if name not in runs}
    points = []
    for name, found in runs.items():
        teacher = found.cell.begins_with
        if teacher is not None:
            found = _with_seeds_of(found, runs.get(teacher.name))
        if found is not None:
            points.append(_point(by_name[name], found, None if teacher is None else runs[teacher.name]))
    return points


def front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Places of the points that no other point beats: none has a higher value at the same or a lower cost.

    Args:
        costs: cost of each point, lower is better.
        values: value of each point, higher is better.

    Returns:
        The places, from the lowest cost to the highest.
    """
    order = sorted(range(len(costs)), key=lambda place: (costs[place], -values[place]))
    on_front: list[int] = []
    for place in order:
        if not on_front or values[place] > values[on_front[-1]]:
            on_front.append(place)
    return on_front


def rivals(
    points: Sequence[Point], cost: Callable[[Point], float], value: Callable[[Point], float]
) -> list[tuple[float, Point, Point]]:
    """The best taught run and the best run that learns all languages at once, at each budget.

    Args:
        points: the points of a text tower.
        cost: what a point costs.
        value: the value of a point, higher is better.

    Returns:
        For each budget, the budget, the best taught point and the best other point that cost no more. The budgets
        double from the cheapest that both can be paid from. Pairs that share no seed are left out.
    """
    taught = [point for point in points if point.kind == TAUGHT]
    others = [point for point in points if point.kind in (JOINT, DRAWN)]
    if not taught or not others:
        return []
    budgets = [max(min(map(cost, taught)), min(map(cost, others)))]
    while budgets[-1] < max(map(cost, (*taught, *others))):
        budgets.append(2 * budgets[-1])
    found = []
    for budget in budgets:
        first, second = (max((one for one in kind if cost(one) <= budget), key=value) for kind in (taught, others))
        if {*first.runs.seeds} & {*second.runs.seeds}:
            found.append((budget, first, second))
    return found


def seconds_a_step(row: Run) -> float:
    """CPU seconds of a step of a run."""
    return row["cpu_seconds"] / row["steps"]


def _of_cell(cell: Cell, found: Runs) -> Runs:
    return Runs(cell, found.seeds, found.rows, found.ranks)


def _with_seeds_of(found: Runs, teacher: Runs | None) -> Runs | None:
    """The runs whose teacher's run is known, too; None if there are none."""
    seeds = [seed for seed in found.seeds if teacher is not None and seed in teacher.seeds]
    if not seeds:
        return None
    rows = [row for row in found.rows if row["seed"] in seeds]
    return Runs(found.cell, seeds, rows, found.on_seeds(seeds, found.ranks))


def _point(cell: Cell, found: Runs, teacher: Runs | None) -> Point:
    own = [row["cpu_seconds"] + (row.get("cpu_seconds_of_archive") or 0.0) for row in found.rows]
    before = [] if teacher is None else [row["cpu_seconds"] for row in teacher.rows if row["seed"] in found.seeds]
    of_teacher = float(np.mean(before)) if before else 0.0
    return Point(cell, found, float(np.mean(own)) + of_teacher, of_teacher)
