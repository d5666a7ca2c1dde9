"""The text tower without padding against the one of transformers with it."""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import M2M100Config
from transformers.integrations.neftune import neftune_post_forward_hook
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from modeling_atri import text_packing_atri
from modeling_atri.text_packing_atri import PackedM2M100Encoder
from tests.helpers.tiny import tiny_model


pytestmark = pytest.mark.heavy


PAD = 1


def towers(dtype: torch.dtype = torch.float32, **options: Any) -> tuple[PackedM2M100Encoder, M2M100Encoder]:
    """Ours and transformers', with the same weights, without dropout."""
    sizes = {"vocab_size": 60, "d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layerdrop": 0.0}
    torch.manual_seed(0)
    config = M2M100Config(**sizes, **{"max_position_embeddings": 40, "init_std": 0.2, **rates, **options})
    ours = PackedM2M100Encoder._from_config(config)
    theirs = M2M100Encoder._from_config(copy.deepcopy(config))
    theirs.load_state_dict(ours.state_dict())
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def captions(*lengths: int, side: str = "right") -> dict[str, Tensor]:
    torch.manual_seed(1)
    longest = max(lengths)
    columns, counts = torch.arange(longest), torch.tensor(lengths)[:, None]
    mask = (columns < counts if side == "right" else columns >= longest - counts).long()
    ids = torch.randint(4, 60, mask.shape)
    return {"input_ids": ids.masked_fill(mask == 0, PAD), "attention_mask": mask}


def with_holes() -> dict[str, Tensor]:
    inputs = captions(9, 4, 7)
    inputs["attention_mask"][0, 3:5] = 0  # not seen, though there is a word
    inputs["input_ids"][2, 2] = PAD  # a word like padding, which is seen
    return inputs


def counted(tower: nn.Module) -> list[tuple[int, ...]]:
    """Gathers the shape of what comes into the first layer."""
    shapes: list[tuple[int, ...]] = []
    tower.layers[0].register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape[:2])))
    return shapes


def assert_states_equal(ours: Tensor, theirs: Tensor, mask: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], atol=tolerance, rtol=0)
    assert not ours[~mask.bool()].any()


@pytest.mark.parametrize("at_once", [512, 16, 1])
@pytest.mark.parametrize(
    "inputs",
    [
        captions(9, 4, 7, 4, 1),
        captions(9, 4, 7, 4, 1, side="left"),
        captions(2, 0, 5),
        captions(70, 3, 3, 50),  # the table of positions has 40
        with_holes(),
    ],
    ids=["right", "left", "empty", "long", "holes"],
)
def test_states_of_tokens_are_the_same(inputs, at_once, monkeypatch):
    monkeypatch.setattr(text_packing_atri, "_TOKENS_AT_ONCE", at_once)
    ours, theirs = towers()
    shapes = counted(ours)
    with torch.inference_mode():
        packed, padded = ours(**inputs), theirs(**inputs)
    mask = inputs["attention_mask"]
    assert_states_equal(packed.last_hidden_state, padded.last_hidden_state, mask)
    assert {rows for rows, _ in shapes} == {1}
    assert sum(tokens for _, tokens in shapes) == mask.sum()
    assert max(tokens for _, tokens in shapes) <= at_once + mask.sum(dim=1).max()


@pytest.mark.parametrize(
    "lengths, groups",
    [
        ([1, 2, 3], [[1, 2, 3]]),
        ([0, 0, 4], [[4]]),
        ([3, 3, 4, 4], [[3, 3, 4], [4]]),
        ([5, 5, 5, 5], [[5, 5], [5, 5]]),
        ([1, 35], [[1, 35]]),
        ([9, 9, 9, 40], [[9, 9], [9], [40]]),
    ],
)
def test_groups_of_captions(lengths, groups, monkeypatch):
    monkeypatch.setattr(text_packing_atri, "_TOKENS_AT_ONCE", 10)
    assert text_packing_atri._groups_of_captions(lengths) == groups


