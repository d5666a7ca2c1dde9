import copy
import inspect
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForTextEncoding,
    AutoProcessor,
    BartConfig,
    BertConfig,
    GPT2Config,
    ModernBertConfig,
    PreTrainedConfig,
    T5Config,
    Trainer,
    TrainingArguments,
    ViTConfig,
    XLMRobertaConfig,
    default_data_collator,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from modeling_atri import (
    AtriAudioConfig,
    AtriAudioModel,
    AtriConfig,
    AtriFeatureExtractor,
    AtriModel,
    AtriOutput,
    AtriProcessor,
)
from modeling_atri.base_model_atri import masked_mean
from modeling_atri.ced_layers_atri import AtriAudioLayer, AtriMelNorm
from modeling_atri.loss_atri import info_nce_loss
from tests.helpers.tiny import CAPTIONS, tiny_config, tiny_model, tiny_processor


SHORT_CHUNKS = {
    "max_frames": 68
}  # 4 columns of 16 frames and 4 frames that no patch covers, as CED's 1012 = 63 * 16 + 4


def mel(num_frames: int, level: float = -20.0) -> Tensor:
    return level + 15 * torch.randn(num_frames, 64)


def batch_of(clips: list[Tensor], extra: int = 0) -> dict[str, Tensor]:
    """Padded with values that must not matter."""
    longest = max(map(len, clips)) + extra
    features, mask = torch.full((len(clips), longest, 64), 77.0), torch.zeros(len(clips), longest, dtype=torch.long)
    for row, clip in enumerate(clips):
        features[row, : len(clip)] = clip
        mask[row, : len(clip)] = 1
    return {"input_features": features, "input_features_mask": mask}


