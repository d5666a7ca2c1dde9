"""The `atri` command. It reports an error in one line instead of a stack trace."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO

from .dispatch import command_in, dispatch
from .thread_settings import set_thread_defaults


_HELP = {
    "quickstart": "make sounds, train a small model on them and query it in eight languages (minutes on a CPU)",
    "prepare": "turn AudioCaps, Clotho, WavCaps and other corpora into folders to train and test on",
    "translate": "translate the captions of a folder into other languages with NLLB-200 or MADLAD-400",
    "train": "train or fine-tune a model on a folder of recordings or a Hub dataset",
    "teach": "teach languages to a model that knows one, from parallel captions; its audio embeddings stay valid",
    "convert": "make a model from the released weights of CED, SONAR or ML-CLAP",
    "evaluate": "measure retrieval and consistency of a model on a folder of recordings or a Hub dataset",
    "diagnose": "measure the errors that ATRI's theory describes, on draws, on a model, or on two runs",
    "encode": "embed every sound file below a folder; a stopped run continues where it was",
    "index": "make an index of a folder of sounds that can be searched, and keep it up to date",
    "search": "find sounds of an index, or moments in them, by text in any language, by sound, or by both",
    "serve": "open a page to search an index in a browser, in any language of its model",
    "export": "export both towers of a saved model to ONNX graphs, in float32 or int8",
    "push": "push a saved model with processor, results and card, or the page of an index, to the Hugging Face Hub",
}
_FOLDERS = {"diagnose": "diagnose.modes", "prepare": "prepare.kinds"}  # modules of commands that are folders
COMMANDS = {
    name: command_in(f"modeling_atri.cli.commands.{_FOLDERS.get(name, name)}", help) for name, help in _HELP.items()
}

_EXIT_FAULT, _EXIT_MISTAKE, _EXIT_INTERRUPTED, _EXIT_CUT = 1, 2, 130, 141  # the last are 128 + the signal's number

# What a user or the machine can cause: wrong values and contents (`ValueError`, also for broken JSON and for text that
# is not UTF-8), files, disks, permissions and networks (`OSError`), missing packages, too little memory.
_MISTAKES = (ValueError, OSError, ImportError, MemoryError)
# Of errors that are a RuntimeError although the machine causes them: too little memory for torch, and a full disk or a
# damaged file that LanceDB meets.
_TEXTS = ("DefaultCPUAllocator: can't allocate memory", "lance error: ")


def main(argv: list[str] | None = None) -> int:
    """Run `atri` and return its exit status.

    An error does not end in a stack trace, unless ATRI_DEBUG is set. Its class says what kind of error it is:

    - 2 for a mistake: one of `_MISTAKES`, or a class that a library defines for its own errors, such as those of the
      Hub, of safetensors, of PyArrow, of a GPU without memory, or of a data set that cannot be generated.
    - 1 for a fault of this program: every other class that Python has, such as `KeyError` or `TypeError`. Code that
      hands a user's file to a library turns such an error of the library into a `ValueError` that names the file.
    - 130 for an interrupt (Ctrl-C), and 141, without a message, if the program that reads the output has ended, as
      `head` does.
    - 0 for success, or the exit status of the command.
    """
    set_thread_defaults(os.environ)
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character shows its number
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
    except BrokenPipeError:
        status = _EXIT_CUT
    for stream in (sys.stdout, sys.stderr):
        _discard_if_broken(stream)
    return status


def _run(argv: Sequence[str]) -> int:
    """Run a command, report its error, and return its exit status."""
    prog = f"atri {argv[0]}" if argv and argv[0] in COMMANDS else "atri"
    try:
        return _dispatch_and_flush(argv)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print(f"\n{prog}: interrupted.", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get("ATRI_DEBUG"):
            raise
        is_mistake = isinstance(error, _MISTAKES) or type(error).__module__ != "builtins"
        is_mistake = is_mistake or any(text in str(error) for text in _TEXTS)
        advice = "" if is_mistake else "this is a fault of the program, please report it. "
        print(f"{prog}: {advice}{_describe(error)}", file=sys.stderr)
        print("(Set ATRI_DEBUG=1 to see the stack trace.)", file=sys.stderr)
        return _EXIT_MISTAKE if is_mistake else _EXIT_FAULT


def _dispatch_and_flush(argv: Sequence[str]) -> int:
    """Run a command and write out what it printed, so that a full disk or a cut output is an error of the command."""
    try:
        if argv and argv[0] in ("-V", "--version"):
            from modeling_atri import __version__

            print(f"atri {__version__}")
            return 0
        return dispatch(argv, "atri", "command", COMMANDS, "Audio-text retrieval in many languages.")
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


def _discard_if_broken(stream: TextIO | None) -> None:
    """Discard what cannot be written, because Python would try again at its exit and print the error."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):  # the stream of a test may be no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _describe(error: Exception) -> str:
    """The text of an error and of its cause. Without its name, the text of some classes says little."""
    if isinstance(error, _MISTAKES) and str(error):
        return str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text} ({_describe(error.__cause__)})" if isinstance(error.__cause__, Exception) else text


if __name__ == "__main__":
    sys.exit(main())
