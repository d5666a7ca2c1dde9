"""How many of the true nearest rows a vector index finds, and the effort at which it finds enough."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from modeling_atri.top_k_atri import ROUNDING, exact_scores

from ..tables import VECTOR, IndexTables, vector_values
from .memory import row_ids
from .vector_index import Effort, VectorIndex


NUM_QUESTIONS = 100
WANTED = 0.95
SOUGHT = 0.96  # a little more than wanted, since it is measured on a sample
NUM_NEAREST = (10, 100)  # the numbers of rows for which it is measured
_REFINES = (5, 10, 20, 40, 80)
_ROWS_AT_ONCE = 8192


def sample_questions(tables: IndexTables, condition: str | None, number: int) -> np.ndarray:
    """Vectors like those of questions, `(number, projection_dim)`, made of stored ones.

    A stored vector would find itself in any index. Embeddings of texts lie at some distance from those of the sounds,
    so each question is a stored vector, plus the scaled difference of two others, which is a step within the space
    of the sounds, plus random noise of the same length. Its cosine with the stored vector is about 0.58.
    """
    generator = np.random.default_rng(0)
    rows = generator.choice(row_ids(tables.windows, condition), 3 * number)
    found = tables.windows.take_row_ids(np.unique(rows).tolist()).select([VECTOR]).with_row_id().to_arrow()
    values = vector_values(found[VECTOR])
    ids = found["_rowid"].to_numpy()
    order = np.argsort(ids)
    start, here, there = values[order[np.searchsorted(ids[order], rows)]].reshape(3, number, -1)
    noise = generator.standard_normal(start.shape, dtype=np.float32)
    return _unit(start + _unit(here - there) + _unit(noise))


def lowest_true_scores(
    tables: IndexTables, questions: np.ndarray, condition: str | None, counts: Sequence[int]
) -> np.ndarray:
    """The score of the k-th nearest row of each question, for some `k`, `(len(counts), q)`: all rows are compared."""
    best = np.empty((len(questions), 0), np.float32)
    query = tables.windows.search().select([VECTOR])
    query = query if condition is None else query.where(condition)
    for batch in query.to_batches(_ROWS_AT_ONCE):
        scores = questions @ vector_values(batch[VECTOR]).T
        best = np.concatenate([best, scores], axis=1)
        if best.shape[1] > max(counts):
            best = -np.partition(-best, max(counts) - 1, axis=1)[:, : max(counts)]
    best = -np.sort(-best, axis=1)
    return np.stack([best[:, min(k, best.shape[1]) - 1] for k in counts])


def measure_recall(index: VectorIndex, condition: str | None) -> list[Effort]:
    """The least effort at which the vector index finds 95 % of the true nearest rows, for 10 and for 100 rows.

    It is measured against a comparison with all rows, on 100 questions that `sample_questions` makes of the user's
    own vectors. Where no effort finds as much, the greatest is returned, with the recall that it reaches.
    """
    questions = sample_questions(index.tables, condition, NUM_QUESTIONS)
    scores = lowest_true_scores(index.tables, questions, condition, NUM_NEAREST)
    by_number = zip(NUM_NEAREST, scores, strict=True)
    return [_least_effort(index, questions, lowest, k, condition) for k, lowest in by_number]


def _least_effort(
    index: VectorIndex, questions: np.ndarray, lowest: np.ndarray, k: int, condition: str | None
) -> Effort:
    @cache
    def recall(groups: int, refine: int) -> float:
        effort = Effort(k, groups, refine)
        pairs = zip(questions, lowest, strict=True)
        return float(np.mean([_recall(index, effort, *pair, condition) for pair in pairs]))

    # First the number of rows that are compared again, so that the short form of vectors costs little recall.
    is_fine = (times for times in _REFINES if recall(index.num_groups, times) >= (1 + SOUGHT) / 2)
    refine = next(is_fine, _REFINES[-1])
    groups = _first(_steps(index.num_groups), lambda number: recall(number, refine) >= SOUGHT)
    return Effort(k, groups, refine, recall(groups, refine))


def _recall(index: VectorIndex, effort: Effort, question: np.ndarray, lowest: float, condition: str | None) -> float:
    found = index.run(question, effort, condition)
    scores = exact_scores(vector_values(found[VECTOR]), question)
    return min(1.0, np.count_nonzero(scores >= lowest - ROUNDING) / effort.k)


def _steps(number: int) -> list[int]:
    """Numbers up to `number`, each about 1.3 times the one before."""
    steps = [number]
    while steps[-1] > 1:
        steps.append(int(steps[-1] / 1.3))
    return steps[::-1]


def _first(numbers: Sequence[int], is_enough: Callable[[int], bool]) -> int:
    """The first of the numbers that is enough, the last if none is. All above one that is enough must be so, too."""
    low, high = 0, len(numbers) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(numbers[middle]) else (middle + 1, high)
    return numbers[low]


def _unit(values: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    scaled: np.ndarray = values / np.maximum(lengths, np.finfo(np.float32).tiny)
    return scaled
