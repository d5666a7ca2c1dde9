"""Tables that the reports of several studies have."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from consistency_study.bootstrap import LEVEL, NUM_DRAWS, Bootstrap, Estimate, holm
from consistency_study.runs import Runs

from modeling_atri.hub_cards.tables import text_table

from .cells import Cell


Figure = Callable[[Runs], np.ndarray]  # (seeds, clips), whose mean is the figure


def head(title: str, command: str, cells: Sequence[Cell], runs: Mapping[str, Runs]) -> str:
    """The heading of a report: how it was made, and which runs are missing.

    Args:
        title: what the study asks.
        command: name of the study.
        cells: the runs that were planned.
        runs: the runs that are there.
    """
    planned = sum(cell.num_seeds for cell in cells)
    missing = {cell.name: cell.num_seeds - (len(runs[cell.name].seeds) if cell.name in runs else 0) for cell in cells}
    words = [f"{name} ({count} of its seeds)" for name, count in missing.items() if count]
    versions = next(iter(runs.values())).rows[0]["environment"]["versions"]
    return (
        f"# {title}\n\nMade by `python benchmarks/evidence.py {command} --data $ATRI_SCENES` and `--report` on dev of "
        "the ESC-10 scenes, 190 scenes of recordings that no run has heard. "
        f"{planned - sum(missing.values())} of {planned} planned runs are done (torch {versions['torch']}, "
        f"transformers {versions['transformers']}). {'Missing: ' + ', '.join(words) + '. ' if words else ''}Recall is "
        "of text to audio, in percent, as the mean over the eight languages unless languages are named. Brackets have "
        f"{LEVEL:.0%} intervals of {NUM_DRAWS:,} bootstrap draws over seeds and clips."
    )


def differences(
    pairs: Sequence[tuple[str, Runs, Runs]], figures: Mapping[str, tuple[Figure, float]], bootstrap: Bootstrap
) -> str:
    """What the first runs of each pair have more than the second, paired by seed and clip.

    Args:
        pairs: title of a row and its two runs, which have seeds in common.
        figures: title of a column, its figure, and the factor of its unit.
        bootstrap: the draws.

    Returns:
        A table in Markdown, with p-values that are corrected for all comparisons of the table together.
    """
    rows: list[list[Estimate]] = []
    for _, first, second in pairs:
        seeds = [seed for seed in first.seeds if seed in second.seeds]
        values = [[one.on_seeds(seeds, figure(one)) for one in (first, second)] for figure, _ in figures.values()]
        rows.append([bootstrap.estimate(ours - theirs) for ours, theirs in values])
    adjusted = iter(holm([estimate.p_value for row in rows for estimate in row]))
    header = ["", "seeds"] + [word for title in figures for word in (title, "p")]
    lines = []
    for (title, first, second), row in zip(pairs, rows, strict=True):
        line = [title, len({*first.seeds} & {*second.seeds})]
        for estimate, (_, factor) in zip(row, figures.values(), strict=True):
            p_value = next(adjusted)
            line += [estimate.text(factor), "< 0.01" if p_value < 0.01 else f"{p_value:.2f}"]
        lines.append(line)
    return text_table(header, lines, markdown=True)
