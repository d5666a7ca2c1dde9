"""`atri push`: what it shows and what a mistake looks like; tests/hub_cards pushes for real, also by the command."""

import json
import re

import pytest

from modeling_atri.cli.main import main
from modeling_atri.cli.printing.report import save_run
from tests.helpers.local_hub import LocalHub
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import make_arguments, make_rows, make_trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "first"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    (folder / "checkpoint-1").mkdir()
    (folder / "training_args.bin").write_bytes(b"x")
    return folder


def test_a_dry_run_shows_what_would_go_up_and_sends_nothing(folder, capsys, monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch, token=None)
        assert main(["push", str(folder), "tester/first", "--dry_run"]) == 0
        assert hub.requests == []
    header, *lines, rest = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Would push to tester/first, 0\.\d MB:", header)
    assert "  model.safetensors  (0.1 MB)" in lines
    assert any(line.startswith("  README.md  (") and line.endswith(" kB)") for line in lines)
    assert rest == "Stays here: checkpoint-1, training_args.bin"


def test_options_reach_the_hub(folder, capsys, monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        argv = ["push", str(folder), "tester/first", "--private", "--revision", "v2", "--message", "Second try"]
        assert main(argv) == 0
        repo = hub.repos["models/tester/first"]
        assert repo.private
        assert repo.messages("v2") == ["initial commit", "Second try"]
        assert repo.messages() == ["initial commit"]
        assert main(["push", str(folder), "tester/first", "--pull_request"]) == 0
        assert f"{hub.url}/tester/first/discussions/1" in capsys.readouterr().out


def test_training_pushes_model_results_and_card_together(tmp_path, capsys, monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        args = make_arguments(tmp_path / "out", push_to_hub=True, hub_model_id="tester/trained")
        trainer = make_trainer(args, make_rows(4), make_rows(3, seed=1))
        trainer.train()
        results = save_run(trainer)
        repo = hub.repos["models/tester/trained"]
        assert repo.messages() == ["initial commit", "End of training"]
        assert json.loads(repo.files()["atri_results.json"])["metrics"] == results["metrics"]
        assert "## Evaluation" in repo.files()["README.md"].decode()
    assert "Pushed to tester/trained." in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv, message",
    [
        (["/no/such", "tester/x"], "There is no folder '/no/such' to push"),
        (["{folder}", "tester/x"], "Offline mode is on (HF_HUB_OFFLINE"),
        (["{folder}", "no such name"], "'no such name' is not a valid repository name"),
        (["{folder}"], "required: repo_id"),
        (["{folder}", "tester/x", "--privat"], "'--privat' (did you mean '--private'?)"),
    ],
)
def test_a_mistake_is_one_line(folder, capsys, argv, message):
    assert main(["push", *(word.format(folder=folder) for word in argv)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 2
