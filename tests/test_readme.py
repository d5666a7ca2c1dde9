"""The README tells the truth about names and commands, and whoever types what it says gets a model on the Hub."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from modeling_atri.cli.main import COMMANDS, main
from tests.helpers.local_hub import LocalHub
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
# What a walk through the README leaves out: what is downloaded, and fragments that begin in the middle of a program.
NOT_WALKED = (
    "from_audio_text_pretrained",
    "mispeech/ced-base",
    "--mlclap",
    "make ",
    "benchmarks/",
    "atri translate",
    "atri prepare",
    '"eng_Latn": ...',
)
# Small enough for a test; from scratch, the model would have 3 M parameters and train for ten epochs.
SMALL_RUN = "--max_steps 2 --use_cpu true --audio_hidden_size 24 --text_hidden_size 16 --audio_heads 3 --text_heads 2"


@pytest.fixture(scope="module")
def blocks(repository_root: Path) -> list[tuple[str, str]]:
    return BLOCK.findall((repository_root / "README.md").read_text(encoding="utf-8"))


def test_make_targets_exist(repository_root, blocks):
    makefile = (repository_root / "Makefile").read_text(encoding="utf-8")
    text = (repository_root / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert {"quickstart", "test"} <= targets
    missing = [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]
    assert not missing


def test_commands_and_their_options_exist(blocks, capsys):
    lines = [line for kind, text in blocks if kind == "bash" for line in text.splitlines() if line.startswith("atri ")]
    assert lines
    for line in lines:
        _, command, *words = shlex.split(line, comments=True)
        assert command in COMMANDS
        with pytest.raises(SystemExit):
            main([command, "--help_all"])
        shown = capsys.readouterr().out
        assert all(word in shown for word in words if word.startswith("--")), line


def test_imported_names_exist(blocks):
    imports = [
        line
        for kind, text in blocks
        if kind == "python"
        for line in text.splitlines()
        if line.startswith("from modeling_atri")
    ]
    assert len(imports) >= 4
    for line in imports:
        exec(line, {})


def test_files_it_links_to_exist(repository_root):
    text = (repository_root / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert links
    assert all((repository_root / link).exists() for link in links)


def write_clips(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    lines = []
    for number in range(count):
        soundfile.write(folder / f"{number}.flac", rng.normal(scale=0.1, size=8000), 16000)
        captions = {language: [f"{CAPTIONS[language]} {number}"] for language in ("eng_Latn", "fra_Latn")}
        lines.append(json.dumps({"file_name": f"{number}.flac", "captions": captions}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def run_line(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    if words[0] == "train":
        words += shlex.split(SMALL_RUN if "--model" not in words else SMALL_RUN.split(" --audio")[0])
    assert main(words) == 0, line


def test_a_walk_from_a_model_to_the_hub(blocks, tmp_path, monkeypatch, capsys):
    """Every block in order, in one folder, as a newcomer would: with what `make quickstart` and the reader provide."""
    pytest.importorskip("peft", reason="the README trains an adapter: pip install 'modeling_atri[peft]'")
    monkeypatch.chdir(tmp_path)
    tiny_model().save_pretrained("quickstart")
    tiny_processor().save_pretrained("quickstart")
    write_clips(tmp_path / "quickstart" / "sounds", 3)
    for split, count in {"train": 6, "dev": 4}.items():
        write_clips(tmp_path / "clips" / split, count)
    names: dict = {}
    done = []
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        for kind, text in blocks:
            if kind not in ("python", "bash") or any(word in text for word in NOT_WALKED):
                continue
            text = text.replace("me/atri-first", "tester/atri-first")
            if kind == "python":
                exec(compile(text, "README.md", "exec"), names)
            else:
                for line in text.splitlines():
                    if line.startswith("atri "):
                        run_line(line)
            done.append(text)
        pushed = hub.repos["models/tester/atri-first"].files()
    assert len(done) >= 9
    assert {"model.safetensors", "README.md", "atri_results.json"} <= pushed.keys()
    assert names["trainer"].state.global_step > 0
