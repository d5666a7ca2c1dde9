"""Random vectors that have neighbours, as embeddings of sounds do.

Uniform random vectors all have about the same distance from one another, so a search among them measures nothing.
"""

from dataclasses import dataclass

import numpy as np


_ROWS = 20_000  # rows made at a time, so that no second copy of the archive is in memory


@dataclass(frozen=True)
class ClusteredVectors:
    """A distribution of unit vectors: clusters of uneven size in a space of few dimensions, and noise in all of them.

    A cluster is drawn with a probability that falls with its number, the largest being some hundred times as likely as
    the smallest. A vector is its cluster's centre plus a step of `spread` in the `intrinsic` dimensions plus `noise`
    in all `dim` dimensions, each as a part of the centre's length, and is then scaled to the length 1.

    Args:
        dim: width of a vector.
        clusters: number of clusters.
        intrinsic: number of dimensions in which clusters differ and spread.
        spread: length of the step within a cluster.
        noise: length of the noise.
        gap: length of a vector that `queries` add to all queries alike, as embeddings of text lie apart from those of
            sound.
        seed: seed of the centres.
    """

    dim: int
    clusters: int = 4000
    intrinsic: int = 48
    spread: float = 0.7
    noise: float = 0.3
    gap: float = 0.5
    seed: int = 0

    def vectors(self, number: int, seed: int) -> np.ndarray:
        """Draw `(number, dim)` float32 unit vectors."""
        centres, basis, chance = self._shape()
        generator = np.random.default_rng([self.seed, seed])
        drawn = np.empty((number, self.dim), dtype=np.float32)
        for start in range(0, number, _ROWS):
            rows = drawn[start : start + _ROWS]
            own = centres[generator.choice(self.clusters, size=len(rows), p=chance)]
            step = generator.standard_normal(own.shape, dtype=np.float32) * np.float32(
                self.spread / self.intrinsic**0.5
            )
            generator.standard_normal(rows.shape, dtype=np.float32, out=rows)
            rows *= np.float32(self.noise / self.dim**0.5)
            rows += (own + step) @ basis
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return drawn

    def queries(self, number: int, seed: int) -> np.ndarray:
        """Draw `(number, dim)` float32 unit vectors that lie apart from all others by the same `gap`."""
        apart = np.random.default_rng([self.seed, 1]).standard_normal(self.dim, dtype=np.float32)
        queries = self.vectors(number, seed) + np.float32(self.gap) * apart / np.linalg.norm(apart)
        return queries / np.linalg.norm(queries, axis=1, keepdims=True)

    def _shape(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres `(clusters, intrinsic)` of length 1, a basis `(intrinsic, dim)`, chance of a cluster."""
        generator = np.random.default_rng([self.seed, 0])
        centres = generator.standard_normal((self.clusters, self.intrinsic), dtype=np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        basis = np.linalg.qr(generator.standard_normal((self.dim, self.intrinsic), dtype=np.float32))[0].T
        chance = 1 / (np.arange(self.clusters) + self.clusters / 100)
        return centres, np.ascontiguousarray(basis), chance / chance.sum()
