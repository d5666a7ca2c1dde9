"""Retrieval and consistency metrics: pure functions of embeddings and an explicit ground truth.

The same definitions hold in both directions. Similarity is the cosine. The *positives* of a query are the items that
belong to it; all other items are its *negatives*.

- Negatives ahead of a positive: those that score higher, plus half of those that tie with it. A model that gives
  every item the same embedding therefore ranks in the middle, not first. Positives never count against each other.
- Rank (1-based): 1 + the negatives ahead of the best positive. It ends in .5 if an odd number of negatives ties.
  R@k is the share of queries with rank <= k. `median_rank` is rounded down.
- AP@10, audio to text: the i-th best positive stands at position p_i = i + the negatives ahead of it. AP@10 is the
  sum of i / p_i over the positives with p_i <= 10, divided by the number of all captions of the clip.
- AP@10, text to audio: 1 / rank if rank <= 10, else 0, also if a caption fits several clips.

Without ties these are the figures of the public ML-CLAP code (https://github.com/zyyan4/ml-clap/tree/154393e, `t2a`
and `a2t`), as fractions instead of percent. That code leaves the order of ties to an unstable sort.
"""

from typing import TYPE_CHECKING

from modeling_atri.lazy import lazy_names


if TYPE_CHECKING:
    from .consistency import consistency_metrics as consistency_metrics
    from .consistency import multilingual_metrics as multilingual_metrics
    from .retrieval import audio_to_text_ranks as audio_to_text_ranks
    from .retrieval import retrieval_metric_path as retrieval_metric_path
    from .retrieval import retrieval_metrics as retrieval_metrics
    from .retrieval import text_to_audio_ranks as text_to_audio_ranks

__getattr__, __all__ = lazy_names(__name__, __file__)