def plain_ced(model: AtriAudioModel, clip: Tensor) -> Tensor:
    """CED's definition for one clip, (frames, mel bins) to (hidden_size,), chunk by chunk and head by head."""
    weights, config = model.state_dict(), model.config

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        variance = x.var(-1, keepdim=True, unbiased=False)
        scaled = (x - x.mean(-1, keepdim=True)) / (variance + 1e-6).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    mean, variance = weights["mel_norm.running_mean"], weights["mel_norm.running_var"]
    clip = (clip - mean) / (variance + 1e-5).sqrt() * weights["mel_norm.weight"] + weights["mel_norm.bias"]
    pooled = []
    for start in range(0, len(clip), config.max_frames):
        chunk = clip[start : start + config.max_frames]
        if len(clip) > config.max_frames:
            chunk = F.pad(chunk, (0, 0, 0, config.max_frames - len(chunk)))
        kernel, bias = weights["embeddings.patch_projection.weight"], weights["embeddings.patch_projection.bias"]
        tokens = []
        for row in range(4):
            for column in range(len(chunk) // 16):
                patch = chunk[16 * column : 16 * column + 16, 16 * row : 16 * row + 16].T
                position = weights["embeddings.frequency_positions"][0, :, row, 0]
                position = position + weights["embeddings.time_positions"][0, :, 0, column]
                tokens.append((kernel[:, 0] * patch).sum((1, 2)) + bias + position)
        x = torch.stack(tokens)
        for i in range(config.num_hidden_layers):
            layer = f"layers.{i}"
            y = norm(f"{layer}.attention_norm", x)
            query, key, value = (linear(f"{layer}.attention.{name}_proj", y) for name in "qkv")
            heads = []
            for part in torch.arange(config.hidden_size).chunk(config.num_attention_heads):
                scores = query[:, part] @ key[:, part].T / math.sqrt(len(part))
                heads.append(scores.softmax(-1) @ value[:, part])
            x = x + linear(f"{layer}.attention.out_proj", torch.cat(heads, -1))
            x = x + linear(f"{layer}.mlp.fc2", F.gelu(linear(f"{layer}.mlp.fc1", norm(f"{layer}.mlp_norm", x))))
        pooled.append(norm("layer_norm", x).mean(0))
    return torch.stack(pooled).mean(0)


# One clip, one embedding


@pytest.fixture(scope="module")
def short_chunk_model() -> AtriModel:
    return tiny_model(**SHORT_CHUNKS)


@pytest.mark.parametrize("num_frames", [16, 17, 31, 32, 67, 68, 69, 70, 100, 136, 137, 203, 204, 205])
def test_equals_the_plain_definition(short_chunk_model, num_frames):
    clip = mel(num_frames)
    pooled = short_chunk_model.audio_model(clip[None]).pooler_output[0]
    torch.testing.assert_close(pooled, plain_ced(short_chunk_model.audio_model, clip), atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_frames", [101, 1007, 1012, 1013, 2024])
def test_equals_the_plain_definition_at_the_real_chunk_length(num_frames):
    model, clip = tiny_model().audio_model, mel(num_frames)
    torch.testing.assert_close(model(clip[None]).pooler_output[0], plain_ced(model, clip), atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    clips=st.lists(st.tuples(st.integers(16, 210), st.sampled_from([-60.0, -20.0, 30.0])), min_size=1, max_size=5),
    extra=st.sampled_from([0, 1, 40, 150]),
    order=st.randoms(use_true_random=False),
)
def test_one_clip_one_embedding(short_chunk_model, clips, extra, order):
    torch.manual_seed(0)
    waves = [mel(num_frames, level) for num_frames, level in clips]
    with torch.no_grad():
        alone = torch.cat([short_chunk_model.get_audio_features(clip[None]).pooler_output for clip in waves])
        shuffled = order.sample(range(len(waves)), len(waves))
        inputs = batch_of([waves[index] for index in shuffled], extra)
        together = short_chunk_model.get_audio_features(**inputs).pooler_output
    torch.testing.assert_close(together, alone[shuffled], atol=1e-5, rtol=0)


def test_one_waveform_one_embedding():
    """From the waveform on, at the real chunk length, beside long and loud neighbours, also of NumPy and any order."""
    model, processor = tiny_model(), tiny_processor()
    lengths_and_gains = [(2400, 0.1), (161_920, 1e-4), (162_079, 10.0), (5000, 5.0), (330_000, 0.1), (161_919, 0.5)]
    waves = [(gain * np.random.randn(length)).astype(np.float32) for length, gain in lengths_and_gains]
    with torch.no_grad():
        alone = torch.cat(
            [model.get_audio_features(**processor(audio=wave, sampling_rate=16000)).pooler_output for wave in waves]
        )
        for order in ([0, 1, 2, 3, 4, 5], [4, 0], [3, 1], [5, 4, 3, 2, 1, 0]):
            inputs = processor(audio=[waves[index] for index in order], sampling_rate=16000)
            together = model.get_audio_features(**inputs).pooler_output
            torch.testing.assert_close(together, alone[order], atol=1e-5, rtol=0)
    assert torch.cdist(alone, alone).fill_diagonal_(1).min() > 1e-2  # or the comparison would say nothing


def test_one_caption_one_embedding():
    model, processor = tiny_model(), tiny_processor()
    captions, languages = [*CAPTIONS.values(), "a dog " * 50], [*CAPTIONS, "fr"]
    with torch.no_grad():
        for side in ("right", "left"):
            together = model.get_text_features(**processor(text=captions, language=languages, padding_side=side))
            for row, (caption, language) in enumerate(zip(captions, languages, strict=True)):
                alone = model.get_text_features(**processor(text=caption, language=language))
                difference = together.pooler_output[row] - alone.pooler_output[0]
                assert difference.abs().max() < 1e-5


def test_last_hidden_state_is_zero_where_there_is_no_patch(short_chunk_model):
    model = short_chunk_model.audio_model
    outputs = model(**batch_of([mel(40), mel(100), mel(204)]))
    states, pooled = outputs.last_hidden_state, outputs.pooler_output
    assert states.shape == (3, 3 * 4 * 4, 24)
    counts = states.ne(0).any(-1).sum(1)
    assert counts.tolist() == [4 * 2, 2 * 4 * 4, 3 * 4 * 4]
    torch.testing.assert_close(states.sum(1) / counts[:, None], pooled, atol=1e-5, rtol=0)


def test_masked_mean():
    states = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    assert masked_mean(states, mask).tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert masked_mean(states.bfloat16(), mask).dtype == torch.bfloat16
    third = masked_mean(torch.tensor([[[1.0], [0.0], [0.0]]], dtype=torch.float64), torch.ones(1, 3))
    assert third.item() == pytest.approx(1 / 3, abs=1e-15)  # float32 would be 1e-8 off


# Attention, checkpointing, training


@pytest.mark.parametrize("audio_only", [True, False])
def test_eager_and_sdpa_attention_agree(audio_only):
    model = tiny_model(**SHORT_CHUNKS)
    inputs = batch_of([mel(40), mel(100), mel(20)])
    if not audio_only:
        inputs |= tiny_processor()(text=["a dog", "rain", "a longer caption"], language=["en", "fr", "de"])
    assert model.audio_model.config._attn_implementation == "sdpa"
    sdpa = model(**inputs)
    model.set_attn_implementation("eager")
    eager = model(**inputs, output_attentions=True)
    assert model.audio_model.config._attn_implementation == "eager"
    torch.testing.assert_close(eager.audio_embeds, sdpa.audio_embeds, atol=1e-5, rtol=0)
    # Chunks, not clips: the second clip is two chunks.
    assert [tuple(item.shape) for item in eager.audio_model_output.attentions] == [(4, 3, 16, 16)] * 2
    if not audio_only:
        torch.testing.assert_close(eager.text_embeds, sdpa.text_embeds, atol=1e-5, rtol=0)
        assert len(eager.text_model_output.attentions) == 2


def test_hidden_states_are_returned_when_asked():
    model = tiny_model(**SHORT_CHUNKS)
    outputs = model.audio_model(mel(68)[None], output_hidden_states=True)
    assert [tuple(states.shape) for states in outputs.hidden_states] == [(1, 16, 24)] * 3
    torch.testing.assert_close(model.audio_model.layer_norm(outputs.hidden_states[-1]), outputs.last_hidden_state)


def paired_inputs() -> dict[str, Tensor]:
    tokens = tiny_processor()(text=["a dog barks", "un chien", "Regen"], language=["en", "fr", "de"])
    return {**batch_of([mel(40), mel(100), mel(140)]), **tokens}


def gradients(model: AtriModel, inputs: dict[str, Tensor]) -> dict[str, Tensor | None]:
    model.zero_grad()
    model(**inputs, return_loss=True).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_gradient_checkpointing_changes_nothing():
    model, inputs = tiny_model(**SHORT_CHUNKS).train(), paired_inputs()
    expected = {name: gradient.clone() for name, gradient in gradients(model, inputs).items()}
    model.activation_checkpointing_enable()
    assert model.audio_model.layers[0].gradient_checkpointing
    calls = []
    handle = model.audio_model.layers[0].mlp.register_forward_pre_hook(lambda *arguments: calls.append(1))
    for name, gradient in gradients(model, inputs).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-7, rtol=1e-6)
    handle.remove()
    assert len(calls) == 2  # once forward, once again backward


def test_all_parameters_are_trained():
    for name, gradient in gradients(tiny_model(**SHORT_CHUNKS).train(), paired_inputs()).items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        # Keys shift all scores of a query alike, so their bias has no effect.
        assert name.endswith("k_proj.bias") or gradient.abs().max() > 0, name


@pytest.mark.parametrize("rate, kept", [(0.0, [8, 16, 8]), (0.25, [6, 12, 6]), (0.5, [4, 8, 4]), (0.9, [1, 2, 1])])
def test_patch_dropout_keeps_a_share_of_every_clip(rate, kept):
    model = tiny_model(patch_dropout=rate, num_hidden_layers=0, **SHORT_CHUNKS).audio_model
    inputs = batch_of([mel(40), mel(68), mel(47)])
    whole = model(**inputs).last_hidden_state
    assert whole.ne(0).any(-1).sum(1).tolist() == [8, 16, 8]
    model.train()
    outputs = model(**inputs)
    assert outputs.last_hidden_state.ne(0).any(-1).sum(1).tolist() == kept
    assert outputs.last_hidden_state.shape[1] == max(kept)
    for states, all_states, count in zip(outputs.last_hidden_state, whole, kept, strict=True):
        states = states[states.ne(0).any(-1)]
        sources = torch.cdist(states, all_states).argmin(1)  # without layers a patch is what it was
        assert len(set(sources.tolist())) == count
        torch.testing.assert_close(states, all_states[sources], atol=1e-6, rtol=0)
    if rate:
        assert not torch.equal(model(**inputs).pooler_output, outputs.pooler_output)  # drawn anew
    torch.testing.assert_close(model.eval()(**inputs).last_hidden_state, whole)


def test_patch_dropout_of_long_clips():
    model = tiny_model(patch_dropout=0.5, **SHORT_CHUNKS).train().audio_model
    outputs = model(**batch_of([mel(40), mel(150)]))
    assert outputs.last_hidden_state.ne(0).any(-1).sum(1).tolist() == [4, 3 * 8]
    assert torch.isfinite(outputs.pooler_output).all()


def test_drop_path_skips_whole_clips():
    torch.manual_seed(0)
    layer = AtriAudioLayer(tiny_config().audio_config, drop_path_rate=0.25)
    residual = torch.rand(400, 3, 24) + 1
    dropped = layer.train()._drop_path(residual)
    ratio = dropped / residual
    kept = ratio[:, 0, 0] > 0
    torch.testing.assert_close(ratio, torch.where(kept, 1 / 0.75, 0.0)[:, None, None].expand_as(ratio))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.07)
    assert layer.eval()._drop_path(residual) is residual


