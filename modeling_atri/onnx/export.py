"""Export of both towers to ONNX graphs.

Batch size and length are free. Long clips are cut into chunks inside the graph, so that every runtime computes the
embeddings of the model. Every graph is run and compared with the model before its folder appears.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..configuration_atri import AtriAudioConfig, AtriEmbeddedAudioConfig
from ..eval_mode_atri import in_eval_mode
from ..files import folder_written_whole
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from .extra import AUDIO_FILE, MAX_TEXT_TOKENS, TEXT_FILE, import_extra
from .verify import WrongGraphError, check_graph, example_captions, example_clips


# 23 is the first with an Attention operator, for smaller and faster graphs; onnxruntime reads it from 1.23 on. In its
# graphs of rotary positions (ModernBERT, Gemma), onnxruntime accepts one caption only, so these are written in 22.
_OPSETS = (23, 22)
_FILE_SIZE_LIMIT = 3 * 2**29  # bytes of weights; an ONNX file is a protobuf message, which must stay below 2**31 bytes


def export_onnx(model: AtriModel, processor: AtriProcessor, folder: str | PathLike, *, int8: bool = False) -> None:
    """Write both towers as ONNX graphs, with configuration and processor, to a new folder.

    `audio.onnx` maps `input_features` and `input_features_mask` to `audio_embeds`; `text.onnx` maps `input_ids` and
    `attention_mask` to `text_embeds`. Embeddings are projected and L2-normalised, and equal the model's to 1e-5.
    Weights of more than 1.6 GB are written beside the graph, to `audio.onnx.data` or `text.onnx.data`.

    A model without an audio tower (an `AtriEmbeddedAudioConfig`) has the text graph alone. Clips of an audio tower of
    transformers must have whole windows, as their feature extractor makes them.

    Each graph is first run on batches of several sizes and lengths. Its embeddings may differ from the model's by 1e-4
    in each entry; with `int8`, their cosine with the model's must be at least 0.95.

    Args:
        model (`AtriModel`): with float32 weights. It is put into eval mode during the export.
        processor (`AtriProcessor`): processor of the model.
        folder (`str` or `Path`): new or empty. If the export fails, nothing is left in it.
        int8 (`bool`, *optional*, defaults to `False`): quantise weights to int8 in advance and activations row by row
            at run time. The graphs have a quarter of the size and run several times as fast, but are less precise. See
            `modeling_atri.onnx.int8`.

    Raises:
        ImportError: the extra `onnx` is not installed.
        ValueError: weights of another dtype or quantised, a folder that is not empty, a tower that cannot be exported,
            or a graph that does not compute what the model does.
    """
    check_new_folder(folder)
    import_extra("onnxscript")
    import_extra("onnxruntime")
    processor.limit_text_length(model.max_text_tokens)  # the graph does not cut captions
    if model.dtype != torch.float32:
        raise ValueError(f"The model's weights are {model.dtype}; load it with dtype=torch.float32 to export it.")
    if not all(parameter.is_floating_point() for parameter in model.parameters()):
        raise ValueError("The model's weights are quantised; load it without a quantization_config to export it.")
    captions = {
        name: torch.ones(2, 8, dtype=torch.long, device=model.device) for name in ("input_ids", "attention_mask")
    }
    caption_dimensions = {0: "num_texts", 1: "num_tokens"}
    audio = _audio_example(model, processor)
    with folder_written_whole(Path(folder)) as new, in_eval_mode(model), _quiet():
        if audio is not None:
            tower = _Tower(_AudioTower(model), *audio, "audio_embeds", {})
            _write_graph(tower, new / AUDIO_FILE, partial(example_clips, model, processor), int8)
        notes = {} if model.max_text_tokens is None else {MAX_TEXT_TOKENS: str(model.max_text_tokens)}
        tower = _Tower(_TextTower(model), captions, caption_dimensions, "text_embeds", notes)
        _write_graph(tower, new / TEXT_FILE, partial(example_captions, model), int8)
        model.config.save_pretrained(new)
        processor.save_pretrained(new)


def _audio_example(model: AtriModel, processor: AtriProcessor) -> tuple[dict[str, Tensor], dict[int, Any]] | None:
    """Clips to trace the audio tower with, and their free dimensions; None for a model without an audio tower."""
    config: Any = model.config.audio_config
    dimensions: dict[int, Any] = {0: "num_audios", 1: "num_frames"}
    if config.model_type == AtriEmbeddedAudioConfig.model_type:
        return None
    if config.model_type == AtriAudioConfig.model_type:
        num_frames = config.max_frames + config.patch_size[1]  # the sizes of the examples leave no trace in the graphs
    else:
        windows: Any = model.audio_model.windows
        if not windows.is_fixed:
            raise ValueError(
                f"The audio tower of type {config.model_type!r} cannot be exported: it takes windows of any length, "
                "each of which must be encoded without padding, and one graph cannot do that for the clips of a "
                "batch. Use the model itself. Towers with windows of one length can be exported: CED, CLAP, AST, "
                "Whisper."
            )
        num_frames, dimensions[1] = 2 * windows.frames, windows.frames * torch.export.Dim("num_windows", min=1)
    clips = {
        "input_features": torch.zeros(2, num_frames, processor.feature_extractor.feature_size, device=model.device),
        "input_features_mask": torch.ones(2, num_frames, dtype=torch.long, device=model.device),
    }
    return clips, dimensions


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


class _Tower(NamedTuple):
    """A module to export, inputs to trace it with and their free dimensions, the name of the output, and metadata."""

    module: nn.Module
    examples: dict[str, Tensor]
    dimensions: dict[int, Any]
    output: str
    notes: dict[str, str]


def _write_graph(tower: _Tower, path: Path, batches: Callable[[], Iterator[dict[str, Tensor]]], int8: bool) -> None:
    """Write a graph in the first operator set whose graph is right."""
    for opset in _OPSETS:
        try:
            _export_tower(tower, path, opset, int8)
            check_graph(path, tower.module, batches(), int8)
            return
        except WrongGraphError as error:
            if opset == _OPSETS[-1]:
                versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxscript", "onnxruntime"))
                raise WrongGraphError(
                    f"The export was stopped, and nothing was written, because its graph is wrong: {error}. Try other "
                    f"versions of the libraries that write and run it (here {versions}), or use the model itself."
                ) from error
            for name in (path.name, f"{path.name}.data"):
                path.with_name(name).unlink(missing_ok=True)


@torch.no_grad()
def _export_tower(tower: _Tower, path: Path, opset: int, int8: bool) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    try:
        exported = torch.onnx.export(
            tower.module,
            kwargs=tower.examples,
            dynamic_shapes=dict.fromkeys(tower.examples, tower.dimensions),
            input_names=list(tower.examples),
            output_names=[tower.output],
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ValueError(
            f"torch cannot write {path.name}: {reason} Nothing was written. Towers that are known to be exported are "
            "CED, CLAP, AST and Whisper for audio, and SONAR (M2M100), BERT, XLM-R, ModernBERT and Gemma 3 for text, "
            "with weights in float32."
        ) from error
    program = cast(torch.onnx.ONNXProgram, exported)  # with `dynamo=True` it is never None
    if int8:
        from .int8 import quantize_int8

        quantize_int8(program.model)
    ClearMetadataAndDocStringPass()(program.model)  # the exporter notes local paths at every node
    program.model.metadata_props.update(tower.notes)
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
