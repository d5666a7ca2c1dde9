"""The directive `command-help`: what a command of `atri` prints for `--help`, from the real parser."""

import contextlib
import io
import os

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from modeling_atri.cli.main import main


_COLUMNS = "100"


def help_text(words: list[str]) -> str:
    """What `atri WORDS --help` prints, in lines of 100 characters."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _COLUMNS
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    if not printed.getvalue().strip():
        raise ValueError(f"`atri {' '.join([*words, '--help'])}` printed nothing.")
    return printed.getvalue()


class CommandHelp(SphinxDirective):
    """`{command-help} train` shows the help of `atri train`."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        text = help_text(self.arguments[0].split() if self.arguments else [])
        return [nodes.literal_block(text, text, language="text", classes=["command-help"])]


def setup(app):
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
