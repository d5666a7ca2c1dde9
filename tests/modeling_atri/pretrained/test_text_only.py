"""Models without an audio tower: the same texts, and the archive that they belong to."""

import numpy as np
import pytest
import torch

from modeling_atri import AtriModel, AtriProcessor, encode_audio, encode_text
from modeling_atri.encode import audio_fingerprint
from modeling_atri.pretrained import from_text_pretrained, load_text_tower, without_audio_tower
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor
from tests.helpers.towers import TOWERS, sound, tower_model, tower_processor


@pytest.mark.parametrize("kind", [None, "clap"])
def test_the_text_side_stays_as_it_is(tmp_path, kind):
    if kind is None:
        whole, processor, rate = tiny_model(), tiny_processor(), 16_000
    else:
        whole, processor, rate = tower_model(TOWERS[kind]), tower_processor(TOWERS[kind]), 48_000
    model, light = without_audio_tower(whole, processor, source="their model")
    assert model.config.audio_config.source == "their model"
    assert not [name for name in model.state_dict() if name.startswith("audio")]
    model.save_pretrained(tmp_path)
    light.save_pretrained(tmp_path)
    model, light = AtriModel.from_pretrained(tmp_path), AtriProcessor.from_pretrained(tmp_path)
    texts, languages = list(CAPTIONS.values()), list(CAPTIONS)
    expected = encode_text(whole, processor, texts, languages)
    assert np.array_equal(encode_text(model, light, texts, languages), expected)
    assert torch.equal(model.logit_scale, whole.logit_scale)

    fingerprint = audio_fingerprint(whole, processor)
    assert model.config.audio_config.fingerprint == audio_fingerprint(model, light) == fingerprint
    clips = encode_audio(whole, processor, [sound(rate), sound(2 * rate, 1)], sampling_rate=rate)
    inputs = light(audio=list(clips), text=texts[0])
    with torch.no_grad():
        np.testing.assert_allclose(model(**inputs).audio_embeds, clips, atol=1e-6, rtol=0)
    assert without_audio_tower(model, light) == (model, light)


def test_a_model_for_an_archive(tmp_path):
    tiny_model().text_model.save_pretrained(tmp_path)
    for text in (tmp_path, load_text_tower(tmp_path)):
        model = from_text_pretrained(text, 512, source="laion/clap-htsat-unfused", fingerprint="ab" * 16)
        assert (model.config.projection_dim, model.config.has_audio_head) == (512, False)
        assert model.config.audio_config.fingerprint == "ab" * 16
        assert torch.equal(model.text_model.embed_tokens.weight, tiny_model().text_model.embed_tokens.weight)
