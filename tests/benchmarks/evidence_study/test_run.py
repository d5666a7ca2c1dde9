"""Runs of a step on made-up scenes: with a curve, with a loss of its own, and taught from another run."""

import pytest
import torch


pytestmark = pytest.mark.heavy


def a_cell(name: str, **fields):
    from evidence_study.cells import Cell

    options = {"objective": "akcl", "learning_rate": 1e-3, "max_steps": 2, "warmup_steps": 0}
    sizes = {"per_device_train_batch_size": 4, "logging_steps": 1}
    return Cell(name, name, options | sizes | fields.pop("options", {}), **fields)


def test_a_run_has_a_curve_that_does_not_change_it(scenes, tmp_path):
    from evidence_study.places import Places
    from evidence_study.run import train_and_measure

    places = Places(scenes, tmp_path / "work")
    measured = train_and_measure(a_cell("measured", measure_every=1), 0, places)
    plain = train_and_measure(a_cell("plain"), 0, places)
    assert [point["step"] for point in measured["curve"]] == [1, 2]
    assert measured["curve"][1]["mrv"] == measured["metrics"]["mrv"] == plain["metrics"]["mrv"]
    assert measured["last_loss"] == plain["last_loss"]
    assert plain["curve"] == []
    assert measured["doubled_ranks"].shape == (8, 4)
    assert places.has_model("plain", 0)


def test_a_model_is_taught_on_its_own_audio_side_with_changed_rows(scenes, tmp_path, monkeypatch):
    from evidence_study import training_rows
    from evidence_study.places import Places
    from evidence_study.run import train_and_measure

    places = Places(scenes, tmp_path / "work")
    teacher = a_cell("teacher", options={"objective": "mlclap", "languages": ["eng_Latn"]})
    train_and_measure(teacher, 0, places)
    options = {"objective": "teach", "teach_audio": "akcl"}
    monkeypatch.setitem(training_rows.CHANGES, "none", lambda lines, generator: lines)
    taught, again = (
        train_and_measure(a_cell("taught", options=options, begins_with=teacher, rows=rows), 0, places)
        for rows in (None, "none")
    )
    assert (
        taught["cpu_seconds_of_archive"] == again["cpu_seconds_of_archive"] >= 0
    )  # a teacher's clips are encoded once
    assert (places.model("teacher", 0) / "archive").is_dir()
    assert 0 < taught["distance_from_start"] < 10


def test_the_parameters_of_a_loss_are_trained(scenes, tmp_path, monkeypatch):
    from evidence_study import losses
    from evidence_study.places import Places
    from evidence_study.run import train_and_measure

    made = []

    class Scaled(losses.OwnLoss):
        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, audio_embeds, text_embeds, scale, group_ids, step):
            return self.factor * (audio_embeds - text_embeds).square().sum(dim=-1).mean()

    def make(batch_size):
        made.append((batch_size, Scaled()))
        return made[-1][1]

    monkeypatch.setitem(losses.LOSSES, "scaled", make)
    train_and_measure(a_cell("scaled", loss="scaled"), 0, Places(scenes, tmp_path / "work"))
    [(batch_size, loss)] = made
    assert batch_size == 4
    assert loss.factor.item() < 2


def test_changed_rows_replace_the_captions_of_training_alone(scenes, tmp_path, monkeypatch):
    from evidence_study import training_rows
    from evidence_study.places import Places
    from evidence_study.run import rows_of

    def upper(lines, generator):
        chosen = generator.randrange(len(lines))
        return [line | {"chosen": number == chosen} for number, line in enumerate(lines)]

    monkeypatch.setitem(training_rows.CHANGES, "upper", upper)
    places = Places(scenes, tmp_path / "work")
    from shared.scenes import read_scenes

    folders = [rows_of(a_cell("changed", rows="upper"), seed, places, "train") for seed in (0, 0, 1)]
    assert folders[0] == folders[1] != folders[2]
    lines = read_scenes(folders[0] / "metadata.jsonl")
    assert sum(line["chosen"] for line in lines) == 1
    assert all(line["file_name"] == str(scenes / "train" / f"{number}.wav") for number, line in enumerate(lines))
    assert [line["audio_id"] for line in lines] == [f"{number}.wav" for number in range(32)]  # as in a store
    assert rows_of(a_cell("plain"), 0, places, "train") == scenes / "train"
