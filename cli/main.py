"""The `atri` command. It reports a caller's mistake in one line instead of a stack trace."""

import os
import sys

from .dispatch import command_in, dispatch


_HELP = {
    "quickstart": "make sounds, train a small model on them and query it in eight languages (minutes on a CPU)",
    "prepare": "turn AudioCaps, Clotho, WavCaps and other corpora into folders to train and test on",
    "translate": "translate the captions of a folder into other languages with NLLB-200 or MADLAD-400",
    "train": "train or fine-tune a model on a folder of recordings or a Hub dataset",
    "convert": "make a model from the released weights of CED, SONAR or ML-CLAP",
    "evaluate": "measure retrieval and consistency of a model on a folder of recordings or a Hub dataset",
    "diagnose": "measure the errors that ATRI's theory describes, on draws, on a model, or on two runs",
    "encode": "embed every sound file below a folder; a stopped run continues where it was",
    "export": "export both towers of a saved model to ONNX graphs, in float32 or int8",
    "push": "push a saved model to the Hugging Face Hub with its processor, results and card, in one commit",
}
_FOLDERS = {"diagnose": "diagnose.modes", "prepare": "prepare.kinds"}  # modules of commands that are folders
COMMANDS = {
    name: command_in(f"modeling_atri.cli.commands.{_FOLDERS.get(name, name)}", help) for name, help in _HELP.items()
}

_EXIT_MISTAKE, _EXIT_INTERRUPTED = 2, 130


def main(argv: list[str] | None = None) -> int:
    """Run `atri` and return its exit status: 0 for success, 2 for a mistake, 130 for an interrupt."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in ("-V", "--version"):
        from modeling_atri import __version__

        print(f"atri {__version__}")
        return 0
    prog = f"atri {argv[0]}" if argv and argv[0] in COMMANDS else "atri"
    try:
        return dispatch(argv, "atri", "command", COMMANDS, "Audio-text retrieval in many languages.")
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted.", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("ATRI_DEBUG"):
            raise
        print(f"{prog}: {error}", file=sys.stderr)
        print("(Set ATRI_DEBUG=1 to see the stack trace.)", file=sys.stderr)
        return _EXIT_MISTAKE


if __name__ == "__main__":
    sys.exit(main())
