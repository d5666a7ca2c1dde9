"""`model_init` and `hyperparameter_search`: every trial is a run of its own, equal to one that is made by hand."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import EarlyStoppingCallback

from modeling_atri import AtriModel
from modeling_atri.trainer import AtriDataCollator, AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.diagnostics.callback import DiagnosticsCallback
from modeling_atri.trainer.run.manifest import read_manifest
from modeling_atri.trainer.run.search import trial_arguments
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from tests.helpers.training import assert_same_weights, losses, make_arguments, make_rows


pytestmark = pytest.mark.heavy

FIGURE = "eval_mean_text_to_audio_mAP@10"


def fresh_model() -> AtriModel:
    """A model without mel statistics, whose weights the seed of the arguments decides."""
    return AtriModel(tiny_config())


def searcher(
    args: AtriTrainingArguments, model_init=fresh_model, eval_rows="given", rows=None, **options
) -> AtriTrainer:
    eval_rows = make_rows(4, seed=3) if eval_rows == "given" else eval_rows
    return AtriTrainer(
        args=args,
        processor=tiny_processor(),
        train_dataset=make_rows(8) if rows is None else rows,
        eval_dataset=eval_rows,
        model_init=model_init,
        **options,
    )


@pytest.fixture
def quiet_optuna():
    optuna = pytest.importorskip("optuna", reason="the tests of a search need optuna")
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield optuna
    optuna.logging.set_verbosity(before)


def wanted(trial, name: str, values: list[float]) -> float:
    """The trial's own of these values, as optuna suggests it."""
    return trial.suggest_float(name, values[trial.number], values[trial.number])


class Weights:
    """Keeps the weights of every model that training ends with."""

    def __init__(self, trainer: AtriTrainer):
        self.of_runs: list[dict[str, torch.Tensor]] = []
        save = trainer._finalize_training

        def finalize(*args):
            self.of_runs.append({name: weight.clone() for name, weight in trainer.model.state_dict().items()})
            return save(*args)

        trainer._finalize_training = finalize


# model_init


def test_a_model_of_model_init_trains_as_a_given_one(tmp_path):
    """Also frozen and with a patch dropout as the arguments say; and each training begins anew."""
    args = make_arguments(tmp_path / "a", freeze_text=True, patch_dropout=0.0)
    trainer = searcher(args, lambda: AtriModel(tiny_config(patch_dropout=0.5)))
    weights = Weights(trainer)
    trainer.train()
    first = losses(trainer)
    trainer.train()
    assert losses(trainer) == first
    assert_same_weights(*weights.of_runs)
    assert trainer.model.audio_model.mel_norm.is_set
    assert trainer.model.audio_model.config.patch_dropout == 0.0

    torch.manual_seed(args.seed)
    given = AtriTrainer(fresh_model(), replace(args, output_dir=str(tmp_path / "b")), tiny_processor(), make_rows(8))
    given.train()
    assert_same_weights(given.model, trainer.model)


