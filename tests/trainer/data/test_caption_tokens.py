import pytest
import torch

from modeling_atri.trainer.data.caption_tokens import CaptionTokens
from tests.helpers.tiny import tiny_processor


BATCHES = [
    (["a dog barks", "un chien aboie dans la rue", "a dog barks"], ["eng_Latn", "fra_Latn", "fra_Latn"]),
    (["a dog barks", "rain"], ["eng_Latn", "eng_Latn"]),
]


@pytest.mark.parametrize("max_remembered", [0, 2, 100])
def test_tokens_are_those_of_the_processor_each_time(max_remembered):
    processor = tiny_processor()
    tokens_of = CaptionTokens(processor, max_remembered)
    for captions, languages in BATCHES * 2:
        expected = processor(text=captions, language=languages)
        found = tokens_of(captions, languages)
        assert found.keys() == expected.keys()
        for name, values in found.items():
            assert values.dtype == expected[name].dtype
            assert torch.equal(values, expected[name])


def test_a_caption_is_tokenized_once_for_each_language_and_limit(monkeypatch):
    processor = tiny_processor()
    tokens_of, asked = CaptionTokens(processor), []
    call = type(processor).__call__
    monkeypatch.setattr(
        type(processor), "__call__", lambda self, text, **kwargs: asked.append(len(text)) or call(self, text, **kwargs)
    )
    for captions, languages in BATCHES * 2:
        tokens_of(captions, languages)
    assert asked == [3, 1]
    processor.limit_text_length(4)
    short = tokens_of(*BATCHES[0])
    assert asked == [3, 1, 3]
    assert short["input_ids"].shape == (3, 4)
