"""Models and towers from published weights of audio, text and audio-text models, with or without an audio tower."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .clap import from_clap_pretrained as from_clap_pretrained
    from .models import from_audio_text_pretrained as from_audio_text_pretrained
    from .models import from_mlclap_checkpoint as from_mlclap_checkpoint
    from .models import make_feature_extractor as make_feature_extractor
    from .models import make_processor as make_processor
    from .text_only import from_text_pretrained as from_text_pretrained
    from .text_only import without_audio_tower as without_audio_tower
    from .towers import load_audio_tower as load_audio_tower
    from .towers import load_text_tower as load_text_tower

__getattr__, __all__ = lazy_names(__name__, __file__)
