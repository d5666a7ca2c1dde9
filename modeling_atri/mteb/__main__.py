"""mteb's command line with data sets and models of ours: `python -m modeling_atri.mteb run --data ... -m ...`."""

import argparse
import sys
from collections.abc import Sequence

from .registering import register_model, register_tasks


_DESCRIPTION = """\
The commands of mteb (`mteb --help`) for your own data and ATRI models. --data makes a text-to-audio and an
audio-to-text task of a folder, a file or a data set on the Hub, which `run` evaluates; -m may be a folder.

examples:
  python -m modeling_atri.mteb run --data clips/dev -m runs/first
  python -m modeling_atri.mteb run --data clips/dev -m me/atri-first --output-folder results -l fra jpn
  python -m modeling_atri.mteb mock-run -m runs/first
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Register what the options name with mteb, and run mteb's own command with the other options."""
    parser = argparse.ArgumentParser(
        "python -m modeling_atri.mteb",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s COMMAND [--data SOURCE] [--name NAME] [--split SPLIT] [-m MODEL] [options of mteb]",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("--data", help="folder, file or data set on the Hub to make tasks of")
    parser.add_argument("--name", help="name of the data in the tasks' names; default: the last part of --data")
    parser.add_argument("--split", help="split of --data")
    parser.add_argument("-m", "--model", help="folder or Hub id of an ATRI model, or any model that mteb knows")
    parser.add_argument("--model-revision", "--model_revision", help="branch, tag or commit of a model on the Hub")
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help"):
        parser.print_help()
        return
    own, others = parser.parse_known_args(given)
    try:
        if own.model is not None:
            name, revision = register_model(own.model, own.model_revision)
            others += ["-m", name] if revision is None else ["-m", name, "--model-revision", revision]
        if own.data is not None:
            others += ["-t", *register_tasks(own.data, own.name, own.split)]
    except (ValueError, OSError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    from mteb.cli import main as run_mteb

    sys.argv = [parser.prog, *others]
    run_mteb()


if __name__ == "__main__":
    main()
