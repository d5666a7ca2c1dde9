"""`SoundIndex`: made, filled, opened again, and refused where something does not fit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_atri.encode import audio_fingerprint, encode_audio, encode_text
from modeling_atri.hub_cards.results import RESULTS_NAME
from modeling_atri.search import SoundIndex, question_language
from modeling_atri.search.index.tables import IndexFacts, IndexTables
from tests.helpers.tiny import tiny_model, tiny_processor


RATE = 16_000


def write_sounds(folder: Path, seconds: list[float]) -> Path:
    folder.mkdir(parents=True)
    for number, length in enumerate(seconds):
        samples = np.random.default_rng(number).normal(scale=0.1, size=int(length * RATE))
        soundfile.write(folder / f"{number}.wav", samples, RATE)
    return folder


def save_model(folder: Path, seed: int = 0) -> Path:
    for part in (tiny_model(seed), tiny_processor()):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model, another one, and sounds, two of which have several windows of one second."""
    root = tmp_path_factory.mktemp("index")
    save_model(root / "model")
    save_model(root / "other", seed=1)
    write_sounds(root / "sounds", [0.4, 2.3, 0.9, 1.7])
    return root


@pytest.fixture(scope="module")
def filled(saved):
    index = SoundIndex.open(saved / "index", saved / "model", window_s=1.0, hop_s=0.5)
    index.add(saved / "sounds")
    return saved / "index"


def test_a_search_for_files_is_the_dot_product_of_encode_audio_and_encode_text(saved, filled):
    model, processor = tiny_model(), tiny_processor()
    files = [saved / "sounds" / f"{number}.wav" for number in range(4)]
    scores = encode_audio(model, processor, files) @ encode_text(model, processor, "un chien", "fr")[0]
    hits = SoundIndex.open(filled).search("un chien", language="fr", top_k=3)
    order = np.argsort(-scores)[:3]
    assert [hit.path for hit in hits] == [f"{number}.wav" for number in order]
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-5)
    assert [Path(hit.file) for hit in hits] == [files[number] for number in order]
    assert [hit.start_s for hit in hits] == [0, 0, 0]
    assert [hit.end_s for hit in hits] == [hit.duration_s for hit in hits]


def test_the_model_is_loaded_when_it_is_first_needed(saved, filled, monkeypatch):
    calls = []
    loaded = tiny_model(), tiny_processor()
    monkeypatch.setattr("modeling_atri.pretrained.loading.load_model", lambda name: calls.append(name) or loaded)
    index = SoundIndex.open(filled)
    assert index.stats().num_sounds == 4
    assert index.add(saved / "sounds").num_encoded == 0
    assert calls == []
    index.search("a dog")
    index.search("a cat")
    assert calls == [str(saved / "model")]


def test_the_figures(saved, filled):
    stats = SoundIndex.open(filled).stats()
    assert (stats.num_sounds, stats.num_windows) == (4, 1 + 4 + 1 + 3)
    assert stats.hours == pytest.approx((0.4 + 2.3 + 0.9 + 1.7) / 3600)
    assert stats.model == str(saved / "model")
    assert (stats.window_s, stats.hop_s) == (1.0, 0.5)
    assert stats.folders == {str(saved / "sounds"): 4}
    assert stats.num_bytes == sum(file.stat().st_size for file in filled.rglob("*") if file.is_file())
    assert stats.columns == {} and stats.failures == {}
    assert stats.changed.timestamp() >= (filled / "facts.lance").stat().st_ctime - 60


