"""Docstrings to reStructuredText: they are written in Markdown, as in transformers, and autodoc reads the former."""

import re
from collections.abc import Iterable, Iterator
from inspect import isclass

from transformers import PreTrainedConfig


_FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
_TIP = re.compile(r"^(\s*)</?Tip[^>]*>\s*$")
_CODE_LINK = re.compile(r"\[`~?([^`]+)`\](?:\([^)]*\))?")  # [`AtriModel`] and [`AtriModel`](link)
_LINK = re.compile(r"(?<!!)\[([^\]`]+)\]\((https?://[^)\s]+)\)")
_LOCAL_LINK = re.compile(r"(?<!!)\[([^\]`]+)\]\((\.\./[^)\s]+)\)")  # into transformers' own documentation
_ITEM = re.compile(r"(\s*)- ")
_SECTION = re.compile(r"(Args|Parameters|Attributes|Returns|Yields|Raises|Examples?|Notes?):\s*$")


def to_restructured_text(lines: list[str]) -> list[str]:
    """The lines of a docstring with Markdown's code, lists, links and tips in reStructuredText."""
    converted: list[str] = []
    in_code = False
    for line in _with_literal_blocks(_with_free_lists(lines)):
        if fence := _FENCE.match(line):
            in_code = not in_code
            if in_code:
                converted += ["", f"{fence[1]}.. code-block:: {_lexer(fence[2])}", ""]
            else:
                converted.append("")
        elif in_code:
            converted.append(f"    {line}")
        elif not _TIP.match(line):
            converted.append(_inline(line))
    return converted


def _with_free_lists(lines: list[str]) -> Iterator[str]:
    """Puts the empty lines around a list that reStructuredText needs and Markdown does not."""
    list_indent, before = None, ""
    for line in lines:
        item = _ITEM.match(line)
        if item and list_indent is None and before.strip():
            yield ""
        ends = line.strip() and list_indent is not None and not item and _indent(line) <= list_indent
        if ends and before.strip():
            yield ""
        list_indent = len(item[1]) if item else None if ends else list_indent
        yield line
        before = line


def _with_literal_blocks(lines: Iterable[str]) -> Iterator[str]:
    """Marks what is indented outside the sections of a docstring and is no list, such as a table, as it stands."""
    in_section = in_block = in_list = False
    for line in lines:
        if line.strip():
            if _indent(line) == 0:
                in_section, in_block = bool(_SECTION.match(line)), False
                in_list = bool(_ITEM.match(line))
            elif _indent(line) >= 4 and not (in_section or in_block or in_list):
                in_block = True
                yield from ["", "::", ""]
        yield line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _lexer(language: str) -> str:
    return {"": "text", "python": "python", "py": "python"}.get(language, language)


def _inline(line: str) -> str:
    line = _CODE_LINK.sub(r"`\1`", line)
    line = _LOCAL_LINK.sub(r"\1", line)
    return _LINK.sub(r"`\1 <\2>`__", line)


def _convert(app, what, name, obj, options, lines: list[str]) -> None:
    lines[:] = to_restructured_text(lines)


def _shorten(app, what, name, obj, options, signature, returns):
    """Leaves out what a class inherits from transformers: arguments of a configuration, all those of a Trainer."""
    if what == "class" and isclass(obj) and issubclass(obj, PreTrainedConfig):
        return f"({signature.partition(', *, ')[2]}", returns
    return ("(...)", returns) if signature and len(signature) > 1500 else None


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Leaves out what transformers adds to every class."""
    return True if name in ("config_class", "validate") else None


def setup(app):
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _convert, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True}
