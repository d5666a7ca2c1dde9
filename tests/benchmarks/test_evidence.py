"""The command `benchmarks/evidence.py`. Its runs take hours, so no test does one through the command."""

import dataclasses
from pathlib import Path

import pytest

from tests.helpers.study import made_up_run


def a_cell(name: str, **fields):
    from evidence_study.cells import Cell

    options = {"objective": "kcl", "learning_rate": 1e-3, "max_steps": 600}
    return Cell(name, name, options | fields.pop("options", {}), **fields)


def test_cells_of_the_same_name_are_equal_and_know_everything_they_name():
    from evidence_study.cells import with_beginnings
    from evidence_study.losses import LOSSES
    from evidence_study.studies import NAMES, find_study
    from evidence_study.towers import TOWERS
    from evidence_study.training_rows import CHANGES

    known = {}
    for name in NAMES:
        study = find_study(name)
        assert study.name == name
        for cells in (study.cells, study.tuning):
            assert len({cell.name for cell in cells}) == len(cells)
        for cell in with_beginnings([*study.cells, *study.tuning]):
            assert dataclasses.replace(known.setdefault(cell.name, cell), measure_every=None) == dataclasses.replace(
                cell, measure_every=None
            )
            assert cell.text in TOWERS
            assert cell.loss is None or cell.loss in LOSSES
            assert cell.rows is None or cell.rows in CHANGES
            assert {"objective", "learning_rate", "max_steps"} <= cell.options.keys()
            assert cell.is_taught <= (cell.begins_with is not None)


def test_captions_are_counted_with_those_of_the_teacher():
    english = a_cell("english", options={"objective": "mlclap", "languages": ["eng_Latn"]})
    taught = a_cell(
        "taught",
        options={"objective": "teach", "per_device_train_batch_size": 64, "max_steps": 100},
        begins_with=english,
    )
    drawn = a_cell("drawn", options={"languages_per_step": 2})
    assert [cell.captions_a_clip for cell in (english, taught, drawn)] == [600, 800, 1200]
    assert [cell.captions for cell in (english, taught, drawn)] == [600 * 32, 600 * 32 + 800 * 64, 1200 * 32]


def test_a_run_is_out_of_date_if_its_teacher_changed(tmp_path):
    from evidence import waiting_runs
    from evidence_study.places import Places

    teacher = a_cell("teacher")
    taught = a_cell("taught", options={"objective": "teach"}, begins_with=teacher, num_seeds=2)
    places = Places(tmp_path / "scenes", tmp_path / "work")
    done = [made_up_run("taught", seed, options=taught.definition) for seed in range(2)]
    assert waiting_runs([taught], None, done, places) == []
    changed = dataclasses.replace(teacher, options=teacher.options | {"max_steps": 7})
    now = dataclasses.replace(taught, begins_with=changed)
    assert waiting_runs([now], None, done, places) == [(changed, 0), (now, 0), (changed, 1), (now, 1)]
    model = places.model("teacher", 0) / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.touch()
    assert waiting_runs([now], [0, 5], done, places) == [(now, 0), (changed, 5), (now, 5)]


@pytest.mark.parametrize("is_tuning", [False, True])
def test_tuning_models_are_apart(is_tuning):
    from evidence_study.places import Places

    places = Places(Path("scenes"), Path("work"), is_tuning)
    assert places.model("kcl", 1) == Path("work/held_out/kcl-1" if is_tuning else "work/kcl-1")
    assert places.rows == Path("work/held_out/rows" if is_tuning else "scenes")
