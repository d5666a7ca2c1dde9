"""A saved folder in the hands of somebody who has transformers, torch and numpy, and not this package."""

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from tests.helpers import SCRIPTS
from tests.helpers.bare_environment import link_packages, run_bare
from tests.helpers.tiny import CAPTIONS, tiny_config, tiny_model, tiny_processor


pytestmark = pytest.mark.heavy


CLIENT = SCRIPTS / "remote_client.py"
# Nine captions, so that one language comes twice; clips of several lengths, the last longer than 1012 frames.
LANGUAGES = [*CAPTIONS, "eng_Latn"]
TEXTS = [*CAPTIONS.values(), "a dog </s> fra_Latn"]
LENGTHS = [16_000, 2_400, 5_000, 24_123, 8_000, 40_000, 3_000, 16_001, 170_000]  # samples


def make_clips() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [(0.1 * generator.standard_normal(length)).astype(np.float32) for length in LENGTHS]


def bert_model_and_processor() -> tuple[AtriModel, AtriProcessor]:
    """A text tower of another kind, whose tokenizer has no language codes."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "barks", "un", "chien", "ein", "hund", "the", "rain"]
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    text_config = {
        "model_type": "bert",
        "vocab_size": len(words),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.2,
        "max_position_embeddings": 514,
    }
    audio_config = tiny_config().audio_config.to_dict()
    model = AtriModel(AtriConfig(audio_config=audio_config, text_config=text_config, projection_dim=12)).eval()
    model.audio_model.mel_norm.set_statistics(torch.full((64,), -20.0), torch.full((64,), 300.0))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **special)
    return model, AtriProcessor(AtriFeatureExtractor(), fast)


def numbers_of(model: AtriModel, processor: AtriProcessor) -> dict[str, torch.Tensor]:
    batch = processor(text=TEXTS, language=LANGUAGES, audio=make_clips(), sampling_rate=16_000)
    with torch.no_grad():
        outputs = model(**batch, return_loss=True)
    return {name: outputs[name] for name in ("loss", "audio_embeds", "text_embeds", "logits_per_audio")}


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Folders as users save them: a model, another kind of model, one saved by the Trainer, an audio tower alone."""
    folder = tmp_path_factory.mktemp("remote")
    torch.manual_seed(0)
    model, processor = tiny_model(), tiny_processor()
    bert_model, bert_processor = bert_model_and_processor()
    for name, pair in {"model": (model, processor), "bert": (bert_model, bert_processor)}.items():
        for part in pair:
            part.save_pretrained(folder / name)
    processor.save_pretrained(folder / "processor")
    model.audio_model.save_pretrained(folder / "tower")
    AtriFeatureExtractor().save_pretrained(folder / "tower")
    arguments = AtriTrainingArguments(
        output_dir=str(folder / "runs"), languages=["en", "fr"], use_cpu=True, report_to="none"
    )
    AtriTrainer(model, arguments, processor).save_model(str(folder / "trained"))
    shutil.copytree(folder / "model", folder / "newer")
    mark_as_newer(folder / "newer")
    return folder


def mark_as_newer(folder: Path) -> None:
    """Another version of the code: it says so itself."""
    for name, owner in (("modeling", "AtriModel"), ("processing", "AtriProcessor"), ("configuration", "AtriConfig")):
        with (folder / f"{name}_atri.py").open("a", encoding="utf-8") as file:
            file.write(f"\n{owner}.version_of_the_code = 'newer'\n")


@pytest.fixture(scope="module")
def remote(work, tmp_path_factory) -> Path:
    """Runs the client once, in an environment of its own."""
    clips = {f"clip{index}": clip for index, clip in enumerate(make_clips())}
    np.savez(work / "inputs.npz", captions=TEXTS, languages=LANGUAGES, **clips)
    site_packages = link_packages(tmp_path_factory.mktemp("site-packages"), ["numpy", "torch", "transformers"])
    run_bare(CLIENT, site_packages, work)
    return work


def remote_numbers(work: Path, folder: str) -> dict[str, np.ndarray]:
    with np.load(work / "numbers.npz") as numbers:
        return {key.partition(".")[2]: numbers[key] for key in numbers.files if key.startswith(f"{folder}.")}


