"""Parse the options of a command. The command line overrides a YAML or JSON file, which overrides the defaults."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from .habits import NAMES, own_name


class _Loader(yaml.SafeLoader):
    """YAML in which `no` and `yes` are text, as in YAML 1.2. `no` is Norwegian, and a value of `save_strategy`."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("(?i:true|false|on|off)$"), list("tTfFoO"))

_TRUTH_VALUES = {"yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"}  # as HfArgumentParser reads them


def parse_options(
    argv: Sequence[str],
    dataclasses: Sequence[Any],
    description: str,
    prog: str,
    shown: set[str] | None = None,
    defaults: Callable[[set[str]], dict[str, Any]] = lambda given: {},
) -> tuple[Any, ...]:
    """Make instances of `dataclasses` from the command line.

    `--config FILE` names a YAML or JSON file of options. `--help` explains the options in `shown`, and `--help_all`
    explains every option. Names that people know from other programs are understood too, see [`own_name`].

    Args:
        argv: words after the command.
        dataclasses: classes whose fields are the options. A string field with `"positional": True` in its metadata
            can also be given as a word without a name.
        description, prog: description and name of the command for its help.
        shown (*optional*): names of the options that `--help` lists. Default: all.
        defaults (*optional*): function that takes the names of the given options and returns defaults that replace
            those of the dataclasses.

    Returns:
        One instance of each dataclass.

    Raises:
        ValueError: if an option is unknown or missing, or a value has the wrong type.
    """
    parser = _Parser(dataclasses, description, prog)
    if {"-h", "--help", "--help_all"} & set(argv):
        parser.set_defaults(**defaults(set()))
        parser.print_help_of(None if "--help_all" in argv else shown)
        sys.exit(0)
    known = {field.name for field in parser.fields}
    argv = [_own_word(word, known) for word in argv]
    words = argv
    if path := _Parser((), description, prog).parse_known_args(argv)[0].config:
        words = [*_words_of_file(path, known), *argv]  # the last value counts
    given = {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")}
    parser.set_defaults(**defaults(given))
    values = parser.values(words)
    return tuple(
        dataclass(**{field.name: values[field.name] for field in fields(dataclass) if field.init})
        for dataclass in dataclasses
    )


class _Parser(HfArgumentParser):
    """A parser of dataclasses that reports a mistake as a ValueError of one line."""

    def __init__(self, dataclasses: Sequence[Any], description: str, prog: str):
        self.fields = [field for dataclass in dataclasses for field in fields(dataclass) if field.init]
        self.positionals = [field for field in self.fields if field.metadata.get("positional")]
        super().__init__(
            dataclasses,
            prog=prog,
            usage=" ".join([prog, "[options]", *(field.name for field in self.positionals)]),
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.add_argument(
            "--config", metavar="FILE", help="YAML or JSON file of options. The command line overrides it."
        )
        self.add_argument("-h", "--help", action="store_true", help="Explain the common options and exit.")
        self.add_argument("--help_all", action="store_true", help="Explain all options and exit.")

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: Field) -> None:
        """Add the option of a field to the parser."""
        if not field.metadata.get("positional"):
            HfArgumentParser._parse_dataclass_field(parser, field)
            return
        default = None if field.default is MISSING else field.default
        parser.add_argument(field.name, nargs="?", default=argparse.SUPPRESS, help=field.metadata.get("help"))
        parser.add_argument(f"--{field.name}", default=default, help=argparse.SUPPRESS)  # for the file of options

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message[0].upper()}{message[1:].rstrip('.')}. `{self.prog} --help` explains the options.")

    def values(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the values of all options by name."""
        # Without positionals, a word after a switch can only be its value, and a wrong one is reported as such.
        values, unknown = self.parse_known_args(self._with_truth_values(words) if self.positionals else words)
        if options := [word for word in unknown if word.startswith("-")]:
            known = {action.dest for action in self._actions}
            raise ValueError(f"Unknown options: {_describe_unknown(options, known)}")
        if unknown:
            self._refuse_words(unknown, words)
        required = [field.name for field in self.positionals if field.default is MISSING]
        if missing := [name for name in required if getattr(values, name) is None]:
            self.error(f"the following arguments are required: {', '.join(missing)}")
        if empty := [field.name for field in self.positionals if getattr(values, field.name) == ""]:
            self.error(f"the following arguments are empty: {', '.join(empty)}")
        return vars(values)

    def _with_truth_values(self, words: Sequence[str]) -> Iterator[str]:
        """Yield the words with `true` after each bare switch, so that no switch takes a positional for its value."""
        for word, following in zip(words, [*words, ""][1:], strict=True):
            yield word
            if self._is_switch(word) and following.lower() not in _TRUTH_VALUES:
                yield "true"

    def _is_switch(self, word: str) -> bool:
        return any(field.type is bool and word == f"--{field.name}" for field in self.fields)

    def _refuse_words(self, unknown: Sequence[str], words: Sequence[str]) -> NoReturn:
        """Report words that are neither options nor values. One of them may be meant as the value of a switch."""
        hint = "Each value needs its option before it, such as --name VALUE."
        for word, following in pairwise(words):
            if self._is_switch(word) and not following.startswith("-") and following.lower() not in _TRUTH_VALUES:
                if following in unknown:
                    try:
                        string_to_bool(following)
                    except argparse.ArgumentTypeError as error:
                        self.error(f"argument {word}: {error}")
                hint = f"{word} takes only true or false, so {following!r} after it was not read as its value."
        taken = " and ".join([*(field.name for field in self.positionals), "options"])
        raise ValueError(
            f"Unknown options: {', '.join(map(repr, unknown))}. `{self.prog}` takes {taken}. {hint} "
            f"`{self.prog} --help` explains them."
        )

    def print_help_of(self, shown: set[str] | None) -> None:
        """Print the help of some options, or of all with `None`."""
        for action in self._actions:
            if shown is not None and action.dest not in shown | {"config", "help", "help_all"}:
                action.help = argparse.SUPPRESS
            elif action.help != argparse.SUPPRESS:
                action.help = _with_default(action)
                # `--num-workers` is allowed too, but the help shows `--num_workers` only.
                action.option_strings = [word for word in action.option_strings if "-" not in word.lstrip("-")]
        self.print_help()


def _own_word(word: str, known: set[str]) -> str:
    """Replace the name of an option by that of the command: `--lr=1e-4` or `-lr=1e-4` by `--learning_rate=1e-4`."""
    dashes = re.match("--|-(?=[a-z])", word)
    if dashes is None:
        return word
    name, equals, value = word[dashes.end() :].partition("=")
    own = own_name(name, known)
    return f"--{own}{equals}{value}" if own in known else word


def _words_of_file(path: str, known: set[str]) -> list[str]:
    """Return the options of a YAML or JSON file as words of a command line. None leaves an option at its default."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        options = json.loads(text) if path.endswith(".json") else yaml.load(text, _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"The options in {path} cannot be read: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} must hold a mapping of options to values, but holds a {type(options).__name__}.")
    given: dict[str, Any] = {}
    for name in options:
        own = own_name(str(name), known)
        if own in given:
            raise ValueError(f"{path} gives {own!r} under two names, {given[own]!r} and {name!r}. Keep one of them.")
        given[own] = name
    options = {own: options[name] for own, name in given.items()}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"Unknown options in {path}: {_describe_unknown(unknown, known)}")
    words = []
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in values)]
    return words


