"""What a data loader needs to train on a stream."""

from accelerate.utils import gather_object

from modeling_atri.corpora.rows.lookup import EMBEDDING_COLUMN

from ...arguments import AtriTrainingArguments
from ..batches import steps_of
from .batches import StreamBatches
from .rows import HandedRows
from .training_stream import TrainingStream


SHUFFLE_BUFFER = 1000  # rows


def stream_batches(rows: TrainingStream, args: AtriTrainingArguments, batch_size: int, seed: int) -> StreamBatches:
    """The batches of this process.

    An epoch of Trainer has as many steps as for rows in memory. If the number of rows is not known, the whole run is
    one epoch of Trainer, in which the stream is read as often as it takes.

    Args:
        rows: The stream.
        args: Arguments of the run.
        batch_size: Number of rows of a batch of one process.
        seed: Seed of the draws.

    Raises:
        ValueError: A step has one row, or there are fewer rows than one step needs.
    """
    num_batches = args.max_steps * args.gradient_accumulation_steps
    if rows.num_rows is not None:
        num_batches = steps_of(rows.num_rows, batch_size, args.world_size, args.dataloader_drop_last, "row")
    return StreamBatches(
        rows.stream,
        num_batches,
        batch_size,
        seed,
        rank=args.process_index,
        world_size=args.world_size,
        drop_last=args.dataloader_drop_last,
        block_size=args.shuffle_buffer or SHUFFLE_BUFFER,
        mix_probability=args.mix_probability,
        gather=lambda value: gather_object([value]),
    )


def handed_rows(
    rows: TrainingStream, args: AtriTrainingArguments, seed: int, audio_term: str | None = None
) -> HandedRows:
    """What workers do with the rows of a batch. `audio_term` is that of the objective `teach`."""
    unused = [] if audio_term is None else ["audio"]  # the objective `teach` reads no recordings
    if audio_term == "none":
        unused.append(EMBEDDING_COLUMN)
    return HandedRows(seed, rows.reserve if args.on_bad_row == "skip" else None, unused)
