"""Fingerprints: equal for the same embeddings, whatever the model is called, and for no others."""

import pytest
import torch

from modeling_atri import AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.encode.fingerprints import audio_fingerprint, model_fingerprint, weights_fingerprint
from tests.helpers.tiny import tiny_model, tiny_processor, tiny_tokenizer


def nudged(module: str) -> AtriModel:
    model = tiny_model()
    with torch.no_grad():
        model.get_submodule(module).fc2.bias[-1] += 1e-6
    return model


@pytest.mark.parametrize("fingerprint", [audio_fingerprint, model_fingerprint])
def test_saving_changes_nothing(fingerprint, tmp_path):
    model, processor = tiny_model(), tiny_processor()
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    saved = AtriModel.from_pretrained(tmp_path), AtriProcessor.from_pretrained(tmp_path)
    assert fingerprint(*saved) == fingerprint(model, processor)


@pytest.mark.parametrize("fingerprint", [audio_fingerprint, model_fingerprint])
def test_whatever_embeds_audio_counts(fingerprint):
    model, processor = tiny_model(), tiny_processor()
    makers = [
        (model, processor),
        (tiny_model(seed=1), processor),
        (tiny_model().to(torch.bfloat16), processor),
        (tiny_model(max_frames=500), processor),
        (nudged("audio_projection"), processor),
        (model, AtriProcessor(AtriFeatureExtractor(top_db=80.0), tiny_tokenizer())),
    ]
    assert len({fingerprint(*maker) for maker in makers}) == len(makers)


def test_what_embeds_captions_counts_where_captions_do():
    model, processor = tiny_model(), tiny_processor()
    makers = [
        (model, processor),
        (nudged("text_projection"), processor),
        (model, tiny_processor(normalize_text=True)),
        (model, tiny_processor(max_text_length=20)),
    ]
    assert len({model_fingerprint(*maker) for maker in makers}) == len(makers)
    assert len({audio_fingerprint(*maker) for maker in makers}) == 1


def test_of_any_module_weights_and_settings_count():
    makers = [
        (tiny_model(), {"a": 1}),
        (tiny_model(), {"a": 2}),
        (nudged("text_projection"), {"a": 1}),
        (tiny_model().to(torch.bfloat16), {"a": 1}),
    ]
    assert len({weights_fingerprint(*maker) for maker in makers}) == len(makers)
    assert weights_fingerprint(tiny_model(), {"a": 1}) == weights_fingerprint(*makers[0])


def test_values_stay_those_of_stores_that_were_written_earlier():
    """Otherwise embeddings could not be added to an existing folder, and mteb would evaluate a model again."""
    model, processor = tiny_model(), tiny_processor()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_((torch.arange(tensor.numel()) % 7).view_as(tensor) / 8)
    assert audio_fingerprint(model, processor) == "798bb88f7a52aedecb2346c7fc3cabed"
    assert model_fingerprint(model, processor) == "d6731dc382657b57f0ee8cde4d14a3ba"
