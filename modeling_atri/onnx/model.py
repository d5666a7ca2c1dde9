"""A model that runs exported ONNX graphs with onnxruntime."""

from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..configuration_atri import AtriAudioConfig, AtriConfig, AtriEmbeddedAudioConfig
from ..text_model_atri import cut_captions
from .extra import AUDIO_FILE, MAX_TEXT_TOKENS, TEXT_FILE, import_extra


class OnnxAtriModel:
    """An exported model that onnxruntime runs on the CPU.

    It can replace an `AtriModel` in `encode_audio`, `encode_text` and `embed_retrieval_set`. Each graph is loaded when
    it is first used, so that encoding captions alone does not load the audio tower.

    Args:
        folder (`str` or `Path`): folder that `export_onnx` wrote.
        config (`AtriConfig`): configuration of the model.
        num_threads (`int`): number of threads that compute one operator.
    """

    device = torch.device("cpu")

    def __init__(self, folder: str | PathLike, config: AtriConfig, num_threads: int):
        self.folder = Path(folder)
        self.config = config
        self.num_threads = num_threads

    @classmethod
    def from_pretrained(cls, folder: str | PathLike, num_threads: int | None = None) -> "OnnxAtriModel":
        """Open a folder that `export_onnx` wrote.

        Args:
            folder (`str` or `Path`): a local folder; `huggingface_hub.snapshot_download` fetches one from the Hub.
            num_threads (`int`, *optional*): number of threads that compute one operator. Default:
                `torch.get_num_threads()`, which `OMP_NUM_THREADS` sets.

        Raises:
            ImportError: the extra `onnx` is not installed.
            ValueError: the folder does not exist or lacks the graphs.
        """
        import_extra("onnxruntime")
        missing = [name for name in (AUDIO_FILE, TEXT_FILE, "config.json") if not (Path(folder) / name).is_file()]
        if missing == [AUDIO_FILE] and _has_no_tower(AtriConfig.from_pretrained(folder)):
            missing = []
        if missing:
            raise ValueError(f"{folder} is not a folder of an exported model: it has no {', '.join(missing)}.")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"`num_threads` must be at least 1, got {num_threads}.")
        return cls(folder, AtriConfig.from_pretrained(folder), num_threads or torch.get_num_threads())

    def get_audio_features(
        self, input_features: Tensor, input_features_mask: Tensor | None = None
    ) -> BaseModelOutputWithPooling:
        """Compute the embeddings of clips as [`AtriModel.get_audio_features`] does. Only `pooler_output` is set.

        Raises:
            ValueError: the model has no audio tower, or a clip has fewer frames than one patch of CED.
        """
        audio: Any = self.config.audio_config
        if _has_no_tower(self.config):
            source = audio.source
            raise ValueError(
                "This model has no audio tower, so its folder holds the graph of captions alone. Its embeddings are "
                f"compared with those of {source or 'the model that it was made for'}."
            )
        if input_features_mask is None:
            input_features_mask = torch.ones(input_features.shape[:2], dtype=torch.long)
        width = audio.patch_size[1] if audio.model_type == AtriAudioConfig.model_type else 1
        shortest = int(input_features_mask.sum(dim=1).min())
        if shortest < width:
            raise ValueError(
                f"The shortest clip has {shortest} frames, fewer than one patch ({width} frames). Use longer clips, "
                "or pad_short=True in the processor."
            )
        inputs = {"input_features": input_features.float(), "input_features_mask": input_features_mask.long()}
        return BaseModelOutputWithPooling(pooler_output=run_graph(self._audio, inputs))

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutputWithPooling:
        """Compute the embeddings of captions as [`AtriModel.get_text_features`] does. Only `pooler_output` is set.

        Captions of more tokens than the text tower takes are cut before the end token.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        limit = self._text.get_modelmeta().custom_metadata_map.get(MAX_TEXT_TOKENS)
        if limit is not None and input_ids.shape[1] > int(limit):
            input_ids, attention_mask = cut_captions(input_ids, attention_mask, int(limit))
        inputs = {"input_ids": input_ids.long(), "attention_mask": attention_mask.long()}
        return BaseModelOutputWithPooling(pooler_output=run_graph(self._text, inputs))

    @cached_property
    def _audio(self) -> Any:
        return self._load(AUDIO_FILE)

    @cached_property
    def _text(self) -> Any:
        return self._load(TEXT_FILE)

    def _load(self, name: str) -> Any:
        return load_graph(self.folder / name, self.num_threads)


def _has_no_tower(config: AtriConfig) -> bool:
    audio: Any = config.audio_config
    return audio.model_type == AtriEmbeddedAudioConfig.model_type


def load_graph(path: Path, num_threads: int = 0) -> Any:
    """Load a graph as an `onnxruntime.InferenceSession` on the CPU. `num_threads` 0 leaves the number to it."""
    ort = import_extra("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    # Between two calls, clips are decoded and captions tokenized: waiting threads must not occupy the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_graph(session: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Run a loaded graph on tensors on the CPU, and return its output."""
    (embeddings,) = session.run(None, {name: np.ascontiguousarray(value.numpy()) for name, value in inputs.items()})
    return torch.from_numpy(embeddings)
