"""The modality alignment direction error: the angle between a clip's embedding and the direction it should have.

According to ATRI (Yin et al., ACL 2025), a clip's embedding should have the direction of the arithmetic mean of its K
text embeddings, one for each language. A step that draws fewer languages pulls it in another direction. All errors are
angles in degrees, computed in float64 and exact down to 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..objectives import FULL_OBJECTIVE, OBJECTIVES


Embeddings = np.ndarray | torch.Tensor

_QUANTILES = (0.05, 0.5, 0.95)
_LEAST_NORM = 1e-12


class AlignmentError(NamedTuple):
    """Angles in degrees to the direction of the mean text embedding.

    Args:
        audio: Angle of each audio embedding, `(N,)`. This is the error of the model.
        text: Angle of each language's text embedding, `(K, N)`. A step that draws this language alone pulls a clip to
            a direction with this error.
    """

    audio: np.ndarray
    text: np.ndarray


def alignment_error(audio_embeds: Embeddings, text_embeds: Embeddings) -> AlignmentError:
    """Compute the angles between embeddings and the mean text direction.

    Args:
        audio_embeds: Clip of each caption, `(N, D)`. The rows are L2-normalised here.
        text_embeds: Captions in K languages, `(K, N, D)`. The rows are L2-normalised here.

    Raises:
        ValueError: The shapes do not fit together, an embedding is zero or not finite, or the text embeddings of a
            caption add up to zero, so that their mean has no direction.
    """
    audio, text = _checked(audio_embeds, text_embeds)
    target = _mean_direction(text)
    return AlignmentError(_angles(audio, target), _angles(text, target))


def objective_pulls(text_embeds: Embeddings, anchor: int | None = None) -> dict[str, float]:
    """Mean angle between the mean text direction and the direction to which a step of each objective pulls a clip.

    ML-CLAP pulls a clip to the embedding of one language, CACL to the mean of the anchor's and another language's.
    KCL with all languages pulls it to the mean itself. Anchored KCL is not listed, because its audio-text terms are
    those of KCL.

    Args:
        text_embeds: Floats `(K, N, D)`. They are L2-normalised here.
        anchor: Row of the anchor language. CACL is left out if it is None, or if there is a single language.

    Returns:
        Degrees by objective, the mean over captions and over all possible draws.
    """
    _, text = _checked(text_embeds[0], text_embeds)
    target = _mean_direction(text)
    pulls = {}
    for name, objective in reversed(OBJECTIVES.items()):
        if not objective.draws_per_clip:
            continue
        if not objective.has_anchor:
            pulls[name] = float(_angles(text, target).mean())
        elif anchor is not None and len(text) > 1:
            others = [k for k in range(len(text)) if k != anchor]
            pulls[name] = float(np.mean([_angles(_mean_direction(text[[anchor, k]]), target) for k in others]))
    return pulls | {FULL_OBJECTIVE: 0.0}


def summarize_alignment(
    audio_embeds: Embeddings,
    text_embeds: Mapping[str, Embeddings],
    owners: Sequence[int],
    anchor: str | None = None,
) -> dict[str, Any]:
    """Summarise the alignment of an embedded set in one dict that can be written as JSON.

    Args:
        audio_embeds: Embeddings of the clips, `(A, D)`.
        text_embeds: Embeddings of the captions in each language, `(M, D)`. Row m is the same caption in all languages.
        owners: For each caption, the row of the clip that it was written for.
        anchor: Anchor language of CACL. CACL is left out if it is None or not among the languages.

    Returns:
        A dict with `audio`, the `mean`, `std` and quantiles `q05`, `q50`, `q95` of the clips' angles; `text`, the same
        for each language; `pulls`, see [`objective_pulls`]; and `num_captions`.
    """
    languages = list(text_embeds)
    audio = _as_float64(audio_embeds)[list(owners)]
    text = np.stack([_as_float64(text_embeds[language]) for language in languages])
    error = alignment_error(audio, text)
    return {
        "audio": _summary(error.audio),
        "text": {language: _summary(angles) for language, angles in zip(languages, error.text, strict=True)},
        "pulls": objective_pulls(text, languages.index(anchor) if anchor in languages else None),
        "num_captions": len(owners),
    }


def _summary(angles: np.ndarray) -> dict[str, float]:
    quantiles = {f"q{round(100 * q):02d}": float(np.quantile(angles, q)) for q in _QUANTILES}
    return {"mean": float(angles.mean()), "std": float(angles.std()), **quantiles}


def _checked(audio_embeds: Embeddings, text_embeds: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    audio, text = _as_float64(audio_embeds), _as_float64(text_embeds)
    if audio.ndim != 2 or text.ndim != 3 or text.shape[1:] != audio.shape or 0 in text.shape:
        raise ValueError(
            "Embeddings must have shapes (N, D) for audio and (K, N, D) for text, row i of each being item i, with no "
            f"size 0; got {audio.shape} and {text.shape}."
        )
    return _normalized(audio, "audio"), _normalized(text, "text")


def _as_float64(embeds: Embeddings) -> np.ndarray:
    if isinstance(embeds, torch.Tensor):
        embeds = embeds.detach().cpu().double().numpy()
    return np.asarray(embeds, dtype=np.float64)


def _normalized(embeds: np.ndarray, name: str) -> np.ndarray:
    norms = np.linalg.norm(embeds, axis=-1, keepdims=True)
    wrong = np.argwhere(~(np.isfinite(norms) & (norms > _LEAST_NORM)))
    if len(wrong):
        raise ValueError(
            f"The {name} embedding at {tuple(wrong[0, :-1].tolist())} has norm {norms[tuple(wrong[0])]}, but only a "
            "finite embedding that is not zero has a direction."
        )
    return embeds / norms


def _mean_direction(text: np.ndarray) -> np.ndarray:
    """Directions `(N, D)` of the means over the first axis of unit vectors `(K, N, D)`."""
    mean = text.mean(axis=0)
    norms = np.linalg.norm(mean, axis=-1)
    if norms.min() <= _LEAST_NORM:
        raise ValueError(
            f"The text embeddings of caption {int(norms.argmin())} add up to zero over the {len(text)} languages, so "
            "their mean has no direction."
        )
    return mean / norms[:, None]


def _angles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Degrees between unit vectors along the last axis. The arc cosine would round angles below 1e-6 to 0."""
    apart, together = np.linalg.norm(x - y, axis=-1), np.linalg.norm(x + y, axis=-1)
    return np.degrees(2 * np.arctan2(apart, together))
