import ast

import pytest
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.run.progress import BriefPrinterCallback, BriefProgressCallback, brief
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import make_arguments, make_rows


EVALUATION = {
    "eval_eng_Latn_text_to_audio_R@1": 0.1,
    "eval_mean_text_to_audio_R@1": 0.2,
    "eval_mean_text_to_audio_R@5": 0.3,
    "eval_mean_text_to_audio_R@10": 0.4,
    "eval_mean_audio_to_text_R@1": 0.5,
    "eval_mrv": 0.6,
    "eval_embedding_gap": 0.7,
    "epoch": 1.0,
}
HEADLINE = {
    "eval_mean_text_to_audio_R@1": 0.2,
    "eval_mean_text_to_audio_R@10": 0.4,
    "eval_mean_audio_to_text_R@1": 0.5,
    "eval_mrv": 0.6,
    "epoch": 1.0,
}


def test_an_evaluation_is_cut_to_its_headline():
    before = dict(EVALUATION)
    assert brief(EVALUATION) == HEADLINE
    assert before == EVALUATION
    named = {key.replace("eval_", "eval_dev_"): value for key, value in EVALUATION.items()}
    assert brief(named) == {key.replace("eval_", "eval_dev_"): value for key, value in HEADLINE.items()}


def test_other_logs_stay_as_they_are():
    logs = {"loss": 1.0, "grad_norm": 2.0, "learning_rate": 1e-3, "epoch": 0.5}
    assert brief(logs) == logs
    assert brief(None) == {}


@pytest.mark.parametrize(
    ("disable_tqdm", "stock", "ours"),
    [(True, PrinterCallback, BriefPrinterCallback), (False, ProgressCallback, BriefProgressCallback)],
)
def test_in_place_of_the_trainers_own(tmp_path, capsys, disable_tqdm, stock, ours):
    rows = make_rows(4)
    args = make_arguments(tmp_path, disable_tqdm=disable_tqdm, eval_strategy="epoch")
    trainer = AtriTrainer(tiny_model(), args, tiny_processor(), rows, rows)
    kinds = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert kinds.count(ours) == 1
    assert stock not in kinds
    trainer.train()
    printed = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (evaluation,) = [logs for logs in printed if any(key.startswith("eval_") for key in logs)]
    assert set(evaluation) == set(HEADLINE)
    assert any("loss" in logs for logs in printed)
    # What is logged to the state, and so to the trackers, is everything.
    assert any("eval_embedding_gap" in logs for logs in trainer.state.log_history)
