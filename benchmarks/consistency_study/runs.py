"""The runs of a cell over all its seeds, with the figures that the reports of the studies estimate."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .grid import CELLS
from .results import Run, read_results


NUM_CAPTIONS_OF_A_CLIP = 5


@dataclass(frozen=True)
class Runs:
    """All runs of a cell.

    Args:
        cell: the cell, of `grid.py` or of `evidence_study/cells.py`.
        seeds: seeds of the runs, in order.
        rows: rows of the results file, one for each seed.
        ranks: array `(seeds, languages, captions)` of text-to-audio ranks.
    """

    cell: Any
    seeds: list[int]
    rows: list[Run]
    ranks: np.ndarray

    def mean(self, column: str) -> float:
        """The mean of a column over the seeds."""
        return float(np.mean([row[column] for row in self.rows]))

    def mean_metric(self, metric: str) -> float:
        """The mean of a metric over the seeds."""
        return float(np.mean([row["metrics"][metric] for row in self.rows]))

    @cached_property
    def hits(self) -> np.ndarray:
        """The share of a clip's captions whose first hit is right, `(seeds, languages, clips)`."""
        return _by_clip((self.ranks <= 1).astype(float)).mean(axis=-1)

    @cached_property
    def recall(self) -> np.ndarray:
        """R@1 of text to audio, averaged over the languages, `(seeds, clips)`."""
        return self.hits.mean(axis=1)

    @cached_property
    def deviations(self) -> np.ndarray:
        """Squared distance of a rank to the mean over the languages, `(seeds, languages, clips)`."""
        return _by_clip((self.ranks - self.ranks.mean(axis=1, keepdims=True)) ** 2).mean(axis=-1)

    @cached_property
    def variance(self) -> np.ndarray:
        """Rank variance over the languages, `(seeds, clips)`. Its mean is the MRV."""
        return _by_clip(self.ranks.var(axis=1)).mean(axis=-1)

    def on_seeds(self, seeds: list[int], values: np.ndarray) -> np.ndarray:
        """The rows of `values` that belong to some seeds."""
        return values[[self.seeds.index(seed) for seed in seeds]]


def read_runs(file: Path, cells: Mapping[str, Any] = CELLS) -> dict[str, Runs]:
    """Read a results file: the runs of each cell that has any, in the order of `cells`.

    Args:
        file: the results file.
        cells: the cells by their names.
    """
    by_cell: dict[str, list[Run]] = {}
    for row in read_results(file):
        by_cell.setdefault(row["cell"], []).append(row)
    found = {}
    for name, cell in cells.items():
        rows = [row for row in by_cell.get(name, []) if row["seed"] < cell.num_seeds]
        if rows:
            ranks = np.stack([row["doubled_ranks"] / 2 for row in rows])
            found[name] = Runs(cell, [row["seed"] for row in rows], rows, ranks)
    return found


def _by_clip(of_captions: np.ndarray) -> np.ndarray:
    """Split the last dimension, captions, into clips and their captions."""
    return of_captions.reshape(*of_captions.shape[:-1], -1, NUM_CAPTIONS_OF_A_CLIP)
