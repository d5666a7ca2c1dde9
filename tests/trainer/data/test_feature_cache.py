import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

from modeling_atri import AtriFeatureExtractor
from modeling_atri.long_sounds_atri import LongSound
from modeling_atri.trainer.data.feature_cache import FeatureCache
from tests.helpers import forks
from tests.helpers.tiny import tiny_processor
from tests.modeling_atri.test_sound_files_atri import encoded, without_mp3_header


EXTRACTOR = AtriFeatureExtractor()


def noise(seconds: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=int(16000 * seconds)).astype(np.float32)


def write_sound(path, samples: np.ndarray, rate: int = 16000):
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return str(path)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "features"


def num_kept(folder) -> int:
    return sum(path.stat().st_size // 40 for path in folder.glob("*/*.index"))


@pytest.mark.parametrize("kind", ["path", "path object", "dict", "bytes", "bytes dict", "array"])
def test_equal_to_no_cache_bit_for_bit(tmp_path, folder, kind):
    path = write_sound(tmp_path / "a.wav", noise())
    content = (tmp_path / "a.wav").read_bytes()
    audio = {
        "path": path,
        "path object": tmp_path / "a.wav",
        "dict": {"path": path, "bytes": None},
        "bytes": content,
        "bytes dict": {"path": None, "bytes": content},
        "array": {"array": noise(), "sampling_rate": 16000},
    }[kind]
    plain = FeatureCache(EXTRACTOR)(audio)
    assert torch.equal(plain, EXTRACTOR.extract_clip(noise()))
    cache = FeatureCache(EXTRACTOR, folder)
    made, read = cache(audio), cache(audio)
    assert num_kept(folder) == 1
    for features in (made, read, FeatureCache(EXTRACTOR, folder)(audio)):
        assert features.dtype == torch.float32
        assert torch.equal(features, plain)


def test_a_clip_seen_again_is_read_and_not_made(tmp_path, folder, monkeypatch):
    path = write_sound(tmp_path / "a.wav", noise())
    plain = FeatureCache(EXTRACTOR, folder)(path)

    def refuse(self, audio):
        raise AssertionError("made again")

    monkeypatch.setattr(FeatureCache, "_extract", refuse)
    assert torch.equal(FeatureCache(EXTRACTOR, folder)(path), plain)


def test_features_that_were_read_may_be_changed(tmp_path, folder):
    cache = FeatureCache(EXTRACTOR, folder)
    path = write_sound(tmp_path / "a.wav", noise())
    plain = cache(path).clone()
    cache(path).add_(1)
    assert torch.equal(cache(path), plain)


def test_a_changed_file_has_new_features(tmp_path, folder):
    cache = FeatureCache(EXTRACTOR, folder)
    path = write_sound(tmp_path / "a.wav", noise(seed=0))
    first = cache(path).clone()
    os.utime(path, ns=(1, 1))
    cache(path)
    write_sound(path, noise(seed=1))  # of the same size
    os.utime(path, ns=(2, 2))
    second = cache(path)
    assert torch.equal(second, EXTRACTOR.extract_clip(noise(seed=1)))
    assert not torch.equal(first, second)


def test_clips_and_extractors_have_entries_of_their_own(tmp_path, folder):
    paths = [write_sound(tmp_path / f"{name}.wav", noise()) for name in "ab"]
    other = AtriFeatureExtractor(top_db=40.0)
    for extractor in (EXTRACTOR, other):
        for path in paths:
            features = FeatureCache(extractor, folder)(path)
            assert torch.equal(features, extractor.extract_clip(noise()))
    assert num_kept(folder) == 4
    arrays = [{"array": noise(), "sampling_rate": rate} for rate in (16000, 8000)]
    for audio in arrays:
        FeatureCache(EXTRACTOR, folder)(audio)
    assert num_kept(folder) == 6


def test_a_saved_and_loaded_extractor_finds_the_entries(tmp_path, folder):
    path = write_sound(tmp_path / "a.wav", noise())
    processor = tiny_processor()
    FeatureCache(processor.feature_extractor, folder)(path)
    processor.save_pretrained(tmp_path / "model")
    FeatureCache(processor.feature_extractor, folder)(path)
    loaded = type(processor).from_pretrained(tmp_path / "model")
    FeatureCache(loaded.feature_extractor, folder)(path)
    assert num_kept(folder) == 1


@pytest.mark.parametrize("with_folder", [True, False])
@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("missing.wav", "missing.wav"),
        ({"path": "missing.wav", "bytes": None}, "missing.wav"),
        ({"path": None, "bytes": None}, "`path`"),
        ({"array": noise(0.05), "sampling_rate": 16000}, "too short"),
        ({"array": noise()}, "sampling_rate|source_rate"),
        (b"no sound", "the given 8 bytes"),
        (3, "Audio must be"),
    ],
)
def test_what_cannot_be_read_is_a_value_error(folder, audio, message, with_folder):
    with pytest.raises(ValueError, match=message):
        FeatureCache(EXTRACTOR, folder if with_folder else None)(audio)
    assert not folder.exists() or list(folder.iterdir()) == []


def test_float16_is_rounded_once_and_for_all(tmp_path, folder):
    path = write_sound(tmp_path / "a.wav", noise())
    plain = EXTRACTOR.extract_clip(noise())
    cache = FeatureCache(EXTRACTOR, folder, "float16")
    made, read = cache(path), cache(path)
    assert made.dtype == read.dtype == torch.float32
    assert torch.equal(made, plain.half().float())
    assert torch.equal(read, made)
    assert 0 < (made - plain).abs().max() <= 0.03
    assert torch.equal(FeatureCache(EXTRACTOR, folder)(path), plain), "float32 has entries of its own"
    assert num_kept(folder) == 2


