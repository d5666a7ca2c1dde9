"""What the feature extractor holds for any clip: of any length, level and content, in any batch, given in any form."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_atri import AtriFeatureExtractor
from tests.helpers.properties import property_settings


EXTRACTOR = AtriFeatureExtractor()
SHORTEST = 2_400
QUIETEST_DB = -100.0  # of the power 1e-10, below which none is told apart

lengths = st.integers(SHORTEST, 20_000) | st.integers(15, 125).map(lambda frames: 160 * frames)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def clips(draw: st.DrawFn, lengths: st.SearchStrategy[int] = lengths) -> np.ndarray:
    """Noise, a tone, clicks, an offset or silence, of any level from full scale down to what is quieter than a bit."""
    num_samples, level = draw(lengths), 10.0 ** draw(st.integers(-8, 0))
    rng, time = np.random.default_rng(draw(seeds)), np.arange(num_samples) / 16_000
    wave = {
        "noise": lambda: rng.normal(size=num_samples),
        "tone": lambda: np.sin(2 * np.pi * rng.uniform(20, 8_000) * time),
        "clicks": lambda: (rng.random(num_samples) < 1e-3).astype(float),
        "offset": lambda: np.ones(num_samples),
        "silence": lambda: np.zeros(num_samples),
        "half": lambda: rng.normal(size=num_samples) * (time > time[-1] / 2),
    }
    return (level * wave[draw(st.sampled_from(sorted(wave)))]()).astype(np.float32)


def features_of(clip, **options) -> torch.Tensor:
    return EXTRACTOR(clip, sampling_rate=16_000, return_tensors="pt", **options).input_features[0]


def above_floors(features: torch.Tensor) -> torch.Tensor:
    """Where neither the least power nor the clip's dynamic range has cut anything off."""
    return features > max(QUIETEST_DB, features.max().item() - 120.0) + 1e-3


# Values


@property_settings(60)
@given(clips())
def test_any_clip_gives_finite_frames_in_their_range(clip: np.ndarray) -> None:
    features = EXTRACTOR.extract_clip(clip)
    assert features.shape == (1 + len(clip) // 160, 64)
    assert EXTRACTOR.num_frames(len(clip)) == len(features)
    assert features.dtype == torch.float32
    assert features.is_contiguous()
    assert features.isfinite().all()
    lowest, loudest = features.min().item(), features.max().item()
    assert lowest >= max(QUIETEST_DB, loudest - 120.0) - 1e-4
    # No frequency has more than all 512 samples of the window in step.
    assert loudest <= max(QUIETEST_DB, 20 * math.log10(512 * max(float(np.abs(clip).max()), 1e-30))) + 1e-3


@property_settings(40)
@given(lengths, seeds, st.floats(-40, 40), st.floats(-30, 0))
def test_gain_moves_every_frame_by_as_many_decibels(
    num_samples: int, seed: int, gain_db: float, level_db: float
) -> None:
    noise = np.random.default_rng(seed).normal(size=num_samples) * 10 ** (level_db / 20)
    plain, louder = features_of(noise), features_of(noise * 10 ** (gain_db / 20))
    loud_enough = torch.minimum(plain, louder) > QUIETEST_DB + 1
    assert loud_enough.float().mean() > 0.9
    torch.testing.assert_close(
        (louder - plain)[loud_enough], torch.full((int(loud_enough.sum()),), gain_db), atol=1e-2, rtol=0
    )


@property_settings(20)
@given(clips(), st.integers(-6, 6))
def test_powers_of_two_are_exact_gains(clip: np.ndarray, power: int) -> None:
    plain, louder = features_of(clip), features_of(clip * np.float32(2.0**power))
    free = above_floors(plain) & above_floors(louder)
    torch.testing.assert_close(louder[free], plain[free] + 20 * math.log10(2.0**power), atol=1e-4, rtol=0)


@property_settings(20)
@given(lengths, seeds)
def test_sign_is_no_matter(num_samples: int, seed: int) -> None:
    clip = np.random.default_rng(seed).normal(size=num_samples).astype(np.float32)
    assert torch.equal(features_of(clip), features_of(-clip))


@property_settings(20)
@given(lengths, seeds, st.floats(-60, 20))
def test_silence_is_the_floor(num_samples: int, seed: int, level_db: float) -> None:
    silence = np.zeros(num_samples, np.float32)
    features = features_of(silence)
    torch.testing.assert_close(features, torch.full_like(features, QUIETEST_DB), atol=1e-4, rtol=0)
    noise = np.random.default_rng(seed).normal(size=num_samples) * 10 ** (level_db / 20)
    features = features_of(np.concatenate([noise, silence]))
    assert features[-1].max() == features.min()
    assert features.min().item() == pytest.approx(max(QUIETEST_DB, features.max().item() - 120), abs=1e-4)


@property_settings(20)
@given(seeds, st.integers(20, 60), st.integers(1, 20))
def test_whole_hops_of_delay_move_the_frames(seed: int, num_frames: int, delay: int) -> None:
    """Frames are local: what does not touch an edge is the same, wherever it stands in the clip."""
    inner = np.random.default_rng(seed).normal(size=160 * num_frames)
    zeros = np.zeros(512)
    early = features_of(np.concatenate([zeros, inner, zeros, np.zeros(160 * delay)]))
    late = features_of(np.concatenate([np.zeros(160 * delay), zeros, inner, zeros]))
    torch.testing.assert_close(late[delay:], early[: len(early) - delay], atol=1e-4, rtol=0)


# Batches


@property_settings(30)
@given(st.lists(clips(), min_size=1, max_size=5), st.data())
def test_a_clip_is_the_same_alone_and_in_any_batch(batch: list[np.ndarray], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(batch))))
    inputs = EXTRACTOR([batch[number] for number in order], sampling_rate=16_000, return_tensors="pt")
    longest = max(EXTRACTOR.num_frames(len(clip)) for clip in batch)
    assert inputs.input_features.shape == (len(batch), longest, 64)
    assert inputs.input_features.is_contiguous()
    assert inputs.input_features_mask.dtype == torch.int64
    for row, number in enumerate(order):
        alone = EXTRACTOR.extract_clip(batch[number])
        assert torch.equal(inputs.input_features[row, : len(alone)], alone)
        assert not inputs.input_features[row, len(alone) :].any()
        assert inputs.input_features_mask[row].tolist() == [1] * len(alone) + [0] * (longest - len(alone))
    unpadded = EXTRACTOR([batch[number] for number in order], sampling_rate=16_000, padding=False)
    for row, features in enumerate(unpadded.input_features):
        np.testing.assert_array_equal(features, EXTRACTOR.extract_clip(batch[order[row]]))


