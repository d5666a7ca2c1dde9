"""Embeddings of any number of clips, captions or files, in order and in bounded memory."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "AudioFailure": "clip_reader",
    "encode_audio": "encoding",
    "encode_text": "encoding",
    "FolderSummary": "folder",
    "encode_folder": "folder",
    "audio_fingerprint": "fingerprints",
    "model_fingerprint": "fingerprints",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .clip_reader import AudioFailure
    from .encoding import encode_audio, encode_text
    from .fingerprints import audio_fingerprint, model_fingerprint
    from .folder import FolderSummary, encode_folder
