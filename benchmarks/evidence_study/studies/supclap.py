"""SupCLAP: does its support vector regularisation help CACL, KCL and AKCL on a frozen pretrained text encoder?

A model with the same text encoder, trained on English alone, embeds the sounds. All runs train heads on stored states
of sounds and captions.
"""

from pathlib import Path
from typing import Any

from consistency_study.bootstrap import Bootstrap
from consistency_study.results import read_results
from consistency_study.runs import Runs, read_runs
from shared.objectives import TITLES

from modeling_atri.hub_cards.tables import text_table

from ..cells import Cell, Study
from ..losses.supclap import OBJECTIVES
from ..tables import differences, head


STEPS = 300
TEACHER_STEPS, TUNED_TEACHER_STEPS = 600, 200
LEARNING_RATE = 1e-3  # as in teaching.yaml, for every objective
RADII = {"static": "static R", "dynamic": "dynamic R"}
CHOSEN = {"static": "radius0.5", "dynamic": "plain"}  # readings of the highest recall in the tuning runs
TUNED_OBJECTIVE = "kcl"
TUNED = [
    ("static", "plain"),
    ("static", "radius0.5"),
    ("static", "radius1"),
    ("static", "renormalised"),
    ("dynamic", "plain"),
    ("dynamic", "sorted"),
]
READING_TITLES = {
    "plain": "as described",
    "radius0.5": "R = 0.5 at the beginning",
    "radius1": "R = 1 at the beginning",
    "renormalised": "support vectors of length 1",
    "sorted": "similarities in falling order",
}


def english(name: str, steps: int) -> Cell:
    """A model that has learnt to hear from English captions."""
    options = {"objective": "mlclap", "languages": ["eng_Latn"], "learning_rate": LEARNING_RATE, "max_steps": steps}
    return Cell(name, "English alone", options, text="use")


ENGLISH, TUNED_ENGLISH = (
    english(f"use-english-{TEACHER_STEPS}", TEACHER_STEPS),
    english("tuned-english", TUNED_TEACHER_STEPS),
)


def of_heads(name: str, title: str, objective: str, sounds_of: Cell = ENGLISH, **fields: Any) -> Cell:
    """A run that trains heads with an objective."""
    options = {"objective": objective, "learning_rate": LEARNING_RATE, "max_steps": STEPS}
    return Cell(name, title, options, text="use", sounds_of=sounds_of, **fields)


BASES = {objective: of_heads(f"heads-{objective}", TITLES[objective], objective) for objective in OBJECTIVES}
WITH_SVR = [
    of_heads(
        f"svr-{objective}-{radius}",
        f"{TITLES[objective]} and SVR, {title}",
        objective,
        loss=f"{objective}-{radius}-{CHOSEN[radius]}",
        variant_of=BASES[objective].name,
    )
    for objective in OBJECTIVES
    for radius, title in RADII.items()
]
TUNING = [
    of_heads("tuned-heads", "without SVR", TUNED_OBJECTIVE, TUNED_ENGLISH, num_seeds=1),
    *(
        of_heads(
            f"tuned-{radius}-{reading}",
            f"{RADII[radius]}, {READING_TITLES[reading]}",
            TUNED_OBJECTIVE,
            TUNED_ENGLISH,
            loss=f"{TUNED_OBJECTIVE}-{radius}-{reading}",
            num_seeds=1,
        )
        for radius, reading in TUNED
    ),
]


def _report(results: Path, tuning: Path, work: Path) -> str:
    cells = [*BASES.values(), *WITH_SVR]
    runs = read_runs(results, {cell.name: cell for cell in cells})
    if not runs:
        raise SystemExit(f"There are no runs in {results}: do the study first.")
    bootstrap = Bootstrap(next(iter(runs.values())).recall.shape[1])
    pairs = [
        (f"{cell.title} - {TITLES[cell.options['objective']]}", runs[cell.name], runs[cell.variant_of])
        for cell in WITH_SVR
        if cell.name in runs and cell.variant_of in runs
    ]
    sections = [
        head(STUDY.title, STUDY.name, cells, runs),
        f"Every run trains the two heads for {STEPS} steps of 32 scenes at the learning rate {LEARNING_RATE:g}. The "
        "text encoder is pretrained and frozen. The sounds are embedded by a model that was trained on English alone "
        "with the same seed. R is the mean radius of the last batch, and |a - t| the mean distance of its pairs.",
        _figures(runs, bootstrap),
    ]
    if pairs:
        figures = {"T2A R@1": (lambda one: one.recall, 100.0), "MRV": (lambda one: one.variance, 1.0)}
        sections += [
            "## With SVR minus without",
            "Paired by seed and clip. p is two-sided and corrected for all comparisons of the table together (Holm).",
            differences(pairs, figures, bootstrap),
        ]
    sections += _tuning(tuning)
    text = "\n\n".join(sections) + "\n"
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def _figures(runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    rows = []
    for found in runs.values():
        learnt = [found.mean_metric(name) if found.cell.loss else None for name in ("radius", "pair_distance")]
        rows.append(
            [
                found.cell.title,
                len(found.seeds),
                bootstrap.estimate(found.recall).text(scale=100),
                f"{100 * found.mean_metric('mean_text_to_audio_R@10'):.1f}",
                f"{100 * found.mean_metric('mean_audio_to_text_R@1'):.1f}",
                bootstrap.estimate(found.variance).text(),
                *("" if value is None else f"{value:.2f}" for value in learnt),
                f"{found.mean('cpu_seconds'):.0f}",
            ]
        )
    header = ["", "seeds", "T2A R@1", "R@10", "A2T R@1", "MRV", "R", "\\|a - t\\|", "CPU s"]
    return text_table(header, rows, markdown=True)


def _tuning(file: Path) -> list[str]:
    """The readings on held-out scenes, the chosen ones in bold; an empty list if there are no such runs."""
    found = {run["cell"]: run for run in read_results(file)}
    chosen = {f"tuned-{radius}-{reading}" for radius, reading in CHOSEN.items()}
    rows = []
    for cell in TUNING:
        if cell.name in found:
            metrics = found[cell.name]["metrics"]
            mark = "**" if cell.name in chosen else ""
            rows.append(
                [
                    f"{mark}{cell.title}{mark}",
                    f"{100 * metrics['mean_text_to_audio_R@1']:.1f}",
                    f"{metrics['mrv']:.1f}",
                    *(f"{metrics[name]:.2f}" if name in metrics else "" for name in ("radius", "pair_distance")),
                ]
            )
    if not rows:
        return []
    return [
        "## Readings of the open points",
        "KCL, one seed, on scenes held out of train (`--tune`; dev takes no part). The model that embeds the sounds "
        f"has not heard these scenes either, and was trained for {TUNED_TEACHER_STEPS} steps. The chosen reading of "
        "each radius is in bold.",
        text_table(["", "T2A R@1", "MRV", "R", "\\|a - t\\|"], rows, markdown=True),
    ]


STUDY = Study(
    "supclap",
    "Does the support vector regularisation of SupCLAP help?",
    [*BASES.values(), *WITH_SVR],
    _report,
    TUNING,
)
