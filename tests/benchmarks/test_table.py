"""The table of benchmarks."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest


SCRIPT_ROW = re.compile(r"^\| \*\*`(\w+\.py)`\*\* \|", re.MULTILINE)
ROW = {"work": "w", "against": "a", "ratio": 5.25, "bound": ">= 5", "reached": True}


@pytest.fixture
def table(benchmarks_folder) -> ModuleType:
    return importlib.import_module("table")


@pytest.fixture
def reports(benchmarks_folder) -> ModuleType:
    return importlib.import_module("shared.reports")


def call(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
    module.main()


def test_the_page_shows_the_table_of_the_figures(repository_root, table, reports):
    page = repository_root / "docs" / "results" / "speed.md"
    found = reports.read_reports(repository_root / "benchmarks" / "results" / "bench.jsonl", table.FOLDER)
    shown = page.read_text(encoding="utf-8").partition("<!-- bench -->\n")[2].partition("<!-- /bench -->")[0]
    assert shown == table.table(found)
    assert SCRIPT_ROW.findall(shown) == sorted(
        path.name for path in (repository_root / "benchmarks").glob("bench_*.py")
    )


def test_every_benchmark_is_listed(repository_root):
    folder = repository_root / "benchmarks"
    listed = re.findall(r"^\| `(\w+\.py)` \|", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {path.name for path in folder.glob("bench_*.py")} <= set(listed)
    assert len(set(listed)) == len(listed)


def write_script(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return path


def report_of(machine: str = "x86_64", **row) -> str:
    versions = {"threads": 1, "python": "3.11", "torch": "2.0", "machine": machine, "cpu": f"cpu of {machine}"}
    return json.dumps({"benchmark": "b", "rows": [ROW | row], **versions})


PAGE = "# Speed\n\n<!-- bench -->\nan old table\n<!-- /bench -->\n\nMore text.\n"


@pytest.mark.heavy
def test_table_runs_scripts_and_goes_on_where_one_fails(tmp_path, table, monkeypatch, capfd):
    monkeypatch.setattr(table, "FOLDER", tmp_path)
    write_script(tmp_path, "bench_b.py", f"print('''{report_of()}''')")
    write_script(tmp_path, "bench_a.py", f"print('''{report_of(ratio=0.5, reached=False)}''')")
    write_script(tmp_path, "bench_wrong.py", "raise SystemExit('not the figures of the reference')")
    write_script(tmp_path, "bench_chatty.py", f"print('hello'); print('''{report_of()}''')")
    write_script(tmp_path, "bench_rowless.py", "print('{}')")
    results, page = tmp_path / "bench.jsonl", tmp_path / "speed.md"
    files = ("--results", results, "--page", page)
    page.write_text(PAGE, encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        call(table, monkeypatch, *files)
    assert stop.value.code == 1
    errors = capfd.readouterr().err
    assert "not the figures of the reference" in errors  # the script's own message
    assert re.findall(r"^FAILED (\w+\.py)", errors, re.MULTILINE) == [
        "bench_chatty.py",
        "bench_rowless.py",
        "bench_wrong.py",
    ]
    assert page.read_text(encoding="utf-8").splitlines() == [
        *("# Speed", "", "<!-- bench -->"),
        "| work | against | ratio | bound | reached |",
        "| --- | --- | ---: | ---: | --- |",
        "| **`bench_a.py`** |  |  |  |  |",
        "| w | a | 0.5 | >= 5 | no |",
        "| **`bench_b.py`** |  |  |  |  |",
        "| w | a | 5.25 | >= 5 | yes |",
        "",
        "By `make bench`; times are CPU time, medians of ways that take turns. cpu of x86_64 (x86_64), one thread; "
        "python 3.11, torch 2.0.",
        *("<!-- /bench -->", "", "More text."),
    ]
    assert str(tmp_path) not in results.read_text(encoding="utf-8")

    # A script that is run alone keeps the rows of the others. Scripts that fail now, or are gone, lose their rows.
    write_script(tmp_path, "bench_b.py", "raise SystemExit(3)")
    (tmp_path / "bench_a.py").rename(tmp_path / "bench_c.py")
    with pytest.raises(SystemExit):
        call(table, monkeypatch, *files, tmp_path / "bench_b.py")
    call(table, monkeypatch, *files, tmp_path / "bench_c.py")
    assert SCRIPT_ROW.findall(page.read_text(encoding="utf-8")) == ["bench_c.py"]


def test_table_needs_the_markers(tmp_path, reports):
    page = tmp_path / "speed.md"
    for text in ("# Speed\n", "<!-- bench -->\nno end\n"):
        page.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit, match="must have the markers"):
            reports.write_table(page, "| a table |\n")
        assert page.read_text(encoding="utf-8") == text


def test_table_says_of_which_machine_each_figure_is(tmp_path, table, monkeypatch, capsys):
    reports = {
        name: {"script": name, **json.loads(report_of(machine))}
        for name, machine in {"bench_a.py": "x", "bench_b.py": "y", "bench_c.py": "x"}.items()
    }
    last = table.table(reports).splitlines()[-1]
    assert "bench_a.py, bench_c.py: cpu of x (x), one thread; python 3.11, torch 2.0. bench_b.py: cpu of y (y)" in last
    one = table.table({"bench_a.py": reports["bench_a.py"]}).splitlines()[-1]
    assert "bench_a.py" not in one
    with pytest.raises(SystemExit, match="run the benchmarks first"):
        call(table, monkeypatch, "--report", "--results", tmp_path / "bench.jsonl")
    for words, message in (
        (["--report", "bench_a.py"], "leave out the scripts"),
        (["bench_nothing.py"], "no such file: bench_nothing.py"),
    ):
        with pytest.raises(SystemExit) as stop:
            call(table, monkeypatch, *words)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
