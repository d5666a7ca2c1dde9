"""Measurements of `atri teach`: the teacher's recall, or the cosine of captions to the teacher's embeddings."""

from typing import TYPE_CHECKING, Any

import numpy as np

from modeling_atri.encode.encoding import encode_text
from modeling_atri.trainer.metrics import retrieval_metrics
from modeling_atri.trainer.teach.taught_rows import captions_in, teacher_vectors
from modeling_atri.trainer.teach.teachers import Teacher
from modeling_atri.trainer.trainer import AtriTrainer


if TYPE_CHECKING:
    from datasets import Dataset

    from modeling_atri.trainer.arguments import AtriTrainingArguments
    from modeling_atri.trainer.evaluation.retrieval import RetrievalEmbeddings, RetrievalSet


_MAX_HELD_BACK = 500  # distinct captions, on which the cosine to the teacher is measured


class Measure:
    """Measures the teacher's recall on the evaluation data, or the cosine to the teacher on held-back captions."""

    def __init__(self, trainer: AtriTrainer, teacher: Teacher | None):
        self.trainer, self.teacher, self.anchor = trainer, teacher, trainer.args.anchor_language

    def take_recall(self, prefix: str, retrieval_set: "RetrievalSet", embeddings: "RetrievalEmbeddings") -> None:
        """Record the teacher's recall, once, because the frozen audio side does not change."""

        if self.teacher is None or "teaching" in self.trainer.facts:
            return
        texts = self.teacher.encode(retrieval_set.captions[self.anchor])
        metrics = retrieval_metrics(embeddings.audio, texts, retrieval_set.positives)
        self.trainer.facts["teaching"] = {"teacher_recall": metrics["text_to_audio_R@1"]}

    def take_cosines(self, held_back: "Dataset") -> None:
        """Record, for each language, the mean cosine of the captions to the teacher's embeddings."""

        model, processor, args = self.trainer.atri_model, self.trainer.processor, self.trainer.args
        targets = np.concatenate([self._targets(row) for row in held_back])
        cosines = {}
        for code in args.languages:
            captions = list(captions_in(held_back, code))
            texts = encode_text(model, processor, captions, code, batch_size=args.per_device_eval_batch_size)
            cosines[code] = float((texts * targets).sum(axis=1).mean())
        self.trainer.facts["teaching"] = {"held_back_captions": len(targets), "held_back_cosine": cosines}

    def _targets(self, row: dict[str, Any]) -> np.ndarray:
        captions = row["captions"][self.anchor]
        if self.teacher is not None:
            return self.teacher.encode(captions)
        vectors = teacher_vectors(row)
        return np.broadcast_to(vectors, (len(captions), vectors.shape[1]))


def hold_back(rows: "Dataset", args: "AtriTrainingArguments") -> "tuple[Dataset, Dataset | None]":
    """Split the rows into training rows and, if there are enough, rows to measure on, without common captions."""
    first = [captions[args.anchor_language][0] for captions in rows.with_format(None)["captions"]]
    texts = list(dict.fromkeys(first))
    count = min(_MAX_HELD_BACK, len(texts) // 20)
    if count == 0:
        return rows, None
    chosen = {texts[place] for place in np.random.default_rng(args.seed).permutation(len(texts))[:count]}
    train = rows.select([place for place, text in enumerate(first) if text not in chosen])
    known = set(captions_in(train, args.anchor_language))
    held = rows.select([place for place, text in enumerate(first) if text in chosen])
    held = held.select(
        [place for place, row in enumerate(held) if known.isdisjoint(row["captions"][args.anchor_language])]
    )
    return train, held if len(held) else None
