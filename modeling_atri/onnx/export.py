"""Export of both towers to ONNX graphs.

Batch size and length are free. Long clips are cut into chunks inside the graph, so that every runtime computes the
embeddings of the model.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from ..eval_mode_atri import in_eval_mode
from ..files import folder_written_whole
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from .extra import AUDIO_FILE, TEXT_FILE, import_extra


_OPSET = 23  # the first with an Attention operator, for smaller and faster graphs; onnxruntime reads it from 1.23 on
_FILE_SIZE_LIMIT = 3 * 2**29  # bytes of weights; an ONNX file is a protobuf message, which must stay below 2**31 bytes


def export_onnx(model: AtriModel, processor: AtriProcessor, folder: str | PathLike, *, int8: bool = False) -> None:
    """Write both towers as ONNX graphs, with configuration and processor, to a new folder.

    `audio.onnx` maps `input_features` and `input_features_mask` to `audio_embeds`; `text.onnx` maps `input_ids` and
    `attention_mask` to `text_embeds`. Embeddings are projected and L2-normalised, and equal the model's to 1e-5.
    Weights of more than 1.6 GB are written beside the graph, to `audio.onnx.data` or `text.onnx.data`.

    Args:
        model (`AtriModel`): with float32 weights. It is put into eval mode during the export.
        processor (`AtriProcessor`): processor of the model.
        folder (`str` or `Path`): new or empty. If the export fails, nothing is left in it.
        int8 (`bool`, *optional*, defaults to `False`): quantise weights to int8 in advance and activations row by row
            at run time. The graphs have a quarter of the size and run several times as fast, but are less precise. See
            `modeling_atri.onnx.int8`.

    Raises:
        ImportError: the extra `onnx` is not installed.
        ValueError: weights of another dtype, or a folder that is not empty.
    """
    check_new_folder(folder)
    import_extra("onnxscript")
    if model.dtype != torch.float32:
        raise ValueError(f"The model's weights are {model.dtype}; load it with dtype=torch.float32 to export it.")
    config = model.config.audio_config
    num_frames = config.max_frames + config.patch_size[1]  # the sizes of the examples leave no trace in the graphs
    clips = {
        "input_features": torch.zeros(2, num_frames, config.num_mel_bins, device=model.device),
        "input_features_mask": torch.ones(2, num_frames, dtype=torch.long, device=model.device),
    }
    captions = {
        name: torch.ones(2, 8, dtype=torch.long, device=model.device) for name in ("input_ids", "attention_mask")
    }
    with folder_written_whole(Path(folder)) as new, in_eval_mode(model), _quiet():
        _export_tower(
            _AudioTower(model), clips, {0: "num_audios", 1: "num_frames"}, new / AUDIO_FILE, "audio_embeds", int8
        )
        _export_tower(
            _TextTower(model), captions, {0: "num_texts", 1: "num_tokens"}, new / TEXT_FILE, "text_embeds", int8
        )
        model.config.save_pretrained(new)
        processor.save_pretrained(new)


class _AudioTower(nn.Module):
    """Clips to embeddings, with tensors as inputs and output."""

    def __init__(self, model: AtriModel):
        super().__init__()
        self.model = model

    def forward(self, input_features: Tensor, input_features_mask: Tensor) -> Tensor:
        return self.model.get_audio_features(input_features, input_features_mask).pooler_output


class _TextTower(nn.Module):
    """Captions to embeddings, with tensors as inputs and output."""

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
        from .int8 import quantize_int8

        quantize_int8(program.model)
    ClearMetadataAndDocStringPass()(program.model)  # the exporter notes local paths at every node
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    program.save(path, external_data=size > _FILE_SIZE_LIMIT)


def check_new_folder(folder: str | PathLike) -> None:
    """Raise a ValueError unless the folder is empty or does not exist."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder. Choose a new folder.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on libraries that are not installed and its own deprecation warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
