"""Procedural sounds: reproducible, never twice the same, and each unlike the others."""

import numpy as np
import pytest

from modeling_atri.corpora.soundscapes.synthesis import MIN_SOUND_SAMPLES, SAMPLING_RATE, SOURCES, render_source


ALL_SOUNDS = [(name, count) for name, source in SOURCES.items() for count in source.counts]
EVENTS = [name for name, source in SOURCES.items() if "once" in source.counts]


def envelope(waveform: np.ndarray, frame: int = 160) -> np.ndarray:
    """Peak in every 10 ms."""
    return np.abs(waveform[: len(waveform) // frame * frame]).reshape(-1, frame).max(1)


def log_spectrum_statistics(waveform: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of a log spectrum in 32 bands of equal width on a root scale; level removed."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::256] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.unique(np.round(np.linspace(1, np.sqrt(257), 33) ** 2).astype(int) - 1)
    bands = 10 * np.log10(np.add.reduceat(power, edges[:-1], axis=1) + 1e-5)
    return np.concatenate([bands.mean(0) - bands.mean(), bands.std(0)])


@pytest.mark.parametrize(("name", "count"), ALL_SOUNDS)
def test_every_sound_is_finite_audible_and_of_the_asked_length(name, count):
    for duration_s in (0.7, 1.013, 4.0):
        waveform = render_source(name, np.random.default_rng(1), duration_s, count)
        assert waveform.shape == (round(duration_s * SAMPLING_RATE),)
        assert waveform.dtype == np.float32
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("name", "count"), ALL_SOUNDS)
def test_the_generator_alone_decides(name, count):
    first, again, other = (render_source(name, np.random.default_rng(seed), 1.5, count) for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes()
    assert np.corrcoef(first, other)[0, 1] < 0.9


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in EVENTS])
def test_steady_sources_last_to_the_end(name):
    loud = envelope(render_source(name, np.random.default_rng(2), 4.0), 800) > 0.02
    gaps = np.diff(np.flatnonzero(np.concatenate([[True], loud, [True]])))
    assert gaps.max() <= 16  # x 50 ms: no pause longer than 0.8 s


@pytest.mark.parametrize("name", EVENTS)
def test_once_is_one_attack_and_repeated_are_several(name):
    def num_attacks(count: str, duration_s: float, seed: int) -> int:
        # An attack rises by half the peak within 60 ms over the loudest of the 80 ms before.
        level = envelope(render_source(name, np.random.default_rng(seed), duration_s, count))
        padded = np.concatenate([np.zeros(14), level])
        rises = [
            padded[i : i + 7].max() - padded[max(0, i - 8) : i].max(initial=0.0) > 0.4 for i in range(len(padded))
        ]
        return int(np.count_nonzero(np.diff(np.asarray([False, *rises]).astype(int)) == 1))

    once = np.mean([num_attacks("once", 4.0, seed) for seed in range(5)])
    repeated = np.mean([num_attacks("repeated", 4.0, seed) for seed in range(5)])
    assert once <= 1.6
    assert repeated >= once + 1.4


@pytest.mark.parametrize("name", EVENTS)
def test_once_ends_early_and_repeated_goes_on(name):
    once = render_source(name, np.random.default_rng(3), 4.0, "once")
    repeated = render_source(name, np.random.default_rng(3), 4.0, "repeated")
    late = slice(int(2.3 * SAMPLING_RATE), None)
    assert np.abs(once[late]).max() == 0.0
    assert np.abs(repeated[late]).max() > 0.3


@pytest.mark.heavy
def test_sources_are_told_apart_by_plain_spectral_statistics():
    def statistics(seeds: range) -> np.ndarray:
        return np.array(
            [
                [
                    log_spectrum_statistics(render_source(name, np.random.default_rng(seed), 2.0, count))
                    for seed in seeds
                ]
                for name, count in ALL_SOUNDS
            ]
        )  # (sounds, seeds, features)

    train, test = statistics(range(12)), statistics(range(100, 106))
    scale = train.std((0, 1)) + 1e-6
    distances = np.abs((test[:, :, None] - train.mean(1)[None, None]) / scale).sum(-1)  # (sounds, seeds, centroids)
    labels = np.array([list(SOURCES).index(name) for name, _ in ALL_SOUNDS])
    accuracy = (labels[distances.argmin(-1)] == labels[:, None]).mean()
    assert accuracy > 0.9  # chance: 1 in 18


def test_there_are_the_sounds_that_the_package_promises():
    assert len(SOURCES) == 18
    assert len(EVENTS) == 7
    assert MIN_SOUND_SAMPLES / SAMPLING_RATE == 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("violin", 2.0, "steady"), "Unknown sound source 'violin'; choose one of rain"),
        (("rain", 2.0, "once"), "'rain' cannot sound 'once'; choose one of steady"),
        (("dog", 2.0, "steady"), "'dog' cannot sound 'steady'; choose one of once, repeated"),
        (("dog", 0.5, "once"), "0.5 s is too short; give at least 0.7 s"),
    ],
)
def test_wrong_input_is_named(arguments, message):
    name, duration_s, count = arguments
    with pytest.raises(ValueError, match=message):
        render_source(name, np.random.default_rng(0), duration_s, count)
