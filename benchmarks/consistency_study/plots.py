"""Plots of `consistency.py --report`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from shared.objectives import TITLES

from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name

from .bootstrap import Bootstrap, Estimate
from .grid import BEYOND_PART, BUDGET_PART, STEPS_PART, WEIGHT_PART
from .runs import Runs


# Colours of Okabe and Ito, which people with colour blindness can tell apart, and grey for the baseline.
COLORS = {"mlclap": "#7f8c8d", "cacl": "#D55E00", "kcl": "#0072B2", "akcl": "#009E73"}


def draw_all(runs: dict[str, Runs], bootstrap: Bootstrap, folder: Path) -> None:
    """Write the plots of figures (consistency.png), single queries (_ranks.png) and variants (_beyond.png)."""
    main = {name: runs[name] for name in TITLES if name in runs}
    figure = Figure(figsize=(13, 9), layout="constrained")
    (recall, variance), (curves, prices) = figure.subplots(2, 2, width_ratios=(3, 2))
    draw_recall(recall, main, bootstrap)
    draw_variance(variance, runs, bootstrap)
    draw_curves(curves, main)
    draw_prices(prices, runs)
    figure.savefig(folder / "consistency.png", dpi=120)
    figure = Figure(figsize=(13, 6), layout="constrained")
    draw_ranks(figure, main)
    figure.savefig(folder / "consistency_ranks.png", dpi=120)
    figure = Figure(figsize=(13, 5), layout="constrained")
    weights, beyond = figure.subplots(1, 2, width_ratios=(2, 3))
    draw_weights(weights, runs, bootstrap)
    draw_beyond(beyond, runs, bootstrap)
    figure.savefig(folder / "consistency_beyond.png", dpi=120)


def error_bars(estimates: list[Estimate], scale: float = 1) -> np.ndarray:
    """Lengths of the error bars below and above the means, `(2, estimates)`."""
    return scale * np.array([[one.mean - one.low, one.high - one.mean] for one in estimates]).T


def draw_recall(axes: Axes, main: dict[str, Runs], bootstrap: Bootstrap) -> None:
    """R@1 by language with its interval."""
    width = 0.8 / len(main)
    for number, (name, found) in enumerate(main.items()):
        estimates = [bootstrap.estimate(found.hits[:, place]) for place in range(len(ATRI_LANGUAGES))]
        places = np.arange(len(estimates)) + number * width
        axes.bar(
            places,
            [100 * estimate.mean for estimate in estimates],
            width,
            yerr=error_bars(estimates, scale=100),
            label=TITLES[name],
            color=COLORS[name],
            ecolor="#444444",
        )
    ticks = np.arange(len(ATRI_LANGUAGES)) + 0.4 - width / 2
    axes.set_xticks(ticks, map(language_name, ATRI_LANGUAGES), rotation=20, ha="right")
    axes.set(ylabel="R@1, percent", title="Text to audio, by language, equal steps")
    axes.set_ylim(0, 1.18 * axes.get_ylim()[1])
    axes.legend(frameon=False, ncols=len(main), loc="upper right")


def draw_variance(axes: Axes, runs: dict[str, Runs], bootstrap: Bootstrap) -> None:
    """Mean rank variance at equal steps (filled bars) and at equal text budget (hatched bars)."""
    for number, name in enumerate(TITLES):
        ways = {0.0: name, 0.4: name if name == "cacl" else f"{name}-budget"}
        for shift, cell in ways.items():
            if cell not in runs:
                continue
            estimate = bootstrap.estimate(runs[cell].variance)
            axes.bar(
                number + shift,
                estimate.mean,
                0.38,
                yerr=error_bars([estimate]),
                color=COLORS[name] if shift == 0 else "white",
                edgecolor=COLORS[name],
                hatch=None if shift == 0 else "//",
                ecolor="#444444",
            )
            axes.text(number + shift, 1.25 * estimate.high, f"{estimate.mean:.1f}", ha="center", fontsize=8)
    axes.set_xticks(np.arange(len(TITLES)) + 0.2, TITLES.values())
    axes.set(yscale="log", title="Mean rank variance (lower is better)\nfull: equal steps, hatched: equal text budget")
    low, high = axes.get_ylim()
    axes.set_ylim(low, 2 * high)


def draw_curves(axes: Axes, main: Mapping[str, Runs]) -> None:
    """The share of captions whose rank variance is above a value."""
    for name, found in main.items():
        variances = np.sort(found.ranks.var(axis=1).ravel())
        shares = 1 - np.arange(len(variances)) / len(variances)
        axes.plot(np.maximum(variances, 1e-2), 100 * shares, label=TITLES[name], color=COLORS[name])
    axes.set(
        xscale="log",
        xlabel="rank variance over the languages (0 is drawn at 0.01)",
        ylabel="captions with more, percent",
        title="Rank variance of single captions, equal steps",
    )
    axes.legend(frameon=False)


def draw_prices(axes: Axes, runs: dict[str, Runs]) -> None:
    """Recall against time. The size of a dot is the memory."""
    for found in runs.values():
        cell = found.cell
        if cell.loss or not {STEPS_PART, BUDGET_PART} & {*cell.parts}:
            continue
        place = found.mean("cpu_seconds") / 60, 100 * found.recall.mean()
        axes.scatter(*place, s=found.mean("peak_memory_mb") / 10, color=COLORS[cell.objective], alpha=0.7)
        label = cell.title if cell.name in TITLES else cell.name
        offset = (
            (6, 3) if cell.objective == "akcl" else (6, -9)
        )  # AKCL and KCL with drawn languages lie close together
        axes.annotate(label, place, textcoords="offset points", xytext=offset, fontsize=7)
    axes.margins(x=0.25)
    axes.set(xlabel="CPU minutes of training", ylabel="T2A R@1, percent", title="Time, memory (size of dots), recall")


def draw_weights(axes: Axes, runs: dict[str, Runs], bootstrap: Bootstrap) -> None:
    """R@1 (left axis) and rank variance (right axis) by the weight of AKCL's audio-text terms; weight 1 is KCL."""
    found = {
        1.0 if one.cell.name == "kcl" else one.cell.options.get("akcl_weight", 0.5): one
        for one in runs.values()
        if WEIGHT_PART in one.cell.parts
    }
    right = axes.twinx()
    for side, values, factor, color in ((axes, "recall", 100, COLORS["akcl"]), (right, "variance", 1, COLORS["cacl"])):
        weights = sorted(found)
        estimates = [bootstrap.estimate(getattr(found[weight], values)) for weight in weights]
        means = [factor * one.mean for one in estimates]
        side.errorbar(weights, means, yerr=error_bars(estimates, factor), color=color, marker="o", capsize=3)
        side.tick_params(axis="y", colors=color)
    axes.set_ylabel("T2A R@1, percent", color=COLORS["akcl"])
    right.set_ylabel("mean rank variance", color=COLORS["cacl"])
    right.set_yscale("log")
    axes.set(
        xlabel="weight of the audio-text terms (1: KCL, at its own rate)",
        title="AKCL by its weight",
        xlim=(-0.05, 1.05),
    )


