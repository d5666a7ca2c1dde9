"""Plots of `atri diagnose`."""

from math import log10
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from modeling_atri.languages_atri import language_name
from modeling_atri.trainer.objectives import OBJECTIVES, find_objective


# Colour and marker of each objective, in the order of the table of objectives.
_STYLES = (("#08519c", "^"), ("#238b45", "x"), ("#6a51a3", "s"), ("#d94801", "o"), ("#525252", "d"), ("#ce1256", "v"))


def plot_draws(results: dict[str, Any], path: Path) -> None:
    """Plot the error of each epoch (dashed) and of all epochs so far, over languages and over pairs.

    Args:
        results: Results of `diagnose_draws`.
        path: The PNG file.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"languages": "over languages", "pairs": "over language and caption"}
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        for objective, epochs in results["distribution_error"].items():
            numbers = [epoch["epoch"] for epoch in epochs]
            color, marker = _style(objective)
            style = {"color": color, "marker": marker, "markersize": 5, "label": find_objective(objective).title}
            panel.plot(numbers, [epoch[f"{name}_so_far"] for epoch in epochs], **style)
            panel.plot(numbers, [epoch[name] for epoch in epochs], color=color, linestyle="--", alpha=0.6)
        panel.set(xlabel="epoch", title=title, ylim=(-0.06, 2.06))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("data distribution error")
    panels[1].plot([], [], color="gray", linestyle="--", label="the epoch alone")
    panels[1].plot([], [], color="gray", label="all epochs so far")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=120)


def plot_alignment(results: dict[str, Any], path: Path) -> None:
    """Plot the angles of clips, languages and objectives to the mean text direction.

    Args:
        results: Results of `diagnose_model`.
        path: The PNG file.
    """
    alignment = results["alignment"]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    angles, pulls = figure.subplots(1, 2, width_ratios=(3, 1))
    bars = {"clips": alignment["audio"], **{language_name(code): one for code, one in alignment["text"].items()}}
    means = [one["mean"] for one in bars.values()]
    whiskers = [
        [max(one["mean"] - one["q05"], 0) for one in bars.values()],
        [max(one["q95"] - one["mean"], 0) for one in bars.values()],
    ]
    colors = ["#d94801", *["#4292c6"] * len(alignment["text"])]
    drawn = angles.bar(range(len(bars)), means, yerr=whiskers, color=colors, ecolor="#555555", capsize=3)
    _write_values(angles, drawn)
    angles.set_xticks(range(len(bars)), list(bars), rotation=30, ha="right")
    angles.set(ylabel="degrees", title="Angle to the mean text direction (mean, 5 to 95 %)")
    names = list(alignment["pulls"])
    drawn = pulls.bar(range(len(names)), list(alignment["pulls"].values()), color=[_style(name)[0] for name in names])
    _write_values(pulls, drawn)
    pulls.set_xticks(range(len(names)), [find_objective(name).title for name in names])
    pulls.set(ylabel="degrees", title="What a step pulls clips to")
    figure.savefig(path, dpi=120)


def plot_twins(results: dict[str, Any], path: Path) -> None:
    """Plot the distance between the twins' weights by part, and its upper bound on a logarithmic scale.

    Args:
        results: Results of `diagnose_twins`.
        path: The PNG file.
    """
    figures = results["weight_error"]
    steps = figures["steps"]
    numbers = [step["step"] for step in steps]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    distances, bound = figure.subplots(1, 2)
    lines = {"total": "#08519c", "audio": "#d94801", "text": "#238b45", "heads": "#6a51a3"}
    for name, color in lines.items():
        width = 2 if name == "total" else 1
        distances.plot(numbers, [step[name] for step in steps], color=color, linewidth=width, label=name)
    distances.plot(
        numbers, [step["travelled"] for step in steps], color="gray", linestyle=":", label="full twin from the start"
    )
    full, sampled = (find_objective(figures["objectives"][twin]).title for twin in ("full", "sampled"))
    title = f"Distance between the weights of\n{full} in all languages and {sampled} in drawn ones"
    distances.set(xlabel="step", ylabel="distance of weights", title=title)
    distances.legend(frameon=False)
    # Distances and bounds of 0 have no logarithm.
    bounds = {step["step"]: step["log10_bound"] for step in steps if step["log10_bound"] is not None}
    measured = {step["step"]: log10(step["total"]) for step in steps if step["total"] > 0}
    if bounds:
        bound.plot(*zip(*bounds.items(), strict=True), "--", color="gray", label="upper bound (estimated constants)")
        bound.plot(list(measured), list(measured.values()), color="#08519c", linewidth=2, label="measured")
        bound.legend(frameon=False)
    bound.set(xlabel="step", ylabel="log10 of the distance", title="Weight error and its bound")
    for panel in (distances, bound):
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _style(objective: str) -> tuple[str, str]:
    """Colour and marker of an objective."""
    return _STYLES[list(OBJECTIVES).index(objective) % len(_STYLES)]


def _write_values(panel: Axes, bars: BarContainer) -> None:
    """Write the values above the bars, because a bar of 0 would look as if it were missing."""
    panel.bar_label(bars, fmt="%.1f", padding=2)
    panel.margins(y=0.1)
