"""Values of side files get one type for each column."""

from datetime import UTC, date, datetime

import pytest

from modeling_atri.search.index.column_types import (
    BOOL,
    DAY,
    NUMBER,
    TEXT,
    TEXTS,
    TIME,
    TIME_UTC,
    WHOLE,
    Cell,
    typed_column,
)


def cells(*values, is_text: bool = False) -> list[Cell]:
    return [Cell(value, f"m, line {number}", is_text) for number, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None, -2], WHOLE, [1, None, -2]),
        ([1, 2.5], NUMBER, [1.0, 2.5]),
        ([float("nan"), 2.5], NUMBER, [None, 2.5]),
        ([True, False], BOOL, [True, False]),
        (["a", "", "2"], TEXT, ["a", None, "2"]),
        (["cc0", "2024-05-01"], TEXT, ["cc0", "2024-05-01"]),
        ([["a", "b"], [], "c"], TEXTS, [["a", "b"], [], ["c"]]),
        ([["a"], "2024-05-01"], TEXTS, [["a"], ["2024-05-01"]]),
        (["2024-05-01", "1999-12-31"], DAY, [date(2024, 5, 1), date(1999, 12, 31)]),
        (["2024-02-31"], TEXT, ["2024-02-31"]),
        (["2024-05-01", "2024-05-01T10:30"], TIME, [datetime(2024, 5, 1), datetime(2024, 5, 1, 10, 30)]),
        (["2024-05-01T10:30:00+02:00", "2024-05-01 08:00:00.5Z"], TIME_UTC,
         [datetime(2024, 5, 1, 8, 30, tzinfo=UTC), datetime(2024, 5, 1, 8, 0, 0, 500000, tzinfo=UTC)]),
        ([{"lat": 1.5}, [1, 2]], TEXT, ['{"lat": 1.5}', "[1, 2]"]),
        ([2**80], TEXT, [str(2**80)]),
        ([None, "", None], None, [None, None, None]),
    ],
)  # fmt: skip
def test_values_of_json(values, kind, expected):
    assert typed_column("x", cells(*values)) == (kind, expected, None)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "-20", "NA"], WHOLE, [1, -20, None]),
        (["1", " 2.5 ", "1e3", "nan"], NUMBER, [1.0, 2.5, 1000.0, None]),
        (["true", "False", ""], BOOL, [True, False, None]),
        (["2024-05-01", "null"], DAY, [date(2024, 5, 1), None]),
        (["007", "12"], TEXT, ["007", "12"]),  # numbers with leading zeros are names
        (["+49123", "NA"], TEXT, ["+49123", "NA"]),  # the country code of Namibia
        (["NA"], None, [None]),
    ],
)
def test_values_of_csv(values, kind, expected):
    column = typed_column("x", cells(*values, is_text=True))
    assert column[:2] == (kind, expected)


def test_a_value_that_differs_is_named():
    column = typed_column("year", cells(2001, 2002, "unknown"))
    assert column[:2] == (TEXT, ["2001", "2002", "unknown"])
    assert column.note == (
        "m, line 3: the column `year` holds 'unknown', and mostly whole numbers elsewhere. It is indexed as text."
    )
    assert typed_column("x", cells(True, 1)).values == ["true", "1"]
    assert typed_column("x", cells("2024-05-01", "2024-05-01T10:00:00Z")).type == TEXT  # of which zone is the first?


@pytest.mark.parametrize(
    ("values", "stored", "kind", "expected"),
    [
        ([1, 2], NUMBER, NUMBER, [1.0, 2.0]),
        ([1, 2.5], WHOLE, NUMBER, [1.0, 2.5]),  # the index widens the column
        ([1, True, ["a"]], TEXT, TEXT, ["1", "true", '["a"]']),
        (["2024-05-01"], TEXT, TEXT, ["2024-05-01"]),
        (["a"], TEXTS, TEXTS, [["a"]]),
        (["2024-05-01"], TIME, TIME, [datetime(2024, 5, 1)]),
    ],
)
def test_the_type_of_the_index_stays(values, stored, kind, expected):
    assert typed_column("x", cells(*values), stored) == (kind, expected, None)


@pytest.mark.parametrize(
    ("values", "stored", "message"),
    [
        ([1, "unknown"], WHOLE, "m, line 2: the column `x` holds 'unknown', but the index holds whole numbers there"),
        ([None, True], NUMBER, "m, line 2: the column `x` holds 'true', but the index holds numbers there"),
        (["a"], BOOL, "m, line 1: the column `x` holds 'a', but the index holds true or false there"),
        (["2024-05-01T10:30"], DAY, "line 1.*but the index holds days there"),
    ],
)
def test_a_value_that_does_not_fit_the_index_is_refused(values, stored, message):
    with pytest.raises(ValueError, match=message):
        typed_column("x", cells(*values), stored)
