"""A training step of `AtriTrainer` on a toy model."""

import tempfile
from typing import Any

import torch
import torch.nn.functional as F

from modeling_atri import AtriConfig, AtriModel
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer import AtriTrainingArguments
from modeling_atri.trainer.objectives import find_objective

from .random_data import make_batch, make_trainer
from .saved_tensors import peak_saved_megabytes


VOCAB_SIZE = 1000
NUM_FRAMES = 101  # of one second


class TrainingStep:
    """Runs forward and backward of one batch when it is called, and discards the gradients.

    The model has one layer for a second of sound and `num_layers` for captions, so most activations are those of
    captions, as with SONAR. Weights, features and tokens are random.

    Args:
        objective: `kcl`, `akcl`, `cacl` or `mlclap`.
        num_languages: captions of each clip: the number of languages for kcl and akcl, 2 for cacl, 1 for mlclap.
        num_clips: clips of the batch.
        num_tokens: tokens of each caption.
        hidden_size: width of both towers.
        num_layers: layers of the text tower.
        seed: seed of weights and batch.
        options: further `AtriTrainingArguments`.
    """

    def __init__(
        self,
        objective: str,
        num_languages: int,
        num_clips: int,
        num_tokens: int,
        hidden_size: int,
        num_layers: int,
        seed: int = 0,
        **options: Any,
    ):
        torch.manual_seed(seed)
        languages = list(ATRI_LANGUAGES[:num_languages])
        model = _make_model(hidden_size, num_layers)
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
            self.trainer = make_trainer(model, args)
        found = find_objective(objective)
        self._goes_by_language = args.exact_step and found.pair_weights is not None
        self._has_anchor = found.has_anchor
        shape = (len(languages), num_clips, num_tokens)
        tokens = torch.randint(4, VOCAB_SIZE, shape)
        self.batch = make_batch(NUM_FRAMES, tokens, torch.ones(shape, dtype=torch.long), languages)

    def __call__(self) -> None:
        self.trainer.training_step(self.trainer.model, dict(self.batch))
        self.trainer.model.zero_grad()

    def gradients(self) -> torch.Tensor:
        """All gradients of one step as one vector, in float64: in float32, sums over large batches round at 1e-6."""
        model = self.trainer.model.double()
        self.trainer.training_step(model, dict(self.batch))
        found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        model.zero_grad()
        model.float()
        return found

    def peak_saved_megabytes(self) -> float:
        """The most that autograd keeps at any time of a step, without weights and batch, in megabytes (10^6 bytes)."""
        return peak_saved_megabytes(self, [*self._weights(), *self.batch.values()])

    def loss_megabytes(self) -> float:
        """The part of it that the loss keeps, with or without chunks: embeddings, and matrices of clips x clips.

        Language by language it is the part of one pair of views (akcl: two), otherwise of all pairs.
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
        """The embeddings that one loss needs at the same time, and their gradients, in megabytes."""
        num_languages, num_clips, _ = self.batch["input_ids"].shape
        num_views = 1 + (num_languages if not self._goes_by_language else 2 if self._has_anchor else 1)
        return 2 * num_views * num_clips * self.trainer.model.config.projection_dim * 4 / 1e6

    def _weights(self) -> list[torch.Tensor]:
        return [*self.trainer.model.parameters(), *self.trainer.model.buffers()]


def _make_model(hidden_size: int, num_layers: int) -> AtriModel:
    audio = {
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    text = {
        "vocab_size": VOCAB_SIZE,
        "d_model": hidden_size,
        "encoder_layers": num_layers,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 4 * hidden_size,
        **{"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},
    }
    return AtriModel(AtriConfig(audio_config=audio, text_config=text, projection_dim=hidden_size))
