"""Twin runs: nothing else differs but what is drawn, and the constants of the bound are what they are called."""

import copy

import numpy as np
import pytest
import torch

from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer.diagnostics.twins import _make_twins, _Probe, pair_losses, twin_weight_error
from modeling_atri.trainer.diagnostics.weight_error import weight_distances
from modeling_atri.trainer.losses import kcl_loss
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import LANGUAGES, assert_same_weights, make_arguments, make_rows, train


pytestmark = pytest.mark.heavy


ROWS = make_rows(11, num_captions=2)


def twins(folder, model=None, **options) -> dict:
    probes = {name: options.pop(name) for name in ("num_probes", "num_pairs") if name in options}
    args = make_arguments(folder, **{"num_train_epochs": 2, "objective": "mlclap", **options})
    return twin_weight_error(model or tiny_model(), args, tiny_processor(), ROWS, **probes)


@pytest.mark.parametrize("objective", ["kcl", "akcl"])
def test_without_a_distribution_error_twins_stay_the_same(objective, tmp_path):
    found = twins(tmp_path, objective=objective)
    assert found["objectives"] == {"full": objective, "sampled": objective}
    assert found["distribution_error"] == [0.0, 0.0]
    assert [step["total"] for step in found["steps"]] == [0.0] * 6
    assert [step["log10_bound"] for step in found["steps"]] == [None] * 6
    assert found["lipschitz"] == found["steps_above_bound"] == 0
    assert all(step["travelled"] > 0 for step in found["steps"])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"objective": "mlclap"}, 2 * (1 - 1 / 3)),
        ({"objective": "cacl"}, 2 * (1 - 2 / 3)),
        ({"objective": "kcl", "languages_per_step": 2}, 2 * (1 - 2 / 3)),
        ({"objective": "akcl", "languages_per_step": 2}, 2 * (1 - 2 / 3)),
        ({"objective": "mlclap", "optim": "adamw_torch", "learning_rate": 1e-3, "max_grad_norm": 1.0}, 4 / 3),
        ({"objective": "mlclap", "freeze_text": True, "audio_chunk_size": 2, "text_chunk_size": 2}, 4 / 3),
    ],
)
def test_what_is_drawn_moves_the_weights_apart(options, error, tmp_path):
    found = twins(tmp_path, **options)
    assert found["distribution_error"] == pytest.approx([error, error])
    assert [step["epoch"] for step in found["steps"]] == [0, 0, 0, 1, 1, 1]
    for step in found["steps"]:
        parts = [step[part] for part in ("audio", "text", "heads")]
        assert step["total"] == pytest.approx(np.linalg.norm(parts))
        assert step["audio"] > 0
        assert (step["text"] > 0) == ("freeze_text" not in options)
        assert np.isfinite(step["log10_bound"])
    if options.get("optim") is None and options["objective"] != "cacl":  # of losses of pairs, by plain SGD
        assert found["steps_above_bound"] == 0
    assert found["steps_above_bound"] == sum(np.log10(step["total"]) > step["log10_bound"] for step in found["steps"])
    assert found["lipschitz"] > 0
    assert found["largest_gradient"] > 0


def test_the_twins_are_the_runs_of_the_trainer(tmp_path):
    """Six steps from the same start: what the twins travelled, and how far apart they are."""
    model = tiny_model()
    found = twins(tmp_path, model, optim="adamw_torch", learning_rate=1e-3, lr_scheduler_type="linear")
    options = {"optim": "adamw_torch", "learning_rate": 1e-3, "lr_scheduler_type": "linear", "num_train_epochs": 2}
    runs = {
        objective: train(make_arguments(tmp_path, objective=objective, **options), ROWS, tiny_model())[0].model
        for objective in ("kcl", "mlclap")
    }
    last = found["steps"][-1]
    assert weight_distances(*runs.values())["total"] == pytest.approx(last["total"], rel=1e-4)
    assert weight_distances(runs["kcl"], tiny_model())["total"] == pytest.approx(last["travelled"], rel=1e-4)
    assert [step["learning_rate"] for step in found["steps"]] == pytest.approx([1e-3 * (6 - s) / 6 for s in range(6)])
    assert_same_weights(model, tiny_model())  # the caller's model stays as it is


def test_dropout_is_the_same_and_no_random_number_of_the_caller_is_used(tmp_path):
    model = tiny_model(hidden_dropout=0.3)
    state = torch.get_rng_state()
    found = twins(tmp_path, model, objective="kcl")
    assert [step["total"] for step in found["steps"]] == [0.0] * 6
    assert torch.equal(torch.get_rng_state(), state)


