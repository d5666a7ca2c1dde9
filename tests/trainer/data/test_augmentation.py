import numpy as np
import pytest
import torch

from modeling_atri.trainer.data.augmentation import Augmentation, mix
from modeling_atri.trainer.data.draws import random_stream


FEATURES = torch.randn(80, 64, generator=torch.Generator().manual_seed(1)) * 10 - 30


def test_off_by_default():
    assert Augmentation().is_off
    assert Augmentation(time_mask_frames=3, frequency_mask_bins=3).is_off
    options = ("time_warp", "mel_shift_bins", "equalizer_db", "gain_db", "time_masks", "frequency_masks")
    assert not any(Augmentation(**{option: 1}).is_off for option in options)
    torch.testing.assert_close(Augmentation()(FEATURES, random_stream(0, 0)), FEATURES, rtol=0, atol=0)


def test_gain_moves_every_bin_by_the_same_decibels():
    gains = []
    for item in range(200):
        change = Augmentation(gain_db=6.0)(FEATURES, random_stream(0, 4, 0, item)) - FEATURES
        gain = random_stream(0, 4, 0, item).uniform(-6.0, 6.0)
        torch.testing.assert_close(change, torch.full_like(change, gain), rtol=0, atol=1e-5)
        gains.append(gain)
    assert min(gains) < -5
    assert max(gains) > 5


@pytest.mark.parametrize(("axis", "kind", "longest"), [(0, "time", 20), (1, "frequency", 8)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("given", [True, False])
def test_masks_are_whole_stripes_of_the_mask_level(axis, kind, longest, count, given):
    level = torch.linspace(-90.0, -50.0, FEATURES.shape[1]) if given else FEATURES.mean(dim=0)
    augmentation = Augmentation(time_mask_frames=20, frequency_mask_bins=8, **{f"{kind}_masks": count})
    widths = []
    for item in range(200):
        augmented = augmentation(FEATURES, random_stream(0, 4, 0, item), level if given else None)
        masked = augmented != FEATURES
        assert torch.equal(augmented[masked], level.expand_as(FEATURES)[masked])
        stripes = masked.all(dim=1 - axis)
        assert torch.equal(masked.any(dim=1 - axis), stripes)
        edges = np.diff(np.concatenate([[0], stripes.int().numpy(), [0]]))
        assert (edges == 1).sum() <= count
        widths.append(int(stripes.sum()))
    assert max(widths) <= count * longest
    if count == 1:
        assert set(widths) == set(range(longest + 1))


def test_masks_are_not_longer_than_the_clip():
    short = FEATURES[:5]
    augmentation = Augmentation(time_masks=2, time_mask_frames=100)
    for item in range(20):
        assert augmentation(short, random_stream(0, 4, 0, item)).shape == short.shape


def test_a_warped_clip_keeps_its_length_ends_and_order():
    # Each frame says its number, so that the frames of the result say where they come from.
    numbers = torch.arange(80.0)[:, None].expand(80, 64)
    ratios = []
    for item in range(200):
        source = Augmentation(time_warp=0.5)(numbers, random_stream(0, 4, 0, item))[:, 0]
        assert len(source) == 80
        assert (source[0], source[-1]) == (0, 79)
        assert (source.diff() >= 0).all()
        speeds = [(source[20 * part + 18] - source[20 * part + 2]).item() / 16 for part in range(4)]
        ratios.append(max(speeds) / min(speeds))
    assert max(ratios) <= np.exp(0.5) * 1.15  # to the rounding of 16 frames
    assert max(ratios) > 1.3
    still = Augmentation(time_warp=1e-9)(FEATURES, random_stream(0, 4, 0, 0))
    assert torch.equal(still, FEATURES)


def test_a_shifted_spectrum_is_interpolated():
    for item in range(50):
        bins = random_stream(0, 4, 0, item).uniform(-3.0, 3.0)
        shifted = Augmentation(mel_shift_bins=3.0)(FEATURES, random_stream(0, 4, 0, item)).numpy()
        places = np.clip(np.arange(64) - bins, 0, 63)
        expected = [np.interp(places, np.arange(64), frame) for frame in FEATURES.double().numpy()]
        np.testing.assert_allclose(shifted, expected, atol=1e-3)


def test_an_equalizer_is_one_smooth_curve_a_clip():
    curves = []
    for item in range(300):
        change = Augmentation(equalizer_db=5.0)(FEATURES, random_stream(0, 4, 0, item)) - FEATURES
        torch.testing.assert_close(change, change[:1].expand_as(change), rtol=0, atol=1e-4)
        curves.append(change[0])
    curves = torch.stack(curves)
    assert curves.std().item() == pytest.approx(5.0, rel=0.25)
    assert curves.mean(dim=0).abs().max() < 2.0
    assert curves.diff(dim=1).abs().mean() < 0.15 * curves.std()


def test_mixed_clips_add_their_powers():
    longer, shorter = FEATURES[:50], FEATURES[30:60] + 3
    for clip, other in ((longer, shorter), (shorter, longer)):
        length = min(len(clip), len(other))
        mixed = mix(clip, other, gain_db=-6.0)
        power = 10 ** (clip.double()[:length] / 10) + 10 ** ((other.double()[:length] - 6) / 10)
        torch.testing.assert_close(mixed[:length].double(), 10 * power.log10(), rtol=0, atol=1e-4)
        assert torch.equal(mixed[length:], clip[length:])
    # Nothing is added by silence, and twice the same is 3 dB more.
    assert torch.allclose(mix(longer, torch.full((50, 64), -200.0), 0.0), longer)
    assert torch.allclose(
        mix(longer, longer, 0.0) - longer, torch.tensor(10 * np.log10(2.0), dtype=torch.float32), atol=1e-4
    )


def test_the_same_stream_gives_the_same_and_another_does_not():
    augmentation = Augmentation(0.3, 2.0, 3.0, gain_db=3.0, time_masks=2, frequency_masks=2)
    before = FEATURES.clone()
    first, again, other = (augmentation(FEATURES, random_stream(0, 4, 1, item)) for item in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(FEATURES, before), "the input stays as it is"
    assert first.dtype == torch.float32