def test_drop_path_grows_with_depth_and_is_off_in_eval():
    model = tiny_model(drop_path_rate=0.6, num_hidden_layers=4, **SHORT_CHUNKS).audio_model
    assert [layer.drop_path_rate for layer in model.layers] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    inputs = batch_of([mel(40), mel(68)])
    assert torch.equal(model(**inputs).pooler_output, model(**inputs).pooler_output)
    model.train()
    assert len({model(**inputs).pooler_output[0, 0].item() for _ in range(20)}) > 1


# Mel statistics


def test_mel_norm_is_batch_norm_with_fixed_statistics():
    norm, batch_norm = AtriMelNorm(64), nn.BatchNorm1d(64)
    for parameter in (*batch_norm.parameters(), batch_norm.running_mean):
        nn.init.normal_(parameter)
    nn.init.uniform_(batch_norm.running_var, 0.5, 200.0)
    norm.load_state_dict({k: v for k, v in batch_norm.state_dict().items() if k != "num_batches_tracked"})
    batch_norm.eval()
    features = mel(500)[None]
    expected = batch_norm(features.transpose(1, 2)).transpose(1, 2)
    for module in (norm.train(), norm.eval()):
        torch.testing.assert_close(module(features), expected, atol=1e-5, rtol=1e-6)


