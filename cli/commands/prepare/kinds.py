"""`atri prepare`: turn public corpora into folders that `atri train` reads, and join and compare such folders."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...dispatch import Command, dispatch
from ...options import parse_options
from .checking import CheckArguments
from .corpora import (
    AudioCapsArguments,
    ClothoArguments,
    CorpusArguments,
    HubArguments,
    MlclapArguments,
    WavCapsArguments,
)
from .joining import JoinArguments
from .report import print_report


_DESCRIPTION = """\
Turn a corpus on your disk into a folder that `atri train --train_data` reads: a caption file for each language, and a
folder of recordings. Recordings stay where they are. Clips that are missing or broken, and captions that a language
lacks, are left out, counted in the report and listed in the folder.
"""

# Each class has the help, the options and the work of one task.
TASKS: dict[str, Any] = {
    "audiocaps": AudioCapsArguments,
    "clotho": ClothoArguments,
    "wavcaps": WavCapsArguments,
    "mlclap": MlclapArguments,
    "hub": HubArguments,
    "join": JoinArguments,
    "check": CheckArguments,
}


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    commands = {name: Command(task.summary, partial(_run, name)) for name, task in TASKS.items()}
    examples = [line for task in TASKS.values() for line in task.description.partition("example:\n")[2].splitlines()]
    return dispatch(argv, "atri prepare", "task", commands, _DESCRIPTION, "\n".join(["examples:", *examples]))


def parse(name: str, argv: Sequence[str]) -> Any:
    """Parse the options of a task."""
    task = TASKS[name]
    return parse_options(argv, (task,), task.description, f"atri prepare {name}")[0]


def _run(name: str, argv: Sequence[str]) -> None:
    arguments = parse(name, argv)
    if isinstance(arguments, CorpusArguments):
        prepare(arguments)
    else:
        arguments.run()


def prepare(args: CorpusArguments) -> None:
    """Read a corpus, write its folder and print the report."""
    from modeling_atri.corpora.folders.prepared import check_output
    from modeling_atri.corpora.folders.writing import write_corpus

    check_output(Path(args.output))  # before a long read
    print_report(write_corpus(args.read(), args.output, copy_audio=args.copy_audio, progress=True), Path(args.output))
