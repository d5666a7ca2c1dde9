"""The command `benchmarks/teaching.py`. Its runs take hours, so no test does one."""

from pathlib import Path
from types import SimpleNamespace


def asked(work: Path, cells: list[str], seeds: tuple[int, ...] = (0,)) -> SimpleNamespace:
    return SimpleNamespace(work=work, cells=cells, seeds=list(seeds))


def test_a_taught_run_waits_for_its_teacher_whose_model_is_gone(tmp_path):
    from teaching import waiting_runs
    from teaching_study.cells import CELLS

    done = [{"cell": "use-english", "seed": seed, "options": CELLS["use-english"].options} for seed in (0, 1)]
    folder = tmp_path / "use-english-1"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    waiting = waiting_runs(asked(tmp_path, ["use-teach-kcl", "use-english"], (0, 1)), done)
    assert [(cell.name, seed) for cell, seed in waiting] == [
        *(("use-english", 0), ("use-teach-kcl", 0)),  # the teacher was trained, but its model was removed
        ("use-teach-kcl", 1),
    ]


def test_a_run_of_other_options_is_not_done(tmp_path):
    from teaching import waiting_runs
    from teaching_study.cells import CELLS

    name = "use-joint-mlclap"
    done = [{"cell": name, "seed": 0, "options": CELLS[name].options}]
    done += [{"cell": name, "seed": 1, "options": {"learning_rate": 0.5}}]
    assert [seed for _, seed in waiting_runs(asked(tmp_path, [name], (0, 1, 2)), done)] == [1, 2]
