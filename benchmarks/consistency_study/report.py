"""The report of `consistency.py --report`: `consistency.md` with all tables, and the plots."""

from pathlib import Path

from .bootstrap import LEVEL, NUM_DRAWS, Bootstrap
from .grid import CELLS, PARTS
from .plots import draw_all
from .runs import Runs, read_runs
from .tables import by_language, claims, differences, figures, tuning, variants


DIFFERENCES = (
    "Paired by seed and clip: what a row has more than ML-CLAP of the same table, over the seeds that both have. p is "
    "two-sided, from the same bootstrap, and corrected for all comparisons of this table together (Holm); with five "
    "seeds or three, p rests on the clips more than on the seeds."
)
TUNING = (
    "On scenes held out of train (`--tune`; dev takes no part), 600 steps: T2A R@1 in percent / MRV, of one seed, or "
    "the mean of two where the choice lay between two rates. Objectives and their variants train at the rate in bold. "
    "Where two were as good in R@1 as seeds tell, it is ML-CLAP's of the lower MRV, which suits the baseline, and "
    "AKCL's of the higher one. The weight of equal rankings in bold was chosen between these two; 0 is without."
)


def report(results: Path, tuning_results: Path) -> None:
    """Write `consistency.md` and the plots beside the results file, and print the tables."""
    runs = read_runs(results)
    if "mlclap" not in runs:
        raise SystemExit(f"There are no runs of ML-CLAP in {results}: run the grid first.")
    bootstrap = Bootstrap(runs["mlclap"].recall.shape[1])
    sections = [_head(runs)]
    for part in PARTS:
        if names := [name for name, cell in CELLS.items() if part in cell.parts and name in runs]:
            sections += [f"## {part[0].upper()}{part[1:]}", figures(names, runs, bootstrap)]
    sections += ["## R@1 by language, equal steps", by_language(runs)]
    sections += ["## Differences to ML-CLAP", DIFFERENCES, differences(runs, bootstrap)]
    if table := variants(runs, bootstrap):
        sections += ["## Variants against what they vary", table]
    sections += ["## The order that the paper reports, and ours", claims(runs, bootstrap)]
    if tables := tuning(tuning_results):
        sections += ["## Settings", TUNING, *tables]
    text = "\n\n".join(sections) + "\n"
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    draw_all(runs, bootstrap, results.parent)


def _head(runs: dict[str, Runs]) -> str:
    one = runs["mlclap"].rows[0]
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
