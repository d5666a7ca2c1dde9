"""A digest of the content of Arrow columns, which is fast and does not depend on how they are stored."""

import hashlib
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class ArrowDigest:
    """Digest of all values of a table in their order, which may come in parts: strings, lists, and structs of them."""

    def __init__(self) -> None:
        self._digests: dict[str, Any] = {}

    def update(self, table: pa.Table) -> None:
        """Add further rows."""
        for name in table.column_names:
            for chunk in table[name].chunks:
                _update(self._digests, name, chunk)

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        whole = hashlib.blake2b(digest_size=16)
        for name in sorted(self._digests):
            whole.update(f"{name} {self._digests[name].hexdigest()} ".encode())
        return whole.hexdigest()


def arrow_digest(rows: datasets.Dataset) -> str:
    """32 hexadecimal digits of all values in their order: strings, lists, and structs of them."""
    digest = ArrowDigest()
    for table in rows.with_format("arrow").iter(batch_size=2**16):
        digest.update(table)
    return digest.hexdigest()


def _update(digests: dict[str, Any], name: str, values: pa.Array) -> None:
    """Add values to the digests of their parts: which are there, how long they are, and what they hold."""
    kind = values.type
    _add(digests, f"{name} is there", np.asarray(values.is_valid()))
    if pa.types.is_struct(kind):
        for index, field in enumerate(kind):
            _update(digests, f"{name}.{field.name}", pc.struct_field(values, index))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        values = values.drop_null() if values.null_count else values
        _add(digests, f"{name} lengths", pc.list_value_length(values).to_numpy().astype(np.int64))
        _update(digests, f"{name}[]", values.flatten())
    else:
        texts = values.drop_null() if values.null_count else values
        if not pa.types.is_string(kind):
            texts = texts.cast(pa.large_string())
        width = np.int32 if pa.types.is_string(kind) else np.int64
        _, offsets, content = texts.buffers()
        ends = np.frombuffer(offsets, width)[texts.offset :][: len(texts) + 1] if len(texts) else np.zeros(1, width)
        _add(digests, f"{name} lengths", np.diff(ends).astype(np.int64))
        if len(texts):
            _add(digests, name, memoryview(content)[ends[0] : ends[-1]])


def _add(digests: dict[str, Any], name: str, content: Any) -> None:
    digests.setdefault(name, hashlib.blake2b(digest_size=16)).update(content)
