"""Translate batches in several processes: the main process plans and writes, and all of them translate."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

from modeling_atri.processes import made_by_all, num_processes, process_rank, told_by_main

from .journal import Entry


Task = tuple[list[str], str]  # texts of a batch, and the language to translate them into
TranslateTask = Callable[[list[str], str, Any], list[Entry]]
_Result = TypeVar("_Result")


class SharedTranslation:
    """Work of the main process that needs batches translated, and the share of the other processes in it.

    Args:
        translate: Translates a batch, from its texts, its language and the settings of the run.
    """

    def __init__(self, translate: TranslateTask):
        self._translate = translate
        self._is_told = False  # whether the others know how the run ended

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Call `work` on the main process, help it on the others, and return its result on all of them.

        Raises:
            ValueError or OSError: `work` or a translation raised it; all processes raise it.
        """
        if process_rank() != 0:
            while (step := told_by_main(lambda: cast(Any, None)))[0] != "done":
                self._share(*step[1:])
            return cast(_Result, step[1])
        try:
            result = work()
        except (ValueError, OSError) as error:
            self._tell_of(error)
            raise
        told_by_main(lambda: ("done", result))
        return result

    def _tell_of(self, error: Exception) -> None:
        """Raise the error on the other processes, unless they raised it already."""

        def fail() -> None:
            raise error

        if not self._is_told and num_processes() > 1:
            with suppress(type(error)):
                told_by_main(fail)

    def translated(self, tasks: Iterable[Task], settings: Any) -> Iterator[list[Entry]]:
        """The entries of each batch, in the order of the batches. It is called by the work of the main process."""
        rest = iter(tasks)
        while group := list(islice(rest, num_processes())):
            self._is_told = True  # from here on, an error of one process is told to all
            told_by_main(partial(_step, group, settings))
            parts = cast(list[list[Entry]], self._share(group, settings))
            self._is_told = False
            yield from parts[: len(group)]

    def _share(self, group: list[Task], settings: Any) -> list[list[Entry]] | None:
        """Translate this process's batch of a group, if it has one; the entries of all on the main process."""
        own = group[process_rank()] if process_rank() < len(group) else None
        return made_by_all(lambda: [] if own is None else self._translate(*own, settings))


def _step(group: list[Task], settings: Any) -> tuple[str, list[Task], Any]:
    return "batches", group, settings
