"""The model of an index: loaded when it is first needed, and checked against what the index notes."""

import os
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from modeling_atri.sources import is_hub_id


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor


class IndexModel:
    """Model and processor of an index, which are loaded when they are first needed.

    Args:
        index: the index, as messages name it.
        model: the model, or its Hub id or folder.
        processor (*optional*): its processor. Default: the one that was saved with the model.
        fingerprint (*optional*): `audio_fingerprint` that the index notes; another one is refused.
        noted (*optional*): name of the model that the index notes.
        device (*optional*): to compute on. Default: the CPU, or where the given model is.
    """

    def __init__(
        self,
        index: str,
        model: "AtriModel | str | os.PathLike[str]",
        processor: "AtriProcessor | None" = None,
        fingerprint: str | None = None,
        noted: str | None = None,
        device: str | None = None,
    ):
        self.name = absolute_name(model if isinstance(model, (str, os.PathLike)) else model.config.name_or_path)
        self._index, self._model, self._processor, self._device = index, model, processor, device
        self._fingerprint, self._noted = fingerprint, noted
        self._loaded: tuple[AtriModel, AtriProcessor] | None = None
        self._lock = Lock()

    @property
    def fingerprint(self) -> str | None:
        """The `audio_fingerprint` that the index notes, or that of the loaded model; None if it is not known yet."""
        return self._fingerprint

    @property
    def has_moved(self) -> bool:
        """Whether the model that the index notes has no name, or is not where it was, and this one has a place."""
        is_gone = not self._noted or (os.path.isabs(self._noted) and not os.path.isdir(self._noted))
        return bool(self.name) and self.name != self._noted and is_gone

    def load(self) -> "tuple[AtriModel, AtriProcessor]":
        """The model and its processor.

        Raises:
            ValueError: there is no such model, or its embeddings differ from those of the index.
        """
        from modeling_atri.encode import audio_fingerprint

        with self._lock:
            if self._loaded is None:
                model, processor = self._read()
                fingerprint = audio_fingerprint(model, processor)
                self._check(fingerprint)
                self._fingerprint = fingerprint
                moved: Any = model
                self._loaded = (model if self._device is None else moved.to(self._device)), processor
            return self._loaded

    def _read(self) -> "tuple[AtriModel, AtriProcessor]":
        from modeling_atri import AtriProcessor
        from modeling_atri.pretrained.loading import load_model

        if isinstance(self._model, (str, os.PathLike)):
            self._check_is_there()
            model, processor = load_model(self.name)
            return model, self._processor or processor
        if self._processor is not None:
            return self._model, self._processor
        if not self.name:
            raise ValueError("The model was not loaded from a folder or the Hub. Pass its `processor` too.")
        processor = AtriProcessor.from_pretrained(self.name)
        processor.limit_text_length(self._model.max_text_tokens)
        return self._model, processor

    def _check_is_there(self) -> None:
        if self._noted is not None and self.name == self._noted and os.path.isabs(self.name):
            if not os.path.isdir(self.name):
                raise ValueError(
                    f"The model of the index {self._index!r} was in {self.name!r}, where it is no more. Pass its "
                    "folder or Hub id as the model (`--model`)."
                )

    def _check(self, fingerprint: str) -> None:
        if self._fingerprint is None or self._fingerprint == fingerprint:
            return
        if self.name and self.name == self._noted:
            raise ValueError(
                f"The model {self.name!r} has changed since the index {self._index!r} was made: its fingerprint is "
                f"{fingerprint}, and that of the index {self._fingerprint}. Make a new index, or restore the model."
            )
        raise ValueError(
            f"The index {self._index!r} holds vectors of another model, {_named(self._noted)} (fingerprint "
            f"{self._fingerprint}), which cannot be compared with those of {_named(self.name)} "
            f"({fingerprint}). Use the model of the index, or make a new index."
        )


def _named(name: str | None) -> str:
    return repr(name) if name else "a model without a name"


def absolute_name(model: Any) -> str:
    """The name to note for a model: a Hub id as it is, a folder absolutely; empty if it is not known."""
    name = os.fspath(model) if model else ""
    return name if not name or is_hub_id(name) or not os.path.exists(name) else os.path.abspath(name)


def languages_of(name: str) -> Sequence[str]:
    """The languages that a model in a folder was trained or evaluated in, by its results; empty if not known."""
    from modeling_atri.hub_cards.results import model_languages, read_results

    return model_languages(read_results(name)) if os.path.isdir(name) else ()
