"""ATRI models and data sets in MTEB, the benchmark of text, image and audio embeddings (extra `mteb`).

The code here uses training's evaluation and is used by nothing, like the command line.
"""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .encoder import AtriMtebEncoder as AtriMtebEncoder
    from .metadata import model_meta as model_meta
    from .tasks import AudioToTextRetrieval as AudioToTextRetrieval
    from .tasks import TextToAudioRetrieval as TextToAudioRetrieval
    from .tasks import retrieval_tasks as retrieval_tasks

__getattr__, __all__ = lazy_names(__name__, __file__)
