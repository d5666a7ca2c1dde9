"""Configuration of a toy audio encoder, whose sizes are nested as in Dasheng's."""

from transformers import PretrainedConfig


class ToyConfig(PretrainedConfig):
    model_type = "toy_encoder"

    def __init__(self, encoder_kwargs=None, **kwargs):
        super().__init__(**kwargs)
        self.encoder_kwargs = encoder_kwargs or {"embed_dim": 16, "depth": 2}