def test_mel_statistics_never_change_in_training():
    model = tiny_model(**SHORT_CHUNKS).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert {"audio_model.mel_norm.running_mean", "audio_model.mel_norm.running_var"} <= before.keys()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients(model, paired_inputs())
    optimizer.step()
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_mel_statistics_are_set_once():
    norm = AtriModel(tiny_config()).audio_model.mel_norm
    assert not norm.is_set
    mean, variance = torch.linspace(-40, 0, 64), torch.linspace(1, 300, 64)
    norm.set_statistics(mean, variance)
    assert norm.is_set
    features = mean + variance.sqrt() * torch.randn(5000, 64)
    normalised = norm(features)
    assert normalised.mean(0).abs().max() < 0.1
    assert (normalised.std(0) - 1).abs().max() < 0.1


def test_training_with_initial_mel_statistics_warns_once(caplog):
    for training, is_set, count in ((True, False, 1), (False, False, 0), (True, True, 0)):
        caplog.clear()
        model = tiny_model(**SHORT_CHUNKS) if is_set else AtriModel(tiny_config(**SHORT_CHUNKS))
        model.train(training)
        for _ in range(2):
            gradients(model, paired_inputs())
        model(**tiny_processor()(text="a dog"))
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == count
        assert all("mel statistics of this audio tower were never set" in message for message in messages)
        assert all("mel_norm.set_statistics(mean, variance)" in message for message in messages)


@pytest.mark.heavy
@pytest.mark.parametrize("is_set, count", [(False, 1), (True, 0)])
def test_compiled_training_with_initial_mel_statistics_warns_once(is_set, count, caplog):
    model = tiny_model(num_hidden_layers=1) if is_set else AtriModel(tiny_config(num_hidden_layers=1))
    tower = model.audio_model.train()
    compiled = torch.compile(tower, backend="eager", fullgraph=True)
    for num_frames in (40, 40, 60):
        compiled(mel(num_frames)[None]).pooler_output.sum().backward()
    assert sum("mel statistics" in record.getMessage() for record in caplog.records) == count
    assert tower.embeddings.frequency_positions.grad.abs().max() > 0


