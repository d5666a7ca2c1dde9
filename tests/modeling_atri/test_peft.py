"""Adapters of PEFT inside an `AtriModel`: switched off and on, several, deleted, merged, and on the patches."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from modeling_atri import AtriModel
from modeling_atri.trainer.model.adapters import add_text_lora, text_lora_config
from tests.helpers.tiny import tiny_model, tiny_processor


peft = pytest.importorskip("peft", reason="adapters need the extra `peft`")


def outputs(model: torch.nn.Module) -> Tensor:
    """Embeddings of two clips and captions, and their logits."""
    features = -20 + 15 * torch.randn(2, 100, 64, generator=torch.Generator().manual_seed(0))
    tokens = tiny_processor()(text=["A dog barks.", "犬"], language=["en", "ja"])
    with torch.no_grad():
        found = model(input_features=features, **tokens)
    return torch.cat([found.audio_embeds.flatten(), found.text_embeds.flatten(), found.logits_per_audio.flatten()])


def change(model: torch.nn.Module, seed: int) -> Tensor:
    """Change all that is trained, as training would; the new outputs."""
    generator = torch.Generator().manual_seed(seed)
    before = outputs(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    after = outputs(model)
    assert (after - before).abs().max() > 0.01
    return after


def lora(**changes) -> "peft.LoraConfig":
    config = text_lora_config(tiny_model(), rank=2)
    for name, value in changes.items():
        setattr(config, name, value)
    return config


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


CONFIGS = {
    "whole": {},
    "heads": {"modules_to_save": ["audio_projection", "text_projection"]},
    "scale": {"modules_to_save": ["logit_scale"]},  # PEFT compares the ends of names
    "layers": {"modules_to_save": None},
}


def test_off_and_on():
    model = tiny_model()
    base = outputs(model)
    model.audio_projection.fc1.requires_grad_(False)
    add_text_lora(model, rank=2)
    changed, before = change(model, seed=1), trained(model)
    assert not torch.equal(model.logit_scale, tiny_model().logit_scale)
    for _ in range(2):
        model.disable_adapters()
        assert torch.equal(outputs(model), base)
        assert torch.equal(model.logit_scale, tiny_model().logit_scale)
        model.disable_adapters()  # twice is as good as once
        model.enable_adapters()
        assert torch.equal(outputs(model), changed)
        assert trained(model) == before


def test_each_adapter_has_its_own_outputs():
    model = tiny_model()
    base, expected = outputs(model), {}
    for seed, (name, changes) in enumerate(CONFIGS.items()):
        model.add_adapter(lora(**changes), name)
        assert torch.equal(outputs(model), base)
        assert all(f".{name}." in parameter for parameter in trained(model))
        expected[name] = change(model, seed)
    for name in [*expected, *reversed(expected)]:
        model.set_adapter(name)
        assert model.active_adapters() == [name]
        assert torch.equal(outputs(model), expected[name]), name
        model.disable_adapters()
        assert torch.equal(outputs(model), base), name
        model.enable_adapters()
        assert torch.equal(outputs(model), expected[name]), name
    model.disable_adapters()
    model.set_adapter("heads")
    model.enable_adapters()
    assert torch.equal(outputs(model), expected["heads"])
    model.delete_adapter("heads")
    model.set_adapter("whole")
    assert torch.equal(outputs(model), expected["whole"])
    model.delete_adapter(["whole", "layers", "scale"])
    assert torch.equal(outputs(model), base)
    with pytest.raises(ValueError, match="No adapter loaded"):
        model.enable_adapters()


def test_adapters_that_do_not_exist():
    model = tiny_model()
    with pytest.raises(ValueError, match="No adapter loaded"):
        model.set_adapter("default")
    model.add_adapter(lora())
    for name in ("other", ["default", "other"]):
        with pytest.raises(ValueError, match="could not be found|not found"):
            model.set_adapter(name)


@pytest.mark.parametrize("names", [["whole", "heads"], ["scale", "layers"]])
def test_saved_and_loaded_again(tmp_path, names):
    tiny_model().save_pretrained(tmp_path / "base")
    model, expected = AtriModel.from_pretrained(tmp_path / "base"), {}
    base = outputs(model)
    for seed, name in enumerate(names):
        model.add_adapter(lora(**CONFIGS[name]), name)
        expected[name] = change(model, seed)
        model.save_pretrained(tmp_path / name)
    loaded = AtriModel.from_pretrained(tmp_path / "base")
    for name in names:
        loaded.load_adapter(str(tmp_path / name), adapter_name=name)
    for name in [*names, names[0]]:
        loaded.set_adapter(name)
        assert torch.equal(outputs(loaded), expected[name]), name
        assert torch.equal(outputs(AtriModel.from_pretrained(tmp_path / name)), expected[name]), name
        around = peft.PeftModel.from_pretrained(AtriModel.from_pretrained(tmp_path / "base"), tmp_path / name)
        assert torch.equal(outputs(around), expected[name]), name
    loaded.disable_adapters()
    if "layers" not in names:  # without `modules_to_save`, the base model's scale is saved and loaded
        assert torch.equal(outputs(loaded), base)


def test_adapters_of_version_0_1(tmp_path):
    """They hold the logit scale as a scalar outside of `modules_to_save`."""
    tiny_model().save_pretrained(tmp_path / "base")
    model = AtriModel.from_pretrained(tmp_path / "base")
    model.add_adapter(lora(modules_to_save=["audio_projection"]))
    model.logit_scale.requires_grad_(True)
    expected = change(model, seed=1)
    model.save_pretrained(tmp_path / "old")
    weights = load_file(tmp_path / "old" / "adapter_model.safetensors")
    weights["base_model.model.logit_scale"] = weights.pop("base_model.model.learned_logit_scale.weight").reshape(())
    save_file(weights, tmp_path / "old" / "adapter_model.safetensors", {"format": "pt"})
    loaded, info = AtriModel.from_pretrained(tmp_path / "old", output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(outputs(loaded), expected)
    around = peft.PeftModel.from_pretrained(AtriModel.from_pretrained(tmp_path / "base"), tmp_path / "old")
    assert torch.equal(outputs(around), expected)
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(outputs(AtriModel.from_pretrained(tmp_path / "again")), expected)


def test_around_a_model():
    model = tiny_model()
    base = outputs(model)
    around = peft.get_peft_model(model, lora(), adapter_name="first")
    first = change(around, seed=1)
    around.add_adapter("second", lora(**CONFIGS["heads"]))
    around.set_adapter("second")
    second = change(around, seed=2)
    for name, expected in (("first", first), ("second", second), ("first", first)):
        around.set_adapter(name)
        assert torch.equal(outputs(around), expected), name
        with around.disable_adapter():
            assert torch.equal(outputs(around), base)
        assert torch.equal(outputs(around), expected), name
    merged = around.merge_and_unload()
    assert type(merged) is AtriModel
    assert merged.state_dict().keys() == tiny_model().state_dict().keys()
    torch.testing.assert_close(outputs(merged), first, atol=1e-5, rtol=1e-5)


def test_layers_with_an_adapter_are_called():
    """The patch projection is computed as a matrix product only while it is a plain convolution."""
    model = tiny_model()
    base = outputs(model)
    layers = r".*(patch_projection|q_proj|embed_tokens)"
    around = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=layers))
    torch.testing.assert_close(outputs(around), base, atol=1e-5, rtol=1e-5)
    changed = change(around, seed=1)
    around.train()(
        input_features=torch.randn(2, 100, 64), input_ids=torch.tensor([[5, 6], [7, 8]]), return_loss=True
    ).loss.backward()
    assert all(parameter.grad is not None for parameter in around.parameters() if parameter.requires_grad)
    merged = copy.deepcopy(around).eval().merge_and_unload()
    torch.testing.assert_close(outputs(merged), changed, atol=1e-4, rtol=1e-4)


def test_activation_checkpointing_with_an_adapter():
    found = []
    for checkpointed in (False, True):
        model = tiny_model().train()
        model.audio_model.requires_grad_(False)
        torch.manual_seed(0)
        add_text_lora(model, rank=2)
        change(model, seed=1)
        if checkpointed:
            model.activation_checkpointing_enable()
        features = torch.randn(2, 100, 64, generator=torch.Generator().manual_seed(0))
        model(input_features=features, input_ids=torch.tensor([[5, 6], [7, 8]]), return_loss=True).loss.backward()
        found.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert any("lora_A" in name for name in found[0])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-5)