# Where it does not apply


def with_neftune(tower: nn.Module) -> nn.Module:
    """In training, with noise on the embeddings that is as strong as the batch is long."""
    tower.embed_tokens.neftune_noise_alpha = 5.0
    tower.embed_tokens.register_forward_hook(neftune_post_forward_hook)
    for module in tower.modules():
        module.dropout = 0.0
    torch.manual_seed(0)
    return tower.train()


@pytest.mark.parametrize(
    "call",
    [
        lambda tower, inputs: tower(inputs["input_ids"]),
        lambda tower, inputs: tower(**(inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])})),
        lambda tower, inputs: tower(**(inputs | {"attention_mask": torch.zeros_like(inputs["attention_mask"])})),
        lambda tower, inputs: tower(
            inputs_embeds=tower.embed_tokens(inputs["input_ids"]), attention_mask=inputs["attention_mask"]
        ),
        lambda tower, inputs: tower(**inputs, output_hidden_states=True),
        lambda tower, inputs: with_neftune(tower)(**inputs),
        lambda tower, inputs: torch.compile(tower, fullgraph=True, backend="eager")(**inputs),
        lambda tower, inputs: torch.export.export(tower, (), kwargs=inputs).module()(**inputs),
    ],
    ids=["no mask", "no padding", "nothing", "embeddings", "hidden states", "NEFTune", "compiled", "exported"],
)
def test_padded_as_in_transformers(call):
    torch.compiler.reset()
    ours, theirs = towers()
    with torch.no_grad():
        actual, expected = call(ours, captions(9, 4, 7)), call(theirs, captions(9, 4, 7))
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_traced_tower_serves_other_lengths():
    ours, theirs = towers()
    example, inputs = (tuple(captions(*lengths).values()) for lengths in ((9, 4, 7), (9, 8, 2)))
    ours.config.return_dict = False
    traced = torch.jit.trace(ours.requires_grad_(False), example)
    torch.testing.assert_close(traced(*inputs)[0], theirs(*inputs).last_hidden_state, atol=1e-6, rtol=0)


@pytest.mark.parametrize("attentions_by", ["config", "argument"])
def test_attentions_are_those_of_the_padded_batch(attentions_by):
    ours, theirs = towers()
    for tower in (ours, theirs):
        tower.set_attn_implementation("eager")
        tower.config.output_attentions = attentions_by == "config"
    argument = {} if attentions_by == "config" else {"output_attentions": True}
    with torch.no_grad():
        actual, expected = (tower(**captions(9, 4, 7), **argument) for tower in (ours, theirs))
    assert [tuple(weights.shape) for weights in actual.attentions] == [(3, 2, 9, 9)] * 3
    torch.testing.assert_close(actual.attentions, expected.attentions, atol=0, rtol=0)


@pytest.mark.parametrize("lengths", [(9, 4), (9, 9)], ids=["packed", "padded"])
def test_tuples_and_dicts(lengths):
    ours, _ = towers()
    inputs = captions(*lengths)
    expected = ours(**inputs).last_hidden_state
    for output in (ours(**inputs, return_dict=False), ours(*inputs.values(), return_dict=False)):
        assert isinstance(output, tuple)
        assert torch.equal(output[0], expected)
    ours.config.return_dict = False
    assert isinstance(ours(**inputs), tuple)
    assert torch.equal(ours(**inputs, return_dict=True).last_hidden_state, expected)


# Training


