import copy
import json
import pickle
import threading
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoFeatureExtractor, DataCollatorWithPadding

from modeling_atri import AtriFeatureExtractor, clip_features_atri, feature_extraction_atri


CLIPS = (
    "tone_noise_short",
    "tone_noise_1",
    "silence_click",
    "very_quiet",
    "all_zero",
    "pure_sine_click0",
    "chirp_10s",
    "noise_long",
)

# Public numbers hold as far as torch's own short-time Fourier transform gives them on this machine: on CPUs of another
# maker its library rounds otherwise, which moves empty bins by up to 5e-3 dB. Without AVX the filters differ too, by
# up to 9e-6.
TOLERANCE = 1e-5  # dB
LARGEST_DIFFERENCE_BETWEEN_MACHINES = 1e-2  # dB
HAS_AVX_KERNELS = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@pytest.fixture(scope="module")
def extractor() -> AtriFeatureExtractor:
    return AtriFeatureExtractor()


def noise(num_samples: int, gain: float = 0.1) -> np.ndarray:
    return (gain * np.random.randn(num_samples)).astype(np.float32)


def plain_log_mel(waveform: np.ndarray) -> np.ndarray:
    """The definition in float64: every frame, every frequency and every mel bin by itself."""
    padded = np.pad(waveform.astype(np.float64), 256, mode="reflect")
    time = np.arange(512)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / 512)
    frequencies = np.arange(257) * 16000 / 512
    waves = np.exp(-2j * np.pi * np.outer(np.arange(257), time) / 512)
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 66) / 2595) - 1)
    decibels = np.empty((1 + len(waveform) // 160, 64))
    for frame in range(len(decibels)):
        power = np.abs(waves @ (window * padded[160 * frame : 160 * frame + 512])) ** 2
        for mel_bin in range(64):
            low, middle, high = corners[mel_bin : mel_bin + 3]
            slopes = np.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle))
            decibels[frame, mel_bin] = 10 * np.log10(max(power @ np.maximum(slopes, 0), 1e-10))
    return np.maximum(decibels, decibels.max() - 120)


# Values


def torchaudio_log_mel(waveform: torch.Tensor, extractor: AtriFeatureExtractor) -> torch.Tensor:
    """The public front end, all frames in one go."""
    spectrum = torch.stft(waveform, 512, 160, window=extractor.window, return_complex=True)
    decibels = (spectrum.abs().square().T @ extractor.mel_filters).clamp(min=1e-10).log10() * 10
    return decibels.clamp(min=decibels.max() - 120)


