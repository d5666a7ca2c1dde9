"""Sounds of the package: reading them, their length and parts, and the sound files in a folder."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from ..audio_inputs_atri import MIN_SECONDS, SAMPLING_RATE, load_audio, too_short
    from ..sound_files_atri import OTHER_SOUND_SUFFIXES, SOUND_SUFFIXES, MissingAudioError
    from .discovery import find_sounds
    from .excerpts import audio_length, load_excerpt

__getattr__, __all__ = lazy_names(__name__, __file__)
