"""`SoundIndex`: an index of sounds on LanceDB, in a folder or on object storage."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from .hits import Hit


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


class SoundIndex:
    """Sounds that can be searched by text in any language of a model, by sound, or by both.

    An index is made with [`SoundIndex.open`] and filled with [`SoundIndex.add`].
    """

    @classmethod
    def open(
        cls,
        path: str | PathLike,
        model: "AtriModel | str | None" = None,
        processor: "AtriProcessor | None" = None,
        window_s: float | None = None,
        hop_s: float | None = None,
        storage_options: Mapping[str, str] | None = None,
        device: str = "cpu",
    ) -> "SoundIndex":
        """Open an index, or make one if there is none at `path` and a model is given.

        Without a model, the one that is noted in the index is loaded when it is first needed. A model (or the name of
        one) with another audio fingerprint than the index's is refused.
        """
        raise NotImplementedError

    def add(
        self,
        sounds: Any,
        columns: str | PathLike | None = None,
        batch_size: int = 16,
        num_workers: int | None = None,
        pad_short: bool = False,
        on_error: Literal["raise", "skip"] = "skip",
        progress: bool = False,
    ) -> Any:
        """Add a folder of sounds, rows that hold sounds, or stored embeddings, and return an `IndexSummary`."""
        raise NotImplementedError

    def search(
        self,
        query: str | None = None,
        language: str | None = None,
        top_k: int = 10,
        where: str | None = None,
        without: str | None = None,
        like: Any = None,
        like_weight: float = 0.5,
        by: Literal["file", "moment"] = "file",
        moments_per_file: int = 1,
        exact: bool | None = None,
    ) -> list[Hit]:
        """The sounds or moments that fit best, best first."""
        raise NotImplementedError

    def compare_languages(self, queries: Mapping[str, str], top_k: int = 10, **options: Any) -> Any:
        """Ask the same question in several languages, and return an `Agreement`: what each finds, and what all do."""
        raise NotImplementedError

    def remove(self, paths: Sequence[str] | None = None, where: str | None = None) -> int:
        """Remove sounds by path or by a filter, and return their number."""
        raise NotImplementedError

    def optimize(self) -> None:
        """Merge small fragments, refresh the vector index, and remove old versions of the table."""
        raise NotImplementedError

    def stats(self) -> Any:
        """Figures of the index, as an `IndexStats`."""
        raise NotImplementedError