def gradients(tower: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    tower.zero_grad()
    states = tower(**inputs).last_hidden_state * inputs["attention_mask"][..., None]
    (states.sum(dim=1) * torch.linspace(-1, 1, 16, dtype=states.dtype)).square().sum().backward()
    return {name: parameter.grad for name, parameter in tower.named_parameters()}


@pytest.mark.parametrize(
    "checkpointing", [None, {"use_reentrant": False}, {"use_reentrant": True}], ids=["kept", "replayed", "reentrant"]
)
def test_gradients_are_the_same(checkpointing, monkeypatch):
    """In float64: in float32 rounding moves a ReLU's input across zero now and then."""
    monkeypatch.setattr(text_packing_atri, "_TOKENS_AT_ONCE", 16)
    ours, theirs = towers(torch.float64)
    if checkpointing is not None:
        ours.activation_checkpointing_enable(checkpointing)
    shapes = counted(ours)
    inputs = captions(9, 4, 7, 4, 0, 1)
    actual, expected = gradients(ours.train(), inputs), gradients(theirs.train(), inputs)
    assert {rows for rows, _ in shapes} == {1}
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp(min=1e-3 * largest)  # a key's bias has none: softmax does not see it
        torch.testing.assert_close(actual[name] / scale, gradient / scale, atol=1e-9, rtol=0, msg=name)


def test_dropout_is_replayed_whatever_the_gradient_mode():
    ours, _ = towers(dropout=0.3, attention_dropout=0.3, activation_dropout=0.3, encoder_layerdrop=0.3)
    inputs, states = captions(9, 4, 7, 4), []
    for grad in (True, True, False):
        torch.manual_seed(0)
        with torch.set_grad_enabled(grad):
            states.append(ours.train()(**inputs).last_hidden_state.detach())
            after = torch.rand(3)
        states.append(after)
    for state, after in zip(states[2::2], states[3::2], strict=True):
        assert torch.equal(state, states[0])
        assert torch.equal(after, states[1])
    assert not torch.allclose(ours(**inputs).last_hidden_state, states[0], atol=1e-3)


def test_dropped_layers():
    ours, theirs = towers(encoder_layerdrop=1.0)
    inputs = captions(9, 4, 7)
    actual, expected = (tower.train()(**inputs).last_hidden_state for tower in (ours, theirs))
    assert_states_equal(actual, expected, inputs["attention_mask"])
    assert not torch.allclose(actual, ours.eval()(**inputs).last_hidden_state, atol=1e-3)


# Other ways to run it


@pytest.mark.parametrize("dtype, autocast", [(torch.bfloat16, False), (torch.float16, False), (torch.float32, True)])
def test_half_precision(dtype, autocast):
    ours, theirs = towers(dtype)
    inputs = captions(9, 4, 7, 4)
    with torch.no_grad(), torch.autocast("cpu", enabled=autocast):
        actual, expected = ours(**inputs).last_hidden_state, theirs(**inputs).last_hidden_state
    assert actual.dtype == expected.dtype
    assert_states_equal(actual, expected, inputs["attention_mask"], tolerance=0.1)


def test_threads_do_not_meet():
    ours, _ = towers()
    batches = [captions(*range(1, longest)) for longest in range(3, 30)]
    with torch.no_grad():
        expected = [ours(**batch).last_hidden_state for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda batch: ours(**batch).last_hidden_state.detach(), batches))
    for ours_now, alone in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours_now, alone, atol=1e-6, rtol=0)


def test_adapters():
    peft = pytest.importorskip("peft", reason="needs the extra `peft`")
    ours, theirs = towers()
    config = peft.LoraConfig(target_modules=["q_proj", "fc1"], init_lora_weights=False)
    inputs, states = captions(9, 4, 7), []
    for tower in (ours, theirs):
        torch.manual_seed(2)
        states.append(peft.inject_adapter_in_model(config, tower)(**inputs).last_hidden_state)
    assert_states_equal(*states, inputs["attention_mask"])


def test_it_is_the_text_tower_of_a_model():
    model = tiny_model()
    shapes = counted(model.text_model)
    inputs = captions(9, 4, 7)
    alone = [
        model.get_text_features(ids[None, : mask.sum()]).pooler_output
        for ids, mask in zip(*inputs.values(), strict=True)
    ]
    shapes.clear()
    torch.testing.assert_close(model.get_text_features(**inputs).pooler_output, torch.cat(alone), atol=1e-6, rtol=0)
    assert shapes == [(1, 20)]
