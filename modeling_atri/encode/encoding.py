"""Any number of clips or captions to embeddings, in order, in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from itertools import islice, pairwise, repeat
from os import PathLike
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..embedding_store.npy_files import write_npy
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from .decoding import FRAMES_PER_UNIT, AudioFailure, ClipReader, ReadAhead, default_num_workers, weigh


# Inputs are read this many batches ahead and sorted by length there, so that little of a batch is padding.
_BATCHES_AHEAD = 16
_TOKENS_PER_UNIT = 128  # a caption of up to so many tokens counts once for `batch_size`, a longer one more


@overload
def encode_audio(
    model: AtriModel,
    processor: AtriProcessor,
    audios: Iterable[Any],
    *args: Any,
    on_error: Literal["skip"],
    **options: Any,
) -> tuple[np.ndarray, list[AudioFailure]]: ...


@overload
def encode_audio(
    model: AtriModel, processor: AtriProcessor, audios: Iterable[Any], *args: Any, **options: Any
) -> np.ndarray: ...


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
    num_workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    out: str | PathLike | None = None,
) -> np.ndarray | tuple[np.ndarray, list[AudioFailure]]:
    """Embeddings of clips, ready for a dot product.

    Clips are decoded in threads while the model works, and batched with others of similar length. A few batches are in
    memory at once, and a clip in each thread, however many clips there are; a clip that is longer than a batch goes
    through the model in pieces.

    Args:
        model (`AtriModel`): on any device; its training mode is put back afterwards. Whatever has its
            `get_audio_features`, `config.projection_dim` and `device` will do, but only a `torch.nn.Module` takes long
            clips in pieces.
        processor (`AtriProcessor`): of the model.
        audios: clips of any length: paths, bytes, `datasets.Audio` dicts, rows that hold such a thing as `audio`, or
            mono waveforms; a generator will do.
        sampling_rate (`int`, *optional*): of bare waveforms, in Hz; files know their own.
        batch_size (`int`, *optional*, defaults to 16): clips of up to 10 s a forward pass, accordingly fewer of longer
            ones.
        pad_short (`bool`, *optional*, defaults to `False`): zero-pad clips below 0.15 s instead of raising.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.
        read_features (*optional*): takes a clip and returns its log-mel features, `(frames, mel bins)`, in place of
            decoding it here; called from several threads at once.
        names (list of `str`, *optional*): what errors call the clips. Default: their paths, else their numbers.
        num_workers (`int`, *optional*): threads that decode; 0 decodes between the forward passes. Default: one for
            each core this process may use but one, from 1 to 16. The embeddings do not depend on it.
        on_error (`str`, *optional*, defaults to `"raise"`): what a clip that cannot be read does: `"raise"` ends with
            an error, `"skip"` logs a warning and leaves the clip out.
        out (`str` or `Path`, *optional*): `.npy` file to write to while encoding, so that the embeddings need no
            memory. It appears when all are there.

    Returns:
        `np.ndarray` of shape `(n, projection_dim)`, float32, L2-normalised, in the order given; with `out`, mapped
        from the file, read-only. With `on_error="skip"` a pair of it and the list of `AudioFailure` (index, name,
        reason), one for each clip that has no row; `np.delete(np.arange(n), [failure.index for failure in failures])`
        are the places, among the n that were given, of the clips that have one.

    Raises:
        ValueError: a clip that cannot be read or is unfit, and the message says which; arguments that do not fit.
    """
    if _is_one_clip(audios):
        raise ValueError(f"`audios` is one clip ({type(audios).__name__}); pass a list of clips, [clip] for this one.")
    if names is not None and isinstance(audios, Sized) and len(names) != len(audios):
        raise ValueError(f"{len(names)} names were given for {len(audios)} clips; pass one for each.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}.")
    num_workers = default_num_workers() if num_workers is None else num_workers
    if num_workers < 0:
        raise ValueError(f"`num_workers` must be at least 0, got {num_workers}.")
    _check_batch_size(batch_size)
    failures: list[AudioFailure] = []
    read = ClipReader(
        processor.feature_extractor, sampling_rate, pad_short, read_features, names, skip=on_error == "skip"
    )
    reader = ReadAhead(read, audios, num_workers, batch_size + 2 * num_workers, batch_size * _BATCHES_AHEAD)
    bar = tqdm(total=len(audios) if isinstance(audios, Sized) else None, desc="clips", disable=not progress)
    with in_eval_mode(model), torch.inference_mode(), bar, reader:
        blocks = _audio_blocks(model, processor, reader, batch_size, failures, bar)
        embeddings = _collect(blocks, model.config.projection_dim, out)
    return embeddings if on_error == "raise" else (embeddings, failures)


def encode_text(
    model: AtriModel,
    processor: AtriProcessor,
    texts: str | Iterable[str] | Iterable[tuple[str, str]],
    language: str | Iterable[str] | None = None,
    batch_size: int = 64,
    progress: bool = False,
    out: str | PathLike | None = None,
) -> np.ndarray:
    """Embeddings of captions in any mix of languages, ready for a dot product.

    Args:
        model (`AtriModel`): on any device; its training mode is put back afterwards. Whatever has its
            `get_text_features`, `config.projection_dim` and `device` will do.
        processor (`AtriProcessor`): of the model.
        texts (`str` or iterable of `str`): captions, or pairs of caption and language; a generator will do.
        language (`str` or iterable of `str`, *optional*): one language for all captions, or one per caption. Default:
            that of the pairs, or else the tokenizer's, English as it comes.
        batch_size (`int`, *optional*, defaults to 64): captions of up to 128 tokens a forward pass, accordingly fewer
            of longer ones.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.
        out (`str` or `Path`, *optional*): `.npy` file to write to while encoding, so that the embeddings need no
            memory. It appears when all are there.

    Returns:
        `np.ndarray` of shape `(n, projection_dim)`, float32, L2-normalised, in the order given; with `out`, mapped
        from the file, read-only.

    Raises:
        ValueError: a caption that is no string; an unknown language, or languages and captions that do not match in
            number. Of lists all are checked before anything is encoded.
    """
    texts = [texts] if isinstance(texts, str) else texts
    _check_batch_size(batch_size)
    if isinstance(texts, Sequence) and isinstance(language, (str, Sequence, type(None))):
        deque(_captions(processor, texts, language), maxlen=0)  # an unknown language is an error now, not after hours
    captions = _captions(processor, texts, language)
    bar = tqdm(total=len(texts) if isinstance(texts, Sized) else None, desc="captions", disable=not progress)
    with in_eval_mode(model), torch.inference_mode(), bar:
        blocks = _text_blocks(model, processor, captions, batch_size, bar)
        return _collect(blocks, model.config.projection_dim, out)


def _is_one_clip(audios: Any) -> bool:
    if isinstance(audios, np.ndarray) and audios.dtype.kind in "OUS":  # of clips, or of their paths
        return False
    is_waveform = isinstance(audios, (np.ndarray, Tensor)) and audios.ndim < 2
    return is_waveform or isinstance(audios, (str, bytes, PathLike, Mapping))


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")


@contextmanager
def in_eval_mode(model: Any) -> Iterator[None]:
    """A model, and every module of it, that does not train until the end; what is no `torch.nn.Module` never does."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    in_training = [module for module in modules if module.training]
    for module in in_training:
        module.training = False
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def _collect(blocks: Iterable[np.ndarray], width: int, out: str | PathLike | None) -> np.ndarray:
    """The blocks as one array, in memory or in the file."""
    if out is not None:
        path = Path(out)
        if path.suffix != ".npy" or path.is_dir() or not path.parent.is_dir():
            raise ValueError(f"`out` must name a .npy file in a folder that is there, got {str(path)!r}.")
        return write_npy(path, blocks, width)
    parts = deque(blocks)
    embeddings = np.empty((sum(map(len, parts)), width), dtype=np.float32)
    stop = 0
    while parts:  # each is let go when it is copied
        start, stop = stop, stop + len(parts[0])
        embeddings[start:stop] = parts.popleft()
    return embeddings


