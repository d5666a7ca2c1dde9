"""Sub-commands by their first word: overview, help of all, near misses."""

import sys

import pytest

from modeling_atri.cli.dispatch import Command, dispatch


def prepare_pie(argv):
    print(f"pie of {argv}")
    return 3


def prepare_tea(argv):
    print(f"tea of {argv}")
    if argv == ["--help_all"]:
        sys.exit(0)


COMMANDS = {"pie": Command("bake it", prepare_pie), "tea": Command("brew it", prepare_tea)}


def run(*argv):
    return dispatch(argv, "cook", "meal", COMMANDS, "Cooks.", "example: cook pie")


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_lists_the_commands(argv, capsys):
    assert run(*argv) == 0
    assert capsys.readouterr().out == (
        "usage: cook MEAL [options]\n\nCooks.\n\nmeals:\n  pie  bake it\n  tea  brew it\n\nexample: cook pie\n\n"
        "`cook MEAL --help` explains one meal, and `cook --help_all` shows every option of all.\n"
    )


def test_a_command_gets_the_words_after_it_and_its_status_is_returned(capsys):
    assert run("pie", "--apple", "2") == 3
    assert run("tea") == 0
    assert capsys.readouterr().out == "pie of ['--apple', '2']\ntea of []\n"


def test_help_all_asks_every_command_also_those_that_exit(capsys):
    assert run("--help_all") == 0
    assert capsys.readouterr().out.endswith("\n\npie of ['--help_all']\n\ntea of ['--help_all']\n")


@pytest.mark.parametrize(
    "word, message",
    [
        ("pei", "There is no meal 'pei'. Did you mean 'pie'?"),
        ("--sugar", "There is no meal '--sugar'. The meals are pie, tea."),
    ],
)
def test_an_unknown_command_names_the_nearest_or_all(word, message):
    with pytest.raises(ValueError) as error:
        run(word)
    assert str(error.value) == message
