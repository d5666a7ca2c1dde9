"""The checkpoint to resume and the data of a run, for all commands that train."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .loading import open_embeddings
from .outputs import check_output_folder


if TYPE_CHECKING:
    from datasets import Dataset

    from modeling_atri.corpora.rows.bad_rows import BadRow
    from modeling_atri.trainer.arguments import AtriTrainingArguments
    from modeling_atri.trainer.trainer import AtriTrainer


class RunData(NamedTuple):
    """The rows of a run, and the rows that were left out of each set, by `"train"` and `"eval"`.

    The rows to train on are a `datasets.Dataset`, or a `RowStream`.
    """

    train: Any
    eval: "Dataset | None"
    left_out: "dict[str, list[BadRow]]"

    def tell(self, trainer: "AtriTrainer") -> None:
        """Add the rows that were left out to those of the trainer."""
        for name, found in self.left_out.items():
            trainer.left_out[name] += found


def checkpoint_to_resume(args: "AtriTrainingArguments") -> str | None:
    """The checkpoint that `--resume_from_checkpoint` names, after a check of the output folder.

    Raises:
        ValueError: the output folder cannot be used, or there is no such checkpoint.
    """
    from modeling_atri.processes import told_by_main
    from modeling_atri.trainer.run.checkpoints import checkpoints, resolve_checkpoint

    folder = Path(str(args.output_dir))
    check_output_folder(str(folder))
    # As in Trainer, `true` means the last checkpoint in the output folder.
    name = args.resume_from_checkpoint
    wanted = {"true": True, "false": None}.get(str(name).lower(), name)

    def find() -> str | None:
        if str(name).lower() == "auto":
            return resolve_checkpoint(True, folder) if checkpoints(folder) else None
        return resolve_checkpoint(wanted, folder)

    return told_by_main(find)


def load_run_data(data: Any, args: "AtriTrainingArguments", needs_sound: bool = True) -> RunData:
    """Load the rows that the options `train_data`, `eval_data`, their splits and `audio_embeddings` name.

    With the option `streaming`, the rows to train on are a stream. With `needs_sound=False`, they may be captions
    alone.
    """
    from modeling_atri.corpora.rows.load import load_rows_together
    from modeling_atri.corpora.streams import open_streams

    options: dict[str, Any] = {
        "languages": args.languages,
        "group_column": args.group_column,
        "audio_embeddings": open_embeddings(data.audio_embeddings, data.embedding_columns),
    }
    left_out: dict[str, list[BadRow]] = {"train": [], "eval": []}
    takers = left_out if args.on_bad_row == "skip" else dict.fromkeys(left_out)
    if getattr(data, "streaming", False):
        train = open_streams(
            *(data.train_data, data.train_split),
            weights=data.data_weights,
            num_rows=data.num_rows,
            needs_sound=needs_sound,
            **options,
        )
    else:
        (source,) = [data.train_data] if isinstance(data.train_data, str) else data.train_data
        train = load_rows_together(
            source, data.train_split, left_out=takers["train"], needs_sound=needs_sound, **options
        )
    evaluation = None
    if data.eval_data:
        evaluation = load_rows_together(data.eval_data, data.eval_split, left_out=takers["eval"], **options)
    return RunData(train, evaluation, left_out)
