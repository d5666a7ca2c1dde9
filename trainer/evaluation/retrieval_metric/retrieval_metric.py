"""`modeling_atri.trainer.metrics.retrieval_metrics` as an `evaluate.Metric`.

`evaluate` copies this file into its own cache and imports it from there, so its imports are absolute.
"""

from typing import Any

import datasets
import evaluate
import numpy as np

from modeling_atri.trainer.metrics import retrieval_metrics


_DESCRIPTION = """\
Audio-text retrieval in both directions: R@1, R@5, R@10, mAP@10, median and mean rank. The ground truth is explicit, a
clip may have several captions and a caption several clips, and ties count half. Only the package `modeling_atri` is
needed, no network.
"""

_KWARGS_DESCRIPTION = """\
One row a caption, so that captions can be added in batches as they are encoded; the clips are given once, to
`compute`.

Args:
    text_embeds: for each caption its embedding, D floats (kept as float32).
    positives: for each caption the row of its clip in `audio_embeds`, or a list of rows where it fits several clips
        (then a list for every caption).
    audio_embeds: (A, D) numpy array or torch tensor, one row a clip; an argument of `compute` only.
Returns:
    twelve floats, `text_to_audio_` and `audio_to_text_` before each of `R@1`, `R@5`, `R@10`, `mAP@10` (fractions),
    `median_rank` and `mean_rank` (1-based).
Example:
    >>> import evaluate
    >>> from modeling_atri.trainer.metrics import retrieval_metric_path
    >>> metric = evaluate.load(retrieval_metric_path())
    >>> metric.add_batch(text_embeds=[[1.0, 0.1], [1.0, 0.2]], positives=[0, 0])
    >>> metric.add_batch(text_embeds=[[0.1, 1.0]], positives=[1])
    >>> metric.compute(audio_embeds=[[1.0, 0.0], [0.0, 1.0]])["text_to_audio_R@1"]
    1.0
"""

_CITATION = """\
@inproceedings{yin2025atri,
    title = {ATRI: Mitigating Multilingual Audio Text Retrieval Inconsistencies by Reducing Data Distribution Errors},
    author = {Yin, Yuguo and Xie, Yuxin and Yang, Wenyuan and Yang, Dongchao and Ru, Jinghan and Zhuang, Xianwei and
              Liang, Liming and Zou, Yuexian},
    booktitle = {Proceedings of the 63rd Annual Meeting of the Association for Computational Linguistics},
    year = {2025},
    url = {https://arxiv.org/abs/2502.14627},
}
"""


class RetrievalMetric(evaluate.Metric):
    """One row a caption; see `inputs_description`."""

    def _info(self) -> evaluate.MetricInfo:
        embedding = datasets.Sequence(datasets.Value("float32"))
        clip = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=[
                datasets.Features({"text_embeds": embedding, "positives": clip}),
                datasets.Features({"text_embeds": embedding, "positives": datasets.Sequence(clip)}),
            ],
        )

    def _compute(self, text_embeds: Any, positives: Any, audio_embeds: Any = None) -> dict[str, float]:
        if audio_embeds is None:
            raise ValueError("The clips are missing: pass them once, as in `compute(audio_embeds=...)`.")
        if len({len(embedding) for embedding in text_embeds}) > 1:
            raise ValueError(
                "The rows of `text_embeds` differ in length: every caption needs an embedding of the same size."
            )
        return retrieval_metrics(audio_embeds, np.asarray(text_embeds, np.float32), positives)
