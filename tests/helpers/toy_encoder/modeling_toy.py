"""A toy audio encoder with batch normalisation, whose output names its states as Dasheng's does."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_toy import ToyConfig


class ToyModel(PreTrainedModel):
    config_class = ToyConfig
    main_input_name = "input_values"

    def __init__(self, config):
        super().__init__(config)
        width, depth = config.encoder_kwargs["embed_dim"], config.encoder_kwargs["depth"]
        self.init_bn = nn.BatchNorm1d(8)
        self.patches = nn.Conv1d(8, width, 4, stride=4)
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)

    def forward(self, input_values, labels=None):
        states = self.patches(self.init_bn(input_values)).transpose(1, 2)
        for layer in self.layers:
            states = states + torch.tanh(layer(states))
        return SequenceClassifierOutput(logits=states.mean(1).sigmoid(), hidden_states=states)
