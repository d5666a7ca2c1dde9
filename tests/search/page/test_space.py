"""A page as a Space on a Hub over HTTP on loopback: what goes up, what stays, and that its app serves the sounds."""

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import gradio
import numpy as np
import pytest
import soundfile
from huggingface_hub import SpaceCard

from modeling_atri.cli.main import main
from modeling_atri.hub_cards import publish
from modeling_atri.search import SoundIndex
from modeling_atri.search.index.tables import IndexTables
from modeling_atri.search.page.space import publish_space, space_files
from tests.helpers.local_hub import LocalHub
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = pytest.mark.heavy

MODEL, SPACE = "tester/atri", "tester/my-sounds"


def write_sounds(folder: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, 0.1 * np.random.default_rng(seed).standard_normal(16_000), 16_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A saved model, sounds with a column, and their index, which had another sound before."""
    folder = tmp_path_factory.mktemp("private-place")
    tiny_model().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    write_sounds(folder / "sounds", ["a.wav", "deep/犬.flac", "secret.wav"])
    (folder / "sounds" / "metadata.csv").write_text("file_name,licence\na.wav,cc0\nsecret.wav,hidden\n")
    index = SoundIndex.open(folder / "index", folder / "model")
    index.add(folder / "sounds", num_workers=0)
    index.remove(["secret.wav"])
    return folder


@pytest.fixture
def hub(monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        yield hub


def files_of(hub: LocalHub) -> dict[str, bytes]:
    return hub.repos[f"spaces/{SPACE}"].files()


def test_index_sounds_page_and_card_go_up_in_one_commit(hub, made):
    done = publish_space(made / "index", SPACE, model=MODEL, private=True)
    repo = hub.repos[f"spaces/{SPACE}"]
    assert repo.messages() == ["initial commit", "Upload search page"]
    assert (repo.sdk, repo.private, done.changed) == ("gradio", True, True)
    assert done.url == f"{hub.url}/spaces/{SPACE}"
    files = {name: content for name, content in repo.files().items() if name != ".gitattributes"}
    assert {name for name in files if not name.startswith("index/")} == {
        "README.md",
        "app.py",
        "requirements.txt",
        "sounds/a.wav",
        "sounds/deep/犬.flac",
    }
    assert files["sounds/a.wav"] == (made / "sounds" / "a.wav").read_bytes()
    card = SpaceCard(files["README.md"].decode())
    card.validate()
    assert (card.data.sdk, card.data.sdk_version, card.data.app_file) == ("gradio", gradio.__version__, "app.py")
    assert card.data.models == [MODEL]
    assert card.data.title == "my-sounds"


def test_nothing_tells_of_this_machine_or_of_what_was_removed(hub, made):
    publish_space(made / "index", SPACE, model=MODEL)
    everything = b"".join(files_of(hub).values())
    assert b"private-place" not in everything
    assert b"secret" not in everything
    assert b"hidden" not in everything


def test_the_copy_has_the_rows_of_the_index(hub, made, tmp_path):
    publish_space(made / "index", SPACE, model=MODEL)
    write(files_of(hub), tmp_path)
    copy, own = IndexTables.open(tmp_path / "index"), IndexTables.open(made / "index")
    assert copy.facts.model == MODEL
    assert copy.facts.fingerprint == own.facts.fingerprint
    for name in ("path", "kind", "duration_s", "licence", "vector", "content"):
        columns = [tables.rows()[name].to_pylist() for tables in (copy, own)]
        assert columns[0] == columns[1], name
    assert set(copy.rows()["folder"].to_pylist()) == {"sounds"}
    assert sorted(copy.rows()["id"].to_pylist()) == ["sounds/a.wav#0", "sounds/deep/犬.flac#0"]


def test_a_second_push_replaces_index_and_sounds(hub, made):
    publish_space(made / "index", SPACE, model=MODEL)
    before = {name for name in files_of(hub) if "/data/" in name}
    publish_space(made / "index", SPACE, model=MODEL, with_sounds=False)
    after = files_of(hub)
    assert not any(name.startswith("sounds/") for name in after)
    data = {name for name in after if "/data/" in name}
    assert data and not data & before


def test_several_folders_keep_their_names(made, tmp_path):
    index = shutil.copytree(made / "index", tmp_path / "index")
    write_sounds(tmp_path / "more", ["a.wav"])
    SoundIndex.open(index).add(tmp_path / "more", num_workers=0)
    with space_files(index, "Sounds", MODEL) as files:
        sounds = {name for name in files if name.startswith("sounds/")}
    assert sounds == {"sounds/sounds/a.wav", "sounds/sounds/deep/犬.flac", "sounds/more/a.wav"}


def test_what_cannot_be_pushed_is_refused(hub, made, tmp_path):
    with pytest.raises(ValueError, match="not a Hub id. Push the model first"):
        publish_space(made / "index", SPACE)
    with pytest.raises(ValueError, match="have 0.0 GB or more, but the Space may have 1e-06 GB.*--without_sounds"):
        publish_space(made / "index", SPACE, model=MODEL, max_gb=1e-6)
    index = shutil.copytree(made / "index", tmp_path / "index")
    with pytest.raises(ValueError, match="2 of the 2 sounds cannot be pushed.*--sounds"):
        publish_space(index, SPACE, model=MODEL, sounds=str(tmp_path))
    assert hub.repos == {}
    tables = IndexTables.open(index)
    with tables.writing():
        tables.delete_where("true")
    with pytest.raises(ValueError, match="has no sounds"):
        publish_space(index, SPACE, model=MODEL)


def test_the_command_lists_and_pushes(hub, made, capsys):
    argv = ["push", str(made / "index"), SPACE, "--space", "--model", MODEL]
    assert main([*argv, "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert re.match(rf"Would push to {SPACE}, 0\.\d MB:\n", shown)
    assert "  sounds/a.wav  (32.0 kB)\n" in shown
    assert hub.repos == {}
    assert main([*argv, "--title", "My sounds"]) == 0
    assert f"/spaces/{SPACE}" in capsys.readouterr().out
    assert b"title: My sounds" in files_of(hub)["README.md"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model", MODEL], "`model` is for the page of an index. Add --space"),
        (["--space", "--base_model", MODEL], "`base_model` is for an adapter"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(words, message, made, capsys):
    assert main(["push", str(made / "index"), SPACE, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_app_of_the_space_serves_the_page(hub, made, tmp_path):
    """In a process of its own, as the Hub starts it, with the model from the Hub."""
    publish(made / "model", MODEL)
    publish_space(made / "index", SPACE, model=MODEL)
    write(files_of(hub), tmp_path / "space")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    environment = hub.client_environment(tmp_path / "home") | settings
    command = [sys.executable, str(tmp_path / "space" / "app.py")]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as app:
        try:
            assert app.stdout.readline() == f"Serving at http://127.0.0.1:{port}\n"
            page = wait_for(f"http://127.0.0.1:{port}/")
            assert b"gradio" in page
        finally:
            app.kill()


def wait_for(url: str) -> bytes:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read()
        except (ConnectionError, urllib.error.URLError):  # it is about to listen
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer.")


def write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
