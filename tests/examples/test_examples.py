"""The examples run, on a tiny model."""

import runpy

import numpy as np
import pytest
import soundfile

from modeling_atri.encode import encode_audio, encode_text
from tests.tiny import tiny_model, tiny_processor


@pytest.fixture
def folders(tmp_path):
    model, processor = tiny_model(), tiny_processor()
    for part in (model, processor):
        part.save_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    (tmp_path / "sounds" / "below").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "b.flac", "below/c.ogg")):
        soundfile.write(tmp_path / "sounds" / name, rng.normal(scale=0.1 * (1 + number), size=8000), 16000)
    return tmp_path / "model", tmp_path / "sounds", model, processor


def run(repository_root, monkeypatch, *argv):
    monkeypatch.setattr("sys.argv", ["search_folder.py", *map(str, argv)])
    runpy.run_path(str(repository_root / "examples" / "search_folder.py"), run_name="__main__")


def test_search_folder_names_the_sounds_in_order_of_their_scores(folders, repository_root, monkeypatch, capsys):
    model_folder, sounds, model, processor = folders
    names = ["a.wav", "b.flac", "below/c.ogg"]
    scores = (
        encode_audio(model, processor, [sounds / name for name in names])
        @ encode_text(model, processor, "un chien aboie", "fr")[0]
    )
    expected = [f"{scores[place]:.3f}  {names[place]}" for place in np.argsort(-scores)]
    for _ in range(2):  # the second time from the embeddings on disk
        run(repository_root, monkeypatch, model_folder, sounds, "un chien aboie", "--language", "fr")
        assert capsys.readouterr().out.splitlines() == expected
        assert (sounds / "embeddings.npz").exists()


def test_search_folder_says_when_there_is_nothing_to_search(folders, tmp_path, repository_root, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        run(repository_root, monkeypatch, folders[0], tmp_path / "empty", "rain")
    assert stop.value.code == 2
    assert "there is no sound file" in capsys.readouterr().err


def test_examples_are_short(repository_root):
    scripts = list((repository_root / "examples").glob("*.py"))
    assert scripts
    assert all(len(script.read_text(encoding="utf-8").splitlines()) <= 80 for script in scripts)