def assert_equals_public(
    features: np.ndarray, public: np.ndarray, waveform: np.ndarray, extractor: AtriFeatureExtractor
) -> None:
    """As near to the public numbers as plain torch is on this machine: 1e-5 dB where that gives them itself."""
    plain = torchaudio_log_mel(torch.from_numpy(waveform), extractor).numpy()
    np.testing.assert_allclose(features, plain, atol=TOLERANCE, rtol=0)
    of_machine = np.abs(plain - public).max()
    assert of_machine < LARGEST_DIFFERENCE_BETWEEN_MACHINES
    np.testing.assert_allclose(
        features, public, atol=TOLERANCE if of_machine <= TOLERANCE else of_machine + TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("name", CLIPS)
def test_equals_the_public_front_end(extractor, shared_dir, name):
    waveform = np.load(shared_dir / "reference" / "mel_waves.npz")[name]
    expected = np.load(shared_dir / "reference" / "mel_logmel.npz")[name].T
    features = extractor(waveform, sampling_rate=16000).input_features
    assert features.shape == (1, *expected.shape)
    assert_equals_public(features[0], expected, waveform, extractor)


def test_tables_equal_the_public_ones(extractor, shared_dir):
    tables = np.load(shared_dir / "reference" / "mel_filterbank.npz")
    tolerance = 0.0 if HAS_AVX_KERNELS else 2e-5
    np.testing.assert_allclose(extractor.mel_filters.numpy(), tables["fb"], atol=tolerance, rtol=0)
    np.testing.assert_allclose(extractor.window.numpy(), tables["window"], atol=tolerance, rtol=0)


def test_floor_is_taken_per_clip(extractor, shared_dir):
    """The public code takes it over the batch: there a loud clip lifts what a quiet one holds."""
    arrays = np.load(shared_dir / "reference" / "mel_topdb_batch.npz")
    features = extractor(list(arrays["waves"]), sampling_rate=16000).input_features.transpose(0, 2, 1)
    for found, expected, waveform in zip(features, arrays["single"], arrays["waves"], strict=True):
        assert_equals_public(found.T, expected.T, waveform, extractor)
    assert np.abs(features - arrays["batched_3d"]).max() > 20


def test_equals_the_plain_definition(extractor):
    time = np.arange(4000) / 16000
    waveform = (0.5 * np.sin(2 * np.pi * 440 * time) + noise(4000, 0.05)).astype(np.float32)
    features = extractor(waveform, sampling_rate=16000).input_features[0]
    np.testing.assert_allclose(features, plain_log_mel(waveform), atol=5e-3, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2400, 60_000) | st.integers(15, 400).map(lambda frames: 160 * frames),
    st.sampled_from([40, 64, 100]),
    st.sampled_from([1e-6, 1e-5, 0.1, 100.0]),
)
def test_in_blocks_as_in_one_go(num_samples, block_frames, gain):
    extractor, waveform = AtriFeatureExtractor(), torch.from_numpy(noise(num_samples, gain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_extraction_atri, "_BLOCK_FRAMES", num_samples)
        in_one_go = extractor.extract_clip(waveform)
        patch.setattr(feature_extraction_atri, "_BLOCK_FRAMES", block_frames)
        in_blocks = extractor.extract_clip(waveform)
    assert torch.equal(in_blocks, in_one_go)
    # At -80 to -100 dB, the levels of the quietest, float32 holds steps of 7.6e-6 dB: not one is missed by two.
    expected = torchaudio_log_mel(waveform, extractor)
    torch.testing.assert_close(in_one_go, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 1999, 39_999, 40_000 - 160, 40_159])
def test_one_sample_that_is_no_number_is_found(extractor, value, place):
    waveform = noise(40_160)
    waveform[place] = value
    with pytest.raises(ValueError, match="^Cannot use the clip: it holds NaN"):
        extractor.extract_clip(waveform)


def test_a_sampling_rate_that_is_a_float_or_of_numpy_is_taken(extractor):
    waveform = noise(4_000)
    expected = extractor(waveform, sampling_rate=16000).input_features
    for rate in (16000.0, np.int64(16000), np.float32(16000)):
        np.testing.assert_array_equal(extractor(waveform, sampling_rate=rate).input_features, expected)


def test_the_floor_is_that_of_the_loudest_block(extractor, monkeypatch):
    waveform = np.zeros(16_000, dtype=np.float32)
    waveform[8_000] = 1e3
    expected = extractor(waveform, sampling_rate=16000).input_features
    monkeypatch.setattr(feature_extraction_atri, "_BLOCK_FRAMES", 8)
    np.testing.assert_array_equal(extractor(waveform, sampling_rate=16000).input_features, expected)
    assert (expected.min(axis=(0, 2)) == expected.max() - 120).any()


def test_silence_and_dynamic_range(extractor):
    silence = np.zeros(3000, dtype=np.float32)
    assert (extractor(silence, sampling_rate=16000).input_features == -100).all()
    click = silence.copy()
    click[0] = 1.0
    features = AtriFeatureExtractor(top_db=30.0)(click, sampling_rate=16000).input_features
    assert features.max() - features.min() == pytest.approx(30.0, abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(2400, 9000), st.sampled_from([1e-4, 0.1, 10.0])), min_size=1, max_size=5))
