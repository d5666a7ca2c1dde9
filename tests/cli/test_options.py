"""Options from dataclass defaults, file and command line."""

import re
from dataclasses import dataclass, field

import pytest

from modeling_atri.cli import options
from modeling_atri.cli.main import main
from modeling_atri.cli.options import parse_options
from modeling_atri.languages_atri import resolve_languages


@dataclass
class Options:
    name: str = field(metadata={"help": "A name."})
    count: int = field(default=1, metadata={"help": "A number."})
    rate: float = field(default=0.5, metadata={"help": "A rate."})
    languages: list[str] = field(default_factory=lambda: ["en"], metadata={"help": "Languages."})


@dataclass
class Switch:
    fast: bool = field(default=False, metadata={"help": "A switch."})


def parse(*argv, **kwargs):
    return parse_options(argv, (Options,), "What it does.", "prog", {"name", "count"}, **kwargs)[0]


def test_the_command_line_goes_before_the_file_and_the_file_before_the_defaults(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text("name: file\ncount: 2\nrate: 1.0e-3\nlanguages: [en, fr]\n")
    assert parse("--name", "x") == Options("x", 1, 0.5, ["en"])
    assert parse("--name", "x", defaults=lambda given: {"count": 7}) == Options("x", 7, 0.5, ["en"])
    assert parse("--config", str(path), defaults=lambda given: {"count": 7}) == Options("file", 2, 1e-3, ["en", "fr"])
    assert parse("--config", str(path), "--count", "3", "--languages", "ja") == Options("file", 3, 1e-3, ["ja"])


@pytest.mark.parametrize("text", ["[en, no]", "[en, NO]", "en,no", "\n- en\n- no", "[en, 'no']"])
def test_norwegian_in_a_yaml_file_is_a_language(tmp_path, text):
    path = tmp_path / "options.yaml"
    path.write_text(f"name: x\nlanguages: {text}\n")
    assert resolve_languages(parse("--config", str(path)).languages) == ["eng_Latn", "nob_Latn"]


@pytest.mark.parametrize("text", ["yes", "true", "True", "on", "y", "1"])
@pytest.mark.parametrize("is_negated", [False, True])
def test_switches_in_a_yaml_file(tmp_path, text, is_negated):
    opposite = {"yes": "no", "true": "false", "True": "False", "on": "off", "y": "n", "1": "0"}
    path = tmp_path / "options.yaml"
    path.write_text(f"fast: {opposite[text] if is_negated else text}\n")
    assert parse_options(("--config", str(path)), (Switch,), "What it does.", "prog")[0].fast is not is_negated


@dataclass
class Rates:
    learning_rate: float = 0.5
    languages: list[str] = field(default_factory=lambda: ["en"])


@pytest.mark.parametrize("words", [["-lr", "1e-3"], ["-lr=1e-3"], ["-learning-rate", "1e-3"], ["--lr", "1e-3"]])
def test_one_dash_is_as_good_as_two(words):
    parsed = parse_options([*words, "-langs", "fr", "ja"], (Rates,), "What it does.", "prog")
    assert parsed == (Rates(1e-3, ["fr", "ja"]),)


def test_an_option_under_two_names_in_a_file_is_refused(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text("learning_rate: 1e-3\nlr: 1e-4\n")
    with pytest.raises(ValueError, match="'learning_rate' under two names, 'learning_rate' and 'lr'. Keep one"):
        parse_options(["--config", str(path)], (Rates,), "What it does.", "prog")


def test_json_is_read_too(tmp_path):
    path = tmp_path / "options.json"
    path.write_text('{"name": "json", "rate": 2}')
    assert parse("--config", str(path)) == Options("json", 1, 2, ["en"])


@pytest.mark.parametrize(
    "content, message",
    [
        ("name: a\ncoutn: 1\n", "'coutn' .did you mean 'count'"),
        ("- a\n- b\n", "must hold a mapping"),
        ("name: [unclosed\n", "cannot be read"),
    ],
)
def test_a_faulty_file_is_named_with_its_fault(tmp_path, content, message):
    path = tmp_path / "options.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        parse("--config", str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", ["count: 1.5", "count: many", "count: [1, 2]", "rate: fast", "count: {a: 1}"])
def test_a_value_in_the_file_must_be_of_the_options_type(tmp_path, content):
    path = tmp_path / "options.yaml"
    path.write_text(f"name: x\n{content}\n")
    with pytest.raises(ValueError, match=r"--count|--rate|[Uu]n(known|recognized)"):
        parse("--config", str(path))


def test_null_in_the_file_leaves_the_default(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text("name: x\ncount: null\n")
    assert parse("--config", str(path)) == Options("x")


def test_defaults_may_depend_on_what_was_given(tmp_path):
    def defaults(given):
        return {"rate": 2.0} if "count" in given else {"rate": 3.0}

    path = tmp_path / "options.yaml"
    path.write_text("count: 4\n")
    assert parse("--name", "x", defaults=defaults).rate == 3.0
    assert parse("--name", "x", "--count=5", defaults=defaults).rate == 2.0
    assert parse("--name", "x", "--config", str(path), defaults=defaults).rate == 2.0


@dataclass
class Training:
    output_dir: str = field(metadata={"help": "Where to."})
    learning_rate: float = field(default=1e-3, metadata={"help": "A rate."})
    num_train_epochs: float = field(default=3, metadata={"help": "A number."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "A size."})


@pytest.mark.parametrize("words", ["--lr 0.1 --epochs 2 --batch_size 4 -o x", "-o=x --lr=0.1 --num-epochs=2 --bs=4"])
def test_names_from_other_programs_are_understood(words, tmp_path):
    seen = []

    def defaults(given):
        seen.append(given)
        return {}

    expected = Training("x", 0.1, 2, 4)
    assert parse_options(words.split(), (Training,), "What it does.", "prog", defaults=defaults) == (expected,)
    assert seen == [{"output_dir", "learning_rate", "num_train_epochs", "per_device_train_batch_size"}]
    path = tmp_path / "options.yaml"
    path.write_text("lr: 0.1\nnum-epochs: 2\nbatch_size: 4\noutput: x\n")
    assert parse_options(["--config", str(path)], (Training,), "What it does.", "prog") == (expected,)


@pytest.mark.parametrize(
    "content", ["1: x\nname: a\n", "[" * 500, "name: a\n? [x]\n: b\n", b"name: \xff\n", "!!python/x y"]
)
def test_a_file_of_any_content_is_a_mistake_of_one_line(tmp_path, content):
    for suffix in ("yaml", "json"):
        path = tmp_path / f"options.{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match=f"options.{suffix}"):
            parse("--config", str(path))


def test_options_are_not_abbreviated():
    with pytest.raises(ValueError, match="'--conf' .did you mean '--config'"):
        parse("--name", "x", "--conf", "options.yaml")


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match="nowhere.yaml"):
        parse("--config", "nowhere.yaml")


def test_help_shows_the_common_options_and_help_all_every_one(capsys):
    for word, rate_shown in (("--help", False), ("--help_all", True)):
        with pytest.raises(SystemExit) as stop:
            parse(word)
        assert stop.value.code == 0
        shown = capsys.readouterr().out
        assert "What it does." in shown
        assert "A number." in shown
        assert ("A rate. Default: 0.5." in shown) == rate_shown
        assert "A number. Default: 1.\n" in shown
        assert ("Languages. Default: en.\n" in shown) == rate_shown
        assert "A name. Required.\n" in shown
        assert "--help_all " in shown and "--help-all" not in shown


@dataclass
class Switches:
    warm: bool = field(default=True, metadata={"help": "Keep warm."})
    dry: bool = field(default=False, metadata={"help": "Keep dry."})


def test_help_says_what_the_no_of_a_switch_does(capsys):
    with pytest.raises(SystemExit):
        parse_options(["--help"], (Switches,), "What it does.", "prog")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--warm [WARM] Keep warm. Default: true. --no_warm The same as --warm false." in shown
    assert "--dry [DRY] Keep dry. Default: false." in shown


def test_a_switch_with_a_wrong_value_is_named():
    with pytest.raises(ValueError, match=r"^Argument --dry: Truthy value expected: got 0.1 but"):
        parse_options(["--dry", "0.1"], (Switches,), "What it does.", "prog")


# Words without a name


@dataclass
class Conversion:
    output_dir: str = field(metadata={"help": "Where to.", "positional": True})
    name: str = field(default="x", metadata={"help": "A name."})
    overwrite: bool = field(default=False, metadata={"help": "A switch."})


def parse_conversion(*argv):
    return parse_options(argv, (Conversion,), "What it does.", "prog")[0]


def test_a_positional_option_is_named_or_not(tmp_path, capsys):
    path = tmp_path / "options.yaml"
    path.write_text("output_dir: from_file\noverwrite: true\n")
    assert parse_conversion("out/", "--name", "n") == Conversion("out/", "n")
    assert parse_conversion("--name", "n", "out/") == Conversion("out/", "n")
    assert parse_conversion("--output_dir", "out/") == Conversion("out/")
    assert parse_conversion("--config", str(path)) == Conversion("from_file", "x", True)
    assert parse_conversion("--config", str(path), "out/") == Conversion("out/", "x", True)
    with pytest.raises(SystemExit):
        parse_conversion("--help")
    assert "usage: prog [options] output_dir" in capsys.readouterr().out


def test_a_switch_does_not_swallow_the_word_behind_it():
    assert parse_conversion("--overwrite", "out/") == Conversion("out/", "x", True)
    assert parse_conversion("--overwrite", "no", "out/") == Conversion("out/", "x", False)
    assert parse_conversion("out/", "--overwrite") == Conversion("out/", "x", True)


@pytest.mark.parametrize(
    "argv, message", [([], "required: output_dir"), (["out/", "more"], "'more'"), (["--overwrite"], "required")]
)
def test_a_positional_option_is_given_once(argv, message):
    with pytest.raises(ValueError, match=message):
        parse_conversion(*argv)


# Options of the commands


@pytest.mark.parametrize("command", [["train"], ["diagnose", "twins"], ["convert"], ["evaluate"], ["prepare", "hub"]])
def test_help_shows_the_text_and_the_default_of_every_field(command, monkeypatch, capsys):
    """The help of an option is that of its own field, and ends with its default or the word Required."""
    parsers = []
    show = options._Parser.print_help
    monkeypatch.setattr(options._Parser, "print_help", lambda parser: parsers.append(parser) or show(parser))
    with pytest.raises(SystemExit):
        main([*command, "--help_all"])
    assert "options:" in capsys.readouterr().out
    (parser,) = parsers
    assert len(parser.fields) >= 7
    actions = {action.dest: action for action in reversed(parser._actions)}  # the first one of a name
    for item in parser.fields:
        text = item.metadata.get("help") or ""
        shown = actions[item.name].help
        assert shown.startswith(text)
        assert shown == text or re.fullmatch(r"(Default: .+\.|Required\.)", shown.removeprefix(text).strip())
        assert "efault" in shown or "Required." in shown


@dataclass
class Checkpointing:
    recompute: bool | None = field(default=None, metadata={"help": "A switch.", "nargs": "?", "const": True})


def test_a_field_may_describe_its_option_as_argparse_does():
    """transformers has such fields: three states, and the name alone means true."""
    for argv, expected in (([], None), (["--recompute"], True), (["--recompute", "false"], False)):
        (args,) = parse_options(argv, (Checkpointing,), "What it does.", "prog")
        assert args == Checkpointing(expected)


@pytest.mark.parametrize(
    "words, message",
    [
        (
            "out --overwrite maybe",
            r"^Argument --overwrite: Truthy value expected: got maybe but .*\(case insensitive\)\. ",
        ),
        (
            "--overwrite maybe out",
            r"'out'.* --overwrite takes only true or false, so 'maybe' after it was not read as",
        ),
        ("out --overwrite=maybe", r"^Argument --overwrite: Truthy value expected: got maybe"),
        ("out stray", r"^Unknown options: 'stray'. `prog` takes output_dir and options. Each value needs its option"),
        ("out stray --nmae x", r"^Unknown options: '--nmae' \(did you mean '--name'\?\)"),
        ("", r"required: output_dir"),
    ],
)
def test_words_that_do_not_fit(words, message):
    with pytest.raises(ValueError, match=message):
        parse_conversion(*words.split())


def test_an_empty_word_is_no_name():
    with pytest.raises(ValueError, match="The following arguments are empty: output_dir"):
        parse_conversion("")
