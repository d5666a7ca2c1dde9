"""Windows of sounds: where they begin and end, and their embeddings."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .encoding import EncodedSound as EncodedSound
    from .encoding import encode_windows as encode_windows
    from .plan import WindowPlan as WindowPlan
    from .plan import plan_windows as plan_windows

__getattr__, __all__ = lazy_names(__name__, __file__)
