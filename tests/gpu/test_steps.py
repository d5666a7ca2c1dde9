"""Training steps on a GPU: the gradients of the CPU in each precision, dropout that is replayed, and torch.compile."""

import pytest
import torch

from modeling_atri.trainer.step.cached import CachedEmbeddings
from tests.helpers.tiny import tiny_model
from tests.helpers.training import (
    assert_same_gradients,
    assert_same_weights,
    losses,
    make_arguments,
    make_rows,
    make_trainer,
    train,
)


pytestmark = [pytest.mark.gpu, pytest.mark.heavy]
ROWS = make_rows(8, num_groups=6)
CHUNKS = {"audio_chunk_size": 2, "text_chunk_size": 3}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "options",
    [{"objective": "akcl"}, {"objective": "cacl", **CHUNKS}, {"objective": "kcl", "exact_step": False}],
    ids=["exact", "in chunks", "at once"],
)
def test_training_is_that_of_the_cpu(tmp_path, device, on_device, options, precision):
    if precision == "fp16" and device.type == "cpu":
        pytest.skip("fp16 needs a GPU: its loss is scaled there only")
    chosen = {} if precision == "fp32" else {precision: True}
    # With a norm, gradients are unscaled before they are recorded; this one clips nothing.
    options = options | {"max_grad_norm": 1e6, "learning_rate": 0.01}
    ours, found = train(make_arguments(tmp_path / "device", **options, **on_device, **chosen), ROWS)
    theirs, expected = train(make_arguments(tmp_path / "cpu", **options), ROWS)
    assert next(ours.model.parameters()).device.type == device.type
    assert {parameter.dtype for parameter in ours.model.parameters()} == {torch.float32}
    tolerance = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 2e-2}[precision]
    assert losses(ours) == pytest.approx(losses(theirs), rel=tolerance)
    assert len(found.steps) == len(expected.steps) == 2
    gradients = {name: gradient.cpu() for name, gradient in found.steps[0].items()}
    assert_same_gradients(gradients, expected.steps[0], tolerance)
    assert (ours.accelerator.scaler is not None) == (precision == "fp16")


def test_a_step_in_chunks_replays_dropout(device):
    """The second pass of each chunk drops what the first did; the gradient is that of one pass."""
    model = tiny_model().to(device).train()
    model.config.text_config.dropout = model.text_model.dropout = 0.5
    for layer in model.text_model.layers:
        layer.dropout = layer.activation_dropout = 0.5
    ids = torch.randint(4, 600, (6, 5), generator=torch.Generator().manual_seed(0)).to(device)

    def encode(rows: slice) -> torch.Tensor:
        return model(input_ids=ids[rows], attention_mask=torch.ones_like(ids[rows])).text_embeds

    def gradients(encodes_twice: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        embeddings = CachedEmbeddings(encode, 6, device, chunk_size=2, encodes_twice=encodes_twice)
        weights = torch.linspace(-1, 1, embeddings.leaf.numel(), device=device).view_as(embeddings.leaf)
        (embeddings.leaf * weights).sum().backward()
        embeddings.backward()
        found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        return found, torch.rand(3, device=device)

    (twice, next_numbers), (once, expected_numbers) = gradients(True), gradients(False)
    assert_same_gradients(twice, once, tolerance=1e-4)
    torch.testing.assert_close(next_numbers, expected_numbers, rtol=0, atol=0)
    torch.manual_seed(2)
    assert not torch.allclose(encode(slice(0, 6)), encode(slice(0, 6)), atol=1e-2), "nothing is dropped"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_trainer_trains_in_chunks_with_dropout(tmp_path, on_device, precision):
    """The exact step, too, encodes chunks twice; it raises an error if the two encodings differ."""
    model = tiny_model(hidden_dropout=0.3, drop_path_rate=0.3)
    for layer in model.text_model.layers:
        layer.dropout = 0.3
    chosen = {} if precision == "fp32" else {precision: True}
    trainer, _ = train(make_arguments(tmp_path, objective="akcl", **CHUNKS, **on_device, **chosen), ROWS, model)
    assert torch.isfinite(torch.tensor(losses(trainer))).all()


def test_a_run_goes_on_from_its_checkpoint(tmp_path, device, on_device):
    options = {"objective": "akcl", "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 2, **CHUNKS}
    options |= {"optim": "adamw_torch", "learning_rate": 1e-3, "bf16": True, **on_device}
    whole, _ = train(make_arguments(tmp_path, **options), ROWS)
    model = tiny_model(seed=1)
    resumed = make_trainer(make_arguments(tmp_path, **options), ROWS, model=model)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert len(losses(whole)) == len(losses(resumed)) == 6
    assert losses(resumed) == pytest.approx(losses(whole), rel=0 if device.type == "cpu" else 1e-3)
    tolerance = 0.0 if device.type == "cpu" else 1e-3
    assert_same_weights(resumed.model, whole.model, tolerance)


def test_a_compiled_model_trains_as_before(tmp_path, device, on_device):
    rows = ROWS[:4]
    torch.compiler.reset()
    plain, _ = train(make_arguments(tmp_path / "plain", objective="kcl", **on_device), rows)
    backend = "inductor" if device.type == "cuda" else "aot_eager"  # the compiler of C++ takes minutes
    compiled = {"torch_compile": True, "torch_compile_backend": backend}
    trainer, _ = train(make_arguments(tmp_path / "compiled", objective="kcl", **on_device, **compiled), rows)
    torch.compiler.reset()
    assert losses(trainer) == pytest.approx(losses(plain), rel=1e-3)