def test_a_plain_trainer_warns_of_initial_mel_statistics(tmp_path, caplog):
    tokens = tiny_processor()(text="a dog")
    rows = [{"input_features": mel(40), "return_loss": True, **{name: tokens[name][0] for name in tokens}}] * 4
    args = TrainingArguments(str(tmp_path), max_steps=2, use_cpu=True, report_to="none", save_strategy="no")

    def collate(items: list[dict]) -> dict:
        return {**default_data_collator([{k: v for k, v in item.items() if k != "return_loss"} for item in items])} | {
            "return_loss": True
        }

    args.remove_unused_columns = False
    Trainer(AtriModel(tiny_config(**SHORT_CHUNKS)), args, train_dataset=rows, data_collator=collate).train()
    assert sum("mel statistics" in record.getMessage() for record in caplog.records) == 1


# Entry points


def test_forward_of_both_equals_the_parts():
    model, inputs = tiny_model(**SHORT_CHUNKS), paired_inputs()
    audio_inputs = {key: inputs[key] for key in ("input_features", "input_features_mask")}
    text_inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    both, audio, text = model(**inputs, return_loss=True), model(**audio_inputs), model(**text_inputs)
    assert list(both) == [
        "loss",
        "logits_per_audio",
        "logits_per_text",
        "audio_embeds",
        "text_embeds",
        "audio_model_output",
        "text_model_output",
    ]
    assert list(audio) == ["audio_embeds", "audio_model_output"]
    assert list(text) == ["text_embeds", "text_model_output"]
    assert torch.equal(audio.audio_embeds, both.audio_embeds)
    assert torch.equal(text.text_embeds, both.text_embeds)
    assert torch.equal(model.get_audio_features(**audio_inputs).pooler_output, both.audio_embeds)
    assert torch.equal(model.get_text_features(**text_inputs).pooler_output, both.text_embeds)
    for embeds in (both.audio_embeds, both.text_embeds):
        assert embeds.shape == (3, 12)
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(3))
    scale = model.logit_scale.exp()
    assert scale.item() == pytest.approx(1 / 0.07)
    torch.testing.assert_close(both.logits_per_audio, scale * both.audio_embeds @ both.text_embeds.T)
    assert torch.equal(both.logits_per_text, both.logits_per_audio.T)
    torch.testing.assert_close(both.loss, info_nce_loss(both.audio_embeds, both.text_embeds, scale))
    assert both.audio_model_output.pooler_output.shape == (3, 24)
    assert both.text_model_output.pooler_output.shape == (3, 16)


def test_tuples():
    model, inputs = tiny_model(**SHORT_CHUNKS), paired_inputs()
    expected = model(**inputs, return_loss=True)
    values = model(**inputs, return_loss=True, return_dict=False)
    assert [type(value) for value in values] == [Tensor] * 5 + [tuple] * 2
    assert torch.equal(values[0], expected.loss)
    assert torch.equal(values[3], expected.audio_embeds)
    features = model.get_text_features(inputs["input_ids"], inputs["attention_mask"], return_dict=False)
    assert torch.equal(features[1], expected.text_embeds)


def test_more_captions_than_clips():
    model, processor = tiny_model(**SHORT_CHUNKS), tiny_processor()
    outputs = model(**batch_of([mel(40), mel(90)]), **processor(text=["a", "b", "c"]))
    assert outputs.logits_per_audio.shape == (2, 3)
    assert outputs.loss is None
    assert model(**batch_of([mel(40)]), **processor(text=["a"]), return_loss=False).loss is None


def test_text_without_a_mask_has_no_padding():
    model, tokens = tiny_model(), tiny_processor()(text="a dog")
    assert torch.equal(model(input_ids=tokens["input_ids"]).text_embeds, model(**tokens).text_embeds)


@pytest.mark.parametrize(
    "parts, return_loss, message",
    [
        ((), None, "Neither `input_features` nor `input_ids` was given"),
        (("input_features",), True, "`return_loss=True` needs clips and captions"),
        (("input_ids",), True, "`return_loss=True` needs clips and captions"),
    ],
)
def test_inputs_that_are_missing(parts, return_loss, message):
    inputs = paired_inputs()
    with pytest.raises(ValueError, match=message):
        tiny_model(**SHORT_CHUNKS)(**{name: inputs[name] for name in parts}, return_loss=return_loss)


CLIP = torch.zeros(1, 32, 64)
FRAMES, TOKENS = torch.ones(1, 32, dtype=torch.long), torch.ones(1, 4, dtype=torch.long)


