"""A training step of `AtriTrainer` on a toy model, and the bytes that autograd keeps for its backward pass."""

import tempfile
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.scratch import train_tokenizer


VOCAB_SIZE = 1000


class TrainingStep:
    """Forward and backward of one batch, again and again; the gradients are thrown away.

    The model has one layer for a second of sound and `num_layers` for captions: most activations are the captions',
    as in SONAR. All weights, features and tokens are random.

    Args:
        objective: `kcl`, `akcl`, `cacl` or `mlclap`.
        num_languages: K of kcl and akcl; cacl has 2 and mlclap 1 caption a clip.
        num_clips, num_tokens: of the batch, and of each of its captions.
        hidden_size, num_layers: width of both towers, and layers of the text tower.
        seed: of weights and batch.
        options: further `AtriTrainingArguments`.
    """

    def __init__(
        self,
        objective: str,
        num_languages: int,
        num_clips: int = 24,
        num_tokens: int = 32,
        hidden_size: int = 128,
        num_layers: int = 4,
        seed: int = 0,
        **options: Any,
    ):
        torch.manual_seed(seed)
        languages = list(ATRI_LANGUAGES[:num_languages])
        model = _make_model(hidden_size, num_layers)
        processor = AtriProcessor(AtriFeatureExtractor(), train_tokenizer(["a dog"], languages, vocab_size=VOCAB_SIZE))
        with tempfile.TemporaryDirectory() as folder:
            args = AtriTrainingArguments(
                folder,
                objective=objective,
                languages=languages,
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
                seed=seed,
                **options,
            )
            self.trainer = AtriTrainer(model, args, processor)
        self._has_anchor = objective == "akcl"
        self._goes_by_language = args.exact_step and objective in ("kcl", "akcl")
        self.trainer.current_gradient_accumulation_steps = 1  # said by `Trainer.train`, which is not needed here
        self.batch = _make_batch(languages, num_clips, num_tokens)

    def __call__(self) -> None:
        self.trainer.training_step(self.trainer.model, dict(self.batch))
        self.trainer.model.zero_grad()

    def gradients(self) -> torch.Tensor:
        """All gradients of one step, end to end, computed in float64: of sums over large batches rounding is 1e-6."""
        model = self.trainer.model.double()
        self.trainer.training_step(model, dict(self.batch))
        found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        model.zero_grad()
        model.float()
        return found

    def peak_saved_megabytes(self) -> float:
        """The most that autograd keeps at any time of a step, but weights and batch, in megabytes (10^6 bytes)."""
        return peak_saved_megabytes(self, [*self._weights(), *self.batch.values()])

    def loss_megabytes(self) -> float:
        """What of it the loss keeps, with or without chunks: embeddings, and several matrices of clips x clips.

        Language by language it is that of one pair of views (akcl: two), else of all pairs.
        """
        num_languages, num_clips, _ = self.batch["input_ids"].shape
        width, scale = self.trainer.model.config.projection_dim, self.trainer.model.logit_scale
        views = F.normalize(torch.randn(1 + num_languages, num_clips, width), dim=-1)

        def by_language() -> None:
            audio, *text = (view.clone().requires_grad_() for view in views)
            ids = self.batch["group_ids"]
            pairs = [(audio, text[0])] + [(text[0], text[1])] * self._has_anchor
            sum(info_nce_loss(x, y, scale.exp(), ids) for x, y in pairs).backward()

        def together() -> None:
            leaves = views.clone().requires_grad_()
            self.trainer.compute_loss_from_embeddings(leaves[0], leaves[1:], self.batch).backward()

        found = peak_saved_megabytes(by_language if self._goes_by_language else together, self._weights())
        self.trainer.model.zero_grad()
        return found

    def embeddings_megabytes(self) -> float:
        """Of the embeddings that a loss is taken of together, and their gradients, in megabytes."""
        num_languages, num_clips, _ = self.batch["input_ids"].shape
        num_views = 1 + (num_languages if not self._goes_by_language else 2 if self._has_anchor else 1)
        return 2 * num_views * num_clips * self.trainer.model.config.projection_dim * 4 / 1e6

    def _weights(self) -> list[torch.Tensor]:
        return [*self.trainer.model.parameters(), *self.trainer.model.buffers()]


def peak_saved_megabytes(run: Callable[[], Any], standing: list[Any]) -> float:
    """The most that autograd keeps for backward at any time of `run`, in megabytes (10^6 bytes).

    Args:
        run: forward and backward.
        standing: values whose tensors are in memory anyway, and are not counted.
    """
    tensors = [value for value in standing if isinstance(value, torch.Tensor)]
    counter = _SavedTensors({tensor.untyped_storage().data_ptr() for tensor in tensors})
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda saved: saved.tensor):
        run()
    # All at once, the model's forward pass also makes logits that no loss uses; their scale, one number, stays.
    if counter.bytes > 1e-4 * counter.peak:
        raise RuntimeError(f"{counter.bytes} bytes are still kept after the step: the count is wrong.")
    return counter.peak / 1e6


class _SavedTensors:
    """Counts the bytes that autograd keeps for backward, storage by storage."""

    def __init__(self, ignored: set[int]):
        self.ignored = ignored
        self.holders: dict[int, int] = {}  # address of a storage: nodes that keep it
        self.bytes = self.peak = 0

    def pack(self, tensor: torch.Tensor) -> "_Saved":
        saved = _Saved(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.ignored:
            self._add(storage.data_ptr(), storage.nbytes())
            # Autograd lets go of it when its node has run backward.
            weakref.finalize(saved, self._remove, storage.data_ptr(), storage.nbytes())
        return saved

    def _add(self, address: int, size: int) -> None:
        self.holders[address] = self.holders.get(address, 0) + 1
        if self.holders[address] == 1:
            self.bytes += size
            self.peak = max(self.peak, self.bytes)

    def _remove(self, address: int, size: int) -> None:
        self.holders[address] -= 1
        if self.holders[address] == 0:
            del self.holders[address]
            self.bytes -= size


class _Saved:
    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor


def _make_model(hidden_size: int, num_layers: int) -> AtriModel:
    audio = {"hidden_size": hidden_size, "intermediate_size": 4 * hidden_size, "num_hidden_layers": 1}
    text = {
        "vocab_size": VOCAB_SIZE,
        "d_model": hidden_size,
        "encoder_layers": num_layers,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 4 * hidden_size,
    }
    dropouts = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    config = AtriConfig(
        audio_config=audio | {"num_attention_heads": 4}, text_config=text | dropouts, projection_dim=hidden_size
    )
    model = AtriModel(config)
    model.audio_model.mel_norm.set_statistics(torch.zeros(64), torch.full((64,), 2.0))
    return model


def _make_batch(languages: list[str], num_clips: int, num_tokens: int) -> dict[str, Any]:
    shape = (len(languages), num_clips, num_tokens)
    return {
        "input_features": torch.randn(num_clips, 101, 64),
        "input_features_mask": torch.ones(num_clips, 101, dtype=torch.long),
        "input_ids": torch.randint(4, VOCAB_SIZE, shape),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "item_ids": torch.arange(num_clips),
        "group_ids": torch.arange(num_clips),
        "languages": [[language] * num_clips for language in languages],
    }
