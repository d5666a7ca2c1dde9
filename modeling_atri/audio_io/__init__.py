"""Sounds of the package: reading them, their length and parts, and the sound files in a folder."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "OTHER_SOUND_SUFFIXES": "modeling_atri.sound_files_atri",
    "SOUND_SUFFIXES": "modeling_atri.sound_files_atri",
    "MissingAudioError": "modeling_atri.sound_files_atri",
    "MIN_SECONDS": "modeling_atri.audio_inputs_atri",
    "SAMPLING_RATE": "modeling_atri.audio_inputs_atri",
    "load_audio": "modeling_atri.audio_inputs_atri",
    "too_short": "modeling_atri.audio_inputs_atri",
    "audio_length": "excerpts",
    "load_excerpt": "excerpts",
    "find_sounds": "discovery",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from ..audio_inputs_atri import MIN_SECONDS, SAMPLING_RATE, load_audio, too_short
    from ..sound_files_atri import OTHER_SOUND_SUFFIXES, SOUND_SUFFIXES, MissingAudioError
    from .discovery import find_sounds
    from .excerpts import audio_length, load_excerpt
