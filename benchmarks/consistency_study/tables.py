"""The tables of the report, in Markdown."""

from pathlib import Path

import numpy as np
from shared.objectives import TITLES

from modeling_atri.hub_cards.tables import text_table
from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name

from .bootstrap import Bootstrap, holm
from .grid import (
    BUDGET_PART,
    CELLS,
    CONTINUED_PART,
    ENCODER_PART,
    LEARNING_RATES,
    PARTS,
    RANKING_WEIGHT,
    RANKING_WEIGHTS,
    RATES,
    STEPS_PART,
    TUNING_CELLS,
    Cell,
)
from .results import read_results
from .runs import Runs


# The cell that a part's cells are compared with; in the other parts it is `mlclap`.
BASELINES = {BUDGET_PART: "mlclap-budget", CONTINUED_PART: "mlclap-continued", ENCODER_PART: "mlclap-bert"}
# The paper's claims: the first has higher recall and lower rank variance than the second.
CLAIMS = (("kcl", "cacl"), ("cacl", "mlclap"), ("kcl", "mlclap"), ("akcl", "kcl"), ("akcl", "cacl"))
FIGURES_HEADER = [
    *("", "seeds", "steps", "captions", "T2A R@1", "R@10", "A2T R@1", "MRV", "rank std", "gap", "distance"),
    *("weight error", "CPU min", "MB"),
]


def figures(names: list[str], runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """The figures of some cells, one row for each."""
    rows = []
    for name in names:
        found = runs[name]
        errors = [row["weight_error"] for row in found.rows if row["weight_error"] is not None]
        rows.append(
            [
                found.cell.title,
                len(found.seeds),
                found.cell.steps,
                found.cell.steps * found.cell.captions_a_step,
                bootstrap.estimate(found.recall).text(scale=100),
                f"{100 * found.mean_metric('mean_text_to_audio_R@10'):.1f}",
                f"{100 * found.mean_metric('mean_audio_to_text_R@1'):.1f}",
                bootstrap.estimate(found.variance).text(),
                f"{found.mean_metric('mean_rank_std'):.2f}",
                f"{found.mean_metric('embedding_gap'):.3f}",
                f"{found.mean_metric('embedding_distance'):.3f}",
                f"{np.mean(errors):.2f}" if errors else "",
                f"{found.mean('cpu_seconds') / 60:.1f}",
                f"{found.mean('peak_memory_mb'):.0f}",
            ]
        )
    return text_table(FIGURES_HEADER, rows, markdown=True)


def by_language(runs: dict[str, Runs]) -> str:
    """R@1 of text to audio in each language, one row for each objective."""
    rows = [
        [title, *(f"{100 * share:.1f}" for share in runs[name].hits.mean(axis=(0, 2)))]
        for name, title in TITLES.items()
        if name in runs
    ]
    return text_table(["", *map(language_name, ATRI_LANGUAGES)], rows, markdown=True)


def differences(runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """Every cell compared with ML-CLAP of its part."""
    titles: dict[tuple[str, str], str] = {}  # a cell may be in several parts that have the same baseline
    for part in PARTS:
        baseline = BASELINES.get(part, "mlclap")
        for name, cell in CELLS.items():
            if part in cell.parts and name in runs and baseline in runs and name != baseline:
                titles.setdefault((name, baseline), f"{cell.title} ({part})")
    return compared_pairs([(title, *pair) for pair, title in titles.items()], runs, bootstrap)


def variants(runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """Every variant compared with the cell it is a variant of; an empty string if there are none."""
    compared = [
        (f"{cell.title} - {CELLS[cell.variant_of].title}", name, cell.variant_of)
        for name, cell in CELLS.items()
        if cell.variant_of in runs and name in runs
    ]
    return compared_pairs(compared, runs, bootstrap) if compared else ""


def claims(runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """The order of the paper's objectives, pair by pair, at equal steps and at equal text budget."""
    compared = []
    for part, ending in ((STEPS_PART, ""), (BUDGET_PART, "-budget")):
        for first, second in CLAIMS:
            pair = [one if one == "cacl" else one + ending for one in (first, second)]
            if all(one in runs for one in pair):
                compared.append((f"{TITLES[first]} and {TITLES[second]} ({part})", *pair))
    return compared_pairs(compared, runs, bootstrap)


def compared_pairs(compared: list[tuple[str, str, str]], runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """Differences of pairs of cells in R@1 and MRV, with p-values that are corrected for all comparisons together.

    `compared` has the title of each row, its cell, and the cell that is subtracted.
    """
    estimates = []
    for _, name, other in compared:
        seeds = [seed for seed in runs[name].seeds if seed in runs[other].seeds]
        for values in ("recall", "variance"):
            first, second = (runs[one].on_seeds(seeds, getattr(runs[one], values)) for one in (name, other))
            estimates.append(bootstrap.estimate(first - second))
    p_values = ["< 0.01" if p < 0.01 else f"{p:.2f}" for p in holm([estimate.p_value for estimate in estimates])]
    rows = []
    for place, (title, *_) in enumerate(compared):
        recall, variance = estimates[2 * place : 2 * place + 2]
        p_recall, p_variance = p_values[2 * place : 2 * place + 2]
        rows.append([title, recall.text(scale=100), p_recall, variance.text(), p_variance])
    return text_table(["", "T2A R@1", "p", "MRV", "p"], rows, markdown=True)


def tuning(file: Path) -> list[str]:
    """Results of each learning rate and of each weight of equal rankings, one row for each objective."""
    found = {(run["cell"], run["seed"]): run["metrics"] for run in read_results(file)}

    def reached(cell: Cell | None, is_chosen: bool, num_seeds: int | None = None) -> str:
        """R@1 and MRV, averaged over the seeds that are there; an empty string if there are none."""
        seeds = range((num_seeds or cell.num_seeds) if cell is not None else 0)
        metrics = [found[cell.name, seed] for seed in seeds if (cell.name, seed) in found]
        if not metrics:
            return ""
        recall, variance = (np.mean([one[key] for one in metrics]) for key in ("mean_text_to_audio_R@1", "mrv"))
        text = f"{100 * recall:.1f} / {variance:.1f}"
        return f"**{text}**" if is_chosen else text

    rates = sorted(set().union(*RATES.values()))
    by_rate = [
        [title, *(reached(TUNING_CELLS.get(f"{name}-{rate:g}"), rate == LEARNING_RATES[name]) for rate in rates)]
        for name, title in TITLES.items()
    ]
    by_weight = [
        [
            f"{TITLES[name]} and equal rankings",
            reached(TUNING_CELLS[f"{name}-{LEARNING_RATES[name]:g}"], is_chosen=False, num_seeds=1),
            *(
                reached(TUNING_CELLS[f"{name}-rankings-{weight:g}"], weight == RANKING_WEIGHT)
                for weight in RANKING_WEIGHTS
            ),
        ]
        for name in ("kcl", "akcl")
    ]
    tables = (("learning rate", rates, by_rate), ("weight", (0, *RANKING_WEIGHTS), by_weight))
    return [
        text_table([title, *(f"{value:g}" for value in values)], rows, markdown=True)
        for title, values, rows in tables
        if any(any(cells) for _, *cells in rows)
    ]
