"""The place of a run in its stream, as a part of its checkpoints."""

import json
from pathlib import Path
from typing import Any

from .batches import StreamBatches, StreamPlace


def save_place(folder: Path, batches: StreamBatches, digest: str, times: str = "") -> None:
    """Add the place of this process in its stream to a checkpoint.

    Args:
        folder: Folder of the checkpoint.
        batches: The batches of the run.
        digest: Digest of the stream.
        times: When its files were changed last.
    """
    content = _conditions(batches, digest, times) | {"place": batches.place.as_json()}
    (folder / _name(batches.rank)).write_text(json.dumps(content), encoding="utf-8")


def read_place(folder: Path, batches: StreamBatches, digest: str, times: str = "") -> StreamPlace:
    """The place of this process in its stream, from a checkpoint.

    Raises:
        ValueError: The checkpoint has no place, or one that means nothing in this run.
    """
    path = folder / _name(batches.rank)
    if not path.is_file():
        saved = len(list(folder.glob(_name("*"))))
        reason = "its run did not train on a stream"
        if saved >= batches.world_size:
            reason = f"its file {path.name} is missing"
        elif saved:
            reason = f"its run had {saved} process{'es' * (saved > 1)}, and this one has {batches.world_size}"
        raise ValueError(
            f"{folder} does not say where to go on in the stream, because {reason}. Resume it as it was started, or "
            "start a new run from its model."
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    for name, value in _conditions(batches, digest, times).items():
        if content.get(name, value) != value:  # earlier versions did not look at the times
            difference = f"the {name} was {content[name]} and is {value} now"
            if name == _STREAM:
                difference = (
                    "its stream was another: it had other shards or files of other sizes, another number of rows, or "
                    "other first rows"
                )
            elif name == _TIMES:
                difference = (
                    "its files have been changed since, although their sizes are the same: the times of their last "
                    "change differ. If they are copies, copy them again with their times (`cp -p`, `rsync -t`)"
                )
            raise ValueError(
                f"The place in the stream that {folder} has cannot be found again, because {difference}. Resume the "
                "run as it was started, or start a new run from the model of the checkpoint."
            )
    return StreamPlace.from_json(content["place"])


_STREAM, _TIMES = "stream", "times of the files"


def _conditions(batches: StreamBatches, digest: str, times: str) -> dict[str, Any]:
    """What a place depends on."""
    return {
        "number of processes": batches.world_size,
        "seed of the data": batches.seed,
        "shuffle_buffer": batches.block_size,
        _STREAM: digest,
        _TIMES: times,
    }


def _name(rank: int | str) -> str:
    return f"stream_place_{rank}.json"
