"""Training on long recordings among short clips equals training on parts of them that are cut out by hand."""

import json

import numpy as np
import pytest
import soundfile

from modeling_atri.audio_io import load_audio
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.streams import open_streams
from modeling_atri.trainer.data.feature_cache import FeatureCache
from tests.helpers.training import LANGUAGES, assert_same_weights, losses, make_arguments, make_rows, make_trainer


pytestmark = pytest.mark.heavy
LONG = {2: ("wav", 16_000, 1), 5: ("flac", 44_100, 2)}  # rows with a recording of four seconds: kind, rate, channels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, lines = tmp_path_factory.mktemp("long"), []
    for number, row in enumerate(make_rows(8)):
        suffix, rate, num_channels = LONG.get(number, ("wav", 16_000, 1))
        samples = row["audio"]["array"]
        if number in LONG:
            samples = np.random.default_rng(number).normal(scale=0.05, size=(4 * rate, num_channels))
        soundfile.write(folder / f"{number}.{suffix}", samples, rate)
        lines.append(json.dumps({"file_name": f"{number}.{suffix}", "captions": row["captions"]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def cut_by_hand(cache, audio, max_seconds, rng):
    """What `FeatureCache.excerpt` returns, from all samples of a recording."""
    samples = load_audio(audio)
    longest = int(max_seconds * 16_000)
    if len(samples) > longest:
        start = int(rng.integers(len(samples) - longest + 1))
        samples = samples[start : start + longest]
    return cache.feature_extractor.extract_clip(samples)


@pytest.mark.parametrize("is_stream", [False, True])
def test_parts_are_those_that_are_cut_by_hand(tmp_path, folder, monkeypatch, is_stream):
    def run(name: str):
        if is_stream:
            rows, options = open_streams([str(folder)], None, languages=LANGUAGES), {"shuffle_buffer": 4}
        else:
            rows, options = load_rows(folder, languages=LANGUAGES), {}
        args = make_arguments(tmp_path / name, max_audio_seconds=0.5, max_steps=4, **options)
        trainer = make_trainer(args, rows)
        trainer.train()
        return trainer

    found, cut = run("found"), []
    monkeypatch.setattr(
        FeatureCache,
        "excerpt",
        lambda cache, audio, seconds, rng: cut.append(audio) or cut_by_hand(cache, audio, seconds, rng),
    )
    expected = run("expected")
    assert len(cut) >= 16
    np.testing.assert_allclose(losses(found), losses(expected), rtol=1e-5)
    assert_same_weights(found.model, expected.model, 1e-6)
