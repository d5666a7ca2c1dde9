"""Training and evaluation with audio towers of transformers: chunks, the cache, resuming, and options of CED alone."""

import numpy as np
import pytest
import torch

from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.data.feature_cache import FeatureCache
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.towers import TOWERS, sound, tower_model, tower_processor
from tests.helpers.training import (
    GradientRecorder,
    assert_same_gradients,
    assert_same_weights,
    losses,
    make_arguments,
    make_rows,
)


OTHERS = ["whisper", "wav2vec2"]


@pytest.fixture(scope="module", params=["clap", *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS)])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def rows(kind) -> list[dict]:
    """Clips of a third of a window to two and a half, at the tower's rate, so that the masks have gaps."""
    rate = TOWERS[kind].extractor().sampling_rate
    lengths = [round(windows * TOWERS[kind].window_seconds * rate) for windows in (0.4, 2.5, 1.2, 0.7)]
    return [
        row | {"audio": {"array": sound(length, seed), "sampling_rate": rate}}
        for seed, (row, length) in enumerate(zip(make_rows(4), lengths, strict=True))
    ]


def train(kind, rows, folder, model=None, resume=None, **changes):
    torch.manual_seed(0)
    model = model or tower_model(TOWERS[kind])
    recorder = GradientRecorder()
    args = make_arguments(folder, max_audio_seconds=None, **changes)
    trainer = AtriTrainer(model, args, tower_processor(TOWERS[kind]), rows, rows, callbacks=[recorder])
    trainer.train(resume_from_checkpoint=resume)
    return trainer, recorder


def test_exact_chunked_and_checkpointed_steps_have_one_gradient(kind, rows, tmp_path):
    no_dropout = {"learning_rate": 0.0}
    _, plain = train(kind, rows, tmp_path / "a", without_dropout(kind), exact_step=False, **no_dropout)
    _, chunked = train(
        kind, rows, tmp_path / "b", without_dropout(kind), audio_chunk_size=1, text_chunk_size=2, **no_dropout
    )
    _, recomputed = train(
        kind, rows, tmp_path / "c", without_dropout(kind), activation_checkpointing=True, **no_dropout
    )
    assert any(name.startswith("audio_model.encoder.") for name in plain.steps[0])
    for other in (chunked, recomputed):
        assert_same_gradients(other.steps[0], plain.steps[0], 1e-4)


def without_dropout(kind):
    torch.manual_seed(0)
    model = tower_model(TOWERS[kind])
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in vars(module):
            if "dropout" in name or "layerdrop" in name or name == "drop_prob":
                if isinstance(getattr(module, name), float):
                    setattr(module, name, 0.0)
    return model


def test_a_resumed_run_goes_on_bit_for_bit(kind, rows, tmp_path):
    options = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1}
    whole, _ = train(kind, rows, tmp_path, **options)
    resumed, _ = train(kind, rows, tmp_path, resume=str(tmp_path / "checkpoint-1"), **options)
    assert losses(resumed)[-1] == losses(whole)[-1]
    assert_same_weights(resumed.atri_model, whole.atri_model)
    metrics = resumed.evaluate()
    assert 0 <= metrics["eval_mean_text_to_audio_R@1"] <= 1


def test_a_frozen_audio_tower_with_an_adapter_on_the_text(kind, rows, tmp_path):
    torch.manual_seed(0)
    model = tower_model(TOWERS[kind])
    model.save_pretrained(tmp_path / "base")
    model = type(model).from_pretrained(tmp_path / "base")
    before = {name: value.clone() for name, value in model.audio_model.state_dict().items()}
    train(kind, rows, tmp_path / "run", model, freeze_audio=True, lora_rank=2)
    assert_same_weights(dict(model.audio_model.state_dict()), before)


@pytest.mark.parametrize(
    "option", [{"patch_dropout": 0.2}, {"gain_db": 3.0}, {"time_masks": 1}, {"mix_probability": 0.5}]
)
def test_options_of_ced_are_refused(option, tmp_path):
    with pytest.raises(ValueError, match=f"'clap_audio_model', but `{next(iter(option))}`.*only CED"):
        AtriTrainer(
            tower_model(TOWERS["clap"]),
            make_arguments(tmp_path, **option),
            tower_processor(TOWERS["clap"]),
            make_rows(4),
        )


def test_the_cache_tells_the_settings_of_wrapped_extractors_apart(tmp_path):
    clip = {"array": sound(96_000), "sampling_rate": 48_000}
    plain, other = (tower_processor(TOWERS[kind]).feature_extractor for kind in ("clap", "clap"))
    other.feature_extractor.frequency_max = 8000
    first, second = FeatureCache(plain, tmp_path), FeatureCache(other, tmp_path)
    features = first(clip)
    second(clip)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_array_equal(FeatureCache(plain, tmp_path)(clip), features)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_excerpt_is_taken_at_the_rate_of_the_tower():
    extractor = tower_processor(TOWERS["clap"]).feature_extractor
    clip = {"array": sound(5 * 48_000), "sampling_rate": 48_000}
    features = FeatureCache(extractor).excerpt(clip, 2.0, np.random.default_rng(0))
    assert len(features) == extractor.num_frames(96_000)
    silent = {"array": np.zeros(96_000, dtype=np.float32), "sampling_rate": 48_000}
    with pytest.raises(ValueError, match="silent"):
        FeatureCache(extractor).excerpt(silent, None, np.random.default_rng(0))


def test_ced_takes_its_options(tmp_path):
    AtriTrainer(tiny_model(), make_arguments(tmp_path, patch_dropout=0.2, gain_db=3.0), tiny_processor(), make_rows(4))
