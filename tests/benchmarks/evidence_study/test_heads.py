"""Runs that train heads alone, against the same runs of the trainer."""

import pytest
import torch


pytestmark = pytest.mark.heavy

SIZES = {"per_device_train_batch_size": 4, "logging_steps": 1, "freeze_text": True}


def cell_of(name: str, objective: str, **fields):
    from evidence_study.cells import Cell

    options = {"objective": objective, "learning_rate": 1e-2, "max_steps": 10} | SIZES | fields.pop("options", {})
    return Cell(name, name, options, **fields)


@pytest.fixture
def teacher(scenes, tmp_path):
    """A model that heard English, and the places of its run."""
    from evidence_study.places import Places
    from evidence_study.run import train_and_measure

    places = Places(scenes, tmp_path / "work")
    cell = cell_of("teacher", "mlclap", options={"languages": ["eng_Latn"], "max_steps": 2})
    train_and_measure(cell, 0, places)
    return cell, places


def weights_of_the_trainer(cell, places) -> tuple[dict, dict]:
    """Weights of the model and of the loss after the run, which AtriTrainer does."""
    from evidence_study import run
    from evidence_study.own_loss import OwnLossTrainer
    from teaching_study.cells import shared_settings

    settings, sizes, group = shared_settings()
    source = run.rows_of(cell, 0, places, "train")
    rows, _ = run.loaded_rows(cell, 0, places, source, {"languages": run.LANGUAGES, "group_column": group})
    model, processor = run.first_model(cell, 0, places, rows, sizes)
    args = run.training_arguments(cell, 0, places, settings)
    trainer = run.make_trainer(cell, model, args, processor, rows)
    trainer.train()
    of_loss = trainer.own_loss.state_dict() if isinstance(trainer, OwnLossTrainer) else {}
    return model.state_dict(), of_loss


@pytest.mark.parametrize("way", ["akcl", "dynamic", "teach"])
def test_heads_are_those_of_the_trainer(teacher, way, monkeypatch):
    from evidence_study import run

    english, places = teacher
    cell = {
        "akcl": cell_of("heads", "akcl", sounds_of=english, rows="few-ca"),
        "dynamic": cell_of("heads", "kcl", sounds_of=english, loss="kcl-dynamic-radius0.5"),
        "teach": cell_of("heads", "teach", sounds_of=english, begins_with=english, rows="noise50-ca"),
    }[way]
    made = []

    class Noted(run.HeadsRun):
        def train(self):
            made.append(self.trainer)
            return super().train()

    monkeypatch.setattr(run, "HeadsRun", Noted)
    row = run.train_and_measure(cell, 0, places)
    expected, of_loss = weights_of_the_trainer(cell, places)
    [trainer] = made
    found = trainer.atri_model.state_dict()
    assert row["distance_from_start"] > 0.1
    for name, value in expected.items():
        # Adam turns rounding of a gradient near 0 into a part of a step.
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3, msg=lambda text, name=name: name + text)
    for name, value in of_loss.items():
        torch.testing.assert_close(trainer.own_loss.state_dict()[name], value, rtol=1e-3, atol=1e-3)
    assert ("radius" in row["metrics"]) == (way == "dynamic")
    assert row["doubled_ranks"].shape == (8, 4)
