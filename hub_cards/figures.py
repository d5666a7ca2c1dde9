"""Names of the figures that an evaluation reports, their direction and their titles.

`{direction}_{figure}` for one language, e.g. `text_to_audio_R@1`; an evaluation puts `{language}_` or `mean_` (over
the languages) before it. The consistency figures compare the languages and have no prefix. `trainer/metrics/`
defines and computes all of them.
"""

from collections.abc import Sequence

from modeling_atri.languages_atri import language_name


DIRECTIONS = {"text_to_audio": "Text to audio", "audio_to_text": "Audio to text"}
RECALL_CUTOFFS = (1, 5, 10)  # the k of R@k
PRECISION_CUTOFF = 10  # the 10 of mAP@10
RETRIEVAL_FIGURES = (*(f"R@{k}" for k in RECALL_CUTOFFS), f"mAP@{PRECISION_CUTOFF}", "median_rank", "mean_rank")
CONSISTENCY_TITLES = {
    "mrv": "mean rank variance",
    "mean_rank_std": "mean rank std",
    "embedding_gap": "embedding gap",
    "embedding_distance": "embedding distance",
}
BARE_QUERY_FIGURE = "bare_query_R@1"  # of `atri quickstart`; `evaluated_on` says what it means
MOMENT_RECALL_THRESHOLDS = (0.5, 0.7)  # the t of moments' R1@t, least intersection over union
MOMENT_MAP_THRESHOLDS = (0.5, 0.75)  # those that mAP@t is reported at, beside the mean over 0.5, 0.55, ..., 0.95
MOMENT_FIGURES = (
    *(f"R1@{t}" for t in MOMENT_RECALL_THRESHOLDS),
    "mAP",
    *(f"mAP@{t}" for t in MOMENT_MAP_THRESHOLDS),
)
BEST_MODEL_FIGURE = "mean_text_to_audio_R@1"  # the default of `metric_for_best_model`

# Column titles of the table of results, by figure.
RETRIEVAL_COLUMNS = {
    "text_to_audio_R@1": "T2A R@1",
    "text_to_audio_R@5": "R@5",
    "text_to_audio_R@10": "R@10",
    "text_to_audio_mAP@10": "mAP@10",
    "audio_to_text_R@1": "A2T R@1",
    "audio_to_text_R@5": "R@5",
    "audio_to_text_R@10": "R@10",
    "audio_to_text_mAP@10": "mAP@10",
}


def figure_names(languages: Sequence[str]) -> list[str]:
    """Names of all figures of an evaluation in these languages (FLORES-200 codes), the keys of `retrieval_table`."""
    directed = [f"{direction}_{figure}" for direction in DIRECTIONS for figure in RETRIEVAL_FIGURES]
    names = [f"{language}_{figure}" for language in (*languages, "mean") for figure in directed]
    return names + list(CONSISTENCY_TITLES) if len(languages) > 1 else names


def is_lower_better(name: str) -> bool:
    """Whether a lower value of a figure is better: true of ranks and of the consistency figures."""
    return name.endswith(("_mean_rank", "_median_rank", *CONSISTENCY_TITLES))


def published_titles(languages: Sequence[str]) -> dict[str, str]:
    """Names and titles of the figures that the Hub is told.

    They are the mean of every column of the table, R@1 of each language in both directions, and the consistency.
    """
    titles = {f"mean_{name}": f"{_title(name)}, mean of languages" for name in RETRIEVAL_COLUMNS}
    for code in languages:
        titles |= {f"{code}_{way}_R@1": f"{_title(f'{way}_R@1')}, {language_name(code)}" for way in DIRECTIONS}
    return titles | {name: title.capitalize() for name, title in CONSISTENCY_TITLES.items()}


def _title(name: str) -> str:
    """Title of a figure of one language, e.g. "Text to audio R@1"."""
    direction, _, figure = name.rpartition("_")
    return f"{DIRECTIONS[direction]} {figure}"
