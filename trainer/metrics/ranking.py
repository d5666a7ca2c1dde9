"""How many negatives are ahead of the positives, for captions and clips at once, in one pass over all scores.

The matrix of scores is computed in tiles, each once, and is never held as a whole. A tile is compared with the scores
of its captions' best clips, along its rows, and with those of its clips' best captions, along its columns.

A product in float32 gives a cosine to about 1e-6, and the same two vectors may get different values: rounding depends
on their place in the tile and on the library. Ranks must not depend on that. So float32 counts the clear cases only.
A negative that comes too near to a positive is compared with it in float64, where cosines that differ by less than
1e-12 count as tied. The result does not depend on the tiles, the device, or the order of captions and clips.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from modeling_atri.hub_cards.figures import PRECISION_CUTOFF

from .inputs import Array, Pairs, Rows


# Scores of a tile: 4 MB in float32 on a CPU, where they stay in its cache; 256 MB elsewhere. Beside a tile, a copy of
# it and its rows in float64 are held.
TILE_SCORES = {"cpu": 2**20, "other": 2**26}
# A product is fastest on a CPU where the tile is wider than high. Few rows are also few captions to normalise anew.
_TILE_ROWS = {"cpu": 512, "other": 8192}
_CACHED_ROWS = 64
# Float32 cosines that are farther apart than this are in the right order: their rounding reaches 2.4e-6.
NEAR = 1e-5
# Float64 cosines that are closer than this count as tied: far above the rounding of a dot product (about 1e-15), and
# far below any difference that matters.
TIE_TOLERANCE = 1e-12
# Where more than one score in so many of a tile is needed in float64, all of them are computed, by a product.
_PRODUCT_PAYS = 32
_PAIRS_AT_ONCE = {"cpu": 32, "other": 1024}  # 32 pairs of rows in float64 stay in the cache
_SCORES_LOOKED_AT = 2**17
# Where less than one query in so many of a tile has scores to look at, those of these queries are copied.
_COPY_PAYS = 4


@dataclass(frozen=True)
class Ahead:
    """For each query of a direction its best positives, and what is ahead of them.

    Args:
        negatives (`np.ndarray` of shape `(n, k)`, float64): The negatives ahead of the i-th best positive, in steps of
            0.5; infinity where a query has fewer than i positives. Beyond the best positive, numbers that are 10 or
            more are lower bounds, because AP@10 does not depend on them.
        num_positives (`np.ndarray` of shape `(n,)`): How many positives each query has.
    """

    negatives: Array
    num_positives: Array

    @property
    def ranks(self) -> Array:
        """The rank of each query's best positive."""
        ranks: Array = 1 + self.negatives[:, 0]
        return ranks

    @property
    def average_precisions(self) -> Array:
        """AP@10 of each query."""
        precisions: Array = np.zeros(len(self.negatives))
        for count, ahead in enumerate(self.negatives.T, start=1):
            positions = count + ahead
            precisions += np.where(positions <= PRECISION_CUTOFF, count / positions, 0.0)
        precisions /= self.num_positives
        return precisions


def negatives_ahead(
    audio: Rows, text: Rows, pairs: Pairs, queries: Sequence[Literal["captions", "clips"]] = ("captions", "clips")
) -> list[Ahead]:
    """Compare every caption with every clip.

    Args:
        audio, text: Clips and captions on one device.
        pairs: The positives.
        queries: What searches: captions for the best clip of each, clips for the ten best captions of each. Every
            clip needs a caption if clips search.

    Returns:
        For each of `queries` what is ahead of its best positives.

    Raises:
        ValueError: Captions and clips differ in width.
    """
    if audio.width != text.width:
        raise ValueError(
            f"Embeddings must be equally wide, but `{text.name}` has {text.width} and `{audio.name}` has "
            f"{audio.width}."
        )
    with torch.no_grad(), _float32_products(audio.values.device):
        tiles = _Tiles(audio, text, pairs)
        scores = tiles.scores_of_pairs()
        of_all = {
            "captions": lambda: _Counts.of(pairs.captions, scores, len(text), 1),
            "clips": lambda: _Counts.of(pairs.clips, scores, len(audio), PRECISION_CUTOFF),
        }
        counts = {name: of_all[name]() for name in queries}
        for tile in tiles:
            for name, of_queries in counts.items():
                of_queries.add(tile, by_row=name == "captions")
    return [of_queries.ahead() for of_queries in counts.values()]


