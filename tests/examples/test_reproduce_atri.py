"""The paper's run, typed as its README says, on stand-ins in the formats of the real files."""

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch
import yaml

from modeling_atri import AtriModel
from modeling_atri.cli.main import main
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.languages_atri import ATRI_LANGUAGES, resolve_language
from tests.helpers.corpora import write_audiocaps, write_clotho, write_csv, write_sound, youtube_id
from tests.helpers.published import ced_state_dict, mlclap_state_dict, sonar_state_dict
from tests.helpers.tiny import tiny_tokenizer


pytestmark = pytest.mark.heavy


OBJECTIVES = ["mlclap", "cacl", "kcl", "akcl"]
TOKENIZER = "facebook/nllb-200-distilled-600M"
SMALL_RUN = shlex.split("--max_steps 2 --use_cpu true --bf16 false --dataloader_num_workers 0 --disable_tqdm true")


@pytest.fixture(scope="module")
def folder(repository_root) -> Path:
    return repository_root / "examples" / "reproduce_atri"


@pytest.fixture(scope="module")
def commands(folder) -> list[list[str]]:
    """The words of every command of the README, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    lines = [line.replace("$ATRI/examples/reproduce_atri", str(folder)) for line in "".join(blocks).splitlines()]
    return [shlex.split(line) for line in lines]


def write_corpora() -> None:
    """What the README tells to get, in the working folder: of AudioCaps not every clip, of both sets one in common."""
    sounds = iter(range(100))
    for split, ids in (("train", range(6)), ("test", range(6, 10))):
        captions = 1 if split == "train" else 5
        rows = [(10 * clip + n, youtube_id(clip), 30, f"Sound {clip}, {n}") for clip in ids for n in range(captions)]
        write_audiocaps(Path(f"audiocaps/{split}.csv"), rows)
        for clip in [*ids][:-1]:
            write_sound(Path(f"audiocaps/clips/Y{youtube_id(clip)}.wav"), next(sounds), seconds=0.5)
    for split, names in (("development", ["Dog bark.wav", "leak.wav"]), ("evaluation", ["Rain #2.wav", "Wind.wav"])):
        write_clotho(
            Path(f"clotho/clotho_captions_{split}.csv"), {name: [f"{name} {n}" for n in range(5)] for name in names}
        )
        ids = {"leak.wav": "7", "Wind.wav": "7"}
        metadata = [(name, "", ids.get(name, "Not found")) for name in names]
        write_csv(Path(f"clotho/clotho_metadata_{split}.csv"), ("file_name", "keywords", "sound_id"), metadata)
        for name in names:
            write_sound(Path(f"clotho/{split}/{name}"), next(sounds), seconds=0.7, rate=44_100)


def write_checkpoint() -> None:
    torch.manual_seed(0)
    torch.save(mlclap_state_dict(ced_state_dict(), sonar_state_dict(vocab_size=700)), "pretrain.pt")
    tiny_tokenizer().save_pretrained("tokenizer")


def translate(data: str, output: str, languages: list[str]) -> None:
    """In place of a translation model: each caption with its language behind it."""
    folder = Path(output)
    folder.mkdir(parents=True)
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as file:
        for line in (Path(data) / "metadata.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            english = row["captions"]["eng_Latn"]
            row["captions"] |= {code: [f"{text} {code}" for text in english] for code in languages}
            file.write(json.dumps(row) + "\n")


def run(words: list[str], monkeypatch) -> None:
    """A command, with what makes it small enough for a test."""
    if words[0] == "python":
        monkeypatch.setattr("sys.argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
        return
    assert words[0] == "atri"
    if words[1] == "translate":
        languages = words[words.index("--languages") + 1 :]
        codes = [resolve_language(word) for word in languages[: languages.index("--device")]]
        assert {"eng_Latn", *codes} == set(ATRI_LANGUAGES)
        translate(*words[2:4], codes)
        return
    words = ["cpu" if word == "cuda" else "tokenizer" if word == TOKENIZER else word for word in words[1:]]
    more = {"convert": ["--audio_heads", "2", "--text_heads", "2"], "train": SMALL_RUN}
    assert main([*words, *more.get(words[0], [])]) == 0, words


def test_from_the_files_to_the_table(commands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_corpora()
    write_checkpoint()
    for words in commands:
        capsys.readouterr()
        run(words, monkeypatch)
    # A missing clip of AudioCaps and the leak of Clotho are left out of training, and a missing clip of testing.
    rows = load_rows("data8/train")
    assert rows["audio_id"][:] == [*(f"{youtube_id(clip)}_30" for clip in range(5)), "Dog bark.wav"]
    assert list(rows[0]["captions"]) == list(ATRI_LANGUAGES)
    assert len(load_rows("data8/audiocaps/test")) == 3
    assert AtriModel.from_pretrained("mlclap").logit_scale.exp().item() == pytest.approx(1 / 0.07)
    start = AtriModel.from_pretrained("mlclap").audio_projection.fc1.weight
    for objective in OBJECTIVES:
        assert not torch.equal(AtriModel.from_pretrained(f"runs/{objective}").audio_projection.fc1.weight, start)
        results = json.loads(Path(f"results/audiocaps/{objective}.json").read_text("utf-8"))
        assert results["evaluated_on"]["num_captions_per_language"] == 15
    clotho = capsys.readouterr().out
    assert "| paper |" not in clotho
    assert clotho.count("| ours |") == 4
    run(commands[-2], monkeypatch)
    table = capsys.readouterr().out
    assert "| ML-CLAP | paper | 44.84 | 61.19 | 47.31 | 80.65 | 61.44 | 10.38 | 0.189 | 0.330 |" in table
    kcl = json.loads(Path("results/audiocaps/kcl.json").read_text("utf-8"))["metrics"]
    assert f"| KCL | ours | {100 * kcl['mean_text_to_audio_R@1']:.2f} |" in table
    assert "KCL: 3 clips of test, 15 captions in each of 8 languages" in table


def test_the_configurations_differ_in_the_objective_alone(folder):
    configs = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in folder.glob("*.yaml")}
    assert sorted(configs) == sorted(OBJECTIVES)
    for name, config in configs.items():
        assert config.pop("objective") == name
        assert config.pop("output_dir") == f"runs/{name}"
        assert config == configs["mlclap"]
    paper = {"num_train_epochs": 10, "per_device_train_batch_size": 24, "learning_rate": 5e-6, "weight_decay": 0}
    assert paper.items() <= config.items()
    assert config["languages"] == list(ATRI_LANGUAGES)


def test_the_optimizer_is_adam(folder):
    """AdamW without weight decay makes the steps of Adam."""
    config = yaml.safe_load((folder / "kcl.yaml").read_text("utf-8"))
    assert (config["optim"], config["weight_decay"]) == ("adamw_torch", 0.0)
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2)]
    options = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}  # TrainingArguments' defaults are torch's
    optimizers = [
        torch.optim.AdamW([weights[0]], weight_decay=config["weight_decay"], **options),
        torch.optim.Adam([weights[1]], **options),
    ]
    for _ in range(3):
        for weight, optimizer in zip(weights, optimizers, strict=True):
            optimizer.zero_grad()
            (weight**3).sum().backward()
            optimizer.step()
    assert torch.equal(weights[0], weights[1])


def test_the_paper_s_figures_in_the_readme_are_those_of_the_table(folder):
    table = runpy.run_path(str(folder / "table.py"))
    text = (folder / "README.md").read_text("utf-8")
    for objective, figures in table["PAPER"].items():
        assert f"| {table['NAMES'][objective]} | {' | '.join(table['cells'](figures))} |" in text


def test_the_table_is_short_and_says_what_it_lacks(folder, tmp_path, monkeypatch, capsys):
    assert len((folder / "table.py").read_text("utf-8").splitlines()) <= 80
    monkeypatch.setattr("sys.argv", ["table.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        runpy.run_path(str(folder / "table.py"), run_name="__main__")
    assert "there is none of mlclap.json, cacl.json, kcl.json, akcl.json" in capsys.readouterr().err