def test_a_clip_never_sees_its_neighbours(clips):
    extractor = AtriFeatureExtractor()
    waveforms = [noise(length, gain) for length, gain in clips]
    batch = extractor(waveforms, sampling_rate=16000)
    for index, waveform in enumerate(waveforms):
        alone = extractor(waveform, sampling_rate=16000).input_features[0]
        assert len(alone) == extractor.num_frames(len(waveform)) == batch.input_features_mask[index].sum()
        np.testing.assert_array_equal(batch.input_features[index, : len(alone)], alone)
        assert (batch.input_features[index, len(alone) :] == 0).all()
        assert batch.input_features_mask[index].tolist() == sorted(batch.input_features_mask[index], reverse=True)


# Kinds of input and output


def test_arrays_tensors_and_lists_are_one(extractor):
    waveform = noise(2500)
    expected = extractor(waveform, sampling_rate=16000).input_features
    read_only, every_second = waveform.copy(), np.repeat(waveform, 2)
    read_only.flags.writeable = False
    for clip in (
        waveform.astype(np.float64),
        waveform.tolist(),
        torch.from_numpy(waveform),
        torch.from_numpy(waveform).requires_grad_(),
        read_only,
        every_second[::2],
        waveform[::-1].copy()[::-1],
    ):
        for audio in (clip, [clip], (clip,)):
            np.testing.assert_array_equal(extractor(audio, sampling_rate=16000).input_features, expected)


