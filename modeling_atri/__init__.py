"""ATRI: audio-text retrieval that gives the same answer in every language.

Names are loaded when they are first touched, so that `import modeling_atri` costs nothing; touching one also registers
the classes with transformers' Auto classes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .lazy import lazy_names


__version__ = "0.1.0"


if TYPE_CHECKING:
    from .configuration_atri import AtriAudioConfig, AtriConfig
    from .embedding_store import load_embeddings
    from .encode import encode_audio, encode_folder, encode_text
    from .feature_extraction_atri import AtriFeatureExtractor
    from .modeling_atri import AtriAudioModel, AtriModel, AtriOutput, AtriPreTrainedModel
    from .pipelines_atri import (
        AtriAudioTextFeatureExtractionPipeline,
        AtriAudioTextRetrievalPipeline,
        AtriZeroShotAudioClassificationPipeline,
    )
    from .processing_atri import AtriProcessor

_AUTO_CLASS_MODULES = ("configuration_atri", "feature_extraction_atri", "processing_atri", "modeling_atri")
_LIGHT_NAMES = ("AtriAudioConfig", "AtriConfig", "load_embeddings")  # they need no torch

_load, _names = lazy_names(__name__, __file__)
__all__ = [*_names, "__version__"]


def __getattr__(name: str) -> Any:
    value = _load(name)
    if name not in _LIGHT_NAMES:
        # A folder is opened through several Auto classes; whoever has one of ours wants all of them.
        for module in _AUTO_CLASS_MODULES:
            import_module(f".{module}", __name__)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