def remote_facts(work: Path) -> dict[str, Any]:
    return json.loads((work / "facts.json").read_text(encoding="utf-8"))


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    """To 1e-6, of the value where it is above one: logits are scaled by tens."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-6, atol=1e-6, err_msg=name)


# Files


def entry_files(folder: Path) -> set[str]:
    """Files that the folder's JSON names in an `auto_map`, or as a pipeline."""

    def references(value: Any) -> list[str]:
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        nested = [reference for child in values for reference in references(child)]
        return [*nested, *([value] if isinstance(value, str) and re.fullmatch(r"\w+_atri\.\w+", value) else [])]

    contents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*config.json")]
    return {reference.partition(".")[0] for reference in references(contents)}


def imported_siblings(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1}


@pytest.mark.parametrize(
    "name, entries",
    [
        ("model", {"configuration_atri", "modeling_atri", "processing_atri", "feature_extraction_atri"}),
        ("trained", {"configuration_atri", "modeling_atri", "processing_atri", "feature_extraction_atri"}),
        ("bert", {"configuration_atri", "modeling_atri", "processing_atri", "feature_extraction_atri"}),
        ("processor", {"processing_atri", "feature_extraction_atri"}),
        ("tower", {"configuration_atri", "ced_model_atri", "feature_extraction_atri"}),
    ],
)
def test_a_saved_folder_holds_the_code_that_it_names(work, repository_root, name, entries):
    assert entries <= entry_files(work / name)
    wanted = set()
    todo = entry_files(work / name)
    while todo:
        wanted |= todo
        todo = set().union(*(imported_siblings(repository_root / "modeling_atri" / f"{file}.py") for file in todo))
        todo -= wanted
    assert {path.stem for path in (work / name).glob("*.py")} == wanted
    for file in wanted:
        source = repository_root / "modeling_atri" / f"{file}.py"
        assert (work / name / f"{file}.py").read_text("utf-8") == source.read_text("utf-8")


# Numbers


def test_the_client_had_neither_the_package_nor_its_other_requirements(remote):
    assert remote_facts(remote)["present"] == []


@pytest.mark.parametrize("folder", ["model", "again", "trained"])
def test_embeddings_and_loss_are_the_same(remote, folder):
    assert_equal(remote_numbers(remote, folder), numbers_of(tiny_model(), tiny_processor()))


def test_another_text_tower_is_the_same(remote):
    torch.manual_seed(0)
    assert_equal(remote_numbers(remote, "bert"), numbers_of(*bert_model_and_processor()))


def test_the_audio_tower_alone_is_the_same(remote):
    batch = AtriFeatureExtractor()(make_clips()[:2], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        pooled = tiny_model().audio_model(**batch).pooler_output
    expected = {"pooler_output": pooled, "input_features": batch["input_features"]}
    assert_equal(remote_numbers(remote, "tower"), expected)


def test_each_folder_runs_its_own_code(remote):
    assert remote_facts(remote)["versions"] == {"model": ["", "", ""], "newer": ["newer", "newer", "newer"]}


def test_what_is_saved_without_the_package_is_complete(remote):
    for name in sorted(path.name for path in (remote / "model").iterdir()):
        assert (remote / "again" / name).is_file(), name
    code = sorted((remote / "model").glob("*.py"))
    assert len(code) >= 4
    for path in code:
        assert (remote / "again" / path.name).read_text() == path.read_text()


def test_auto_classes_without_the_package(remote):
    facts = remote_facts(remote)
    assert facts["classes"] == {
        "AutoConfig": "AtriConfig",
        "AutoModel": "AtriModel",
        "AutoProcessor": "AtriProcessor",
        "AutoFeatureExtractor": "AtriFeatureExtractor",
        "AutoTokenizer": "NllbTokenizer",
    }
    assert set(CAPTIONS) < set(facts["special_tokens"])
    assert facts["tokens"] == tiny_processor().tokenizer(TEXTS[1])["input_ids"]
    assert facts["from_config"] == list(tiny_model().state_dict())