def draw_beyond(axes: Axes, runs: dict[str, Runs], bootstrap: Bootstrap) -> None:
    """Recall against rank variance of the cells that go beyond the paper."""
    shown = [one for one in runs.values() if BEYOND_PART in one.cell.parts]
    for one in shown:
        recall, variance = bootstrap.estimate(one.recall), bootstrap.estimate(one.variance)
        is_objective = one.cell.name in TITLES
        axes.errorbar(
            100 * recall.mean,
            variance.mean,
            xerr=error_bars([recall], scale=100),
            yerr=error_bars([variance]),
            marker="s" if is_objective else "o",
            color=COLORS[one.cell.name] if is_objective else None,
            label=one.cell.title,
            elinewidth=0.6,
        )
    axes.set(
        yscale="log",
        xlabel="T2A R@1, percent",
        ylabel="mean rank variance",
        title="Beyond the paper, equal steps: right and down is better",
    )
    if shown:
        axes.legend(frameon=False, fontsize=8, loc="upper right")


def draw_ranks(figure: Figure, main: dict[str, Runs]) -> None:
    """The rank of every caption's clip in every language with seed 0, with the captions ordered by their mean rank."""
    panels = figure.subplots(1, len(main), sharey=True, squeeze=False)[0]
    for axes, (name, found) in zip(panels, main.items(), strict=True):
        ranks = found.ranks[0]  # (languages, captions)
        order = ranks.mean(axis=0).argsort(kind="stable")
        image = axes.imshow(
            ranks[:, order].T, aspect="auto", norm=LogNorm(1, 190), cmap="viridis_r", interpolation="nearest"
        )
        axes.set_xticks(range(len(ATRI_LANGUAGES)), [code[:3] for code in ATRI_LANGUAGES], rotation=90)
        axes.set_title(TITLES[name])
    panels[0].set_ylabel("captions, by their mean rank")
    figure.colorbar(image, ax=list(panels), label="rank of the right clip among 190")
