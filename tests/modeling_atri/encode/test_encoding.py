import _thread
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_atri import AtriModel
from modeling_atri.encode.encoding import AudioFailure, encode_audio, encode_text
from tests.helpers.forks import check_call
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.fixture
def clips() -> list[np.ndarray]:
    """From short to longer than a chunk, quiet and loud, in no order."""
    seconds_and_gains = [(1.0, 0.1), (0.15, 0.5), (11.0, 0.01), (0.5, 0.9), (3.0, 0.001), (0.2, 0.1), (1.0, 0.3)]
    return [(gain * np.random.randn(int(16000 * s))).astype(np.float32) for s, gain in seconds_and_gains]


def one_by_one(model, processor, clips: list[np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        inputs = [processor(audio=clip, sampling_rate=16000) for clip in clips]
        return np.concatenate([model.get_audio_features(**item).pooler_output.numpy() for item in inputs])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_clips_in_batches_equal_clips_alone(model, processor, clips, batch_size):
    embeddings = encode_audio(model, processor, clips, sampling_rate=16000, batch_size=batch_size)
    assert (embeddings.shape, embeddings.dtype) == ((7, 12), np.float32)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_more_clips_than_are_read_ahead_from_a_generator(model, processor):
    clips = [(0.1 * np.random.randn(2400 + 37 * index)).astype(np.float32) for index in np.random.permutation(40)]
    embeddings = encode_audio(model, processor, (clip for clip in clips), sampling_rate=16000, batch_size=2)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_workers, num_ahead", [(0, 0), (3, 2 + 2 * 3)])
def test_reads_a_generator_bit_by_bit(model, processor, num_workers, num_ahead):
    read = []

    def generator():
        for index in range(200):
            read.append(index)
            yield np.full(2400, np.nan if index == 35 else 0.1, dtype=np.float32)

    with pytest.raises(ValueError, match="^Cannot use Clip 35: .*NaN"):
        encode_audio(model, processor, generator(), sampling_rate=16000, batch_size=2, num_workers=num_workers)
    assert 36 <= len(read) <= 36 + num_ahead


def test_the_number_of_threads_changes_no_bit(model, processor):
    lengths = np.random.permutation([2400 + 97 * index for index in range(60)] + [16000 * 25])
    clips = [(0.1 * np.random.randn(length)).astype(np.float32) for length in lengths]
    one, *others = (
        encode_audio(model, processor, clips, sampling_rate=16000, batch_size=3, num_workers=num_workers)
        for num_workers in (0, 1, 5)
    )
    for other in others:
        np.testing.assert_array_equal(other, one)


def test_clips_are_read_at_the_same_time(model, processor):
    together = threading.Barrier(3)

    def read(clip):
        together.wait(timeout=60)  # for two others
        return torch.zeros(16, 64)

    assert encode_audio(model, processor, range(6), read_features=read, num_workers=3).shape == (6, 12)


@pytest.fixture
def torch_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where a shell that started the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_threads_are_gone_and_torch_as_before_however_it_ends(model, processor, torch_threads, interruptible):
    def interrupting(clip):
        if clip == 7:
            _thread.interrupt_main()  # what Ctrl-C does
        return torch.zeros(16, 64)

    def state():
        found = [threading.active_count(), torch.get_num_threads()]
        other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))  # torch's default
        other.start()
        other.join()
        return found

    torch.set_num_threads(2)
    before = state()
    encode_audio(model, processor, [np.zeros(2400, np.float32)] * 9, sampling_rate=16000, num_workers=2)
    assert state() == before
    with pytest.raises(KeyboardInterrupt):
        # More than ever is read before the interrupt is noticed, which is at the next step of the main thread.
        encode_audio(model, processor, range(100_000), read_features=interrupting, num_workers=2)
    assert state() == before


