"""A batch of random data, and a trainer that can step without `train()`."""

from typing import Any

import torch
from torch import Tensor

from modeling_atri import AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.scratch import train_tokenizer


NUM_MEL_BINS = 64


def make_trainer(model: AtriModel, args: AtriTrainingArguments) -> AtriTrainer:
    """Make a trainer for calls of `training_step`, with a processor that is never used."""
    model.audio_model.mel_norm.set_statistics(torch.zeros(NUM_MEL_BINS), torch.full((NUM_MEL_BINS,), 2.0))
    tokenizer = train_tokenizer(["a dog"], args.languages, vocab_size=1000)
    trainer = AtriTrainer(model, args, AtriProcessor(AtriFeatureExtractor(), tokenizer))
    trainer.current_gradient_accumulation_steps = 1  # `Trainer.train` would set it
    return trainer


def make_batch(
    num_frames: int, input_ids: Tensor, attention_mask: Tensor, languages: list[str], device: Any = "cpu"
) -> dict[str, Any]:
    """Make a batch of clips with random features. Token ids and mask are `(captions of a clip, clips, tokens)`."""
    num_clips = input_ids.shape[1]
    tensors = {
        "input_features": torch.randn(num_clips, num_frames, NUM_MEL_BINS),
        "input_features_mask": torch.ones(num_clips, num_frames, dtype=torch.long),
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "item_ids": torch.arange(num_clips),
        "group_ids": torch.arange(num_clips),
    }
    on_device = {name: tensor.to(device) for name, tensor in tensors.items()}
    return on_device | {"languages": [[language] * num_clips for language in languages]}
