"""Plots of recall over cost in each language, from the points of the study `cost`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from consistency_study.plots import COLORS
from evidence_study.reports.cost import COSTS, TOWERS
from evidence_study.reports.points import DRAWN, JOINT, TAUGHT, Point, front
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from shared.objectives import TITLES

from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name


@dataclass(frozen=True)
class Way:
    """A way to train, which has a line in the plots.

    Args:
        title: its title.
        has: whether a point belongs to it.
        color, marker, line: how it is drawn.
    """

    title: str
    has: Callable[[Point], bool]
    color: str
    marker: str
    line: str


def _joint(objective: str, marker: str) -> Way:
    def has(point: Point) -> bool:
        return point.kind == JOINT and point.cell.options["objective"] == objective

    return Way(TITLES[objective], has, COLORS[objective], marker, "-")


# The colours are those of Okabe and Ito, which people with colour blindness can tell apart.
WAYS = [
    *(_joint(objective, marker) for objective, marker in zip(TITLES, "os^D", strict=True)),
    Way("KCL or AKCL, drawn languages", lambda point: point.kind == DRAWN, "#E69F00", "v", "--"),
    Way("English, then taught", lambda point: point.kind == TAUGHT, "#CC79A7", "P", "-."),
]


def draw_fronts(points: Mapping[str, Sequence[Point]], folder: Path) -> None:
    """Draw recall over CPU seconds and over captions, for each text tower that has runs."""
    for tower, found in points.items():
        for name, cost in COSTS.items():
            if found:
                ending = name.split()[0].lower()
                draw_languages(found, cost, name, TOWERS[tower], folder / f"claims_pareto_{tower}_{ending}.png")


def draw_languages(points: Sequence[Point], cost: Callable[[Point], float], name: str, title: str, file: Path) -> None:
    """Draw R@1 over a cost, one panel for each language.

    All runs of a way are faint marks. Its line joins those that no run of the same way beats at the same or a lower
    cost.

    Args:
        points: the points of a text tower.
        cost: what a point costs.
        name: name of the cost.
        title: title of the plot.
        file: file of the plot.
    """
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    panels = figure.subplots(2, 4, sharex=True, sharey=True)
    for place, (axes, language) in enumerate(zip(panels.flat, ATRI_LANGUAGES, strict=True)):
        for way in WAYS:
            _draw_way(axes, [point for point in points if way.has(point)], way, cost, place)
        axes.set_title(language_name(language), fontsize=10)
        axes.grid(alpha=0.25)
    panels[0, 0].set_xscale("log")
    panels[0, 0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panels[0, 0].xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0, 0].xaxis.set_minor_formatter(NullFormatter())
    panels[0, 0].set_ylim(bottom=0)
    for axes in panels[1]:
        axes.set_xlabel({"CPU s": "CPU seconds of training", "captions": "captions encoded"}[name])
    figure.supylabel("R@1 of text to audio, percent", fontsize=10)
    figure.suptitle(title)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(WAYS), frameon=False, fontsize=9)
    figure.savefig(file, dpi=130)


def recall_of(point: Point, place: int) -> float:
    """R@1 in a language, given by its place in `ATRI_LANGUAGES`, in percent."""
    return float(100 * point.runs.hits[:, place].mean())


def _draw_way(axes: Axes, points: Sequence[Point], way: Way, cost: Callable[[Point], float], place: int) -> None:
    if not points:
        return
    costs, recalls = [cost(point) for point in points], [recall_of(point, place) for point in points]
    axes.scatter(costs, recalls, s=14, color=way.color, marker=way.marker, alpha=0.35, linewidths=0)
    best = front(costs, recalls)
    axes.plot(
        [costs[one] for one in best],
        [recalls[one] for one in best],
        linestyle=way.line,
        color=way.color,
        marker=way.marker,
        markersize=5,
        linewidth=1.5,
        label=way.title,
    )