@pytest.mark.parametrize(
    "method, inputs, message",
    [
        (
            "get_audio_features",
            {"input_features": CLIP, "attention_mask": FRAMES},
            "are `input_features` and `input_f",
        ),
        (
            "get_audio_features",
            {"input_features": CLIP, "mask": FRAMES},
            r"no inputs \['mask'\].*`input_features_mask`",
        ),
        ("audio_model", {"input_features": CLIP, "attention_mask": FRAMES}, "`input_features_mask`"),
        ("forward", {"input_features": CLIP, "attention_mask": FRAMES}, "mask of clips is `input_features_mask`"),
        (
            "forward",
            {"input_features": CLIP, "padding_mask": FRAMES},
            r"\['padding_mask'\].*`input_features_mask` for",
        ),
        ("forward", {"input_ids": TOKENS, "labels": FRAMES}, r"no inputs \['labels'\]"),
        (
            "get_text_features",
            {"input_ids": TOKENS, "input_features_mask": TOKENS},
            "`input_ids` and `attention_mask`",
        ),
        ("get_text_features", {"input_ids": TOKENS, "token_type_ids": TOKENS}, "token_type_ids"),
    ],
)
def test_inputs_that_would_be_ignored(method, inputs, message):
    with pytest.raises(ValueError, match=message):
        getattr(tiny_model(), method)(**inputs)


def test_inputs_of_the_text_tower_are_its_own():
    config = tiny_config()
    config.text_config = BertConfig(**SIZES)
    model = AtriModel(config).eval()
    types = torch.ones(1, 4, dtype=torch.long)
    with torch.no_grad():
        both = model(CLIP, FRAMES, TOKENS, token_type_ids=types, output_hidden_states=True)
        alone = model.get_text_features(TOKENS, token_type_ids=types).pooler_output
        other = model.get_text_features(TOKENS).pooler_output
    torch.testing.assert_close(both.text_embeds, alone)
    assert not torch.allclose(alone, other)
    assert both.audio_model_output.hidden_states is not None


def test_loss_needs_pairs():
    inputs = {**batch_of([mel(40), mel(90)]), **tiny_processor()(text=["a", "b", "c"])}
    with pytest.raises(ValueError, match="there are 2 clips and 3 captions"):
        tiny_model(**SHORT_CHUNKS)(**inputs, return_loss=True)


def left_padded() -> dict[str, Tensor]:
    inputs = batch_of([mel(40), mel(90)])
    return {**inputs, "input_features_mask": inputs["input_features_mask"].flip(1)}


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"input_features": torch.zeros(100, 64)}, r"shape \(batch_size, num_frames, 64\); got \(100, 64\)"),
        ({"input_features": torch.zeros(1, 64, 100)}, r"num_frames, 64\); got \(1, 64, 100\)"),
        ({"input_features": torch.zeros(1, 15, 64)}, "15 frames, fewer than one patch .*pad_short=True"),
        (
            {"input_features": torch.zeros(2, 30, 64), "input_features_mask": torch.ones(2, 29)},
            r"`input_features_mask` must have shape \(2, 30\) .* got \(2, 29\)",
        ),
        (batch_of([mel(40), mel(15)]), r"leaves clips of \[40, 15\] frames; each needs at least one patch"),
        (left_padded(), "Pad clips on the right"),
    ],
)
def test_features_that_do_not_fit(short_chunk_model, inputs, message):
    with pytest.raises(ValueError, match=message):
        short_chunk_model.get_audio_features(**inputs)


def test_annotations_for_sentence_transformers():
    def returned(method) -> type:
        return inspect.signature(method).return_annotation

    assert returned(AtriModel.get_audio_features) is BaseModelOutputWithPooling
    assert returned(AtriModel.get_text_features) is BaseModelOutputWithPooling
    assert returned(AtriModel.forward) is AtriOutput
    assert "last_hidden_state" not in AtriOutput.__dataclass_fields__
    assert AtriModel.accepts_loss_kwargs is False


# Text towers

