"""`atri encode`: a folder of sounds to embeddings on disk."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..loading import check_device, load_model
from ..options import parse_options


if TYPE_CHECKING:
    from modeling_atri.encode.folder import FolderSummary


DESCRIPTION = """\
Embed every sound file below FOLDER and keep the embeddings in OUT, as parquet files of ids (paths below FOLDER) and
vectors. Run it again after a stop, or when sounds were added, changed or removed: only what is new is encoded.

examples:
  atri encode sounds/ embeddings/ --model runs/first
  atri encode sounds/ embeddings/ --model runs/first --format npy --batch_size 64 --device cuda

In Python, `ids, audio = modeling_atri.embedding_store.load_embeddings("embeddings/")` reads them back.
"""


@dataclass
class EncodeArguments:
    """Options of `atri encode`."""

    folder: str = field(metadata={"help": "Folder of sound files, with all below it.", "positional": True})
    out: str = field(metadata={"help": "Folder for the embeddings.", "positional": True})
    model: str = field(metadata={"help": "Folder or Hub id of the model."})
    format: str = field(
        default="parquet",
        metadata={
            "help": "npy also gathers all parts, at the end, in embeddings.npy and ids.json.",
            "choices": ["parquet", "npy"],
        },
    )
    batch_size: int = field(default=16, metadata={"help": "Clips of up to 10 s in a forward pass."})
    device: str = field(default="cpu", metadata={"help": "Where to compute, e.g. cpu or cuda."})
    on_error: str = field(
        default="skip",
        metadata={
            "help": "A file that cannot be read is listed in OUT/failures.jsonl, or ends the run.",
            "choices": ["skip", "raise"],
        },
    )
    pad_short: bool = field(default=False, metadata={"help": "Pad sounds below 0.15 s; else they cannot be read."})
    num_workers: int | None = field(
        default=None, metadata={"help": "Threads that decode. Default: one for each core but one, 16 at most."}
    )
    part_size: int = field(default=1000, metadata={"help": "Files written at once: what a stop can lose."})


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (EncodeArguments,), DESCRIPTION, "atri encode")
    encode(args)


def encode(args: EncodeArguments) -> "FolderSummary":
    """Load the model, encode what is new, print what was done."""
    from modeling_atri.encode.folder import FAILURES_NAME, encode_folder

    check_device(args.device)
    if not Path(args.folder).is_dir():  # told before the model is loaded
        raise ValueError(f"There is no folder {args.folder!r}.")
    model, processor = load_model(args.model)
    summary = encode_folder(
        model.to(args.device),
        processor,
        args.folder,
        args.out,
        model_name=args.model,
        format=args.format,
        batch_size=args.batch_size,
        part_size=args.part_size,
        pad_short=args.pad_short,
        on_error=args.on_error,
        num_workers=args.num_workers,
        progress=True,
    )
    print(summary_table(summary))
    if summary.failures:
        print(f"{Path(args.out, FAILURES_NAME)} says what is wrong with the {len(summary.failures)} that failed.")
    if summary.num_clips == 0:
        raise ValueError(f"None of the {len(summary.failures)} files could be read.")
    return summary


def summary_table(summary: "FolderSummary") -> str:
    """One row of figures under their names."""
    rate = summary.num_encoded / summary.seconds if summary.seconds else 0.0
    figures = {
        "clips": summary.num_clips,
        "encoded": summary.num_encoded,
        "dropped": summary.num_dropped,
        "failed": len(summary.failures),
        "hours": f"{summary.hours:.2f}",
        "clips/s": f"{rate:.1f}",
    }
    widths = [max(len(name), len(str(value))) for name, value in figures.items()]
    rows = (figures, figures.values())
    return "\n".join("  ".join(str(item).rjust(w) for item, w in zip(row, widths, strict=True)) for row in rows)
