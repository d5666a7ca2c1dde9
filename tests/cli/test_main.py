"""`atri` itself: which command runs, and what a caller's mistake looks like."""

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
import torch
from datasets.exceptions import DatasetGenerationError
from safetensors import SafetensorError

from modeling_atri import __version__
from modeling_atri.cli.main import COMMANDS, main


def test_help_names_every_command(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"atri {__version__}\n"


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, message",
    [
        (["evaluate", "--model", "/no/such", "--data", "/no/data"], "/no/data"),
        (["evaluate", "--model", "x"], "required: --data"),
        (["train", "--train_data", "x", "--outputdir", "y"], "'--outputdir' (did you mean '--output_dir'?)"),
        (["train", "--train_data", "x", "--epohcs=3"], "'--epohcs=3' (did you mean '--num_train_epochs'?)"),
        (["train", "--train_data", "x", "--device", "cuda"], "Unknown options: '--device'."),
        (["train", "--train_data", "x", "--objective", "klc"], "invalid choice: 'klc'"),
        (["train", "--train_data", "x", "--languages", "en", "frenc"], "French"),
        (["train", "--train_data", "x", "--objective", "cacl", "--languages_per_step", "2"], "`languages_per_step`"),
        (["train", "stray", "--train_data", "x"], "Unknown options: 'stray'. `atri train` takes options."),
        (["train", "--train_data", "x", "--temperature", "0"], "`temperature` must be a finite number > 0"),
        (["train", "--train_data", "x", "--patch_size", "64"], "`patch_size` must be two positive numbers"),
        (["train", "--train_data", "x", "--audio_layers", "0"], "`audio_layers` must be a whole number >= 1"),
        (["train", "--train_data", "x", "--text_dropout", "1"], "`text_dropout` must be a number in [0, 1)"),
        (["evaluate", "--model", "x", "--data", "y", "--device", "nonsense"], "The device 'nonsense' cannot be used"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(argv, message, capsys, tmp_path):
    assert main([*argv, *(["--output_dir", str(tmp_path)] if argv[0] == "train" else [])]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 2  # the mistake, and how to see more


def test_debugging_shows_where_it_happened(monkeypatch):
    monkeypatch.setenv("ATRI_DEBUG", "1")
    with pytest.raises(ValueError, match="required"):
        main(["evaluate"])


def test_an_interrupt_ends_without_a_trace(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("modeling_atri.cli.commands.evaluate.main", interrupted)
    assert main(["evaluate"]) == 130
    assert capsys.readouterr().err == "\natri evaluate: interrupted.\n"


class LibraryError(Exception):
    """A class that a library has for its own errors."""


@pytest.fixture
def command(monkeypatch):
    """A function that makes `atri evaluate` run another function."""
    return lambda function: monkeypatch.setattr("modeling_atri.cli.commands.evaluate.main", function)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error, status, text",
    [
        (ValueError("`x` must be 1."), 2, "`x` must be 1."),
        (json.JSONDecodeError("Expecting value", "{", 1), 2, "Expecting value: line 1 column 2 (char 1)"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "'utf-8' codec can't decode byte 0xff"),
        (PermissionError(13, "Permission denied", "/x"), 2, "[Errno 13] Permission denied: '/x'"),
        (ModuleNotFoundError("No module named 'av'"), 2, "No module named 'av'"),
        (MemoryError(), 2, "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory."), 2, "OutOfMemoryError: CUDA out of memory."),
        (RuntimeError("... DefaultCPUAllocator: can't allocate memory: you tried"), 2, "RuntimeError: ... DefaultCPU"),
        (SafetensorError("header too large"), 2, "SafetensorError: header too large"),
        (pyarrow.lib.ArrowTypeError("no"), 2, "ArrowTypeError: no"),
        (
            caused(DatasetGenerationError("Not generated"), ValueError("line 1 is no JSON")),
            2,
            "DatasetGenerationError: Not generated (line 1 is no JSON)",
        ),
        (LibraryError("why"), 2, "LibraryError: why"),
        (KeyError("captions"), 1, "this is a fault of the program, please report it. KeyError: 'captions'"),
        (TypeError("no"), 1, "this is a fault of the program, please report it. TypeError: no"),
        (RuntimeError("no"), 1, "this is a fault of the program, please report it. RuntimeError: no"),
        (RecursionError("deep"), 1, "this is a fault of the program, please report it. RecursionError: deep"),
        (AssertionError(), 1, "this is a fault of the program, please report it. AssertionError"),
    ],
)
def test_the_class_of_an_error_says_what_it_is(error, status, text, command, capsys, monkeypatch):
    def fail(argv):
        raise error

    command(fail)
    assert main(["evaluate"]) == status
    shown = capsys.readouterr().err
    assert shown.startswith(f"atri evaluate: {text}")
    assert shown.endswith("\n(Set ATRI_DEBUG=1 to see the stack trace.)\n")
    monkeypatch.setenv("ATRI_DEBUG", "1")
    with pytest.raises(type(error)):
        main(["evaluate"])


ATRI = [sys.executable, "-m", "modeling_atri.cli.main"]


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["trian"]])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_cut_output_ends_quietly(argv, stream):
    """As with `atri ... | head`. `trian` is a mistake, which is reported on stderr."""
    other = "stderr" if stream == "stdout" else "stdout"
    with subprocess.Popen([*ATRI, *argv], **{stream: subprocess.PIPE, other: subprocess.PIPE}) as process:
        getattr(process, stream).close()
        shown = getattr(process, other).read().decode()
    is_cut = (stream == "stderr") == (argv == ["trian"])
    assert process.returncode == (141 if is_cut else 2 if argv == ["trian"] else 0)
    assert "Traceback" not in shown and "Exception ignored" not in shown
    assert shown == "" or not is_cut


def test_print_in_the_middle_of_a_command_is_cut(command, monkeypatch):
    class Cut(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    command(lambda argv: print("a line"))
    monkeypatch.setattr(sys, "stdout", Cut())
    assert main(["evaluate"]) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_to_a_full_disk_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*ATRI, "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "atri: [Errno 28] No space left on device"
    assert "Exception ignored" not in done.stderr


def test_closed_streams_are_no_error():
    shell = f"{shlex.join([*ATRI, '--help'])} <&- >&-; echo $?; {shlex.join([*ATRI, 'trian'])} <&- 2>&-; echo $?"
    shown = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert (shown.stdout.splitlines()[0], shown.stdout.splitlines()[-1]) == ("0", "2")
    assert shown.stderr == ""


@pytest.mark.parametrize(
    "encoding, shown", [("ascii", r"\u72ac caf\xe9"), ("latin-1", r"\u72ac café"), ("utf-8", "犬 café")]
)
def test_a_terminal_that_lacks_a_character_shows_its_number(encoding, shown, command, monkeypatch):
    command(lambda argv: print("犬 café"))
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["evaluate"]) == 0
    assert stream.buffer.getvalue().decode(encoding) == f"{shown}\n"


@pytest.mark.parametrize("command", ["", "quickstart", "diagnose draws"])
def test_help_does_not_wait_for_torch(command):
    code = "import contextlib, sys; from modeling_atri.cli.main import main\n"
    code += f"with contextlib.suppress(SystemExit): main({[*command.split(), '--help']})\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
