"""What the models of a cell found over all seeds, as figures of each query."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .answers import CAPTIONS, TYPED
from .rules import FORMS, Query, scene_triples


FIGURES = ("recall", "sounds", "lacks", "variance")


@dataclass(frozen=True)
class Found:
    """What the models of a cell found for the texts of a form, asked in one way.

    Args:
        seeds: the seeds, in order.
        ranks: array `(seeds, languages, meanings, wordings)` of the rank of the best right scene.
        first: array of the same shape, of the place of the scene that ranks first in `scene_triples`.
        r_precision: of each seed, the mean share of right scenes among as many as there are right ones.
        queries: the queries of the form, one for each meaning; or the scenes' captions as such.
        triples: all scenes.
    """

    seeds: list[int]
    ranks: np.ndarray
    first: np.ndarray
    r_precision: np.ndarray
    queries: Sequence[Query]
    triples: Sequence[str]

    @property
    def hits(self) -> np.ndarray:
        """Whether the scene that ranks first is right, in the shape of `ranks`."""
        return self.ranks <= 1

    @property
    def recall(self) -> np.ndarray:
        """R@1, the mean over languages and wordings, `(seeds, meanings)`."""
        return self.hits.mean(axis=(1, 3))

    @property
    def sounds(self) -> np.ndarray:
        """Whether the first scene has all sounds that are named, whatever their relation, `(seeds, meanings)`."""
        return self._first_scene(lambda query, sounds: sounds.issuperset(query.has)).mean(axis=(1, 3))

    @property
    def lacks(self) -> np.ndarray:
        """Whether the first scene does not have what is to be absent, `(seeds, meanings)`."""
        return self._first_scene(lambda query, sounds: sounds.isdisjoint(query.lacks)).mean(axis=(1, 3))

    @property
    def variance(self) -> np.ndarray:
        """Variance of the rank over the languages, the mean over the wordings, `(seeds, meanings)`."""
        return self.ranks.var(axis=1).mean(axis=-1)

    def on(self, seeds: Sequence[int], figure: str) -> np.ndarray:
        """A figure, one of `FIGURES`, of some seeds."""
        values: np.ndarray = getattr(self, figure)
        return values[[self.seeds.index(seed) for seed in seeds]]

    def _first_scene(self, fits: Any) -> np.ndarray:
        """Whether `fits` holds for a query and the sounds of the scene that ranks first, in the shape of `first`."""
        scenes = [set(triple.split("|")[::2]) for triple in self.triples]
        table = np.array([[fits(query, scene) for scene in scenes] for query in self.queries])  # (meanings, scenes)
        meanings = np.arange(len(self.queries))[None, None, :, None]
        return table[meanings, self.first]


def read_found(rows: Sequence[dict[str, Any]], queries: Sequence[Query]) -> dict[tuple[str, str, str], Found]:
    """All that was found, by cell, form and way to ask."""
    triples = scene_triples(queries)
    of_form = {form: [query for query in queries if query.form == form] for form in FORMS}
    of_form[CAPTIONS] = [_as_query(triple) for triple in triples]
    parts: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        parts.setdefault((row["cell"], row["form"], row["way"]), []).append(row)
    found = {}
    for key, of_key in parts.items():
        meanings = of_form[key[1]]
        ranks, first = (
            np.stack([row[name] for row in of_key]) for name in ("doubled_ranks", "first")
        )  # (seeds, languages, texts)
        shape = (*ranks.shape[:2], len(meanings), -1)
        precision = np.array([row["r_precision"] for row in of_key])
        seeds = [row["seed"] for row in of_key]
        found[key] = Found(seeds, ranks.reshape(shape) / 2, first.reshape(shape), precision, meanings, triples)
    return found


def typed(found: dict[tuple[str, str, str], Found], cell: str) -> dict[str, Found]:
    """What a cell found for texts as they are typed, by form."""
    return {form: one for (name, form, way), one in found.items() if name == cell and way == TYPED}


def _as_query(triple: str) -> Query:
    first, relation, *second = triple.split("|")
    return Query(CAPTIONS, (first, *second), relation, (), 1, {})