def _describe_unknown(unknown: Iterable[str], known: set[str]) -> str:
    """List unknown options, each with the known one whose name, or whose name elsewhere, is the nearest."""
    words = {name: own for name in (*NAMES, *known) if (own := own_name(name, known)) in known}
    said = []
    for option in unknown:
        name = option.lstrip("-")
        near = get_close_matches(name.partition("=")[0].replace("-", "_"), words, n=1)
        dashes = "--" if option != name else ""
        said.append(f"{option!r}" + (f" (did you mean '{dashes}{words[near[0]]}'?)" if near else ""))
    return ", ".join(said) + "."


def _with_default(action: argparse.Action) -> str:
    """Return the help of an option with its default, or with "Required."."""
    if action.const is False:  # the `--no_...` of a switch
        return f"The same as --{action.dest} false."
    text = action.help or ""
    if action.dest in ("config", "help", "help_all") or "efault" in text:
        return text
    if action.required or action.default == argparse.SUPPRESS:
        default = "Required."
    elif action.default is None or action.default == []:
        default = "Default: none."
    else:
        values = action.default if isinstance(action.default, list) else [action.default]
        default = f"Default: {' '.join(map(_as_text, values))}.".replace("%", "%%")
    return f"{text} {default}".strip()


def _as_text(value: Any) -> str:
    """Write a default as it is given on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    return str(value)
