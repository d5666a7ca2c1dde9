"""Run the command that the first word of a command line names: of `atri`, and of commands with sub-commands."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module


@dataclass(frozen=True)
class Command:
    """A command and its line in the overview.

    Args:
        help: one line that says what the command does.
        run: takes the words after the command's name and returns an exit status, or None for success.
    """

    help: str
    run: Callable[[Sequence[str]], int | None]


def command_in(module: str, help: str) -> Command:
    """Make a command of the function `main` of a module, given by its absolute name and imported when it runs."""
    return Command(help, lambda argv: import_module(module).main(argv))


def dispatch(
    argv: Sequence[str], prog: str, kind: str, commands: Mapping[str, Command], description: str, notes: str = ""
) -> int:
    """Run a command and return its exit status.

    Without words, or with `-h`, `--help` or `help`, it prints an overview of the commands. With `--help_all` it prints
    the overview and every option of every command.

    Args:
        argv: words after `prog` on the command line.
        prog: how this command line starts, such as `atri diagnose`.
        kind: what the commands are called, such as `mode`.
        commands: commands by name.
        description: text of the overview before the list of commands.
        notes (*optional*): text of the overview after the list of commands.

    Raises:
        ValueError: if the first word is not the name of a command.
    """
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help", "help", "--help_all"):
        print(_overview(prog, kind, commands, description, notes))
        if name == "--help_all":
            for command in commands.values():
                print()
                with suppress(SystemExit):  # commands exit after their help
                    command.run(["--help_all"])
        return 0
    if name not in commands:
        near = get_close_matches(name, commands, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"The {kind}s are {', '.join(commands)}."
        raise ValueError(f"There is no {kind} {name!r}. {hint}")
    return commands[name].run(rest) or 0


def _overview(prog: str, kind: str, commands: Mapping[str, Command], description: str, notes: str) -> str:
    width = max(map(len, commands))
    lines = "\n".join(f"  {name.ljust(width)}  {command.help}" for name, command in commands.items())
    paragraphs = [
        f"usage: {prog} {kind.upper()} [options]",
        description.strip(),
        f"{kind}s:\n{lines}",
        notes.strip(),
        f"`{prog} {kind.upper()} --help` explains one {kind}, and `{prog} --help_all` shows every option of all.",
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
