"""The report of the study `cost`: the front of recall and rank variance over cost, and which runs are on it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from consistency_study.bootstrap import LEVEL, NUM_DRAWS, Bootstrap
from consistency_study.plots import COLORS
from consistency_study.results import read_results
from consistency_study.runs import Runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modeling_atri.hub_cards.tables import text_table

from ..cells import Cell, Study
from ..tables import differences
from .points import ENGLISH, JOINT, TAUGHT, Point, front, read_points, rivals, seconds_a_step


TOWERS = {"scratch": "Text tower from scratch", "use": "Frozen pretrained text encoder"}
Cost = Callable[[Point], float]
COSTS: dict[str, Cost] = {"CPU s": lambda point: point.seconds, "captions": lambda point: point.captions}
# Of each figure: its value of a point, higher is better; its array of runs; the factor of its unit.
FIGURES: dict[str, tuple[Callable[[Point], float], Callable[[Runs], np.ndarray], float]] = {
    "T2A R@1": (lambda point: point.recall, lambda one: one.recall, 100.0),
    "MRV": (lambda point: -point.variance, lambda one: one.variance, 1.0),
}
TAUGHT_COLORS = {"none": "#CC79A7", "kcl": "#56B4E9", "akcl": "#E69F00"}


def write_report(study: Study, cells: Mapping[str, Sequence[Cell]], of_grid: Mapping[str, str], results: Path) -> str:
    """Write the tables and the plot beside the results file, and return the tables.

    Args:
        study: the study.
        cells: the cells of each text tower, also those that only `consistency.py` has run.
        of_grid: names of cells of `consistency.py`, by the names of these cells.
        results: results of the study.
    """
    points = {tower: read_points(of_tower, of_grid, results) for tower, of_tower in cells.items()}
    points = {tower: found for tower, found in points.items() if found}
    if not points:
        raise SystemExit(f"There are no runs in {results}: do the study first.")
    everything = [point for found in points.values() for point in found]
    bootstrap = Bootstrap(everything[0].runs.recall.shape[1])
    runs = {point.cell.name: point.runs for point in everything}
    sections = [_head(study, cells, runs), HEAD, _disturbance(everything, of_grid, results)]
    for tower, found in points.items():
        sections += [f"## {TOWERS[tower]}", *_of_tower(found, bootstrap)]
    text = "\n\n".join(sections) + "\n"
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(points, results.with_suffix(".png"))
    return text


def _head(study: Study, cells: Mapping[str, Sequence[Cell]], runs: Mapping[str, Runs]) -> str:
    """How the report was made, and how many runs of each way are missing."""
    planned = {cell.name: cell.num_seeds for of_tower in cells.values() for cell in of_tower}
    done = {name: min(planned[name], len(runs[name].seeds)) if name in runs else 0 for name in planned}
    missing = []
    for tower, of_tower in cells.items():
        ways: dict[str, int] = {}
        for cell in of_tower:
            ways[cell.title] = ways.get(cell.title, 0) + planned[cell.name] - done[cell.name]
        texts = [f"{title} ({count})" for title, count in ways.items() if count]
        missing.append(f"{TOWERS[tower].lower()}: {', '.join(texts) or 'none'}")
    versions = next(iter(runs.values())).rows[0]["environment"]["versions"]
    return (
        f"# {study.title}\n\nMade by `python benchmarks/evidence.py {study.name} --data $ATRI_SCENES` and "
        f"`--report` on dev of the ESC-10 scenes. {sum(done.values())} of {sum(planned.values())} planned runs are "
        f"done, those of `consistency.py` and of the study `paper` included (torch {versions['torch']}, transformers "
        f"{versions['transformers']}). Missing runs, {'; '.join(missing)}. Brackets have {LEVEL:.0%} intervals of "
        f"{NUM_DRAWS:,} bootstrap draws over seeds and clips."
    )


HEAD = (
    "CPU seconds are those of training: of the run, of its teacher, and of the embeddings of the clips that it is "
    "taught with. Captions are those that the text side encodes, the teacher's included; with the frozen encoder, "
    "these pass the text head alone, and the encoder itself encodes each of the 17,040 different captions once for "
    "all runs, which no row includes. The numbers of steps are in parentheses, those of the teacher first."
)
FRONT_NOTE = "Front: no run has a better figure at the same or a lower cost; R for recall, V for rank variance."
BUDGET_NOTE = (
    "The best taught run minus the best of all others (joint or drawn languages), both of at most this cost, paired "
    "by seed and clip. They are chosen by their means on dev. p is corrected for all comparisons of the table (Holm)."
)


def _of_tower(points: list[Point], bootstrap: Bootstrap) -> list[str]:
    sections = [FRONT_NOTE, _all_points(points, bootstrap), _verdict(points)]
    for title, cost in COSTS.items():
        for figure in FIGURES:
            if table := _budgets(points, title, cost, figure, bootstrap):
                sections += [f"### {figure} by {title}", BUDGET_NOTE, table]
    if shares := _teacher_shares(points):
        sections += ["### The teacher's part", shares]
    return sections


def _all_points(points: list[Point], bootstrap: Bootstrap) -> str:
    candidates = [point for point in points if point.kind != ENGLISH]
    fronts = _fronts(candidates)
    rows = []
    for point in sorted(points, key=lambda one: (one.kind, one.cell.title, one.captions)):
        marks = {
            title: "".join(
                letter for letter, figure in (("R", "T2A R@1"), ("V", "MRV")) if point in fronts[title, figure]
            )
            for title in COSTS
        }
        rows.append(
            [
                point.label,
                len(point.runs.seeds),
                f"{point.seconds:.0f}",
                f"{point.captions:,}",
                bootstrap.estimate(point.runs.recall).text(scale=100),
                bootstrap.estimate(point.runs.variance).text(),
                *marks.values(),
            ]
        )
    header = ["", "seeds", *COSTS, *FIGURES, *(f"front of {title}" for title in COSTS)]
    return text_table(header, rows, markdown=True)


def _fronts(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    return {
        (title, name): [points[place] for place in front([*map(cost, points)], [*map(value, points)])]
        for title, cost in COSTS.items()
        for name, (value, _, _) in FIGURES.items()
    }


def _verdict(points: list[Point]) -> str:
    """How much of each front is taught."""
    if all(point.kind != TAUGHT for point in points):
        return "None of the runs that teach languages has been done yet, so the fronts are those of the others."
    fronts = _fronts([point for point in points if point.kind != ENGLISH])
    parts = []
    for (title, figure), found in fronts.items():
        taught = sum(point.kind == TAUGHT for point in found)
        parts.append(f"{figure} over {title}: {taught} of {len(found)} points")
    return f"Of the fronts, English-then-teach has: {'; '.join(parts)}."


def _budgets(points: list[Point], title: str, cost: Cost, figure: str, bootstrap: Bootstrap) -> str:
    """The best taught run and the best other run of each budget; an empty string if there are none."""
    value, array, factor = FIGURES[figure]
    found = rivals(points, cost, value)
    if not found:
        return ""
    pairs = [(f"{title} <= {budget:,.0f}", first.runs, second.runs) for budget, first, second in found]
    names = [(first.label, second.label) for _, first, second in found]
    table = differences(pairs, {f"{figure}, difference": (array, factor)}, bootstrap)
    header, rule, *lines = table.splitlines()
    wide = [f"{line} {' | '.join(pair)} |" for line, pair in zip(lines, names, strict=True)]
    return "\n".join([f"{header} taught | other |", f"{rule} --- | --- |", *wide])


def _teacher_shares(points: list[Point]) -> str:
    rows = [
        [
            point.label,
            f"{100 * point.teacher_seconds / point.seconds:.0f} %",
            f"{point.seconds:.0f}",
            f"{100 * point.recall:.1f}",
            f"{point.variance:.1f}",
        ]
        for point in sorted(points, key=lambda one: one.seconds)
        if point.kind == TAUGHT
    ]
    return text_table(["", "teacher's CPU", *COSTS][:3] + [*FIGURES], rows, markdown=True) if rows else ""


def _disturbance(points: list[Point], of_grid: Mapping[str, str], results: Path) -> str:
    """How much the CPU seconds of equal runs differ."""
    ratios = []
    for point in points:
        seconds = [row["cpu_seconds"] for row in point.runs.rows]
        if len(seconds) > 1:
            ratios.append(max(seconds) / min(seconds))
    sentence = "Other processes used the machine at the same time, which changes CPU seconds."
    if ratios:
        sentence += (
            f" Runs that differ in their seed alone differ by a factor of {np.median(ratios):.2f} in the median of "
            f"the cells, and by {max(ratios):.2f} at most."
        )
    grid = {row["cell"]: row for row in read_results(results.parents[1] / "consistency.parquet") if row["seed"] == 0}
    repeated = [row for row in read_results(results) if row["seed"] == 0 and row["cell"] in of_grid]
    texts = [
        f"{row['cell']} {seconds_a_step(row) / seconds_a_step(grid[of_grid[row['cell']]]):.2f} times"
        for row in repeated
    ]
    if texts:
        sentence += f" Runs of `consistency.py` that were repeated took, in CPU seconds: {', '.join(texts)}."
    return sentence


def draw(points: Mapping[str, list[Point]], file: Path) -> None:
    """Recall and rank variance over CPU seconds and over captions, one row of panels for each text tower."""
    figure = Figure(figsize=(16, 4.2 * len(points)), layout="constrained")
    panels = figure.subplots(len(points), 4, squeeze=False)
    for row, (tower, found) in zip(panels, points.items(), strict=True):
        places = [(cost, figure_name) for figure_name in FIGURES for cost in COSTS]
        for axes, (cost, figure_name) in zip(row, places, strict=True):
            _draw_panel(axes, found, cost, figure_name)
            axes.set_title(TOWERS[tower], fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    figure.savefig(file, dpi=110)


def _draw_panel(axes: Axes, points: list[Point], cost_name: str, figure_name: str) -> None:
    cost = COSTS[cost_name]
    lines: dict[str, list[Point]] = {}
    for point in points:
        if point.kind != ENGLISH:
            lines.setdefault(point.cell.title, []).append(point)
    for title, of_line in lines.items():
        one = of_line[0]
        options = one.cell.options
        color = TAUGHT_COLORS[options["teach_audio"]] if one.kind == TAUGHT else COLORS[options["objective"]]
        style = {TAUGHT: "*", JOINT: "o-"}.get(one.kind, ".:")
        ordered = sorted(of_line, key=cost)
        values = [100 * point.recall if figure_name == "T2A R@1" else point.variance for point in ordered]
        axes.plot([*map(cost, ordered)], values, style, color=color, label=title, linewidth=1)
    axes.set(xscale="log", xlabel=cost_name, ylabel=figure_name)
    if figure_name == "MRV":
        axes.set_yscale("log")
