"""How much retrieval and the text embeddings differ between languages, and the table of all figures."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from .inputs import Array, Device, Embeddings, Pairs, Positives, Rows, checked_texts
from .ranking import negatives_ahead
from .retrieval import both_directions


_ROWS_AT_ONCE = 1024


def consistency_metrics(
    audio_embeds: Embeddings,
    text_embeds: Mapping[str, Embeddings],
    positives: Positives,
    anchor: str = "eng_Latn",
    device: Device = "cpu",
) -> dict[str, float]:
    """Measure how much retrieval and the text embeddings differ between languages for the same captions.

    Args:
        audio_embeds (`np.ndarray` or `torch.Tensor` of shape `(A, D)`): One row for each clip; L2-normalised here.
        text_embeds (mapping): For each of at least two languages an array or tensor of shape `(M, D)`. Row m is the
            same caption in every language. L2-normalised here.
        positives: As in [`retrieval_metrics`], the same for every language.
        anchor (`str`, *optional*, defaults to `"eng_Latn"`): The language, a key of `text_embeds`, that the others are
            compared with.
        device: As in [`retrieval_metrics`].

    Returns:
        `dict[str, float]`: Four figures:

        - `mrv`, mean rank variance: variance over the languages (population form) of a caption's text-to-audio rank,
          averaged over captions.
        - `mean_rank_std`: the same with the standard deviation.
        - `embedding_gap`: Euclidean distance between the mean caption embedding of the anchor and that of another
          language, averaged over the other languages.
        - `embedding_distance`: Euclidean distance between a caption's embeddings in the anchor and in another
          language, averaged over captions and the other languages.

    Raises:
        ValueError: As in [`retrieval_metrics`]; or there are fewer than two languages, `anchor` is not one of them, or
            the languages have different numbers of captions.

    References:
        MRV: Nie et al., KDD 2024 (arXiv 2406.18254), whose code reports `mean_rank_std`. All four: ATRI, ACL 2025
        (arXiv 2502.14627).
    """
    _check_anchor(list(text_embeds), anchor)
    audio, texts, pairs = _checked(audio_embeds, text_embeds, positives, device)
    ranks = [negatives_ahead(audio, text, pairs, ["captions"])[0].ranks for text in texts.values()]
    return _consistency(np.stack(ranks), texts, anchor)


def multilingual_metrics(
    audio_embeds: Embeddings,
    text_embeds: Mapping[str, Embeddings],
    positives: Positives,
    anchor: str | None = None,
    device: Device = "cpu",
) -> dict[str, float]:
    """Compute [`retrieval_metrics`] for each language, their means, and [`consistency_metrics`].

    The figures equal those of the two functions, but the scores of each language are computed only once.

    Args:
        audio_embeds, text_embeds, positives, device: As in [`consistency_metrics`]; one language is enough.
        anchor (`str`, *optional*): As in [`consistency_metrics`]. By default the first language.

    Returns:
        `dict[str, float]`: `{language}_{figure}` and `mean_{figure}` for the figures of [`retrieval_metrics`], and
        with at least two languages those of [`consistency_metrics`].

    Raises:
        ValueError: As in the two functions.
    """
    languages = list(text_embeds)
    if len(languages) > 1:
        _check_anchor(languages, anchor or languages[0])
    audio, texts, pairs = _checked(audio_embeds, text_embeds, positives, device)
    pairs.check_clips(len(audio))
    ranks: list[Array] = []
    figures: dict[str, dict[str, float]] = {}
    for language, text in texts.items():
        captions, clips = negatives_ahead(audio, text, pairs)
        ranks.append(captions.ranks)
        figures[language] = both_directions(captions, clips)
    table = {f"{language}_{name}": value for language in languages for name, value in figures[language].items()}
    for name in figures[languages[0]]:
        table[f"mean_{name}"] = float(np.mean([figures[language][name] for language in languages]))
    if len(languages) > 1:
        table |= _consistency(np.stack(ranks), texts, anchor or languages[0])
    return table


def _check_anchor(languages: Sequence[str], anchor: str) -> None:
    if len(languages) < 2 or anchor not in languages:
        raise ValueError(
            f"`text_embeds` holds the languages {sorted(languages)}. Consistency compares at least two languages, and "
            f"the anchor {anchor!r} must be one of them. Add captions or pass another `anchor`."
        )


def _checked(
    audio_embeds: Embeddings, text_embeds: Mapping[str, Embeddings], positives: Positives, device: Device
) -> tuple[Rows, dict[str, Rows], Pairs]:
    audio, texts = Rows(audio_embeds, "audio_embeds", device), checked_texts(text_embeds, device)
    return audio, texts, Pairs.of(positives, len(next(iter(texts.values()))), len(audio))


def _consistency(ranks: Array, texts: Mapping[str, Rows], anchor: str) -> dict[str, float]:
    """Figures of `consistency_metrics` from text-to-audio ranks (K, M) and checked captions."""
    others = [text for language, text in texts.items() if language != anchor]
    gaps, distances = _gaps_and_distances(texts[anchor], others)
    return {
        "mrv": float(ranks.var(axis=0).mean()),
        "mean_rank_std": float(ranks.std(axis=0).mean()),
        "embedding_gap": float(np.mean(gaps)),
        "embedding_distance": float(np.mean(distances)),
    }


def _gaps_and_distances(anchor: Rows, others: Sequence[Rows]) -> tuple[Array, Array]:
    """For each of the others the distance of its mean row from the anchor's, and the mean distance of the rows."""
    totals = torch.zeros((len(others), anchor.width), dtype=torch.float64, device=anchor.values.device)
    distances = torch.zeros(len(others), dtype=torch.float64, device=anchor.values.device)
    for start in range(0, len(anchor), _ROWS_AT_ONCE):
        places = slice(start, start + _ROWS_AT_ONCE)
        of_anchor = anchor.unit(places)
        for number, other in enumerate(others):
            differences = of_anchor - other.unit(places)
            totals[number] += differences.sum(dim=0)
            distances[number] += differences.norm(dim=1).sum()
    return (totals.norm(dim=1) / len(anchor)).cpu().numpy(), (distances / len(anchor)).cpu().numpy()
