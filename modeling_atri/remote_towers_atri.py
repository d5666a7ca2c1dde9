"""Audio encoders with code from a repository: saving this code with a model, and loading it if it is trusted."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from os import PathLike
from pathlib import Path
from typing import Any

from transformers.configuration_utils import PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module


# Arguments of `from_pretrained` for finding files.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "revision", "token")

# The repository whose code may currently be loaded, with its hub arguments.
_trusted: ContextVar[tuple[str, dict[str, Any]] | None] = ContextVar("trusted repository", default=None)


class UnloadedAudioConfig(PreTrainedConfig):
    """Placeholder for the configuration of an audio encoder while the code of its repository is not loaded."""

    model_type = "atri_unloaded_audio"

    values: dict | None = None

    def to_dict(self) -> dict[str, Any]:
        return PreTrainedConfig().to_dict() | (self.values or {})


@contextmanager
def trusting(source: str | PathLike, hub_arguments: Mapping[str, Any]) -> Iterator[None]:
    """Within this context, `load_class` may load code of this repository."""
    arguments = {name: hub_arguments[name] for name in HUB_ARGUMENTS if name in hub_arguments}
    token = _trusted.set((str(source), arguments))
    try:
        yield
    finally:
        _trusted.reset(token)


def load_class(reference: str) -> tuple[Any, str] | None:
    """Load a class of the trusted repository, such as `modeling_dasheng.DashengModel`; None without one.

    Returns the class and the name of its repository.
    """
    trusted = _trusted.get()
    if trusted is None:
        return None
    source, arguments = trusted
    return get_class_from_dynamic_module(reference, source, **arguments), source


def load_audio_config(values: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration of an audio encoder from its saved values; a placeholder if the repository is not trusted."""
    loaded = load_class(values["auto_map"]["AutoConfig"])
    if loaded is None:
        return UnloadedAudioConfig(values=dict(values))
    config_class, source = loaded
    config_class.register_for_auto_class()
    config = config_class(**values)
    config.name_or_path = source
    return config


def code_of(classes: Iterable[type | None]) -> dict[str, type]:
    """The classes whose code is saved with a model, by the auto classes that load them.

    As in transformers, these are classes that come from repositories, and classes that were registered with
    `register_for_auto_class`.
    """
    others: list[Any] = [
        owner for owner in classes if owner is not None and not owner.__module__.startswith("transformers.")
    ]
    return {owner._auto_class: owner for owner in others if owner._auto_class}  # noqa: SLF001


def references_to(code: Mapping[str, type]) -> dict[str, str]:
    """The entries of `auto_map` for classes whose files are in the folder of the model."""
    return {name: f"{owner.__module__.rpartition('.')[2]}.{owner.__name__}" for name, owner in code.items()}


def save_code_beside(json_file: str | PathLike, code: Mapping[str, type]) -> None:
    """Copy the files of classes, and the files beside them that they import, into the folder of `json_file`."""
    for owner in code.values():
        custom_object_save(owner, Path(json_file).parent)


__all__ = [
    "HUB_ARGUMENTS",
    "UnloadedAudioConfig",
    "code_of",
    "load_audio_config",
    "load_class",
    "references_to",
    "save_code_beside",
    "trusting",
]
