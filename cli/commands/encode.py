"""`atri encode`: embed a folder of sounds."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modeling_atri.bounds import option
from modeling_atri.hub_cards.tables import counted
from modeling_atri.pretrained.loading import load_model
from modeling_atri.sources import path_advice

from ..loading import check_device
from ..options import parse_options
from ..outputs import check_output_folder
from ..printing.summaries import figures_table, print_failures, print_other_files


if TYPE_CHECKING:
    from modeling_atri.encode.folder import FolderSummary


DESCRIPTION = """\
Embed every sound file below FOLDER and write the embeddings to OUT, as parquet files with ids (paths below FOLDER)
and vectors. Run the command again after a stop, or when sounds were added, changed or removed. It then encodes only
new and changed files.

examples:
  atri encode sounds/ embeddings/ --model runs/first
  atri encode sounds/ embeddings/ --model runs/first --format npy --batch_size 64 --device cuda

With a launcher, all devices of a machine share the files, and the result is that of one process:
  torchrun --nproc_per_node 4 -m modeling_atri.cli.main encode sounds/ embeddings/ --model runs/first

In Python, `ids, audio = modeling_atri.embedding_store.load_embeddings("embeddings/")` reads the result.
"""


@dataclass
class EncodeArguments:
    """Options of `atri encode`."""

    folder: str = field(
        metadata={
            "help": "Folder of sound files, searched with all folders below it and those that links lead to.",
            "positional": True,
        }
    )
    out: str = field(metadata={"help": "Folder for the embeddings.", "positional": True})
    model: str = field(metadata={"help": "Folder or Hub id of the model."})
    format: str = option(
        "parquet",
        "`npy` also gathers all parts at the end in embeddings.npy and ids.json.",
        choices=["parquet", "npy"],
    )
    batch_size: int = option(16, "Clips of up to 10 s per forward pass.")
    device: str | None = option(
        None,
        "Device to compute on, such as cpu or cuda. Default: cpu; of several processes that `torchrun` or `accelerate "
        "launch` starts, each has a GPU of its own if there are GPUs.",
    )
    on_error: str = option(
        "skip",
        "For a file that cannot be read, or a folder that cannot be searched: `skip` lists it in "
        "OUT/failures.jsonl, `raise` ends the run.",
        choices=["skip", "raise"],
    )
    pad_short: bool = option(False, "Pad sounds below 0.15 s instead of refusing them.")
    num_workers: int | None = option(None, "Threads that decode. Default: one for each core except one, at most 16.")
    part_size: int = option(1000, "Files per part. A stopped run loses at most one part.")


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (EncodeArguments,), DESCRIPTION, "atri encode")
    encode(args)


def encode(args: EncodeArguments) -> "FolderSummary":
    """Load the model, encode new and changed files, and print a summary. Launched processes share the work."""
    from modeling_atri.encode.folder import FAILURES_NAME, encode_folder
    from modeling_atri.processes import device_of_process, launched_processes, main_first, process_rank

    if not Path(args.folder).is_dir():  # before the model is loaded
        raise ValueError(f"There is no folder {args.folder!r}. {path_advice(args.folder)}".rstrip())
    check_output_folder(args.out)
    options = {name: value for name, value in asdict(args).items() if name not in ("model", "device")}
    with launched_processes():
        device = device_of_process(args.device)
        check_device(device)
        model, processor = main_first(lambda: load_model(args.model))
        summary = encode_folder(model.to(device), processor, model_name=args.model, progress=True, **options)
        if process_rank() != 0:
            return summary
    print(summary_table(summary))
    print_failures(summary.failures, str(Path(args.out, FAILURES_NAME)))
    print_other_files(summary.other_files)
    if summary.num_clips == 0:
        raise ValueError(f"None of the sounds could be read ({counted(len(summary.failures), 'failure')}).")
    return summary


def summary_table(summary: "FolderSummary") -> str:
    """A table with one row of figures."""
    rate = summary.num_encoded / summary.seconds if summary.seconds else 0.0
    figures = {
        "clips": summary.num_clips,
        "encoded": summary.num_encoded,
        **({"moved": summary.num_moved} if summary.num_moved else {}),
        "dropped": summary.num_dropped,
        "failed": len(summary.failures),
        "hours": f"{summary.hours:.2f}",
        "clips/s": f"{rate:.1f}",
    }
    return figures_table(figures)
