"""Checkpoints are whole or not there, and a run that is resumed ends as one that nobody stopped."""

import json
import os
import re
import shutil
import signal
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from modeling_atri.trainer.data.batches import EpochBatchSampler
from modeling_atri.trainer.run.checkpoints import (
    SavingError,
    best_checkpoint,
    checkpoint_written_whole,
    checkpoints,
    last_whole_checkpoint,
    remove_unfinished_saves,
    resolve_checkpoint,
    rotate_checkpoints,
)
from modeling_atri.trainer.run.divergence import TrainingDivergedError
from modeling_atri.trainer.run.manifest import MANIFEST_NAME, checkpoint_fault
from modeling_atri.trainer.run.preemption import TrainingStopped, stop_on_signal
from modeling_atri.trainer.run.resuming import SaveAfterEpochEnd
from tests.helpers.tiny import tiny_model
from tests.helpers.training import assert_same_weights, make_arguments, make_rows, make_trainer


pytestmark = pytest.mark.heavy


ROWS = make_rows(12)
# Three steps an epoch.
OPTIONS = {
    "objective": "mlclap",
    "num_train_epochs": 2,
    "optim": "adamw_torch",
    "learning_rate": 1e-3,
    "patch_dropout": 0.25,
    "save_strategy": "steps",
    "save_steps": 2,
    "logging_steps": 4,
}


def trainer_in(folder: Path, eval_rows=None, callbacks=None, rows=ROWS, model=None, **changes):
    args = make_arguments(folder, **OPTIONS | changes)
    return make_trainer(args, rows, eval_rows, model, callbacks=callbacks)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps with checkpoints at 2, 4 and 6."""
    trainer = trainer_in(tmp_path_factory.mktemp("finished") / "run")
    trainer.train()
    return trainer


@pytest.fixture
def run_folder(finished, tmp_path) -> Path:
    """A copy of the finished run's folder."""
    return Path(shutil.copytree(finished.args.output_dir, tmp_path / "run"))


def cut(path: Path, num_bytes: int = 1) -> None:
    os.truncate(path, path.stat().st_size - num_bytes)


def clear(path: Path) -> None:
    """What is left of a file whose blocks were lost: its size."""
    path.write_bytes(bytes(path.stat().st_size))


