"""The digest of rows without recordings: the same for the same content, however it is stored."""

import datasets
import pyarrow as pa
import pytest

from modeling_atri.corpora.rows.kept.arrow_digest import arrow_digest


ROWS = [{"audio_id": f"é{n}", "captions": {"en": ["a", "bc"], "fr": None if n == 2 else ["d"]}} for n in range(5)]


def test_it_depends_on_the_content_alone():
    whole = datasets.Dataset.from_list(ROWS)
    expected = arrow_digest(whole)
    parts = datasets.concatenate_datasets([whole.select([0]), whole.select([1, 2]), whole.select([3, 4])])
    longer = datasets.Dataset.from_list([ROWS[1], *ROWS, ROWS[2]]).select(range(1, 6))
    large = datasets.Dataset(pa.table({"audio_id": pa.array([row["audio_id"] for row in ROWS], pa.large_string())}))
    for same in (parts, longer, whole.select_columns(["captions", "audio_id"])):
        assert arrow_digest(same) == expected
    assert arrow_digest(large) == arrow_digest(whole.select_columns(["audio_id"]))


@pytest.mark.parametrize(
    "change",
    [
        {"audio_id": "x"},
        {"audio_id": None},
        {"captions": {"en": ["ab", "c"], "fr": ["d"]}},
        {"captions": {"en": ["a", "bc"], "fr": None}},
        {"captions": {"en": ["a"], "fr": ["bc", "d"]}},
        {"captions": None},
    ],
)
def test_every_change_is_noticed(change):
    rows = [*ROWS[:1], ROWS[1] | change, *ROWS[2:]]
    assert arrow_digest(datasets.Dataset.from_list(rows)) != arrow_digest(datasets.Dataset.from_list(ROWS))


def test_the_order_counts():
    assert arrow_digest(datasets.Dataset.from_list(ROWS[::-1])) != arrow_digest(datasets.Dataset.from_list(ROWS))
