"""Both towers as ONNX graphs, and a model that runs them with onnxruntime (extra `onnx`)."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "AUDIO_FILE": "extra",
    "TEXT_FILE": "extra",
    "OnnxAtriModel": "model",
    "export_onnx": "export",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .export import export_onnx
    from .extra import AUDIO_FILE, TEXT_FILE
    from .model import OnnxAtriModel
