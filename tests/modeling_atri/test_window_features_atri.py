"""Clips in windows, each as the model's own feature extractor makes it."""

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, ClapFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from modeling_atri import AtriFeatureExtractor, AtriWindowFeatureExtractor, describe_windows
from modeling_atri.audio_encoders_atri import encoder_windows
from tests.helpers.towers import TOWERS, Tower, sound


@pytest.fixture(
    scope="module", params=["clap", "fused clap", "ast", "whisper", "wav2vec2", "wav2vec2-bert", "pe-audio"]
)
def tower(request) -> Tower:
    return TOWERS[request.param]


@pytest.fixture(scope="module")
def extractor(tower) -> AtriWindowFeatureExtractor:
    return tower.feature_extractor()


def clip_of(extractor: AtriWindowFeatureExtractor, windows: float) -> np.ndarray:
    return sound(round(windows * extractor._rule.num_samples))


def test_rows_and_mask(tower, extractor):
    clip = torch.from_numpy(clip_of(extractor, 2.3))
    features = extractor.extract_clip(clip)
    assert features.shape == (extractor.num_frames(len(clip)), extractor.feature_size + 1)
    spans = extractor.spans(len(clip))
    assert [start for start, _ in spans] == [index * extractor._rule.num_samples for index in range(3)]
    assert spans[-1][1] == len(clip)
    assert set(features[:, -1].unique().tolist()) <= {0.0, 1.0}
    full = extractor.windows.frames
    # A row is covered where it begins before the end: as much of the last window as of the time.
    assert features[2 * full :, -1].sum() == pytest.approx(0.3 * features[:full, -1].sum(), abs=3)


def test_no_random_numbers_are_drawn(extractor):
    """CLAP's extractor cuts longer clips at random and marks a random clip of a batch as longer."""
    clip = clip_of(extractor, 2.3)
    expected = extractor.extract_clip(clip)
    np.random.seed(1)
    before = np.random.get_state()
    assert torch.equal(extractor.extract_clip(clip), expected)
    assert all(np.array_equal(*values) for values in zip(np.random.get_state(), before, strict=True))


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("windows", [0.3, 1.0])
def test_a_window_of_clap_is_what_its_extractor_makes(truncation, windows):
    own = ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation=truncation)
    clip = sound(round(windows * 48_000))
    expected = own(clip, sampling_rate=48_000, return_tensors="pt")["input_features"][0]
    assert len(expected) == (4 if truncation == "fusion" else 1)
    found = AtriWindowFeatureExtractor(own).extract_clip(clip)
    assert all(torch.equal(found[:, :-1], channel) for channel in expected)


def test_saved_and_loaded(extractor, tmp_path):
    extractor.save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is AtriWindowFeatureExtractor
    assert loaded.to_dict() == extractor.to_dict()
    clip = clip_of(extractor, 1.3)
    assert torch.equal(loaded.extract_clip(clip), extractor.extract_clip(clip))


def test_a_batch_is_taken_apart_and_padded_again(extractor):
    clips = [clip_of(extractor, windows) for windows in (0.4, 2.3)]
    rate = extractor.sampling_rate
    batch = extractor(clips, sampling_rate=rate, return_tensors="pt")
    single = [dict(zip(batch, rows, strict=True)) for rows in zip(*batch.values(), strict=True)]
    again = extractor.pad(single, return_tensors="pt")
    for name, value in batch.items():
        assert torch.equal(again[name], value), name
    short = extractor.pad(single[:1], return_tensors="pt")
    alone = extractor(clips[:1], sampling_rate=rate, return_tensors="pt")
    assert torch.equal(short["input_features"], alone["input_features"])


def test_silence_is_noticed(extractor):
    silence = torch.zeros(round(1.3 * extractor._rule.num_samples))
    assert extractor.is_silent(extractor.extract_clip(silence))
    assert not extractor.is_silent(extractor.extract_clip(clip_of(extractor, 1.3)))


def test_bad_clips(extractor):
    rate = extractor.sampling_rate
    with pytest.raises(ValueError, match=f"too short .10 samples at {rate} Hz"):
        extractor(np.zeros(10, np.float32), sampling_rate=rate)
    assert extractor(np.ones(10, np.float32), sampling_rate=rate, pad_short=True)["input_features"].shape[0] == 1
    with pytest.raises(ValueError, match="come with a sampling rate of 8000 Hz"):
        extractor(np.zeros(rate, np.float32), sampling_rate=8000)
    with pytest.raises(ValueError, match="holds NaN"):
        extractor.extract_clip(np.full(rate, np.nan, np.float32))


def test_the_configuration_is_described_only_where_it_differs(tower, extractor):
    config = tower.config()
    describe_windows(config, extractor)
    assert encoder_windows(config) == extractor.windows


@pytest.mark.parametrize(
    "wrapped, options, reason",
    [
        (AtriFeatureExtractor(), {}, "already takes clips of any length"),
        (ClapFeatureExtractor(), {"window_seconds": 5}, "Leave it out"),
        (WhisperFeatureExtractor(dither=0.1), {}, "adds random noise"),
        ({"feature_extractor_type": "Nothing"}, {}, "'Nothing', which transformers does not have"),
    ],
    ids=["own", "fixed", "dither", "unknown"],
)
def test_what_cannot_be_wrapped(wrapped, options, reason):
    with pytest.raises(ValueError, match=reason):
        AtriWindowFeatureExtractor(wrapped, **options)


def test_windows_of_waveforms_are_30_s_or_as_long_as_is_asked():
    extractor = AtriWindowFeatureExtractor(Wav2Vec2FeatureExtractor())
    assert extractor.spans(16_000 * 70) == [(0, 480_000), (480_000, 960_000), (960_000, 1_120_000)]
    assert extractor.spans(480_000 + 399) == [(0, 480_000)]  # the rest is too short for one state
    assert AtriWindowFeatureExtractor(Wav2Vec2FeatureExtractor(), window_seconds=2).windows.frames == 32_000