def test_steps_may_end_amid_an_epoch(tmp_path):
    found = twins(tmp_path, max_steps=4, num_probes=2, num_pairs=1)
    assert [step["step"] for step in found["steps"]] == [1, 2, 3, 4]
    assert [step["epoch"] for step in found["steps"]] == [0, 0, 0, 1]
    assert len(found["distribution_error"]) == 2


def test_mel_statistics_are_set_before_twins_part(tmp_path):
    fresh = tiny_model()
    for name, buffer in fresh.audio_model.mel_norm.named_buffers():
        buffer.copy_(torch.ones_like(buffer) if name == "running_var" else torch.zeros_like(buffer))
    assert not fresh.audio_model.mel_norm.is_set
    found = twins(tmp_path, copy.deepcopy(fresh), objective="kcl")
    assert [step["total"] for step in found["steps"]] == [0.0] * 6
    assert found["steps"][0]["travelled"] > 0


def test_losses_of_pairs_have_the_loss_for_their_mean():
    torch.manual_seed(0)
    audio, text = (torch.nn.functional.normalize(torch.randn(6, 5), dim=1) for _ in range(2))
    ids = torch.tensor([0, 1, 2, 0, 3, 3])
    terms = pair_losses(audio, text, torch.tensor(10.0), ids)
    assert terms.shape == (6,)
    torch.testing.assert_close(terms.mean(), info_nce_loss(audio, text, 10.0, ids))


def test_distances_by_part():
    first, second = tiny_model(), tiny_model()
    with torch.no_grad():
        second.logit_scale += 3
        next(second.audio_model.parameters()).flatten()[0] += 4
    assert weight_distances(first, second) == pytest.approx({"total": 5, "audio": 4, "text": 0, "heads": 3}, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_accumulation_steps": 2}, "Twin runs need `gradient_accumulation_steps` to be 1; got 2"),
        ({"embed_regularization": True}, "`embed_regularization` to be False; got True"),
        (
            {"ranking_weight": 1.0, "objective": "kcl", "languages_per_step": 2},
            "`ranking_weight` to be 0; got 1.0",
        ),
        ({"on_bad_row": "skip"}, "`on_bad_row` to be 'raise'; got 'skip'"),
        ({"lr_scheduler_type": "greedy", "eval_strategy": "epoch"}, "'greedy' follows evaluations"),
        ({"num_probes": 0}, "`num_probes` must be at least 1"),
        ({"learning_rate": 1e30}, "are not finite numbers, so the learning rate of 1e\\+30 is too high"),
    ],
)
def test_what_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        twins(tmp_path, **options)


def test_languages_are_those_of_the_arguments(tmp_path):
    assert twins(tmp_path, languages=LANGUAGES[:2], max_steps=1)["distribution_error"] == pytest.approx([1.0])


def test_the_constants_are_what_a_run_by_hand_finds(tmp_path):
    """At the second of two steps: gradients of the full loss at both weights, and of every pair in every language."""
    args = make_arguments(tmp_path, objective="mlclap", max_steps=2)
    full, sampled = _make_twins(tiny_model(), args, tiny_processor(), ROWS)
    first, second, *_ = full.batches_of(0)
    full.make_step(first, seed=0)
    sampled.make_step(sampled.drawn_part(first, epoch=0, step=0), seed=0)
    probe = _Probe(full, sampled, num_probes=2, num_pairs=100)
    probe.measure(1, second, seed=0)

    of_all = []
    for twin in (full, sampled):
        audio, texts = embed(twin.model, second)
        loss = kcl_loss(audio, texts, twin.model.logit_scale.exp(), second["group_ids"])
        of_all.append(torch.cat([gradient.flatten() for gradient in gradients(loss, twin.model)]))
    audio, texts = embed(full.model, second)
    norms = []
    for text in texts:
        losses = pair_losses(audio, text, full.model.logit_scale.exp(), second["group_ids"])
        norms.append(
            max(torch.cat([g.flatten() for g in gradients(loss, full.model)]).norm().item() for loss in losses)
        )
    distance = weight_distances(full.model, sampled.model)["total"]
    assert probe.lipschitz == pytest.approx(((of_all[0] - of_all[1]).norm() / distance).item(), rel=1e-3)
    assert any(probe.largest_gradient == pytest.approx(largest, rel=1e-3) for largest in norms)


def embed(model, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    audio = model(
        input_features=batch["input_features"], input_features_mask=batch["input_features_mask"]
    ).audio_embeds
    texts = [
        model(input_ids=ids, attention_mask=mask).text_embeds
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    return audio, torch.stack(texts)


def gradients(loss: torch.Tensor, model) -> list[torch.Tensor]:
    parameters = list(model.parameters())
    return torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True, allow_unused=True)
