"""The callback: what it logs and writes, at what cost, and that a resumed run goes on with it."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from modeling_atri.trainer import AtriDataCollator
from modeling_atri.trainer.data.draws import LanguageDraws
from modeling_atri.trainer.diagnostics.alignment_error import alignment_error
from modeling_atri.trainer.diagnostics.callback import DIAGNOSTICS_NAME, DiagnosticsCallback, read_diagnostics
from modeling_atri.trainer.diagnostics.distribution_error import DistributionErrors, Sampling, caption_counts
from modeling_atri.trainer.evaluation import evaluating
from modeling_atri.trainer.evaluation import retrieval as evaluation
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet
from tests.helpers.tiny import tiny_processor
from tests.helpers.training import LANGUAGES, make_arguments, make_rows, make_trainer


pytestmark = pytest.mark.heavy


ROWS, EVAL_ROWS = make_rows(12), make_rows(5, seed=1)


def diagnosed(folder, eval_rows=EVAL_ROWS, **options):
    """A trainer with the callback; two epochs of three steps, evaluated after each."""
    options = {"objective": "mlclap", "num_train_epochs": 2, "eval_strategy": "epoch", **options}
    trainer = make_trainer(make_arguments(folder, **options), ROWS, eval_rows)
    trainer.add_callback(DiagnosticsCallback(trainer))
    return trainer


def test_a_line_for_each_epoch_and_each_evaluation(tmp_path):
    trainer = diagnosed(tmp_path)
    trainer.train()
    lines = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)
    kinds = [(line["kind"], line["epoch"], line["step"]) for line in lines]
    assert kinds == [("distribution", 1, 3), ("alignment", 1, 3), ("distribution", 2, 6), ("alignment", 2, 6)]
    assert lines[0]["languages"] == pytest.approx(4 / 3)
    assert lines[0]["pairs"] == pytest.approx(2 * (1 - 1 / 6))  # two captions
    assert lines[2]["languages_so_far"] < lines[0]["languages_so_far"]
    assert lines[3]["set"] == "eval"
    assert list(lines[3]["text"]) == LANGUAGES
    logged = {key: value for entry in trainer.state.log_history for key, value in entry.items()}
    assert logged["distribution_error_languages"] == lines[2]["languages"]
    assert logged["eval_alignment_error"] == lines[3]["audio"]["mean"]


def test_the_angles_are_those_of_the_model(tmp_path):
    trainer = diagnosed(tmp_path)
    trainer.train()
    embeddings = trainer.embed(RetrievalSet.from_rows(EVAL_ROWS, LANGUAGES))
    owners = [row for row in range(5) for _ in range(2)]
    error = alignment_error(embeddings.audio[owners], np.stack([embeddings.text[code] for code in LANGUAGES]))
    last = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)[-1]
    assert last["audio"]["mean"] == pytest.approx(error.audio.mean(), abs=1e-3)
    assert last["text"]["fra_Latn"]["mean"] == pytest.approx(error.text[1].mean(), abs=1e-3)
    assert last["pulls"]["mlclap"] == pytest.approx(error.text.mean(), abs=1e-3)


def test_an_evaluation_embeds_once(tmp_path, monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        return evaluation.embed_retrieval_set(*args, **kwargs)

    monkeypatch.setattr(evaluating, "embed_retrieval_set", counted)
    trainer = diagnosed(tmp_path)
    trainer.evaluate()
    assert len(calls) == 1
    assert [line["kind"] for line in read_diagnostics(tmp_path / DIAGNOSTICS_NAME)] == ["alignment"]


def test_several_sets_go_by_their_names(tmp_path):
    trainer = diagnosed(tmp_path, {"near": EVAL_ROWS[:3], "far": EVAL_ROWS[3:]})
    trainer.evaluate()
    lines = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)
    assert [line["set"] for line in lines] == ["eval_near", "eval_far"]


def test_training_and_its_logs_are_as_without(tmp_path):
    """Also where the loss is logged at the end of an epoch, which a log of one's own could swallow."""
    options = {"objective": "cacl", "num_train_epochs": 2, "eval_strategy": "epoch", "logging_strategy": "epoch"}
    plain = make_trainer(make_arguments(tmp_path / "plain", **options), ROWS, EVAL_ROWS)
    watched = diagnosed(tmp_path / "watched", **options)
    histories = []
    for trainer in (plain, watched):
        trainer.train()
        histories.append(
            [
                {key: value for key, value in entry.items() if "runtime" not in key and "second" not in key}
                for entry in trainer.state.log_history
                if not any("distribution_error" in key or "alignment_error" in key for key in entry)
            ]
        )
    assert histories[0] == histories[1]
    assert [entry["epoch"] for entry in histories[1] if "loss" in entry] == [1, 2]


