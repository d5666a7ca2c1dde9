"""`atri index` on a folder of sounds: made, run again, and told apart from mistakes."""

import numpy as np
import pytest
import soundfile

from modeling_atri.cli.commands import index as command
from modeling_atri.cli.main import main
from modeling_atri.search import SoundIndex
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two saved models, and six sounds of which one is broken."""
    root = tmp_path_factory.mktemp("index")
    for seed, name in enumerate(("model", "other")):
        for part in (tiny_model(seed), tiny_processor()):
            part.save_pretrained(root / name)
    (root / "sounds").mkdir()
    for number in range(6):
        samples = np.random.default_rng(number).normal(scale=0.1, size=8000 + 700 * number)
        soundfile.write(root / "sounds" / f"{number}.wav", samples, 16000)
    (root / "sounds" / "4.wav").write_bytes(b"broken")
    (root / "sounds" / "notes.txt").touch()
    return root


def test_an_index_is_made_and_kept_up_to_date(folders, tmp_path, capsys, monkeypatch):
    sounds, index = str(folders / "sounds"), str(tmp_path / "sounds.index")
    assert main(["index", sounds, index, "--model", str(folders / "model"), "--window_s", "0.4"]) == 0
    shown = capsys.readouterr().out.splitlines()
    titles = shown[0].split()
    assert titles[:4] == ["sounds", "encoded", "moved", "dropped"] and titles[-3:] == ["failed", "hours", "sounds/s"]
    assert shown[1].split()[:2] == ["5", "5"]
    assert shown[1].split()[titles.index("failed")] == "1"
    assert shown[2] == f"`SoundIndex.open({index!r}).stats().failures` lists 1 failure and the reasons. The first:"
    assert shown[3].startswith("  4.wav: Cannot decode")
    assert shown[4] == "Passed over, because their suffix is not that of a sound: 1 .txt."
    stats = SoundIndex.open(index).stats()
    assert (stats.num_sounds, stats.window_s, stats.hop_s) == (5, 0.4, 0.2)
    assert list(stats.failures) == [str(folders / "sounds" / "4.wav")]
    for model in ([], ["--model", str(folders / "model")]):  # the model is not loaded without need
        (folders / "sounds" / "4.wav").rename(tmp_path / "4.wav")
        monkeypatch.setattr("modeling_atri.pretrained.loading.load_model", lambda name: pytest.fail("It is loaded."))
        assert main(["index", sounds, index, *model]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["5", "0"]
        (tmp_path / "4.wav").rename(folders / "sounds" / "4.wav")


def test_mistakes_are_one_line_and_come_before_the_model_is_loaded(folders, tmp_path, capsys, monkeypatch):
    model, sounds, index = (str(folders / name) for name in ("model", "sounds", "index"))
    if not (folders / "index").exists():
        SoundIndex.open(index, model)
    monkeypatch.setattr("modeling_atri.pretrained.loading.load_model", lambda name: pytest.fail("It is loaded."))
    new = str(tmp_path / "new")
    for argv, message in (
        ([sounds], "required: index"),
        ([sounds, new], "There is no index at"),
        ([str(folders / "sonds"), new, "--model", model], "There is no folder"),
        ([str(folders / "sounds" / "0.wav"), new, "--model", model], "It is a file: name a folder."),
        ([str(tmp_path), new, "--model", model], "There is no sound file below"),
        ([sounds, sounds, "--model", model], "it holds other files: 0.wav"),
        ([sounds, str(folders / "sounds" / "0.wav"), "--model", model], "is a file"),
        ([sounds, new, "--model", model, "--device", "nonsense"], "The device 'nonsense' cannot be used"),
        ([sounds, new, "--model", model, "--batch_size", "0"], "`batch_size` must be a whole number >= 1; got 0"),
        ([sounds, new, "--model", model, "--num_workers", "-1"], "`num_workers` must be a whole number >= 0"),
        ([sounds, new, "--model", model, "--window_s", "0"], "`window_s` must be a finite number > 0"),
        ([sounds, new, "--model", model, "--on_error", "ignore"], "invalid choice: 'ignore'"),
        ([sounds, new, "--model", model, "--columns", "none.csv"], "There is no file 'none.csv' of columns"),
        ([sounds, index, "--hop_s", "99"], "`hop_s`"),
    ):
        assert main(["index", *argv]) == 2, argv
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("variables", "words"), [({"WORLD_SIZE": "2"}, []), ({}, ["--engine", "ray"])])
def test_several_processes_do_not_watch(folders, tmp_path, capsys, monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)  # without an address of the others, which would be waited for
    argv = ["index", str(folders / "sounds"), str(tmp_path / "index"), "--model", str(folders / "model"), "--watch"]
    assert main([*argv, *words]) == 2
    assert "`--watch` runs in one process. Index the sounds with several first" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


def test_another_model_is_refused(folders, tmp_path, capsys):
    sounds, index = str(folders / "sounds"), str(tmp_path / "index")
    SoundIndex.open(index, folders / "model")
    assert main(["index", sounds, index, "--model", str(folders / "other")]) == 2
    assert "holds vectors of another model" in capsys.readouterr().err


def test_an_error_can_end_the_run(folders, tmp_path, capsys):
    argv = ["index", str(folders / "sounds"), str(tmp_path / "index"), "--model", str(folders / "model")]
    assert main([*argv, "--on_error", "raise"]) == 2
    assert "4.wav" in capsys.readouterr().err
    assert main([*argv, "--on_error", "skip"]) == 0


def test_a_folder_of_which_no_sound_can_be_read(folders, tmp_path, capsys):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.wav").write_bytes(b"broken")
    argv = ["index", str(tmp_path / "sounds"), str(tmp_path / "index"), "--model", str(folders / "model")]
    assert main(argv) == 2
    assert "None of the sounds could be read (1 failure)" in capsys.readouterr().err


def test_the_help_says_what_an_index_is_for(capsys):
    with pytest.raises(SystemExit):
        main(["index", "--help"])
    shown = capsys.readouterr().out
    assert "atri index sounds/ sounds.index --model runs/first" in shown
    assert all(
        f"--{name}" in shown for name in command.IndexArguments.__dataclass_fields__ if name not in ("sounds", "index")
    )