SIZES = {
    "vocab_size": 600,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
}
ENCODERS = {
    "BERT": BertConfig(**SIZES),
    "XLM-R": XLMRobertaConfig(**SIZES, pad_token_id=1),
    "ModernBERT": ModernBertConfig(
        **SIZES, pad_token_id=1, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2
    ),
    "T5": T5Config(vocab_size=600, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, pad_token_id=1),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_other_text_towers(name, tmp_path):
    config = AtriConfig(
        audio_config=tiny_config(**SHORT_CHUNKS).audio_config,
        text_config=copy.deepcopy(ENCODERS[name]),
        projection_dim=12,
    )
    model, inputs = AtriModel(config), paired_inputs()
    model.eval()
    with torch.no_grad():
        outputs = model(**inputs)
        states = outputs.text_model_output.last_hidden_state
        for row, length in enumerate(inputs["attention_mask"].sum(1)):
            mean = states[row, :length].mean(0)
            torch.testing.assert_close(outputs.text_model_output.pooler_output[row], mean, atol=1e-6, rtol=1e-5)
            alone = model.get_text_features(inputs["input_ids"][row : row + 1, :length]).pooler_output[0]
            torch.testing.assert_close(outputs.text_embeds[row], alone, atol=1e-5, rtol=0)
    missing = [name for name, gradient in gradients(model, inputs).items() if gradient is None]
    assert missing == []
    model.save_pretrained(tmp_path)
    loaded = AtriModel.from_pretrained(tmp_path)
    assert type(loaded.text_model) is type(model.text_model)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).text_embeds, outputs.text_embeds)


@pytest.mark.parametrize(
    "text_config, message",
    [
        (GPT2Config(n_embd=16, n_layer=1, n_head=2), "type 'gpt2', a decoder or an encoder-decoder"),
        (BartConfig(d_model=16, encoder_layers=1), "type 'bart', a decoder or an encoder-decoder"),
        (BertConfig(**SIZES, is_decoder=True), "type 'bert', a decoder"),
        (ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2), "'vit', which reads pixel_values"),
    ],
)
def test_text_towers_that_do_not_fit(text_config: PreTrainedConfig, message):
    config = AtriConfig(audio_config=tiny_config().audio_config, text_config=text_config)
    with pytest.raises(ValueError, match=message):
        AtriModel(config)


def test_get_and_set_input_embeddings():
    model = tiny_model()
    assert model.get_input_embeddings() is model.text_model.embed_tokens
    table = nn.Embedding(600, 16)
    model.set_input_embeddings(table)
    assert model.text_model.embed_tokens is table
    assert model.audio_model.get_input_embeddings() is model.audio_model.embeddings.patch_projection
    replacement = copy.deepcopy(model.audio_model.embeddings.patch_projection)
    model.audio_model.set_input_embeddings(replacement)
    assert model.audio_model.get_input_embeddings() is model.audio_model.embeddings.patch_projection is replacement


