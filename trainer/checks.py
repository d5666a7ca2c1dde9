"""What a training run is refused for before it starts."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import datasets
from accelerate import DistributedType

from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from .arguments import AtriTrainingArguments, figure_names
from .data.rows import load_rows


def checked_rows(rows: Any, args: AtriTrainingArguments) -> Any:
    """Rows as they are trained on: those of a `datasets.Dataset` read by `load_rows`, others as they are.

    Args:
        rows: rows, a dict of them by name, or None.
        args: with the languages that all of them need, and `group_column`.

    Raises:
        ValueError: faulty rows; a `group_column` of other rows than a data set's.
    """
    if isinstance(rows, dict):
        return {name: checked_rows(part, args) for name, part in rows.items()}
    if isinstance(rows, datasets.Dataset):
        return load_rows(rows, languages=args.languages, group_column=args.group_column)
    if rows is not None and args.group_column is not None:
        raise ValueError(
            f"`group_column` ({args.group_column!r}) is read from a `datasets.Dataset`; a {type(rows).__name__} of "
            "rows says it as `group_id`. Leave `group_column` out, or pass a `datasets.Dataset`."
        )
    return rows


def check_tokenizer(processor: AtriProcessor, model: AtriModel, languages: Sequence[str]) -> None:
    """Raise a ValueError unless the tokenizer has all languages and no more tokens than the model."""
    for language in languages:
        processor.language_id(language)  # raises where there is none
    num_tokens, num_rows = len(processor.tokenizer), model.get_input_embeddings().num_embeddings
    if num_tokens > num_rows:
        raise ValueError(
            f"The tokenizer has {num_tokens} tokens, the model embeddings for only {num_rows}: they do not belong "
            "together. Use the processor that was saved with the model."
        )


def check_engine(num_gpus: int, engine: DistributedType) -> None:
    """Raise a ValueError for engines that the losses and the exact step would go wrong in."""
    if num_gpus > 1:
        raise ValueError(
            "DataParallel splits a batch after its negatives were counted, so the loss would be wrong. Start one "
            "process a GPU (accelerate launch or torchrun), or make one GPU visible (CUDA_VISIBLE_DEVICES=0)."
        )
    if engine not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise ValueError(
            "The losses read the logit scale beside the model's forward pass, and the language-by-language step "
            f"sums gradients itself: neither works under {engine.value}. Use one process or plain data parallel "
            "processes (torchrun)."
        )


def check_best_metric(args: AtriTrainingArguments, eval_dataset: Any) -> None:
    """Raise a ValueError unless the figure that the best model is chosen by is one of the evaluation sets'."""
    metric = args.metric_for_best_model
    if metric is None or eval_dataset is None:
        return
    known, sets = figure_names(args.languages), "one set without a name"
    if isinstance(eval_dataset, dict):
        known = [f"{name}_{figure}" for name in eval_dataset for figure in known]
        sets = f"the sets {', '.join(eval_dataset)}"
    name = metric.removeprefix("eval_")
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)
        raise ValueError(
            f"`metric_for_best_model` {metric!r} is no figure of `eval_dataset`, which has {sets}. Name one that is, "
            f"such as {' '.join(near)}."
        )
