"""Plot memory and time of the training step by languages and by clips, for `bench_training_step.py --plot`.

The figures go to `results/training_step.json`, the plot to `results/training_step.png`.
"""

import json
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from shared.measuring import medians, seconds_in_turns

from .step import TrainingStep


RESULTS = Path(__file__).resolve().parents[1] / "results"
LANGUAGE_COUNTS = (1, 2, 4, 8)
CHUNKS_A_BATCH = 4
PAPERS_FACTOR = 2.8  # GPU memory of KCL with 8 languages over that of ML-CLAP, in the paper
AT_ONCE, BY_LANGUAGE, CHUNKS, BASELINE, PAPERS_LINE = "at_once", "by_language", "in_chunks", "mlclap", "paper"
COLORS = {AT_ONCE: "#c0392b", BY_LANGUAGE: "#2471a3", CHUNKS: "#1e8449", BASELINE: "#aab4b6"}
QUANTITIES = {"saved_megabytes": "activations kept for backward (MB)", "seconds": "CPU time of a step (s)"}

Curves = dict[str, Any]  # "x", and for each quantity a list of figures for each way


def plot(sizes: dict[str, int], chunk_size: int, largest: int, rounds: int) -> None:
    """Measure both curves, and write the figures and the plot.

    The curve over languages uses batches of four chunks; the other doubles batches from one chunk to `largest` clips.
    """
    batches = [chunk_size * 2**power for power in range(12) if chunk_size * 2**power <= largest]
    num_clips = CHUNKS_A_BATCH * chunk_size
    report = {
        **{"chunk_size": chunk_size, "clips": num_clips, **sizes, "rounds": rounds},
        "languages": curves({count: (count, num_clips) for count in LANGUAGE_COUNTS}, chunk_size, sizes, rounds),
        "batches": curves({size: (LANGUAGE_COUNTS[-1], size) for size in batches}, chunk_size, sizes, rounds),
        **{"threads": 1, "torch": torch.__version__},
    }
    (RESULTS / "training_step.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw(report)


def curves(places: dict[int, tuple[int, int]], chunk_size: int, sizes: dict[str, int], rounds: int) -> Curves:
    """Measure megabytes and seconds of each way at each place, which is a number of languages and of clips."""
    found: Curves = {"x": list(places), **{quantity: {way: [] for way in COLORS} for quantity in QUANTITIES}}
    chunks = {"audio_chunk_size": chunk_size, "text_chunk_size": chunk_size}
    for num_languages, num_clips in places.values():
        steps = {
            AT_ONCE: TrainingStep("kcl", num_languages, num_clips, exact_step=False, **sizes),
            BY_LANGUAGE: TrainingStep("kcl", num_languages, num_clips, **sizes),
            CHUNKS: TrainingStep("kcl", num_languages, num_clips, **chunks, **sizes),
            BASELINE: TrainingStep("mlclap", 1, num_clips, **sizes),
        }
        for way, seconds in medians(seconds_in_turns(steps, rounds)).items():
            found["seconds"][way].append(seconds)
            found["saved_megabytes"][way].append(round(steps[way].peak_saved_megabytes(), 3))
    return found


def draw(report: dict[str, Any]) -> None:
    """Draw the figures of `plot`."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col")
    titles = {"languages": f"KCL of {report['clips']} clips", "batches": f"KCL in {LANGUAGE_COUNTS[-1]} languages"}
    names = {
        AT_ONCE: "all at once",
        BY_LANGUAGE: "language by language",
        CHUNKS: f"the same in chunks of {report['chunk_size']}",
        BASELINE: "ML-CLAP, one caption a clip",
    }
    papers_name = {PAPERS_LINE: f"the paper's KCL: {PAPERS_FACTOR} x ML-CLAP"}
    for column, (curve, title) in enumerate(titles.items()):
        x, figures = report[curve]["x"], report[curve]
        for panel, (quantity, label) in zip(panels[:, column], QUANTITIES.items(), strict=True):
            _draw_panel(panel, x, figures[quantity], names | (papers_name if quantity == "saved_megabytes" else {}))
            panel.set_ylabel(label)
        panels[0, column].set_title(title, loc="left", fontsize=11)
    panels[1, 0].set_xlabel("languages, K")
    panels[1, 1].set_xlabel("clips of a batch, N")
    figure.savefig(RESULTS / "training_step.png", dpi=150)


def _draw_panel(panel: Axes, x: list[int], values: dict[str, list[float]], labels: dict[str, str]) -> None:
    """Draw the lines with their names at the right end. `PAPERS_LINE` is drawn if `labels` has a name for it."""
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    # Drawn first and wider, because the line of language by language covers it.
    panel.plot(x, values[BASELINE], color=COLORS[BASELINE], linewidth=5, solid_capstyle="round")
    for way in (AT_ONCE, BY_LANGUAGE, CHUNKS):
        panel.plot(x, values[way], color=COLORS[way], marker="o", markersize=4, linewidth=1.8)
    ends = {labels[way]: (y[-1], COLORS[way]) for way, y in values.items()}
    if PAPERS_LINE in labels:
        papers = [PAPERS_FACTOR * value for value in values[BASELINE]]
        panel.plot(x, papers, color="black", linestyle=(0, (4, 3)), linewidth=1.2)
        ends[labels[PAPERS_LINE]] = (papers[-1], "black")
    low, high = panel.get_ylim()
    panel.set_ylim(low, high * (high / low) ** 0.06)
    panel.set_xlim(x[0] / 1.08, x[-1] * (x[-1] / x[0]) ** 0.5)  # room for the names
    _name_ends(panel, x[-1], ends)
    panel.set_xticks(x, [str(value) for value in x])
    panel.minorticks_off()
    low, high = panel.get_ylim()
    ticks = [step * 10.0**power for power in range(-3, 5) for step in (1, 2, 5)]
    panel.set_yticks([tick for tick in ticks if low <= tick <= high])
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.grid(axis="y", color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _name_ends(panel: Axes, x: float, ends: dict[str, tuple[float, str]]) -> None:
    """Write a name beside the end of every line, moved up where lines end near each other."""
    low, high = panel.get_ylim()
    line_height, lowest = (high / low) ** 0.055, 0.0
    for name, (value, color) in sorted(ends.items(), key=lambda end: end[1][0]):
        place = max(value, lowest)
        panel.annotate(name, (x, place), (9, 0), textcoords="offset points", color=color, va="center", fontsize=9)
        lowest = place * line_height
