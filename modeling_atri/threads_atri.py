"""Work on clips in threads: all clips of a batch at the same time, or a stream of clips ahead of the caller."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import Generic, TypeVar

import torch

from .cores_atri import usable_cores


Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_WORKERS = 16  # each of them holds a clip in memory


def default_num_workers() -> int:
    """Number of threads that read clips: one for each core this process may use except the caller's, from 1 to 16."""
    return min(max(1, usable_cores() - 1), _MAX_WORKERS)


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Compute `[function(item) for item in items]` in the threads that torch may use here.

    Use it for work that rarely holds Python's lock, such as decoding and arithmetic on tensors. Where torch has one
    thread (`torch.set_num_threads(1)`, a worker of a `DataLoader`, a call from inside another one) or there is one
    item, the caller's own thread does the work. No thread outlives the call, so a process may fork afterwards.
    If the function raises errors, that of the first item in their order is raised.
    """
    num_workers = min(torch.get_num_threads(), len(items))
    if num_workers < 2:
        return [function(item) for item in items]
    with _Workers(num_workers) as workers:
        return list(workers.map(function, items))


class _Workers(ThreadPoolExecutor):
    """Threads that have one thread of torch each, because otherwise each would start as many as there are cores.

    torch's setting holds for the worker, but also becomes the default of threads started later, so it is restored.
    """

    def __init__(self, num_workers: int):
        self._torch_threads = torch.get_num_threads()
        super().__init__(num_workers, "atri", torch.set_num_threads, (1,))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        torch.set_num_threads(self._torch_threads)


class Room:
    """Room that threads share, so that what they hold at the same time is bounded.

    Threads get room in the order in which they ask for it. One that asks for more than there is waits until all is
    free, and then works alone. A thread must not ask again while it has room.

    Args:
        size: what fits at the same time, in any unit.
    """

    def __init__(self, size: int):
        self._size = size
        self._begin()
        if hasattr(os, "register_at_fork"):  # in a new process, nobody gives back what the threads of its parent took
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._taken = 0
        self._queue: deque[object] = deque()
        self._changed = Condition()  # guards these two

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait for room, and have it inside the context."""
        with self._changed:
            own = object()
            self._queue.append(own)
            try:
                self._changed.wait_for(
                    lambda: self._queue[0] is own and (self._taken == 0 or self._taken + size <= self._size)
                )
                self._taken += size
            finally:
                self._queue.remove(own)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


class ReadAhead(Generic[Item, Result]):
    """Results of a function for items in the order given, computed by threads while the caller does something else.

    It is a context manager, whose threads end with it. The caller's iterable is only advanced in the caller's own
    thread, inside `__next__` and `is_ready`. Few items are begun ahead at first and more later, as long as the results
    that wait for the caller weigh less than `max_weight`. The weight of a result is known once it is computed, and
    each thread checks the limit before it begins an item, so the limit can be exceeded by one item per thread.

    Args:
        function: takes an item; called from several threads at once.
        items: of any kind and number.
        num_workers: threads; with 0 the caller's thread computes each result when it is asked for.
        num_ahead: items that are begun before the caller takes them, at most.
        weigh: takes a result and returns its weight. Default: nothing weighs anything.
        max_weight: while the waiting results weigh as much, only the item that comes next is begun.
    """

    def __init__(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        num_workers: int,
        num_ahead: int,
        weigh: Callable[[Result], int] = lambda result: 0,
        max_weight: int = 1,
    ):
        self._function = function
        self._items = enumerate(items)
        self._num_workers = num_workers
        self._num_ahead = num_ahead
        self._weigh = weigh
        self._max_weight = max_weight
        self._num_taken = 0
        self._waiting_weight = 0
        self._is_over = False
        self._taken = Condition()  # guards these three
        self._pending: deque[Future] = deque()
        self._workers: _Workers | None = None

    def __enter__(self) -> "ReadAhead[Item, Result]":
        if self._num_workers > 0:
            self._workers = _Workers(self._num_workers)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._workers is not None:
            with self._taken:
                self._is_over = True
                self._taken.notify_all()
            self._workers.shutdown(cancel_futures=True)

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        if self._workers is None:
            return self._function(next(self._items)[1])
        self._begin_more(self._workers)
        if not self._pending:
            raise StopIteration
        result = self._pending.popleft().result()
        with self._taken:
            self._num_taken += 1
            self._waiting_weight -= self._weigh(result)
            self._taken.notify_all()
        return result

    def is_ready(self) -> bool:
        """Whether the next result is there without waiting; begins more items where there is room."""
        if self._workers is None:
            return False
        self._begin_more(self._workers)
        return bool(self._pending) and self._pending[0].done()

    def _begin_more(self, workers: _Workers) -> None:
        limit = min(self._num_ahead, self._num_workers + self._num_taken)
        while len(self._pending) < limit:
            try:
                place, item = next(self._items)
            except StopIteration:
                return
            self._pending.append(workers.submit(self._compute_when_there_is_room, place, item))

    def _compute_when_there_is_room(self, place: int, item: Item) -> Result | None:
        """In a worker: the result, or None when nobody waits for it any more."""
        with self._taken:
            # The caller may be waiting for the next result, which therefore needs no room.
            self._taken.wait_for(
                lambda: self._is_over or self._waiting_weight < self._max_weight or place == self._num_taken
            )
            if self._is_over:
                return None
        result = self._function(item)
        with self._taken:
            self._waiting_weight += self._weigh(result)
        return result