def test_tensors_and_arrays_are_returned(extractor):
    clips = [noise(3000), noise(4000)]
    arrays = extractor(clips, sampling_rate=16000)
    tensors = extractor(clips, sampling_rate=16000, return_tensors="pt")
    lists = extractor(clips, sampling_rate=16000, padding=False)
    assert list(tensors) == list(arrays) == ["input_features", "input_features_mask"]
    assert (arrays.input_features.dtype, arrays.input_features_mask.dtype) == (np.float32, np.int64)
    assert (tensors.input_features.dtype, tensors.input_features_mask.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(tensors.input_features.numpy(), arrays.input_features)
    assert [item.shape for item in lists.input_features] == [(19, 64), (26, 64)]
    np.testing.assert_array_equal(lists.input_features[0], arrays.input_features[0, :19])
    longest = extractor(clips, sampling_rate=16000, padding="longest")
    np.testing.assert_array_equal(longest.input_features, arrays.input_features)


def test_short_clips_are_padded_when_asked(extractor):
    short = noise(100)
    with pytest.raises(
        ValueError, match=r"Clip 1: it is too short \(100 samples .* at least 2400 samples \(0.15 s\). Pass pad_short"
    ):
        extractor([noise(2400), short], sampling_rate=16000)
    padded = extractor(short, sampling_rate=16000, pad_short=True).input_features
    by_hand = extractor(np.pad(short, (0, 2300)), sampling_rate=16000).input_features
    np.testing.assert_array_equal(padded, by_hand)
    assert padded.shape == (1, 16, 64)
    assert extractor(noise(2400), sampling_rate=16000, pad_short=True).input_features.shape == (1, 16, 64)


# Threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_clips_that_are_read_are_worked_on_at_the_same_time(extractor, two_threads):
    clips = [noise(50_000), noise(40_000), noise(60_001), noise(2400)]
    together = threading.Barrier(2)

    def read(clip):
        together.wait(timeout=60)  # for another clip
        assert torch.get_num_threads() == 1
        return clip

    found = extractor([partial(read, clip) for clip in clips], sampling_rate=16000)
    expected = extractor(clips, sampling_rate=16000)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    alone = extractor(lambda: clips[0], sampling_rate=16000).input_features
    np.testing.assert_array_equal(alone[0], expected.input_features[0, : alone.shape[1]])


def test_the_first_unfit_clip_is_named_whichever_comes_first(extractor, two_threads):
    unfit = np.full(100_000, np.nan, dtype=np.float32)
    clips = [noise(100_000), noise(800_000), unfit, noise(100_000), unfit[:0], noise(100_000)]
    for _ in range(5):
        with pytest.raises(ValueError, match="Clip 2: it holds NaN"):
            extractor([partial(np.copy, clip) for clip in clips], sampling_rate=16000)


# Errors


@pytest.mark.parametrize(
    "audio, message",
    [
        (np.zeros(0, dtype=np.float32), "Clip 0: it holds no samples"),
        (np.full(3000, np.nan, dtype=np.float32), "Clip 0: it holds NaN or infinite samples"),
        ([noise(3000), np.full(3000, np.inf)], "Clip 1: it holds NaN or infinite samples"),
        (
            np.full(3000, 1e18),
            "Clip 0: it has samples up to 1e\\+18, whose power is infinite in float32. Full scale is 1.0",
        ),
        (np.full(3000, 1e300), "Clip 0: it holds NaN or infinite samples"),  # in float32
        (
            np.zeros((2, 3000), dtype=np.float32),
            r"shape \(2, 3000\) could be a batch or one clip with several channels",
        ),
        (torch.zeros(1, 3000), r"shape \(1, 3000\) could be a batch"),
        ([noise(3000), np.zeros((3000, 2), dtype=np.float32)], r"Clip 1: it has the shape \(3000, 2\).* Transpose it"),
        (np.float32(0.5), r"Clip 0: it has the shape \(\)"),
        (np.zeros(3000, dtype=np.uint8), "Clip 0: it holds uint8 samples. Pass floats with full scale at 1.0, or"),
        ([0] * 3000, "Clip 0: it holds int64 samples"),
        (np.zeros(3000, dtype=np.complex64), "Clip 0: it holds complex64 samples"),
        ([], "No clip was given"),
        ("dog.wav", r"There is no audio file 'dog\.wav'"),
        ({"file": noise(3000)}, "An audio dict needs `array`"),
        ([noise(3000), None], "Clip 1 is a NoneType"),
        ([[0.1, 0.2], [[0.1], [0.2, 0.3]]], "Clip 1: it is a list of unequal rows"),
    ],
    ids=lambda value: None if not isinstance(value, str) else "",
)
def test_unfit_clips(extractor, audio, message):
    with pytest.raises(ValueError, match=message):
        extractor(audio, sampling_rate=16000, pad_short=message.startswith("Clip 1: it is a list"))


def test_another_sampling_rate(extractor):
    with pytest.raises(ValueError, match=r"44100 Hz, but the model was trained at 16000 Hz. Pass each as"):
        extractor(noise(3000), sampling_rate=44100)


def test_no_sampling_rate_warns(extractor, monkeypatch):
    warnings = []
    monkeypatch.setattr(clip_features_atri.logger, "warning_once", warnings.append)
    extractor(noise(3000), sampling_rate=16000)
    assert not warnings
    extractor(noise(3000))
    assert len(warnings) == 1
    assert "Pass `sampling_rate` to AtriFeatureExtractor" in warnings[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"truncation": True}, r"Unknown arguments \['truncation'\]"),
        ({"padding": "max_length"}, "`padding` must be True, 'longest' or False, got 'max_length'"),
        ({"padding": False, "return_tensors": "pt"}, "`return_tensors` needs clips of one length"),
    ],
)
def test_unfit_arguments(extractor, arguments, message):
    with pytest.raises(ValueError, match=message):
        extractor(noise(3000), sampling_rate=16000, **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"frequency_max": 9000.0}, r"`frequency_max` \(9000.0 Hz\) is above half the sampling rate \(8000.0 Hz\)"),
        ({"min_num_samples": 256}, r"`min_num_samples` \(256\) must be above n_fft // 2 \(256\)"),
    ],
)
def test_settings_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        AtriFeatureExtractor(**arguments)


