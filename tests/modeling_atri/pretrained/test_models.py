"""Models and processors from the published weights of other projects."""

import logging

import pytest
import torch

from modeling_atri import AtriProcessor
from modeling_atri.pretrained import from_mlclap_checkpoint, make_processor
from tests.helpers.published import mlclap_state_dict
from tests.helpers.tiny import tiny_tokenizer


def test_mlclap_is_whole(tmp_path, caplog):
    state_dict = mlclap_state_dict()
    torch.save({"model": {f"module.{key}": value for key, value in state_dict.items()}}, tmp_path / "pretrain.pt")
    with caplog.at_level(logging.INFO):
        model = from_mlclap_checkpoint(tmp_path / "pretrain.pt", audio_heads=2, text_heads=2)
    assert f"{len(state_dict)} tensors" in caplog.text
    assert "newly initialized" not in caplog.text
    assert torch.equal(model.text_projection.fc2.weight, state_dict["text_proj.2.weight"])
    assert model.logit_scale.exp().item() == pytest.approx(20.0)
    assert model.config.text_config.name_or_path == "ML-CLAP"
    torch.save(state_dict | {"temperature": torch.ones(2)}, tmp_path / "pretrain.pt")
    with pytest.raises(ValueError, match=r"temperature is \(2,\)"):
        from_mlclap_checkpoint(tmp_path / "pretrain.pt", 2, 2)


def test_a_processor_from_the_tokenizer_of_the_text_tower(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    processor = make_processor(tmp_path, normalize_text=True)
    assert isinstance(processor, AtriProcessor)
    assert processor.normalize_text
    ids = processor(text="A dog.", language="fr")["input_ids"][0]
    assert ids[0] == processor.language_id("fra_Latn")
    assert "." not in processor.tokenizer.decode(ids)
