"""Plots of a run."""

from pathlib import Path

from matplotlib.figure import Figure

from modeling_atri.hub_cards.results import Results
from modeling_atri.languages_atri import language_name


def plot_run(results: Results, log_history: list[dict], path: Path) -> None:
    """Plot recall by language beside the loss curve.

    Args:
        results ([`~modeling_atri.hub_cards.results.Results`]): Results with figures.
        log_history (list of `dict`): Log of the trainer's state.
        path (`Path`): PNG file to write.
    """
    metrics, languages = results["metrics"], results["evaluated_on"]["languages"]
    figure = Figure(figsize=(11, 4), layout="constrained")
    recall, loss = figure.subplots(1, 2, width_ratios=(3, 2))
    places = range(len(languages))
    for shift, (name, color) in enumerate((("R@10", "#9ecae1"), ("R@5", "#4292c6"), ("R@1", "#08519c"))):
        heights = [100 * metrics[f"{code}_text_to_audio_{name}"] for code in languages]
        recall.bar(places, heights, width=0.8 - 0.15 * shift, color=color, label=name)
    recall.set_xticks(places, [language_name(code) for code in languages], rotation=30, ha="right")
    recall.set(
        ylim=(0, 115),
        yticks=range(0, 101, 20),
        ylabel="percent of captions",
        title="Text to audio: captions whose sound is in the top 1, 5, 10",
    )
    recall.legend(ncols=3, frameon=False, loc="upper right")
    curve = [(entry["step"], entry["loss"]) for entry in log_history if "loss" in entry]
    if curve:
        loss.plot(*zip(*curve, strict=True), color="#08519c")
    training = results.get("training", {})
    loss.set(xlabel="step", ylabel="loss", title=f"Training with {training.get('objective', '')}")
    figure.savefig(path, dpi=120)
