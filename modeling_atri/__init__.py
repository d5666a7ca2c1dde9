"""ATRI: audio-text retrieval that gives the same answer in every language.

Names are loaded when they are first touched, so that `import modeling_atri` costs nothing; touching one also registers
the classes with transformers' Auto classes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .lazy import lazy_names


__version__ = "0.1.0"


if TYPE_CHECKING:
    from .audio_tower_atri import AtriAudioTower as AtriAudioTower
    from .base_model_atri import AtriPreTrainedModel as AtriPreTrainedModel
    from .ced_model_atri import AtriAudioModel as AtriAudioModel
    from .configuration_atri import AtriAudioConfig as AtriAudioConfig
    from .configuration_atri import AtriConfig as AtriConfig
    from .configuration_atri import AtriEmbeddedAudioConfig as AtriEmbeddedAudioConfig
    from .embedded_audio_atri import AtriEmbeddedAudioModel as AtriEmbeddedAudioModel
    from .embedded_audio_atri import AtriEmbeddingExtractor as AtriEmbeddingExtractor
    from .embedding_store import load_embeddings as load_embeddings
    from .encode import encode_audio as encode_audio
    from .encode import encode_folder as encode_folder
    from .encode import encode_text as encode_text
    from .feature_extraction_atri import AtriFeatureExtractor as AtriFeatureExtractor
    from .modeling_atri import AtriModel as AtriModel
    from .modeling_atri import AtriOutput as AtriOutput
    from .pipelines_atri import (
        AtriAudioTextFeatureExtractionPipeline as AtriAudioTextFeatureExtractionPipeline,
    )
    from .pipelines_atri import (
        AtriAudioTextRetrievalPipeline as AtriAudioTextRetrievalPipeline,
    )
    from .pipelines_atri import (
        AtriZeroShotAudioClassificationPipeline as AtriZeroShotAudioClassificationPipeline,
    )
    from .processing_atri import AtriProcessor as AtriProcessor
    from .window_features_atri import AtriWindowFeatureExtractor as AtriWindowFeatureExtractor
    from .window_features_atri import describe_windows as describe_windows

_AUTO_CLASS_MODULES = (
    "configuration_atri",
    "feature_extraction_atri",
    "window_features_atri",
    "processing_atri",
    "modeling_atri",
)
_LIGHT_NAMES = ("AtriAudioConfig", "AtriConfig", "AtriEmbeddedAudioConfig", "load_embeddings")  # they need no torch

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
