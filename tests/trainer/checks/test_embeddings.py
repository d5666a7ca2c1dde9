"""Embeddings of another model, width or normalisation are refused, and both sides are named."""

import numpy as np
import pytest

from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.encode.fingerprints import audio_fingerprint
from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.checks.embeddings import check_sounds
from tests.helpers.embedded import embedding_processor, soundless, without_tower, write_store
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import make_arguments, make_rows


ROWS = make_rows(4)


def vectors(width, unit=True):
    found = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True) if unit else found


def stored(tmp_path, values, **facts):
    store = write_store(tmp_path / "s.npy", [row["audio_id"] for row in ROWS], values, **facts)
    return load_rows(soundless(ROWS), audio_embeddings=store)


@pytest.mark.parametrize(
    "has_audio_head, config, width, unit, facts, message",
    [
        (True, {}, 24, False, {}, None),
        (True, {"fingerprint": "abc"}, 24, True, {}, None),
        (True, {"fingerprint": "abc"}, 24, True, {"model": "y", "fingerprint": "abc"}, None),
        (True, {"source": "x"}, 12, True, {"model": "y"}, "s.npy' holds embeddings of 12 numbers of 'y', .* 24 .*'x'"),
        (
            *(True, {"source": "x", "fingerprint": "abc"}, 24, True, {"model": "y", "fingerprint": "def"}),
            "another model, 'y' .fingerprint def., but the model takes the embeddings of 'x' .fingerprint abc.",
        ),
        (True, {"normalized": True}, 24, False, {}, "vectors of the lengths .* of length 1 .*Normalise them"),
        (True, {"normalized": False}, 24, True, {}, "vectors of the lengths 1 to 1, .*other lengths than 1"),
        (False, {"normalized": True}, 12, False, {}, None),
        (False, {}, 24, True, {}, "holds embeddings of 24 numbers, but the model takes those of 12"),
    ],
)
def test_a_model_without_a_tower_takes_the_embeddings_it_was_made_for(
    tmp_path, has_audio_head, config, width, unit, facts, message
):
    model = without_tower(tiny_model(), has_audio_head, **config)
    rows = stored(tmp_path, vectors(width, unit), **facts)
    if message is None:
        check_sounds(rows, model, embedding_processor(model), is_trained=True)
        return
    with pytest.raises(ValueError, match=message):
        check_sounds(rows, model, embedding_processor(model))


@pytest.mark.parametrize(
    "width, unit, facts, message",
    [
        (12, True, {"model": "tiny"}, None),
        (12, True, {}, "It is not known which model"),
        (24, True, {}, "holds embeddings of 24 numbers, but those of a model without a name .* have 12"),
        (12, False, {"model": "tiny"}, "vectors of the lengths .* L2-normalised"),
        (
            12,
            True,
            {"model": "y", "fingerprint": "def"},
            "another model, 'y' .fingerprint def., but the model is a mod",
        ),
    ],
)
def test_a_model_with_a_tower_takes_its_own(tmp_path, caplog, width, unit, facts, message):
    model, processor = tiny_model(), tiny_processor()
    if facts == {"model": "tiny"}:
        facts = facts | {"fingerprint": audio_fingerprint(model, processor)}
    rows = stored(tmp_path, vectors(width, unit), **facts)
    if message is None or message.startswith("It is"):
        check_sounds(rows, model, processor)
        assert (message or "") in caplog.text
        assert bool(caplog.text) == (message is not None)
        return
    with pytest.raises(ValueError, match=message):
        check_sounds(rows, model, processor)


def test_embeddings_that_stand_in_the_rows_are_called_by_their_column(caplog):
    model, processor = tiny_model(), tiny_processor()
    check_sounds(load_rows(soundless(ROWS, vectors(12))), model, processor)
    assert "made the embeddings of the column `audio_embedding`. They are assumed" in caplog.text
    with pytest.raises(ValueError, match="^The column `audio_embedding` holds embeddings of 24 numbers, but those"):
        check_sounds(load_rows(soundless(ROWS, vectors(24))), model, processor)


def test_its_audio_side_must_be_frozen_to_be_trained(tmp_path):
    rows = soundless(ROWS, vectors(12))
    for options, trained in (
        ({}, "audio tower and the audio projection"),
        ({"freeze_audio": True}, "audio projection"),
    ):
        with pytest.raises(ValueError, match=f"the {trained} of the model would be trained"):
            AtriTrainer(tiny_model(), make_arguments(tmp_path, **options), tiny_processor(), rows)
    args = make_arguments(tmp_path, freeze_audio=True, freeze_audio_head=True)
    AtriTrainer(tiny_model(), args, tiny_processor(), rows)


def test_recordings_need_a_tower(tmp_path):
    model = without_tower(tiny_model(), source="clap")
    with pytest.raises(ValueError, match="no audio tower, so it cannot use recordings. Embed them with 'clap'"):
        AtriTrainer(model, make_arguments(tmp_path), embedding_processor(model), ROWS)
    trainer = AtriTrainer(model, make_arguments(tmp_path), embedding_processor(model), soundless(ROWS, vectors(24)))
    with pytest.raises(ValueError, match="cannot use recordings"):
        trainer.evaluate(ROWS)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mix_probability": 0.5}, "leave out `mix_probability`,"),
        ({"max_audio_seconds": 5.0, "patch_dropout": 0.1}, "leave out `patch_dropout` and `max_audio_seconds`,"),
        ({"gain_db": 3.0}, "leave out the augmentation"),
        ({"feature_cache_dir": "x"}, "leave out `feature_cache_dir`"),
    ],
)
def test_options_of_sounds_are_refused(tmp_path, options, message):
    model = without_tower(tiny_model())
    args = make_arguments(tmp_path, **options)
    with pytest.raises(ValueError, match=message):
        AtriTrainer(model, args, embedding_processor(model), soundless(ROWS, vectors(24)))


def test_rows_of_evaluation_need_something_to_compare(tmp_path):
    model = without_tower(tiny_model())
    trainer = AtriTrainer(model, make_arguments(tmp_path), embedding_processor(model), soundless(ROWS, vectors(24)))
    with pytest.raises(ValueError, match="names no recording"):
        trainer.evaluate(soundless(ROWS))


def test_a_model_of_parts_is_named_after_its_audio_side(tmp_path):
    model = tiny_model()
    model.config.audio_config.name_or_path = "laion/clap"
    rows = stored(tmp_path, vectors(12), model="y", fingerprint="def")
    with pytest.raises(ValueError, match="but the model is 'laion/clap' .fingerprint"):
        check_sounds(rows, model, tiny_processor())
