"""The batches of an epoch: the order of the clips, and the rows that are looked up for them."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from .draws import MIX, ORDER, STAND_IN, Draw, random_stream


logger = logging.getLogger(__name__)


class EpochBatchSampler(Sampler[list[Draw]]):
    """This process's batches of an epoch, as `Draw`s.

    A step's clips are the next `batch_size * world_size` of a random order, in `world_size` contiguous parts. Each
    clip is seen once an epoch. The last step spreads what is left as evenly as can be; fewer clips than processes are
    left out, and so is a single clip: it has nothing to be compared with, so its loss is 0.

    Args:
        num_items: rows of the dataset.
        batch_size: clips of a batch on one process.
        seed: of the run.
        rank, world_size: this process and their number.
        drop_last: leave out the last step if it is not full.

    Raises:
        ValueError: steps of one clip; fewer clips than one step needs.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ):
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        global_batch = batch_size * world_size
        if global_batch < 2:
            raise ValueError(
                "The losses compare the clips of a step, so with one clip they are always 0: a step needs at least "
                f"two over all processes; got a batch size of {batch_size} on {world_size} process. Raise "
                "`per_device_train_batch_size`; accumulating gradients does not help, as it compares no clips."
            )
        rest = num_items % global_batch
        self.num_steps = num_items // global_batch + int(rest >= max(world_size, 2) and not drop_last)
        if self.num_steps == 0:
            raise ValueError(
                f"{num_items} training clips do not fill one step of {world_size} processes x {batch_size} clips"
                f"{' with drop_last' if drop_last else ''}. Use more clips{' or smaller batches' * (num_items > 1)}."
            )

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


class DrawnRows(Dataset):
    """Rows of a dataset, looked up by `Draw` and carrying it to the collator as `row["draw"]`.

    Args:
        rows: of the schema.
        mix_probability (`float`, *optional*, defaults to 0): how often a row brings the recording of another row of
            its group along, as `row["mix_with"]`; the two share their captions.
        seed (`int`, *optional*, defaults to 0): of that draw.
        stand_ins (`bool`, *optional*, defaults to `False`): a row brings those along, as an iterator
            `row["stand_ins"]`, that may take its place if its recording cannot be read: all others, in an order drawn
            for it in the epoch, each looked up when it is asked for.

    A warning is logged where `mix_probability` has no effect, since no two rows share a group.
    """

    def __init__(self, rows: Sequence[dict], mix_probability: float = 0.0, seed: int = 0, stand_ins: bool = False):
        self.rows, self.mix_probability, self.seed, self.stand_ins = rows, mix_probability, seed, stand_ins
        self._groups: dict[str, list[int]] = {}
        if mix_probability > 0:
            for item, group in enumerate(_groups_of(rows)):
                self._groups.setdefault(group, []).append(item)
            if len(self._groups) == len(rows):
                logger.warning(
                    "mix_probability=%s has no effect: a clip is mixed with another of its group, and no two of the "
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
    """What a row shares with its positives: its `group_id`, or, without one, the `audio_id` that is its own."""
    group = row.get("group_id")
    return str(row["audio_id"] if group is None else group)


def _groups_of(rows: Any) -> list[str]:
    if hasattr(rows, "select_columns"):  # a `datasets.Dataset`: leave the recordings where they are
        rows = rows.select_columns([name for name in ("group_id", "audio_id") if name in rows.column_names])
    return [group_of(row) for row in rows]
