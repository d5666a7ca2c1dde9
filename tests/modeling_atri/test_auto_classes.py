"""Auto classes where this package is installed: before it is imported, after, and with remote code in between."""

import json
import textwrap
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, AutoTokenizer, NllbTokenizer

from modeling_atri import AtriAudioConfig, AtriAudioModel, AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from tests.helpers.forks import run_program
from tests.helpers.tiny import CAPTIONS, tiny_config, tiny_model, tiny_processor


CLASSES = [
    (AutoConfig, AtriConfig),
    (AutoModel, AtriModel),
    (AutoProcessor, AtriProcessor),
    (AutoFeatureExtractor, AtriFeatureExtractor),
    (AutoTokenizer, NllbTokenizer),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("arguments", [{}, {"trust_remote_code": True}, {"trust_remote_code": False}])
@pytest.mark.parametrize("auto_class, own_class", CLASSES)
def test_the_imported_classes_win(folder, auto_class, own_class, arguments):
    assert type(auto_class.from_pretrained(folder, **arguments)) is own_class


def test_sub_configurations_are_the_packages_own(folder):
    config = AutoConfig.from_pretrained(folder)
    assert type(config.audio_config) is AtriAudioConfig
    assert type(config.text_config).__name__ == "M2M100Config"


def test_from_config():
    model = AutoModel.from_config(tiny_config())
    assert type(model) is AtriModel
    assert model.state_dict().keys() == tiny_model().state_dict().keys()
    tower = AutoModel.from_config(tiny_config().audio_config)
    assert type(tower) is AtriAudioModel
    assert tower.state_dict().keys() == tiny_model().audio_model.state_dict().keys()


def test_for_model():
    assert type(AutoConfig.for_model("atri", projection_dim=8)) is AtriConfig
    assert type(AutoConfig.for_model("atri_audio_model")) is AtriAudioConfig


def test_the_tokenizer_knows_the_languages(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder, src_lang="fra_Latn")
    assert set(CAPTIONS) <= set(tokenizer.all_special_tokens)
    caption = CAPTIONS["fra_Latn"]
    expected = tiny_processor()(text=caption, language="fr")["input_ids"]
    assert torch.equal(tokenizer(caption, return_tensors="pt")["input_ids"], expected)


def test_settings_of_the_processor_pass_through(folder):
    processor = AutoProcessor.from_pretrained(folder, src_lang="deu_Latn")
    caption = CAPTIONS["deu_Latn"]
    expected = tiny_processor()(text=caption, language="de")["input_ids"]
    assert torch.equal(processor(text=caption)["input_ids"], expected)


@pytest.mark.heavy
def test_before_and_after_the_package_is_imported(folder, tmp_path):
    program = """
        import json, sys, warnings
        import torch
        from transformers import AutoModel, AutoProcessor

        folder, facts = sys.argv[1], {}

        def embed(model, processor):
            inputs = processor(text=["a dog", "un chien"], language=["en", "fr"])
            return model.get_text_features(**inputs).pooler_output.detach()

        try:
            AutoModel.from_pretrained(folder)
        except ValueError as error:
            facts["not imported"] = str(error)
        remote_model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        remote_processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        facts["imported by remote code"] = [name for name in sys.modules if name.startswith("modeling_atri")]
        facts["remote"] = type(remote_model).__module__

        from modeling_atri import AtriModel, AtriProcessor
        model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
        facts["own"] = [isinstance(model, AtriModel), isinstance(processor, AtriProcessor)]
        facts["remote is own"] = isinstance(remote_model, AtriModel)
        trusted = AutoModel.from_pretrained(folder, trust_remote_code=True)
        facts["own, trusted"] = isinstance(trusted, AtriModel)
        expected = embed(model, processor)
        facts["differences"] = [
            (embed(*pair) - expected).abs().max().item()
            for pair in [(remote_model, remote_processor), (remote_model, processor), (model, remote_processor)]
        ]
        print("\\n" + json.dumps(facts))  # after transformers' question, which ends without a newline
    """
    facts = json.loads(run_program(textwrap.dedent(program), str(folder), folder=tmp_path).splitlines()[-1])
    assert "trust_remote_code=True" in facts["not imported"]
    assert facts["imported by remote code"] == []
    assert facts["remote"].startswith("transformers_modules.")
    assert facts["own"] == [True, True]
    assert facts["own, trusted"]
    assert not facts["remote is own"]
    assert facts["differences"] == [0.0, 0.0, 0.0]
