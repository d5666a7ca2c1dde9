"""Tables of embeddings that are computed once, before the first step: of captions by the teacher, and of clips."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from tqdm.auto import tqdm

from modeling_atri.corpora.rows.bad_rows import Problem
from modeling_atri.embedding_store.npy_files import write_npy
from modeling_atri.embedding_store.vectors import are_unit, lengths_of
from modeling_atri.files import write_json, written_whole

from .teachers import Teacher


logger = logging.getLogger(__name__)

_KEY = "S16"  # a digest of 16 bytes
_AT_ONCE = 4096  # captions in one call of the teacher, and rows of a file that are copied at a time


class KeyedTable:
    """Embeddings in a file that is mapped into memory, looked up by a text: a caption, or the id of a clip.

    The embeddings are in `NAME.npy`, `(n, width)`, float32. `NAME.keys.npy` beside it has a digest of each text, and
    the manifest `NAME.json` names the model that made the embeddings. A table needs 24 bytes of memory for each text.

    Args:
        path (`Path`): The file of the embeddings.
    """

    def __init__(self, path: Path):
        self.path = path
        self.array = np.load(path, mmap_mode="r")
        keys = np.load(_keys_path(path))
        self._places = np.argsort(keys)
        self._keys = keys[self._places]

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyedTable, (self.path,)  # workers of a data loader map the file themselves

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, texts: Sequence[str]) -> np.ndarray:
        """The embeddings of some texts, `(n, width)`, a copy.

        Raises:
            KeyError: A text is not in the table.
        """
        keys = digests(texts)
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        if (unknown := self._keys[found] != keys).any():
            raise KeyError(f"{self.path} has no embedding of {texts[int(unknown.argmax())]!r}.")
        return np.array(self.array[self._places[found]])

    @property
    def facts(self) -> dict[str, Any]:
        """The content of the manifest."""
        return read_facts(self.path)

    def has_all(self, keys: np.ndarray) -> bool:
        """Whether the table has all of these digests, which must be distinct."""
        return bool(np.isin(keys, self._keys, assume_unique=True).all())


def caption_table(
    path: Path,
    captions: Callable[[], Iterator[str]],
    teacher: Teacher,
    part: tuple[int, int] = (0, 1),
    progress: bool = False,
    trusts_file: bool = False,
) -> KeyedTable:
    """The teacher's embeddings of all distinct captions. An existing table of the same teacher is reused.

    Args:
        path (`Path`): File of the table, `NAME.npy`.
        captions (callable): Returns an iterator over the captions, each time in the same order. They are never all in
            memory.
        teacher ([`Teacher`]): Encodes them, 4096 at a time.
        part (`tuple[int, int]`, *optional*, defaults to `(0, 1)`): Rank and number of processes. Each process encodes
            a part and returns the whole table. All processes must call the function and share the folder.
        progress (`bool`, *optional*, defaults to `False`): Whether to show a progress bar.
        trusts_file (`bool`, *optional*, defaults to `False`): Whether to reuse a table of any fingerprint.

    Raises:
        ValueError: The teacher returns embeddings of another width, or that are not normalised or not finite; or
            there are no captions.
    """
    keys, places = _first_occurrences(captions())
    known = read_facts(path)
    if known and (trusts_file or known.get("fingerprint") == teacher.fingerprint):
        table = KeyedTable(path)
        if table.has_all(keys):
            logger.info("The teacher's embeddings of %d captions are read from %s.", len(keys), path)
            return table
    rank, world_size = part
    own_keys, own_places = (np.array_split(whole, world_size)[rank] for whole in (keys, places))

    def blocks() -> Iterator[np.ndarray]:
        texts = _at_places(captions(), own_places)
        with tqdm(total=len(own_places), desc="captions by the teacher", disable=not progress) as bar:
            while block := list(islice(texts, _AT_ONCE)):
                yield check_embeddings(teacher.encode(block), block, teacher.width, f"The teacher {teacher.name!r}")
                bar.update(len(block))

    def write(file: Path) -> tuple[np.ndarray, dict[str, Problem]]:
        write_npy(file, blocks(), teacher.width)
        return own_keys, {}

    facts = {"kind": teacher.kind, "model": teacher.name, "fingerprint": teacher.fingerprint}
    return write_table(path, write, facts, part)


def write_table(
    path: Path,
    write: Callable[[Path], tuple[np.ndarray, Mapping[str, Problem]]],
    facts: Mapping[str, Any],
    part: tuple[int, int],
) -> KeyedTable:
    """Write a table; each process writes a part. An old manifest is removed first, and the new one is written last.

    Args:
        path: File of the table.
        write: Writes the embeddings of this process to a file. Returns their digests, and by id the problems of clips
            without an embedding.
        facts: Content of the manifest.
        part: Rank and number of processes.

    Raises:
        ValueError: Another process failed. A process that fails raises its own error.
    """
    rank, world_size = part
    own = path if world_size == 1 else _part_path(path, rank)

    def write_part() -> dict[str, Problem]:
        path.parent.mkdir(parents=True, exist_ok=True)
        if rank == 0:
            _facts_path(path).unlink(missing_ok=True)
        keys, problems = write(own)
        _write_keys(own, keys)
        return dict(problems)

    problems = {name: problem for found in _together(write_part, world_size) for name, problem in found.items()}

    def join() -> None:
        if rank == 0:
            if world_size > 1:
                _join_parts(path, world_size)
            count, width = np.load(path, mmap_mode="r").shape
            write_json(_facts_path(path), {**facts, "rows": count, "width": width, "problems": problems})

    _together(join, world_size)
    return KeyedTable(path)


def read_facts(path: Path) -> dict[str, Any]:
    """The manifest of a table; empty if there is no complete table."""
    try:
        facts = json.loads(_facts_path(path).read_text(encoding="utf-8"))
        shape = np.load(path, mmap_mode="r").shape
        is_whole = shape == (facts["rows"], facts["width"]) and np.load(_keys_path(path)).shape == shape[:1]
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return {}
    return facts if is_whole else {}


def check_embeddings(embeddings: np.ndarray, names: Sequence[str], width: int, source: str) -> np.ndarray:
    """Return embeddings `(n, width)` after a check that they are finite and L2-normalised.

    Raises:
        ValueError: They are not. The message names the `source` and, from `names`, the first wrong embedding.
    """
    if embeddings.shape != (len(names), width):
        raise ValueError(
            f"{source} gives embeddings of shape {embeddings.shape} for {len(names)} captions. The shape must be "
            f"({len(names)}, {width})."
        )
    lengths = lengths_of(embeddings)
    if (broken := np.isnan(lengths)).any():
        raise ValueError(
            f"{source} has NaN or inf in the embedding of {names[int(broken.argmax())]!r}. Embeddings must be finite."
        )
    if (other := ~are_unit(lengths)).any():
        first = int(other.argmax())
        raise ValueError(
            f"{source} is not normalised: the embedding of {names[first]!r} has the length {lengths[first]:.4g}. "
            "Divide every embedding by its length, so that it is 1."
        )
    return embeddings


def digests(texts: Iterable[str]) -> np.ndarray:
    """A digest of each text, `(n,)`."""
    codes = (text.encode(errors="backslashreplace") for text in texts)
    return np.frombuffer(b"".join(hashlib.blake2b(code, digest_size=16).digest() for code in codes), _KEY)


def _first_occurrences(texts: Iterator[str]) -> tuple[np.ndarray, np.ndarray]:
    """Digests of the distinct texts, and the positions of their first occurrences, in the order of these positions."""
    parts = []
    while block := list(islice(texts, _AT_ONCE)):
        parts.append(digests(block))
    if not parts:
        raise ValueError("The training rows have no captions for the teacher.")
    keys, places = np.unique(np.concatenate(parts), return_index=True)
    order = np.argsort(places)
    return keys[order], places[order]


def _at_places(texts: Iterator[str], places: np.ndarray) -> Iterator[str]:
    """The texts at these positions, which must be sorted."""
    wanted = iter(places.tolist())
    next_place = next(wanted, None)
    for place, text in enumerate(texts):
        if next_place is None:
            return
        if place == next_place:
            yield text
            next_place = next(wanted, None)


def _together(work: Callable[[], Any], world_size: int) -> list[Any]:
    """Call a function on every process. Returns the results of all; if it fails on one, it fails on all."""
    result = error = None
    try:
        result = work()
    except (ValueError, OSError) as failure:
        error = failure
    if world_size == 1:
        results = [(result, None)]
    else:
        results = [(None, None)] * world_size
        dist.all_gather_object(results, (result, None if error is None else str(error)))
    if error is not None:
        raise error
    if failures := [text for _, text in results if text is not None]:
        raise ValueError(f"Another process failed: {failures[0]}")
    return [one for one, _ in results]


def _join_parts(path: Path, world_size: int) -> None:
    parts = [_part_path(path, rank) for rank in range(world_size)]
    arrays = [np.load(part, mmap_mode="r") for part in parts]
    starts = ((array, start) for array in arrays for start in range(0, len(array), _AT_ONCE))
    write_npy(path, (array[start : start + _AT_ONCE] for array, start in starts), arrays[0].shape[1])
    _write_keys(path, np.concatenate([np.load(_keys_path(part)) for part in parts]))
    for part in parts:
        part.unlink()
        _keys_path(part).unlink()


def _write_keys(path: Path, keys: np.ndarray) -> None:
    with written_whole(_keys_path(path)) as file:
        np.save(file, keys)


def _part_path(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.stem}.part{rank}.npy")


def _keys_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.keys.npy")


def _facts_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.json")
