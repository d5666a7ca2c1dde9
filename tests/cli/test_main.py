"""`atri` itself: which command runs, and what a caller's mistake looks like."""

import subprocess
import sys

import pytest

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
        (["train", "--train_data", "x", "--objective", "klc"], "invalid choice: 'klc'"),
        (["train", "--train_data", "x", "--languages", "en", "frenc"], "French"),
        (["train", "--train_data", "x", "--objective", "cacl", "--languages_per_step", "2"], "`languages_per_step`"),
        (["train", "--train_data", "x", "stray"], "'stray'"),
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


@pytest.mark.parametrize("command", ["", "quickstart", "diagnose draws"])
def test_help_does_not_wait_for_torch(command):
    code = "import contextlib, sys; from modeling_atri.cli.main import main\n"
    code += f"with contextlib.suppress(SystemExit): main({[*command.split(), '--help']})\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
