"""Embeddings in the place of sounds: the tower passes them on, and the extractor checks them."""

import numpy as np
import pytest
import torch

from tests.helpers.towerless import SOURCE, embedded_model, embedded_processor


VECTOR = np.random.default_rng(0).standard_normal(12).astype(np.float32)


@pytest.mark.parametrize("has_audio_head", [True, False])
@torch.no_grad()
def test_stored_embeddings_fit_a_model_of_any_dtype(has_audio_head):
    model, processor = embedded_model(has_audio_head), embedded_processor()
    inputs = processor(audio=[VECTOR], text=["a dog barks"])
    expected = model(**inputs, return_loss=True)
    half = model.to(torch.bfloat16)(**inputs, return_loss=True)
    assert torch.cosine_similarity(half.audio_embeds.float(), expected.audio_embeds).item() > 0.99
    torch.testing.assert_close(half.logits_per_audio.float(), expected.logits_per_audio, atol=0.2, rtol=0.05)


def test_the_tower_returns_a_tuple_if_that_is_asked():
    features = torch.ones(1, 1, 12)
    states, pooled = embedded_model().audio_model(features, return_dict=False)
    assert torch.equal(states, features) and torch.equal(pooled, features[:, 0])


def test_a_batch_is_taken_apart_and_padded_again():
    extractor = embedded_processor().feature_extractor
    batch = extractor([VECTOR, 2 * VECTOR], return_tensors="pt")
    single = [dict(zip(batch, rows, strict=True)) for rows in zip(*batch.values(), strict=True)]
    again = extractor.pad(single, return_tensors="pt")
    assert batch.keys() == again.keys() and all(torch.equal(again[name], value) for name, value in batch.items())


@pytest.mark.parametrize(
    "clips, reason",
    [
        ([], "list is empty.*no audio tower"),
        ([VECTOR[:-1]], rf"of shape \(11,\).*{SOURCE} makes.*12 numbers"),
        ([VECTOR * np.nan], "has NaN or infinity"),
        (["dog.wav"], "Cannot use 'dog.wav'.*no audio tower"),
    ],
    ids=["none", "width", "nan", "file"],
)
def test_what_is_no_embedding_is_refused(clips, reason):
    with pytest.raises(ValueError, match=reason):
        embedded_processor()(audio=clips)


@pytest.mark.parametrize(
    "features, reason",
    [
        ({"input_features": []}, "no `input_features`"),
        ({"labels": [1]}, "no `input_features`"),
        ({"input_features": [VECTOR[None], VECTOR[None, :-1]]}, r"`input_features` of clip 1 of shape \(11,\)"),
    ],
    ids=["empty", "none", "width"],
)
def test_what_cannot_be_padded_is_refused(features, reason):
    with pytest.raises(ValueError, match=reason):
        embedded_processor().feature_extractor.pad(features)