@pytest.mark.parametrize("num_frames", [16, 68, 100])
def test_a_replaced_patch_projection_is_called(short_chunk_model, num_frames):
    """A plain convolution is computed as a matrix product; whatever stands or hangs there instead is called."""
    features, model = mel(num_frames)[None], copy.deepcopy(short_chunk_model.audio_model)
    expected, plain = model(features).pooler_output, model.embeddings.patch_projection
    assert type(plain) is nn.Conv2d
    calls = []

    class Counted(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            calls.append("class")
            return super().forward(images)

    model.embeddings.patch_projection = counted = Counted(1, 24, 16, stride=16)
    counted.load_state_dict(plain.state_dict())
    torch.testing.assert_close(model(features).pooler_output, expected, atol=1e-6, rtol=1e-5)
    model.embeddings.patch_projection = plain
    handles = [
        plain.register_forward_pre_hook(lambda *arguments: calls.append("before")),
        plain.register_forward_hook(lambda *arguments: calls.append("after")),
    ]
    torch.testing.assert_close(model(features).pooler_output, expected, atol=1e-6, rtol=1e-5)
    for handle in handles:
        handle.remove()
    prune.l1_unstructured(plain, "weight", amount=0.5)
    assert (plain.weight == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    plain.weight_orig.data += 1.0  # as an optimizer step would; pruning applies its mask before each call
    moved = model(features).pooler_output
    prune.remove(plain, "weight")
    assert (plain.weight == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(moved, model(features).pooler_output, atol=1e-6, rtol=1e-5)
    assert set(calls) == {"class", "before", "after"}


# Initial weights, files


def test_initial_weights():
    model = AtriModel(tiny_config(initializer_range=0.05))
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    layer = model.audio_model.layers[0]
    assert layer.mlp.fc1.weight.std().item() == pytest.approx(0.05, rel=0.2)
    assert layer.mlp.fc1.bias.abs().max() == 0
    assert model.audio_model.embeddings.time_positions.std().item() == pytest.approx(0.02, rel=0.2)
    for parameter in model.parameters():
        assert torch.isfinite(parameter).all()


def test_save_and_load(tmp_path):
    model, processor, inputs = tiny_model(**SHORT_CHUNKS), tiny_processor(), paired_inputs()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    assert type(AutoConfig.from_pretrained(tmp_path)) is AtriConfig
    assert type(AutoProcessor.from_pretrained(tmp_path)) is AtriProcessor
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is AtriFeatureExtractor
    for auto_class in (AtriModel, AutoModel):
        loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is AtriModel
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, model.state_dict()[name]), name
        assert torch.equal(loaded(**inputs).logits_per_audio, model(**inputs).logits_per_audio)


def test_audio_tower_saves_and_loads_alone(tmp_path):
    model, inputs = tiny_model(**SHORT_CHUNKS), batch_of([mel(40), mel(100)])
    expected = model.audio_model(**inputs).pooler_output
    model.audio_model.save_pretrained(tmp_path / "tower")
    model.save_pretrained(tmp_path / "whole")
    for folder in ("tower", "whole"):
        loaded, info = AtriAudioModel.from_pretrained(tmp_path / folder, output_loading_info=True)
        assert not info["missing_keys"]
        assert torch.equal(loaded(**inputs).pooler_output, expected)
    auto = AutoModel.from_pretrained(tmp_path / "tower")
    assert type(auto) is AtriAudioModel
    assert type(auto.config) is AtriAudioConfig


TOWERS = {
    # The auto class of the tower, its arguments, and the architecture in config.json. "SONAR" is the usual tiny tower.
    "SONAR": (AutoModelForTextEncoding, {}, "M2M100Encoder"),
    "BERT": (AutoModel, {"add_pooling_layer": False}, "BertModel"),
    "XLM-R": (AutoModel, {"add_pooling_layer": False}, "XLMRobertaModel"),
    "ModernBERT": (AutoModel, {}, "ModernBertModel"),
    "T5": (AutoModelForTextEncoding, {}, "T5EncoderModel"),
}


@pytest.mark.parametrize("name", TOWERS)
def test_a_text_tower_saves_and_loads_alone(name, tmp_path, caplog):
    config = tiny_config(**SHORT_CHUNKS)
    if name != "SONAR":
        config.text_config = copy.deepcopy(ENCODERS[name])
    model, tokens = AtriModel(config).eval(), tiny_processor()(text=["a dog", "rain falls"], language=["en", "en"])
    auto_class, options, architecture = TOWERS[name]
    model.text_model.save_pretrained(tmp_path / "text")
    saved = json.loads((tmp_path / "text" / "config.json").read_text())
    assert saved["architectures"] == [architecture]
    assert saved["model_type"] == model.text_model.config.model_type
    own_class = getattr(transformers, architecture, M2M100Encoder)
    with torch.no_grad():
        expected = model.text_model(**tokens).last_hidden_state
        for loading_class in (auto_class, type(model.text_model), own_class):
            loaded, info = loading_class.from_pretrained(tmp_path / "text", output_loading_info=True, **options)
            assert isinstance(loaded, own_class)
            assert not any(info.values())
            mask = tokens["attention_mask"][..., None]  # without packing, padding has states too
            states = loaded.eval()(**tokens).last_hidden_state
            torch.testing.assert_close(states * mask, expected * mask, atol=1e-6, rtol=1e-5)
        assert not caplog.records
        model.audio_model.save_pretrained(tmp_path / "audio")
        joined = AtriModel.from_audio_text_pretrained(tmp_path / "audio", tmp_path / "text", projection_dim=12)
        assert torch.equal(joined.text_model(**tokens).last_hidden_state, expected)
        assert type(joined.text_model) is type(model.text_model)


def test_half_precision(tmp_path):
    model, inputs = tiny_model(**SHORT_CHUNKS), paired_inputs()
    model.save_pretrained(tmp_path)
    half = AtriModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    outputs = half(**inputs, return_loss=True)
    assert outputs.audio_embeds.dtype == torch.bfloat16
    expected = model(**inputs, return_loss=True)
    assert F.cosine_similarity(outputs.audio_embeds.float(), expected.audio_embeds).min() > 0.99
    assert outputs.loss.item() == pytest.approx(expected.loss.item(), abs=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(**inputs, return_loss=True)
    assert outputs.loss.item() == pytest.approx(expected.loss.item(), abs=0.5)
