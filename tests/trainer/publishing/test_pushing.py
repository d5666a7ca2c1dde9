"""Trainer and the Hub: the card of what was trained, and pushes at the end and at checkpoints."""

import json

import pytest
from huggingface_hub import ModelCard
from transformers.utils.hub import hf_api

from modeling_atri import AtriModel
from modeling_atri.cli.printing.report import save_run
from tests.helpers.local_hub import WRITER, LocalHub
from tests.helpers.tiny import tiny_model
from tests.helpers.training import assert_same_weights, make_arguments, make_rows, make_trainer


pytestmark = pytest.mark.heavy


NAME = "tester/trained"


@pytest.fixture
def hub(monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        yield hub


def card_of(hub: LocalHub) -> ModelCard:
    card = ModelCard(hub.repos[f"models/{NAME}"].files()["README.md"].decode())
    card.validate()
    return card


def test_a_trained_model_is_pushed_with_a_card_of_its_own(hub, tmp_path):
    trainer = make_trainer(make_arguments(tmp_path / "out", hub_model_id=NAME), make_rows(4), make_rows(3, seed=1))
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "atri_results.json").write_text('{"metrics": {"mrv": 7}, "training": {"steps": 1}}')
    trainer.train()
    first = trainer.push_to_hub()
    repo = hub.repos[f"models/{NAME}"]
    card = card_of(hub)
    assert "- optimizer steps: 1" in card.text
    assert "## Evaluation" not in card.text, "results of an older run are not those of this one"
    assert f'AtriModel.from_pretrained("{NAME}")' in card.text
    assert "training_args.bin" in {path.name for path in (tmp_path / "out").iterdir()}
    assert "training_args.bin" not in repo.files()
    assert first.oid == repo.branches["main"][-1].sha

    metrics = trainer.evaluate()
    trainer.push_to_hub(commit_message="With figures", tags="demo", license="mit", finetuned_from="tester/start")
    assert repo.messages() == ["initial commit", "End of training", "With figures"]
    card = card_of(hub)
    assert (card.data.license, card.data.base_model) == ("mit", ["tester/start"])
    assert "demo" in card.data.tags
    recall = next(one for one in card.data.eval_results if one.metric_type == "mean_text_to_audio_R@1")
    assert recall.metric_value == round(metrics["eval_mean_text_to_audio_R@1"], 4)
    results = json.loads(repo.files()["atri_results.json"])
    assert results["metrics"]["mrv"] == pytest.approx(metrics["eval_mrv"])
    assert results["training"]["runtime_s"] > 0
    assert_same_weights(AtriModel.from_pretrained(tmp_path / "out"), trainer.model)


