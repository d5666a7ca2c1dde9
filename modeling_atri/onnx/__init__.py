"""Both towers as ONNX graphs, and a model that runs them with onnxruntime (extra `onnx`)."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .export import export_onnx as export_onnx
    from .extra import AUDIO_FILE as AUDIO_FILE
    from .extra import TEXT_FILE as TEXT_FILE
    from .model import OnnxAtriModel as OnnxAtriModel

__getattr__, __all__ = lazy_names(__name__, __file__)
