"""Steps in chunks against one autograd graph over the same chunks, and against the step without chunks."""

import weakref
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modeling_atri import AtriModel
from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.losses import akcl_loss, cacl_loss, kcl_loss, mlclap_loss, ranking_divergence
from modeling_atri.trainer.step.cached import CachedEmbeddings
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import assert_same_gradients, losses, make_arguments, make_rows, make_trainer, train


pytestmark = pytest.mark.heavy


def dropout_model() -> AtriModel:
    """The tiny model, with everything that draws in training: dropout, drop path, patch dropout, LayerDrop."""
    model = tiny_model(hidden_dropout=0.2, attention_dropout=0.1, drop_path_rate=0.3, patch_dropout=0.25)
    text_config = model.text_model.config
    text_config.attention_dropout = 0.1
    model.text_model.layerdrop = 0.3
    for layer in model.text_model.layers:
        layer.dropout, layer.activation_dropout, layer.self_attn.dropout = 0.2, 0.1, 0.1
    model.text_model.dropout = 0.2
    return model


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def run_step(trainer: AtriTrainer, batch: dict, seed: int = 1) -> tuple[torch.Tensor, dict, torch.Tensor]:
    """Loss and gradients of one step that begins with this seed, and the next number that is drawn after it."""
    trainer.current_gradient_accumulation_steps = 1  # said by `Trainer.train`
    trainer.model.zero_grad()
    torch.manual_seed(seed)
    loss = trainer.training_step(trainer.model, batch)
    return loss, gradients(trainer.model), torch.rand(1)


# One graph over the same chunks. Five clips in chunks of at most two; their captions in chunks of at most three.

CLIPS = [[0, 1], [2, 3], [4]]
ONE_LANGUAGE = [[0, 1, 2], [3, 4]]
TWO_LANGUAGES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
THREE_LANGUAGES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14]]


def encode_clips(model: AtriModel, batch: dict) -> torch.Tensor:
    parts = []
    for rows in CLIPS:
        mask = batch["input_features_mask"][rows]
        longest = max(int(row.sum()) for row in mask)
        features = batch["input_features"][rows][:, :longest]
        parts.append(model(input_features=features, input_features_mask=mask[:, :longest]).audio_embeds)
    return torch.cat(parts)


def encode_captions(model: AtriModel, batch: dict, chunks: Sequence[list[int]], language: int | None) -> torch.Tensor:
    ids, mask = (
        batch[name].flatten(0, 1) if language is None else batch[name][language]
        for name in ("input_ids", "attention_mask")
    )
    parts = []
    for rows in chunks:
        longest = max(int(row.sum()) for row in mask[rows])
        parts.append(model(input_ids=ids[rows][:, :longest], attention_mask=mask[rows][:, :longest]).text_embeds)
    return torch.cat(parts)


def kcl(model: AtriModel, batch: dict) -> torch.Tensor:
    audio = encode_clips(model, batch)
    text = torch.stack([encode_captions(model, batch, ONE_LANGUAGE, language) for language in range(3)])
    return kcl_loss(audio, text, model.logit_scale.exp(), batch["group_ids"])


def akcl(model: AtriModel, batch: dict) -> torch.Tensor:
    """French, the anchor, is the second language and is encoded first."""
    audio = encode_clips(model, batch)
    french, english, japanese = (encode_captions(model, batch, ONE_LANGUAGE, language) for language in (1, 0, 2))
    text = torch.stack([english, french, japanese])
    return akcl_loss(audio, text, model.logit_scale.exp(), batch["group_ids"], anchor=1, weight=0.3)


def kcl_rankings(model: AtriModel, batch: dict) -> torch.Tensor:
    """Chunks of five captions, no more than a language has, go through all three languages."""
    audio = encode_clips(model, batch)
    text = torch.stack([encode_captions(model, batch, [list(range(5))], language) for language in range(3)])
    scale = model.logit_scale.exp()
    return kcl_loss(audio, text, scale, batch["group_ids"]) + 0.7 * ranking_divergence(audio, text, scale)