@dataclass
class _Tile:
    """The scores of some captions and some clips, with minus infinity in place of those of positives."""

    scores: Tensor
    rows: slice  # which captions
    columns: slice  # which clips
    text: Rows
    audio: Rows

    def exactly(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Scores of some captions with some clips, `(p,)` float64; the numbers count from the tile's first ones."""
        rows, columns = rows + self.rows.start, columns + self.columns.start
        captions, row = _distinct(rows, self.rows.start, self.rows.stop)
        clips, column = _distinct(columns, self.columns.start, self.columns.stop)
        if len(rows) > len(captions) * len(clips) // _PRODUCT_PAYS:
            return (self.text.unit(captions) @ self.audio.unit(clips).T)[row, column]
        size = _PAIRS_AT_ONCE["cpu" if rows.device.type == "cpu" else "other"]
        parts = [slice(start, start + size) for start in range(0, len(rows), size)]
        return torch.cat([self.text.cosines(rows[part], self.audio, columns[part]) for part in parts])


def _distinct(places: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """The distinct ones of `(p,)` places from start to stop, in order, and which of them each place is."""
    is_named = torch.zeros(stop - start, dtype=torch.int64, device=places.device)
    is_named[places - start] = 1
    return is_named.nonzero().flatten() + start, (is_named.cumsum(0) - 1)[places - start]


class _Tiles:
    """The tiles of all scores, and the positives in each."""

    def __init__(self, audio: Rows, text: Rows, pairs: Pairs):
        self.audio, self.text = audio, text
        kind = "cpu" if self.device.type == "cpu" else "other"
        height = max(1, min(_TILE_ROWS[kind], len(text), TILE_SCORES[kind]))
        width = max(1, min(TILE_SCORES[kind] // height, len(audio)))
        self.heights = [slice(start, min(start + height, len(text))) for start in range(0, len(text), height)]
        self.widths = [slice(start, min(start + width, len(audio))) for start in range(0, len(audio), width)]
        # The pairs in the order of tiles, and where those of each tile begin
        tile_of = (pairs.captions // height) * len(self.widths) + pairs.clips // width
        self.order = np.argsort(tile_of, kind="stable")
        self.bounds = np.searchsorted(tile_of[self.order], np.arange(len(self.heights) * len(self.widths) + 1))
        self.pair_rows = torch.from_numpy(pairs.captions[self.order] % height).to(self.device)
        self.pair_columns = torch.from_numpy(pairs.clips[self.order] % width).to(self.device)

    @property
    def device(self) -> torch.device:
        return self.audio.values.device

    def scores_of_pairs(self) -> Tensor:
        """The scores of all positive pairs, `(P,)` float64."""
        scores = torch.empty(len(self.order), dtype=torch.float64, device=self.device)
        for number, (rows, columns) in enumerate(self._places()):
            here = slice(*self.bounds[number : number + 2].tolist())
            if here.stop > here.start:
                tile = _Tile(torch.empty(0), rows, columns, self.text, self.audio)
                exact = tile.exactly(self.pair_rows[here], self.pair_columns[here])
                scores[torch.from_numpy(self.order[here]).to(self.device)] = exact
        return scores

    def __iter__(self) -> Iterator[_Tile]:
        audio = self.audio.roughly_unit(slice(0, len(self.audio)))
        most = self.heights[0].stop * self.widths[0].stop
        memory = torch.empty(most, dtype=torch.float32, device=self.device)
        text = torch.empty(0)
        for number, (rows, columns) in enumerate(self._places()):
            if number % len(self.widths) == 0:
                text = self.text.roughly_unit(rows)
            shape = rows.stop - rows.start, columns.stop - columns.start
            scores = memory[: shape[0] * shape[1]].view(shape)
            torch.mm(text, audio[columns].T, out=scores)
            here = slice(*self.bounds[number : number + 2].tolist())
            scores[self.pair_rows[here], self.pair_columns[here]] = -torch.inf
            yield _Tile(scores, rows, columns, self.text, self.audio)

    def _places(self) -> Iterator[tuple[slice, slice]]:
        return ((rows, columns) for rows in self.heights for columns in self.widths)


@dataclass
class _Counts:
    """The best positives of each query, best first, and the negatives above and tied with them so far.

    Args:
        targets: Scores of the positives, `(k, n)` float64; infinity, above which nothing is, where there is none.
        above, tied: `(k, n)` int64.
        num_positives: `(n,)` int64.
    """

    targets: Tensor
    above: Tensor
    tied: Tensor
    num_positives: Array

    @classmethod
    def of(cls, pair_query: Array, scores: Tensor, num_queries: int, most: int) -> "_Counts":
        """Take the best positives of each query, `most` of them."""
        num_positives = np.bincount(pair_query, minlength=num_queries)
        first = np.cumsum(num_positives) - num_positives
        values = -scores.cpu().numpy()[np.argsort(pair_query, kind="stable")]
        targets = np.full((min(most, max(1, num_positives.max())), num_queries), np.inf)
        for count in np.unique(num_positives[num_positives > 0]).tolist():  # queries of as many positives at once
            queries = np.flatnonzero(num_positives == count)
            kept = min(count, most)
            of_queries = values[first[queries, None] + np.arange(count)]
            targets[:kept, queries] = -np.sort(np.partition(of_queries, kept - 1, axis=1)[:, :kept], axis=1).T
        on_device = torch.from_numpy(targets).to(scores.device)
        above, tied = torch.zeros((2, *targets.shape), dtype=torch.int64, device=scores.device)
        return cls(on_device, above, tied, num_positives)

    def ahead(self) -> Ahead:
        negatives = self._ahead(slice(None)).masked_fill(torch.isinf(self.targets), torch.inf)
        return Ahead(negatives.T.cpu().numpy(), self.num_positives)

    def add(self, tile: _Tile, by_row: bool) -> None:
        """Count the negatives of a tile. A query is a row of it, or a column.

        Where ten negatives are ahead of a query's second best positive already, or it has none, only the best positive
        matters. The negatives above that are counted, and those too near to it are looked at. Other queries have few
        negatives that are not below all positives that matter, and each of these is looked at.
        """
        here, along = (tile.rows, 0) if by_row else (tile.columns, 1)
        targets = self.targets[:, here]
        does_matter = torch.isfinite(targets[1:]) & (self._ahead(here)[1:] < PRECISION_CUTOFF)
        has_one = ~does_matter.any(dim=0)
        lowest = torch.where(does_matter, targets[1:], targets[:1]).amin(dim=0) if len(targets) > 1 else targets[0]
        lower = (lowest - NEAR).float()
        upper = torch.where(has_one, targets[0] + NEAR, torch.inf).float()
        above, not_below = _count_above(tile.scores, torch.stack([upper, lower]), along)
        self.above[0, here] += above
        lower = lower.masked_fill(not_below == above, torch.inf)  # nothing is left to look at
        for rows, columns in _places_between(tile.scores, lower, upper, along):
            self._look_at(tile, rows, columns, by_row)

    def _look_at(self, tile: _Tile, rows: Tensor, columns: Tensor, by_row: bool) -> None:
        """Count scores of a tile that are not clearly below their query's positives."""
        queries = rows + tile.rows.start if by_row else columns + tile.columns.start
        targets = self.targets[:, queries]
        differences = tile.scores[rows, columns].double() - targets
        near = (differences.abs() < 2 * NEAR).any(dim=0).nonzero().flatten()
        if len(near):
            differences[:, near] = tile.exactly(rows[near], columns[near]) - targets[:, near]
        self.above.index_add_(1, queries, (differences > TIE_TOLERANCE).long())
        self.tied.index_add_(1, queries, (differences.abs() <= TIE_TOLERANCE).long())

    def _ahead(self, queries: slice) -> Tensor:
        return self.above[:, queries] + self.tied[:, queries].double() / 2


def _count_above(scores: Tensor, limits: Tensor, along: int) -> Tensor:
    """How many scores of each row (along 0) or column (along 1) are above each of its limits `(l, n)`, int64."""
    limits = limits.unsqueeze(2 - along)
    if scores.device.type != "cpu":
        return torch.stack([(scores > limit).sum(dim=1 - along) for limit in limits])
    # On a CPU, the comparison of torch takes three times as long as this one: limit - score is negative exactly where
    # the score is above, and the sum of the sign bits, -1 or 0, counts them. Few rows at once stay in the cache.
    counts = torch.zeros((len(limits), scores.shape[along]), dtype=torch.int32)
    memory = torch.empty((_CACHED_ROWS, scores.shape[1]), dtype=torch.float32)
    for start in range(0, len(scores), _CACHED_ROWS):
        rows = scores[start : start + _CACHED_ROWS]
        here = slice(start, start + len(rows)) if along == 0 else slice(None)
        for count, limit in zip(counts, limits, strict=True):
            signs = torch.sub(limit[here] if along == 0 else limit, rows, out=memory[: len(rows)]).view(torch.int32)
            count[here] -= signs.bitwise_right_shift_(31).sum(dim=1 - along, dtype=torch.int32)
    return counts.long()


def _places_between(scores: Tensor, low: Tensor, high: Tensor, along: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows and columns of the scores above the low limit of their row (along 0) or column (along 1), and not above the
    high one; `(p,)` int64 each, some at a time."""
    queries = torch.isfinite(low).nonzero().flatten()
    low, high = low.unsqueeze(1 - along), high.unsqueeze(1 - along)
    if _COPY_PAYS * len(queries) > scores.shape[along]:
        size = max(1, _SCORES_LOOKED_AT // scores.shape[1])
        for start in range(0, len(scores), size):
            here = slice(start, start + size)
            limits = (low[here], high[here]) if along == 0 else (low, high)
            rows, columns = _nonzero_between(scores[here], *limits)
            yield rows + start, columns
        return
    size = max(1, _SCORES_LOOKED_AT // scores.shape[1 - along])
    for start in range(0, len(queries), size):
        several = queries[start : start + size]
        rows, columns = _nonzero_between(*(values.index_select(along, several) for values in (scores, low, high)))
        yield (several[rows], columns) if along == 0 else (rows, several[columns])


def _nonzero_between(scores: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    if scores.device.type != "cpu":
        rows, columns = ((scores > low) & ~(scores > high)).nonzero(as_tuple=True)
        return rows, columns
    # The same with numpy, which takes a quarter of the time
    is_between = np.greater(scores.numpy(), low.numpy())
    is_between &= np.less_equal(scores.numpy(), high.numpy())
    places = torch.from_numpy(np.flatnonzero(is_between))
    return places // scores.shape[1], places % scores.shape[1]


@contextmanager
def _float32_products(device: torch.device) -> Iterator[None]:
    """Compute products of float32 matrices in float32, whatever autocast or a global setting (TF32) allows."""
    settings: tuple[Any, ...] = (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision
