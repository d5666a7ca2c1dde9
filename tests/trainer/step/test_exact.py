"""The language-by-language step against the loss of all languages at once, and against sums written out."""

import numpy as np
import pytest
import torch

from modeling_atri.trainer.losses import akcl_weights
from modeling_atri.trainer.step.cached import CachedEmbeddings
from modeling_atri.trainer.step.exact import language_by_language_backward
from tests.helpers.tiny import tiny_model
from tests.helpers.training import assert_same_gradients, losses, make_arguments, make_rows, make_trainer, train


pytestmark = pytest.mark.heavy


CASES = {
    "kcl": {"objective": "kcl"},
    "kcl draws languages": {"objective": "kcl", "languages_per_step": 2},
    "kcl of one language": {"objective": "kcl", "languages": ["fra_Latn"]},
    "akcl": {"objective": "akcl"},
    "akcl, anchor last": {"objective": "akcl", "anchor_language": "jpn_Jpan", "akcl_weight": 0.3},
    "akcl draws languages": {"objective": "akcl", "anchor_language": "fra_Latn", "languages_per_step": 2},
    "accumulation": {"objective": "akcl", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2},
    "equal rankings": {"objective": "kcl", "ranking_weight": 0.7},
    "akcl, equal rankings": {
        "objective": "akcl",
        "ranking_weight": 0.7,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
    },
    "equal rankings of drawn languages": {"objective": "akcl", "ranking_weight": 2, "languages_per_step": 2},
    "frozen audio": {"objective": "akcl", "freeze_audio": True},
    "frozen text": {"objective": "akcl", "freeze_text": True},
}