def test_a_resumed_run_with_model_init_equals_one_without_a_stop(tmp_path):
    args = make_arguments(tmp_path, num_train_epochs=2, save_strategy="steps", save_steps=1)
    trainer = searcher(args)
    trainer.train()
    resumed = searcher(args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same_weights(resumed.model, trainer.model)


def test_arguments_that_change_after_the_trainer_was_made_are_those_of_the_run(tmp_path):
    """As the documentation of transformers sets the best hyperparameters."""
    trainer = searcher(make_arguments(tmp_path / "a"))
    trainer.args.objective = "mlclap"
    trainer.args.per_device_train_batch_size = 2
    trainer.train()
    expected = searcher(make_arguments(tmp_path / "b", objective="mlclap", per_device_train_batch_size=2))
    expected.train()
    assert losses(trainer) == losses(expected)
    assert len(losses(trainer)) == 4


def test_mistakes_of_model_init(tmp_path):
    args, model = make_arguments(tmp_path), tiny_model()
    with pytest.raises(ValueError, match="needs either a `model` or a `model_init` that makes one; got neither"):
        AtriTrainer(args=args, processor=tiny_processor())
    with pytest.raises(ValueError, match="needs either a `model` or a `model_init` that makes one; got both"):
        searcher(args, model=model)
    trainer = searcher(args, model_init=lambda: model)
    with pytest.raises(ValueError, match="`model_init` returned the same model again"):
        trainer.train()


# Search


def test_every_trial_equals_a_run_by_hand(tmp_path, quiet_optuna):
    """Weights, figures, manifests, facts and lists; with arguments of ATRI, and with the model that a trial wants."""
    base = {
        **{"num_train_epochs": 2, "save_strategy": "epoch", "eval_strategy": "epoch"},
        **{"objective": "kcl", "optim": "adamw_torch"},
    }
    chosen = [
        {"learning_rate": 1e-2, "objective": "akcl", "ranking_weight": 0.5, "per_device_train_batch_size": 4},
        {"learning_rate": 1e-3, "objective": "mlclap", "per_device_train_batch_size": 2},
        {"learning_rate": 1e-2, "objective": "akcl", "ranking_weight": 0.5, "per_device_train_batch_size": 4},
    ]
    widths, rates = [12, 8, 12], [changes["learning_rate"] for changes in chosen]

    def model_of(width: int) -> AtriModel:
        config = tiny_config()
        config.projection_dim = width
        return AtriModel(config)

    def model_init(trial):
        return model_of(12) if trial is None else model_of(int(wanted(trial, "width", widths)))

    args = make_arguments(tmp_path / "search", **base)
    trainer = searcher(args, model_init)
    weights = Weights(trainer)
    best = trainer.hyperparameter_search(
        lambda trial: chosen[trial.number] | {"learning_rate": wanted(trial, "learning_rate", rates)},
        lambda figures: figures[FIGURE],
        n_trials=3,
        direction="maximize",
    )
    assert trainer.args is args
    assert args.learning_rate == 0.05
    figures = []
    for number, changes in enumerate(chosen):
        by_hand = make_arguments(tmp_path / f"hand-{number}", **base | changes)
        expected = searcher(by_hand, partial(model_of, widths[number]))
        expected.train()
        assert_same_weights(weights.of_runs[number], expected.model)
        run, hand = tmp_path / "search" / f"run-{number}", tmp_path / f"hand-{number}"
        assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in hand.iterdir())
        ours, theirs = (json.loads((folder / "eval_atri_results.json").read_text()) for folder in (run, hand))
        assert ours["metrics"] == theirs["metrics"]
        assert ours["training"] == theirs["training"]
        figures.append(ours["metrics"][FIGURE.removeprefix("eval_")])
        last = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        ours, theirs = read_manifest(last), read_manifest(hand / last.name)
        assert ours["arguments"] == theirs["arguments"]
        assert ours["run"] != theirs["run"]
    assert_same_weights(weights.of_runs[0], weights.of_runs[2])
    assert figures[0] == figures[2] != figures[1]
    assert best.objective == max(figures)
    assert best.hyperparameters == {"learning_rate": rates[int(best.run_id)], "width": widths[int(best.run_id)]}
    assert not [path.name for path in (tmp_path / "search").iterdir() if not path.name.startswith("run-")]

    # A trial can be gone on with.
    resumed = searcher(replace(args, **chosen[1], output_dir=str(tmp_path / "search/run-1")), lambda: model_of(8))
    resumed.train(resume_from_checkpoint=str(tmp_path / "search/run-1/checkpoint-4"))
    assert_same_weights(resumed.model, weights.of_runs[1])


def test_after_a_search_the_best_trial_can_be_trained_again(tmp_path, quiet_optuna):
    trainer = searcher(make_arguments(tmp_path, optim="adamw_torch"))
    best = trainer.hyperparameter_search(
        lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)},
        n_trials=2,
        sampler=quiet_optuna.samplers.RandomSampler(seed=0),
        hp_name=lambda trial: f"trial-{trial.number}",
    )
    assert {path.name for path in tmp_path.iterdir()} == {"trial-0", "trial-1"}
    with pytest.raises(ValueError, match=r"released at the end of the search\. Train with the best"):
        trainer.evaluate()
    for name, value in best.hyperparameters.items():
        setattr(trainer.args, name, value)
    trainer.train()
    assert trainer.evaluate()["eval_mean_text_to_audio_R@1"] == best.objective, "the default figure"
    stored = json.loads((tmp_path / f"trial-{best.run_id}" / "eval_atri_results.json").read_text())
    assert stored["training"]["learning_rate"] == best.hyperparameters["learning_rate"]