def kcl_together(model: AtriModel, batch: dict) -> torch.Tensor:
    audio, text = encode_clips(model, batch), encode_captions(model, batch, THREE_LANGUAGES, None)
    return kcl_loss(audio, text.view(3, 5, -1), model.logit_scale.exp(), batch["group_ids"])


def cacl(model: AtriModel, batch: dict) -> torch.Tensor:
    audio, text = encode_clips(model, batch), encode_captions(model, batch, TWO_LANGUAGES, None)
    return cacl_loss(audio, text[:5], text[5:], model.logit_scale.exp(), batch["group_ids"])


def mlclap(model: AtriModel, batch: dict) -> torch.Tensor:
    audio, text = encode_clips(model, batch), encode_captions(model, batch, ONE_LANGUAGE, None)
    scale = model.logit_scale.exp()
    return mlclap_loss(audio, text, scale, batch["group_ids"], embed_regularization=True)


REFERENCES = {
    "kcl": (kcl, {"objective": "kcl"}),
    "kcl, checkpointed": (kcl, {"objective": "kcl", "gradient_checkpointing": True}),
    "akcl": (akcl, {"objective": "akcl", "anchor_language": "fra_Latn", "akcl_weight": 0.3}),
    "kcl, equal rankings": (kcl_rankings, {"objective": "kcl", "ranking_weight": 0.7, "text_chunk_size": None}),
    "kcl together": (kcl_together, {"objective": "kcl", "exact_step": False}),
    "cacl": (cacl, {"objective": "cacl"}),
    "mlclap": (mlclap, {"objective": "mlclap", "embed_regularization": True}),
}


@pytest.mark.parametrize("num_groups", [None, 3], ids=["", "groups"])
@pytest.mark.parametrize("reference, options", REFERENCES.values(), ids=REFERENCES)
def test_with_dropout_equals_one_graph_over_the_same_chunks(tmp_path, reference, options, num_groups):
    rows = make_rows(5, num_groups=num_groups)
    options = {"audio_chunk_size": 2, "text_chunk_size": 3} | options
    args = make_arguments(tmp_path, per_device_train_batch_size=5, **options)
    trainer = make_trainer(args, rows, model=dropout_model())
    (batch,) = trainer.get_train_dataloader()
    loss, ours, drawn = run_step(trainer, batch)

    model = dropout_model().train()
    torch.manual_seed(1)
    expected = reference(model, batch)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert_same_gradients(ours, gradients(model), tolerance=1e-6)
    # The generator stands where encoding every chunk once left it.
    assert torch.equal(drawn, torch.rand(1))
    again = run_step(trainer, batch)
    assert torch.equal(again[0], loss)
    assert all(torch.equal(again[1][name], gradient) for name, gradient in ours.items())
    assert not torch.equal(run_step(trainer, batch, seed=2)[0], loss), "nothing was dropped"


