"""What an index notes about itself while it is used, such as the measured recall of its vector index."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa


NOTES_SCHEMA = pa.schema({"name": pa.string(), "values": pa.string()})


class Notes:
    """Values of JSON by name, in a table of LanceDB."""

    def __init__(self, table: Any):
        self._table = table

    @property
    def version(self) -> int:
        """A number that grows with each change."""
        return int(self._table.version)

    def read(self, name: str) -> dict[str, Any]:
        """The values of a name; none if nothing was noted."""
        rows = self._table.search().to_arrow()
        found = dict(zip(rows["name"].to_pylist(), rows["values"].to_pylist(), strict=True))
        values: dict[str, Any] = json.loads(found.get(name, "{}"))
        return values

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Replace the values of a name."""
        row = pa.table({"name": [name], "values": [json.dumps(values)]}, schema=NOTES_SCHEMA)
        self._table.merge_insert("name").when_matched_update_all().when_not_matched_insert_all().execute(row)
