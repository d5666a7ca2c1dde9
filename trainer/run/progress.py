"""What a person sees while a model trains."""

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback


# Of the hundred figures of an evaluation, those that fit on a line; all of them are in the results file.
_SHOWN = ("mean_text_to_audio_R@1", "mean_text_to_audio_R@10", "mean_audio_to_text_R@1", "mrv")


class BriefProgressCallback(ProgressCallback):
    """Progress bar whose evaluations are one line."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=brief(logs), **kwargs)


class BriefPrinterCallback(PrinterCallback):
    """Printed logs whose evaluations are one line; used where the progress bar is off."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=brief(logs), **kwargs)


def brief(logs: dict[str, float] | None) -> dict[str, float]:
    """Logs as they are, but of an evaluation only the headline figures."""
    logs = logs or {}
    if not any(key.endswith(_SHOWN[0]) for key in logs):
        return logs
    return {key: value for key, value in logs.items() if key.endswith((*_SHOWN, "epoch"))}


def brief_callback(disable_tqdm: bool) -> tuple[type[TrainerCallback], type[TrainerCallback]]:
    """The Trainer's own callback for logs, and the one to put in its place."""
    return (PrinterCallback, BriefPrinterCallback) if disable_tqdm else (ProgressCallback, BriefProgressCallback)
