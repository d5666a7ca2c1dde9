"""Embeddings of any number of clips, captions or files, in order and in bounded memory."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .clip_reader import AudioFailure
    from .encoding import encode_audio, encode_text
    from .fingerprints import audio_fingerprint, model_fingerprint
    from .folder import FolderSummary, encode_folder

__getattr__, __all__ = lazy_names(__name__, __file__)
