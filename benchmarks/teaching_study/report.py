"""The tables of `teaching.py`, and whether the bars are reached."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

from modeling_atri.hub_cards.tables import text_table
from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name

from .cells import ENGLISH, JOINT_AKCL, JOINT_MLCLAP, SEEDS, TEXTS, TITLES


RECALL = "mean_text_to_audio_R@1"
ENGLISH_RECALL = "eng_Latn_text_to_audio_R@1"
# Limits of three quotients, set before the runs: the mean R@1 of the eight languages divided by the teacher's English
# R@1; the MRV divided by that of ML-CLAP on all languages at once; and, with a frozen text encoder, the CPU time
# divided by that of ML-CLAP.
RECALL_BAR, MRV_BAR, TIME_BAR = 0.97, 1 / 3, 1 / 5

Result = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """A figure of a taught run, divided by the same or another figure of a reference.

    Args:
        title: what is divided by what.
        figure, of_reference: the two figures of a result.
        reference: the way of the reference.
        limit: the bar.
        is_floor: whether the quotient has to be at least the limit, or at most.
    """

    title: str
    figure: Callable[[Result], float]
    of_reference: Callable[[Result], float]
    reference: str
    limit: float
    is_floor: bool

    def reached(self, value: float) -> bool:
        """Whether a quotient reaches the bar."""
        return value >= self.limit if self.is_floor else value <= self.limit


def _metric(name: str) -> Callable[[Result], float]:
    return lambda result: result["metrics"][name]


def _seconds(result: Result) -> float:
    return result["cpu_seconds"]


_BARS = (
    Bar("R@1 / the teacher's English R@1", _metric(RECALL), _metric(ENGLISH_RECALL), ENGLISH, RECALL_BAR, True),
    Bar("MRV / joint ML-CLAP's", _metric("mrv"), _metric("mrv"), JOINT_MLCLAP, MRV_BAR, False),
)
_TIME = Bar("CPU time / joint ML-CLAP's", _seconds, _seconds, JOINT_MLCLAP, TIME_BAR, False)


def report(results: list[Result], grid: list[Result]) -> str:
    """All tables, in Markdown.

    Args:
        results: the runs of `teaching.py`.
        grid: the runs of `consistency.py`, which include the references with a text tower from scratch: the same
            model on the same data with the same settings, seeds and number of steps.
    """
    results = [*results, *_references(grid)]
    parts = [
        "Made by `python benchmarks/teaching.py --data $ATRI_SCENES` on dev of the ESC-10 scenes: 190 scenes of "
        "recordings that no run has heard. R@1 and R@10 are of text to audio, in percent, as the mean over the eight "
        "languages unless a language is named. Each figure is the mean over the seeds, with the seeds in brackets. "
        "CPU seconds are those of `AtriTrainer.train` on one thread of a machine that others used at the same time.",
        "The fingerprint of the audio side of every taught model is that of its teacher: "
        f"{'yes' if all(one.get('keeps_audio_side') is not False for one in results) else '**no**'}.",
    ]
    for text, title in TEXTS.items():
        runs = {way: _runs(results, text, way) for way in TITLES}
        runs = {way: of_way for way, of_way in runs.items() if of_way}
        if runs:
            parts += [f"## {title[0].upper()}{title[1:]}", _figures(runs)]
            if bars := _bars(runs, text):
                parts += ["Each bar, and the quotient that it is about:", bars]
            parts += ["R@1 of each language:", _languages(runs)]
            if (note := _states_note(results, text)) is not None:
                parts.append(note)
    return "\n\n".join(parts) + "\n"


def _references(grid: list[Result]) -> list[Result]:
    cells = {"mlclap": f"scratch-{JOINT_MLCLAP}", "akcl": f"scratch-{JOINT_AKCL}"}
    return [run | {"cell": cells[run["cell"]]} for run in grid if run["cell"] in cells and run["seed"] in SEEDS]


def _runs(results: list[Result], text: str, way: str) -> dict[int, Result]:
    """The runs of a way, by seed."""
    return {one["seed"]: one for one in results if one["cell"] == f"{text}-{way}"}


def _figures(runs: dict[str, dict[int, Result]]) -> str:
    columns: dict[str, tuple[Callable[[Result], float], str]] = {
        "English R@1": (lambda one: 100 * one["metrics"][ENGLISH_RECALL], ".1f"),
        "R@1": (lambda one: 100 * one["metrics"][RECALL], ".1f"),
        "R@10": (lambda one: 100 * one["metrics"]["mean_text_to_audio_R@10"], ".1f"),
        "MRV": (_metric("mrv"), ".1f"),
        "CPU s": (_seconds, ".0f"),
    }
    rows = [
        [TITLES[way], *(_with_seeds(map(figure, of_way.values()), form) for figure, form in columns.values())]
        for way, of_way in runs.items()
    ]
    return text_table(["run", *columns], rows, markdown=True)


def _bars(runs: dict[str, dict[int, Result]], text: str) -> str | None:
    """For each bar, the quotient of the means over the seeds, and the quotients of the single seeds."""
    bars = [*_BARS, _TIME] if text == "use" else [*_BARS]
    bars = [bar for bar in bars if bar.reference in runs]
    rows = [
        [TITLES[way], *(_quotient(bar, of_way, runs[bar.reference]) for bar in bars)]
        for way, of_way in runs.items()
        if way.startswith("teach")
    ]
    if not rows or not bars:
        return None
    sign = {True: ">=", False: "<="}
    return text_table(
        ["run", *(f"{bar.title} ({sign[bar.is_floor]} {bar.limit:.2f})" for bar in bars)], rows, markdown=True
    )


def _quotient(bar: Bar, runs: dict[int, Result], references: dict[int, Result]) -> str:
    seeds = [seed for seed in runs if seed in references]
    if not seeds:
        return ""
    pairs = [(bar.figure(runs[seed]), bar.of_reference(references[seed])) for seed in seeds]
    of_means = mean(above for above, _ in pairs) / mean(below for _, below in pairs)
    of_seeds = ", ".join(f"{above / below:.2f}" for above, below in pairs)
    return f"{of_means:.2f} [{of_seeds}]: {'reached' if bar.reached(of_means) else 'missed'}"


def _languages(runs: dict[str, dict[int, Result]]) -> str:
    rows = [
        [
            TITLES[way],
            *(
                f"{100 * mean(one['metrics'][f'{code}_text_to_audio_R@1'] for one in of_way.values()):.1f}"
                for code in ATRI_LANGUAGES
            ),
        ]
        for way, of_way in runs.items()
    ]
    return text_table(["run", *map(language_name, ATRI_LANGUAGES)], rows, markdown=True)


def _states_note(results: list[Result], text: str) -> str | None:
    states = [one.get("cpu_seconds_of_text_states") for one in results if one["cell"].startswith(f"{text}-")]
    if all(seconds is None for seconds in states):
        return None
    return (
        "The states of all training captions are computed once for all runs. No row of the tables includes that time."
    )


def _with_seeds(values: Any, form: str) -> str:
    values = list(values)
    return f"{mean(values):{form}} [{', '.join(f'{value:{form}}' for value in values)}]"
