"""`atri encode` on a folder of sounds, also killed in the middle."""

import json
import os
import signal

import numpy as np
import pytest
import soundfile

from modeling_atri.cli.main import main
from modeling_atri.embedding_store.store import load_embeddings
from modeling_atri.encode.encoding import encode_audio
from tests.helpers.forks import call
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A saved model, and ten sounds of which one is broken."""
    root = tmp_path_factory.mktemp("encode")
    for part in (tiny_model(), tiny_processor()):
        part.save_pretrained(root / "model")
    (root / "sounds").mkdir()
    for number in range(10):
        samples = np.random.default_rng(number).normal(scale=0.1, size=4000 + 700 * ((7 * number) % 10))
        soundfile.write(root / "sounds" / f"{number}.wav", samples, 16000)
    (root / "sounds" / "4.wav").write_bytes(b"broken")
    for name in ("a.txt", "b.txt", "README"):
        (root / "sounds" / name).touch()
    return root


def arguments(folders, out) -> list[str]:
    options = ["--model", str(folders / "model"), "--part_size", "3", "--batch_size", "2"]
    return ["encode", *options, str(folders / "sounds"), str(out)]


def test_from_the_command_line_to_an_array(folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*arguments(folders, out), "--format", "npy"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["clips", "encoded", "dropped", "failed", "hours", "clips/s"]
    assert shown[1].split()[:5] == ["9", "9", "0", "1", "0.00"]
    assert shown[2] == f"{out / 'failures.jsonl'} lists 1 failure and the reasons. The first:"
    assert shown[3].startswith("  4.wav: Cannot decode")
    assert shown[4] == "Passed over, because their suffix is not that of a sound: 2 .txt, 1 without a suffix."
    names = [f"{number}.wav" for number in range(10) if number != 4]
    embeddings = encode_audio(tiny_model(), tiny_processor(), [folders / "sounds" / name for name in names])
    assert json.loads((out / "ids.json").read_text()) == names
    np.testing.assert_allclose(np.load(out / "embeddings.npy"), embeddings, atol=1e-5)
    assert main(arguments(folders, out)) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["9", "0", "0", "1"]


def test_what_to_install_is_said_once_for_all_files(folders, tmp_path, capsys, monkeypatch):
    def without_av(extractor, path):
        raise ValueError(f"Cannot decode {path}: install `modeling_atri[av]`.")

    monkeypatch.setattr("modeling_atri.encode.folder.read_or_scan", without_av)
    assert main(arguments(folders, tmp_path / "out")) == 2
    shown = capsys.readouterr().out.splitlines()
    assert shown[2] == f"{tmp_path / 'out' / 'failures.jsonl'} lists 10 failures and the reasons. The first:"
    assert shown[8] == "10 files can be read after `pip install 'modeling_atri[av]'`."


def encode_and_die(argv: list[str]) -> None:
    """Run the command, and kill the process the moment before the third part gets its name."""
    rename = os.replace

    def rename_or_die(source, target):
        if str(target).endswith("00002.parquet"):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = rename_or_die
    main(argv)


def test_a_killed_run_goes_on_to_the_same_bits(folders, tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert call(encode_and_die, arguments(folders, killed)).status == -signal.SIGKILL
    left = sorted(path.name for path in (killed / "embeddings").iterdir())
    assert left[0].startswith(".00002.parquet.")
    assert left[1:] == ["00000.parquet", "00001.parquet"]
    assert load_embeddings(killed)[0] == [f"{number}.wav" for number in (0, 1, 2, 3, 5)]
    for out in (killed, whole):
        assert main(arguments(folders, out)) == 0
    files = {
        out: {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (killed, whole)
    }
    assert files[killed] == files[whole]
    assert load_embeddings(killed)[1].shape == (9, 12)


def test_mistakes(folders, tmp_path, capsys):
    model, sounds, out = str(folders / "model"), str(folders / "sounds"), str(tmp_path / "out")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.wav").touch()
    for argv, message in (
        ([sounds, out], "required: --model"),
        ([str(tmp_path / "none"), out, "--model", model], "There is no folder"),
        ([sounds, "--model", model], "required: out"),
        ([sounds, out, "--model", model, "--format", "csv"], "invalid choice: 'csv'"),
        ([sounds, out, "--model", model, "--device", "nonsense"], "The device 'nonsense' cannot be used"),
        ([sounds, out, "--model", model, "--batch_size", "0"], "`batch_size` must be at least 1"),
        ([sounds, out, "--model", model, "--num_workers", "-1"], "`num_workers` must be at least 0"),
        ([str(tmp_path / "bad"), out, "--model", model], "None of the sounds could be read (1 failure)"),
    ):
        assert main(["encode", *argv]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
