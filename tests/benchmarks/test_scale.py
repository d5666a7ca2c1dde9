"""The table of large sizes."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest


PAGE = "# Sizes\n\n<!-- bench -->\nan old table\n<!-- /bench -->\n\nMore text.\n"
SCRIPT = """
import json, sys
part = float(sys.argv[sys.argv.index("--part") + 1])
print(json.dumps({report!r} | {{"size": {{"rows": int(1000 * part)}}}}))
"""


@pytest.fixture
def scale(benchmarks_folder) -> ModuleType:
    return importlib.import_module("scale")


@pytest.fixture
def folder(tmp_path, scale, monkeypatch) -> Path:
    """Where the scripts of a test are."""
    monkeypatch.setattr(scale, "SCRIPTS", tmp_path)
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    return tmp_path


def report_of(machine: str = "x", **figures: float) -> dict:
    environment = {"threads": 1, "python": "3.11", "torch": "2.0", "machine": machine, "cpu": f"cpu of {machine}"}
    return {"name": "n", "figures": figures, "bars": {"cpu_seconds": 2.0, "memory_mb": 10}, "environment": environment}


def write_script(folder: Path, name: str, source: str | dict) -> Path:
    path = folder / name
    path.write_text(source if isinstance(source, str) else SCRIPT.format(report=source), encoding="utf-8")
    return path


def call(module: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, *words: object) -> None:
    files = ("--results", folder / "scale.jsonl", "--page", folder / "page.md")
    monkeypatch.setattr(sys, "argv", ["scale", *map(str, (*files, *words))])
    module.main()


def test_the_page_shows_the_table_of_the_figures(repository_root, scale):
    reports = importlib.import_module("shared.reports").read_reports(
        repository_root / "benchmarks" / "results" / "scale.jsonl", scale.SCRIPTS
    )
    page = (repository_root / "docs" / "results" / "scale.md").read_text(encoding="utf-8")
    assert page.partition("<!-- bench -->\n")[2].partition("<!-- /bench -->")[0] == scale.table(reports)


def test_every_script_is_listed(repository_root):
    folder = repository_root / "benchmarks"
    listed = re.findall(r"^\| `scale/(\w+\.py)` \|", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {path.name for path in (folder / "scale").glob("*.py")} <= set(listed)
    assert len(set(listed)) == len(listed)


def test_figures_are_judged_by_their_bars(scale):
    assert scale.judged(2.0, 2) == ["2", "<= 2", "yes"]
    assert scale.judged(2.01, 2) == ["2.01", "<= 2", "no"]
    assert scale.judged(0, 2) == ["0", "<= 2", "yes"]
    assert scale.judged(None, 2) == ["not measured", "<= 2", ""]


@pytest.mark.heavy
def test_scripts_run_and_the_others_go_on_where_one_fails(folder, scale, monkeypatch, capfd):
    write_script(folder, "b.py", report_of(cpu_seconds=1.5, memory_mb=20))
    write_script(folder, "a.py", report_of(cpu_seconds=2.5))
    write_script(folder, "wrong.py", "raise SystemExit('the numbers are wrong')")
    write_script(folder, "chatty.py", "print('hello'); print('{}')")
    write_script(folder, "bare.py", 'print(\'{"name": "bare"}\')')
    with pytest.raises(SystemExit) as stop:
        call(scale, monkeypatch, folder)
    assert stop.value.code == 1
    errors = capfd.readouterr().err
    assert "the numbers are wrong" in errors
    assert re.findall(r"^FAILED (\w+\.py)", errors, re.MULTILINE) == ["bare.py", "chatty.py", "wrong.py"]
    page = (folder / "page.md").read_text(encoding="utf-8")
    assert page.splitlines() == [
        *("# Sizes", "", "<!-- bench -->"),
        "| benchmark | figure | measured | bar | met |",
        "| --- | --- | ---: | ---: | --- |",
        "| **`a.py`** | rows 1,000 |  |  |  |",
        "|  | cpu_seconds | 2.5 | <= 2 | no |",
        "|  | memory_mb | not measured | <= 10 |  |",
        "| **`b.py`** | rows 1,000 |  |  |  |",
        "|  | cpu_seconds | 1.5 | <= 2 | yes |",
        "|  | memory_mb | 20 | <= 10 | no |",
        "",
        "By `make bench-scale`. cpu of x (x), one thread; python 3.11, torch 2.0.",
        *("<!-- /bench -->", "", "More text."),
    ]

    # A part of the size shows figures and keeps nothing; a script that is run alone keeps the rows of the others.
    kept = (folder / "scale.jsonl").read_bytes()
    call(scale, monkeypatch, folder, "--part", 0.5, folder / "b.py")
    assert "rows 500" in capfd.readouterr().out
    assert (folder / "scale.jsonl").read_bytes() == kept
    assert (folder / "page.md").read_text(encoding="utf-8") == page
    write_script(folder, "b.py", report_of(machine="y", cpu_seconds=1))
    call(scale, monkeypatch, folder, folder / "b.py")
    last = capfd.readouterr().out.strip().splitlines()[-1]
    assert "a.py: cpu of x (x)" in last
    assert "b.py: cpu of y (y)" in last
    assert [json.loads(line)["script"] for line in (folder / "scale.jsonl").read_text().splitlines()] == [
        "a.py",
        "b.py",
    ]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--report", "--part", "0.5"], "leave out the scripts and --part"),
        (["nothing.py"], "no such file: nothing.py"),
        (["--part", "0"], "--part must be above 0"),
        (["--part", "2"], "at most 1"),
    ],
)
def test_options_that_cannot_be(words, message, folder, scale, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        call(scale, monkeypatch, folder, *words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_every_script_has_bars(repository_root):
    for script in (repository_root / "benchmarks" / "scale").glob("*.py"):
        content = ast.parse(script.read_text(encoding="utf-8"))
        bars = [ast.literal_eval(node.value) for node in content.body if _assigns(node, "BARS")]
        assert len(bars) == 1 and bars[0], script.name


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]