CASES = {
    "kcl": {"objective": "kcl"},
    "kcl, clips alone": {"objective": "kcl", "text_chunk_size": None},
    "akcl": {"objective": "akcl", "anchor_language": "jpn_Jpan"},
    "akcl, captions alone": {"objective": "akcl", "audio_chunk_size": None},
    "akcl draws languages": {"objective": "akcl", "languages_per_step": 2},
    "akcl, equal rankings": {"objective": "akcl", "ranking_weight": 0.7},
    "akcl together": {"objective": "akcl", "exact_step": False},
    "cacl": {"objective": "cacl"},
    "cacl, accumulation": {"objective": "cacl", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 3},
    "kcl, accumulation": {"objective": "kcl", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 3},
    "mlclap": {"objective": "mlclap", "embed_regularization": True},
    "frozen audio": {"objective": "cacl", "freeze_audio": True},
    "frozen text": {"objective": "akcl", "freeze_text": True},
    "frozen towers": {"objective": "cacl", "freeze_audio": True, "freeze_text": True},
    "text cache": {"objective": "kcl", "freeze_text": True, "text_cache_dir": "states"},
    "checkpointing": {"objective": "cacl", "gradient_checkpointing": True},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_training_equals_training_without_chunks(tmp_path, case):
    if "text_cache_dir" in case:
        case = case | {"text_cache_dir": str(tmp_path / case["text_cache_dir"])}
    rows = make_rows(8, num_groups=5)
    sizes = {"audio_chunk_size": 2, "text_chunk_size": 3}
    options = {"per_device_train_batch_size": 5} | case
    chunked, ours = train(make_arguments(tmp_path, **sizes | options), rows)
    whole, theirs = train(make_arguments(tmp_path, **options | dict.fromkeys(sizes)), rows)
    assert losses(chunked) == pytest.approx(losses(whole), rel=1e-5)
    assert len(ours.steps) == len(theirs.steps) == 2
    assert_same_gradients(ours.steps[0], theirs.steps[0], tolerance=3e-6)


@pytest.mark.parametrize("options", [{"objective": "akcl"}, {"objective": "cacl"}], ids=["akcl", "cacl"])
def test_chunks_of_the_whole_batch_are_the_step_without_chunks(tmp_path, options):
    """To the bit, also with dropout; and nothing is encoded twice."""
    found, calls = {}, {}
    for name, sizes in {"chunked": {"audio_chunk_size": 5, "text_chunk_size": 99}, "whole": {}}.items():
        args = make_arguments(tmp_path, per_device_train_batch_size=5, **options, **sizes)
        trainer = make_trainer(args, make_rows(5), model=dropout_model())
        (batch,) = trainer.get_train_dataloader()
        count = calls[name] = count_rows(trainer.model)
        found[name] = run_step(trainer, batch)
        assert count == {"audio": [5], "text": [5] * 3 if options["objective"] == "akcl" else [10]}
    assert torch.equal(found["chunked"][0], found["whole"][0])
    assert torch.equal(found["chunked"][2], found["whole"][2])
    assert_same_gradients(found["chunked"][1], found["whole"][1], tolerance=1e-7)


def count_rows(model: AtriModel) -> dict[str, list[int]]:
    """Rows that each tower is given, call by call, from now on."""
    rows: dict[str, list[int]] = {"audio": [], "text": []}
    for name, tower in (("audio", model.audio_model), ("text", model.text_model)):

        def record(module: nn.Module, args: tuple, kwargs: dict, name: str = name) -> None:
            first = args[0] if args else kwargs["input_ids"]
            rows[name].append(len(first))

        tower.register_forward_pre_hook(record, with_kwargs=True)
    return rows


@pytest.mark.parametrize(
    "options, audio, text",
    [
        ({}, [2, 2, 1, 2, 2], [4, 4, 2, 4, 4]),  # all chunks but the last twice
        ({"freeze_audio": True}, [2, 2, 1], [4, 4, 2, 4, 4]),
        ({"freeze_text": True}, [2, 2, 1, 2, 2], [4, 4, 2]),
        ({"text_chunk_size": None}, [2, 2, 1, 2, 2], [10]),
    ],
    ids=["", "frozen audio", "frozen text", "clips alone"],
)
def test_what_is_encoded_twice(tmp_path, options, audio, text):
    sizes = {"audio_chunk_size": 2, "text_chunk_size": 4}
    args = make_arguments(tmp_path, objective="cacl", per_device_train_batch_size=5, **sizes | options)
    trainer = make_trainer(args, make_rows(5))
    (batch,) = trainer.get_train_dataloader()
    rows = count_rows(trainer.model)
    run_step(trainer, batch)
    assert rows == {"audio": audio, "text": text}


@pytest.mark.parametrize("exact_step", [True, False])
def test_rankings_are_compared_in_the_memory_of_one_language(tmp_path, exact_step):
    options = {"objective": "kcl", "ranking_weight": 1.0, "exact_step": exact_step}
    trainer = make_trainer(make_arguments(tmp_path, per_device_train_batch_size=5, **options), make_rows(5))
    (batch,) = trainer.get_train_dataloader()
    rows = count_rows(trainer.model)
    run_step(trainer, batch)
    # Of three languages all but the last are encoded again, for their gradients.
    assert rows == {"audio": [5], "text": [5] * 5 if exact_step else [15]}


@pytest.mark.parametrize("objective", ["kcl", "cacl"])
def test_bfloat16_autocast_stays_near_float32(tmp_path, objective):
    rows, sizes = make_rows(5), {"audio_chunk_size": 2, "text_chunk_size": 3}
    options = {"objective": objective, "per_device_train_batch_size": 5}
    chunked, ours = train(make_arguments(tmp_path, bf16=True, **options, **sizes), rows)
    whole, theirs = train(make_arguments(tmp_path, bf16=True, **options), rows)
    single, _ = train(make_arguments(tmp_path, **options, **sizes), rows)
    assert losses(chunked) == pytest.approx(losses(whole), rel=0.01)
    assert losses(chunked) != losses(single)
    first, second = (torch.cat([g.flatten() for g in found.steps[0].values()]) for found in (ours, theirs))
    assert torch.cosine_similarity(first, second, dim=0) > 0.999


@pytest.mark.parametrize("objective", ["kcl", "cacl"])
def test_a_gradient_scaler_scales_every_gradient_once(tmp_path, objective):
    args = make_arguments(
        tmp_path, objective=objective, per_device_train_batch_size=5, audio_chunk_size=2, text_chunk_size=3
    )
    trainer = make_trainer(args, make_rows(5), model=dropout_model())
    (batch,) = trainer.get_train_dataloader()
    loss, plain, _ = run_step(trainer, batch)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled_loss, scaled, _ = run_step(trainer, batch)
    assert torch.equal(loss, scaled_loss)
    assert_same_gradients({name: gradient / 1024 for name, gradient in scaled.items()}, plain, tolerance=1e-7)


class ScheduleFree(torch.optim.SGD):
    """Wants to be told before every step that it is in training, as schedule-free optimizers do."""

    def train(self) -> None:
        self.in_training = True

    def step(self, closure=None):
        assert self.in_training
        self.in_training = False
        return super().step(closure)


@pytest.mark.parametrize("options", [{"objective": "akcl"}, {"objective": "cacl", "audio_chunk_size": 2}])
def test_the_optimizer_is_told_that_it_trains(tmp_path, options):
    args = make_arguments(tmp_path, **options)
    trainer = make_trainer(args, make_rows(8), optimizer_cls_and_kwargs=(ScheduleFree, {"lr": 0.1}))
    trainer.train()
    assert trainer.state.global_step == 2


# A loss of one's own


class OwnLoss(AtriTrainer):
    """Every embedding of the batch meets every other; the inputs say how strongly."""

    def compute_loss_from_embeddings(self, audio_embeds, text_embeds, inputs):
        every = torch.cat([audio_embeds, text_embeds.flatten(0, 1)])
        return ((every @ every.T).exp() * (1 + inputs["item_ids"].sum())).mean() * self.atri_model.logit_scale


class OwnStep(AtriTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(input_features=inputs["input_features"]).audio_embeds.sum()


def test_a_loss_of_ones_own_trains_in_chunks(tmp_path):
    found = {}
    for name, sizes in {"chunked": {"audio_chunk_size": 2, "text_chunk_size": 4}, "whole": {}}.items():
        # KCL's batches; but its step language by language would not know this loss.
        args = make_arguments(tmp_path, objective="kcl", per_device_train_batch_size=5, **sizes)
        trainer = OwnLoss(tiny_model(), args, tiny_processor(), make_rows(5))
        (batch,) = trainer.get_train_dataloader()
        found[name] = run_step(trainer, batch)
    outputs = trainer.model.train()(
        input_features=batch["input_features"],
        input_features_mask=batch["input_features_mask"],
        input_ids=batch["input_ids"].flatten(0, 1),
        attention_mask=batch["attention_mask"].flatten(0, 1),
    )
    every = torch.cat([outputs.audio_embeds, outputs.text_embeds])
    trainer.model.zero_grad()
    expected = (every @ every.T).exp().mean() * (1 + 10) * trainer.model.logit_scale
    expected.backward()
    for loss, ours, _ in found.values():
        torch.testing.assert_close(loss, expected.detach())
        assert_same_gradients(ours, gradients(trainer.model), tolerance=1e-6)


def test_an_own_compute_loss_is_used_or_refused(tmp_path):
    trainer = OwnStep(tiny_model(), make_arguments(tmp_path, objective="kcl"), tiny_processor(), make_rows(4))
    (batch,) = trainer.get_train_dataloader()
    loss, found, _ = run_step(trainer, batch)
    assert loss == trainer.compute_loss(trainer.model, batch)
    assert not any(name.startswith("text") for name in found)
    with pytest.raises(ValueError, match="OwnStep overrides `compute_loss`.*`compute_loss_from_embeddings`"):
        OwnStep(tiny_model(), make_arguments(tmp_path, audio_chunk_size=2), tiny_processor(), make_rows(4))


# The embeddings alone


def test_other_embeddings_the_second_time_are_refused():
    """As of an encoder whose random numbers are not torch's, and so are not replayed."""
    weight = torch.ones(3, requires_grad=True)
    shifts = iter([0.0, 0.0, 0.05])
    embeddings = CachedEmbeddings(
        lambda rows: weight.expand(rows.stop - rows.start, 3) + next(shifts), 4, weight.device, 2
    )
    embeddings.leaf.sum().backward()
    with pytest.raises(ValueError, match="differs from the first by up to 0.05, so its gradient would be"):
        embeddings.backward()


def test_a_chunk_may_miss_all_that_is_trained():
    """As LayerDrop makes it miss the only layers that are trained."""
    weight = torch.ones(2, requires_grad=True)

    def encode(rows: slice) -> torch.Tensor:
        fixed = torch.ones(rows.stop - rows.start, 2)
        return fixed * weight if rows.start in used else fixed

    for used in ([0], [2], [4], [0, 4], []):
        weight.grad = None
        embeddings = CachedEmbeddings(encode, 6, torch.device("cpu"), 2)
        (3 * embeddings.leaf).sum().backward()
        embeddings.backward()
        expected = torch.full((2,), 6.0 * len(used))
        assert weight.grad is None if not used else torch.equal(weight.grad, expected)


@pytest.mark.parametrize("chunk_size, sizes", [(None, [7]), (7, [7]), (6, [4, 3]), (3, [3, 3, 1]), (1, [1] * 7)])
def test_cached_embeddings(chunk_size, sizes):
    """Chunks are as even as can be; values, gradient and random state are those of one graph over them."""
    weight = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    inputs = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    encoded, graphs = [], []

    def encode(rows: slice) -> torch.Tensor:
        assert not any(graph() is not None for graph in graphs), "two graphs live at once"
        encoded.append(rows.stop - rows.start)
        output = F.dropout((inputs[rows] @ weight).tanh(), 0.3)
        if output.requires_grad:
            graphs.append(weakref.ref(output))
        return output

    torch.manual_seed(3)
    embeddings = CachedEmbeddings(encode, 7, inputs.device, chunk_size)
    assert encoded == sizes
    embeddings.leaf.square().sum().mul(2).backward()
    assert weight.grad is None
    embeddings.backward()
    assert encoded == [*sizes, *sizes[:-1]]
    assert len(graphs) == len(sizes)
    found, drawn = weight.grad, torch.rand(1)

    weight.grad = None
    torch.manual_seed(3)
    parts = [F.dropout((chunk @ weight).tanh(), 0.3) for chunk in inputs.split(sizes)]
    torch.cat(parts).square().sum().mul(2).backward()
    assert torch.equal(embeddings.leaf.detach(), torch.cat(parts).detach())
    torch.testing.assert_close(found, weight.grad, rtol=1e-12, atol=1e-12)
    assert torch.equal(drawn, torch.rand(1))
