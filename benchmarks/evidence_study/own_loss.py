"""A trainer with a loss of a study in place of the objective's own."""

from typing import Any

import torch
from torch import Tensor

from modeling_atri.trainer import AtriTrainer

from .losses import OwnLoss


class OwnLossTrainer(AtriTrainer):
    """Trains with `own_loss` on the batches of the objective. The loss's parameters are trained with the model's."""

    def __init__(self, own_loss: OwnLoss, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.own_loss = own_loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The optimizer, with the parameters of the loss as a group without weight decay."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if is_new and (parameters := list(self.own_loss.parameters())):
            optimizer.add_param_group({"params": parameters, "weight_decay": 0.0})
        return optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """A step. Trainer itself resets only the gradients of the model's parameters."""
        self.own_loss.zero_grad()
        return super().training_step(*args, **kwargs)

    def compute_loss_from_embeddings(
        self, audio_embeds: Tensor, text_embeds: Tensor, inputs: dict[str, Any]
    ) -> Tensor:
        """The loss of all languages together."""
        scale = self.atri_model.logit_scale.exp()
        return self.own_loss(audio_embeds, text_embeds, scale, inputs["group_ids"], self.state.global_step)
