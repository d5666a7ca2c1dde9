"""What a training run is refused for before it starts."""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import datasets

from modeling_atri.corpora.rows.bad_rows import BadRow
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.rows.recordings import count_longer
from modeling_atri.hub_cards.figures import figure_names
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from ..arguments import AtriTrainingArguments


logger = logging.getLogger(__name__)


def checked_rows(rows: Any, args: AtriTrainingArguments, name: str, left_out: dict[str, list[BadRow]]) -> Any:
    """Rows as they are trained on: those of a `datasets.Dataset` read by `load_rows`, others as they are.

    Args:
        rows: rows, a dict of them by name, or None.
        args: with the languages that all of them need, `group_column`, and `on_bad_row`.
        name: of the set; of those in a dict it goes before their own.
        left_out: takes what is left out of each set, by name.

    Raises:
        ValueError: faulty rows; a `group_column` of other rows than a data set's.
    """
    if isinstance(rows, dict):
        return {part: checked_rows(rows[part], args, f"{name}_{part}", left_out) for part in rows}
    left_out[name] = []
    if isinstance(rows, datasets.Dataset):
        found = left_out[name] if args.on_bad_row == "skip" else None
        return load_rows(rows, languages=args.languages, group_column=args.group_column, left_out=found)
    if rows is not None and args.group_column is not None:
        raise ValueError(
            f"`group_column` ({args.group_column!r}) is read from a `datasets.Dataset`; a {type(rows).__name__} of "
            "rows says it as `group_id`. Leave `group_column` out, or pass a `datasets.Dataset`."
        )
    return rows


def report_excerpts(rows: Any, args: AtriTrainingArguments) -> None:
    """Say once how many training clips `max_audio_seconds` shortens, as far as their headers were read."""
    if not isinstance(rows, datasets.Dataset) or args.max_audio_seconds is None:
        return
    if count := count_longer(rows, args.max_audio_seconds):
        logger.warning(
            "%d of %d training clips are longer than %g s: each epoch takes a random part of that length of them "
            "(`max_audio_seconds`). Evaluation takes them whole.",
            count,
            len(rows),
            args.max_audio_seconds,
        )


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