def warnings(caplog) -> list[str]:
    """What this package warned of."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("modeling_atri")]


def curve(trainer) -> list[dict]:
    """What was logged, but for times and the summary of the call."""
    entries = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    return [{name: value for name, value in entry.items() if "runtime" not in name} for entry in entries]


# What is whole


def test_every_file_of_a_checkpoint_is_checked(run_folder):
    folder = run_folder / "checkpoint-6"
    assert checkpoint_fault(folder) is None
    names = json.loads((folder / MANIFEST_NAME).read_text())["files"]
    expected = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert set(names) > expected | {"tokenizer.json", "config.json"}
    assert set(names) | {"training_args.bin", MANIFEST_NAME} == {path.name for path in folder.iterdir()}
    for name, size in names.items():
        content = (folder / name).read_bytes()
        cut(folder / name)
        assert checkpoint_fault(folder) == f"{name} has {size - 1:,} of {size:,} bytes"
        (folder / name).unlink()
        assert checkpoint_fault(folder) == f"{name} is missing"
        (folder / name).write_bytes(bytes(size))
        assert checkpoint_fault(folder, reads_all=False) is None
        assert checkpoint_fault(folder) == f"{name} is damaged"
        (folder / name).write_bytes(content)
    assert checkpoint_fault(folder) is None
    cut(folder / MANIFEST_NAME, 10)
    assert checkpoint_fault(folder) == f"{MANIFEST_NAME} is damaged"
    for content in ("{}", "[]", "null", '{"files": {}}', '{"files": ["a"]}', '{"files": {"a": "b"}}', "\0\0"):
        (folder / MANIFEST_NAME).write_text(content)
        assert checkpoint_fault(folder) == f"{MANIFEST_NAME} is damaged"
    assert checkpoint_fault(run_folder / "checkpoint-8") == "there is no such folder"


def test_checkpoints_of_trainer_itself_are_checked_by_their_files(run_folder):
    folder = run_folder / "checkpoint-6"
    (folder / MANIFEST_NAME).unlink()
    assert checkpoint_fault(folder) is None
    needed = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
    for name in (*needed, "config.json", "training_args.bin"):
        content = (folder / name).read_bytes()
        cut(folder / name, 5)
        assert checkpoint_fault(folder) == f"{name} is cut off"
        if name in needed:
            (folder / name).unlink()
            said = (
                "it holds no weights"
                if name == "model.safetensors"
                else f"{name.replace('state.pth', 'state*.pth')} is"
            )
            assert checkpoint_fault(folder).startswith(said)
        (folder / name).write_bytes(content)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):  # as `save_only_model` leaves it
        (folder / name).unlink()
    assert checkpoint_fault(folder) == NO_OPTIMIZER


def test_lost_blocks_are_found_without_checksums(run_folder):
    """In checkpoints of earlier versions, and of Trainer itself."""
    folder = run_folder / "checkpoint-6"
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(json.dumps({"files": manifest["files"]}))
    assert checkpoint_fault(folder) is None
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"):
        content = (folder / name).read_bytes()
        clear(folder / name)
        assert checkpoint_fault(folder) == f"{name} is damaged"
        (folder / name).write_bytes(content)
    content = (folder / "optimizer.pt").read_bytes()
    (folder / "optimizer.pt").write_bytes(content[:20_000] + bytes(4096) + content[24_096:])
    assert checkpoint_fault(folder) == "optimizer.pt is damaged"
    (folder / MANIFEST_NAME).unlink()
    assert checkpoint_fault(folder) == "optimizer.pt is cut off"


NO_OPTIMIZER = "it holds no optimizer state (`save_only_model`); start from it as `model`"


def test_nothing_is_resumed_from_a_model_alone(tmp_path):
    trainer = trainer_in(tmp_path, save_only_model=True, save_total_limit=2)
    trainer.train()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-6", "checkpoint-4"]
    with pytest.raises(ValueError, match=f"that is whole .checkpoint-6: {re.escape(NO_OPTIMIZER)}"):
        trainer_in(tmp_path).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=f"checkpoint-4: {re.escape(NO_OPTIMIZER)}. There is no whole"):
        trainer_in(tmp_path).train(str(tmp_path / "checkpoint-4"))


def test_the_last_whole_checkpoint_is_chosen(run_folder, caplog):
    (run_folder / "checkpoint-x").mkdir()
    (run_folder / "checkpoint-10").mkdir()  # of a copy that had just begun
    cut(run_folder / "checkpoint-6" / "optimizer.pt", 7)
    assert [path.name for path in checkpoints(run_folder)] == [f"checkpoint-{step}" for step in (10, 6, 4, 2)]
    last, faults = last_whole_checkpoint(run_folder)
    assert last == run_folder / "checkpoint-4"
    assert list(faults) == ["checkpoint-10", "checkpoint-6"]
    assert resolve_checkpoint(True, run_folder) == str(last)
    (said,) = (record.getMessage() for record in caplog.records)
    assert f"Resuming from {last}" in said
    assert "checkpoint-10: trainer_state.json is missing; checkpoint-6: optimizer.pt has" in said
    assert resolve_checkpoint(str(run_folder / "checkpoint-2"), run_folder) == str(run_folder / "checkpoint-2")
    assert resolve_checkpoint(None, run_folder) is resolve_checkpoint(False, run_folder) is None


def test_a_checkpoint_that_is_damaged_or_missing_is_refused(run_folder, tmp_path):
    cut(run_folder / "checkpoint-6" / "model.safetensors")
    whole = run_folder / "checkpoint-4"
    with pytest.raises(
        ValueError, match=f"checkpoint-6: model.safetensors has .* bytes. The last whole one is {whole}"
    ):
        trainer_in(run_folder).train(str(run_folder / "checkpoint-6"))
    with pytest.raises(ValueError, match=f"checkpoint-5: there is no such folder. The last whole one is {whole}"):
        trainer_in(run_folder).train(str(run_folder / "checkpoint-5"))
    with pytest.raises(ValueError, match="There is no checkpoint in .*nothing to resume from. Leave out"):
        trainer_in(tmp_path / "nothing").train(resume_from_checkpoint=True)
    for step in (2, 4):
        shutil.rmtree(run_folder / f"checkpoint-{step}")
    with pytest.raises(ValueError, match="to resume from that is whole .checkpoint-6: model.safetensors has"):
        trainer_in(run_folder).train(resume_from_checkpoint=True)


# Writing


def test_a_write_that_fails_leaves_what_there_was(run_folder):
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    for folder in (run_folder / "checkpoint-6", run_folder / "checkpoint-8"):
        context = checkpoint_written_whole(folder, {})
        (context.__enter__() / "model.safetensors").write_bytes(b"half")
        with pytest.raises(KeyboardInterrupt):
            context.gen.throw(KeyboardInterrupt)
    assert {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_the_same_name_is_replaced(run_folder):
    with checkpoint_written_whole(run_folder / "checkpoint-6", {"arguments": {"seed": 1}}) as part:
        (part / "folder").mkdir()
        (part / "folder" / "file").write_bytes(b"123")
    found = [
        path.relative_to(run_folder).as_posix() for path in run_folder.glob("checkpoint-6/**/*") if path.is_file()
    ]
    assert sorted(found) == [f"checkpoint-6/{MANIFEST_NAME}", "checkpoint-6/folder/file"]
    manifest = json.loads((run_folder / "checkpoint-6" / MANIFEST_NAME).read_text())
    checksums = {"folder/file": zlib.crc32(b"123")}
    assert manifest == {"files": {"folder/file": 3}, "crc32": checksums, "save": 4, "arguments": {"seed": 1}}
    assert not (run_folder / ".unfinished").exists()


@pytest.mark.parametrize("killed", [False, True], ids=["interrupted", "killed"])
def test_a_checkpoint_that_was_about_to_be_replaced_is_kept(run_folder, monkeypatch, killed):
    folder = run_folder / "checkpoint-6"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rename = Path.rename

    def stopped(path, target):
        if target == folder and path.name == folder.name:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopped)
        if killed:  # nothing is put in order
            patch.setattr("modeling_atri.trainer.run.checkpoints.remove_unfinished_saves", lambda folder: None)
        with pytest.raises(KeyboardInterrupt), checkpoint_written_whole(folder, {}) as part:
            (part / "file").write_bytes(b"123")
    if killed:
        assert not folder.exists()
        assert resolve_checkpoint(True, run_folder) == str(folder)
        remove_unfinished_saves(run_folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (run_folder / ".unfinished").exists()


def test_no_process_waits_for_one_that_could_not_write(tmp_path):
    """What two processes say to one another, as each of them sees it."""
    said = []
    with pytest.raises(SavingError, match="checkpoint-2 could not be written .*No space left"):
        with checkpoint_written_whole(tmp_path / "checkpoint-2", {}, anyone=lambda is_so: said.append(is_so) or is_so):
            raise OSError(28, "No space left on device")
    assert said == [False, True]
    answers = iter([False, True])
    with pytest.raises(SavingError, match="checkpoint-2 could not be written .*another process failed"):
        with checkpoint_written_whole(tmp_path / "checkpoint-2", {}, False, anyone=lambda is_so: next(answers)):
            pass
    assert not checkpoints(tmp_path)


def test_rotation_keeps_the_new_and_the_best_and_drops_damaged_ones_first(run_folder):
    shutil.copytree(run_folder / "checkpoint-6", run_folder / "checkpoint-8")
    shutil.copytree(run_folder / "checkpoint-6", run_folder / "checkpoint-9")
    for age, step in enumerate((9, 8, 6, 4, 2)):
        os.utime(run_folder / f"checkpoint-{step}", (1e9 - age, 1e9 - age))
    cut(run_folder / "checkpoint-8" / "model.safetensors")
    new, best = run_folder / "checkpoint-4", os.path.relpath(run_folder / "checkpoint-2")
    for limit, left in {None: [9, 8, 6, 4, 2], 4: [9, 6, 4, 2], 3: [9, 4, 2], 1: [4, 2]}.items():
        rotate_checkpoints(new, best, limit)
        assert [path.name for path in checkpoints(run_folder)] == [f"checkpoint-{step}" for step in left]
    rotate_checkpoints(new, None, 1)
    assert checkpoints(run_folder) == [new]


def test_saved_weights_may_be_read_by_whom_other_files_may(run_folder, finished):
    before = os.umask(0o027)
    try:
        finished.save_model(str(run_folder / "saved"))
    finally:
        os.umask(before)
    modes = {oct(path.stat().st_mode & 0o777) for path in (run_folder / "saved").iterdir() if path.suffix != ".py"}
    assert modes == {"0o640"}


# Resuming


class Interrupt(TrainerCallback):
    """Breaks a run off at the beginning of a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise ConnectionResetError("the machine is gone")


