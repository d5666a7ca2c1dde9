"""The directive `public-names`: the API reference of a package, one entry for each name of its `__all__`."""

import inspect
from dataclasses import MISSING, Field
from importlib import import_module
from types import ModuleType
from typing import ClassVar, is_typeddict

from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class PublicNames(SphinxDirective):
    """`{public-names} modeling_atri.trainer` documents each name that the package or module exports.

    A name that another package on an earlier page exports too is documented there, and here it is only mentioned.
    """

    required_arguments = 1
    option_spec: ClassVar = {"typed-dicts": directives.flag}  # these alone, which are left out otherwise

    def run(self):
        package = import_module(self.arguments[0])
        first_home = self.env.app.__dict__.setdefault("_public_names_home", {})
        lines = []
        names = exported(package)
        if not names:
            raise self.error(f"{package.__name__} has no public names.")
        for name in names:
            value = getattr(package, name)
            if is_typeddict(value) != ("typed-dicts" in self.options):
                continue
            full_name = f"{package.__name__}.{name}"
            home = first_home.setdefault(id(value), full_name)
            lines += entry(full_name, value) if home == full_name else [f"- `{full_name}` is `{home}`.", ""]
        return self.parse_text_to_nodes(StringList(lines, self.arguments[0]))


def exported(module: ModuleType) -> list[str]:
    """The classes and functions of `__all__`; of a module without it, those that it defines itself."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if callable(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    ]


def entry(full_name: str, value: object) -> list[str]:
    """Markdown with autodoc's directive for one name."""
    documented = "Args:" in (value.__doc__ or "")
    if is_typeddict(value):  # it has no signature that can be read
        kind = [f"autoclass:: {full_name}()", *([] if documented else ["   :members:", "   :undoc-members:"])]
    elif inspect.isclass(value):
        kind = [f"autoclass:: {full_name}", "   :members:", "   :show-inheritance:"]
        if fields := getattr(value, "_fields", ()):  # of a NamedTuple, whose docstring describes them
            kind.append(f"   :exclude-members: {', '.join(fields)}")
    else:
        kind = [f"autofunction:: {full_name}"]
    return ["```{eval-rst}", f".. {kind[0]}", *kind[1:], "```", "", *options(value)]


def options(value: object) -> list[str]:
    """A table of the fields of a dataclass that have a help text, without those that it inherits."""
    own = [field for field in getattr(value, "__dataclass_fields__", {}).values() if "help" in field.metadata]
    own = [field for field in own if field.name in value.__annotations__]
    rows = [f"| `{field.name}` | {default_of(field)} | {field.metadata['help']} |" for field in own]
    return (
        [f"Fields of `{value.__name__}`:", "", "| field | default | meaning |", "|---|---|---|", *rows, ""]
        if rows
        else []
    )


def default_of(field: Field) -> str:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return "required" if default is MISSING else f"`{default}`".replace("|", "\\|")


def setup(app):
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": False}
