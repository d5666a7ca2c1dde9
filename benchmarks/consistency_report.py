"""Tables and plots of the runs in results/consistency, for `consistency.py --report`."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from consistency_grid import (
    BUDGET_PART,
    CELLS,
    CONTINUED_PART,
    ENCODER_PART,
    LEARNING_RATES,
    OBJECTIVES,
    PARTS,
    RANKING_WEIGHT,
    RANKING_WEIGHTS,
    RATES,
    STEPS_PART,
    TUNING_CELLS,
    Cell,
)
from consistency_plots import draw_all
from consistency_statistics import LEVEL, NUM_DRAWS, Bootstrap, Estimate, holm

from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name


NUM_CAPTIONS_OF_A_CLIP = 5
BASELINES = {
    BUDGET_PART: "mlclap-budget",
    CONTINUED_PART: "mlclap-continued",
    ENCODER_PART: "mlclap-bert",
}  # of the other parts: mlclap
# What the paper claims, first against second: recall higher, rank variance lower.
CLAIMS = (("kcl", "cacl"), ("cacl", "mlclap"), ("kcl", "mlclap"), ("akcl", "kcl"), ("akcl", "cacl"))


@dataclass(frozen=True)
class Runs:
    """All runs of a cell: `reports`, one a seed, and `ranks` (seeds, languages, captions) from text to audio."""

    cell: Cell
    seeds: list[int]
    reports: list[dict[str, Any]]
    ranks: np.ndarray

    def mean(self, metric: str) -> float:
        """Over the seeds."""
        return float(np.mean([report["metrics"][metric] for report in self.reports]))

    @cached_property
    def hits(self) -> np.ndarray:
        """Share of right first hits, (seeds, languages, clips)."""
        return _by_clip((self.ranks <= 1).astype(float)).mean(axis=-1)

    @cached_property
    def recall(self) -> np.ndarray:
        """R@1 of text to audio, mean over the languages, (seeds, clips)."""
        return self.hits.mean(axis=1)

    @cached_property
    def variance(self) -> np.ndarray:
        """Rank variance over the languages, (seeds, clips); its mean is MRV."""
        return _by_clip(self.ranks.var(axis=1)).mean(axis=-1)

    def on_seeds(self, seeds: list[int], values: np.ndarray) -> np.ndarray:
        """Rows of these seeds."""
        return values[[self.seeds.index(seed) for seed in seeds]]


def _by_clip(of_captions: np.ndarray) -> np.ndarray:
    """The last dimension, captions, into clips and their captions."""
    return of_captions.reshape(*of_captions.shape[:-1], -1, NUM_CAPTIONS_OF_A_CLIP)


def report(folder: Path) -> None:
    """Write `consistency.md` and the plots beside the folder of the runs, and print the tables."""
    runs = read_runs(folder)
    if "mlclap" not in runs:
        raise SystemExit(f"There are no runs of ML-CLAP in {folder}: run the grid first.")
    weight_errors = json.loads(path.read_text()) if (path := folder / "weight_errors.json").exists() else {}
    bootstrap = Bootstrap(runs["mlclap"].recall.shape[1])
    sections = [_head(runs)]
    for part in PARTS:
        if rows := [name for name, cell in CELLS.items() if part in cell.parts and name in runs]:
            sections += [f"## {part[0].upper()}{part[1:]}", figures(rows, runs, bootstrap, weight_errors)]
    sections += ["## R@1 by language, equal steps", by_language(runs)]
    sections += [f"## Differences to ML-CLAP\n\n{DIFFERENCES}", differences(runs, bootstrap)]
    if table := variants(runs, bootstrap):
        sections += ["## Variants against what they vary", table]
    sections += ["## The order that the paper reports, and ours", claims(runs, bootstrap)]
    if tables := settings_tables(folder.parent / TUNING_NAME):
        sections += [f"## Settings\n\n{TUNING_HEAD}", *tables]
    text = "\n\n".join(sections) + "\n"
    (folder.parent / "consistency.md").write_text(text, encoding="utf-8")
    print(text)
    draw_all(runs, bootstrap, folder.parent)


DIFFERENCES = (
    "Paired by seed and clip: what a row has more than ML-CLAP of the same table, over the seeds that both have. p is "
    "two-sided, from the same bootstrap, and corrected for all comparisons of this table together (Holm); with five "
    "seeds or three, p rests on the clips more than on the seeds."
)


TUNING_NAME = "consistency_tuning"
TUNING_HEAD = (
    "On scenes held out of train (`--tune`; dev takes no part), 600 steps: T2A R@1 in percent / MRV, of one seed, or "
    "the mean of two where the choice lay between two rates. Objectives and their variants train at the rate in bold. "
    "Where two were as good in R@1 as seeds tell, it is ML-CLAP's of the lower MRV, which suits the baseline, and "
    "AKCL's of the higher one. The weight of equal rankings in bold was chosen between these two; 0 is without."
)


def settings_tables(folder: Path) -> list[str]:
    """What was reached with each learning rate and each weight of equal rankings, one row an objective."""
    rates = sorted(set().union(*RATES.values()))
    by_rate = {
        title: [_reached(folder, TUNING_CELLS.get(f"{name}-{rate:g}"), rate == LEARNING_RATES[name]) for rate in rates]
        for name, title in OBJECTIVES.items()
    }
    by_weight = {
        f"{OBJECTIVES[name]} and equal rankings": [
            _reached(folder, TUNING_CELLS[f"{name}-{LEARNING_RATES[name]:g}"], is_chosen=False, num_seeds=1),
            *(
                _reached(folder, TUNING_CELLS[f"{name}-rankings-{weight:g}"], weight == RANKING_WEIGHT)
                for weight in RANKING_WEIGHTS
            ),
        ]
        for name in ("kcl", "akcl")
    }
    tables = (("learning rate", rates, by_rate), ("weight", (0, *RANKING_WEIGHTS), by_weight))
    return [
        _table([name, *(f"{value:g}" for value in values)], [[title, *row] for title, row in rows.items()])
        for name, values, rows in tables
        if any(any(row) for row in rows.values())
    ]


def _reached(folder: Path, cell: Cell | None, is_chosen: bool, num_seeds: int | None = None) -> str:
    """R@1 and MRV, mean over the seeds that are there; empty if none is."""
    seeds = range((num_seeds or cell.num_seeds) if cell is not None else 0)
    files = [file for seed in seeds if (file := folder / f"{cell.name}-{seed}.json").exists()]
    if not files:
        return ""
    found = [json.loads(file.read_text(encoding="utf-8"))["metrics"] for file in files]
    recall, variance = (np.mean([one[key] for one in found]) for key in ("mean_text_to_audio_R@1", "mrv"))
    text = f"{100 * recall:.1f} / {variance:.1f}"
    return f"**{text}**" if is_chosen else text


def read_runs(folder: Path) -> dict[str, Runs]:
    """The runs that are there, by cell."""
    found = {}
    for name, cell in CELLS.items():
        seeds = [seed for seed in range(cell.num_seeds) if (folder / f"{name}-{seed}.json").exists()]
        if seeds:
            reports = [json.loads((folder / f"{name}-{seed}.json").read_text(encoding="utf-8")) for seed in seeds]
            ranks = np.stack([np.load(folder / f"{name}-{seed}.npz")["doubled_ranks"] / 2 for seed in seeds])
            found[name] = Runs(cell, seeds, reports, ranks)
    return found


def _head(runs: dict[str, Runs]) -> str:
    one = runs["mlclap"].reports[0]
    done = sum(len(found.seeds) for found in runs.values())
    planned = sum(cell.num_seeds for cell in CELLS.values())
    versions = ", ".join(f"{name} {one['environment']['versions'][name]}" for name in ("torch", "transformers"))
    return (
        "# Who finds the same sounds in every language?\n\n"
        "Made by `python benchmarks/consistency.py --data $ATRI_SCENES` and `--report`: a model of "
        f"{one['num_parameters']:,} parameters from scratch on the ESC-10 scenes, batches of 32, settings in "
        f"`consistency.yaml`; {done} of {planned} runs of the grid are done ({versions}). Recall in percent; in "
        f"brackets {LEVEL:.0%} intervals of {NUM_DRAWS:,} bootstrap draws over seeds and clips. `captions`: how many "
        "captions of a clip the text tower encodes in a run. The weight error is the distance of the weights to those "
        "of KCL, all languages, from the same start on the same clips at the same learning rate, over the way that "
        "KCL went; it is given where there is such a run of KCL."
    )


def figures(names: list[str], runs: dict[str, Runs], bootstrap: Bootstrap, weight_errors: dict[str, float]) -> str:
    """One row a cell."""
    header = ["", "seeds", "steps", "captions", "T2A R@1", "R@10", "A2T R@1", "MRV", "rank std", "gap", "distance"]
    rows = []
    for name in names:
        found = runs[name]
        errors = [weight_errors[key] for seed in found.seeds if (key := f"{name}-{seed}") in weight_errors]
        rows.append(
            [
                found.cell.title,
                str(len(found.seeds)),
                str(found.cell.steps),
                str(found.cell.steps * found.cell.captions_a_step),
                _percent(bootstrap.estimate(found.recall)),
                f"{100 * found.mean('mean_text_to_audio_R@10'):.1f}",
                f"{100 * found.mean('mean_audio_to_text_R@1'):.1f}",
                _plain(bootstrap.estimate(found.variance)),
                f"{found.mean('mean_rank_std'):.2f}",
                f"{found.mean('embedding_gap'):.3f}",
                f"{found.mean('embedding_distance'):.3f}",
                f"{np.mean(errors):.2f}" if errors else "",
                f"{np.mean([one['cpu_seconds'] for one in found.reports]) / 60:.1f}",
                f"{np.mean([one['peak_memory_mb'] for one in found.reports]):.0f}",
            ]
        )
    return _table([*header, "weight error", "CPU min", "MB"], rows)


def by_language(runs: dict[str, Runs]) -> str:
    """R@1 of text to audio, one row an objective."""
    names = [name for name in OBJECTIVES if name in runs]
    rows = [
        [OBJECTIVES[name], *(f"{100 * share:.1f}" for share in runs[name].hits.mean(axis=(0, 2)))] for name in names
    ]
    return _table(["", *map(language_name, ATRI_LANGUAGES)], rows)


def differences(runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """Every cell against ML-CLAP of its table."""
    titles: dict[tuple[str, str], str] = {}  # by the cell and what it is compared with, each pair once
    for part in PARTS:
        baseline = BASELINES.get(part, "mlclap")
        for name, cell in CELLS.items():
            if part in cell.parts and name in runs and baseline in runs and name != baseline:
                titles.setdefault((name, baseline), f"{cell.title} ({part})")
    return _compared([(title, *pair) for pair, title in titles.items()], runs, bootstrap)


def variants(runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """Every variant against what it varies; empty if there are none."""
    compared = [
        (f"{cell.title} - {CELLS[cell.variant_of].title}", name, cell.variant_of)
        for name, cell in CELLS.items()
        if cell.variant_of in runs and name in runs
    ]
    return _compared(compared, runs, bootstrap) if compared else ""


def claims(runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    """The paper's order, pair by pair, at equal steps and at equal text budget."""
    compared = []
    for part, ending in ((STEPS_PART, ""), (BUDGET_PART, "-budget")):
        for first, second in CLAIMS:
            pair = [one if one == "cacl" else one + ending for one in (first, second)]
            if all(one in runs for one in pair):
                compared.append((f"{OBJECTIVES[first]} and {OBJECTIVES[second]} ({part})", *pair))
    return _compared(compared, runs, bootstrap)


def _compared(compared: list[tuple[str, str, str]], runs: dict[str, Runs], bootstrap: Bootstrap) -> str:
    estimates = []
    for _, name, other in compared:
        seeds = [seed for seed in runs[name].seeds if seed in runs[other].seeds]
        for values in ("recall", "variance"):
            first, second = (runs[one].on_seeds(seeds, getattr(runs[one], values)) for one in (name, other))
            estimates.append(bootstrap.estimate(first - second))
    adjusted = holm([estimate.p_value for estimate in estimates])
    rows = []
    for place, (title, *_) in enumerate(compared):
        recall, variance = estimates[2 * place : 2 * place + 2]
        p_recall, p_variance = adjusted[2 * place : 2 * place + 2]
        rows.append([title, _percent(recall), _p(p_recall), _plain(variance), _p(p_variance)])
    return _table(["", "T2A R@1", "p", "MRV", "p"], rows)


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.mean:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _plain(estimate: Estimate) -> str:
    return f"{estimate.mean:.1f} [{estimate.low:.1f}, {estimate.high:.1f}]"


def _p(value: float) -> str:
    return "< 0.01" if value < 0.01 else f"{value:.2f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
