"""README and documentation: what they name exists, and whoever types what a page says gets what it says.

A block whose first line begins with `# Needs` (a download, a data set, an account) is checked and not run. All others
run in order, in one folder for each page, with a tiny model in place of the one that `make quickstart` trains.
"""

import ast
import contextlib
import io
import json
import re
import shlex
import shutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from modeling_atri.cli.habits import own_name
from modeling_atri.cli.main import COMMANDS, main
from tests.helpers.local_hub import LocalHub
from tests.helpers.taught import write_captions, write_clap, write_text_encoder
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
    if "_build" not in path.parts
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NOT_RUN = "# Needs"
# Small enough for a test; from scratch, the model would have 3 M parameters and train for ten epochs.
SHORT_RUN = "--max_steps 2 --use_cpu true"
SMALL_MODEL = "--audio_hidden_size 24 --text_hidden_size 16 --audio_heads 3 --text_heads 2"
# Names on the Hub, and what is there for them in a test.
STAND_INS = {
    "me/atri-first": "tester/atri-first",
    "me/my-sounds": "tester/my-sounds",
    "laion/larger_clap_general": "tiny_clap",
    "cointegrated/SONAR_200_text_encoder": "tiny_encoder",
}
# Pages whose commands other tests run, in order and on stand-ins of the real data.
RUN_ELSEWHERE = {"examples/README.md", "examples/reproduce_atri/README.md", "benchmarks/README.md", "CONTRIBUTING.md"}


class Block(NamedTuple):
    kind: str
    text: str

    @property
    def runs(self) -> bool:
        return not self.text.startswith(NOT_RUN)


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of(page: str, kind: str) -> list[Block]:
    return [block for block in all_blocks(page) if block.kind == kind]


def all_blocks(page: str) -> list[Block]:
    return [Block(*match) for match in BLOCK.findall(text_of(page))]


def prose_of(page: str) -> str:
    return BLOCK.sub("", text_of(page))


def command_lines(page: str) -> list[str]:
    return [line for block in blocks_of(page, "bash") for line in lines_of(block.text)]


def lines_of(text: str) -> list[str]:
    """The lines of a shell; one that ends in a backslash goes on in the next."""
    return text.replace("\\\n", " ").splitlines()


