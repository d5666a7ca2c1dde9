"""Filters of columns, against the rows that Python picks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modeling_atri.search.index.tables import IndexedSound, IndexFacts, IndexTables
from modeling_atri.search.page.filters import MAX_CHOICES, Filter, IndexFilters, find_filters, where_of


TYPES = {
    "licence": pa.string(),
    "odd name; DROP": pa.string(),
    "title": pa.string(),
    "tags": pa.list_(pa.string()),
    "year": pa.int64(),
    "level": pa.float64(),
    "checked": pa.bool_(),
    "constant": pa.string(),
    "empty": pa.string(),
}
LICENCES = ["cc0", "cc-by", "l'auteur", 'a "b"', None]


def columns_of(number: int) -> dict[str, Any]:
    return {
        "licence": LICENCES[number % 5],
        "odd name; DROP": "ab"[number % 2],
        "title": f"Recording 100% no. {number}_x",
        "tags": [["dog", "rain"], ["it's"], [], None][number % 4],
        "year": 2000 + number % 7,
        "level": None if number % 10 == 0 else number / 4,
        "checked": [True, False, None][number % 3],
        "constant": "same",
    }


def sound(number: int, **columns: Any) -> IndexedSound:
    vector = np.eye(4, dtype=np.float32)[number % 4]
    return IndexedSound(
        f"{number}.wav",
        "/sounds",
        1.0 + number,
        [(0.0, 1.0 + number)],
        vector[None],
        vector,
        columns=columns_of(number) | columns,
    )


NUMBER = MAX_CHOICES + 20


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> IndexTables:
    made = IndexTables.create(tmp_path_factory.mktemp("index") / "index", IndexFacts("m", "f", 4))
    made.ensure_columns(TYPES)
    made.append([sound(number) for number in range(NUMBER)])
    return made


def test_each_column_has_the_filter_of_its_type(tables):
    found = {item.column: item for item in find_filters(tables)}
    assert found["duration_s"] == Filter("duration_s", "range", low=1.0, high=NUMBER)
    assert found["year"] == Filter("year", "range", low=2000, high=2006, is_whole=True)
    assert found["level"] == Filter("level", "range", low=0.25, high=(NUMBER - 1) / 4)
    assert found["checked"] == Filter("checked", "yes_no")
    assert found["title"] == Filter("title", "text")
    assert found["tags"] == Filter("tags", "choice", ("dog", "it's", "rain"), is_list=True)
    assert found["licence"].choices == ('a "b"', "cc-by", "cc0", "l'auteur")  # equally frequent
    assert "constant" not in found and "empty" not in found


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ({"licence": ["cc0"]}, lambda row: row["licence"] == "cc0"),
        ({"licence": "cc0"}, lambda row: row["licence"] == "cc0"),
        ({"licence": ["l'auteur", 'a "b"']}, lambda row: row["licence"] in ("l'auteur", 'a "b"')),
        ({"licence": ["x' OR '1'='1"]}, lambda row: False),
        ({"odd name; DROP": ["a"]}, lambda row: row["odd name; DROP"] == "a"),
        ({"tags": ["it's"]}, lambda row: "it's" in (row["tags"] or [])),
        ({"tags": ["dog", "it's"]}, lambda row: bool({"dog", "it's"} & set(row["tags"] or []))),
        ({"year": [2002, 2004]}, lambda row: 2002 <= row["year"] <= 2004),
        ({"year": [None, 2001]}, lambda row: row["year"] <= 2001),
        ({"level": [10.25, None]}, lambda row: row["level"] is not None and row["level"] >= 10.25),
        ({"level": [None, None]}, lambda row: True),
        ({"duration_s": [None, 5]}, lambda row: row["number"] < 5),
        ({"checked": [True]}, lambda row: row["checked"] is True),
        ({"checked": [False]}, lambda row: row["checked"] is False),
        ({"checked": [True, False]}, lambda row: row["checked"] is not None),
        ({"title": "no. 7"}, lambda row: "no. 7" in row["title"]),
        ({"title": "RECORDING 100% NO. 21"}, lambda row: "no. 21" in row["title"]),
        ({"title": "_ecording"}, lambda row: False),  # neither a pattern nor a wildcard
        ({"title": "%"}, lambda row: True),
        ({"title": "' OR TRUE --"}, lambda row: False),
        ({"licence": ["cc0"], "checked": [True]}, lambda row: row["licence"] == "cc0" and row["checked"] is True),
        ({"licence": [], "title": "", "year": None}, lambda row: True),
        ({}, lambda row: True),
    ],
)
def test_a_filter_keeps_the_rows_that_fit(tables: IndexTables, values: dict, fits: Callable[[dict], bool]):
    rows = [columns_of(number) | {"number": number} for number in range(NUMBER)]
    expected = {f"{row['number']}.wav" for row in rows if fits(row)}
    found = tables.rows(where_of(find_filters(tables), values), ["path"])["path"].to_pylist()
    assert set(found) == expected and len(found) == len(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nothing": ["a"]}, "no filter for the column 'nothing'. The columns are duration_s, licence"),
        ({"path` = '' OR TRUE --": ["a"]}, "no filter for the column"),
        ({"licence": [1]}, "takes a list of texts"),
        ({"licence": {"a": 1}}, "takes a list of texts"),
        ({"licence": ["a"] * 201}, "at most 200 texts"),
        ({"licence": ["a" * 40_001]}, "at most 200 texts"),
        ({"year": 2000}, "least and the greatest number"),
        ({"year": [1, 2, 3]}, "least and the greatest number"),
        ({"year": ["1; DROP TABLE windows", None]}, "takes two numbers"),
        ({"year": [True, None]}, "takes two numbers"),
        ({"year": [float("nan"), None]}, "takes two numbers"),
        ({"year": [float("inf"), None]}, "takes two numbers"),
        ({"year": [10**400, None]}, "takes two numbers"),
        ({"year": [2004, 2001]}, "Exchange the ends"),
        ({"checked": ["true"]}, "list of true and false"),
        ({"title": ["a"]}, "takes a text"),
        ({"title": "a" * 201}, "at most 200 characters"),
        ("licence = 'cc0'", "by column"),
        (["licence"], "by column"),
    ],
)
def test_a_wrong_value_is_refused(tables, values, message):
    with pytest.raises(ValueError, match=message):
        where_of(find_filters(tables), values)


def test_numbers_of_numpy_are_numbers(tables):
    filters = find_filters(tables)
    assert where_of(filters, {"level": [np.float64(1.5), None]}) == where_of(filters, {"level": [1.5, None]})


def test_filters_follow_the_index(tmp_path):
    first = IndexTables.create(tmp_path / "index", IndexFacts("m", "f", 4))
    first.ensure_columns(TYPES)
    first.append([sound(number) for number in range(10)])
    filters = IndexFilters(IndexTables.open(tmp_path / "index"))
    before = filters.now()
    assert filters.now() is before
    first.append([sound(10, licence="new", year=2050)])
    after = {item.column: item for item in filters.now()}
    assert after["year"].high == 2050 and "new" in after["licence"].choices
    first.ensure_columns({"place": pa.string()})
    first.append([sound(11, place="Praha"), sound(12, place="Brno")])
    assert Filter("place", "choice", ("Brno", "Praha")) in filters.now()


def test_an_empty_index_has_no_filters(tmp_path):
    tables = IndexTables.create(tmp_path / "index", IndexFacts("m", "f", 4))
    tables.ensure_columns(TYPES)
    assert find_filters(tables) == []
