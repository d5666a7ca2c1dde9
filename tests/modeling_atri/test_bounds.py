"""Options are checked against the bounds in their types and the choices in their metadata."""

import math
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pytest

from modeling_atri.bounds import Bounds, Count, Dropout, NonNegative, Positive, PositiveCount, check_options


@dataclass
class Parent:
    way: str = field(default="any", metadata={"choices": ["up", "down"]})
    rate: NonNegative = 0.1


@dataclass
class Options(Parent):
    dropout: Dropout = 0.0
    alpha: Positive | None = None
    masks: Count = 0
    size: PositiveCount | None = None
    part: Annotated[int, Bounds("(1, 4]")] = 4
    seconds: Annotated[float, Bounds("[0.5, inf]")] = 1.0
    order: str = field(default="random", metadata={"choices": ["random", "first", "last"]})
    names: list[str] = field(default_factory=lambda: ["a"], metadata={"choices": ["a", "b"]})
    free: float = math.nan


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rate": 0, "dropout": 0.0, "alpha": 1e-9, "masks": 0, "size": 1, "part": 2, "seconds": 0.5},
        {"rate": 1e30, "dropout": 0.999, "alpha": 1e30, "masks": 10**9, "size": 10**9, "seconds": math.inf},
        {"dropout": np.float32(0.5), "masks": np.int64(3), "names": ["b", "a"]},
    ],
)
def test_values_within_the_bounds(values):
    check_options(Options(**values), parent=Parent)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": -1e-9}, "`rate` must be a finite number >= 0; got -1e-09."),
        ({"rate": math.inf}, "`rate` must be a finite number >= 0; got inf."),
        ({"dropout": 1.0}, "`dropout` must be a number in [0, 1); got 1.0."),
        ({"dropout": math.nan}, "`dropout` must be a number in [0, 1); got nan."),
        ({"dropout": None}, "`dropout` must be a number in [0, 1); got None."),
        ({"dropout": "0.1"}, "`dropout` must be a number in [0, 1); got '0.1'."),
        ({"alpha": 0}, "`alpha` must be a finite number > 0, or None; got 0."),
        ({"masks": -1}, "`masks` must be a whole number >= 0; got -1."),
        ({"masks": 1.0}, "`masks` must be a whole number >= 0; got 1.0."),
        ({"masks": True}, "`masks` must be a whole number >= 0; got True."),
        ({"size": 0}, "`size` must be a whole number >= 1, or None; got 0."),
        ({"part": 1}, "`part` must be a whole number in (1, 4]; got 1."),
        ({"part": 5}, "`part` must be a whole number in (1, 4]; got 5."),
        ({"seconds": 0.4}, "`seconds` must be a number >= 0.5; got 0.4."),
        ({"order": "second"}, "`order` must be 'random', 'first' or 'last'; got 'second'."),
        ({"names": ["a", "c"]}, "`names` must be 'a' or 'b'; got 'c'."),
    ],
)
def test_values_outside_of_the_bounds(values, message):
    with pytest.raises(ValueError) as error:
        check_options(Options(**values), parent=Parent)
    assert str(error.value) == message


def test_choices_of_a_parent_are_left_to_it():
    with pytest.raises(ValueError, match="`way` must be 'up' or 'down'; got 'any'"):
        check_options(Options())
    check_options(Options(), parent=Parent)
