"""Measurements of a model while it trains."""

import time
from typing import Any

from transformers import TrainerCallback

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.evaluation import RetrievalSet, retrieval_table


METRICS = ("mean_text_to_audio_R@1", "mean_text_to_audio_R@10", "mean_audio_to_text_R@1", "mrv")


class Curve(TrainerCallback):
    """Measures retrieval every so many steps, without any effect on the run.

    Args:
        trainer: the trainer.
        scenes: the scenes of the evaluation.
        every: steps between two measurements. With None, nothing is measured.

    Attributes:
        points: for each measurement, the step, CPU seconds of training up to it, and `METRICS`.
        cpu_seconds: CPU seconds of all measurements, which are no part of the training time.
    """

    def __init__(self, trainer: AtriTrainer, scenes: RetrievalSet, every: int | None):
        self.trainer = trainer
        self.scenes = scenes
        self.every = every
        self.points: list[dict[str, float]] = []
        self.cpu_seconds = 0.0
        self._began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._began = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure if it is time."""
        if self.every is None or state.global_step % self.every:
            return
        began = time.process_time()
        trained = began - self._began - self.cpu_seconds
        table = retrieval_table(self.trainer.embed(self.scenes), self.scenes.positives, next(iter(ATRI_LANGUAGES)))
        measured = {name: table[name] for name in METRICS}
        self.points.append({"step": state.global_step, "cpu_seconds": round(trained, 1)} | measured)
        self.cpu_seconds += time.process_time() - began
