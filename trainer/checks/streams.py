"""Check that a run can train, or be evaluated, on a stream."""

from typing import Any

import datasets

from modeling_atri.corpora.rows.bad_rows import BadRow
from modeling_atri.corpora.streams.opening import open_stream
from modeling_atri.corpora.streams.row_shards import RowStream

from ..arguments import AtriTrainingArguments
from ..data.streams.evaluation_rows import copy_stream
from ..data.streams.training_stream import TrainingStream
from ..objectives import find_objective


def is_stream(rows: Any) -> bool:
    """Whether rows come one after the other."""
    is_shards = hasattr(rows, "num_shards") and hasattr(rows, "open")
    return isinstance(rows, (datasets.IterableDataset, RowStream)) or is_shards


def training_stream(rows: Any, args: AtriTrainingArguments) -> TrainingStream:
    """Open a stream to train on.

    Raises:
        ValueError: The rows are faulty, or the arguments do not fit a stream.
    """
    teaches = find_objective(args.objective).has_teacher
    stream = _opened(rows, args, needs_sound=not teaches)
    found = TrainingStream(stream, args.language_draws.seed, skips_bad=args.on_bad_row == "skip")
    if stream.num_rows is None and args.max_steps <= 0:
        raise ValueError(
            f"The number of rows of {found.name} is not known, so `num_train_epochs` cannot be turned into steps. "
            "Set `max_steps`, or say how many rows there are: `open_streams([...], num_rows=...)`."
        )
    if not args.dataloader_in_order:
        raise ValueError(
            "`dataloader_in_order=False` trains on batches in the order in which workers happen to be ready, so a "
            "checkpoint could not say where to go on in the stream. Leave it out."
        )
    if teaches:
        _check_teaching(found, args)
    return found


def evaluation_rows(rows: Any, args: AtriTrainingArguments, left_out: list[BadRow] | None) -> datasets.Dataset:
    """Copy a stream of known size to a temporary file, as rows to evaluate on. Every evaluation uses all of them.

    Raises:
        ValueError: The number of rows is not known, or rows are faulty.
    """
    stream = _opened(rows, args, needs_sound=True)
    if stream.num_rows is None:
        raise ValueError(
            "Evaluation compares all clips of a set, but the number of rows of this stream is not known, and it may "
            "never end. Say how many rows there are: `open_streams([...], num_rows=...)`."
        )
    return copy_stream(stream, left_out)


def _opened(rows: Any, args: AtriTrainingArguments, needs_sound: bool) -> RowStream:
    if isinstance(rows, RowStream):
        stream = rows
    elif isinstance(rows, datasets.IterableDataset):
        shards = open_stream(rows, languages=args.languages, group_column=args.group_column, needs_sound=needs_sound)
        stream = RowStream((shards,))
    else:
        stream = RowStream((rows,))
    if missing := [code for code in args.languages if code not in stream.facts.languages]:
        raise ValueError(
            f"The stream was opened for captions in {', '.join(stream.facts.languages)}, but `languages` needs "
            f"{', '.join(missing)} too. Open it with all languages of the run."
        )
    if args.group_column not in (None, stream.facts.group_column):
        raise ValueError(
            f"`group_column` is {args.group_column!r}, but the stream was opened with {stream.facts.group_column!r}. "
            f"Open it with `group_column={args.group_column!r}`, or leave the argument out."
        )
    return stream


def _check_teaching(rows: TrainingStream, args: AtriTrainingArguments) -> None:
    """Refuse to teach if something would have to be computed for all rows before the first step."""
    reasons = []
    if not rows.facts.has_teacher:
        reasons.append("the teacher embeds all captions: add its vectors to the rows as `teacher_embedding`")
    if args.hold_languages:
        reasons.append("the captions in `hold_languages` are embedded: leave it out")
    if rows.facts.has_audio and args.teach_audio != "none":
        reasons.append("all recordings are embedded: set `teach_audio` to 'none', or stream their embeddings")
    if reasons:
        raise ValueError(
            f"{args.objective} cannot train on this stream, because before the first step {'; '.join(reasons)}. "
            "Otherwise load the rows without streaming."
        )
