"""The benchmarks: the table of docs/results/speed.md, and the GPU benchmark with a small model on the CPU."""

import json
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch


START, END = "<!-- bench -->", "<!-- /bench -->"
SCRIPT_ROW = re.compile(r"^\| \*\*`(\w+\.py)`\*\* \|", re.MULTILINE)
ROW = {"work": "w", "against": "a", "ratio": 5.25, "bound": ">= 5", "reached": True}


@pytest.fixture
def load(repository_root: Path, monkeypatch: pytest.MonkeyPatch):
    """Loads a script of the folder as `python benchmarks/NAME.py` would find it."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(repository_root / "benchmarks")
        spec = spec_from_file_location(name, repository_root / "benchmarks" / f"{name}.py")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def call(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
    module.main()


# The table


@pytest.fixture
def table_file(repository_root: Path) -> Path:
    path = repository_root / "benchmarks" / "results" / "bench.md"
    if not path.exists():
        pytest.skip("there is no benchmarks/results/bench.md yet: `make bench` writes it")
    return path


def test_the_page_on_speed_shows_the_table(repository_root, table_file):
    page = (repository_root / "docs" / "results" / "speed.md").read_text(encoding="utf-8")
    assert page.count(START) == page.count(END) == 1
    shown = page.partition(START)[2].partition(END)[0]
    assert shown.strip() == table_file.read_text(encoding="utf-8").strip()


def test_the_table_is_made_of_figures_of_scripts_that_exist(repository_root, table_file, load):
    lines = (table_file.parent / "bench.jsonl").read_text(encoding="utf-8").splitlines()
    reports = {report["script"]: report for report in map(json.loads, lines)}
    text = table_file.read_text(encoding="utf-8")
    assert load("table").table(reports) == text
    named = SCRIPT_ROW.findall(text)
    assert named == sorted(reports)
    assert all((repository_root / "benchmarks" / name).is_file() for name in named)


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
    return json.dumps({"benchmark": "b", "rows": [ROW | row], "threads": 1, "torch": "2.0", "machine": machine})


def test_table_runs_scripts_and_goes_on_where_one_fails(tmp_path, load, monkeypatch, capfd):
    table = load("table")
    monkeypatch.setattr(table, "FOLDER", tmp_path)
    write_script(tmp_path, "bench_b.py", f"print('''{report_of()}''')")
    write_script(tmp_path, "bench_a.py", f"print('''{report_of(ratio=0.5, reached=False)}''')")
    write_script(tmp_path, "bench_wrong.py", "raise SystemExit('not the figures of the reference')")
    write_script(tmp_path, "bench_chatty.py", f"print('hello'); print('''{report_of()}''')")
    write_script(tmp_path, "bench_rowless.py", "print('{}')")
    results = tmp_path / "results"
    with pytest.raises(SystemExit) as stop:
        call(table, monkeypatch, "--results", results)
    assert stop.value.code == 1
    errors = capfd.readouterr().err
    assert "not the figures of the reference" in errors  # of the script
    assert re.findall(r"^FAILED (\w+\.py)", errors, re.MULTILINE) == [
        "bench_chatty.py",
        "bench_rowless.py",
        "bench_wrong.py",
    ]
    lines = (results / "bench.md").read_text(encoding="utf-8").splitlines()
    assert lines[2:6] == [
        "| **`bench_a.py`** | | | | |",
        "| w | a | 0.5 | >= 5 | no |",
        "| **`bench_b.py`** | | | | |",
        "| w | a | 5.25 | >= 5 | yes |",
    ]
    assert "one thread; python 3." in lines[-1]
    assert str(tmp_path) not in (results / "bench.jsonl").read_text(encoding="utf-8")

    # Run again alone, a script keeps the others' rows; one that fails by now, or is no more, loses its own.
    write_script(tmp_path, "bench_b.py", "raise SystemExit(3)")
    (tmp_path / "bench_a.py").rename(tmp_path / "bench_c.py")
    with pytest.raises(SystemExit):
        call(table, monkeypatch, "--results", results, tmp_path / "bench_b.py")
    call(table, monkeypatch, "--results", results, tmp_path / "bench_c.py")
    assert SCRIPT_ROW.findall((results / "bench.md").read_text(encoding="utf-8")) == ["bench_c.py"]


def test_table_says_of_which_machine_each_figure_is(tmp_path, load, monkeypatch, capsys):
    table = load("table")
    reports = {
        name: {"script": name, **json.loads(report_of(machine)), "cpu": f"cpu of {machine}", "python": "3.11"}
        for name, machine in {"bench_a.py": "x", "bench_b.py": "y", "bench_c.py": "x"}.items()
    }
    last = table.table(reports).splitlines()[-1]
    assert "bench_a.py, bench_c.py: cpu of x (x), one thread; python 3.11, torch 2.0. bench_b.py: cpu of y (y)" in last
    one = table.table({"bench_a.py": reports["bench_a.py"]}).splitlines()[-1]
    assert "bench_a.py" not in one
    with pytest.raises(SystemExit, match="run the benchmarks first"):
        call(table, monkeypatch, "--report", "--results", tmp_path)
    for words, message in (
        (["--report", "bench_a.py"], "leave out the scripts"),
        (["bench_nothing.py"], "no such file: bench_nothing.py"),
    ):
        with pytest.raises(SystemExit) as stop:
            call(table, monkeypatch, *words)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


# The GPU benchmark


def test_gpu_benchmark_needs_a_gpu(load, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu = load("gpu")
    with pytest.raises(SystemExit) as stop:
        call(gpu, monkeypatch)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    with pytest.raises(SystemExit) as stop:
        call(gpu, monkeypatch, "--device", "cpu")
    assert stop.value.code == 2
    assert "add --tiny" in capsys.readouterr().err


def test_gpu_benchmark_on_a_small_model(load, monkeypatch, capsys):
    gpu = load("gpu")
    plain_step, losses, dtypes = gpu.Bench.step, {}, set()

    def step(bench, case):
        """As it is, but that memory runs out in one case; what the others compute is kept."""
        if case == ("kcl_chunked", "eager"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        training_step = bench.trainer.training_step

        def kept(model, inputs):
            losses[case] = training_step(model, inputs).item()

        layer = bench.trainer.model.text_model.layers[0].fc1
        hook = layer.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
        monkeypatch.setattr(bench.trainer, "training_step", kept)
        plain_step(bench, case)
        hook.remove()
        monkeypatch.setattr(bench.trainer, "training_step", training_step)

    monkeypatch.setattr(gpu.Bench, "step", step)
    options = ["--clips", "4", "--languages", "3", "--chunk", "2", "--rounds", "1", "--warmup", "1"]
    call(gpu, monkeypatch, "--device", "cpu", "--tiny", "--settings", "sdpa", "eager", *options)
    *lines, line = capsys.readouterr().out.splitlines()
    report = json.loads(line)
    variants = ["mlclap", "cacl", "cacl_chunked", "kcl_at_once", "kcl", "kcl_chunked", "akcl"]
    assert [(case["variant"], case["setting"]) for case in report["cases"]] == [
        (variant, setting) for setting in ("sdpa", "eager") for variant in variants
    ]
    for case in report["cases"]:
        failed = (case["variant"], case["setting"]) == ("kcl_chunked", "eager")
        assert case["out_of_memory"] == failed
        assert failed or case["ms"] > 0
        assert not {"peak_gb", "reserved_gb", "above_gb"} & case.keys()  # a CPU has no figures of memory
    assert len(lines) == 2 + len(report["cases"])
    assert sum("out of memory" in text for text in lines) == 1
    assert [row["work"].split(",")[0] for row in report["rows"]] == ["kcl step", "cacl_chunked step"] * 2
    assert {"clips": 4, "languages": 3, "chunk": 2, "device": "cpu", "rounds": 1}.items() <= report.items()
    assert report["parameters"] > 10_000
    assert dtypes == {torch.bfloat16}  # autocast is on
    # Losses of random embeddings are near chance, log(4) in each of the terms.
    assert len(losses) == 13
    assert all(0 < loss < 3 for loss in losses.values())
