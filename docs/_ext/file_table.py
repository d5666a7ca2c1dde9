"""The directive `file-table`: every folder of the packages and the files in it, each with its first sentence."""

import ast
from pathlib import Path

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


ROOT = Path(__file__).resolve().parents[2]


class FileTable(SphinxDirective):
    """`{file-table} corpora` lists the files below `corpora/`, one table for each folder."""

    required_arguments = 1

    def run(self):
        lines = []
        for folder in sorted({path.parent for path in (ROOT / self.arguments[0]).rglob("*.py")}):
            lines += [f"**`{folder.relative_to(ROOT).as_posix()}/`**: {summary(folder / '__init__.py')}", ""]
            files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
            if files:
                lines += [
                    "| file | content |",
                    "|---|---|",
                    *(f"| `{file.name}` | {summary(file)} |" for file in files),
                ]
                lines.append("")
        return self.parse_text_to_nodes(StringList(lines, self.arguments[0]))


def summary(path: Path) -> str:
    """The first paragraph of a file's docstring, on one line; empty without the file."""
    if not path.exists():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", r"\|")


def setup(app):
    app.add_directive("file-table", FileTable)
    return {"parallel_read_safe": True}