def manifest(folder: Path) -> dict:
    return json.loads((folder / MANIFEST_NAME).read_text())


def test_what_was_saved_last_goes_on_not_what_an_earlier_run_left(run_folder, tmp_path, caplog):
    other = {"seed": 1, "learning_rate": 5e-3}
    with pytest.raises(ConnectionResetError):
        trainer_in(run_folder, callbacks=[Interrupt(3)], **other).train()
    assert (
        f"{run_folder} holds checkpoints of an earlier run (checkpoint-6, checkpoint-4, checkpoint-2)"
        in (warnings(caplog)[0])
    )
    assert [path.name for path in checkpoints(run_folder)] == ["checkpoint-2", "checkpoint-6", "checkpoint-4"]
    assert str(SavingError("x", "y", run_folder)).startswith(
        f"x could not be written (y). {run_folder}/checkpoint-2 is"
    )
    caplog.clear()
    resumed = trainer_in(run_folder, **other)
    resumed.train(resume_from_checkpoint=True)
    assert warnings(caplog) == [
        f"Resuming from {run_folder}/checkpoint-2, which was saved last; checkpoint-6, checkpoint-4 of later steps "
        "are from before. To go on from one of them, name it as `resume_from_checkpoint`."
    ]
    whole = trainer_in(tmp_path / "whole", **other)
    whole.train()
    assert_same_weights(resumed.model, whole.model)
    runs = {step: manifest(run_folder / f"checkpoint-{step}")["run"] for step in (2, 4, 6)}
    assert len(set(runs.values())) == 1, "a run that goes on keeps its name"
    assert runs[2] != manifest(tmp_path / "whole" / "checkpoint-2")["run"]