def test_nothing_of_a_trial_is_left_to_the_next(tmp_path, quiet_optuna):
    """Patience, rows that were left out, diagnostics; and a trial that diverges does not end the search."""
    args = make_arguments(
        tmp_path,
        eval_strategy="epoch",
        save_strategy="epoch",
        num_train_epochs=3,
        load_best_model_at_end=True,
        optim="adamw_torch",
        on_bad_row="skip",
    )
    rates = [1e-6, 1e30, 1e-6]
    rows = make_rows(8)
    rows[0]["audio"] = {"array": rows[0]["audio"]["array"] * 0, "sampling_rate": 16000}
    trainer = searcher(args, rows=rows, callbacks=[EarlyStoppingCallback(2)])
    trainer.add_callback(DiagnosticsCallback(trainer))
    best = trainer.hyperparameter_search(
        lambda trial: (
            {"learning_rate": wanted(trial, "learning_rate", rates)}
            | ({"objective": "kcl"} if trial.number == 0 else {})
        ),
        n_trials=3,
    )
    assert best.run_id in ("0", "2")
    folders = [tmp_path / f"run-{number}" for number in range(3)]
    for folder in (folders[0], folders[2]):
        state = json.loads((max(folder.glob("checkpoint-*")) / "trainer_state.json").read_text())
        counter = state["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]["early_stopping_patience_counter"]
        assert (state["global_step"], counter) == (6, 2), "two epochs without progress, in each trial"
        assert len((folder / "train_left_out.jsonl").read_text().splitlines()) == 1
        lines = [json.loads(line) for line in (folder / "diagnostics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if line["kind"] == "distribution"] == [2, 4, 6]
    objectives = [
        json.loads((folder / "eval_atri_results.json").read_text())["training"]["objective"]
        for folder in (folders[0], folders[2])
    ]
    assert objectives == ["kcl", "akcl"], "what one trial sets is not set in the next"
    assert not list(folders[1].glob("checkpoint-*"))
    assert isinstance(trainer.data_collator, AtriDataCollator)


def test_a_search_of_trials_that_all_diverge(tmp_path, quiet_optuna):
    trainer = searcher(make_arguments(tmp_path, optim="adamw_torch"))
    with pytest.raises(ValueError, match="No trial of the search came to an end, because all diverged"):
        trainer.hyperparameter_search(lambda trial: {"learning_rate": 1e30}, n_trials=2)


def test_pruned_trials(tmp_path, quiet_optuna):
    trainer = searcher(make_arguments(tmp_path, eval_strategy="steps", eval_steps=1, num_train_epochs=2))
    pruner = quiet_optuna.pruners.ThresholdPruner(upper=-1.0)  # any figure
    with pytest.raises(ValueError, match="or were pruned"):
        trainer.hyperparameter_search(lambda trial: {}, n_trials=1, pruner=pruner)
    assert trainer.state.global_step == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hp_space": lambda trial: {"learning_rat": 1.0}}, r"no argument of .*Did you mean 'learning_rate'\?"),
        ({"hp_space": lambda trial: {"output_dir": "x"}}, "`output_dir` is the same in all trials"),
        (
            {"hp_space": lambda trial: {"ranking_weight": -1.0}},
            "`ranking_weight` must be a finite number >= 0; got -1",
        ),
        ({"hp_space": lambda trial: {"optim": "lomo"}}, "`optim` 'lomo' is not supported"),
        ({"backend": "ray"}, "`backend` must be 'optuna' or None; got 'ray'"),
        ({"n_jobs": 2}, "`n_jobs` must be 1, because all trials share one trainer; got 2"),
        ({"direction": "minimize"}, "'minimize' would choose the worst trial by eval_mean_text_to_audio_R@1"),
    ],
    ids=["a name", "a fixed option", "a value", "an optimizer", "backend", "jobs", "direction"],
)
def test_mistakes_of_a_search(tmp_path, quiet_optuna, options, message):
    trainer = searcher(make_arguments(tmp_path))
    with pytest.raises(ValueError, match=message):
        trainer.hyperparameter_search(**{"hp_space": lambda trial: {}, "n_trials": 1} | options)
    assert trainer.state.global_step == 0
    assert trainer.args.output_dir == str(tmp_path)


def test_what_a_search_needs(tmp_path, monkeypatch):
    given = AtriTrainer(tiny_model(), make_arguments(tmp_path), tiny_processor(), make_rows(4), make_rows(4))
    with pytest.raises(ValueError, match="pass `model_init`, a function that returns the model, in place of `model`"):
        given.hyperparameter_search()
    trainer = searcher(make_arguments(tmp_path), eval_rows=None)
    with pytest.raises(ValueError, match="pass an `eval_dataset`"):
        trainer.hyperparameter_search()
    trainer = searcher(make_arguments(tmp_path), eval_rows={"a": make_rows(4), "b": make_rows(4)})
    trainer.args.push_to_hub = True
    with pytest.raises(ValueError, match="pushed to the same repository"):
        trainer.hyperparameter_search()
    trainer.args.push_to_hub = False
    monkeypatch.setattr("modeling_atri.trainer.run.search.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install optuna"):
        trainer.hyperparameter_search()
    monkeypatch.undo()
    pytest.importorskip("optuna")
    with pytest.raises(ValueError, match="several evaluation sets: name the figure"):
        trainer.hyperparameter_search()


def test_the_arguments_of_a_trial_leave_those_of_the_search(tmp_path):
    args = make_arguments(tmp_path, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch")
    before = args.to_dict()
    trial = trial_arguments(args, {"learning_rate": 1e-3, "seed": 5}, "out")
    assert args.to_dict() == before
    changed = {name for name, value in trial.to_dict().items() if value != before[name]}
    assert changed == {"learning_rate", "seed", "output_dir"}
    assert Path(trial.output_dir).name == "out"
