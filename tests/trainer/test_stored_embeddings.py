"""Training and evaluation on stored embeddings: the same values as with the tower that made them."""

import numpy as np
import pytest
import torch

from modeling_atri import AtriModel
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.encode.fingerprints import audio_fingerprint
from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.data.collator import AtriDataCollator
from modeling_atri.trainer.data.draws import LanguageDraws
from modeling_atri.trainer.data.feature_cache import FeatureCache
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet, embed_retrieval_set
from tests.helpers.embedded import clip_vectors, embedding_processor, soundless, without_tower, write_store
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import (
    LANGUAGES,
    GradientRecorder,
    assert_same_gradients,
    assert_same_weights,
    losses,
    make_arguments,
    make_rows,
    train,
)


pytestmark = pytest.mark.heavy

ROWS = make_rows(8, num_groups=7)


def train_on_stored(args, rows, model, processor):
    recorder = GradientRecorder()
    trainer = AtriTrainer(model, args, processor, rows, callbacks=[recorder])
    trainer.train()
    return trainer, recorder


STEPS = {
    "exact": {},
    "at once": {"exact_step": False},
    "chunks": {"audio_chunk_size": 2, "text_chunk_size": 3},
    "ranking": {"ranking_weight": 0.5},
    "languages": {"objective": "kcl", "languages_per_step": 2},
    "cacl": {"objective": "cacl"},
    "mlclap": {"objective": "mlclap", "embed_regularization": True},
}


FAST = ("exact", "chunks")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in STEPS if name not in FAST]


@pytest.mark.parametrize("step", [*FAST, *SLOW])
def test_a_head_is_trained_as_on_a_frozen_tower(tmp_path, step):
    model = tiny_model()
    stored = without_tower(model)
    store = write_store(tmp_path / "s.npy", [row["audio_id"] for row in ROWS], clip_vectors(model, ROWS, False))
    options = {"num_train_epochs": 2} | STEPS[step]
    expected, recorded = train(make_arguments(tmp_path / "a", freeze_audio=True, **options), ROWS, model)
    rows = load_rows(soundless(ROWS), audio_embeddings=store)
    found, steps = train_on_stored(
        make_arguments(tmp_path / "b", **options), rows, stored, embedding_processor(stored)
    )
    assert len(steps.steps) == len(recorded.steps) == 4
    for own, reference in zip(steps.steps, recorded.steps, strict=True):
        assert_same_gradients(own, reference, 2e-5)
    np.testing.assert_allclose(losses(found), losses(expected), rtol=1e-5)
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith("audio_model.")}
    assert_same_weights(stored.state_dict(), weights, 1e-6)


@pytest.mark.parametrize("has_tower", [True, False])
def test_finished_embeddings_take_the_place_of_a_frozen_audio_side(tmp_path, has_tower):
    model = tiny_model()
    for part in (model.audio_model, model.audio_projection):
        part.requires_grad_(False)
    vectors = clip_vectors(model, ROWS, True)
    fingerprint = audio_fingerprint(model, tiny_processor())
    ids = [row["audio_id"] for row in ROWS]
    store = write_store(tmp_path / "s.npy", ids, vectors, model="tiny", fingerprint=fingerprint)
    rows = load_rows(soundless(ROWS), audio_embeddings=store)
    if has_tower:
        other, processor = tiny_model(), tiny_processor()
        other.audio_model.forward = None  # it is not called
        other.audio_model.requires_grad_(False)
        other.audio_projection.requires_grad_(False)
    else:
        other = without_tower(model, has_audio_head=False, source="tiny", fingerprint=fingerprint)
        processor = embedding_processor(other)
    for option in ({}, {"exact_step": False}):
        expected, recorded = train(make_arguments(tmp_path / "a", **option), ROWS, model)
        found, steps = train_on_stored(make_arguments(tmp_path / "b", **option), rows, other, processor)
        assert_same_gradients(steps.steps[-1], recorded.steps[-1], 1e-5)
        np.testing.assert_allclose(losses(found), losses(expected), rtol=1e-5)


@pytest.mark.parametrize("kind", ["head", "finished, with a tower", "finished, without"])
def test_evaluation_gives_the_same_figures(tmp_path, kind):
    model, processor = tiny_model(), tiny_processor()
    expected = embed_retrieval_set(model, processor, RetrievalSet.from_rows(ROWS, LANGUAGES))
    vectors = clip_vectors(model, ROWS, finished=kind != "head")
    if kind != "finished, with a tower":
        model = without_tower(model, has_audio_head=kind == "head")
        processor = embedding_processor(model)
    for rows in (load_rows(soundless(ROWS, vectors)), soundless(ROWS, vectors)):
        retrieval_set = RetrievalSet.from_rows(rows, LANGUAGES)
        found = embed_retrieval_set(
            model,
            processor,
            retrieval_set,
            read_features=FeatureCache(processor.feature_extractor),
            skip_unreadable=True,
        )
        np.testing.assert_allclose(found.audio, expected.audio, atol=1e-5)
        np.testing.assert_array_equal(found.text["fra_Latn"], expected.text["fra_Latn"])
        assert retrieval_set.positives == RetrievalSet.from_rows(ROWS, LANGUAGES).positives
    trainer = AtriTrainer(model, make_arguments(tmp_path), processor, eval_dataset=soundless(ROWS, vectors))
    assert 0 <= trainer.evaluate()["eval_mean_text_to_audio_R@1"] <= 1


def test_a_resumed_run_is_the_same(tmp_path):
    vectors = clip_vectors(tiny_model(), ROWS, False)
    options = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2}
    rows = soundless(ROWS, vectors)
    whole = without_tower(tiny_model())
    train_on_stored(make_arguments(tmp_path / "a", **options), rows, whole, embedding_processor(whole))
    again = without_tower(tiny_model())
    trainer = AtriTrainer(again, make_arguments(tmp_path / "b", **options), embedding_processor(again), rows)
    trainer.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert_same_weights(again, whole)


@pytest.mark.parametrize("has_audio_head", [True, False])
def test_lora_trains_on_embeddings(tmp_path, has_audio_head):
    pytest.importorskip("peft")
    without_tower(tiny_model(), has_audio_head).save_pretrained(tmp_path / "base")
    model = AtriModel.from_pretrained(tmp_path / "base")
    rows = soundless(ROWS, clip_vectors(tiny_model(), ROWS, not has_audio_head))
    args = make_arguments(tmp_path, lora_rank=2, save_strategy="epoch")
    _, recorder = train_on_stored(args, rows, model, embedding_processor(model))
    assert any("lora" in name for name in recorder.steps[0])
    assert_same_weights(AtriModel.from_pretrained(tmp_path / "checkpoint-2"), model)


def test_a_faulty_vector_that_was_not_checked_is_named():
    model = without_tower(tiny_model())
    collator = AtriDataCollator(embedding_processor(model), LanguageDraws("kcl", LANGUAGES))
    vectors = clip_vectors(tiny_model(), ROWS[:2], False)
    batch = collator(soundless(ROWS[:2], vectors))
    torch.testing.assert_close(batch["input_features"], torch.from_numpy(vectors)[:, None])
    for value, message in ((vectors[1] * np.nan, "NaN"), (vectors[1][:3], "shape"), (0 * vectors[1], "is zero")):
        with pytest.raises(ValueError, match=f"row 'clip 1'.*{message}"):
            collator(soundless(ROWS[:2], [vectors[0], value]))