def atri_words(line: str) -> list[str] | None:
    """The words behind `atri` of a line that calls it, also through a launcher."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["atri"]:
        return words[1:]
    if "modeling_atri.cli.main" in words:
        return words[words.index("modeling_atri.cli.main") + 1 :]
    return None


@cache
def known_options(command: str) -> frozenset[str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([command, "--help_all"])
    return frozenset(re.findall(r"--\w+", printed.getvalue()))


def test_the_pages_are_there():
    assert {"README.md", "docs/index.md", "docs/tutorials/quickstart.md"} <= set(PAGES)
    assert len(text_of("README.md").splitlines()) <= 150
    assert sum(len(blocks_of(page, "python")) for page in PAGES) > 20
    assert sum(atri_words(line) is not None for page in PAGES for line in command_lines(page)) > 30


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors_of(linked), target


def anchors_of(path: Path) -> set[str]:
    """The anchors of a page's headings, with those of the file that it includes."""
    text = path.read_text(encoding="utf-8")
    texts = [text, *((path.parent / name).read_text("utf-8") for name in re.findall(r"```{include} (\S+)", text))]
    headings = [title for text in texts for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    code = "\n".join([*command_lines(page), *re.findall(r"`(make [a-z][^`]*)`", prose_of(page))])
    targets = re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    for line in command_lines(page):
        if words := atri_words(line):
            assert words[0] in COMMANDS, line
            options = {word.split("=")[0] for word in words if word.startswith("--")}
            assert options <= known_options(words[0]), line
        elif script := re.match(r"python (?:\$ATRI/)?((?:examples|benchmarks)/\S+\.py)(.*)", line):
            source = (ROOT / script[1]).read_text(encoding="utf-8")
            options = set(re.findall(r"--\w+", script[2].split("#")[0]))
            assert options <= set(re.findall(r"--\w+", source)) | {"--plot"}, line


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_text_exist(page):
    """An option in the text is one of some command, of an example or of a benchmark, or is understood as one."""
    every = frozenset().union(*map(known_options, COMMANDS))
    scripts = {
        option
        for path in [*ROOT.glob("examples/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
        for option in re.findall(r"--\w+", path.read_text(encoding="utf-8"))
    }
    codes = re.findall(r"`((?:atri |--)[^`\n]+)`", prose_of(page))
    named = {option for code in codes for option in re.findall(r"--\w+", code)}
    unknown = named - every - scripts - {"--help", "--help_all", "--config"}
    commands = [{option.removeprefix("--") for option in known_options(command)} for command in COMMANDS]
    usual = {option for option in unknown for own in commands if own_name(option.removeprefix("--"), own) in own}
    assert unknown - usual == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])  # which names earlier paths
def test_imported_and_dotted_names_exist(page):
    for block in blocks_of(page, "python"):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("modeling_atri"):
                for name in node.names:
                    assert hasattr(import_module(node.module), name.name), f"{node.module}.{name.name}"
    for dotted in re.findall(r"`(modeling_atri(?:\.\w+)+)`", prose_of(page)):
        assert resolves(dotted), dotted


def resolves(dotted: str) -> bool:
    module, _, name = dotted.rpartition(".")
    try:
        import_module(dotted)
    except ImportError:
        return hasattr(import_module(module), name)
    return True


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_the_text_exist(page):
    named = re.findall(r"`((?:benchmarks|examples|tests|docs|requirements)/[\w./]+\.\w+)`", prose_of(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def write_clips(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    lines = []
    for number in range(count):
        soundfile.write(folder / f"{number}.flac", rng.normal(scale=0.1, size=8000), 16000)
        captions = {language: [f"{CAPTIONS[language]} {number}"] for language in ("eng_Latn", "fra_Latn")}
        lines.append(json.dumps({"file_name": f"{number}.flac", "captions": captions}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """What `make quickstart` and the reader provide: a model, two folders of clips, an earlier run, embeddings."""
    folder = tmp_path_factory.mktemp("pages") / "template"
    tiny_model().save_pretrained(folder / "quickstart")
    tiny_processor().save_pretrained(folder / "quickstart")
    shutil.copytree(folder / "quickstart", folder / "runs" / "first")
    write_clips(folder / "quickstart" / "sounds", 3)
    write_clap(folder / STAND_INS["laion/larger_clap_general"])
    write_text_encoder(folder / STAND_INS["cointegrated/SONAR_200_text_encoder"])
    write_captions(folder / "captions.jsonl")
    for split, count in {"train": 6, "dev": 4}.items():
        write_clips(folder / "clips" / split, count)
    return folder


def run_line(line: str) -> None:
    words = atri_words(line)
    if words[0] == "train":
        words += shlex.split(SHORT_RUN if "--model" in words else f"{SHORT_RUN} {SMALL_MODEL}")
    if words[0] == "teach":
        words += shlex.split(SHORT_RUN)
    assert main(words) == 0, line


WALKED = [
    page
    for page in PAGES
    if page not in RUN_ELSEWHERE
    and any(block.runs and (block.kind == "python" or "\natri " in f"\n{block.text}") for block in all_blocks(page))
]


@pytest.mark.heavy
@pytest.mark.parametrize("page", WALKED)
def test_a_walk_through_the_page(page, template, tmp_path, monkeypatch, capsys):
    """Every block in order, in one folder, as a newcomer would."""
    if "--lora_rank" in text_of(page):
        pytest.importorskip("peft", reason="the page trains an adapter: pip install 'modeling_atri[peft]'")
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    if "--output_dir runs/first" in text_of(page):
        shutil.rmtree(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        for block in all_blocks(page):
            text = block.text
            for name, stand_in in STAND_INS.items():
                text = text.replace(name, stand_in)
            if block.kind == "python" and block.runs:
                exec(compile(text, page, "exec"), names)
            elif block.kind == "bash" and block.runs:
                for line in lines_of(text):
                    if atri_words(line) is not None:
                        run_line(line)
        pushed = {name: repo.files() for name, repo in hub.repos.items()}
    if "atri push" in text_of(page):
        assert {"model.safetensors", "README.md"} <= pushed["models/tester/atri-first"].keys()
    if any("trainer.train()" in block.text for block in blocks_of(page, "python")):
        assert names["trainer"].state.global_step > 0
