"""The README tells the truth about names and commands."""

import re
import shlex
from pathlib import Path

import pytest

from modeling_atri.cli.main import COMMANDS


BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def blocks(repository_root: Path) -> list[tuple[str, str]]:
    return BLOCK.findall((repository_root / "README.md").read_text(encoding="utf-8"))


def test_make_targets_exist(repository_root, blocks):
    makefile = (repository_root / "Makefile").read_text(encoding="utf-8")
    text = (repository_root / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert {"quickstart", "test"} <= targets
    missing = [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]
    assert not missing


def test_commands_and_their_options_exist(blocks, capsys):
    from modeling_atri.cli.main import main

    lines = [line for kind, text in blocks if kind == "bash" for line in text.splitlines() if line.startswith("atri ")]
    assert lines
    for line in lines:
        _, command, *words = shlex.split(line, comments=True)
        assert command in COMMANDS
        with pytest.raises(SystemExit):
            main([command, "--help_all"])
        shown = capsys.readouterr().out
        assert all(word in shown for word in words if word.startswith("--")), line


def test_imported_names_exist(blocks):
    imports = [
        line
        for kind, text in blocks
        if kind == "python"
        for line in text.splitlines()
        if line.startswith("from modeling_atri")
    ]
    assert len(imports) >= 4
    for line in imports:
        exec(line, {})


def test_files_it_links_to_exist(repository_root):
    text = (repository_root / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert links
    assert all((repository_root / link).exists() for link in links)
