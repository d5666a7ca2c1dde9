"""Features of a toy audio encoder: spectra `(batch, bins, frames)`, only as tensors."""

import torch
from transformers import BatchFeature, SequenceFeatureExtractor


class ToyFeatureExtractor(SequenceFeatureExtractor):
    model_input_names = ["input_values"]

    def __init__(self, feature_size=8, sampling_rate=16000, padding_value=0.0, **kwargs):
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs)

    def __call__(self, x, sampling_rate=None, return_tensors="pt"):
        if return_tensors != "pt":
            raise NotImplementedError("Only tensors.")
        x = torch.as_tensor(x).float().reshape(-1, len(x) if getattr(x, "ndim", 1) == 1 else x.shape[-1])
        spectrum = torch.stft(x, 14, 160, window=torch.hann_window(14), center=True, return_complex=True).abs()
        return BatchFeature({"input_values": (spectrum + 1e-4).log()})
