"""Any number of clips or captions to embeddings, in order and in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from itertools import repeat
from os import PathLike
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..audio_inputs_atri import is_recording
from ..eval_mode_atri import in_eval_mode
from ..languages_atri import one_language_each
from ..long_sounds_atri import LongSound
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from ..threads_atri import ReadAhead, default_num_workers
from .batches import BATCHES_AHEAD, audio_blocks, collect, frames_per_unit, text_blocks, weigh_waiting
from .clip_reader import AudioFailure, ClipReader


@overload
def encode_audio(*args: Any, on_error: Literal["skip"], **options: Any) -> tuple[np.ndarray, list[AudioFailure]]: ...


@overload
def encode_audio(*args: Any, **options: Any) -> np.ndarray: ...


def encode_audio(
    model: AtriModel,
    processor: AtriProcessor,
    audios: Iterable[Any],
    sampling_rate: int | None = None,
    batch_size: int = 16,
    pad_short: bool = False,
    progress: bool = False,
    read_features: Callable[[Any], Tensor | LongSound] | None = None,
    names: Sequence[str] | None = None,
    num_workers: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    out: str | PathLike | None = None,
) -> np.ndarray | tuple[np.ndarray, list[AudioFailure]]:
    """Embeddings of clips, ready for a dot product.

    Clips are decoded in threads while the model works, and batched with others of similar length. However many clips
    there are, memory holds a few batches, and all threads together read 9 minutes (2^23 samples) at the same time. A
    clip that is longer than a batch goes through the model in pieces. A recording of more than two minutes is never
    in memory as a whole: it is decoded twice, first to its end and then piece by piece while it is encoded.

    Args:
        model (`AtriModel`): on any device; its training mode is restored when no thread encodes any more. Any object
            with `get_audio_features`, `config.projection_dim` and `device` works, but only a `torch.nn.Module` takes
            long clips in pieces.
        processor (`AtriProcessor`): the processor of the model.
        audios: clips of any length, in any form that [`~audio_io.load_audio`] takes, or rows that hold one as
            `audio`; a list, a generator or a column of a data set. For a model without an audio tower: stored
            embeddings, vectors of the width that it takes.
        sampling_rate (`int`, *optional*): sampling rate of waveforms, in Hz. Files carry their own.
        batch_size (`int`, *optional*, defaults to 16): clips per forward pass of up to one window of the audio tower
            (10 s with CED, CLAP and AST, 30 s with Whisper and wav2vec2), and fewer longer ones.
        pad_short (`bool`, *optional*, defaults to `False`): zero-pad clips below 0.15 s instead of raising.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.
        read_features (*optional*): takes a clip and returns what `feature_extractor.read_clip` returns, features of
            shape `(frames, columns)` or a long recording, instead of decoding it here; called from several threads at
            once.
        names (list of `str`, *optional*): what errors call the clips. Default: their paths or numbers.
        num_workers (`int`, *optional*): threads that decode; 0 decodes between the forward passes. Default: one for
            each core this process may use except one, from 1 to 16. The embeddings do not depend on it.
        on_error (`str`, *optional*, defaults to `"raise"`): `"raise"` raises an error for a clip that cannot be read,
            `"skip"` logs a warning and leaves the clip out.
        out (`str` or `Path`, *optional*): `.npy` file to write to while encoding, so that the embeddings need no
            memory. The file appears when it is complete.

    Returns:
        `np.ndarray` of shape `(n, projection_dim)`, float32, L2-normalised, in the order given; with `out`, mapped
        from the file and read-only. With `on_error="skip"` a pair of that array and a list with one `AudioFailure`
        (index, name, reason) for each clip that has no row. The rows that remain are those of the clips
        `np.delete(np.arange(n), [failure.index for failure in failures])`.

    Raises:
        ValueError: a clip cannot be read or does not fit the model (the message says which), or an argument is wrong.
    """
    if _is_one_clip(audios):
        raise ValueError(f"`audios` is one clip ({type(audios).__name__}). Pass a list of clips, [clip] for this one.")
    if names is not None and isinstance(audios, Sized) and len(names) != len(audios):
        raise ValueError(f"{len(names)} names were given for {len(audios)} clips. Pass one for each.")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}.")
    check_windows(model, processor)
    num_workers = default_num_workers() if num_workers is None else num_workers
    check_at_least(0, "num_workers", num_workers)
    check_at_least(1, "batch_size", batch_size)
    failures: list[AudioFailure] = []
    skip = on_error == "skip"
    read = ClipReader(processor.feature_extractor, sampling_rate, pad_short, read_features, names, skip)
    num_ahead, max_weight = batch_size + 2 * num_workers, batch_size * BATCHES_AHEAD
    weigh_clip = partial(weigh_waiting, unit=frames_per_unit(processor.feature_extractor))
    reader = ReadAhead(read, enumerate(audios), num_workers, num_ahead, weigh_clip, max_weight)
    with in_eval_mode(model), torch.inference_mode(), _bar("clips", audios, progress) as bar, reader:
        blocks = audio_blocks(model, processor, reader, batch_size, failures, bar)
        embeddings = collect(blocks, model.config.projection_dim, out)
    return (embeddings, sorted(failures, key=lambda failure: failure.index)) if skip else embeddings


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
        model (`AtriModel`): on any device; its training mode is restored when no thread encodes any more. Any object
            with `get_text_features`, `config.projection_dim` and `device` works.
        processor (`AtriProcessor`): the processor of the model.
        texts (`str` or iterable of `str`): captions, or pairs of caption and language; a list or a generator.
        language (`str` or iterable of `str`, *optional*): one language for all captions, or one per caption. Default:
            that of the pairs, or else `processor.default_language`, which is English for most models.
        batch_size (`int`, *optional*, defaults to 64): captions of up to 128 tokens per forward pass, and fewer longer
            ones.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.
        out (`str` or `Path`, *optional*): `.npy` file to write to while encoding, so that the embeddings need no
            memory. The file appears when it is complete.

    Returns:
        `np.ndarray` of shape `(n, projection_dim)`, float32, L2-normalised, in the order given; with `out`, mapped
        from the file and read-only.

    Raises:
        ValueError: a caption is no string, a language is unknown, or languages and captions differ in number. Lists
            are checked as a whole before anything is encoded.
    """
    texts = [texts] if isinstance(texts, str) else texts
    check_at_least(1, "batch_size", batch_size)
    if isinstance(texts, Sequence) and isinstance(language, (str, Sequence, type(None))):
        deque(_captions(processor, texts, language), maxlen=0)  # so that an unknown language is an error at once
    captions = _captions(processor, texts, language)
    with in_eval_mode(model), torch.inference_mode(), _bar("captions", texts, progress) as bar:
        return collect(text_blocks(model, processor, captions, batch_size, bar), model.config.projection_dim, out)


