"""Short logs of evaluations during training."""

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback


# Figures of an evaluation that fit on a line. The results file has all of them.
_SHOWN = ("mean_text_to_audio_R@1", "mean_text_to_audio_R@10", "mean_audio_to_text_R@1", "mrv")


class BriefProgressCallback(ProgressCallback):
    """Progress bar that shows an evaluation in one line."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=brief(logs), **kwargs)


class BriefPrinterCallback(PrinterCallback):
    """Printed logs that show an evaluation in one line, for runs without a progress bar."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=brief(logs), **kwargs)


def brief(logs: dict[str, float] | None) -> dict[str, float]:
    """Keep only the main figures of an evaluation. Other logs are unchanged."""
    logs = logs or {}
    if not any(key.endswith(_SHOWN[0]) for key in logs):
        return logs
    return {key: value for key, value in logs.items() if key.endswith((*_SHOWN, "epoch"))}


def brief_callback(disable_tqdm: bool) -> tuple[type[TrainerCallback], type[TrainerCallback]]:
    """Trainer's own callback for logs, and its replacement."""
    return (PrinterCallback, BriefPrinterCallback) if disable_tqdm else (ProgressCallback, BriefProgressCallback)