def test_features_that_float16_cannot_hold_are_refused(folder, monkeypatch):
    monkeypatch.setattr(FeatureCache, "_extract", lambda self, audio: torch.full((3, 4), 1e5))
    sound = {"array": noise(), "sampling_rate": 16000}
    with pytest.raises(ValueError, match="too large for float16. Keep them in float32"):
        FeatureCache(EXTRACTOR, folder, "float16")(sound)
    assert num_kept(folder) == 0


def test_another_dtype_is_refused(folder):
    with pytest.raises(ValueError, match="one of float32, float16; got 'int8'"):
        FeatureCache(EXTRACTOR, folder, "int8")


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, folder, monkeypatch):
    path = write_sound(tmp_path / "a.wav", noise())
    extract = FeatureCache._extract

    def change(self, audio):
        features = extract(self, audio)
        write_sound(path, noise(seconds=0.7, seed=1))
        return features

    cache = FeatureCache(EXTRACTOR, folder)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureCache, "_extract", change)
        cache(path)
    assert num_kept(folder) == 0
    assert torch.equal(cache(path), EXTRACTOR.extract_clip(noise(seconds=0.7, seed=1)))


def test_features_of_a_wrong_disk_are_made_again(tmp_path, folder):
    path = write_sound(tmp_path / "a.wav", noise())
    cache = FeatureCache(EXTRACTOR, folder)
    plain = cache(path)
    (shard,) = folder.glob("*/*.arrow")
    content = bytearray(shard.read_bytes())
    content[-1000] ^= 1
    shard.write_bytes(content)
    assert torch.equal(cache(path), plain)
    assert torch.equal(FeatureCache(EXTRACTOR, folder)(path), plain)


def test_excerpts_of_an_mp3_that_states_no_length():
    """It is quiet at first, so that its first frame is small, and its length would be estimated as 48 s."""
    content = without_mp3_header(encoded(np.concatenate([noise(10) * 1e-4, noise(10)]), "MP3"))
    for seed in range(10):
        features = FeatureCache(EXTRACTOR).excerpt(content, 2.0, np.random.default_rng(seed))
        assert len(features) == 201


def test_short_clips_are_named(tmp_path):
    path = write_sound(tmp_path / "short.wav", noise(0.05))
    with pytest.raises(ValueError, match=r"short.wav': it is too short \(800 samples .* pad it with silence") as error:
        FeatureCache(EXTRACTOR)(path)
    assert "pad_short" not in str(error.value), "the Trainer has no such option"


def test_evaluation_reads_long_recordings_in_pieces(tmp_path, monkeypatch):
    content = encoded(np.random.default_rng(0).normal(scale=0.1, size=40_000).astype(np.float32), "FLAC")
    (tmp_path / "it.flac").write_bytes(content)
    cache = FeatureCache(AtriFeatureExtractor(), tmp_path / "cache")
    whole = cache(tmp_path / "it.flac")
    monkeypatch.setattr("modeling_atri.long_sounds_atri.LONG_SECONDS", 2)
    for sound in (tmp_path / "it.flac", {"path": None, "bytes": content}):
        long = cache.read(sound)
        assert isinstance(long, LongSound)
        torch.testing.assert_close(long.features(), whole, atol=1e-6, rtol=0)
    monkeypatch.setattr("modeling_atri.long_sounds_atri.LONG_SECONDS", 3)
    torch.testing.assert_close(cache.read(tmp_path / "it.flac"), whole, atol=0, rtol=0)


@pytest.mark.parametrize("max_gb", [0, 1e-5])
def test_a_limit_that_nothing_fits_in_is_no_cache(tmp_path, folder, max_gb):
    path = write_sound(tmp_path / "a.wav", noise())
    cache = FeatureCache(EXTRACTOR, folder, max_gb=max_gb)
    for _ in range(2):
        assert torch.equal(cache(path), FeatureCache(EXTRACTOR)(path))
    assert num_kept(folder) == 0


def fill(folder, paths, max_gb, writes) -> None:
    """Put features into a folder; the process is killed in the middle of a write."""
    write, left = os.write, [writes]

    def write_or_die(descriptor, content):
        left[0] -= 1
        if left[0] < 0:
            write(descriptor, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(descriptor, content)

    os.write = write_or_die
    cache = FeatureCache(EXTRACTOR, folder, max_gb=max_gb)
    for path in paths:
        cache(path)


@pytest.mark.heavy
def test_two_runs_share_a_folder_and_are_killed(tmp_path, folder, monkeypatch):
    """Each in the middle of a write: one of features, and one of an entry of an index."""
    max_gb = 1.0  # with a limit, they lock the folder for each write
    paths = [write_sound(tmp_path / f"{seed}.wav", noise(seed=seed)) for seed in range(12)]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(forks.call, fill, folder, order, max_gb, writes)
            for order, writes in ((paths, 1 + 2 * 4), (paths[::-1], 1 + 2 * 3 + 1))
        ]
    assert [run.result().status for run in runs] == [-signal.SIGKILL] * 2
    extract, made = EXTRACTOR.extract_clip, []
    expected = [FeatureCache(EXTRACTOR)(path) for path in paths]
    monkeypatch.setattr(
        EXTRACTOR, "extract_clip", lambda *args, **options: made.append(1) or extract(*args, **options)
    )
    cache = FeatureCache(EXTRACTOR, folder, max_gb=max_gb)
    assert all(map(torch.equal, map(cache, paths), expected))
    assert len(made) <= 12 - 4, "what the longer run had finished was made again"
    assert all(map(torch.equal, map(FeatureCache(EXTRACTOR, folder), paths), expected))
