"""Hyperparameter search: every trial is a run of its own, with its own arguments and folder."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from transformers.trainer_callback import CallbackHandler, ExportableState

from modeling_atri.hub_cards.figures import BEST_MODEL_FIGURE, is_lower_better

from ..arguments import AtriTrainingArguments


# Options that rows, processor, caches and output were set up with. They are the same in all trials.
_FIXED = {
    *("output_dir", "languages", "group_column", "on_bad_row", "feature_cache_dir", "feature_cache_dtype"),
    *("feature_cache_max_gb", "text_cache_dir", "push_to_hub"),
    *("report_to", "disable_tqdm", "use_cpu", "bf16", "fp16", "resume_from_checkpoint"),
}


def check_search(
    args: AtriTrainingArguments, has_model_init: bool, eval_dataset: Any, backend: Any, num_jobs: int
) -> None:
    """Raise a ValueError unless a search can be made, before its first trial."""
    if not has_model_init:
        raise ValueError(
            "A search makes a new model for each trial: pass `model_init`, a function that returns the model, in "
            "place of `model`."
        )
    if eval_dataset is None:
        raise ValueError("A search compares evaluations: pass an `eval_dataset`.")
    if backend is not None and str(getattr(backend, "value", backend)) != "optuna":
        raise ValueError(f"`backend` must be 'optuna' or None; got {backend!r}.")
    if find_spec("optuna") is None:
        raise ValueError("A search needs the package optuna. Run `pip install optuna`.")
    if num_jobs != 1:
        raise ValueError(f"`n_jobs` must be 1, because all trials share one trainer; got {num_jobs!r}.")
    if args.push_to_hub:
        raise ValueError(
            "Every trial would be pushed to the same repository. Search with `push_to_hub=False`, and push the model "
            "that is trained with the best hyperparameters."
        )


def default_objective(
    args: AtriTrainingArguments, eval_dataset: Any, direction: Any
) -> tuple[Callable[[Mapping[str, float]], float], str]:
    """The figure that chooses the best model, as a function of an evaluation's figures, and whether to maximise it."""
    name = args.metric_for_best_model or BEST_MODEL_FIGURE
    if isinstance(eval_dataset, dict) and args.metric_for_best_model is None:
        raise ValueError(
            "There are several evaluation sets: name the figure to compare in `metric_for_best_model`, or pass "
            "`compute_objective`."
        )
    key = f"eval_{name.removeprefix('eval_')}"
    best = "minimize" if is_lower_better(key.removeprefix("eval_")) else "maximize"
    if direction not in (None, best):
        raise ValueError(
            f"`direction` {direction!r} would choose the worst trial by {key}. Leave it out, or pass "
            "`compute_objective`."
        )
    return (lambda figures: figures[key]), best


def trial_arguments(args: AtriTrainingArguments, chosen: Mapping[str, Any], folder: str) -> AtriTrainingArguments:
    """The arguments of a trial, checked like all arguments.

    Args:
        args: Arguments of the search, which stay as they are.
        chosen: The hyperparameters of the trial by name.
        folder: Output folder of the trial.

    Raises:
        ValueError: A name is no argument or the same in all trials, or a value does not fit.
    """
    known = {field.name for field in fields(args)}
    for name in chosen:
        if name in _FIXED:
            raise ValueError(f"`{name}` is the same in all trials of a search; leave it out of `hp_space`.")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"`hp_space` returns {name!r}, which is no argument of AtriTrainingArguments.{guess} What belongs to "
                "the model is suggested in `model_init(trial)`."
            )
    return replace(args, **chosen, output_dir=folder)


def callback_attributes(handler: CallbackHandler) -> list[tuple[ExportableState, dict[str, Any]]]:
    """The callbacks that keep a state between steps, such as `EarlyStoppingCallback`, and their attributes."""
    stateful = [callback for callback in handler.callbacks if isinstance(callback, ExportableState)]
    return [(callback, dict(callback.state()["attributes"])) for callback in stateful]
