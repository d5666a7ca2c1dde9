"""Search: an index of sounds that keeps up with its folder, questions in any language, moments, and a page."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .agreement import Agreement as Agreement
    from .hits import Hit as Hit
    from .index.indexing import IndexSummary as IndexSummary
    from .index.stats import IndexStats as IndexStats
    from .questions import Question as Question
    from .scale_out.ray_engine import RayEngine as RayEngine
    from .sound_index import SoundIndex as SoundIndex

__getattr__, __all__ = lazy_names(__name__, __file__)
