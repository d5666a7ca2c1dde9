"""Batches of an epoch: the order of the clips, and the rows that are looked up for them."""

import logging
from collections.abc import Iterator, Sequence

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset, Sampler

from modeling_atri.corpora.rows.lookup import EMBEDDING_COLUMN
from modeling_atri.corpora.rows.plain_rows import CheckedRows
from modeling_atri.hub_cards.tables import counted

from .draws import MIX, ORDER, STAND_IN, Draw, random_stream


logger = logging.getLogger(__name__)

_DRAWN_AT_ONCE = 2**16


class EpochBatchSampler(Sampler[list[Draw]]):
    """This process's batches of an epoch, as lists of `Draw`.

    The clips of a step are the next `batch_size * world_size` of a random order, in `world_size` contiguous parts.
    Each clip is used once an epoch. The last step spreads the remaining clips as evenly as possible. If fewer clips
    than processes remain, or a single clip, which cannot be compared with another, they are left out.

    `batch_size` counts the clips of one process. `drop_last` leaves out a last step that is not full.
    `noun` is what errors call an item.

    Raises:
        ValueError: A step has one clip, or there are fewer clips than one step needs.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        noun: str = "clip",
    ):
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.num_steps = steps_of(num_items, batch_size, world_size, drop_last, noun)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[list[Draw]]:
        order = random_stream(self.seed, ORDER, self.epoch).permutation(self.num_items)
        global_batch = self.batch_size * self.world_size
        for step in range(self.num_steps):
            items = order[step * global_batch : (step + 1) * global_batch]
            part = np.array_split(items, self.world_size)[self.rank]
            yield [Draw(self.epoch, step, int(item)) for item in part]


def steps_of(num_items: int, batch_size: int, world_size: int, drop_last: bool = False, noun: str = "clip") -> int:
    """Number of steps of an epoch, as [`EpochBatchSampler`] makes them.

    Raises:
        ValueError: A step has one clip, or there are fewer clips than one step needs.
    """
    global_batch = batch_size * world_size
    processes = f"{world_size} process{'' if world_size == 1 else 'es'}"
    if global_batch < 2:
        raise ValueError(
            f"The losses compare the {noun}s of a step, so a step needs at least two over all processes; got a "
            f"batch size of {batch_size} on {processes}. Raise `per_device_train_batch_size`. Accumulating "
            f"gradients does not help, because it does not compare {noun}s of different batches."
        )
    rest = num_items % global_batch
    num_steps = num_items // global_batch + int(rest >= max(world_size, 2) and not drop_last)
    if num_steps == 0:
        raise ValueError(
            f"{counted(num_items, f'training {noun}')} {'does' if num_items == 1 else 'do'} not fill one step of "
            f"{processes} x {counted(batch_size, noun)}{' with drop_last' if drop_last else ''}. Use more "
            f"{noun}s{' or smaller batches' * (num_items > 1)}."
        )
    return num_steps


class DrawnRows(Dataset):
    """Rows of a dataset, looked up by `Draw`. Each row has its draw for the collator, as `row["draw"]`.

    A warning is logged if `mix_probability` has no effect because no two rows share a group.

    Args:
        rows: Rows of the schema.
        mix_probability (`float`, *optional*, defaults to 0): Probability that a row also has the recording of another
            row of its group, as `row["mix_with"]`. The two share their captions.
        seed (`int`, *optional*, defaults to 0): Seed of these draws.
        stand_ins (`bool`, *optional*, defaults to `False`): Whether a row has an iterator `row["stand_ins"]` over the
            rows that may take its place if its recording cannot be read. These are all other rows, in an order drawn
            for the row and epoch. Each is looked up only when it is needed.
    """

    def __init__(self, rows: Sequence[dict], mix_probability: float = 0.0, seed: int = 0, stand_ins: bool = False):
        self.rows, self.mix_probability, self.seed, self.stand_ins = rows, mix_probability, seed, stand_ins
        self._groups = Groups(rows) if mix_probability > 0 else None
        if self._groups is not None:
            if self._groups.count == len(rows):
                logger.warning(
                    "mix_probability=%s has no effect: a clip is mixed with another of its group, but no two of the "
                    "%d clips share a `group_id`.",
                    mix_probability,
                    len(rows),
                )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> dict:
        row = {**self.rows[draw.item], "draw": draw}
        if self._groups is not None:
            rng = random_stream(self.seed, MIX, draw.epoch, draw.item)
            members, own_place = self._groups.members(draw.item)
            if len(members) > 1 and rng.random() < self.mix_probability:
                place = int(rng.choice(len(members) - 1))  # among the others
                row["mix_with"] = self.rows[int(members[place + (place >= own_place)])]["audio"]
        if self.stand_ins:
            row["stand_ins"] = self._stand_ins(draw)
        return row

    def _stand_ins(self, draw: Draw) -> Iterator[dict]:
        for item in random_order(random_stream(self.seed, STAND_IN, draw.epoch, draw.item), len(self.rows)):
            if item != draw.item:
                yield self[draw._replace(item=item)]


class Groups:
    """The rows of each group, 16 bytes a row.

    Args:
        rows: Rows of the schema.

    Attributes:
        count (`int`): Number of groups.
    """

    def __init__(self, rows: Sequence[dict]):
        self._codes = _group_codes(rows)
        self.count = int(self._codes.max(initial=-1)) + 1
        self._items = np.argsort(self._codes, kind="stable")
        self._starts = np.searchsorted(self._codes[self._items], np.arange(self.count + 1))

    def members(self, item: int) -> tuple[np.ndarray, int]:
        """All rows of the group of a row, ascending, and the place of the row itself among them."""
        code = self._codes[item]
        members = self._items[self._starts[code] : self._starts[code + 1]]
        return members, int(np.searchsorted(members, item))


def _group_codes(rows: Sequence[dict]) -> np.ndarray:
    """A number for the group of each row."""
    light = without_audio(rows)
    if isinstance(light, datasets.Dataset):
        table = light.select_columns([name for name in ("audio_id", "group_id") if name in light.column_names])
        columns = table.with_format("arrow")[:]
        texts = [columns[name].cast(pa.large_string()) for name in sorted(columns.column_names, reverse=True)]
        groups = pc.coalesce(*texts).combine_chunks()
    else:
        groups = pa.array([group_of(row) for row in light], pa.large_string())
    return np.asarray(groups.dictionary_encode().indices).astype(np.int64)


def random_order(rng: np.random.Generator, count: int) -> Iterator[int]:
    """The numbers below `count` in a random order.

    Of many numbers, time and memory grow only with those that are taken. Up to 65,536 are drawn at once, which takes
    a millisecond, so that runs on sets of this size draw the same as in earlier versions.
    """
    if count <= _DRAWN_AT_ONCE:
        yield from rng.permutation(count).tolist()
        return
    moved: dict[int, int] = {}  # a shuffle whose places hold their own numbers until they are exchanged
    for place in range(count):
        other = int(rng.integers(place, count))
        yield moved.pop(other, other) if other == place else moved.get(other, other)
        if other != place:
            moved[other] = moved.pop(place, place)


def group_of(row: dict) -> str:
    """The value that a row shares with its positives: its `group_id`, or its own `audio_id` if it has none."""
    group = row.get("group_id")
    return str(row["audio_id"] if group is None else group)


def without_audio(rows: Sequence[dict]) -> Sequence[dict]:
    """Drop the sounds, or their embeddings, of a `datasets.Dataset` or of `CheckedRows`.

    Iterating over rows then does not read them.
    """
    if isinstance(rows, CheckedRows):
        return rows.without_audio
    if not isinstance(rows, datasets.Dataset):
        return rows
    kept = [name for name in rows.column_names if name not in ("audio", EMBEDDING_COLUMN)]
    return rows.with_format(None).select_columns(kept)
