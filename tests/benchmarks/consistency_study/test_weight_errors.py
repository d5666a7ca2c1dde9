"""Weight errors of the runs whose models are there."""

import torch
from safetensors.torch import save_file

from tests.helpers.study import made_up_run


def test_weight_errors_are_distances_over_the_way_of_the_twin(tmp_path):
    from consistency_study.grid import CELLS
    from consistency_study.results import edited_results, model_file, read_results
    from consistency_study.weight_errors import write_weight_errors

    file = tmp_path / "study.parquet"
    weights = {("kcl", 0): 1.0, ("kcl-2", 0): 4.0, ("kcl", 1): 1.0, ("kcl-1", 0): 9.0}
    errors = {("kcl-4", 1): 0.5, ("akcl", 0): 0.5, ("kcl-4", 2): 1.0}
    with edited_results(file) as runs:
        for name, seed in weights | errors:
            options = {} if name == "kcl-1" else CELLS[name].options  # kcl-1 was run with other options
            error = errors.get((name, seed))
            runs.append(made_up_run(name, seed, options=options, weight_error=error, distance_from_start=2.0))
    for (name, seed), value in weights.items():
        model = model_file(tmp_path, name, seed)
        model.parent.mkdir()
        save_file({"weight": torch.full((4,), value)}, model)
    write_weight_errors(file, tmp_path)
    # kcl-4 with seed 1 was measured when its model was there. With seed 2 its twin has no run, and akcl has no twin.
    found = {(run["cell"], run["seed"]): run["weight_error"] for run in read_results(file)}
    assert {key: error for key, error in found.items() if error is not None} == {("kcl-2", 0): 3.0, ("kcl-4", 1): 0.5}


def test_the_twin_trains_with_all_languages():
    from consistency_study.grid import CELLS
    from consistency_study.weight_errors import twin_of

    twins = {name: twin_of(cell).name for name, cell in CELLS.items()}
    assert twins["mlclap"] == twins["kcl-2"] == twins["kcl-rankings"] == twins["kcl"] == "kcl"
    assert twins["akcl-w0.25"] == "akcl-w0.25"  # no KCL has this learning rate
    assert twins["akcl-continued"] == "kcl-continued"
    assert twins["cacl-frozen-text"] == "kcl-frozen-text"
    assert twins["mlclap-bert"] == "kcl-bert"
    assert twins["mlclap-budget"] == "mlclap-budget"  # no KCL has as many steps
