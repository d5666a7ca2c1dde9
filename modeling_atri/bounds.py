"""Options as fields of a dataclass, checked against the bounds and choices that they state."""

import math
from dataclasses import field, fields
from numbers import Integral, Real
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints


class Bounds:
    """An interval that a numeric option must lie in, stated in its type: `Annotated[float, Bounds("[0, 1)")]`.

    The type also says whether the option is a whole number (`int`) and whether it may be `None`. Bounds are not kept
    in the field's `metadata`, because `HfArgumentParser` passes all of that on to argparse.

    Args:
        interval (`str`): An interval in mathematical notation. A square bracket includes the end and a round bracket
            excludes it, so `"[0, inf)"` means any finite number of at least 0.
    """

    def __init__(self, interval: str):
        self.interval = interval
        self.least, self.most = (float(end) for end in interval[1:-1].split(","))

    def contain(self, value: float) -> bool:
        """Whether a number lies in the interval. NaN lies in none."""
        above = value >= self.least if self.interval[0] == "[" else value > self.least
        below = value <= self.most if self.interval[-1] == "]" else value < self.most
        return bool(above and below)

    def describe(self, kind: type) -> str:
        """The allowed values of type `kind`, as an error message names them."""
        noun = "whole number" if kind is int else "number"
        if self.most < math.inf:
            return f"a {noun} in {self.interval}"
        if kind is float and self.interval[-1] == ")":
            noun = f"finite {noun}"
        return f"a {noun} {'>=' if self.interval[0] == '[' else '>'} {self.least:g}"


NonNegative = Annotated[float, Bounds("[0, inf)")]
Positive = Annotated[float, Bounds("(0, inf)")]
Fraction = Annotated[float, Bounds("[0, 1]")]
Dropout = Annotated[float, Bounds("[0, 1)")]
Count = Annotated[int, Bounds("[0, inf)")]
PositiveCount = Annotated[int, Bounds("[1, inf)")]


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field with a default and a help text, and further metadata for argparse, such as `choices`."""
    return field(default=default, metadata={"help": help, **metadata})


def is_number(value: Any, kind: type = float) -> bool:
    """Whether a value is a number of type `kind`, `int` or `float`. NumPy's numbers are; `bool` is not."""
    return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)


def check_options(options: Any, parent: type = object) -> None:
    """Check every field of a dataclass instance that states `Bounds` in its type or `choices` in its metadata.

    Args:
        options: The instance.
        parent (`type`, *optional*): A parent class that checks its own fields.

    Raises:
        ValueError: A value is not among the choices, is outside the bounds, or is not of the stated type.
    """
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        parts = (hint,) if get_origin(hint) is Annotated else get_args(hint)
        may_be_none = NoneType in parts
        for part in parts:
            kind, *notes = get_args(part) if get_origin(part) is Annotated else (part,)
            for bounds in notes:
                if isinstance(bounds, Bounds):
                    _check_bounds(name, getattr(options, name), bounds, kind, may_be_none)
    checked_by_parent = getattr(parent, "__dataclass_fields__", {})
    for item in fields(options):
        choices = item.metadata.get("choices")
        if choices and checked_by_parent.get(item.name) is not item:
            _check_choices(item.name, getattr(options, item.name), list(choices))


def _check_bounds(name: str, value: Any, bounds: Bounds, kind: type, may_be_none: bool) -> None:
    if value is None and may_be_none:
        return
    if not (is_number(value, kind) and bounds.contain(value)):
        allowed = f"{bounds.describe(kind)}{', or None' if may_be_none else ''}"
        raise ValueError(f"`{name}` must be {allowed}; got {value!r}.")


def _check_choices(name: str, value: Any, choices: list[Any]) -> None:
    for one in value if isinstance(value, list) else [value]:
        if one not in choices:
            *others, last = map(repr, choices)
            raise ValueError(f"`{name}` must be {', '.join(others)} or {last}; got {one!r}.")
