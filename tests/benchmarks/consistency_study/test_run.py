"""A run of a few steps on made-up scenes."""

import dataclasses

import pytest

from modeling_atri import AtriModel


pytestmark = pytest.mark.heavy


def short(name: str, steps: int = 1):
    """A cell of the grid with few steps, which logs the loss of each."""
    from consistency_study.grid import CELLS

    return dataclasses.replace(CELLS[name], steps=steps, options=CELLS[name].options | {"logging_steps": 1})


def test_a_run_and_one_that_continues_it_are_added_to_the_results(scenes, tmp_path):
    from consistency_study.results import add_run, model_file, read_results
    from consistency_study.run import train_and_measure

    file, work = tmp_path / "study.parquet", tmp_path / "work"
    start = short("mlclap-budget")
    continued = short("akcl-continued", steps=2)
    for cell in (start, continued):
        add_run(file, train_and_measure(cell, 0, scenes, work))
    second, first = read_results(file)
    assert (first["cell"], first["captions_a_clip"]) == ("mlclap-budget", 1)
    assert (second["cell"], second["captions_a_clip"], second["options"]) == ("akcl-continued", 16, continued.options)
    for run in (first, second):
        assert run["doubled_ranks"].shape == (8, 4)  # languages, captions
        assert (run["doubled_ranks"] / 2).var(axis=0).mean() == pytest.approx(run["metrics"]["mrv"])
    # The way of the second run is the distance between the two models that were saved.
    models = [AtriModel.from_pretrained(model_file(work, cell.name, 0).parent) for cell in (start, continued)]
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    squares = sum((before - after).square().sum().item() for before, after in pairs)
    assert second["distance_from_start"] == pytest.approx(squares**0.5, rel=1e-5)
    assert squares > 0


def test_a_loss_of_its_own_and_another_text_encoder(scenes, tmp_path):
    from consistency_study.run import train_and_measure

    own_loss = train_and_measure(short("cacl-8"), 0, scenes, tmp_path / "work")
    plain = train_and_measure(short("akcl"), 0, scenes, tmp_path / "work")
    # The same start and batch; the losses differ by the weights of their terms.
    assert own_loss["num_parameters"] == plain["num_parameters"]
    assert own_loss["last_loss"] != plain["last_loss"]
    bert = train_and_measure(short("kcl-bert"), 0, scenes, tmp_path / "work")
    model = AtriModel.from_pretrained(tmp_path / "work" / "kcl-bert-0")
    assert model.config.text_config.model_type == "bert"
    assert bert["num_parameters"] == model.num_parameters()
