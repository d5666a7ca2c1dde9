"""Parts of a table that workers write on their own, and the one commit that makes them visible."""

import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..index.tables import WINDOWS, IndexedSound, IndexTables, SoundKey, of_sounds, rows_of
from ..object_storage import lance_options


_MAX_ATTEMPTS = 5  # of a commit, if others write to the same index on object storage


@dataclass(frozen=True)
class WindowsTable:
    """What a worker must know to write parts of the table of windows.

    Args:
        address: absolute path or address of the table.
        schema: of its rows.
        storage_version: version of Lance's files.
        options: to reach object storage, as LanceDB takes them.
    """

    address: str
    schema: pa.Schema
    storage_version: str
    options: Mapping[str, str] | None

    @classmethod
    def of(cls, tables: IndexTables) -> "WindowsTable":
        """The table of windows of an index."""
        import lance

        address, options = f"{tables.path}/{WINDOWS}.lance", lance_options(tables.path, tables.storage_options)
        dataset = lance.dataset(address, storage_options=options)
        return cls(address, dataset.schema, dataset.data_storage_version, options)

    def write_part(self, sounds: Sequence[IndexedSound]) -> list[bytes]:
        """Write the rows of sounds to new files, and return the descriptions of these files.

        Nobody sees the rows before [`commit_parts`]. Files that are never committed are removed by `optimize`, after a
        time.
        """
        from lance_ray import LanceFragmentWriter

        write = LanceFragmentWriter(
            self.address,
            schema=self.schema,
            data_storage_version=self.storage_version,
            use_legacy_format=None,  # it warns of any other value
            storage_options=self._options,
        )
        return list(write(rows_of(sounds, self.schema))["fragment"].to_pylist())

    def commit_parts(self, parts: Sequence[bytes], replaced: Collection[SoundKey] = ()) -> None:
        """Make the rows of parts visible and remove the rows that they replace, all in one commit.

        Args:
            parts: what [`write_part`] returned, of any number of workers.
            replaced: sounds whose present rows are removed.
        """
        import lance

        fragments = [pickle.loads(part) for part in parts]
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            dataset = lance.dataset(self.address, storage_options=self._options)
            operation = _operation(dataset, fragments, replaced)
            try:
                lance.LanceDataset.commit(
                    self.address, operation, read_version=dataset.version, storage_options=self._options
                )
            except (OSError, RuntimeError) as error:
                if "conflict" not in str(error).lower() or attempt == _MAX_ATTEMPTS:
                    raise
            else:
                return

    @property
    def _options(self) -> dict[str, str] | None:
        return None if self.options is None else dict(self.options)


def _operation(dataset: Any, fragments: list[Any], replaced: Collection[SoundKey]) -> Any:
    """The operation of Lance that adds fragments, and removes the rows of sounds from those that are there."""
    import lance

    if not replaced:
        return lance.LanceOperation.Append(fragments)
    condition = of_sounds(replaced)
    rows = dataset.scanner(columns=["kind"], filter=condition, with_row_address=True).to_table()
    updated, removed = [], []
    for number in sorted({address >> 32 for address in rows["_rowaddr"].to_pylist()}):  # its fragment
        left = dataset.get_fragment(number).delete(condition)
        if left is None:
            removed.append(number)
        else:
            updated.append(left)
    return lance.LanceOperation.Update(
        removed_fragment_ids=removed, updated_fragments=updated, new_fragments=fragments
    )
