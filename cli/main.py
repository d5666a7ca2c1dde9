"""`atri COMMAND ...`: finds the command and turns a caller's mistake into one line instead of a stack trace."""

import os
import sys
from difflib import get_close_matches
from importlib import import_module


COMMANDS = {
    "quickstart": "make sounds, train a small model on them and query it in eight languages (minutes on a CPU)",
    "prepare": "AudioCaps, Clotho, WavCaps and others, as they are on disk, to folders to train and test on",
    "translate": "the captions of a folder of recordings into other languages, with NLLB-200 or MADLAD-400",
    "train": "train or fine-tune a model on a folder of recordings or a Hub dataset",
    "convert": "make a model of the released weights of CED, SONAR or ML-CLAP",
    "evaluate": "retrieval and consistency of a model on a folder of recordings or a Hub dataset",
    "diagnose": "the errors that ATRI's theory is about, measured on draws, on a model, or on two runs",
    "encode": "embed every sound file below a folder, from where the last run was stopped",
    "export": "both towers of a saved model to ONNX graphs, as they are or in int8",
    "push": "a saved model to the Hugging Face Hub, with processor, results and card, in one commit",
}

# Commands that are a folder.
_MODULE_OF = {"diagnose": ".commands.diagnose.modes", "prepare": ".commands.prepare.kinds"}

_EXIT_MISTAKE, _EXIT_INTERRUPTED = 2, 130


def main(argv: list[str] | None = None) -> int:
    """Run `atri` and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if argv[0] in ("-V", "--version"):
        from modeling_atri import __version__

        print(f"atri {__version__}")
        return 0
    command, *rest = argv
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(COMMANDS)}."
        print(f"atri: there is no command {command!r}.{hint}", file=sys.stderr)
        return _EXIT_MISTAKE
    try:
        return import_module(_MODULE_OF.get(command, f".commands.{command}"), __package__).main(rest) or 0
    except KeyboardInterrupt:
        print(f"\natri {command}: interrupted.", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("ATRI_DEBUG"):
            raise
        print(f"atri {command}: {error}", file=sys.stderr)
        print("(ATRI_DEBUG=1 shows where it happened.)", file=sys.stderr)
        return _EXIT_MISTAKE


def _usage() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: atri COMMAND [options]\n\n"
        "Audio-text retrieval that gives the same answer in every language.\n\n"
        f"commands:\n{commands}\n\n"
        "`atri COMMAND --help` explains a command."
    )


if __name__ == "__main__":
    sys.exit(main())
