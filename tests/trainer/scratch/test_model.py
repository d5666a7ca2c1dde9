"""Models from scratch: the sizes asked for, and the same weights for the same seed."""

import math

import pytest
import torch

from modeling_atri.trainer.scratch.model import ScratchArguments, caption_texts, model_from_scratch
from tests.helpers.tiny import CAPTIONS


SIZES = ScratchArguments(
    audio_hidden_size=16,
    audio_layers=1,
    audio_heads=2,
    audio_dropout=0.2,
    patch_size=[32, 8],
    text_hidden_size=24,
    text_layers=3,
    text_heads=2,
    vocab_size=600,
    projection_dim=10,
    temperature=0.1,
)


def make(seed: int = 0):
    return model_from_scratch(CAPTIONS.values(), list(CAPTIONS), SIZES, seed)


def test_the_model_has_the_sizes_asked_for():
    model, processor = make()
    audio, text = model.config.audio_config, model.config.text_config
    assert (audio.hidden_size, audio.intermediate_size, audio.num_hidden_layers, audio.patch_size) == (
        16,
        64,
        1,
        [32, 8],
    )
    assert (text.d_model, text.encoder_ffn_dim, text.encoder_layers) == (24, 96, 3)
    assert model.config.projection_dim == 10
    assert model.logit_scale.item() == pytest.approx(math.log(10))
    assert text.vocab_size == len(processor.tokenizer) <= 600
    assert all(processor.language_id(language) for language in CAPTIONS)


def test_the_seed_decides_the_weights():
    first, again, other = (make(seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["audio_projection.fc1.weight"], other["audio_projection.fc1.weight"])


def test_caption_texts_go_row_by_row_and_language_by_language():
    rows = [{"captions": {"eng_Latn": ["a", "b"], "fra_Latn": ["c"]}}, {"captions": {"eng_Latn": ["d"]}}]
    assert list(caption_texts(rows, ["fra_Latn", "eng_Latn"])) == ["c", "a", "b", "d"]
    assert list(caption_texts([{"captions": {"en": "R&amp;B"}}], ["eng_Latn"])) == ["R&B"], "not letters"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be a finite number > 0; got 0.0"),
        ({"temperature": math.inf}, "`temperature`"),
        ({"audio_layers": 0}, "`audio_layers` must be a whole number >= 1; got 0"),
        ({"text_dropout": 1.0}, r"`text_dropout` must be a number in \[0, 1\)"),
        ({"audio_drop_path": -0.1}, "`audio_drop_path`"),
        ({"patch_size": [16]}, "`patch_size` must be two positive numbers"),
    ],
)
def test_sizes_are_checked_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        ScratchArguments(**options)