# Forms


@property_settings(30)
@given(clips(), seeds)
def test_any_form_of_a_clip_gives_the_same(clip: np.ndarray, seed: int) -> None:
    expected = EXTRACTOR.extract_clip(clip)
    read_only = clip.copy()
    read_only.flags.writeable = False
    stereo = np.stack([clip, np.random.default_rng(seed).normal(size=len(clip)).astype(np.float32)], axis=1)
    forms = {
        "float64": clip.astype(np.float64),
        "tensor": torch.from_numpy(clip),
        "list": clip.tolist(),
        "read-only": read_only,
        "one channel of two": stereo[:, 0],
        "strided tensor": torch.from_numpy(stereo)[:, 0],
        "reversed twice": clip[::-1].copy()[::-1],
        "with a gradient": torch.from_numpy(clip).requires_grad_(),
    }
    before = clip.copy()
    for form, given_clip in forms.items():
        assert torch.equal(EXTRACTOR.extract_clip(given_clip), expected), form
    np.testing.assert_array_equal(clip, before)


# Refusals


@property_settings(30)
@given(clips(), st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(0, 1, exclude_max=True), st.integers(0, 2))
def test_a_sample_that_is_no_number_is_refused_wherever_it_stands(
    clip: np.ndarray, value: float, place: float, neighbours: int
) -> None:
    broken = clip.copy()
    broken[int(place * len(clip))] = value
    with pytest.raises(ValueError, match=f"^Cannot use Clip {neighbours}: it holds NaN or infinite samples"):
        EXTRACTOR([clip] * neighbours + [broken], sampling_rate=16_000)


@property_settings(30)
@given(st.integers(1, SHORTEST - 1), seeds)
def test_short_clips_are_refused_or_padded(num_samples: int, seed: int) -> None:
    clip = np.random.default_rng(seed).normal(size=num_samples).astype(np.float32)
    with pytest.raises(
        ValueError, match=rf"too short \({num_samples} samples at 16000 Hz\). The model needs at least 2400"
    ):
        EXTRACTOR.extract_clip(clip)
    padded = np.pad(clip, (0, SHORTEST - num_samples))
    assert torch.equal(EXTRACTOR.extract_clip(clip, pad_short=True), EXTRACTOR.extract_clip(padded))