@pytest.fixture
def forward_sizes(model):
    """Chunks of each pass through the audio tower."""
    sizes = []
    hook = model.audio_model.layers[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    yield sizes
    hook.remove()


# In frames: around whole chunks, and a last chunk of less than a patch
@pytest.mark.parametrize("num_frames", [1013, 2024, 2025, 3036, 3050, 5 * 1012 + 3, 9 * 1012 - 1])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_long_clip_in_pieces_equals_it_in_one_go(model, processor, forward_sizes, num_frames, batch_size):
    features = -20 + 15 * torch.randn(num_frames, 64)
    with torch.no_grad():
        expected = model.get_audio_features(features[None]).pooler_output.numpy()
    assert forward_sizes == [-(-num_frames // 1012)]
    embeddings = encode_audio(model, processor, [0], read_features=lambda _: features, batch_size=batch_size)
    np.testing.assert_allclose(embeddings, expected, atol=1e-6, rtol=0)
    assert sum(forward_sizes[1:]) == forward_sizes[0]
    assert max(forward_sizes[1:]) <= max(batch_size, 2)


@settings(max_examples=30, deadline=None)
@given(num_frames=st.integers(1013, 9000), max_frames=st.sampled_from([48, 333, 1500]), batch_size=st.integers(1, 5))
def test_pieces_of_any_model_and_length(num_frames, max_frames, batch_size):
    model, processor = tiny_model(max_frames=max_frames, num_hidden_layers=1), tiny_processor()
    features = -20 + 15 * torch.randn(num_frames, 64, generator=torch.Generator().manual_seed(num_frames))
    with torch.no_grad():
        expected = model.get_audio_features(features[None]).pooler_output.numpy()
    embeddings = encode_audio(model, processor, [0], read_features=lambda _: features, batch_size=batch_size)
    np.testing.assert_allclose(embeddings, expected, atol=1e-6, rtol=0)


def test_long_clips_among_short_ones_do_not_swell_a_batch(model, processor, forward_sizes):
    lengths = [50, 3 * 1012, 20, 100, 30 * 1012 + 5, 1013, 2 * 1012, 60, 1012, 40, 3000, 700]
    features = [-20 + 15 * torch.randn(length, 64) for length in lengths]
    embeddings = encode_audio(model, processor, range(12), read_features=features.__getitem__, batch_size=4)
    assert max(forward_sizes) <= 4
    with torch.no_grad():
        alone = [model.get_audio_features(item[None]).pooler_output.numpy() for item in features]
    np.testing.assert_allclose(embeddings, np.concatenate(alone), atol=1e-5, rtol=0)


def test_sources_of_audio(model, processor, clips, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, clips[0], 16000, subtype="FLOAT")
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([clips[0], clips[0]], axis=1), 16000, subtype="FLOAT")
    audios = [
        path,
        str(path),
        path.read_bytes(),
        stereo,
        {"path": str(path), "bytes": None},
        {"array": clips[0], "sampling_rate": 16000},
        {"audio": {"path": str(path), "bytes": None}, "audio_id": "a row"},
        clips[0],
        torch.from_numpy(clips[0]),
    ]
    embeddings = encode_audio(model, processor, audios, sampling_rate=16000)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips[:1]).repeat(9, axis=0), atol=1e-5)


