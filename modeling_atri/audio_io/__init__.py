"""The reader of sounds: files, bytes and arrays in, mono waveforms at one sampling rate out."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "MissingAudioError": "load",
    "audio_length": "load",
    "load_audio": "load",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .load import MissingAudioError, audio_length, load_audio
