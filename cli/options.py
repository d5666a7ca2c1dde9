"""Options from dataclasses, a YAML or JSON file, and the command line, in that order of strength."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


_TRUTH_VALUES = {"yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"}  # as HfArgumentParser reads them


class _Parser(HfArgumentParser):
    """Raises a ValueError of one line where argparse would print every option there is."""

    def parse_args(self, args=None, namespace=None):
        values, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            options = [word for word in unknown if word.startswith("-")]
            raise ValueError(f"Unknown options: {describe_unknown(options or unknown, known)}")
        return values

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: Field) -> None:
        """An option; with `"positional": True` in its metadata, a string that is given as a bare word too."""
        metadata = dict(field.metadata)
        if not metadata.pop("positional", False):
            HfArgumentParser._parse_dataclass_field(parser, field)
            return
        default = None if field.default is MISSING else field.default
        parser.add_argument(field.name, nargs="?", default=argparse.SUPPRESS, **metadata)
        parser.add_argument(f"--{field.name}", default=default, help=argparse.SUPPRESS)  # for the file of options

    def error(self, message: str):
        raise ValueError(f"{message[0].upper()}{message[1:]}. `{self.prog} --help` explains the options.")


def parse_options(
    argv: Sequence[str],
    dataclasses: Sequence[type],
    description: str,
    prog: str,
    shown: set[str],
    defaults: Callable[[set[str]], dict[str, Any]] = lambda given: {},
) -> tuple[Any, ...]:
    """Instances of `dataclasses` from the command line.

    `--config FILE` names a YAML or JSON file of options; the command line goes before it. `--help` explains the
    options in `shown`, `--help_all` every one.

    Args:
        argv: the words after the command.
        dataclasses: their fields are the options. One with `"positional": True` in its metadata is a word without a
            name on the command line.
        description, prog: of the help.
        shown: names of the options that `--help` lists.
        defaults (*optional*): takes the names of the options that were given and returns other defaults than the
            dataclasses have.

    Raises:
        ValueError: an unknown option, or a value that is not of its type.
    """
    positionals = _positionals(dataclasses)
    parser = _Parser(
        dataclasses,
        prog=prog,
        usage=" ".join([prog, "[options]", *(item.name for item in positionals)]),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML or JSON file of options; the command line goes before it."
    )
    parser.add_argument("-h", "--help", action="store_true", help="Explain the options people use most, and stop.")
    parser.add_argument("--help_all", action="store_true", help="Explain every option, and stop.")
    if "--help_all" in argv or {"-h", "--help"} & set(argv):
        parser.set_defaults(**defaults(set()))
        _print_help(parser, shown if "--help_all" not in argv else None)
        sys.exit(0)
    known = {field.name for dataclass in dataclasses for field in fields(dataclass) if field.init}
    words = list(argv)
    config_parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    config_parser.add_argument("--config")
    if path := config_parser.parse_known_args(argv)[0].config:
        options = read_options(path)
        check_names(options, known, path)
        words = [*_as_words(options), *words]  # so that they are checked alike, and the command line, being last, wins
    given = {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")}
    parser.set_defaults(**defaults(given))
    values = vars(parser.parse_args(_with_truth_values(words, dataclasses) if positionals else words))
    if missing := [item.name for item in positionals if item.default is MISSING and values[item.name] is None]:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    return tuple(
        dataclass(**{field.name: values[field.name] for field in fields(dataclass) if field.init})
        for dataclass in dataclasses
    )


def read_options(path: str) -> dict[str, Any]:
    """The mapping in a YAML or JSON file.

    Raises:
        ValueError: a file that cannot be read, or holds something else.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        options = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"The options in {path} cannot be read: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} must hold a mapping of options to values, but holds a {type(options).__name__}.")
    return options


def check_names(options: dict[str, Any], known: set[str], source: str) -> None:
    """Raise a ValueError that names every unknown option and the nearest known one."""
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"Unknown options in {source}: {describe_unknown(unknown, known)}")


def describe_unknown(unknown: Iterable[str], known: Iterable[str]) -> str:
    """The unknown words, each with the nearest known one, as the end of a sentence."""
    problems = []
    for name in unknown:
        near = get_close_matches(name, known, n=1)
        problems.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return ", ".join(problems) + "."


def _as_words(options: dict[str, Any]) -> list[str]:
    """Options of a file as the words of a command line; None leaves an option at its default."""
    words = []
    for name, value in options.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words.append(f"--{name}")
        words += [json.dumps(item) if isinstance(item, dict) else str(item) for item in values]
    return words


def _positionals(dataclasses: Sequence[type]) -> list[Field]:
    """The fields that are given as words without a name."""
    return [field for dataclass in dataclasses for field in fields(dataclass) if field.metadata.get("positional")]


def _with_truth_values(words: Sequence[str], dataclasses: Sequence[type]) -> list[str]:
    """The words with `true` behind each bare switch, which would take a word without a name for its value."""
    switches = {field.name for dataclass in dataclasses for field in fields(dataclass) if field.type is bool}
    spelled = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        spelled.append(word)
        if word.startswith("--") and word[2:].replace("-", "_") in switches and following.lower() not in _TRUTH_VALUES:
            spelled.append("true")
    return spelled


def _print_help(parser: argparse.ArgumentParser, shown: set[str] | None) -> None:
    for action in parser._actions:
        if shown is not None and action.dest not in shown | {"config", "help", "help_all"}:
            action.help = argparse.SUPPRESS
        elif action.help != argparse.SUPPRESS:
            action.help = _with_default(action)
            # `--num-workers` is taken too, but one spelling is enough to read.
            action.option_strings = [
                word for word in action.option_strings if word[2:].replace("-", "_") == word[2:] or len(word) == 2
            ]
    parser.print_help()


def _with_default(action: argparse.Action) -> str:
    """The help of an option, that it is required, or its default if neither the help nor common sense says it."""
    if action.const is False:  # the `--no_...` of a switch, which argparse gives the help of the switch
        return f"The same as --{action.dest} false."
    if action.required and action.help:
        return f"{action.help} Required."
    default = action.default
    is_plain = default in (None, argparse.SUPPRESS, "", []) or isinstance(default, bool)
    if not action.help or is_plain or "efault" in action.help:
        return action.help or ""
    value = " ".join(map(str, default)) if isinstance(default, list) else str(default)
    return f"{action.help} Default: {value.replace('%', '%%')}."