@pytest.mark.parametrize("container", [np.array, lambda paths: np.array(paths, dtype=object), pd.Series])
def test_arrays_and_columns_of_paths(model, processor, clips, tmp_path, container):
    paths = [str(tmp_path / f"{index}.wav") for index in range(2)]
    for path, clip in zip(paths, clips, strict=False):
        soundfile.write(path, clip, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(
        encode_audio(model, processor, container(paths)), encode_audio(model, processor, paths)
    )


def test_features_from_elsewhere(model, processor, clips):
    features = {str(index): processor.feature_extractor.extract_clip(clip) for index, clip in enumerate(clips)}
    embeddings = encode_audio(model, processor, list(features), read_features=features.__getitem__, batch_size=3)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_captions_in_batches_equal_captions_alone(model, processor, batch_size):
    captions = [*CAPTIONS.values(), "rain", "a dog " * 40]
    languages = [*CAPTIONS, "fr", "German"]
    embeddings = encode_text(model, processor, captions, languages, batch_size=batch_size)
    assert (embeddings.shape, embeddings.dtype) == ((10, 12), np.float32)
    for caption, language, embedding in zip(captions, languages, embeddings, strict=True):
        with torch.no_grad():
            alone = model.get_text_features(**processor(text=caption, language=language)).pooler_output[0]
        np.testing.assert_allclose(embedding, alone.numpy(), atol=1e-5, rtol=0)


def test_one_language_for_all_captions(model, processor):
    captions = ["a dog", "a much longer caption", "rain"]
    in_french = encode_text(model, processor, captions, "fr", batch_size=2)
    np.testing.assert_array_equal(in_french, encode_text(model, processor, captions, ["fr"] * 3, batch_size=2))
    default = encode_text(model, processor, captions)
    np.testing.assert_allclose(default, encode_text(model, processor, captions, "en"), atol=1e-6)
    assert np.abs(default - in_french).max() > 1e-3
    np.testing.assert_allclose(encode_text(model, processor, "a dog"), default[:1], atol=1e-5)


def test_nothing_to_encode(model, processor):
    for nothing in (
        encode_audio(model, processor, [], sampling_rate=16000),
        encode_text(model, processor, []),
        encode_text(model, processor, [], "fr"),
        encode_text(model, processor, [], []),
    ):
        assert (nothing.shape, nothing.dtype) == ((0, 12), np.float32)


def test_errors_call_clips_by_path_number_or_given_name(model, processor, tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(100, dtype=np.float32), 16000)
    for audio in (path, str(path), {"path": str(path), "bytes": None}):
        with pytest.raises(ValueError, match=rf"'{path}': it is too short \(100 samples"):
            encode_audio(model, processor, [audio])
    with pytest.raises(ValueError, match="Clip 0: it is too short"):
        encode_audio(model, processor, [path.read_bytes()])
    with pytest.raises(ValueError, match="^Row 'x': .* it is too short"):
        encode_audio(model, processor, [path], names=["Row 'x'"])
    with pytest.raises(ValueError, match="^b: no good$"):
        encode_audio(model, processor, [np.ones((16, 64)), path], read_features=_read_arrays, names="ab")


def _read_arrays(audio):
    if isinstance(audio, Path):
        raise ValueError("no good")
    return torch.tensor(audio, dtype=torch.float32)


def test_modes_of_training_are_put_back(processor, clips):
    model = tiny_model(patch_dropout=0.5).train()
    model.text_model.eval()
    before = [module.training for module in model.modules()]
    first = encode_audio(model, processor, clips[:2], sampling_rate=16000)
    np.testing.assert_array_equal(first, encode_audio(model, processor, clips[:2], sampling_rate=16000))
    encode_text(model, processor, "a dog")
    assert [module.training for module in model.modules()] == before
    with pytest.raises(ValueError, match="too short"):
        encode_audio(model, processor, [np.zeros(100, np.float32)], sampling_rate=16000)
    assert [module.training for module in model.modules()] == before


def model_with_dropout() -> AtriModel:
    model = tiny_model(patch_dropout=0.5, hidden_dropout=0.5).train()
    for module in model.text_model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.5
    return model


def test_threads_with_different_settings_on_a_model_in_training_mode(processor, clips):
    model = model_with_dropout()
    captions, languages = list(CAPTIONS.values()) * 4, list(CAPTIONS)
    jobs = [{"language": language, "batch_size": 3 + number} for number, language in enumerate(languages)]
    expected = [encode_text(model, processor, captions, **job) for job in jobs]
    expected_audio = encode_audio(model, processor, clips[:2], sampling_rate=16000)

    def encode(number: int) -> bool:
        kind = number % 9
        if kind == 8:
            found = encode_audio(model, processor, clips[:2], sampling_rate=16000)
            return bool(np.allclose(found, expected_audio, atol=1e-6))
        processor(text=captions, language="ja", max_length=4, padding="max_length")
        return bool(np.allclose(encode_text(model, processor, captions, **jobs[kind]), expected[kind], atol=1e-6))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(encode, range(72)))  # 2,064 rows
    assert all(module.training for module in model.modules())


