"""Clips and captions in batches of similar length, and their embeddings in the order given."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..embedding_store.npy_files import write_npy
from ..long_sounds_atri import LongSound, embed_in_pieces
from ..processing_atri import AtriProcessor
from ..threads_atri import ReadAhead
from .clip_reader import AudioFailure, LongClip


Item = TypeVar("Item")
Read = TypeVar("Read", covariant=True)

# So many batches are read ahead and sorted by length, so that little of a batch is padding.
BATCHES_AHEAD = 16
# A clip of up to one window of the audio tower counts as one item of a batch, and a longer clip as one for each window
# that it needs. Likewise, a caption counts as one item for every 128 tokens.
_CED_FRAMES_PER_UNIT = 1012
_TOKENS_PER_UNIT = 128


def frames_per_unit(feature_extractor: Any) -> int:
    """Frames of a clip that counts as one item of a batch: a window of the tower, with CED about 10 s."""
    windows = getattr(feature_extractor, "windows", None)
    return _CED_FRAMES_PER_UNIT if windows is None else windows.frames


def weigh(features: Tensor | LongClip | AudioFailure, unit: int) -> int:
    """How often a clip counts for the batch size."""
    return 1 if isinstance(features, AudioFailure) else max(1, -(-len(features) // unit))


def weigh_waiting(features: Tensor | LongClip | AudioFailure, unit: int) -> int:
    """How often a clip that waits for the model counts for the memory; of a long recording, nothing is in memory."""
    return 1 if isinstance(features, LongClip) else weigh(features, unit)


def collect(blocks: Iterable[np.ndarray], width: int, out: str | PathLike | None) -> np.ndarray:
    """Join blocks of rows to one array, in memory or in the `.npy` file `out`."""
    if out is not None:
        path = Path(out)
        if path.suffix != ".npy" or path.is_dir() or not path.parent.is_dir():
            raise ValueError(f"`out` must name a .npy file in a folder that exists, got {str(path)!r}.")
        return write_npy(path, blocks, width)
    parts = deque(blocks)
    embeddings = np.empty((sum(map(len, parts)), width), dtype=np.float32)
    stop = 0
    while parts:  # each is freed once it is copied
        start, stop = stop, stop + len(parts[0])
        embeddings[start:stop] = parts.popleft()
    return embeddings


def audio_blocks(
    model: Any,
    processor: AtriProcessor,
    reader: ReadAhead[Any, Tensor | LongClip | AudioFailure],
    batch_size: int,
    failures: list[AudioFailure],
    bar: tqdm,
) -> Iterator[np.ndarray]:
    """Embeddings of the clips that `reader` yields, some at a time. Clips that could not be read go to `failures`."""
    extractor = processor.feature_extractor
    unit = frames_per_unit(extractor)
    groups = ClipGroups(reader, partial(weigh, unit=unit), batch_size)

    def after_piece(share: float) -> None:
        bar.set_postfix_str(f"{share:.0%} of a long recording" if share < 1 else "")
        groups.fill(wait=False)

    def in_pieces(clip: Tensor | LongSound) -> Tensor:
        return embed_in_pieces(model, extractor, clip, batch_size * unit, after_piece)

    def at_once(clips: Sequence[Tensor]) -> Tensor:
        if isinstance(model, nn.Module) and weigh(clips[0], unit) > batch_size:
            return in_pieces(clips[0])
        features, mask = extractor.pad_features(clips)
        inputs = {"input_features": features.to(model.device), "input_features_mask": mask.to(model.device)}
        return model.get_audio_features(**inputs).pooler_output

    for group in groups:
        failures.extend(item for item in group if isinstance(item, AudioFailure))
        clips = [item for item in group if not isinstance(item, AudioFailure)]
        bar.update(len(group) - len(clips))
        embeddings = np.empty((len(clips), model.config.projection_dim), dtype=np.float32)
        places = [place for place, clip in enumerate(clips) if isinstance(clip, Tensor)]
        short = [clip for clip in clips if isinstance(clip, Tensor)]
        for rows in similar_batches([len(clip) for clip in short], batch_size, unit):
            batch = [places[row] for row in rows]
            embeddings[batch] = at_once([short[row] for row in rows]).float().cpu().numpy()
            bar.update(len(batch))
            groups.fill(wait=False)
        failed = []
        for place, clip in enumerate(clips):
            if not isinstance(clip, LongClip):
                continue
            try:
                sound = clip.sound
                embedding = in_pieces(sound) if isinstance(model, nn.Module) else at_once([sound.features()])
                embeddings[place] = embedding[0].float().cpu().numpy()
            except (ValueError, OSError) as error:  # it was read once to its end, but may have changed
                failures.append(clip.fail(error))
                failed.append(place)
            bar.update()
        yield np.delete(embeddings, failed, axis=0) if failed else embeddings


def text_blocks(
    model: Any, processor: AtriProcessor, captions: Iterator[tuple[str, str | None]], batch_size: int, bar: tqdm
) -> Iterator[np.ndarray]:
    """Embeddings of captions with their languages, some at a time."""
    while window := list(islice(captions, batch_size * BATCHES_AHEAD)):
        texts, languages = zip(*window, strict=True)
        tokens = processor(text=list(texts), language=None if languages[0] is None else list(languages))
        input_ids, mask = tokens["input_ids"], tokens["attention_mask"]
        embeddings = np.empty((len(window), model.config.projection_dim), dtype=np.float32)
        for rows in similar_batches(mask.sum(dim=1).tolist(), batch_size, _TOKENS_PER_UNIT):
            used = mask[rows].any(dim=0)  # on whichever side the padding is
            inputs = {"input_ids": input_ids[rows][:, used], "attention_mask": mask[rows][:, used]}
            inputs = {name: value.to(model.device) for name, value in inputs.items()}
            embeddings[rows] = model.get_text_features(**inputs).pooler_output.float().cpu().numpy()
            bar.update(len(rows))
        yield embeddings


def similar_batches(lengths: Sequence[int], batch_size: int, unit: int) -> Iterator[list[int]]:
    """Rows of similar length, short ones first: `batch_size` of up to `unit`, fewer of longer ones, at least one."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * -(-lengths[row] // unit) > batch_size:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class Readable(Protocol[Read]):
    """An iterator that can tell whether its next item is there, such as `ReadAhead`."""

    def __next__(self) -> Read: ...

    def is_ready(self) -> bool: ...


class ClipGroups(Generic[Item]):
    """Clips in groups that are sorted by length; while the model works on one group, the next is gathered.

    Groups depend on the clips alone, never on how fast they are read. The first groups are small, so that the model
    begins soon.
    """

    def __init__(self, reader: Readable[Item], weigh: Callable[[Item], int], batch_size: int):
        self._reader = reader
        self._weigh = weigh
        self._limit = batch_size
        self._max_limit = batch_size * BATCHES_AHEAD
        self._gathered: list[Item] = []
        self._weight = 0

    def __iter__(self) -> Iterator[list[Item]]:
        while True:
            self.fill(wait=True)
            if not self._gathered:
                return
            group, self._gathered, self._weight = self._gathered, [], 0
            self._limit = min(2 * self._limit, self._max_limit)
            yield group

    def fill(self, wait: bool) -> None:
        """Take clips that were read until the group is full; without `wait`, only those that are ready."""
        while self._weight < self._limit and (wait or self._reader.is_ready()):
            try:
                item = next(self._reader)
            except StopIteration:
                return
            self._gathered.append(item)
            self._weight += self._weigh(item)
