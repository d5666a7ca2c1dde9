"""Evaluation of moments: queries with the parts of long recordings that they describe."""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .evaluation import RecordingWindows as RecordingWindows
    from .evaluation import evaluate_moments as evaluate_moments
    from .metrics import moment_metrics as moment_metrics
    from .queries import MomentQuery as MomentQuery
    from .queries import read_moment_queries as read_moment_queries
    from .recordings import RecordingSource as RecordingSource
    from .recordings import folder_recordings as folder_recordings
    from .recordings import index_recordings as index_recordings

__getattr__, __all__ = lazy_names(__name__, __file__)
