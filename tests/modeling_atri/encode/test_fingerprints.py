"""Fingerprints: equal for the same embeddings, whatever the model is called, and for no others."""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from modeling_atri import AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.encode.fingerprints import audio_fingerprint, model_fingerprint, weights_fingerprint
from tests.helpers.tiny import tiny_model, tiny_processor, tiny_tokenizer
from tests.helpers.towerless import embedded_model, embedded_processor
from tests.helpers.towers import TOWERS, tower_model, tower_processor


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


def test_those_of_ced_are_the_same_in_all_versions():
    model = tiny_model()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) / 1024)
    assert audio_fingerprint(model, tiny_processor()) == "399a54de8c2fd55f8edd1f01269180df"
    assert model_fingerprint(model, tiny_processor()) == "f174c73d8b30eb378df5f2c22b2e97b8"


@pytest.mark.parametrize("kind", ["clap", "ast", "whisper", "wav2vec2", "pe-audio"])
def test_saving_changes_nothing_for_other_towers(kind, tmp_path):
    model, processor = tower_model(TOWERS[kind]), tower_processor(TOWERS[kind])
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    saved = AtriModel.from_pretrained(tmp_path), AtriProcessor.from_pretrained(tmp_path)
    assert audio_fingerprint(*saved) == audio_fingerprint(model, processor)


def test_whatever_embeds_audio_counts_for_other_towers():
    model = tower_model(TOWERS["wav2vec2"])

    def made(extractor=Wav2Vec2FeatureExtractor, **config):
        changed = copy.copy(model)
        changed.config = copy.deepcopy(model.config)
        for name, value in config.items():
            setattr(changed.config.audio_config, name, value)
        return audio_fingerprint(changed, tower_processor(replace(TOWERS["wav2vec2"], extractor=extractor)))

    different = [
        made(),
        made(lambda: Wav2Vec2FeatureExtractor(do_normalize=False)),
        made(layer_norm_eps=1e-3),
        made(feat_extract_norm="layer"),
        made(window_frames=4000),
    ]
    assert len(set(different)) == len(different)
    assert made(hidden_dropout=0.3, initializer_range=1.0, name_or_path="mine", architectures=["X"]) == made()


def test_a_model_without_an_audio_tower_has_that_of_the_embeddings():
    processor = embedded_processor()
    assert audio_fingerprint(embedded_model(fingerprint="ab" * 16), processor) == "ab" * 16
    unknown, with_head = embedded_model(), embedded_model(has_audio_head=True, fingerprint="ab" * 16)
    assert len({audio_fingerprint(model, processor) for model in (unknown, with_head)} | {"ab" * 16}) == 3
