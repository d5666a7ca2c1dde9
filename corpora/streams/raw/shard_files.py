"""Files that hold the shards of a stream, on this machine or on the Hub. Those on the Hub are fetched to be read."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ...rows.kept.lengths import file_states
from ...sources.hub_files import HubFiles


class ShardFiles(NamedTuple):
    """Files of one kind.

    Args:
        name: Name of the source, for messages.
        names: Paths relative to the folder, or to the repository.
        folder: Their folder. None for a repository.
        hub: The repository on the Hub. A file is fetched to a temporary folder when it is read, and removed then.
    """

    name: str
    names: list[str]
    folder: Path | None = None
    hub: HubFiles | None = None

    def version(self) -> str:
        """The names of the files and, on this machine, their sizes. A place in them means nothing in other files."""
        sizes: list[int | None] = [None] * len(self.names)
        if self.folder is not None:
            sizes = [
                os.path.getsize(path) if path.is_file() else None for path in map(self.folder.joinpath, self.names)
            ]
        return json.dumps([self.names, sizes])

    def times(self) -> str:
        """The times of the last change of the files on this machine, which tell edited files of the same size."""
        if self.folder is None:
            return ""  # a data set on the Hub changes only with its commit
        found = file_states([str(self.folder / name) for name in self.names]).times
        return hashlib.blake2b(found.astype("<i8").tobytes(), digest_size=8).hexdigest()

    @contextmanager
    def open(self, number: int) -> Iterator[Path]:
        """The path of a file while it is read.

        Raises:
            ConnectionError: if it cannot be fetched.
        """
        if self.folder is not None:
            yield self.folder / self.names[number]
            return
        if self.hub is None:
            raise ValueError(f"{self.name} has neither a folder nor a repository.")
        with tempfile.TemporaryDirectory(prefix="atri-shard-") as folder:
            yield self.hub.fetch(self.names[number], Path(folder))
