"""Checks of rows, tokenizer and metrics before a run starts."""

import logging
import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from modeling_atri.corpora.rows.bad_rows import BadRow
from modeling_atri.corpora.rows.load import check_rows
from modeling_atri.corpora.rows.plain_rows import CheckedRows
from modeling_atri.corpora.rows.recordings import count_longer
from modeling_atri.hub_cards.figures import figure_names
from modeling_atri.long_sounds_atri import LONG_SECONDS
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from ..arguments import AtriTrainingArguments
from ..data.streams.training_stream import TrainingStream
from ..data.unknown_captions import sample_captions, warn_of_unknown_captions
from ..objectives import find_objective
from .streams import evaluation_rows, is_stream, training_stream


logger = logging.getLogger(__name__)


def checked_rows(rows: Any, args: AtriTrainingArguments, name: str, left_out: dict[str, list[BadRow]]) -> Any:
    """Check rows of any kind, as `load_rows` does. Rows to train on need no sound if the objective has a teacher.

    Args:
        rows: Rows, a dict of several sets, whose names then begin with `name`, or None.
        args: Arguments of the run.
        name: `"train"`, which must be one set, or another name.
        left_out: Receives the rows that are left out, by the name of their set.

    Raises:
        ValueError: Rows are faulty, or there are several sets to train on.
    """
    if isinstance(rows, dict) and name == "train":
        if len(rows) != 1:
            example = f"data[{next(iter(rows), 'train')!r}]"
            raise ValueError(
                f"`train_dataset` is a {type(rows).__name__} of {len(rows)} sets ({', '.join(map(str, rows))}), but a "
                f"run trains on one. Pass one of them, such as `{example}`, or join them with "
                "`datasets.concatenate_datasets`."
            )
        (rows,) = rows.values()
    if isinstance(rows, dict):
        return {part: checked_rows(rows[part], args, f"{name}_{part}", left_out) for part in rows}
    left_out[name] = []
    if rows is None:
        return None
    found = left_out[name] if args.on_bad_row == "skip" else None
    group_column = args.group_column
    if is_stream(rows):
        if name == "train":
            return training_stream(rows, args)
        rows, group_column = evaluation_rows(rows, args, found), None  # its groups are in the column `group_id` now
    elif name == "train" and args.shuffle_buffer is not None:
        raise ValueError(
            "`shuffle_buffer` is for streams: the training rows are not streamed, and all of them are shuffled "
            "together. Leave it out."
        )
    needs_sound = name != "train" or not find_objective(args.objective).has_teacher
    return check_rows(rows, args.languages, group_column=group_column, left_out=found, needs_sound=needs_sound)


def report_excerpts(rows: Any, args: AtriTrainingArguments) -> None:
    """Warn how many training clips `max_audio_seconds` shortens, or how many long ones it does not shorten.

    The lengths of streams are not known.
    """
    if rows is None or isinstance(rows, TrainingStream) or find_objective(args.objective).has_teacher:
        return
    limit = math.inf if args.max_audio_seconds is None else args.max_audio_seconds
    takes_whole = limit == math.inf
    seconds = LONG_SECONDS if takes_whole else limit
    count = rows.count_longer(seconds) if isinstance(rows, CheckedRows) else count_longer(rows, seconds)
    if count and takes_whole:
        logger.warning(
            "%d of %d training clips are longer than %d s, and `max_audio_seconds` shortens none. A batch needs "
            "memory for all its clips at the length of the longest. If it does not suffice, set `max_audio_seconds`, "
            "such as to 30: each epoch then uses a random part of that length.",
            count,
            len(rows),
            seconds,
        )
    elif count:
        logger.warning(
            "%d of %d training clips are longer than %g s (`max_audio_seconds`): each epoch uses a random part of "
            "that length. Evaluation uses the whole clips.",
            count,
            len(rows),
            args.max_audio_seconds,
        )


def report_captions(sets: Iterable[Any], processor: AtriProcessor, args: AtriTrainingArguments) -> None:
    """Warn of the captions in several sets of checked rows of which the tokenizer knows nothing."""
    looked_at = [rows.sample if isinstance(rows, TrainingStream) else rows for rows in sets if rows is not None]
    samples = [sample_captions(rows, args.languages) for rows in looked_at]
    if args.process_index == 0:
        joined = {code: [text for sample in samples for text in sample[code]] for code in args.languages}
        warn_of_unknown_captions(processor, joined)


def check_tokenizer(processor: AtriProcessor, model: AtriModel, languages: Sequence[str]) -> None:
    """Raise a ValueError unless the tokenizer has all languages and no more tokens than the model.

    Captions are limited to what the text tower takes.
    """
    processor.limit_text_length(model.max_text_tokens)
    for language in languages:
        processor.language_id(language)  # raises where there is none
    num_tokens, num_rows = len(processor.tokenizer), model.get_input_embeddings().num_embeddings
    if num_tokens > num_rows:
        raise ValueError(
            f"The tokenizer has {num_tokens} tokens, the model embeddings for only {num_rows}: they do not belong "
            "together. Use the processor that was saved with the model."
        )


def check_best_metric(args: AtriTrainingArguments, eval_dataset: Any) -> None:
    """Raise a ValueError unless `metric_for_best_model` is a figure of an evaluation set."""
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
            f"`metric_for_best_model` {metric!r} is no figure of `eval_dataset`, which has {sets}. Use another, such "
            f"as {' '.join(near)}."
        )
