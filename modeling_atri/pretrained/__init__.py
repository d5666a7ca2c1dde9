"""Published weights of CED, SONAR and ML-CLAP, loaded into this package's models."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .models import from_audio_text_pretrained as from_audio_text_pretrained
    from .models import from_mlclap_checkpoint as from_mlclap_checkpoint
    from .models import make_processor as make_processor
    from .towers import load_audio_tower as load_audio_tower
    from .towers import load_text_tower as load_text_tower

__getattr__, __all__ = lazy_names(__name__, __file__)
