"""Sounds of the package: reading them, their length and parts, and the sound files in a folder."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from ..audio_inputs_atri import MIN_SECONDS as MIN_SECONDS
    from ..audio_inputs_atri import SAMPLING_RATE as SAMPLING_RATE
    from ..audio_inputs_atri import load_audio as load_audio
    from ..audio_inputs_atri import too_short as too_short
    from ..sound_errors_atri import MissingAudioError as MissingAudioError
    from ..sound_errors_atri import MissingDecoderError as MissingDecoderError
    from ..sound_files_atri import OTHER_SOUND_SUFFIXES as OTHER_SOUND_SUFFIXES
    from ..sound_files_atri import SOUND_SUFFIXES as SOUND_SUFFIXES
    from .discovery import find_sounds as find_sounds
    from .excerpts import audio_length as audio_length
    from .excerpts import load_excerpt as load_excerpt

__getattr__, __all__ = lazy_names(__name__, __file__)