def _batches(lengths: Sequence[int], batch_size: int, unit: int) -> Iterator[list[int]]:
    """Rows of similar length, short ones first: `batch_size` of up to `unit`, fewer of longer ones, at least one."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * -(-lengths[row] // unit) > batch_size:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _audio_blocks(
    model: Any,
    processor: AtriProcessor,
    reader: ReadAhead,
    batch_size: int,
    failures: list[AudioFailure],
    bar: tqdm,
) -> Iterator[np.ndarray]:
    """Embeddings of clip after clip, some at a time; clips that could not be read go to `failures`."""
    windows = _Windows(reader, batch_size)
    for window in windows:
        failures.extend(item for item in window if isinstance(item, AudioFailure))
        clips = [item for item in window if not isinstance(item, AudioFailure)]
        bar.update(len(window) - len(clips))
        embeddings = np.empty((len(clips), model.config.projection_dim), dtype=np.float32)
        for rows in _batches([len(clip) for clip in clips], batch_size, FRAMES_PER_UNIT):
            features = [clips[row] for row in rows]
            if isinstance(model, nn.Module) and weigh(features[0]) > batch_size:
                batch = _embed_in_pieces(model, features[0], batch_size)
            else:
                batch = _embed_clips(model, processor, features)
            embeddings[rows] = batch.float().cpu().numpy()
            bar.update(len(rows))
            windows.fill(wait=False)
        yield embeddings


class _Windows:
    """Clips in groups to sort by length; while the model works on one group, the next is gathered.

    What is in a group depends on the clips alone, never on how fast they are read. The first groups are small, so that
    the model begins soon.
    """

    def __init__(self, reader: ReadAhead, batch_size: int):
        self._reader = reader
        self._limit = batch_size
        self._max_limit = batch_size * _BATCHES_AHEAD
        self._gathered: list[Tensor | AudioFailure] = []
        self._weight = 0

    def __iter__(self) -> Iterator[list[Tensor | AudioFailure]]:
        while True:
            self.fill(wait=True)
            if not self._gathered:
                return
            window, self._gathered, self._weight = self._gathered, [], 0
            self._limit = min(2 * self._limit, self._max_limit)
            yield window

    def fill(self, wait: bool) -> None:
        """Take clips that were read, until the group is full; without `wait` only those that are there."""
        while self._weight < self._limit and (wait or self._reader.is_ready()):
            try:
                item = next(self._reader)
            except StopIteration:
                return
            self._gathered.append(item)
            self._weight += weigh(item)


def _embed_clips(model: Any, processor: AtriProcessor, features: list[Tensor]) -> Tensor:
    """`(clips, projection_dim)` of whole clips."""
    input_features, mask = processor.feature_extractor.pad_features(features)
    inputs = {"input_features": input_features, "input_features_mask": mask}
    return model.get_audio_features(**{name: value.to(model.device) for name, value in inputs.items()}).pooler_output


def _embed_in_pieces(model: Any, features: Tensor, max_units: int) -> Tensor:
    """`(1, projection_dim)` of one long clip: the audio tower's mean over the chunks of one piece after the other.

    A piece has whole chunks, and the last one at least two: its last chunk is filled up with zeros that count, as in
    the whole clip, while a chunk alone would have them masked.
    """
    size = model.config.audio_config.max_frames
    num_chunks = -(-len(features) // size)
    num_pieces = -(-num_chunks // max(2, max_units * FRAMES_PER_UNIT // size))
    bounds = [piece * num_chunks // num_pieces for piece in range(num_pieces + 1)]
    mean = 0.0
    for first, last in pairwise(bounds):
        piece = features[None, first * size : last * size].to(model.device)
        pooled = model.audio_model(piece).pooler_output
        mean = mean + pooled.float() * ((last - first) / num_chunks)
    return F.normalize(model.audio_projection(mean.to(pooled.dtype)), dim=-1)


def _captions(
    processor: AtriProcessor, texts: Iterable[Any], language: str | Iterable[str] | None
) -> Iterator[tuple[str, str | None]]:
    """Pairs of caption and language, checked as they come."""
    if isinstance(texts, Sized) and isinstance(language, Sized) and not isinstance(language, str):
        if len(texts) != len(language):
            raise ValueError(
                f"{len(language)} languages were given for {len(texts)} captions; pass one language for all of them "
                "or one per caption."
            )
    if language is None:
        pairs = (item if isinstance(item, tuple) and len(item) == 2 else (item, None) for item in texts)
    elif isinstance(language, str):
        processor.language_id(language)
        pairs = zip(texts, repeat(language))
    else:
        pairs = zip(texts, language, strict=True)
    known = {None} if language is None else set()
    is_paired = None
    for index, (text, name) in enumerate(pairs):
        if not isinstance(text, str):
            raise ValueError(f"Caption {index} is a {type(text).__name__}, not a string: {text!r}.")
        if language is None and is_paired not in (None, name is not None):
            raise ValueError(f"Caption {index} comes with{'' if name else 'out'} a language, unlike the first one.")
        is_paired = name is not None
        if name not in known:
            processor.language_id(name)
            known.add(name)
        yield text, name


def _text_blocks(
    model: Any, processor: AtriProcessor, captions: Iterator[tuple[str, str | None]], batch_size: int, bar: tqdm
) -> Iterator[np.ndarray]:
    """Embeddings of caption after caption, some at a time."""
    while window := list(islice(captions, batch_size * _BATCHES_AHEAD)):
        texts, languages = zip(*window, strict=True)
        tokens = processor(text=list(texts), language=None if languages[0] is None else list(languages))
        input_ids, mask = tokens["input_ids"], tokens["attention_mask"]
        embeddings = np.empty((len(window), model.config.projection_dim), dtype=np.float32)
        for rows in _batches(mask.sum(dim=1).tolist(), batch_size, _TOKENS_PER_UNIT):
            used = mask[rows].any(dim=0)  # on whichever side the padding is
            inputs = {"input_ids": input_ids[rows][:, used], "attention_mask": mask[rows][:, used]}
            inputs = {name: value.to(model.device) for name, value in inputs.items()}
            embeddings[rows] = model.get_text_features(**inputs).pooler_output.float().cpu().numpy()
            bar.update(len(rows))
        yield embeddings


__all__ = ["AudioFailure", "encode_audio", "encode_text", "in_eval_mode"]
