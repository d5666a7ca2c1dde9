"""How many tokens text towers take, and captions that are longer."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, PreTrainedConfig

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode.encoding import encode_text
from modeling_atri.onnx import export
from modeling_atri.pipelines_atri import AtriAudioTextFeatureExtractionPipeline
from modeling_atri.text_model_atri import build_text_model, cut_captions, max_text_tokens
from modeling_atri.trainer import AtriDataCollator
from modeling_atri.trainer.checks.rows import check_tokenizer
from modeling_atri.trainer.data.draws import LanguageDraws
from tests.helpers.tiny import tiny_config, tiny_processor
from tests.helpers.training import make_rows


SIZES = {
    "vocab_size": 600,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 42,
    "pad_token_id": 1,
}
EMBEDDING = {"embedding_size": 16}
T5_SIZES = {"vocab_size": 600, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
M2M100_SIZES = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
# Towers with 42 positions, and how many tokens they take. Those of the first group cannot take more.
HARD = {
    "bert": (42, {}),
    "distilbert": (42, {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}),
    "electra": (42, EMBEDDING),
    "albert": (42, EMBEDDING),
    "roberta": (40, {}),
    "xlm-roberta": (40, {}),
    "xlm-roberta-xl": (40, {}),
    "camembert": (40, {}),
    "mpnet": (40, {}),
    "esm": (40, {"position_embedding_type": "absolute"}),
    "clip_text_model": (42, {}),
    "xlm": (42, {"emb_dim": 16, "n_layers": 1, "n_heads": 2}),
}
SOFT = {
    "modernbert": (42, {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}),
    "deberta-v2": (42, {"position_biased_input": False, "relative_attention": True}),
    "m2m_100": (42, M2M100_SIZES),
    "t5": (None, T5_SIZES),
}
CAPTION = "a dog barks while rain falls " * 500  # more than 3,000 tokens


def make_config(kind: str) -> PreTrainedConfig:
    sizes = SIZES | (HARD | SOFT)[kind][1]
    if kind == "t5":
        del sizes["max_position_embeddings"]
    return AutoConfig.for_model(kind, **sizes)


def make_model(kind: str) -> AtriModel:
    config = tiny_config()
    config.text_config = make_config(kind)
    torch.manual_seed(0)
    return AtriModel(config).eval()


@pytest.mark.parametrize("kind", [*HARD, *SOFT])
def test_the_limit_is_what_the_tower_takes(kind):
    tower = build_text_model(make_config(kind)).eval()
    limit, _ = (HARD | SOFT)[kind]
    assert max_text_tokens(tower) == limit

    def encode(num_tokens: int) -> torch.Tensor:
        ids = torch.full((1, num_tokens), 5)
        with torch.no_grad():
            return tower(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    assert encode(limit or 100).isfinite().all()
    if kind in HARD:
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            encode(limit + 1)


def test_published_sizes():
    for kind, positions, limit in [("xlm-roberta", 514, 512), ("bert", 512, 512), ("modernbert", 8192, 8192)]:
        config = make_config(kind)
        config.max_position_embeddings = positions
        with torch.device("meta"):
            assert max_text_tokens(build_text_model(config)) == limit


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_cut_captions_equals_a_loop(side, width):
    generator = torch.Generator().manual_seed(0)
    lengths = [9, 1, 5, 6, 2, 8, 4]
    ids, mask = torch.full((7, 9), 1), torch.zeros(7, 9, dtype=torch.long)
    rows = []
    for row, length in enumerate(lengths):
        place = slice(0, length) if side == "right" else slice(9 - length, 9)
        ids[row, place] = torch.randint(5, 90, (length,), generator=generator)
        mask[row, place] = 1
        tokens = ids[row, place].tolist()
        rows.append(tokens if length <= width else [*tokens[: width - 1], tokens[-1]])
    found_ids, found_mask = cut_captions(ids, mask, width)
    assert found_ids.tolist() == [row + [1] * (width - len(row)) for row in rows]
    assert found_mask.tolist() == [[1] * len(row) + [0] * (width - len(row)) for row in rows]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert", "m2m_100", "t5"])
@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_long_captions_are_cut_before_the_end_token(kind, padding_side):
    model, processor = make_model(kind), tiny_processor()
    limit = model.max_text_tokens or 512
    tokens = processor(text=["a dog", CAPTION], padding_side=padding_side)
    assert tokens["input_ids"].shape == (2, 512)
    with torch.no_grad():
        embeddings = model(**tokens).text_embeds
        cut = processor(text=CAPTION, max_length=limit)
        assert cut["input_ids"][0, -1] == processor.tokenizer.eos_token_id
        expected = [model.get_text_features(**processor(text="a dog")), model.get_text_features(**cut)]
    for embedding, output in zip(embeddings, expected, strict=True):
        torch.testing.assert_close(embedding, output.pooler_output[0], atol=1e-5, rtol=0)
    found = encode_text(model, processor, ["a dog", CAPTION])
    np.testing.assert_allclose(found, embeddings.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "t5"])
def test_doors_limit_the_processor_to_the_tower(kind, tmp_path):
    model, limit = make_model(kind), make_model(kind).max_text_tokens or 512
    expected = encode_text(model, tiny_processor(), [CAPTION])[0]

    processor = tiny_processor()
    check_tokenizer(processor, model, ["en"])  # as the Trainer does
    rows = [row | {"captions": {"eng_Latn": [CAPTION]}} for row in make_rows(2, ["eng_Latn"])]
    batch = AtriDataCollator(processor, LanguageDraws("kcl", ["en"], anchor="en"))(rows)
    assert batch["input_ids"].shape == (1, 2, limit)
    assert (batch["input_ids"][..., -1] == processor.tokenizer.eos_token_id).all()
    with torch.no_grad():
        embedding = model.get_text_features(batch["input_ids"][0], batch["attention_mask"][0]).pooler_output[0]
    np.testing.assert_allclose(embedding, expected, atol=1e-5)

    processor = tiny_processor()
    pipe = AtriAudioTextFeatureExtractionPipeline(model, processor)
    np.testing.assert_allclose(pipe(CAPTION, modality="text"), expected, atol=1e-5)
    assert processor.tokenizer.model_max_length == limit
    if model.max_text_tokens is not None:
        assert processor.max_text_length == limit
        with pytest.raises(ValueError, match=f"`max_length` is {limit + 1}, but captions have at most {limit} tokens"):
            processor(text=CAPTION, max_length=limit + 1)
    processor.save_pretrained(tmp_path)
    assert AtriProcessor.from_pretrained(tmp_path)(text=CAPTION)["input_ids"].shape == (1, limit)


def test_an_exported_model_has_a_processor_that_cuts_captions(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(export, "_write_graph", lambda *args: None)  # takes a minute
    export.export_onnx(make_model("xlm-roberta"), tiny_processor(), tmp_path / "onnx")
    tokens = AtriProcessor.from_pretrained(tmp_path / "onnx")(text=CAPTION)
    assert tokens["input_ids"].shape == (1, 40)
    assert tokens["input_ids"][0, -1] == tiny_processor().tokenizer.eos_token_id