@pytest.mark.parametrize("checkpoint", [2, 3, 4])
def test_a_resumed_run_writes_what_an_unbroken_one_does(checkpoint, tmp_path):
    """From amid the first epoch, from its end, from amid the second; though the killed run had come further."""
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    diagnosed(tmp_path, **options).train()
    whole = (tmp_path / DIAGNOSTICS_NAME).read_bytes()
    with open(tmp_path / DIAGNOSTICS_NAME, "ab") as file:
        file.write(b'{"kind": "alignment", "epoch": 2.0, "st')  # killed amid a line
    for later in range(checkpoint + 1, 7):
        shutil.rmtree(tmp_path / f"checkpoint-{later}")
    diagnosed(tmp_path, **options).train(resume_from_checkpoint=True)
    assert (tmp_path / DIAGNOSTICS_NAME).read_bytes() == whole


def test_an_epoch_that_is_not_over(tmp_path):
    diagnosed(tmp_path, max_steps=4, eval_strategy="no", save_strategy="steps", save_steps=4).train()
    first, second = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)
    assert (first["epoch"], first["left_out"]) == (1, 0)
    assert second["epoch"] == pytest.approx(4 / 3)
    assert second["left_out"] == 8  # one of its three batches was made
    diagnosed(tmp_path, max_steps=6, eval_strategy="no").train(resume_from_checkpoint=True)
    lines = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)
    assert [(line["epoch"], line["left_out"]) for line in lines] == [(1, 0), (2, 0)]


def test_a_run_that_begins_anew_begins_the_file_anew(tmp_path):
    (tmp_path / DIAGNOSTICS_NAME).write_text(json.dumps({"kind": "distribution", "epoch": 1, "step": 1}) + "\n")
    diagnosed(tmp_path, num_train_epochs=1, eval_strategy="no").train()
    (line,) = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)
    assert line["step"] == 3


def test_accumulated_batches_count_one_by_one(tmp_path):
    diagnosed(tmp_path, gradient_accumulation_steps=2, eval_strategy="no").train()
    lines = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)
    assert [(line["step"], line["left_out"]) for line in lines] == [(2, 0), (4, 0)]


def test_without_a_file_there_are_no_measurements(tmp_path):
    assert read_diagnostics(tmp_path / "none.jsonl") == []


def test_the_draws_of_another_collator_are_not_known(tmp_path):
    trainer = make_trainer(make_arguments(tmp_path), ROWS, data_collator=SimpleNamespace(seed=0))
    with pytest.raises(ValueError, match="The draws of a SimpleNamespace are not known. Use an AtriDataCollator"):
        DiagnosticsCallback(trainer)


def test_draws_are_those_of_the_collator_that_was_given(tmp_path):
    draws = LanguageDraws("cacl", LANGUAGES, caption_choice="first", seed=9)
    collator = AtriDataCollator(tiny_processor(), draws)
    trainer = make_trainer(make_arguments(tmp_path, objective="cacl"), ROWS, data_collator=collator)
    trainer.add_callback(DiagnosticsCallback(trainer))
    trainer.train()
    (line,) = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)
    sampling = Sampling(draws, batch_size=4)
    assert line.items() >= DistributionErrors(sampling, caption_counts(ROWS, LANGUAGES)).of_epoch(0).items()
