"""Names of options from other programs."""

import pytest

from modeling_atri.cli.commands.diagnose.draws import DrawsArguments
from modeling_atri.cli.commands.encode import EncodeArguments
from modeling_atri.cli.commands.push import PushArguments
from modeling_atri.cli.commands.train import DataArguments
from modeling_atri.cli.habits import own_name
from modeling_atri.trainer.arguments import AtriTrainingArguments


def names(*dataclasses) -> set[str]:
    return {name for dataclass in dataclasses for name in dataclass.__dataclass_fields__}


TRAIN, DRAWS = names(DataArguments, AtriTrainingArguments), names(DrawsArguments)
ENCODE, PUSH = names(EncodeArguments), names(PushArguments)


@pytest.mark.parametrize(
    "name, known, own",
    [
        ("lr", TRAIN, "learning_rate"),
        ("learning-rate", TRAIN, "learning_rate"),
        ("epochs", TRAIN, "num_train_epochs"),
        ("epoch", TRAIN, "num_train_epochs"),
        ("num_train_epochs", DRAWS, "epochs"),
        ("batch_size", TRAIN, "per_device_train_batch_size"),
        ("batch-size", DRAWS, "per_device_train_batch_size"),
        ("bs", ENCODE, "batch_size"),
        ("per_device_train_batch_size", ENCODE, "batch_size"),
        ("model_name_or_path", TRAIN, "model"),
        ("output", TRAIN, "output_dir"),
        ("o", ENCODE, "out"),
        ("data", TRAIN, "train_data"),
        ("lang", TRAIN, "languages"),
        ("resume", TRAIN, "resume_from_checkpoint"),
        ("hub_model_id", PUSH, "repo_id"),
        ("lr", ENCODE, "lr"),
        ("nonsense-name", TRAIN, "nonsense_name"),
    ],
)
def test_a_name_is_that_of_the_command(name, known, own):
    assert own_name(name, known) == own


def test_an_option_keeps_its_own_meaning():
    for known in (TRAIN, DRAWS, ENCODE, PUSH):
        assert {name: own_name(name, known) for name in known} == {name: name for name in known}


def test_a_name_that_could_mean_two_options_is_none():
    assert own_name("lr", {"learning_rate", "rate"}) == "learning_rate"
    assert own_name("output", {"output_dir", "out"}) == "output"
