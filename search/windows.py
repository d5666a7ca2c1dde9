"""Windows of sounds: where they begin and end, and their embeddings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.audio_inputs_atri import load_audio
from modeling_atri.encode import AudioFailure, encode_audio


@dataclass(frozen=True)
class WindowPlan:
    """Length of a window and distance between the starts of two, in seconds."""

    window_s: float
    hop_s: float


@dataclass(frozen=True)
class EncodedSound:
    """A sound with the vectors of its windows `(len(spans), projection_dim)` and of the whole `(projection_dim,)`."""

    duration_s: float
    spans: Sequence[tuple[float, float]]
    vectors: np.ndarray
    whole: np.ndarray


def encode_windows(
    model: AtriModel,
    processor: AtriProcessor,
    audios: Sequence[Any],
    plan: WindowPlan,
    names: Sequence[str] | None = None,
    batch_size: int = 16,
    num_workers: int | None = None,
    pad_short: bool = False,
    on_error: Literal["raise", "skip"] = "skip",
) -> Iterator[EncodedSound | AudioFailure]:
    """Each sound as a single span. It stands in for the encoding of windows."""
    extractor = processor.feature_extractor
    for start in range(0, len(audios), 64):
        part, labels = audios[start : start + 64], names and names[start : start + 64]
        durations_s: dict[str, float] = {}

        def read(path: Any, durations_s: dict[str, float] = durations_s) -> Any:
            waveform = load_audio(path, extractor.sampling_rate)
            durations_s[str(path)] = len(waveform) / extractor.sampling_rate
            return extractor.extract_clip(waveform, pad_short, name=repr(str(path)))

        embeddings, failed = encode_audio(
            model,
            processor,
            part,
            batch_size=batch_size,
            read_features=read,
            names=labels,
            num_workers=num_workers,
            on_error="skip",
        )
        failures = {failure.index: failure for failure in failed}
        if failures and on_error == "raise":
            raise ValueError(f"{failed[0].name}: {failed[0].reason}")
        rows = iter(embeddings)
        for index, audio in enumerate(part):
            if index in failures:
                yield failures[index]
            else:
                vector, duration_s = next(rows), durations_s[str(audio)]
                yield EncodedSound(duration_s, [(0.0, duration_s)], vector[None], vector)
