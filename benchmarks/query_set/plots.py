"""The plot of the study of queries: R@1 by form of query."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .answers import TYPED
from .tables import SCENE_FORMS, TITLES, AllFound, Bootstraps


def draw(panels: Mapping[str, Mapping[str, str]], found: AllFound, bootstraps: Bootstraps, file: Path) -> None:
    """Draw R@1 by form of query, one panel for each group of cells.

    Args:
        panels: title of each panel, and titles of its cells.
        found: what the cells found.
        bootstraps: the draws.
        file: the picture.
    """
    figure = Figure(figsize=(7 * len(panels), 4.5), layout="constrained")
    for axes, (title, cells) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _draw_panel(axes, title, cells, found, bootstraps)
    figure.savefig(file, dpi=120)


def _draw_panel(axes: Axes, title: str, cells: Mapping[str, str], found: AllFound, bootstraps: Bootstraps) -> None:
    width = 0.8 / len(cells)
    for number, (cell, name) in enumerate(cells.items()):
        estimates = [bootstraps.estimate(found[cell, form, TYPED].recall) for form in SCENE_FORMS]
        errors = np.array([[one.mean - one.low, one.high - one.mean] for one in estimates]).T
        places = np.arange(len(SCENE_FORMS)) + number * width
        heights = [100 * one.mean for one in estimates]
        axes.bar(places, heights, width, yerr=100 * errors, label=name, ecolor="#444444", error_kw={"linewidth": 0.8})
    ticks = np.arange(len(SCENE_FORMS)) + 0.4 - width / 2
    axes.set_xticks(ticks, [TITLES[form] for form in SCENE_FORMS])
    axes.set(ylabel="R@1, percent", title=title)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
