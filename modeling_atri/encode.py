"""Any number of clips or captions to embeddings, in order, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .audio_io import load_audio
from .modeling_atri import AtriModel
from .processing_atri import AtriProcessor, as_list_of_captions


# Inputs are read this many batches ahead and sorted by length there, so that little of a batch is padding.
_BATCHES_AHEAD = 16


def encode_audio(
    model: AtriModel,
    processor: AtriProcessor,
    audios: Iterable[Any],
    sampling_rate: int | None = None,
    batch_size: int = 16,
    pad_short: bool = False,
    progress: bool = False,
    read_features: Callable[[Any], Tensor] | None = None,
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """Embeddings of clips, ready for a dot product.

    Args:
        model (`AtriModel`): on any device; its training mode is put back afterwards.
        processor (`AtriProcessor`): of the model.
        audios: clips of any length: paths, bytes, `datasets.Audio` dicts, or mono waveforms; a generator will do. At
            most a few batches are in memory at once.
        sampling_rate (`int`, *optional*): of bare waveforms, in Hz; files know their own.
        batch_size (`int`, *optional*, defaults to 16): clips a forward pass.
        pad_short (`bool`, *optional*, defaults to `False`): zero-pad clips below 0.15 s instead of raising.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.
        read_features (*optional*): takes a clip and returns its log-mel features, `(frames, mel bins)`, in place of
            decoding it here.
        names (list of `str`, *optional*): what errors call the clips. Default: their paths, else their numbers.

    Returns:
        `np.ndarray` of shape `(n, projection_dim)`, float32, L2-normalised, in the order given.

    Raises:
        ValueError: a clip that cannot be read or is unfit; the message says which.
    """
    if isinstance(audios, (str, bytes, PathLike, Mapping)) or getattr(audios, "ndim", 2) < 2:
        raise ValueError(f"`audios` is one clip ({type(audios).__name__}); pass a list of clips, [clip] for this one.")
    extractor = processor.feature_extractor

    def read(index: int, audio: Any) -> Tensor:
        if read_features is not None:
            return read_features(audio)
        is_bare = isinstance(audio, (np.ndarray, Tensor))
        if is_bare and sampling_rate is None:
            raise ValueError(f"Clip {index} is a bare waveform: pass its `sampling_rate` in Hz.")
        waveform = load_audio(audio, extractor.sampling_rate, source_rate=sampling_rate if is_bare else None)
        return extractor.extract_clip(waveform, pad_short, name=_path_of(audio) or f"Clip {index}")

    def read_named(index: int, audio: Any) -> Tensor:
        try:
            return read(index, audio)
        except ValueError as error:
            if names is None:
                raise
            raise ValueError(f"{names[index]}: {error}") from error

    def embed(features: list[Tensor]) -> Tensor:
        input_features, mask = extractor.pad_features(features)
        inputs = {"input_features": input_features.to(model.device), "input_features_mask": mask.to(model.device)}
        return model.get_audio_features(**inputs).pooler_output

    items = (read_named(index, audio) for index, audio in enumerate(audios))
    total = len(audios) if isinstance(audios, Sequence) else None
    return _encode(model, items, len, embed, batch_size, tqdm(total=total, desc="clips", disable=not progress))


def encode_text(
    model: AtriModel,
    processor: AtriProcessor,
    texts: str | Sequence[str],
    language: str | Sequence[str] | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> np.ndarray:
    """Embeddings of captions in any mix of languages, ready for a dot product.

    Args:
        model (`AtriModel`): on any device; its training mode is put back afterwards.
        processor (`AtriProcessor`): of the model.
        texts (`str` or list of `str`): captions.
        language (`str` or list of `str`, *optional*): one language for all captions, or one per caption. Default: the
            tokenizer's, English as it comes.
        batch_size (`int`, *optional*, defaults to 64): captions a forward pass.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.

    Returns:
        `np.ndarray` of shape `(n, projection_dim)`, float32, L2-normalised, in the order given.

    Raises:
        ValueError: an unknown language, or languages and captions that do not match in number.
    """
    captions = [texts] if isinstance(texts, str) else list(texts)
    captions = as_list_of_captions(captions) if captions else []
    languages = [language] * len(captions) if language is None or isinstance(language, str) else list(language)
    if len(languages) != len(captions):
        raise ValueError(
            f"{len(languages)} languages were given for {len(captions)} captions; pass one language for all of them "
            "or one per caption."
        )
    if language is not None:
        for name in set(languages):
            processor.language_id(name)  # an unknown language is an error now, not after hours

    def embed(batch: list[tuple[str, str | None]]) -> Tensor:
        texts, codes = zip(*batch, strict=True)
        inputs = processor(text=list(texts), language=None if language is None else list(codes)).to(model.device)
        return model.get_text_features(**inputs).pooler_output

    items = zip(captions, languages, strict=True)
    bar = tqdm(total=len(captions), desc="captions", disable=not progress)
    return _encode(model, items, lambda item: len(item[0]), embed, batch_size, bar)


def _path_of(audio: Any) -> str | None:
    if isinstance(audio, Mapping):
        audio = audio.get("path")
    return repr(str(audio)) if isinstance(audio, (str, PathLike)) else None


def _encode(
    model: AtriModel,
    items: Iterable[Any],
    length: Callable[[Any], int],
    embed: Callable[[list[Any]], Tensor],
    batch_size: int,
    bar: tqdm,
) -> np.ndarray:
    """Embed `items` in batches of similar length; the result is in their order."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    parts = []
    in_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode(), bar:
            for window in _windows(items, batch_size * _BATCHES_AHEAD):
                order = sorted(range(len(window)), key=lambda index: length(window[index]))
                embeddings = np.empty((len(window), model.config.projection_dim), dtype=np.float32)
                for start in range(0, len(window), batch_size):
                    rows = order[start : start + batch_size]
                    embeddings[rows] = embed([window[row] for row in rows]).float().cpu().numpy()
                    bar.update(len(rows))
                parts.append(embeddings)
    finally:
        for module in in_training:
            module.training = True
    return np.concatenate(parts) if parts else np.empty((0, model.config.projection_dim), dtype=np.float32)


def _windows(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window
