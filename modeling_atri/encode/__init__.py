"""Embeddings of any number of clips, captions or files, in order and in bounded memory."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .clip_reader import AudioFailure as AudioFailure
    from .encoding import encode_audio as encode_audio
    from .encoding import encode_text as encode_text
    from .fingerprints import audio_fingerprint as audio_fingerprint
    from .fingerprints import model_fingerprint as model_fingerprint
    from .folder import FolderSummary as FolderSummary
    from .folder import encode_folder as encode_folder

__getattr__, __all__ = lazy_names(__name__, __file__)