@pytest.mark.parametrize(
    ("strategy", "folder"),
    [("end", None), ("every_save", None), ("checkpoint", "last-checkpoint"), ("all_checkpoints", "checkpoint-2")],
)
def test_checkpoints_are_pushed_without_what_is_private(hub, tmp_path, strategy, folder):
    options = {"push_to_hub": True, "hub_model_id": NAME, "hub_private_repo": True, "hub_strategy": strategy}
    options["hub_token"] = WRITER
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer = make_trainer(make_arguments(tmp_path / "out", **options, **saving), make_rows(8))
    (tmp_path / "out" / "features").mkdir(parents=True)
    (tmp_path / "out" / "features" / "clip.npy").write_bytes(b"x")
    trainer.train()
    repo = hub.repos[f"models/{NAME}"]
    assert repo.private
    pushed = [message for message in repo.messages() if "checkpoint" not in message]
    assert pushed == ["initial commit", "Training in progress, step 2"][: 1 if strategy == "end" else 2]
    assert {name.split("/")[0] for name in repo.files() if "/" in name} == ({folder} if folder else set())
    assert not {"optimizer.pt", "training_args.bin", "trainer_state.json"} & set(repo.files())
    checkpoint = tmp_path / "out" / "checkpoint-2"
    if folder:  # all that training is resumed from
        names = {path.name for path in checkpoint.iterdir()} - {"training_args.bin"}
        assert names == {name.split("/")[1] for name in repo.files() if "/" in name} >= {"optimizer.pt"}
    if strategy != "end":
        assert "- optimizer steps: 2" in card_of(hub).text
        assert repo.files()["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    for name, content in repo.files().items():
        assert WRITER.encode() not in content, f"{name} holds the token"
        assert str(tmp_path).encode() not in content or name.endswith("trainer_state.json"), name
    trainer.save_model()  # pushes, as in transformers
    assert repo.messages()[-1] == "Model save"


def test_a_push_in_the_background_that_fails_is_told(hub, tmp_path, caplog):
    options = {"push_to_hub": True, "hub_model_id": NAME, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(make_arguments(tmp_path / "out", **options), make_rows(4))
    hub.cut(f"POST /api/models/{NAME}/commit", times=float("inf"))
    trainer.train()
    hf_api().run_as_future(int).result()  # by the same thread, so that it has told the failure
    assert hub.repos[f"models/{NAME}"].messages() == ["initial commit"]
    assert "step 1: the push failed, and training goes on. The connection to the Hub broke" in caplog.text
    with pytest.raises(ConnectionError, match="Push again"):
        trainer.push_to_hub()
    hub.cuts.clear()
    trainer.push_to_hub()
    assert hub.repos[f"models/{NAME}"].messages() == ["initial commit", "End of training"]


def test_a_repository_that_was_deleted_comes_back_as_private_as_it_was(hub, tmp_path):
    options = {"push_to_hub": True, "hub_model_id": NAME, "hub_private_repo": True}
    trainer = make_trainer(make_arguments(tmp_path / "out", **options), make_rows(4))
    assert hub.repos.pop(f"models/{NAME}").private
    trainer.push_to_hub()
    assert hub.repos[f"models/{NAME}"].private


def test_a_card_that_somebody_wrote_is_pushed_and_kept(hub, tmp_path, caplog):
    (tmp_path / "README.md").write_text("# Mine\n")
    options = {"push_to_hub": True, "hub_model_id": NAME, "save_strategy": "steps", "save_steps": 1}
    trainer = make_trainer(make_arguments(tmp_path, **options), make_rows(4))
    trainer.train()
    trainer.push_to_hub()
    assert (tmp_path / "README.md").read_text() == "# Mine\n"
    assert hub.repos[f"models/{NAME}"].files()["README.md"] == b"# Mine\n"
    assert "README.md was written or changed by hand and is kept" in caplog.text


def test_figures_of_another_run_are_not_in_the_card(tmp_path):
    """Nothing but the sounds tells the runs apart: they have as many clips, and the same arguments."""
    for seed in (0, 1):
        trainer = make_trainer(make_arguments(tmp_path), make_rows(4, seed=seed), make_rows(3))
        trainer.train()
        trainer.create_model_card()
        assert "## Evaluation" not in (tmp_path / "README.md").read_text()
        trainer.evaluate(metric_key_prefix="after")
        trainer.create_model_card()
        assert "## Evaluation" in (tmp_path / "README.md").read_text()
    trainer.train()
    trainer.create_model_card()
    assert "## Evaluation" not in (tmp_path / "README.md").read_text(), "trained on since"


def test_the_last_evaluation_of_a_run_is_not_made_twice(tmp_path, capsys):
    for strategy in ("epoch", "no"):
        args = make_arguments(tmp_path / strategy, eval_strategy=strategy)
        trainer = make_trainer(args, make_rows(4), make_rows(3, seed=1))
        evaluations = []
        trainer.embedding_listeners.append(lambda *evaluation, seen=evaluations: seen.append(evaluation))
        trainer.train()
        results = save_run(trainer)
        assert len(evaluations) == 1
        again = make_trainer(make_arguments(tmp_path), None, make_rows(3, seed=1), model=trainer.model).evaluate()
        assert results["metrics"]["mrv"] == again["eval_mrv"]
        assert json.loads((tmp_path / strategy / "atri_results.json").read_text()) == results


def test_a_bad_token_is_told_before_training(hub, tmp_path, monkeypatch):
    hub.connect(monkeypatch, "hf_wrong")
    with pytest.raises(ValueError, match="The Hub does not know the token"):
        make_trainer(make_arguments(tmp_path, push_to_hub=True, hub_model_id=NAME), make_rows(4))
    assert hub.repos == {}


def test_a_push_in_the_background_gives_a_future(hub, tmp_path):
    trainer = make_trainer(make_arguments(tmp_path / "out", hub_model_id=NAME), make_rows(4))
    commit = trainer.push_to_hub(blocking=False, private=True).result()
    assert commit.oid == hub.repos[f"models/{NAME}"].branches["main"][-1].sha
    assert hub.repos[f"models/{NAME}"].private


def test_towers_from_files_are_named_in_the_card_and_license_it(hub, tmp_path):
    model = tiny_model()
    model.config.audio_config.name_or_path, model.config.text_config.name_or_path = "mispeech/ced-tiny", "SONAR"
    trainer = make_trainer(make_arguments(tmp_path / "out", hub_model_id=NAME), make_rows(4), model=model)
    trainer.push_to_hub()
    card = card_of(hub)
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.base_model == ["mispeech/ced-tiny"]
    assert "- started from: mispeech/ced-tiny and SONAR\n" in card.text


def test_weights_of_unknown_origin_are_not_called_new(tmp_path):
    """Such as towers from local folders, whose names nobody wrote down."""
    for facts, expected in (({}, False), ({"model": {"initialized_from": "scratch"}}, True)):
        trainer = make_trainer(make_arguments(tmp_path), make_rows(4), facts=facts)
        trainer.train()
        trainer.create_model_card()
        assert ("scratch" in (tmp_path / "README.md").read_text()) == expected