def test_the_callers_state_of_torch_is_left_alone(processor, clips):
    model, captions = model_with_dropout(), list(CAPTIONS.values())
    state = torch.get_rng_state()
    for grad in (True, False):
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
            encode_text(model, processor, captions)
            encode_audio(model, processor, clips[:2], sampling_rate=16000)
            assert torch.is_grad_enabled() is grad
            assert torch.is_autocast_enabled("cpu")
            assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_progress_is_shown_only_when_asked(model, processor, clips, capsys):
    encode_audio(model, processor, clips[:2], sampling_rate=16000)
    encode_text(model, processor, "a dog")
    assert capsys.readouterr() == ("", "")
    encode_audio(model, processor, clips[:2], sampling_rate=16000, progress=True)
    encode_text(model, processor, ["a dog", "rain"], progress=True)
    shown = capsys.readouterr().err
    assert "clips: 100%" in shown
    assert "captions: 100%" in shown


def good() -> np.ndarray:
    return np.zeros(4000, np.float32)


@pytest.mark.parametrize(
    "audios, arguments, message",
    [
        (
            [good()],
            {"sampling_rate": None},
            "Clip 0: it is a waveform without its sampling rate. Pass that",
        ),
        ([good(), np.zeros(100, np.float32)], {}, r"Clip 1: it is too short \(100 samples"),
        ([good(), Path("no_such_file.wav")], {}, "no_such_file.wav"),
        (good(), {}, r"`audios` is one clip \(ndarray\). Pass a list of clips"),
        ("clip.wav", {}, r"`audios` is one clip \(str\)"),
        ({"array": good(), "sampling_rate": 16000}, {}, r"`audios` is one clip \(dict\)"),
        ([good()], {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ([good(), good()], {"names": ["a"]}, "1 names were given for 2 clips"),
    ],
)
def test_clips_that_do_not_fit(model, processor, audios, arguments, message):
    with pytest.raises(ValueError, match=message):
        encode_audio(model, processor, audios, **({"sampling_rate": 16000} | arguments))


@pytest.mark.parametrize(
    "language, message",
    [
        ("frensh", "Unknown language 'frensh'. Did you mean"),
        (["fr"], "1 languages were given for 2 captions"),
        ([None, "fr"], "None is a NoneType"),
        (["fr", None], "None is a NoneType"),
    ],
)
def test_languages_that_do_not_fit(model, processor, language, message):
    with pytest.raises(ValueError, match=message):
        encode_text(model, processor, ["a dog", "rain"], language)


def test_short_clips_are_padded_when_asked(model, processor):
    short = (0.1 * np.random.randn(800)).astype(np.float32)
    embeddings = encode_audio(model, processor, [short], sampling_rate=16000, pad_short=True)
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, [np.pad(short, (0, 1600))]), atol=1e-6)


def test_what_is_skipped_is_told(model, processor, clips, tmp_path, caplog):
    missing, text, good = tmp_path / "missing.wav", tmp_path / "text.wav", tmp_path / "good.wav"
    text.write_text("no sound")
    soundfile.write(good, clips[0], 16000, subtype="FLOAT")
    audios = [
        missing,
        good,
        np.full(4000, np.nan, np.float32),
        str(text),
        good,
        np.zeros(100, np.float32),
        b"",
        b"abc",
    ]
    with caplog.at_level("WARNING", logger="modeling_atri"):
        embeddings, failures = encode_audio(model, processor, iter(audios), 16000, batch_size=2, on_error="skip")
    assert [failure.index for failure in failures] == [0, 2, 3, 5, 6, 7]
    assert [failure.name for failure in failures] == [str(missing), "Clip 2", str(text), "Clip 5", "Clip 6", "Clip 7"]
    reasons = ["no audio file", "NaN", "Cannot decode", "too short", "0 bytes", "Cannot decode"]
    assert all(reason in failure.reason for reason, failure in zip(reasons, failures, strict=True))
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips[:1]).repeat(2, axis=0), atol=1e-5)
    kept = np.delete(np.arange(8), [failure.index for failure in failures])
    assert kept.tolist() == [1, 4]