def test_a_run_that_went_back_goes_on_from_there(run_folder):
    options = {"num_train_epochs": 3, "callbacks": [Interrupt(5)]}
    with pytest.raises(ConnectionResetError):
        trainer_in(run_folder, **options).train(str(run_folder / "checkpoint-2"))
    assert resolve_checkpoint(True, run_folder) == str(run_folder / "checkpoint-4")
    assert manifest(run_folder / "checkpoint-4")["arguments"]["num_train_epochs"] == 3


def test_saves_are_counted_though_older_checkpoints_are_not(run_folder):
    """Those of Trainer itself, or an earlier version, count as saved before, by their steps."""
    for step in (4, 6):
        (run_folder / f"checkpoint-{step}" / MANIFEST_NAME).unlink()
    assert [path.name for path in checkpoints(run_folder)] == [f"checkpoint-{step}" for step in (2, 6, 4)]


@pytest.mark.parametrize("step, resumed_from", [(3, 2), (4, 4), (5, 4)])
def test_a_damaged_checkpoint_is_passed_over_and_the_run_ends_the_same(tmp_path, finished, step, resumed_from):
    folder = tmp_path / "run"
    with pytest.raises(ConnectionResetError):
        trainer_in(folder, callbacks=[Interrupt(step)]).train()
    (folder / ".unfinished" / "checkpoint-6").mkdir(parents=True)
    if (step, resumed_from) == (5, 4):
        shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-6")
        cut(folder / "checkpoint-6" / "rng_state.pth")
    resumed = trainer_in(folder)
    begun = resumed.get_batch_samples
    steps = []
    resumed.get_batch_samples = lambda *call: steps.append(resumed.state.global_step) or begun(*call)
    resumed.train(resume_from_checkpoint=True)
    assert steps[0] == resumed_from
    assert_same_weights(resumed.model, finished.model)
    assert curve(resumed) == curve(finished)
    assert [entry["step"] for entry in curve(finished)] == [4], "the mean over steps before and after the interruption"
    assert checkpoint_fault(folder / "checkpoint-6") is None
    assert not (folder / ".unfinished").exists()


