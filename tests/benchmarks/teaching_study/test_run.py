"""A run of a step on made-up scenes, and one that is taught from it."""

import dataclasses

import pytest


pytestmark = pytest.mark.heavy


def short(name: str):
    """A cell with two steps."""
    from teaching_study.cells import CELLS

    options = CELLS[name].options | {"max_steps": 2, "warmup_steps": 0, "per_device_train_batch_size": 4}
    return dataclasses.replace(CELLS[name], options=options)


def test_a_model_is_taught_and_keeps_its_audio_side(scenes, tmp_path):
    from teaching_study.run import train_and_measure

    teacher = train_and_measure(short("scratch-english"), 0, scenes, tmp_path / "work")
    taught = train_and_measure(short("scratch-teach-akcl-distill"), 0, scenes, tmp_path / "work")
    assert taught["keeps_audio_side"] is True
    assert teacher["keeps_audio_side"] is None
    assert taught["num_trained"] < teacher["num_trained"]  # the text side alone
    assert taught["metrics"] != teacher["metrics"]
    assert taught["cpu_seconds_of_text_states"] is None
