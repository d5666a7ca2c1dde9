"""The plan of what needs a GPU keeps what was measured, whatever happens to the other parts."""

import importlib
import json
import sys
from types import ModuleType

import pytest


@pytest.fixture
def gpu_plan(benchmarks_folder) -> ModuleType:
    return importlib.import_module("gpu_plan")


@pytest.fixture
def run(gpu_plan, tmp_path, monkeypatch, capsys):
    """Run scripts as the parts of a plan, in `minutes`; the status, the reports, and what was said."""
    facts = {"device": {"type": "cpu", "name": "a CPU"}, "date": "today", "commit": "abc"}
    monkeypatch.setattr(gpu_plan, "facts_of_machine", lambda device: facts)
    monkeypatch.setattr(gpu_plan, "FOLDER", tmp_path)

    def run(scripts: dict[str, str], minutes: float = 5.0, limit: float = 60.0, least: float = 1.0):
        plan = []
        for name, text in scripts.items():
            (tmp_path / f"{name}.py").write_text(text)
            plan.append(gpu_plan.Part(name, f"does {name}", (f"{name}.py",), limit, least))
        words = ["--device", "cpu", "--tiny", "--minutes", str(minutes), "--results", str(tmp_path / "gpu.jsonl")]
        monkeypatch.setattr(sys, "argv", ["gpu_plan.py", *words, "--logs", str(tmp_path / "logs")])
        status = 0
        try:
            gpu_plan.main(plan)
        except SystemExit as end:
            status = end.code
        said = capsys.readouterr()
        return status, [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()], said

    return run


BARS = [{"work": "a step", "against": "of itself", "ratio": 1.0, "bound": "<= 1.05", "reached": True}]


def test_reports_are_kept_with_the_machine(run):
    text = f"print('a table')\nprint({json.dumps(json.dumps({'benchmark': 'gpu', 'ms': 3}))})\nprint('{{ a line')"
    status, reports, said = run({"first": text, "second": "import sys; print(sys.argv[1:])"})
    assert status == 0
    assert [(report["part"], report["outcome"], report["is_trial"]) for report in reports] == [
        ("first", "done", True),
        ("second", "done", True),
    ]
    assert [report["reports"] for report in reports] == [[{"benchmark": "gpu", "ms": 3}], []]
    for report in reports:
        assert (report["device"]["name"], report["date"], report["commit"]) == ("a CPU", "today", "abc")
        assert 0 <= report["seconds"] < 60
    assert "# first: does first (at most 60 s)" in said.err
    assert "| **first**" in said.out


def test_a_part_that_fails_does_not_end_the_plan(run):
    line = json.dumps({"test": "tests/gpu/test_x.py::test_y", "outcome": "failed", "reason": "E\nit differs"})
    status, reports, said = run({"broken": f"print({line!r})\nraise SystemExit(3)", "next": f"print({BARS!r})"})
    assert status == 1
    assert [report["outcome"] for report in reports] == ["failed", "done"]
    assert reports[0]["reports"] == [json.loads(line)]
    assert "exit status 3; its messages are in" in reports[0]["reason"]
    assert "0 of 1 tests passed" in said.out
    assert "it differs" in said.out


def test_a_part_at_its_limit_is_stopped_and_keeps_what_it_printed(run):
    text = f"import signal\nprint({json.dumps(json.dumps({'rows': BARS}))})\nsignal.pause()"
    status, reports, said = run({"endless": text, "next": ""}, limit=1.5)
    assert status == 0
    assert [report["outcome"] for report in reports] == ["stopped", "done"]
    assert reports[0]["reports"] == [{"rows": BARS}]
    assert "endless: stopped after" in said.err
    assert "1.0 (bar <= 1.05)" in said.out and "met" in said.out


def test_a_part_without_time_is_skipped_with_a_line(run):
    status, reports, said = run({"late": "print('{}')"}, minutes=0.1, least=60.0)
    assert status == 0
    assert (reports[0]["outcome"], reports[0]["reports"]) == ("skipped", [])
    assert "late: skipped, because 1 s are left, and it needs 60" in said.err.replace("0 s are", "1 s are")


def test_reports_are_appended(run):
    run({"first": ""})
    _, reports, _ = run({"second": ""})
    assert [report["part"] for report in reports] == ["first", "second"]


def test_a_machine_without_a_gpu_is_told(gpu_plan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_plan, "FACTS", "raise RuntimeError('No CUDA GPUs are available')")
    words = ["--results", str(tmp_path / "gpu.jsonl"), "--logs", str(tmp_path / "logs")]
    monkeypatch.setattr(sys, "argv", ["gpu_plan.py", *words])
    with pytest.raises(SystemExit) as stop:
        gpu_plan.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No CUDA GPUs are available" in line and "--device cpu --tiny" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cpu"], "add --tiny"),
        (["--minutes", "0"], "must be above 0"),
        (["--parts", "x"], "invalid choice"),
    ],
)
def test_options_that_make_no_sense(gpu_plan, monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["gpu_plan.py", *words])
    with pytest.raises(SystemExit) as stop:
        gpu_plan.main()
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_the_help_names_all_parts(gpu_plan, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_plan.py", "--help"])
    with pytest.raises(SystemExit):
        gpu_plan.main()
    shown = capsys.readouterr().out
    for part in gpu_plan.PLAN:
        assert f"`{part.name}` (at most {part.limit_s:g} s)" in shown
    assert sum(part.least_s for part in gpu_plan.PLAN) <= 540


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_parts_on_small_models(gpu_plan, tmp_path, monkeypatch, capsys):
    words = ["--device", "cpu", "--tiny", "--results", str(tmp_path / "gpu.jsonl"), "--logs", str(tmp_path / "logs")]
    monkeypatch.setattr(sys, "argv", ["gpu_plan.py", *words])
    gpu_plan.main()
    reports = {report["part"]: report for report in map(json.loads, (tmp_path / "gpu.jsonl").open())}
    assert list(reports) == [part.name for part in gpu_plan.PLAN]
    assert {report["outcome"] for report in reports.values()} == {"done"}
    assert [case["setting"] for case in reports["step"]["reports"][0]["cases"]] == ["sdpa"] * 4
    outcomes = {line["outcome"] for line in reports["tests"]["reports"]}
    assert outcomes == {"passed", "skipped"}
    (soak,), (resume,) = reports["soak"]["reports"], reports["resume"]["reports"]
    assert soak["steps"] == soak["steps_of_epoch"] == 8
    assert soak["clips_per_s"] > 0 and 0 <= soak["waiting"] <= 1 and "resident_growth" in soak
    assert resume["largest_difference"] == 0
    assert resume["equal_weights"] == 1
    assert resume["losses"] == resume["resumed_losses"]
    assert "gpu_plan" not in capsys.readouterr().out
