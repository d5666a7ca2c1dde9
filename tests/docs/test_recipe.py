"""The defaults that `docs/how_to/train/choose_a_recipe.md` names are those of the commands."""

import dataclasses
import re

import pytest

from modeling_atri.cli.commands import teach
from modeling_atri.cli.commands.train import _defaults
from modeling_atri.trainer import AtriTrainingArguments
from modeling_atri.trainer.objectives import OBJECTIVES
from modeling_atri.trainer.scratch.model import ScratchArguments


SCRATCH = ", from scratch"


@pytest.fixture
def rows(repository_root):
    """The rows of the table: of each setting, the defaults of `atri train` and `atri teach` as they are written."""
    page = (repository_root / "docs" / "how_to" / "train" / "choose_a_recipe.md").read_text(encoding="utf-8")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    return {
        name.replace("`", ""): (of_train.strip("`"), of_teach.strip("`")) for name, of_train, of_teach, *_ in table
    }


def defaults_of(arguments) -> dict[str, str]:
    return {
        field.name: str(field.default if field.default_factory is dataclasses.MISSING else field.default_factory())
        for field in dataclasses.fields(arguments)
    }


def test_the_table_has_the_defaults_of_the_commands(rows):
    of_train, of_teach = defaults_of(AtriTrainingArguments), defaults_of(teach.TeachingArguments)
    for columns in (of_train, of_teach):  # enumerations of transformers
        columns["lr_scheduler_type"] = re.sub(r".*\.", "", columns["lr_scheduler_type"]).lower()
    of_scratch = defaults_of(ScratchArguments) | {name: str(value) for name, value in _defaults(set()).items()}
    assert {"objective", "learning_rate", "distill_weight", "teach_audio", "exact_step"} <= rows.keys()
    for name, (written_train, written_teach) in rows.items():
        if name.endswith(SCRATCH):
            assert (written_train, written_teach) == (of_scratch[name.removesuffix(SCRATCH)], ""), name
            continue
        assert written_train in ("", of_train[name]), name
        assert written_teach in ("", of_teach[name]), name
        assert written_train or written_teach, name


def test_settings_that_an_objective_does_not_take_have_no_default_there(rows):
    of_teach = {"akcl_weight", "ranking_weight"}
    of_train = {"distill_weight", "teach_audio"}
    assert {name for name, (_, written) in rows.items() if not written and not name.endswith(SCRATCH)} == of_teach
    assert {name for name, (written, _) in rows.items() if not written} == of_train
    assert {*of_teach} & {*OBJECTIVES["teach"].options} == set()


def test_the_rates_and_steps_of_teaching_are_those_that_the_table_names(repository_root):
    page = (repository_root / "docs" / "how_to" / "train" / "choose_a_recipe.md").read_text(encoding="utf-8")
    assert teach._RATES == {"small": 1e-3, "adapter": 1e-4, "large": 2e-5}
    assert "1e-3 for a head and a text encoder of less than 30 M parameters, 1e-4 for an adapter, and 2e-5" in page
    assert teach._SMALL == 30_000_000
    assert teach._MIN_STEPS == 1500
    assert "`atri teach` takes at least 1,500 steps" in page
