"""The names of the graph files, and the import of the libraries that come with the extra `onnx`."""

from importlib import import_module
from types import ModuleType


AUDIO_FILE, TEXT_FILE = "audio.onnx", "text.onnx"
MAX_TEXT_TOKENS = "max_text_tokens"  # in the metadata of the text graph, which does not cut captions itself


def import_extra(name: str) -> ModuleType:
    """Import a module of the extra `onnx`.

    Raises:
        ImportError: the extra is not installed; the message gives the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"ONNX needs the extra `onnx` ({error.name} is missing): pip install 'modeling_atri[onnx]'"
        ) from error