# Files


def test_save_and_load(tmp_path):
    extractor = AtriFeatureExtractor(hop_length=200, top_db=80.0, frequency_min=50.0)
    extractor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["feature_extractor_type"] == "AtriFeatureExtractor"
    assert not {"window", "mel_filters", "mel_bands"} & saved.keys()
    waveform = noise(4000)
    expected = extractor(waveform, sampling_rate=16000).input_features
    for loaded in (AtriFeatureExtractor.from_pretrained(tmp_path), AutoFeatureExtractor.from_pretrained(tmp_path)):
        assert type(loaded) is AtriFeatureExtractor
        assert loaded.to_dict() == extractor.to_dict()
        np.testing.assert_array_equal(loaded(waveform, sampling_rate=16000).input_features, expected)


def test_copies_and_pickles_give_the_same_features(extractor):
    waveform = noise(4000)
    expected = extractor.extract_clip(waveform)
    for other in (copy.deepcopy(extractor), pickle.loads(pickle.dumps(extractor))):
        assert other.to_dict() == extractor.to_dict()
        assert torch.equal(other.extract_clip(waveform), expected)


# Collators


def single_clips(extractor, lengths=(4000, 16000, 2400), **kwargs) -> list[dict]:
    waveforms = [(0.1 * np.random.randn(length)).astype(np.float32) for length in lengths]
    batches = [extractor(waveform, sampling_rate=16000, **kwargs) for waveform in waveforms]
    return [{name: value[0] for name, value in batch.items()} for batch in batches]


@pytest.mark.parametrize("return_tensors", ["pt", "np", None])
@pytest.mark.parametrize("form", ["with masks", "features alone", "dict of lists", "lists", "batches of one"])
def test_pad_stacks_single_clips_with_their_mask(extractor, form, return_tensors):
    items = single_clips(extractor)
    features = [torch.from_numpy(item["input_features"]) for item in items]
    expected, expected_mask = extractor.pad_features(features)
    given = {
        "with masks": items,
        "features alone": [{"input_features": item["input_features"]} for item in items],
        "dict of lists": {"input_features": [item["input_features"] for item in items]},
        "lists": [{"input_features": item["input_features"].tolist()} for item in items],
        "batches of one": [{"input_features": item[None]} for item in features],
    }[form]
    batch = extractor.pad(given, return_tensors=return_tensors)
    assert list(batch) == ["input_features", "input_features_mask"]
    is_torch = return_tensors == "pt" or (return_tensors is None and form == "batches of one")
    assert all(torch.is_tensor(value) == is_torch for value in batch.values())
    assert torch.equal(torch.as_tensor(batch["input_features"]), expected)
    assert torch.equal(torch.as_tensor(batch["input_features_mask"]), expected_mask)


@pytest.mark.parametrize(
    "options, width, lengths",
    [
        ({"padding": "longest"}, 101, [26, 101, 16]),
        ({"pad_to_multiple_of": 8}, 104, [26, 101, 16]),
        ({"padding": "max_length", "max_length": 150}, 150, [26, 101, 16]),
        ({"padding": "max_length", "max_length": 150, "pad_to_multiple_of": 64}, 192, [26, 101, 16]),
        ({"padding": "max_length", "max_length": 40, "truncation": True}, 40, [26, 40, 16]),
        ({"max_length": 40, "truncation": True}, 40, [26, 40, 16]),
        ({"max_length": 41, "truncation": True, "pad_to_multiple_of": 4}, 44, [26, 44, 16]),
    ],
)
def test_options_of_pad(extractor, options, width, lengths):
    items = single_clips(extractor)
    batch = extractor.pad(items, return_tensors="pt", **options)
    assert batch["input_features"].shape == (3, width, 64)
    assert batch["input_features_mask"].sum(dim=1).tolist() == lengths
    for item, length, features, mask in zip(items, lengths, *batch.values(), strict=True):
        assert mask[:length].all()
        np.testing.assert_array_equal(features[:length], item["input_features"][:length])
        assert (features[length:] == extractor.padding_value).all()
    assert list(extractor.pad(items, return_attention_mask=False, **options)) == ["input_features"]