def test_skipping_where_nothing_or_everything_fails(model, processor, clips):
    embeddings, failures = encode_audio(model, processor, clips, 16000, on_error="skip")
    np.testing.assert_array_equal(embeddings, encode_audio(model, processor, clips, 16000))
    assert failures == []
    embeddings, failures = encode_audio(model, processor, [b""] * 40, batch_size=2, names="x" * 40, on_error="skip")
    assert embeddings.shape == (0, 12)
    assert failures == [AudioFailure(index, "x", "Cannot decode the clip: there are 0 bytes.") for index in range(40)]


def test_only_faults_of_a_clip_are_skipped(model, processor):
    def broken(clip):
        raise KeyError("a fault of the program")

    with pytest.raises(KeyError):
        encode_audio(model, processor, ["a"], read_features=broken, on_error="skip")

    def interrupted():
        yield np.zeros(4000, np.float32)
        raise ValueError("a fault of the caller's generator")

    with pytest.raises(ValueError, match="generator"):
        encode_audio(model, processor, interrupted(), 16000, on_error="skip")


@pytest.mark.parametrize("as_iterable", [list, iter])
def test_embeddings_on_disk(model, processor, clips, tmp_path, as_iterable):
    out = tmp_path / "audio.npy"
    clips *= 6
    embeddings = encode_audio(model, processor, as_iterable(clips), 16000, batch_size=2, out=out)
    assert isinstance(embeddings, np.memmap)
    np.testing.assert_array_equal(embeddings, encode_audio(model, processor, clips, 16000, batch_size=2))
    np.testing.assert_array_equal(np.load(out), embeddings)
    with pytest.raises(ValueError, match="too short"):
        encode_audio(model, processor, as_iterable([*clips, np.zeros(9, np.float32)]), 16000, batch_size=2, out=out)
    np.testing.assert_array_equal(np.load(out), embeddings)  # what was there before
    kept, failures = encode_audio(model, processor, as_iterable([b"", *clips]), 16000, 2, on_error="skip", out=out)
    assert kept.shape == embeddings.shape
    assert len(failures) == 1
    texts = ["a dog", "rain", "un chien"] * 11
    embeddings = encode_text(model, processor, as_iterable(texts), "fr", batch_size=1, out=tmp_path / "text.npy")
    np.testing.assert_array_equal(embeddings, encode_text(model, processor, texts, "fr", batch_size=1))
    assert encode_text(model, processor, [], out=out).shape == (0, 12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio.npy", "text.npy"]


@pytest.mark.parametrize("name", ["audio", "audio.npz", "no_such_folder/audio.npy", "."])
def test_output_that_cannot_be(model, processor, name, tmp_path):
    with pytest.raises(ValueError, match="`out` must name a .npy file"):
        encode_text(model, processor, ["a dog"], out=tmp_path / name)


def test_captions_from_generators_and_pairs(model, processor):
    captions, languages = list(CAPTIONS.values()) * 5, list(CAPTIONS) * 5
    expected = encode_text(model, processor, captions, languages, batch_size=2)
    pairs = list(zip(captions, languages, strict=True))
    for given_texts, given_languages in ((iter(captions), iter(languages)), (pairs, None), (iter(pairs), None)):
        embeddings = encode_text(model, processor, given_texts, given_languages, batch_size=2)
        np.testing.assert_array_equal(embeddings, expected)


def test_long_captions_do_not_swell_a_batch(model, processor):
    sizes = []
    hook = model.text_model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    captions = ["a dog " * count for count in (1, 200, 2, 60, 1, 1, 90, 300, 4, 5, 200)]
    embeddings = encode_text(model, processor, captions, "en", batch_size=5)
    hook.remove()
    assert max(rows * -(-tokens // 128) for rows, tokens in sizes) <= 5
    assert sum(rows for rows, _ in sizes) == len(captions)
    with torch.no_grad():
        alone = [model.get_text_features(**processor(text=text, language="en")).pooler_output for text in captions]
    np.testing.assert_allclose(embeddings, torch.cat(alone).numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "texts, language, message",
    [
        (["a dog", 3], None, "Caption 1 is a int, not a string"),
        ([("a dog", "fr"), "rain"], None, "Caption 1 comes without a language"),
        (["rain", ("a dog", "fr")], None, "Caption 1 comes with a language"),
        ([("a dog", "frensh")], None, "Unknown language 'frensh'"),
        ([("a dog", "fr")], "en", "Caption 0 is a tuple"),
        (iter(["a dog", "rain"]), ["fr"], "shorter"),
    ],
)
def test_captions_that_do_not_fit(model, processor, texts, language, message):
    with pytest.raises(ValueError, match=message):
        encode_text(model, processor, texts, language)


def test_models_that_are_no_module(model, processor, clips):
    """What an ONNX runtime class offers."""
    no_grad = torch.no_grad()
    other = SimpleNamespace(
        get_audio_features=no_grad(model.get_audio_features),
        get_text_features=no_grad(model.get_text_features),
        config=SimpleNamespace(projection_dim=12),
        device=torch.device("cpu"),
    )
    np.testing.assert_array_equal(
        encode_audio(other, processor, clips, 16000), encode_audio(model, processor, clips, 16000)
    )
    embeddings = encode_audio(other, processor, clips, 16000, batch_size=1)  # a long clip, which stays whole here
    np.testing.assert_allclose(embeddings, one_by_one(model, processor, clips), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(
        encode_text(other, processor, ["a dog"], "fr"), encode_text(model, processor, ["a dog"], "fr")
    )


def test_models_with_adapters(processor, clips):
    peft = pytest.importorskip("peft", reason="needs the extra `peft`")
    config = peft.LoraConfig(target_modules=["q_proj", "fc1"], init_lora_weights=False, lora_dropout=0.5)
    adapted = peft.get_peft_model(tiny_model(), config).train()
    before = [module.training for module in adapted.modules()]
    embeddings = encode_audio(adapted, processor, clips, 16000, batch_size=1)
    text = encode_text(adapted, processor, ["a dog"], "fr")
    assert [module.training for module in adapted.modules()] == before
    merged = adapted.merge_and_unload().eval()
    np.testing.assert_allclose(embeddings, one_by_one(merged, processor, clips), atol=1e-5, rtol=0)
    np.testing.assert_allclose(text, encode_text(merged, processor, ["a dog"], "fr"), atol=1e-5, rtol=0)


def test_half_precision_gives_float32(processor, clips):
    model = tiny_model()
    expected = encode_audio(model, processor, clips, 16000), encode_text(model, processor, ["a dog"])
    for batch_size in (1, 16):  # the long clip in pieces, and whole
        embeddings = encode_audio(model.to(torch.bfloat16), processor, clips, 16000, batch_size=batch_size)
        assert embeddings.dtype == np.float32
        np.testing.assert_allclose(embeddings, expected[0], atol=0.05)
    text = encode_text(model, processor, ["a dog"])
    assert text.dtype == np.float32
    np.testing.assert_allclose(text, expected[1], atol=0.05)


def encode_more_and_more(folder: Path) -> None:
    """Write how much the most memory of this process, in MiB, grows from 500 clips and captions to 3,500."""
    import resource

    model, processor = tiny_model(num_hidden_layers=1), tiny_processor()
    noise = (0.1 * np.random.default_rng(0).standard_normal(32000)).astype(np.float32)
    peaks = []
    for count in (500, 3500):
        clips = (np.roll(noise, index)[: 9600 + 10 * (index % 97)] for index in range(count))
        captions = ((f"a dog barks {index} times " * (1 + index % 7), "en") for index in range(count))
        audio = encode_audio(model, processor, clips, 16000, out=folder / "audio.npy")
        text = encode_text(model, processor, captions, out=folder / "text.npy")
        assert audio.shape == text.shape == (count, 12)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(peaks[1] - peaks[0])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number(tmp_path):
    growth = float(check_call(encode_more_and_more, tmp_path).splitlines()[-1])
    # The features of the 3,000 clips more would be 47 MiB, their waveforms 115.
    assert growth < 30