def _bar(unit: str, items: Iterable[Any], shown: bool) -> tqdm:
    return tqdm(total=len(items) if isinstance(items, Sized) else None, desc=unit, disable=not shown)


def _is_one_clip(audios: Any) -> bool:
    if isinstance(audios, np.ndarray) and audios.dtype.kind in "OUS":  # clips, or their paths
        return False
    return is_recording(audios) or (isinstance(audios, (np.ndarray, Tensor)) and audios.ndim < 2)


def check_windows(model: AtriModel, processor: AtriProcessor) -> None:
    """Raise a ValueError if processor and model have windows of different lengths, which would change embeddings."""
    of_model = getattr(getattr(model, "audio_model", None), "windows", None)
    of_processor = getattr(processor.feature_extractor, "windows", None)
    if of_model and of_processor and of_model.frames != of_processor.frames:
        raise ValueError(
            f"The processor cuts clips into windows of {of_processor.frames} rows, but the windows of the model have "
            f"{of_model.frames}. Use the model's own processor. For a new model, `describe_windows` writes the "
            "windows of a feature extractor into the audio configuration."
        )


def check_at_least(least: int, name: str, value: int) -> None:
    """Raise a ValueError if the argument `name` is below its least value."""
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def _captions(
    processor: AtriProcessor, texts: Iterable[Any], language: str | Iterable[str] | None
) -> Iterator[tuple[str, str | None]]:
    """Pairs of caption and language, which are checked as they are taken."""
    if isinstance(texts, Sized) and isinstance(language, Sized):
        one_language_each(language, len(texts), "caption")
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
