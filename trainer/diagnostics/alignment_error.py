"""The modality alignment direction error: where a clip's embedding points, and where it should.

The source is ATRI (Yin et al., ACL 2025): a clip's embedding should point where the arithmetic mean of its K text
embeddings does, one for each language; a step that draws fewer languages pulls it elsewhere. All errors are angles in
degrees, in float64, exact down to 0.
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
        audio: `(N,)`, of each audio embedding: the error of the model as it is.
        text: `(K, N)`, of each language's text embedding: the error of what a draw of that language pulls to.
    """

    audio: np.ndarray
    text: np.ndarray


def alignment_error(audio_embeds: Embeddings, text_embeds: Embeddings) -> AlignmentError:
    """Angles between embeddings and the mean text direction.

    Args:
        audio_embeds: (N, D) floats, row i the clip of caption i; L2-normalised here.
        text_embeds: (K, N, D) floats, caption i in K languages; L2-normalised here.

    Raises:
        ValueError: shapes that do not fit together; an embedding that is zero or not finite; a caption whose text
            embeddings add up to zero, so that their mean has no direction.
    """
    audio, text = _checked(audio_embeds, text_embeds)
    target = _mean_direction(text)
    return AlignmentError(_angles(audio, target), _angles(text, target))


def objective_pulls(text_embeds: Embeddings, anchor: int | None = None) -> dict[str, float]:
    """How far, on average over its draws, what a step of each objective pulls a clip to is from the mean direction.

    ML-CLAP pulls to one language's embedding, CACL to the mean of the anchor's and another's, KCL with all languages
    (and anchored KCL, whose audio-text terms are KCL's) to the mean itself.

    Args:
        text_embeds: (K, N, D) floats; L2-normalised here.
        anchor: row of the anchor language; None leaves CACL out, and so does a single language.

    Returns:
        degrees by objective, mean over captions and over all draws there are.
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
    """The alignment of an embedded set in one dict, ready for JSON.

    Args:
        audio_embeds: (A, D), the clips.
        text_embeds: for each language (M, D), caption m the same in all of them.
        owners: for each caption the row of the clip it was written for.
        anchor: language of CACL's anchor. Default, and where the set lacks it: none.

    Returns:
        `audio`: the angles of the clips, their `mean`, `std`, and quantiles `q05`, `q50`, `q95`; `text`: the same by
        language; `pulls`: see [`objective_pulls`]; `num_captions`.
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
            "Embeddings must have shapes (N, D) for audio and (K, N, D) for text, row i of each being item i, none of "
            f"them 0; got {audio.shape} and {text.shape}."
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
            f"The {name} embedding at {tuple(wrong[0, :-1].tolist())} has norm {norms[tuple(wrong[0])]}: a direction "
            "needs a finite embedding that is not zero."
        )
    return embeds / norms


def _mean_direction(text: np.ndarray) -> np.ndarray:
    """Directions `(N, D)` of the means over the first axis of unit vectors `(K, N, D)`."""
    mean = text.mean(axis=0)
    norms = np.linalg.norm(mean, axis=-1)
    if norms.min() <= _LEAST_NORM:
        raise ValueError(
            f"The text embeddings of caption {int(norms.argmin())} add up to zero over the {len(text)} languages: "
            "their mean has no direction."
        )
    return mean / norms[:, None]


def _angles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Degrees between unit vectors along the last axis; the arc cosine would lose all angles below 1e-6."""
    apart, together = np.linalg.norm(x - y, axis=-1), np.linalg.norm(x + y, axis=-1)
    return np.degrees(2 * np.arctan2(apart, together))
