"""`atri serve`: its mistakes, and the command in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from modeling_atri.cli.commands.serve import is_loopback
from modeling_atri.cli.main import main
from modeling_atri.search import SoundIndex
from tests.helpers.tiny import tiny_model, tiny_processor


pytest.importorskip("gradio", reason="needs the extra `search`")
pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty index of a saved model."""
    folder = tmp_path_factory.mktemp("serve")
    tiny_model().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    SoundIndex.open(folder / "index", model=str(folder / "model"))
    return folder / "index"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "65536"], "port"),
        (["--port", "-1"], "port"),
        (["--max_upload_mb", "0"], "max_upload_mb"),
        (["--max_upload_mb", "nan"], "max_upload_mb"),
        (["--sounds", "/there/is/no/folder"], "no folder '/there/is/no/folder'"),
        (["--device", "abacus"], "abacus"),
        (["--host", "not a host"], "cannot listen on 'not a host'"),
        (["--host", "203.0.113.1"], "cannot listen on '203.0.113.1'"),
    ],
)
def test_a_wrong_option_is_a_sentence(index, options, message, capsys):
    assert main(["serve", str(index), *options]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_a_folder_without_an_index_is_a_sentence(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err


def test_a_port_in_use_is_a_sentence(index, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", str(index), "--port", str(port)]) == 2
    assert f"Port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_who_can_reach_an_address(host, expected):
    assert is_loopback(host) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("0.0.0.0", marks=pytest.mark.slow)])
def test_it_serves_until_it_is_interrupted_and_ends_quietly(index, host):
    command = [sys.executable, "-m", "modeling_atri.cli.main", "serve", str(index), "--port", "0", "--host", host]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"RUST_LOG": "error"}
    )
    try:
        said = process.stdout.readline()
        found = re.fullmatch(r"Serving 0 sounds at (http://\S+:(\d+)) \(Ctrl-C ends it\)\.\n", said)
        assert found, said
        if host == "0.0.0.0":
            assert f"Everyone who can reach port {found[2]}" in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{found[2]}/", timeout=60) as page:
            assert page.status == 200 and b"Search sounds" in page.read()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, rest) == (0, "")
    assert "Traceback" not in errors and "Error" not in errors