def test_a_relative_folder_of_the_model_is_noted_absolutely(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(saved)
    SoundIndex.open(tmp_path / "index", "model")
    monkeypatch.chdir(tmp_path)
    assert SoundIndex.open("index").tables.facts.model == str(saved / "model")
    assert SoundIndex.open("index").search("a dog") == []


def test_another_model_is_refused_with_both_names(saved, filled):
    ours, theirs = (audio_fingerprint(tiny_model(seed), tiny_processor()) for seed in (0, 1))
    with pytest.raises(ValueError, match="holds vectors of another model") as error:
        SoundIndex.open(filled, saved / "other")
    assert all(part in str(error.value) for part in (ours, theirs, str(saved / "model"), str(saved / "other")))
    with pytest.raises(ValueError, match="holds vectors of another model.*of a model without a name"):
        SoundIndex.open(filled, tiny_model(1), tiny_processor())
    assert len(SoundIndex.open(filled, tiny_model(), tiny_processor()).search("a dog")) == 4  # the same weights


def test_a_model_that_changed_or_moved(saved, tmp_path):
    folder = Path(shutil.copytree(saved / "model", tmp_path / "model"))
    SoundIndex.open(tmp_path / "index", folder).add(saved / "sounds")
    folder.rename(tmp_path / "moved")
    index = SoundIndex.open(tmp_path / "index")
    with pytest.raises(ValueError, match=r"was in '.*/model', where it is no more. Pass its folder or Hub id"):
        index.search("a dog")
    index = SoundIndex.open(tmp_path / "index", tmp_path / "moved")
    assert len(index.search("a dog")) == 4
    index.add(saved / "sounds")  # notes the new place
    assert len(SoundIndex.open(tmp_path / "index").search("a dog")) == 4
    save_model(tmp_path / "moved", seed=1)
    with pytest.raises(ValueError, match=r"The model '.*/moved' has changed since the index .* was made"):
        SoundIndex.open(tmp_path / "index").search("a dog")


def test_languages_come_from_the_results_of_the_model(saved, tmp_path):
    folder = Path(shutil.copytree(saved / "model", tmp_path / "model"))
    (folder / RESULTS_NAME).write_text('{"training": {"languages": ["eng_Latn", "jpn_Jpan"]}}')
    SoundIndex.open(tmp_path / "index", folder)
    assert SoundIndex.open(tmp_path / "index").stats().languages == ("eng_Latn", "jpn_Jpan")


def test_a_model_without_a_name(tmp_path, saved):
    SoundIndex.open(tmp_path / "index", tiny_model(), tiny_processor()).add(saved / "sounds")
    with pytest.raises(ValueError, match="does not name its model. Pass the model"):
        SoundIndex.open(tmp_path / "index")
    with pytest.raises(ValueError, match="Pass its `processor` too"):
        SoundIndex.open(tmp_path / "other", tiny_model())
    with pytest.raises(ValueError, match="`processor` was given without its `model`"):
        SoundIndex.open(tmp_path / "index", None, tiny_processor())
    assert not (tmp_path / "other").exists()


def test_other_windows_than_those_of_the_index_are_refused(saved, filled):
    for windows in ({"window_s": 2.0}, {"hop_s": 1.0}):
        with pytest.raises(ValueError, match="which cannot be changed; got"):
            SoundIndex.open(filled, **windows)
    SoundIndex.open(filled, window_s=1.0)
    with pytest.raises(ValueError, match="`hop_s` must be from"):
        SoundIndex.open(saved / "never", saved / "model", hop_s=99)
    assert not (saved / "never").exists()


def test_places_without_an_index(saved, tmp_path):
    for path, message in (
        (saved / "sounds" / "0.wav", "is a file, and an index is a folder"),
        (saved / "sounds", "is no index. It holds 0.wav, "),
        (tmp_path / "none", "There is no index"),
    ):
        with pytest.raises(ValueError, match=message):
            SoundIndex.open(path)
    for path, message in (
        (saved / "sounds" / "0.wav", "is a file"),
        (saved / "sounds", "it holds other files: 0.wav"),
    ):
        with pytest.raises(ValueError, match=message):
            SoundIndex.open(path, tiny_model(), tiny_processor())
    with pytest.raises(ValueError, match=r"There is no folder .*modle.* Did you mean .*model"):
        SoundIndex.open(tmp_path / "none", saved / "modle")
    assert not (tmp_path / "none").exists()


def test_sounds_are_removed_whole(saved, tmp_path):
    index = SoundIndex.open(tmp_path / "index", saved / "model", window_s=1.0)
    index.add(saved / "sounds")
    with pytest.raises(ValueError, match=r"has no sound '1.wv'. Did you mean '1.wav'\?"):
        index.remove(["0.wav", "1.wv"])
    for arguments in ({}, {"paths": ["0.wav"], "where": "true"}):
        with pytest.raises(ValueError, match="Pass either `paths` or `where`"):
            index.remove(**arguments)
    with pytest.raises(ValueError, match="must be a list of paths"):
        index.remove("0.wav")
    assert index.remove(["1.wav", saved / "sounds" / "0.wav"]) == 2
    assert index.remove(where="duration_s > 1.5") == 1
    assert set(index.tables.rows()["path"].to_pylist()) == {"2.wav"}
    assert index.remove(where="duration_s > 99") == 0
    assert index.add(saved / "sounds").num_encoded == 3


def test_optimizing_changes_no_hit(saved, tmp_path):
    index = SoundIndex.open(tmp_path / "index", saved / "model", window_s=1.0)
    index.add(saved / "sounds")
    before = index.search("a dog")
    index.tables.append([])
    index.optimize()
    assert index.search("a dog") == before
    assert IndexTables.open(tmp_path / "index").windows.stats()["fragment_stats"]["num_fragments"] == 1


@pytest.mark.parametrize(
    ("asked", "begun"),
    [({"text": "un chien"}, 1), ({"text": "un chien", "language": "fr"}, 0), ({"like": "a.wav"}, 0)],
)
def test_what_finds_languages_is_loaded_beside_the_model(tmp_path, monkeypatch, asked, begun):
    calls = []

    class Model:
        def load(self):
            raise ValueError(f"begun {len(calls)} times before")

    monkeypatch.setattr(question_language, "begin_loading", lambda: calls.append(1))
    facts = IndexFacts(None, "f", 4, ["eng_Latn", "fra_Latn"])
    index = SoundIndex(IndexTables.create(tmp_path / "index", facts), Model())
    with pytest.raises(ValueError, match=f"begun {begun} times before"):
        index.question(**asked)