def test_a_finished_run_is_not_trained_further(tmp_path):
    options = {"max_steps": 5, "num_train_epochs": 1, "eval_strategy": "epoch"}
    whole = trainer_in(tmp_path, ROWS[:3], **options)
    whole.train()
    again = trainer_in(tmp_path, ROWS[:3], **options)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 5
    assert_same_weights(again.model, whole.model)
    assert curve(again) == curve(whole)


def test_a_checkpoint_at_the_end_of_an_epoch_has_its_evaluation(tmp_path):
    trainer = trainer_in(tmp_path, ROWS[:3], eval_strategy="epoch", save_steps=3, num_train_epochs=1)
    trainer.train()
    state = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())
    assert any("eval_mrv" in entry for entry in state["log_history"])


def test_the_best_model_is_found_where_the_run_was_moved_to(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "greater_is_better": False}
    options |= {"metric_for_best_model": "embedding_gap", "save_total_limit": 1}
    folder = tmp_path / "run"
    whole = trainer_in(folder, ROWS[:4], **options)
    whole.train()
    state = json.loads((folder / f"checkpoint-{whole.state.best_global_step}" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == whole.state.best_model_checkpoint

    moved = Path(shutil.move(folder, tmp_path / "moved"))
    again = trainer_in(moved, ROWS[:4], **options)
    again.train(resume_from_checkpoint=True)
    assert again.state.best_model_checkpoint == str(moved / Path(whole.state.best_model_checkpoint).name)
    assert_same_weights(again.model, whole.model)


def test_a_lost_best_model_is_forgotten(tmp_path, caplog):
    options = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "greater_is_better": True}
    options |= {"metric_for_best_model": "embedding_gap", "num_train_epochs": 2}
    whole = trainer_in(tmp_path, ROWS[:4], **options)
    whole.train()
    state_path = tmp_path / "checkpoint-6" / "trainer_state.json"
    state = json.loads(state_path.read_text())
    state |= {"best_global_step": 2, "best_metric": 1e9, "best_model_checkpoint": "/before/checkpoint-2"}
    state_path.write_text(json.dumps(state))
    (tmp_path / "checkpoint-6" / MANIFEST_NAME).unlink()
    clear(tmp_path / "checkpoint-2" / "model.safetensors")
    again = trainer_in(tmp_path, ROWS[:4], **options | {"num_train_epochs": 3})
    again.train(str(tmp_path / "checkpoint-6"))
    assert f"{tmp_path}/checkpoint-2, is lost: model.safetensors is damaged. The best is chosen anew" in caplog.text
    assert again.state.best_global_step == 8
    assert again.state.best_model_checkpoint == str(tmp_path / "checkpoint-8")
    assert again.state.best_metric < 1e9


def test_a_best_model_of_another_run_is_none(run_folder, tmp_path, caplog):
    for folder in ("checkpoint-2", "checkpoint-4"):
        assert best_checkpoint(f"/before/{folder}", str(run_folder / "checkpoint-6")) == str(run_folder / folder)
    content = manifest(run_folder / "checkpoint-4") | {"run": "another"}
    (run_folder / "checkpoint-4" / MANIFEST_NAME).write_text(json.dumps(content))
    assert best_checkpoint("/before/checkpoint-4", str(run_folder / "checkpoint-6")) is None
    assert "checkpoint-4, is lost: that of this name is another run's." in caplog.text


def test_a_checkpoint_of_another_model_is_refused(run_folder):
    folder = str(run_folder / "checkpoint-4")
    with pytest.raises(
        ValueError, match="another model. [0-9]+ weights differ, such as .* in the checkpoint, .*in the"
    ):
        trainer_in(run_folder, model=tiny_model(hidden_size=48)).train(folder)
    with pytest.raises(ValueError, match="such as audio_model.layers.*in the model alone"):
        trainer_in(run_folder, model=tiny_model(num_hidden_layers=4)).train(folder)


def test_other_data_is_named(run_folder, caplog):
    folder = str(run_folder / "checkpoint-4")
    recaptioned = [*ROWS[:-1], ROWS[-1] | {"captions": ROWS[0]["captions"]}]
    for rows in (ROWS[::-1], recaptioned, [row | {"group_id": "one"} for row in ROWS]):
        trainer_in(run_folder, rows=rows).train(folder)
        assert [said for said in warnings(caplog) if f"{folder} had other training data: ids, captions" in said]
        shutil.rmtree(run_folder / "checkpoint-6")
        caplog.clear()
    for rows in (ROWS, tuple(ROWS), NotInMemory()):
        trainer_in(run_folder, rows=rows).train(folder)
        assert not warnings(caplog)


class NotInMemory(Sequence):
    """Rows that may take long to look up."""

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, item):
        return ROWS[item]


