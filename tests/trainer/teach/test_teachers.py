"""Teachers: the text sides of models, against the original classes on one caption at a time."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    ClapConfig,
    ClapModel,
    ModernBertConfig,
    PeAudioConfig,
    PeAudioModel,
)

from modeling_atri.encode.encoding import encode_text
from modeling_atri.trainer.teach.teachers import load_teacher, model_teacher
from tests.helpers.tiny import tiny_model, tiny_processor, tiny_tokenizer
from tests.helpers.training import make_arguments, make_rows, make_trainer


pytestmark = pytest.mark.heavy

CAPTIONS = ["a dog barks", "rain", "a dog barks while rain falls on a roof and a car passes", "rain"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
CARD = "---\nlicense: apache-2.0\n---\n# A model\n"


def save_clap(folder, seed: int = 0, projection_dim: int = 12) -> ClapModel:
    torch.manual_seed(seed)
    audio = {"depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 16, "patch_embeds_hidden_size": 8}
    audio |= {"num_hidden_layers": 2, "spec_size": 64, "num_mel_bins": 16, "window_size": 4}
    text = SIZES | {"vocab_size": 600, "max_position_embeddings": 40, "pad_token_id": 1}
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=projection_dim)).eval()
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return model


def test_clap(tmp_path):
    model = save_clap(tmp_path)
    teacher = load_teacher(tmp_path)
    found = teacher.encode(CAPTIONS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for caption, embedding in zip(CAPTIONS, found, strict=True):
        with torch.no_grad():
            expected = model.get_text_features(**tokenizer(caption, return_tensors="pt")).pooler_output[0]
        np.testing.assert_allclose(embedding, expected, atol=1e-6)
    np.testing.assert_array_equal(found[1], found[3])
    assert (teacher.kind, teacher.width, teacher.name, teacher.license) == ("clap", 12, tmp_path.name, "apache-2.0")
    assert teacher.encode(["dog " * 200]).shape == (1, 12)  # longer than the tower takes
    save_clap(tmp_path / "again")
    save_clap(tmp_path / "other", seed=1)
    assert load_teacher(tmp_path / "again").fingerprint == teacher.fingerprint
    assert load_teacher(tmp_path / "other").fingerprint != teacher.fingerprint


def test_an_atri_model(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    for language in ("fra_Latn", "eng_Latn"):
        teacher = load_teacher(str(tmp_path), language)
        expected = encode_text(tiny_model(), tiny_processor(), CAPTIONS, language)
        np.testing.assert_allclose(teacher.encode(CAPTIONS), expected, atol=1e-6)
        assert (teacher.kind, teacher.width) == ("atri", 12)
    assert model_teacher(tiny_model(), tiny_processor(), "eng_Latn").fingerprint == teacher.fingerprint
    assert model_teacher(tiny_model(1), tiny_processor(), "eng_Latn").fingerprint != teacher.fingerprint
    assert model_teacher(tiny_model(), tiny_processor(), "fra_Latn").fingerprint != teacher.fingerprint


def test_a_model_of_sentence_transformers(tmp_path):
    package = pytest.importorskip("sentence_transformers", reason="needs the extra `sentence-transformers`")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES, vocab_size=600)).save_pretrained(tmp_path / "bert")
    tiny_tokenizer().save_pretrained(tmp_path / "bert")
    tower = modules.Transformer(str(tmp_path / "bert"))
    model = package.SentenceTransformer(modules=[tower, modules.Pooling(16)], device="cpu")
    model.save(str(tmp_path / "sentences"))
    teacher = load_teacher(tmp_path / "sentences")
    expected = [F.normalize(torch.from_numpy(model.encode(caption)), dim=0).numpy() for caption in CAPTIONS]
    np.testing.assert_allclose(teacher.encode(CAPTIONS), expected, atol=1e-6)
    assert (teacher.kind, teacher.width) == ("sentence_transformers", 16)


def test_pe_audio(tmp_path):
    torch.manual_seed(0)
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    text = ModernBertConfig(**SIZES, vocab_size=600, **tokens)
    audio = SIZES | {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "dac_config": {
            "encoder_hidden_size": 4,
            "hidden_size": 8,
            "codebook_dim": 4,
            "downsampling_ratios": [2, 2],
            "n_codebooks": 1,
        },
    }
    model = PeAudioModel(PeAudioConfig(text_config=text.to_dict(), audio_config=audio)).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    teacher = load_teacher(tmp_path)
    tokenizer, keys = AutoTokenizer.from_pretrained(tmp_path), ("input_ids", "attention_mask")
    for caption, embedding in zip(CAPTIONS, teacher.encode(CAPTIONS), strict=True):
        tokens = tokenizer(caption, return_tensors="pt")
        with torch.no_grad():
            states = model.text_model(**{key: tokens[key] for key in keys}, output_hidden_states=True).hidden_states
            expected = F.normalize(model.text_audio_head(states[-1][:, 0]), dim=-1)[0]  # as in its `forward`
        np.testing.assert_allclose(embedding, expected, atol=1e-5)
    assert teacher.kind == "pe_audio"


def test_training_from_a_folder(tmp_path):
    """The captions learn CLAP's embeddings; CLAP's name and license are in the results."""
    clap = tmp_path / "clap"
    clap.mkdir()
    model = save_clap(clap)
    rows = [{name: row[name] for name in row if name != "audio"} for row in make_rows(6, num_captions=1)]
    args = make_arguments(tmp_path / "run", objective="teach", teacher=str(clap), num_train_epochs=2)
    trainer = make_trainer(args, rows)
    trainer.train()
    batch = next(iter(trainer.get_train_dataloader()))
    tokenizer = AutoTokenizer.from_pretrained(clap)
    captions = [rows[item]["captions"]["eng_Latn"][0] for item in batch["item_ids"].tolist()]
    with torch.no_grad():
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        expected = model.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
    torch.testing.assert_close(batch["teacher_embeds"], expected, atol=1e-6, rtol=0)
    facts = trainer.training_facts()["teacher"]
    assert (facts["name"], facts["kind"], facts["license"]) == ("clap", "clap", "apache-2.0")


def test_what_is_no_teacher(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        load_teacher(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no `config.json` with a model type. Use an AtriModel"):
        load_teacher(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    with pytest.raises(
        ValueError, match="no text side that gives embeddings: it is of type 'wav2vec2'. Use an AtriModel"
    ):
        load_teacher(tmp_path)