@pytest.mark.parametrize("num_groups", [None, 3], ids=["", "groups"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_all_languages_at_once(tmp_path, case, num_groups):
    # Six rows: the last batch, or the last accumulated step, is uneven.
    rows = make_rows(6, num_groups=num_groups)
    exact, exact_gradients = train(make_arguments(tmp_path, **case), rows)
    at_once, gradients = train(make_arguments(tmp_path, exact_step=False, **case), rows)
    assert losses(exact) == pytest.approx(losses(at_once), rel=1e-5)  # a step's rounding is in the next one's weights
    assert len(exact_gradients.steps) == exact.state.global_step >= 2
    # Rounding: 3e-7 with AVX kernels, 1e-6 on a CPU without.
    assert_same_gradients(exact_gradients.steps[0], gradients.steps[0], tolerance=3e-6)


# The objectives, one pair of items at a time.


def info_nce(x: torch.Tensor, y: torch.Tensor, scale: torch.Tensor, groups: list) -> torch.Tensor:
    terms = []
    for queries, items in ((x, y), (y, x)):
        for i, query in enumerate(queries):
            scores = [scale * (query * item).sum() for item in items]
            positives = [score for score, group in zip(scores, groups, strict=True) if group == groups[i]]
            log_sum = torch.stack(scores).logsumexp(0)
            terms.append(sum(log_sum - positive for positive in positives) / len(positives))
    return sum(terms) / len(terms)


def naive_loss(model, batch: dict, objective: str, weight: float, anchor: str) -> torch.Tensor:
    """Clips and captions go through the model one at a time."""
    audio = torch.cat(
        [
            model(input_features=clip[None, : mask.sum()]).audio_embeds
            for clip, mask in zip(batch["input_features"], batch["input_features_mask"], strict=True)
        ]
    )
    text = [
        torch.cat(
            [
                model(input_ids=ids[None, : mask.sum()]).text_embeds
                for ids, mask in zip(*(batch[name][k] for name in ("input_ids", "attention_mask")), strict=True)
            ]
        )
        for k in range(len(batch["input_ids"]))
    ]
    scale, groups = model.logit_scale.exp(), batch["group_ids"].tolist()
    if objective == "mlclap":
        return info_nce(audio, text[0], scale, groups)
    if objective == "cacl":
        pairs = ((audio, text[0]), (audio, text[1]), (text[0], text[1]))
        return sum(info_nce(x, y, scale, groups) for x, y in pairs) / 3
    kcl = sum(info_nce(audio, captions, scale, groups) for captions in text) / len(text)
    if objective == "kcl":
        return kcl
    row = [languages[0] for languages in batch["languages"]].index(anchor)
    others = [captions for k, captions in enumerate(text) if k != row]
    return weight * kcl + (1 - weight) * sum(info_nce(text[row], other, scale, groups) for other in others) / len(
        others
    )


@pytest.mark.parametrize("objective", ["kcl", "akcl", "cacl", "mlclap"])
def test_equals_a_loop_over_clips_and_captions(tmp_path, objective):
    rows = make_rows(5, num_groups=3)
    args = make_arguments(
        tmp_path, objective=objective, anchor_language="fra_Latn", akcl_weight=0.3, per_device_train_batch_size=5
    )
    trainer, recorder = train(args, rows)
    (batch,) = trainer.get_train_dataloader()
    model = tiny_model().train()
    loss = naive_loss(model, batch, objective, weight=0.3, anchor="fra_Latn")
    loss.backward()
    assert losses(trainer) == pytest.approx([loss.item()], rel=1e-5)
    expected = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert_same_gradients(recorder.steps[0], expected, tolerance=5e-6)


def cached(embeddings: torch.Tensor) -> CachedEmbeddings:
    """All rows in one chunk."""
    return CachedEmbeddings(lambda rows: embeddings[rows], len(embeddings), embeddings.device)


def test_two_drawn_languages_estimate_all_of_them():
    """Over all draws of one other language, AKCL's mean gradient is that of AKCL over all languages (float64)."""
    torch.manual_seed(0)
    audio, text = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 4, 3, dtype=torch.float64)

    def gradient(rows: list[int], total: int) -> torch.Tensor:
        leaf = audio.clone().requires_grad_()
        language_by_language_backward(
            lambda: cached(leaf * 1.0),
            lambda k: cached(text[rows[k]]),
            lambda x, y: (x * y.cos()).square().sum(),
            akcl_weights(len(rows), 0, 0.3, total),
            torch.Tensor.backward,
            anchor=0,
        )
        return leaf.grad

    drawn = torch.stack([gradient([0, other], 5) for other in range(1, 5)]).mean(0)
    torch.testing.assert_close(drawn, gradient([0, 1, 2, 3, 4], 5))


def test_terms_of_sounds_need_sounds():
    text = torch.ones(2, 4, 3)
    weights = [(0.5, 0.0), (0.5, 0.0)]
    with pytest.raises(ValueError, match="compares captions with sounds, but the batch has none"):
        language_by_language_backward(
            lambda: None, lambda k: cached(text[k]), torch.dot, weights, torch.Tensor.backward
        )


@pytest.mark.parametrize("anchor", [None, 0, 2])
def test_order_of_work(anchor):
    """Each input is encoded once; a language's backward has run before the next language is encoded."""
    torch.manual_seed(0)
    weight = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(4, 2, 3, dtype=torch.float64)
    events = []

    def encode(name: str, place: int) -> CachedEmbeddings:
        events.append(f"encode {name}")
        return cached((inputs[place] @ weight).tanh())

    def backward(loss: torch.Tensor) -> None:
        events.append("backward")
        (2 * loss).backward()

    weights = [(0.5, 0.1), (0.2, 0.7), (0.3, 0.4)]
    total = language_by_language_backward(
        lambda: encode("audio", 3), lambda k: encode(str(k), k), lambda x, y: (x * y).sum(), weights, backward, anchor
    )
    first = [] if anchor is None else [f"encode {anchor}"]
    loop = [event for k in range(3) for event in ([] if k == anchor else [f"encode {k}"]) + ["backward"]]
    assert events == ["encode audio", *first, *loop]

    gradient, weight.grad = weight.grad, None
    audio, *text = ((inputs[place] @ weight).tanh() for place in (3, 0, 1, 2))
    expected = sum(a * (audio * captions).sum() for (a, _), captions in zip(weights, text, strict=True))
    if anchor is not None:
        others = [k for k in range(3) if k != anchor]
        expected = expected + sum(weights[k][1] * (text[anchor] * text[k]).sum() for k in others)
    (2 * expected).backward()
    assert not total.requires_grad
    torch.testing.assert_close(total, expected.detach())
    torch.testing.assert_close(gradient, weight.grad)


def test_bfloat16_autocast_stays_near_float32(tmp_path):
    rows = make_rows(8)
    options = {"objective": "akcl", "num_train_epochs": 3, "learning_rate": 0.02}
    single, gradients = train(make_arguments(tmp_path, **options), rows)
    half, half_gradients = train(make_arguments(tmp_path, bf16=True, **options), rows)
    assert all(weight.dtype == torch.float32 for weight in half.model.parameters())
    assert losses(half) != losses(single)
    assert losses(half) == pytest.approx(losses(single), rel=0.03)
    first, second = (
        torch.cat([g.flatten() for g in steps.steps[0].values()]) for steps in (gradients, half_gradients)
    )
    assert torch.cosine_similarity(first, second, dim=0) > 0.99
    assert np.mean(losses(half)[-2:]) < np.mean(losses(half)[:2])


@pytest.mark.parametrize("exact_step", [True, False])
def test_gradient_clipping_bounds_the_update(tmp_path, exact_step):
    before = tiny_model().state_dict()
    args = make_arguments(tmp_path, max_grad_norm=1e-3, learning_rate=1.0, max_steps=1, exact_step=exact_step)
    trainer, _ = train(args, make_rows(4))
    change = [(weight - before[name]).square().sum() for name, weight in trainer.model.state_dict().items()]
    assert sum(change).sqrt().item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("options", [{"objective": "kcl"}, {"objective": "cacl", "text_chunk_size": 2}])
def test_a_single_process_of_a_launcher(tmp_path, options):
    """DDP wraps the model there, too, and expects one backward pass for each step unless it is told otherwise."""
    rows = make_rows(4)
    gradients = []
    for is_launched in (False, True):
        trainer = make_trainer(make_arguments(tmp_path, **options), rows)
        trainer.current_gradient_accumulation_steps = 1
        batch = next(iter(trainer.get_train_dataloader()))
        if is_launched:
            torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        try:
            wrap = torch.nn.parallel.DistributedDataParallel if is_launched else lambda model: model
            trainer.training_step(wrap(trainer.model), batch)
        finally:
            if is_launched:
                torch.distributed.destroy_process_group()
        gradients.append({name: parameter.grad for name, parameter in trainer.model.named_parameters()})
    assert_same_gradients(gradients[1], gradients[0], tolerance=0.0)
