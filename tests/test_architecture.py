"""Holds the rules of the house: imports point down, and no files import one another in a circle."""

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest


# From the bottom up. A folder may import itself and what stands before it.
FOLDERS = ("modeling_atri", "hub_cards", "corpora", "search", "trainer", "cli")
# A part of `modeling_atri` that brings models and data into another program. Like the command line, it uses what
# stands below it, and nothing uses it.
INTEGRATION, INTEGRATION_FOLDERS = "modeling_atri/mteb", ("mteb", "mteb_encoder")
LAYERS = (*FOLDERS[:-1], INTEGRATION, "cli")
# Folders of the same height: neither imports the other.
BESIDE_ONE_ANOTHER = {"search", "trainer"}
FOLDER_OF_PACKAGE = (
    {f"modeling_atri.{folder}": INTEGRATION for folder in INTEGRATION_FOLDERS}
    | {f"modeling_atri.{folder}": folder for folder in FOLDERS[1:]}
    | {"modeling_atri": "modeling_atri"}
)
OUTER_FOLDERS = {"examples", "benchmarks", "tests"}
# What a file that is copied to the Hub finds where it is loaded: transformers brings huggingface_hub and numpy.
COPIED_FILES_MAY_IMPORT = {"torch", "transformers", "huggingface_hub", "numpy", *sys.stdlib_module_names}
# A script that `evaluate` copies away and runs on its own.
SCRIPT_FOLDER = Path("trainer") / "evaluation" / "retrieval_metric"


def source_files(root: Path) -> list[Path]:
    return sorted(path.relative_to(root) for folder in FOLDERS for path in (root / folder).rglob("*.py"))


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Level (number of leading dots) and module of every import, also those inside functions and TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.level, node.module
            yield from ((node.level, f"{node.module}.{alias.name}") for alias in node.names if node.level == 0)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


def folder_of(module: str) -> str | None:
    """The folder of the checkout that a module is in; None for other people's modules."""
    for package, folder in FOLDER_OF_PACKAGE.items():
        if module == package or module.startswith(f"{package}."):
            return folder
    return None


def violations(path: Path, source: str) -> list[str]:
    is_integration = path.parts[0] == "modeling_atri" and path.parts[1] in INTEGRATION_FOLDERS
    own_folder = INTEGRATION if is_integration else path.parts[0]
    depth = len(path.parts) - 1
    found = []
    for level, module in imports(source):
        if level > depth:
            found.append(f"{path}: a relative import leaves the folder ({'.' * level}{module}): write it absolutely")
        if level == depth and own_folder == "modeling_atri" and module.split(".")[0] in INTEGRATION_FOLDERS:
            found.append(f"{path}: imports {module}: arrows point down only, {' <- '.join(LAYERS)}")
        if level:
            continue
        if module.split(".")[0] in OUTER_FOLDERS | set(FOLDERS[1:]):
            found.append(f"{path}: imports {module}, which is not a part of the installed package")
        folder = folder_of(module)
        if folder is not None and LAYERS.index(folder) > LAYERS.index(own_folder):
            found.append(f"{path}: imports {module}: arrows point down only, {' <- '.join(LAYERS)}")
        elif folder != own_folder and {folder, own_folder} == BESIDE_ONE_ANOTHER:
            found.append(f"{path}: imports {module}: {own_folder} and {folder} stand beside one another")
    return found


def copied_file_violations(path: Path, source: str) -> list[str]:
    """What the search for files to copy would miss, or the Hub would lack."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            sibling = f"{node.module}.py"
            if node.level > 1 or node.module is None or "." in node.module:
                found.append(f"{path}:{node.lineno}: only `from .sibling import name` is found and copied")
            elif not sibling.endswith("_atri.py"):
                found.append(f"{path}:{node.lineno}: {sibling} is not one of the copied files (*_atri.py)")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            outside = [name for name in names if name.split(".")[0] not in COPIED_FILES_MAY_IMPORT]
            found.extend(f"{path}:{node.lineno}: {name} is missing where the file is copied to" for name in outside)
        elif isinstance(node, ast.Try):
            guarded = [child for child in ast.walk(node) if isinstance(child, ast.ImportFrom) and child.level]
            found.extend(f"{path}:{child.lineno}: an import inside `try` is not copied" for child in guarded)
    return found


def test_imports_point_down(repository_root):
    files = [path for path in source_files(repository_root) if SCRIPT_FOLDER not in path.parents]
    assert len(files) > 10
    found = [problem for path in files for problem in violations(path, (repository_root / path).read_text("utf-8"))]
    assert not found, "\n".join(found)


def dotted_name(path: Path) -> str:
    """What a source file is imported as; of an `__init__.py`, its package."""
    parts = path.with_suffix("").parts
    parts = parts if parts[0] == "modeling_atri" else ("modeling_atri", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(module: str, is_package: bool, source: str) -> set[str]:
    """Absolute names of all that a file may import: also under TYPE_CHECKING, in functions, and by `import_module`.

    Of `from x import y` both `x` and `x.y` are named, since either may be a file.
    """
    package = module if is_package else module.rpartition(".")[0]

    def absolute(name: str) -> str:
        level = len(name) - len(name.lstrip("."))
        if level == 0:
            return name
        base = package.split(".")[: len(package.split(".")) - level + 1]
        return ".".join([*base, name[level:]]).rstrip(".")

    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""))
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__"):
                found.add(absolute(str(node.args[0].value)))
    return found


def import_graph(sources: Mapping[Path, str]) -> dict[str, set[str]]:
    """For every file of the packages the files it imports. A file's own package is not one of them."""
    modules = {dotted_name(path): path for path in sources}
    return {
        module: {
            imported
            for imported in imported_modules(module, path.name == "__init__.py", sources[path])
            if imported in modules and imported != module
        }
        for module, path in modules.items()
    }