def test_other_arguments_are_named(run_folder, caplog):
    trainer_in(run_folder, seed=3, per_device_train_batch_size=6, logging_steps=4).train(True)
    said = [record.getMessage() for record in caplog.records if "other arguments" in record.getMessage()]
    assert len(said) == 1
    assert "per_device_train_batch_size is 6, was 4; seed is 3, was 42." in said[0]
    caplog.clear()
    trainer_in(run_folder).train(True)
    assert not [record for record in caplog.records if record.name.startswith("modeling_atri")]


def test_a_manifest_says_no_secrets(tmp_path):
    trainer = trainer_in(tmp_path, hub_token="hf_secret", max_steps=2)
    trainer.train()
    (manifest,) = tmp_path.glob(f"*/{MANIFEST_NAME}")
    assert "secret" not in manifest.read_text()
    assert json.loads(manifest.read_text())["arguments"]["objective"] == "mlclap"


# Losses that are no numbers


def spoil(trainer, step: int) -> None:
    """Make the audio embeddings of a step NaN."""
    hook = trainer.atri_model.audio_projection.register_forward_hook
    hook(lambda *call: call[-1] * float("nan") if trainer.state.global_step == step - 1 else None)


@pytest.mark.parametrize("step", [2, 5])
def test_a_nan_loss_ends_training(tmp_path, step):
    trainer = trainer_in(tmp_path)
    spoil(trainer, step)
    with pytest.raises(TrainingDivergedError) as raised:
        trainer.train()
    sampler = EpochBatchSampler(len(ROWS), 4, seed=42)
    sampler.set_epoch((step - 1) // 3)
    clips = ", ".join(repr(ROWS[draw.item]["audio_id"]) for draw in list(sampler)[(step - 1) % 3])
    said = str(raised.value)
    assert f"The loss of step {step} (epoch {step / 3:.2f}) is nan. Its batch held the clips {clips}. " in said
    assert "learning rate that is too high (it is 0.001)" in said
    assert "fp16" not in said
    last = "There is no checkpoint" if step == 2 else f"The last good checkpoint is {tmp_path / 'checkpoint-4'}"
    assert last in said
    assert [path.name for path in checkpoints(tmp_path)] == ([] if step == 2 else ["checkpoint-4", "checkpoint-2"])
    assert "\n" not in said


def test_losses_are_read_late_where_that_costs_a_wait(tmp_path, monkeypatch):
    """As on a GPU: at the next log, evaluation or checkpoint; the step is still known."""
    monkeypatch.setattr("modeling_atri.trainer.run.divergence._READS_EVERY_LOSS", ())
    trainer = trainer_in(tmp_path, gradient_accumulation_steps=2, num_train_epochs=4, save_steps=5, logging_steps=4)
    spoil(trainer, 2)
    with pytest.raises(TrainingDivergedError, match="The loss of step 2 .*is nan. Its batch held the clips 'clip"):
        trainer.train()
    assert trainer.state.global_step == 4
    assert not checkpoints(tmp_path)


class SpoilWeight(TrainerCallback):
    """Makes a weight infinite, as gradients that overflow do."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                model.text_projection.fc2.weight[0, 0] = torch.inf


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    trainer = trainer_in(tmp_path, callbacks=[SpoilWeight(4)])
    with pytest.raises(TrainingDivergedError, match="After step 4 .*1 weights are not, such as text_projection"):
        trainer.train()
    for options in ({"eval_strategy": "epoch"}, {}):  # found before the evaluation, or in the end
        spoiled = trainer_in(tmp_path / "other", ROWS[:3], [SpoilWeight(6)], save_strategy="no", **options)
        with pytest.raises(TrainingDivergedError, match="After step 6 .*There is no checkpoint"):
            spoiled.train()
    assert checkpoints(tmp_path) == [tmp_path / "checkpoint-2"]
    weights = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


def test_a_disk_that_is_full_elsewhere_is_explained(tmp_path):
    def full(*args):
        raise OSError(28, "No space left on device")

    trainer = trainer_in(tmp_path, callbacks=[type("Log", (TrainerCallback,), {"on_log": lambda *_, **__: full()})()])
    with pytest.raises(SavingError, match=f"No space left on device\\). {tmp_path}/checkpoint-2 is whole: make room"):
        trainer.train()


# Signals


class Signal(TrainerCallback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step: int, number: int):
        self.step, self.number = step, number

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number, step", [(signal.SIGTERM, 1), (signal.SIGINT, 3)])
def test_a_signal_lets_the_step_end_and_saves(tmp_path, finished, number, step):
    before = signal.getsignal(number)
    trainer = trainer_in(tmp_path, callbacks=[Signal(step, number)])
    with pytest.raises(TrainingStopped, match=f"stopped after step {step} by .*checkpoint-{step} is saved") as raised:
        with stop_on_signal(trainer):
            trainer.train()
    assert raised.value.signal == number
    assert signal.getsignal(number) is before
    assert checkpoints(tmp_path)[0].name == f"checkpoint-{step}"
    resumed = trainer_in(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert_same_weights(resumed.model, finished.model)
    assert curve(resumed) == curve(finished)


def test_a_signal_in_the_last_step_loses_no_evaluation(tmp_path):
    options = {"max_steps": 5, "eval_strategy": "epoch"}
    whole = trainer_in(tmp_path / "whole", ROWS[:3], **options)
    whole.train()
    assert [entry["step"] for entry in curve(whole) if "eval_mrv" in entry] == [3, 5]
    stopped = trainer_in(tmp_path / "run", ROWS[:3], [Signal(5, signal.SIGTERM)], **options)
    with pytest.raises(TrainingStopped, match="after step 5 .*checkpoint-5 is saved"), stop_on_signal(stopped):
        stopped.train()
    resumed = trainer_in(tmp_path / "run", ROWS[:3], **options)
    resumed.train(resume_from_checkpoint=True)
    assert_same_weights(resumed.model, whole.model)
    assert curve(resumed) == curve(whole)


def test_signal_handlers_are_given_back(tmp_path, monkeypatch):
    def heard(number, frame):
        pass

    def foreign(number):
        """SIGINT is handled by something else than Python."""
        return None if number == signal.SIGINT else known(number)

    known, set_handler, taken = signal.getsignal, signal.signal, []
    before = set_handler(signal.SIGCHLD, heard)
    monkeypatch.setattr(signal, "getsignal", foreign)
    monkeypatch.setattr(signal, "signal", lambda number, handler: taken.append(number) or set_handler(number, handler))
    try:
        trainer = trainer_in(tmp_path, callbacks=[Signal(1, signal.SIGTERM)])
        with pytest.raises(TrainingStopped), stop_on_signal(trainer):
            trainer.train()
        assert known(signal.SIGCHLD) is heard
        assert signal.SIGINT not in taken
    finally:
        set_handler(signal.SIGCHLD, before)


def test_a_checkpoint_that_was_due_when_a_call_failed_is_not_due_in_the_next(tmp_path):
    def fail(*args, **kwargs):
        raise ConnectionResetError("the machine is gone")

    trainer = trainer_in(tmp_path, ROWS[:3], save_steps=3)
    due = next(item for item in trainer.callback_handler.callbacks if isinstance(item, SaveAfterEpochEnd))
    breaks = type("Break", (TrainerCallback,), {"on_epoch_end": fail})()
    trainer.callback_handler.callbacks.insert(0, breaks)
    with pytest.raises(ConnectionResetError):
        trainer.train()
    assert due.is_due
    trainer.callback_handler.callbacks.remove(breaks)
    trainer.args.save_strategy, trainer.args.max_steps = "no", 1
    trainer.train()
    assert not checkpoints(tmp_path)


def test_a_stopped_run_that_saves_models_alone_promises_nothing(tmp_path):
    trainer = trainer_in(tmp_path, callbacks=[Signal(1, signal.SIGTERM)], save_only_model=True)
    with pytest.raises(TrainingStopped, match="by SIGTERM; there is no checkpoint to go on from") as raised:
        with stop_on_signal(trainer):
            trainer.train()
    assert raised.value.checkpoint is None