def test_padding_that_is_there_already_is_no_sound(extractor):
    items = single_clips(extractor)
    batch = extractor.pad(items, return_tensors="pt")
    again = [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
    shortest = extractor.pad(again[::2])
    assert torch.equal(shortest["input_features"], extractor.pad(items[::2], return_tensors="pt")["input_features"])
    assert shortest["input_features_mask"].sum(dim=1).tolist() == [26, 16]


def test_collators_of_transformers(extractor):
    items = [item | {"label": number} for number, item in enumerate(single_clips(extractor))]
    batch = DataCollatorWithPadding(extractor, pad_to_multiple_of=8)(items)
    assert batch["labels"].tolist() == [0, 1, 2]
    assert batch["input_features"].shape == (3, 104, 64)
    assert batch["input_features_mask"].sum(dim=1).tolist() == [26, 101, 16]


@pytest.mark.parametrize("options", [{"padding": False}, {"padding": "max_length", "max_length": 4}])
def test_clips_that_keep_several_lengths_are_lists(extractor, options):
    clips = [np.full((length, 64), float(length), np.float32) for length in (4, 5)]
    batch = extractor.pad([{"input_features": clip} for clip in clips], **options)
    for found, expected in zip(batch["input_features"], clips, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [mask.tolist() for mask in batch["input_features_mask"]] == [[1] * 4, [1] * 5]


@pytest.mark.parametrize(
    "items, options, message",
    [
        ([], {}, "no `input_features` to pad, only nothing"),
        ([{"labels": 1}], {}, r"no `input_features` to pad, only \['labels'\]"),
        (
            [{"input_features": np.zeros((20, 64)), "attention_mask": np.ones(20)}],
            {},
            "clips is `input_features_mask`",
        ),
        ([{"input_features": np.zeros((20, 32))}], {}, r"clip 0 have the shape \(20, 32\), but .* \(frames, 64\)"),
        ([{"input_features": np.zeros(64)}], {}, r"have the shape \(64,\)"),
        ([{"input_features": np.zeros((4, 64)), "input_features_mask": [0, 1, 1, 1]}], {}, "must be 1 on its first"),
        ([{"input_features": np.zeros((4, 64)), "input_features_mask": [1, 1]}], {}, "each of the 4 frames"),
        (
            [{"input_features": torch.zeros(4, 64)}, {"input_features": torch.zeros(5, 64)}],
            {"padding": False},
            "Clips of 4 to 5 frames cannot be stacked",
        ),
        (
            [{"input_features": np.zeros((4, 64))}, {"input_features": np.zeros((5, 64))}],
            {"padding": "max_length", "max_length": 4, "return_tensors": "pt"},
            "Pass padding=True, or padding='max_length' with `max_length` and truncation=True",
        ),
        ([{"input_features": np.zeros((4, 64))}, {"input_ids": [1]}], {}, "have different keys"),
        ([{"input_features": np.zeros((4, 64))}], {"truncation": True}, "need `max_length`"),
    ],
)
def test_what_cannot_be_padded(extractor, items, options, message):
    with pytest.raises(ValueError, match=message):
        extractor.pad(items, **options)


def test_the_mask_can_be_left_out_and_named_wrongly(extractor):
    clip = np.ones(4000, np.float32)
    for padding in (True, False):
        assert list(extractor(clip, 16000, padding=padding, return_attention_mask=False)) == ["input_features"]
        assert len(extractor(clip, 16000, padding=padding, return_attention_mask=True)) == 2
    with pytest.raises(ValueError, match="Unknown arguments .'attention_mask'.*called `input_features_mask`"):
        extractor(clip, 16000, attention_mask=np.ones(4000))