def circle(graph: Mapping[str, set[str]]) -> list[str] | None:
    """Modules that import one another, the first again at the end; None where there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return None


def test_no_files_import_one_another_in_a_circle(repository_root):
    sources = {path: (repository_root / path).read_text("utf-8") for path in source_files(repository_root)}
    graph = import_graph(sources)
    assert sum(map(len, graph.values())) > 100
    found = circle(graph)
    assert found is None, " -> ".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "from .b import name",
        "from . import b",
        "import modeling_atri.trainer.b",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import name",
        "def function():\n    from modeling_atri.trainer import b",
        "from importlib import import_module\nimport_module('.b', __package__)",
        "import importlib\nimportlib.import_module('modeling_atri.trainer.b')",
    ],
)
def test_a_circle_is_found(source):
    files = {Path("trainer/a.py"): source, Path("trainer/b.py"): "from .c import x", Path("trainer/c.py"): "import os"}
    assert circle(import_graph(files)) is None
    files[Path("trainer/c.py")] = "from .a import x"
    assert set(circle(import_graph(files))) == {f"modeling_atri.trainer.{name}" for name in "abc"}


def test_scripts_import_absolutely(repository_root):
    scripts = [path for path in source_files(repository_root) if SCRIPT_FOLDER in path.parents]
    assert scripts
    for path in scripts:
        assert all(level == 0 for level, _ in imports((repository_root / path).read_text("utf-8"))), path


def copied_files(root: Path) -> list[Path]:
    """The files that the Auto classes load, and their siblings."""
    return sorted(root.glob("modeling_atri/*_atri.py"))


def test_files_copied_to_the_hub_stand_alone(repository_root):
    files = copied_files(repository_root)
    assert len(files) >= 4
    found = [
        problem
        for path in files
        for problem in copied_file_violations(path.relative_to(repository_root), path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path, source, message",
    [
        ("trainer/losses.py", "from modeling_atri.cli.main import main", "arrows point down"),
        ("hub_cards/cards.py", "def card():\n    import modeling_atri.trainer.metrics", "arrows point down"),
        ("modeling_atri/encode.py", "from modeling_atri import trainer", "arrows point down"),
        ("modeling_atri/encode.py", "from ..trainer import losses", "leaves the folder"),
        ("trainer/data/rows.py", "from ...hub_cards import cards", "leaves the folder"),
        ("trainer/data/rows.py", "from modeling_atri.search import Hit", "stand beside"),
        ("search/hits.py", "from modeling_atri.trainer import losses", "arrows point down"),
        ("trainer/trainer.py", "from modeling_atri.mteb import retrieval_tasks", "arrows point down"),
        ("modeling_atri/encode/encoding.py", "from ..mteb.tasks import retrieval_tasks", "arrows point down"),
        ("modeling_atri/mteb/tasks.py", "from modeling_atri.cli.main import main", "arrows point down"),
        ("cli/main.py", "import benchmarks.bench_metrics", "not a part"),
        ("cli/main.py", "from trainer.losses import kcl_loss", "not a part"),
    ],
)
def test_the_rule_finds_what_breaks_it(path, source, message):
    assert any(message in problem for problem in violations(Path(path), source))


@pytest.mark.parametrize(
    "path, source",
    [
        ("trainer/data/rows.py", "from ..losses import kcl_loss"),
        ("trainer/losses.py", "from modeling_atri.loss_atri import info_nce_loss"),
        ("trainer/losses.py", "from .data.rows import load_rows\nfrom modeling_atri.hub_cards import cards"),
        ("modeling_atri/encode.py", "import torch\nfrom .audio_io import load_audio"),
        ("modeling_atri/mteb/tasks.py", "from modeling_atri.trainer.metrics import retrieval_metrics"),
        ("cli/main.py", "from modeling_atri.trainer import AtriTrainer"),
    ],
)
def test_the_rule_lets_pass_what_keeps_it(path, source):
    assert violations(Path(path), source) == []


@pytest.mark.parametrize(
    "source, message",
    [
        ("from . import loss_atri", "only `from .sibling import name`"),
        ("from ..modeling_atri.loss_atri import info_nce_loss", "only `from .sibling import name`"),
        ("from .audio_io import load_audio", "not one of the copied files"),
        ("import soundfile", "missing where"),
        ("from modeling_atri.loss_atri import info_nce_loss", "missing where"),
        ("try:\n    from .loss_atri import info_nce_loss\nexcept ImportError:\n    pass", "inside `try`"),
    ],
)
def test_the_rule_of_copied_files_finds_what_breaks_it(source, message):
    assert any(message in problem for problem in copied_file_violations(Path("x_atri.py"), source))


def test_strict_modules_have_no_known_type_errors(repository_root):
    settings = tomllib.loads((repository_root / "pyproject.toml").read_text("utf-8"))["tool"]
    (strict,) = [entry["module"] for entry in settings["mypy"]["overrides"] if entry.get("disallow_untyped_defs")]
    baseline = (repository_root / settings["mypy-baseline"]["baseline_path"]).read_text("utf-8").splitlines()
    with_errors = {dotted_name(Path(line.partition(":")[0])) for line in baseline}
    assert {"modeling_atri.hub_cards.*", "modeling_atri.corpora.*"} <= set(strict)
    assert [name for name in sorted(with_errors) if any(fnmatch(name, pattern) for pattern in strict)] == []
