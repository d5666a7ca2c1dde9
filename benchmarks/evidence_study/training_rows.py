"""Changes of the training rows that a cell may ask for."""

import random
from collections.abc import Callable
from typing import Any

from query_set.training import with_short_captions


Change = Callable[[list[dict[str, Any]], random.Random], list[dict[str, Any]]]

# Each takes the lines of train's metadata and a generator that has the seed of the run, and returns new lines.
CHANGES: dict[str, Change] = {"short-captions": with_short_captions}
