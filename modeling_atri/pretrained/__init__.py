"""Published weights of CED, SONAR and ML-CLAP, loaded into this package's models."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .models import from_audio_text_pretrained, from_mlclap_checkpoint, make_processor
    from .towers import load_audio_tower, load_text_tower

__getattr__, __all__ = lazy_names(__name__, __file__)
