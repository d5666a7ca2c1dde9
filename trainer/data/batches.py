"""Batches of an epoch: the order of the clips, and the rows that are looked up for them."""

import logging
from collections.abc import Iterator, Sequence

import datasets
import numpy as np
from torch.utils.data import Dataset, Sampler

from modeling_atri.corpora.rows.lookup import EMBEDDING_COLUMN
from modeling_atri.corpora.rows.plain_rows import CheckedRows
from modeling_atri.hub_cards.tables import counted

from .draws import MIX, ORDER, STAND_IN, Draw, random_stream


logger = logging.getLogger(__name__)


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
        self._groups: dict[str, list[int]] = {}
        if mix_probability > 0:
            for item, row in enumerate(without_audio(rows)):
                self._groups.setdefault(group_of(row), []).append(item)
            if len(self._groups) == len(rows):
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
        if self.mix_probability > 0:
            rng = random_stream(self.seed, MIX, draw.epoch, draw.item)
            others = [item for item in self._groups[group_of(row)] if item != draw.item]
            if others and rng.random() < self.mix_probability:
                row["mix_with"] = self.rows[int(rng.choice(others))]["audio"]
        if self.stand_ins:
            row["stand_ins"] = self._stand_ins(draw)
        return row

    def _stand_ins(self, draw: Draw) -> Iterator[dict]:
        for item in random_stream(self.seed, STAND_IN, draw.epoch, draw.item).permutation(len(self.rows)):
            if item != draw.item:
                yield self[draw._replace(item=int(item))]


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
