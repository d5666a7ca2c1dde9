"""The report of the study `weak`: tables and a plot of the weak language and of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from consistency_study.bootstrap import Bootstrap
from consistency_study.runs import Runs

from modeling_atri.hub_cards.tables import text_table
from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name

from ..cells import Cell, Study
from ..tables import Figure, differences, head


COLORS = ("#0072B2", "#009E73", "#E69F00")  # as in the plots of the other studies


@dataclass(frozen=True)
class Question:
    """What changes if the captions of a language change.

    Args:
        language: the weak language.
        title: what the change is.
        pairs: cells without and with the change, or without and with a remedy.
    """

    language: str
    title: str
    pairs: Sequence[tuple[Cell, Cell]]


def hits_of_language(runs: Runs, language: str) -> np.ndarray:
    """R@1 of a language, `(seeds, clips)`."""
    return runs.hits[:, _place(language)]


def hits_of_others(runs: Runs, language: str) -> np.ndarray:
    """R@1 averaged over all languages but one, `(seeds, clips)`."""
    return np.delete(runs.hits, _place(language), axis=1).mean(axis=1)


def variance_of_others(runs: Runs, language: str) -> np.ndarray:
    """Rank variance over all languages but one, `(seeds, clips)`."""
    of_captions = np.delete(runs.ranks, _place(language), axis=1).var(axis=1)
    return of_captions.reshape(len(runs.seeds), runs.hits.shape[-1], -1).mean(axis=-1)


def _place(language: str) -> int:
    return list(ATRI_LANGUAGES).index(language)


def figures_of(language: str) -> dict[str, tuple[Figure, float]]:
    """The figures of the tables: title, function, and factor of the unit."""
    return {
        "R@1, weak language": (partial(hits_of_language, language=language), 100.0),
        "R@1, other seven": (partial(hits_of_others, language=language), 100.0),
        "MRV": (lambda one: one.variance, 1.0),
        "MRV, other seven": (partial(variance_of_others, language=language), 1.0),
    }


def write_report(
    study: Study, results: Path, runs: dict[str, Runs], questions: Sequence[Question], weights: Question
) -> str:
    """Write tables and plot beside the results file, and return the tables.

    Args:
        study: the study.
        results: the results file.
        runs: the runs of each cell.
        questions: the changes.
        weights: the remedy of other weights.
    """
    if not runs:
        raise SystemExit(f"There are no runs in {results}: do the study first.")
    bootstrap = Bootstrap(next(iter(runs.values())).recall.shape[1])
    sections = [
        head(study.title, study.name, study.cells, runs),
        "Wrong captions are those of scenes with other sounds. Where a tenth is left, the other scenes have English "
        "captions in their place. All runs train heads for 300 steps: the text encoder is pretrained and frozen, "
        "and the sounds are embedded by a model that was trained on English alone with the same seed.",
    ]
    languages = dict.fromkeys(question.language for question in questions)
    for language in languages:
        of_language = [question for question in questions if question.language == language]
        if any(_pairs(question, runs) for question in of_language):
            sections += [f"## {language_name(language)}", _figures(of_language, runs, bootstrap)]
            sections += [
                f"What a run has more than its clean twin, paired by seed and clip ({language_name(language)} is the "
                "weak language). p is two-sided and corrected for all comparisons of the table together (Holm).",
                _changes(of_language, runs, bootstrap),
            ]
    if _pairs(weights, runs):
        sections += [
            "## Another weight for the weak language",
            f"KCL, {language_name(weights.language)}, {weights.title}: what a run with another weight for the "
            "language's term has more than the run with equal weights.",
            _changes([weights], runs, bootstrap),
        ]
    text = "\n\n".join(sections) + "\n"
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(results.with_suffix(".png"), [one for one in questions if one.language == questions[0].language], runs)
    return text


def _pairs(question: Question, runs: dict[str, Runs]) -> list[tuple[Runs, Runs]]:
    """The pairs of a question that have runs of the same seed."""
    found = [
        (runs[clean.name], runs[other.name]) for clean, other in question.pairs if {clean.name, other.name} <= {*runs}
    ]
    return [(clean, other) for clean, other in found if {*clean.seeds} & {*other.seeds}]


def _changes(questions: Sequence[Question], runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    pairs = [
        (f"{other.cell.title}: {question.title}", other, clean)
        for question in questions
        for clean, other in _pairs(question, runs)
    ]
    return differences(pairs, figures_of(questions[0].language), bootstrap)


def _figures(questions: Sequence[Question], runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """The figures of the clean runs and of those with each change, way by way."""
    figures = figures_of(questions[0].language)
    shown: dict[str, tuple[str, Runs]] = {}
    for question in questions:
        for clean, other in _pairs(question, runs):
            shown.setdefault(clean.cell.name, (f"{clean.cell.title}: clean", clean))
            shown.setdefault(other.cell.name, (f"{other.cell.title}: {question.title}", other))
    rows = [
        [
            title,
            len(found.seeds),
            *(bootstrap.estimate(figure(found)).text(factor) for figure, factor in figures.values()),
        ]
        for title, found in sorted(shown.values(), key=lambda one: one[0].partition(":")[0])
    ]
    return text_table(["", "seeds", *figures], rows, markdown=True)


def draw(file: Path, questions: Sequence[Question], runs: dict[str, Runs]) -> None:
    """Draw recall of the weak language and of the others, and MRV, with each change; a line for each way."""
    from matplotlib.figure import Figure as Canvas  # only the report needs matplotlib

    bootstrap = Bootstrap(next(iter(runs.values())).recall.shape[1])
    canvas = Canvas(figsize=(13, 4), layout="constrained")
    figures = figures_of(questions[0].language)
    del figures["MRV, other seven"]
    panels = canvas.subplots(1, len(figures))
    for number, (clean, _) in enumerate(questions[0].pairs):
        changed = [(question.title, question.pairs[number][1]) for question in questions]
        steps = [(name, runs[cell.name]) for name, cell in (("clean", clean), *changed) if cell.name in runs]
        for axes, (title, (figure, factor)) in zip(panels, figures.items(), strict=True):
            estimates = [bootstrap.estimate(figure(found)) for _, found in steps]
            bars = np.array([[one.mean - one.low, one.high - one.mean] for one in estimates]).T
            axes.errorbar(
                [name for name, _ in steps],
                [factor * one.mean for one in estimates],
                yerr=factor * bars.clip(min=0) if steps else None,  # rounding may leave them a little below 0
                color=COLORS[number],
                marker="o",
                capsize=3,
                label=clean.title,
            )
            axes.set(title=title)
    panels[-1].set_yscale("log")
    panels[0].legend(frameon=False)
    canvas.suptitle(f"{language_name(questions[0].language)} is the weak language")
    canvas.savefig(file, dpi=120)
