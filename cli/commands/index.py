"""`atri index`: an index of a folder of sounds, kept up to date."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_atri.bounds import Count, Positive, PositiveCount, check_options, option
from modeling_atri.hub_cards.tables import counted
from modeling_atri.sources import path_advice

from ..loading import check_device
from ..options import parse_options
from ..outputs import check_output_folder
from ..printing.summaries import figures_table, print_failures, print_other_files


if TYPE_CHECKING:
    from modeling_atri.search import IndexSummary, RayEngine, SoundIndex


DESCRIPTION = """\
Make an index of every sound file below SOUNDS, so that `atri search` and `atri serve` find sounds by text, by sound,
or by both. Run the command again after a stop, or when sounds were added, changed, moved or removed. It then encodes
only what is new. Long recordings are indexed in windows, so that a search finds the moment too.

examples:
  atri index sounds/ sounds.index --model runs/first
  atri index sounds/ sounds.index
  atri index sounds/ sounds.index --columns tags.csv
  atri index sounds/ sounds.index --watch

The index notes its model, so that later runs need no --model. SOUNDS can also be a folder that `atri encode` wrote:
its embeddings are taken over, and nothing is encoded. SOUNDS and INDEX can be on object storage, such as
s3://bucket/sounds. `torchrun --nproc_per_node 4 -m modeling_atri.cli.main index ...` encodes on four GPUs, and
`--engine ray` on many machines.
"""


@dataclass
class IndexArguments:
    """Options of `atri index`."""

    sounds: str = field(
        metadata={
            "help": "Folder of sound files, searched with all folders below it and those that links lead to; or "
            "embeddings that `atri encode` wrote.",
            "positional": True,
        }
    )
    index: str = field(
        metadata={"help": "Folder or address of the index. It is made if it does not exist.", "positional": True}
    )
    model: str | None = option(None, "Folder or Hub id of the model. Default: the one that the index notes.")
    columns: str | None = option(
        None,
        "File with facts of the sounds (tags, licence, place ...), which become columns to filter by: .jsonl or .csv "
        "with the path of each sound. Default: metadata.jsonl or metadata.csv in SOUNDS, if there is one.",
    )
    window_s: Positive | None = option(
        None, "Length of a window in seconds. Default: the length that the model takes."
    )
    hop_s: Positive | None = option(None, "Seconds between the starts of two windows. Default: half a window.")
    batch_size: PositiveCount = option(16, "Windows per forward pass.")
    device: str | None = option(
        None,
        "Device to compute on, such as cpu or cuda. Default: cpu; of several processes that `torchrun` or `accelerate "
        "launch` starts, each has a GPU of its own if there are GPUs.",
    )
    on_error: str = option(
        "skip",
        "For a file that cannot be read, or a folder that cannot be searched: `skip` lists it and goes on, `raise` "
        "ends the run. Every run tries these files again.",
        choices=["skip", "raise"],
    )
    pad_short: bool = option(False, "Pad sounds below 0.15 s instead of refusing them.")
    num_workers: Count | None = option(
        None,
        "Threads that decode. Default: one for each core except one, at most 16. With `--engine ray`, the workers of "
        "Ray. Default: one for each GPU with `--device cuda`, otherwise one for every four cores.",
    )
    engine: str = option(
        "local",
        "`ray` encodes with workers of Ray, on this machine or on a cluster, which need the extra `ray`.",
        choices=["local", "ray"],
    )
    address: str | None = option(
        None, "Address of a cluster of Ray that runs, such as auto or 10.0.0.1:6379. Default: this machine."
    )
    storage_options: list[str] | None = option(
        None,
        "How to reach object storage, as NAME=VALUE: endpoint, region, access_key_id, secret_access_key and others. "
        "Default: the environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID ...), which keeps keys out of the "
        "list of processes.",
    )
    watch: bool = option(
        False, "Keep running, and index what is added, changed or removed within seconds, until you press Ctrl-C."
    )


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (IndexArguments,), DESCRIPTION, "atri index")
    index_sounds(args)


def index_sounds(args: IndexArguments) -> "IndexSummary":
    """Open or make the index, add what is new, and print a summary. Processes that were launched share the work."""
    from modeling_atri.processes import launched_processes, main_first, process_rank

    check_options(args)
    if args.watch and (args.engine == "ray" or int(os.environ.get("WORLD_SIZE", "1")) > 1):
        raise ValueError(
            "`--watch` runs in one process. Index the sounds with several first, and then run `atri index --watch` "
            "without `--engine ray`, `torchrun` and `accelerate launch`."
        )
    options: dict[str, Any] = {
        name: getattr(args, name) for name in ("columns", "batch_size", "pad_short", "on_error")
    }
    if args.engine == "ray":
        options["engine"] = ray_engine(args)
    else:
        options["num_workers"] = args.num_workers
    with launched_processes():
        index = main_first(lambda: open_index(args))
        summary = index.add(args.sounds, progress=True, **options)
        if process_rank() != 0:
            return summary
    print(summary_table(summary))
    print_failures(summary.failures, f"`SoundIndex.open({args.index!r}).stats().failures`")
    print_other_files(summary.other_files)
    for note in summary.notes:
        print(note)
    if args.watch:
        watch(args, index)
    elif summary.num_sounds == 0:
        raise ValueError(f"None of the sounds could be read ({counted(len(summary.failures), 'failure')}).")
    return summary


def ray_engine(args: IndexArguments) -> "RayEngine":
    """The engine that the options describe.

    Raises:
        ValueError: they cannot be combined.
    """
    from modeling_atri.search.scale_out.ray_engine import RayEngine

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("`--engine ray` starts processes itself. Run it without `torchrun` or `accelerate launch`.")
    return RayEngine(args.num_workers, args.address, args.device or "cpu")


def watch(args: IndexArguments, index: "SoundIndex") -> None:
    """Follow the folder until the user interrupts it, and print a line for each change and a summary."""
    from modeling_atri.search.index.indexing import EncodeOptions
    from modeling_atri.search.index.watching import watch_folder

    def say(line: object) -> None:
        print(line, flush=True)

    say(f"Watching {args.sounds}. Press Ctrl-C to end.")
    options = EncodeOptions(args.batch_size, args.num_workers, args.pad_short)
    summary = watch_folder(index.tables, index.model.load, index.plan, args.sounds, options, args.columns, say, say)
    kinds = ", ".join(f"{number} {kind}" for kind, number in summary.num_changes.items()) or "no changes"
    say(f"Watched for {summary.seconds / 60:.1f} minutes: {kinds}.")


def open_index(args: IndexArguments) -> "SoundIndex":
    """Check the options, and open or make the index.

    A model that the index notes is only loaded if there is something to encode, so that a run that finds nothing new
    is fast. Any other model is loaded at once and compared with that of the index.
    """
    from modeling_atri.audio_io.discovery import search_folder
    from modeling_atri.processes import device_of_process
    from modeling_atri.search.index.from_store import is_store
    from modeling_atri.search.index.side_files import columns_file
    from modeling_atri.search.index.tables import IndexTables
    from modeling_atri.search.models import absolute_name
    from modeling_atri.search.object_storage import is_address, read_options
    from modeling_atri.search.sound_index import SoundIndex

    if args.address is not None and args.engine != "ray":
        raise ValueError("`--address` is that of a cluster of Ray. Add `--engine ray`, or leave it out.")
    is_folder = not is_address(args.sounds) and not is_store(args.sounds)
    if is_folder and not Path(args.sounds).is_dir():
        raise ValueError(f"There is no folder {args.sounds!r}. {path_advice(args.sounds)}".rstrip())
    if args.watch and (is_address(args.sounds) or is_store(args.sounds)):
        raise ValueError(f"`--watch` follows a folder of sounds on this machine, and {args.sounds!r} is none.")
    if args.columns is not None:
        columns_file(args.columns)
    storage = read_options(args.storage_options or ()) or None
    if storage and not (is_address(args.sounds) or is_address(args.index)):
        raise ValueError("`--storage_options` is for addresses such as s3://bucket/sounds, but both are folders.")
    exists = IndexTables.exist(args.index, storage)
    if not exists and args.model is None:
        raise ValueError(
            f"There is no index at {args.index!r} yet. Name the model that encodes the sounds with --model, a folder "
            "or a Hub id."
        )
    if not is_address(args.index):
        check_output_folder(args.index)
    if is_folder and not exists:
        search_folder(args.sounds)  # it raises an error if there is no sound
    device = "cpu" if args.engine == "ray" else device_of_process(args.device)
    if device != "cpu":
        check_device(device)
    model = args.model
    if exists and model is not None and absolute_name(model) == IndexTables.open(args.index, storage).facts.model:
        model = None
    return SoundIndex.open(args.index, model, None, args.window_s, args.hop_s, storage, device=device)


def summary_table(summary: "IndexSummary") -> str:
    """A table with one row of figures."""
    rate = summary.num_encoded / summary.seconds if summary.seconds else 0.0
    return figures_table(
        {
            "sounds": summary.num_sounds,
            "encoded": summary.num_encoded,
            "moved": summary.num_moved,
            "dropped": summary.num_dropped,
            "updated": summary.num_updated,
            "failed": len(summary.failures),
            "hours": f"{summary.hours:.2f}",
            "sounds/s": f"{rate:.1f}",
        }
    )
