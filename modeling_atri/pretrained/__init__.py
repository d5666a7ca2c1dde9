"""Published weights of CED, SONAR and ML-CLAP, loaded into this package's models."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


_MODULE_OF = {
    "from_audio_text_pretrained": "models",
    "from_mlclap_checkpoint": "models",
    "load_audio_tower": "towers",
    "load_text_tower": "towers",
    "make_processor": "models",
}

__all__ = list(_MODULE_OF)
__getattr__ = lazy_names(__name__, _MODULE_OF)


if TYPE_CHECKING:
    from .models import from_audio_text_pretrained, from_mlclap_checkpoint, make_processor
    from .towers import load_audio_tower, load_text_tower
