"""`atri train` that is stopped, and told to go on."""

import os
import signal

import pytest
from safetensors.torch import load_file

from modeling_atri import AtriProcessor
from modeling_atri.cli.main import main
from modeling_atri.corpora.soundscapes.scenes import write_soundscapes
from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.run.manifest import MANIFEST_NAME
from tests.cli.commands.test_train import SIZES


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> list[str]:
    """Options of a run of four steps from scratch, all but the output folder."""
    folder = tmp_path_factory.mktemp("resume")
    write_soundscapes(folder / "data", 10, seed=0, split="train", duration_s=3.0)
    settings = "max_steps: 4\nper_device_train_batch_size: 4\nuse_cpu: true\nlanguages: [en, fr]\nobjective: mlclap\n"
    (folder / "run.yaml").write_text(f"{settings}save_steps: 1\nsave_total_limit: 2\ndisable_tqdm: true\n{SIZES}")
    return ["train", "--config", str(folder / "run.yaml"), "--train_data", str(folder / "data"), "--output_dir"]


def test_a_stopped_run_goes_on_by_the_same_command(tmp_path, words, monkeypatch, capsys):
    assert main([*words, str(tmp_path / "whole")]) == 0
    step = AtriTrainer.training_step

    def asked_to_stop(trainer, *args):
        if trainer.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer, *args)

    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(AtriTrainer, "training_step", asked_to_stop)
        assert main([*words, str(stopped)]) == 128 + signal.SIGTERM
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == (
        f"atri train: stopped after step 2 by SIGTERM; {stopped / 'checkpoint-2'} is saved. To go on, add "
        "--resume_from_checkpoint true."
    )
    assert not (stopped / "model.safetensors").exists()

    monkeypatch.setattr("modeling_atri.trainer.scratch.model.model_from_scratch", None)  # the checkpoint's are used
    assert main([*words, str(stopped), "--resume_from_checkpoint", "true"]) == 0
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert all(weight.equal(resumed[name]) for name, weight in whole.items())
    first, second = (AtriProcessor.from_pretrained(tmp_path / name).tokenizer for name in ("whole", "stopped"))
    assert first.get_vocab() == second.get_vocab()


def test_mistakes_and_misfortunes_are_one_line(tmp_path, words, capsys):
    assert main([*words, str(tmp_path), "--resume_from_checkpoint", "true"]) == 2
    assert f"There is no checkpoint in {tmp_path} to resume from." in capsys.readouterr().err
    assert main([*words, str(tmp_path), "--learning_rate", "1e30"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("atri train:", "Traceback"))]
    assert len(lines) == 1
    assert "Likely causes: a learning rate that is too high (it is 1e+30)" in lines[0]
    assert "go on from it with resume_from_checkpoint" in lines[0] or "There is no checkpoint" in lines[0]


def test_a_damaged_checkpoint_and_one_of_another_model_are_a_sentence(tmp_path, words, capsys):
    run_folder = tmp_path / "run"
    assert main([*words, str(run_folder)]) == 0
    state = run_folder / "checkpoint-4" / "trainer_state.json"
    state.write_bytes(bytes(state.stat().st_size))
    assert main([*words, str(run_folder), "--resume_from_checkpoint", "true"]) == 0  # from the one before
    capsys.readouterr()
    state.write_bytes(bytes(state.stat().st_size))
    (run_folder / "checkpoint-3" / MANIFEST_NAME).write_text("{}")
    for wanted in ("true", str(state.parent)):
        assert main([*words, str(run_folder), "--resume_from_checkpoint", wanted]) == 2
        said = capsys.readouterr().err
        assert "trainer_state.json is damaged" in said
        assert "Traceback" not in said

    assert main([*words, str(tmp_path / "small")]) == 0
    assert main([*words, str(tmp_path / "other"), "--audio_hidden_size", "32"]) == 0
    other = ["--model", str(tmp_path / "other"), "--resume_from_checkpoint", "true"]
    capsys.readouterr()
    assert main([*words, str(tmp_path / "small"), *other]) == 2
    said = capsys.readouterr().err
    assert "it is a checkpoint of another model." in said
    assert "Traceback" not in said
