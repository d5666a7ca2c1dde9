import numpy as np
import pytest

from modeling_atri.embedding_store.npy_files import write_npy, write_npy_rows


def test_blocks_of_any_number(tmp_path):
    values = np.random.randn(50, 3)
    for count in (0, 1, 50):
        written = write_npy(tmp_path / "blocks.npy", (block for block in np.array_split(values[:count], 7)), 3)
        assert (written.shape, written.dtype) == ((count, 3), np.float32)
        np.testing.assert_array_equal(written, values[:count].astype(np.float32))


def test_rows_in_any_order(tmp_path):
    values = np.random.randn(50, 3).astype(np.float32)
    rows = ((place, values[place]) for place in np.random.permutation(50).tolist())
    written = write_npy_rows(tmp_path / "rows.npy", rows, 50, 3)
    np.testing.assert_array_equal(written, values)
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), values)
    with pytest.raises(ValueError, match="read-only"):
        written[0] = 0
