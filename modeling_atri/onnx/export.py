"""Both towers as ONNX graphs, and a model that runs them with onnxruntime (`pip install 'modeling_atri[onnx]'`).

A folder of `export_onnx` holds `audio.onnx` (input_features, input_features_mask -> audio_embeds), `text.onnx`
(input_ids, attention_mask -> text_embeds), configuration and processor. Batch and length are free; the cutting of long
clips into chunks is inside the graph, so that any runtime gives the model's embeddings.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..configuration_atri import AtriConfig
from ..encode.encoding import in_eval_mode
from ..files import folder_written_whole
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from .int8 import quantize_int8


if TYPE_CHECKING:
    import onnxruntime


AUDIO_FILE, TEXT_FILE = "audio.onnx", "text.onnx"

_OPSET = 23  # the first with an Attention operator: smaller, faster graphs; onnxruntime reads it from 1.23 on
_FILE_SIZE_LIMIT = 3 * 2**29  # bytes of weights; a protobuf message, which a file is, ends at 2**31


def export_onnx(model: AtriModel, processor: AtriProcessor, folder: str | PathLike, *, int8: bool = False) -> None:
    """Write both towers as ONNX graphs, with configuration and processor, to a folder of their own.

    Embeddings come out projected and L2-normalised, equal to the model's to 1e-5. Weights beyond 1.6 GB stand in
    `audio.onnx.data` or `text.onnx.data` beside the graph.

    Args:
        model (`AtriModel`): with float32 weights; its training mode is put back afterwards.
        processor (`AtriProcessor`): of the model.
        folder (`str` or `Path`): new or empty; written whole or not at all.
        int8 (`bool`, *optional*, defaults to `False`): weights in int8, activations quantised as they come: a quarter
            of the size, several times as fast, at some cost in precision. See `modeling_atri.onnx.int8`.

    Raises:
        ImportError: the extra `onnx` is not installed.
        ValueError: weights of another dtype; a folder that holds something.
    """
    check_new_folder(folder)
    import_extra("onnxscript")
    if model.dtype != torch.float32:
        raise ValueError(f"The model's weights are {model.dtype}; load it with dtype=torch.float32 to export it.")
    config = model.config.audio_config
    num_frames = config.max_frames + config.patch_size[1]  # sizes of the examples leave no trace in the graphs
    with folder_written_whole(Path(folder)) as new, in_eval_mode(model), _quiet():
        _export_tower(
            _AudioTower(model),
            {
                "input_features": torch.zeros(2, num_frames, config.num_mel_bins, device=model.device),
                "input_features_mask": torch.ones(2, num_frames, dtype=torch.long, device=model.device),
            },
            {0: "num_audios", 1: "num_frames"},
            new / AUDIO_FILE,
            "audio_embeds",
            int8,
        )
        _export_tower(
            _TextTower(model),
            {
                name: torch.ones(2, 8, dtype=torch.long, device=model.device)
                for name in ("input_ids", "attention_mask")
            },
            {0: "num_texts", 1: "num_tokens"},
            new / TEXT_FILE,
            "text_embeds",
            int8,
        )
        model.config.save_pretrained(new)
        processor.save_pretrained(new)


class OnnxAtriModel:
    """An exported model, run by onnxruntime on the CPU; takes an `AtriModel`'s place in `encode_audio`, `encode_text`
    and `embed_retrieval_set`.

    A graph is loaded when it is first used: who encodes captions alone does not pay for the audio tower.

    Args:
        folder (`str` or `Path`): written by `export_onnx`.
        config (`AtriConfig`): of the model.
        num_threads (`int`): threads that one product is shared by.

    Example:

    ```python
    >>> from modeling_atri import AtriProcessor
    >>> from modeling_atri.encode import encode_text
    >>> from modeling_atri.onnx import OnnxAtriModel

    >>> model, processor = OnnxAtriModel.from_pretrained("exported"), AtriProcessor.from_pretrained("exported")
    >>> embeddings = encode_text(model, processor, ["a dog barks"], "en")
    ```
    """

    device = torch.device("cpu")

    def __init__(self, folder: str | PathLike, config: AtriConfig, num_threads: int):
        self.folder = Path(folder)
        self.config = config
        self.num_threads = num_threads

    @classmethod
    def from_pretrained(cls, folder: str | PathLike, num_threads: int | None = None) -> "OnnxAtriModel":
        """Open a folder of `export_onnx`.

        Args:
            folder (`str` or `Path`): on this machine; `huggingface_hub.snapshot_download` brings one from the Hub.
            num_threads (`int`, *optional*): threads that one product is shared by. Default: as many as torch uses
                (`torch.get_num_threads()`, thus `OMP_NUM_THREADS`).

        Raises:
            ImportError: the extra `onnx` is not installed.
            ValueError: no such folder, or one without the graphs.
        """
        import_extra("onnxruntime")
        missing = [name for name in (AUDIO_FILE, TEXT_FILE, "config.json") if not (Path(folder) / name).is_file()]
        if missing:
            raise ValueError(f"{folder} is no folder of an exported model: it has no {', '.join(missing)}.")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"`num_threads` must be at least 1, got {num_threads}.")
        return cls(folder, AtriConfig.from_pretrained(folder), num_threads or torch.get_num_threads())

    def get_audio_features(
        self, input_features: Tensor, input_features_mask: Tensor | None = None
    ) -> BaseModelOutputWithPooling:
        """Embeddings of clips, `(batch_size, projection_dim)`, projected and L2-normalised, in `pooler_output`.

        Args:
            input_features: `(batch_size, num_frames, num_mel_bins)`, log-mel spectrograms in decibels.
            input_features_mask (*optional*): `(batch_size, num_frames)`, 1 on a clip's own frames, 0 on padding, which
                comes last. Default: no padding.

        Raises:
            ValueError: a clip of fewer frames than one patch.
        """
        if input_features_mask is None:
            input_features_mask = torch.ones(input_features.shape[:2], dtype=torch.long)
        shortest, width = int(input_features_mask.sum(dim=1).min()), self.config.audio_config.patch_size[1]
        if shortest < width:
            raise ValueError(
                f"The shortest clip has {shortest} frames, fewer than one patch ({width} frames). Use longer clips, "
                "or pad_short=True in the processor."
            )
        inputs = {"input_features": input_features.float(), "input_features_mask": input_features_mask.long()}
        return _run(self._audio, inputs)

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutputWithPooling:
        """Embeddings of captions, `(batch_size, projection_dim)`, projected and L2-normalised, in `pooler_output`.

        Args:
            input_ids: `(batch_size, num_tokens)`.
            attention_mask (*optional*): `(batch_size, num_tokens)`, 0 on padding. Default: no padding.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return _run(self._text, {"input_ids": input_ids.long(), "attention_mask": attention_mask.long()})

    @cached_property
    def _audio(self) -> "onnxruntime.InferenceSession":
        return self._load(AUDIO_FILE)

    @cached_property
    def _text(self) -> "onnxruntime.InferenceSession":
        return self._load(TEXT_FILE)

    def _load(self, name: str) -> "onnxruntime.InferenceSession":
        ort = import_extra("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.num_threads
        # Between two calls clips are decoded and captions tokenized: threads that wait must not burn the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3  # errors
        return ort.InferenceSession(self.folder / name, options, providers=["CPUExecutionProvider"])


class _AudioTower(nn.Module):
    """Clips to embeddings, tensors in and out."""

    def __init__(self, model: AtriModel):
        super().__init__()
        self.model = model

    def forward(self, input_features: Tensor, input_features_mask: Tensor) -> Tensor:
        return self.model.get_audio_features(input_features, input_features_mask).pooler_output


class _TextTower(nn.Module):
    """Captions to embeddings, tensors in and out."""

    def __init__(self, model: AtriModel):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model.get_text_features(input_ids, attention_mask).pooler_output


@torch.no_grad()
def _export_tower(
    tower: nn.Module, examples: dict[str, Tensor], dimensions: dict[int, str], path: Path, output: str, int8: bool
) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    program = torch.onnx.export(
        tower,
        kwargs=examples,
        dynamic_shapes=dict.fromkeys(examples, dimensions),
        input_names=list(examples),
        output_names=[output],
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    if int8:
        quantize_int8(program.model)
    ClearMetadataAndDocStringPass()(program.model)  # where each node was traced: paths of this machine
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    program.save(path, external_data=size > _FILE_SIZE_LIMIT)


def _run(session: "onnxruntime.InferenceSession", inputs: dict[str, Tensor]) -> BaseModelOutputWithPooling:
    (embeddings,) = session.run(None, {name: np.ascontiguousarray(value.numpy()) for name, value in inputs.items()})
    return BaseModelOutputWithPooling(pooler_output=torch.from_numpy(embeddings))


def import_extra(name: str) -> ModuleType:
    """A module that comes with the extra `onnx`.

    Raises:
        ImportError: it does not; the message says what to install.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"ONNX needs the extra `onnx` ({error.name} is missing): pip install 'modeling_atri[onnx]'"
        ) from error


def check_new_folder(folder: str | PathLike) -> None:
    """Raise a ValueError unless the folder is empty or not there yet."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already and not an empty folder. Name a new one.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on libraries that are not installed and on its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


__all__ = ["OnnxAtriModel", "export_onnx"]
