"""Captions become the tokens that the tokenizer itself would give, whatever was changed in it before."""

import time

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from modeling_atri.text_tokens_atri import tokenize


CAPTIONS = ["a dog barks in the rain", "<pad> dog </s>", "<extra1>dog<extra99> rain", "A dog", "new", ""]


def template(name: str, index: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(f"{name} $A </s>", special_tokens=[(name, index), ("</s>", 2)])


def tokenizer_with(num_added: int) -> PreTrainedTokenizerFast:
    """As Gemma's: many added tokens that are not special."""
    words = ["<pad>", "<unk>", "</s>", "<s>", *(f"<extra{index}>" for index in range(num_added))]
    words += ["a", "dog", "barks", "in", "the", "rain", "pad", "<", ">", "/", "s", "</", "extra99"]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(words[:4])
    backend.add_tokens([AddedToken(word, normalized=False) for word in words[4 : 4 + num_added]])
    backend.post_processor = template("<s>", 3)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


def own_tokens(tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    return tokenizer(CAPTIONS, truncation=True, max_length=6, split_special_tokens=True)["input_ids"]


class Louder:
    def normalize(self, text):
        text.replace("dog", "rain")


def add_token(tokenizer):
    tokenizer.add_tokens(["new"])


def change_special_token(tokenizer):
    tokenizer.backend_tokenizer.post_processor = template("<pad>", 0)


def change_normalizer(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def write_normalizer(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Normalizer.custom(Louder())


@pytest.mark.parametrize("num_added", [0, 5])
@pytest.mark.parametrize("change", [add_token, change_special_token, change_normalizer, write_normalizer])
def test_tokens_are_those_of_the_tokenizer_after_a_change(change, num_added):
    tokenizer = tokenizer_with(num_added)
    before = tokenize(tokenizer, CAPTIONS, 6)
    assert before == own_tokens(tokenizer)
    change(tokenizer)
    for _ in range(2):
        assert tokenize(tokenizer, CAPTIONS, 6) == own_tokens(tokenizer) != before


def test_thousands_of_added_tokens_cost_time_only_once():
    tokenizer = tokenizer_with(5_000)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        tokenize(tokenizer, CAPTIONS, 6)
        times.append(time.perf_counter() - start)
    assert min(times[1:]) < times[0] / 4  # it is a fiftieth
