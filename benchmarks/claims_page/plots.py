"""Plots of `claims.py`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from consistency_study.plots import draw_curves
from consistency_study.runs import Runs
from matplotlib.figure import Figure
from shared.objectives import TITLES

from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name

from .figures import Studies
from .pareto import draw_fronts


CODES = [code[:3] for code in ATRI_LANGUAGES]


def draw_all(studies: Studies, folder: Path) -> None:
    """Draw the plots of the four objectives, from scratch and with the pretrained encoder, and recall over cost."""
    cells = {
        "scratch": {name: studies.cells["consistency"].get(name) for name in TITLES},
        "pretrained": {name: studies.cells["paper"].get(f"equal-{name}") for name in TITLES},
    }
    for ending, of_objectives in cells.items():
        found = {name: runs for name, runs in of_objectives.items() if runs is not None}
        if found:
            draw_agreement(found, folder / f"claims_agreement_{ending}.png")
            draw_variances(found, folder / f"claims_variances_{ending}.png")
    draw_fronts(studies.points, folder)


def draw_agreement(cells: Mapping[str, Runs], file: Path) -> None:
    """Draw how well pairs of languages agree on the rank of the right clip, one panel for each objective.

    Args:
        cells: the runs of each objective.
        file: file of the plot.
    """
    figure = Figure(figsize=(3.3 * len(cells) + 0.8, 3.8), layout="constrained")
    panels = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    matrices = {name: 100 * agreement(found.ranks) for name, found in cells.items()}
    lowest = 10 * (min(shares.min() for shares in matrices.values()) // 10)
    for axes, (name, shares) in zip(panels, matrices.items(), strict=True):
        image = axes.imshow(shares, vmin=lowest, vmax=100, cmap="viridis")
        for row, column in np.ndindex(*shares.shape):
            if row != column:
                color = "white" if shares[row, column] < (lowest + 100) / 2 else "black"
                axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=7, color=color)
        axes.set_xticks(range(len(CODES)), CODES, rotation=90)
        axes.set_yticks(range(len(CODES)), [language_name(code) for code in ATRI_LANGUAGES])
        axes.set_title(TITLES[name])
    figure.colorbar(image, ax=list(panels), label="captions, percent")
    figure.suptitle("How often two languages agree whether the right clip is among the first ten")
    figure.savefig(file, dpi=120)


def agreement(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """The share of captions for which two languages agree whether the right clip is among the first k.

    Of the captions that find it in either language, it is the share that find it in both.

    Args:
        ranks: `(seeds, languages, captions)`, the rank of the right clip of each caption.
        k: how many first clips are looked at.

    Returns:
        `(languages, languages)`, between 0 and 1; 1 on the diagonal.
    """
    found = ranks <= k
    both = np.einsum("slc,smc->lm", found, found, dtype=float)
    of_one = np.diagonal(both)
    return both / np.maximum(of_one[:, None] + of_one[None] - both, 1)


def draw_variances(cells: Mapping[str, Runs], file: Path) -> None:
    """Draw the rank variance of single captions: the share of captions with more than a value."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    draw_curves(figure.subplots(), cells)
    figure.savefig(file, dpi=120)
