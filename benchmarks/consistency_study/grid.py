"""The grid of runs of `consistency.py`: the objective, the number of steps and the starting point of each."""

from dataclasses import dataclass
from typing import Any

from shared.objectives import TITLES

from modeling_atri.trainer.objectives import find_objective


NUM_LANGUAGES = 8
STEPS = 600
STEPS_OF_A_CONTINUED_RUN = 200
CAPTIONS_A_CLIP = 2 * STEPS  # the text budget: the captions of a clip that CACL encodes in `STEPS` steps
MANY_SEEDS, FEW_SEEDS = 5, 3

# Learning rates that `consistency.py --tune` compares for each objective, on a fold held out of train. They were
# doubled and halved until R@1 fell on both sides. Each rate has one seed, and close rates have a second one.
RATES = {
    "mlclap": (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3),
    "cacl": (1e-3, 2e-3, 4e-3),
    "kcl": (5e-4, 1e-3, 2e-3, 4e-3),
    "akcl": (1e-3, 2e-3, 4e-3, 8e-3),
}
CLOSE_RATES = {"mlclap": (5e-4, 1e-3), "cacl": (1e-3, 2e-3), "kcl": (5e-4, 1e-3), "akcl": (2e-3, 4e-3)}
# The rates of the highest R@1. ML-CLAP's 5e-4 was one point ahead of 1e-3, which is less than seeds differ by, and its
# MRV was 1.8 times as high. AKCL's 4e-3 was as good as 2e-3.
LEARNING_RATES = {"mlclap": 1e-3, "cacl": 2e-3, "kcl": 1e-3, "akcl": 2e-3}
RANKING_WEIGHTS, RANKING_WEIGHT = (1.0, 3.0), 1.0  # compared in the same way with one seed; the one that was chosen
LEARNING_RATE_OF_A_CONTINUED_RUN = 2e-4  # the same for all, as in the paper

STEPS_PART, BUDGET_PART, WEIGHT_PART = "equal steps", "equal text budget", "terms of AKCL"
CONTINUED_PART, BEYOND_PART, ENCODER_PART = "continued from ML-CLAP", "beyond", "another text encoder"
PARTS = (STEPS_PART, BUDGET_PART, WEIGHT_PART, CONTINUED_PART, BEYOND_PART, ENCODER_PART)


@dataclass(frozen=True)
class Cell:
    """One row of the tables, run once for each seed.

    Args:
        name: name of the cell, used in the results file and the work folder.
        title: name of the row in the tables.
        objective: `mlclap`, `cacl`, `kcl` or `akcl`.
        steps: number of training steps.
        parts: names of the tables that show the cell.
        captions_a_step: captions of each clip that a step encodes.
        options: further training arguments.
        loss: name of a loss of `losses.py` that replaces the objective's own on the objective's batches.
        text_encoder: model type of another text tower; by default SONAR's.
        begins_with: name of the cell whose model, of the same seed, the run continues; by default from scratch.
        variant_of: name of the cell that it is compared with, beside ML-CLAP.
        num_seeds: number of seeds; the seeds are 0, 1, ...
    """

    name: str
    title: str
    objective: str
    steps: int
    parts: tuple[str, ...]
    captions_a_step: int
    options: dict[str, Any]
    loss: str | None = None
    text_encoder: str | None = None
    begins_with: str | None = None
    variant_of: str | None = None
    num_seeds: int = FEW_SEEDS


_OWN_FIELDS = ("loss", "text_encoder", "begins_with", "variant_of", "num_seeds")


def _cell(
    name: str,
    title: str,
    objective: str,
    *parts: str,
    steps: int | None = STEPS,
    rate_of: str | None = None,
    **more: Any,
) -> Cell:
    """Make a cell.

    Args:
        name, title, objective, parts: fields of the cell.
        steps: training steps; None stands for as many as the text budget allows.
        rate_of: the objective whose learning rate is used; by default its own.
        more: other fields of the cell; what is no field is a training argument.
    """
    fields = {key: more.pop(key) for key in _OWN_FIELDS if key in more}
    options = {"learning_rate": LEARNING_RATES[rate_of or objective]} | more
    captions = find_objective(objective).num_drawn(NUM_LANGUAGES, options.get("languages_per_step"))
    return Cell(name, title, objective, steps or CAPTIONS_A_CLIP // captions, parts, captions, options, **fields)


_BOTH = (STEPS_PART, BUDGET_PART)
_MAIN = [
    _cell("mlclap", "ML-CLAP", "mlclap", STEPS_PART, num_seeds=MANY_SEEDS),
    _cell("cacl", "CACL", "cacl", *_BOTH, BEYOND_PART, num_seeds=MANY_SEEDS),
    _cell("kcl", "KCL", "kcl", STEPS_PART, WEIGHT_PART, BEYOND_PART, num_seeds=MANY_SEEDS),
    _cell("akcl", "AKCL", "akcl", STEPS_PART, WEIGHT_PART, BEYOND_PART, num_seeds=MANY_SEEDS),
]
_BUDGET = [
    _cell(f"{name}-budget", TITLES[name], name, BUDGET_PART, steps=None, num_seeds=MANY_SEEDS)
    for name in ("mlclap", "kcl", "akcl")
]
_SAMPLED_LANGUAGES = [
    _cell("kcl-1", "KCL, 1 of 8 languages a step", "kcl", STEPS_PART, languages_per_step=1),
    _cell("kcl-2", "KCL, 2 of 8 languages a step", "kcl", *_BOTH, languages_per_step=2),
    _cell("kcl-4", "KCL, 4 of 8 languages a step", "kcl", STEPS_PART, languages_per_step=4),
    _cell("kcl-1-budget", "KCL, 1 of 8", "kcl", BUDGET_PART, steps=None, languages_per_step=1),
    _cell("kcl-4-budget", "KCL, 4 of 8", "kcl", BUDGET_PART, steps=None, languages_per_step=4),
    _cell("akcl-2", "AKCL, 2 of 8 languages a step", "akcl", *_BOTH, languages_per_step=2, num_seeds=MANY_SEEDS),
    _cell("akcl-4", "AKCL, 4 of 8 languages a step", "akcl", STEPS_PART, languages_per_step=4),
    _cell("akcl-4-budget", "AKCL, 4 of 8", "akcl", BUDGET_PART, steps=None, languages_per_step=4),
]
_WEIGHTS = [
    _cell(f"akcl-w{weight}", f"AKCL, w = {weight}", "akcl", WEIGHT_PART, akcl_weight=weight, variant_of="akcl")
    for weight in (0.0, 0.25, 0.75)
]
_CONTINUED = [
    _cell(
        f"{name}-{ending}",
        title + title_ending,
        name,
        CONTINUED_PART,
        steps=STEPS_OF_A_CONTINUED_RUN,
        begins_with="mlclap-budget",
        **{"learning_rate": LEARNING_RATE_OF_A_CONTINUED_RUN} | options,
    )
    for ending, title_ending, options in (
        ("continued", "", {}),
        ("frozen-text", ", text tower frozen", {"freeze_text": True}),
    )
    for name, title in TITLES.items()
]
_RANKINGS = [
    _cell(
        f"{name}-rankings",
        f"{TITLES[name]} and equal rankings",
        name,
        BEYOND_PART,
        ranking_weight=RANKING_WEIGHT,
        variant_of=name,
    )
    for name in ("kcl", "akcl")
]
_ANCHOR = [
    _cell("akcl-jpn", "AKCL, anchor Japanese", "akcl", BEYOND_PART, anchor_language="jpn_Jpan", variant_of="akcl"),
]
# Of each: the objective of its batches, the one of its learning rate, its loss, and what it is a variant of.
_OTHER_LOSSES = [
    _cell(name, title, objective, BEYOND_PART, rate_of=rate_of, loss=loss, variant_of=variant_of)
    for name, title, objective, rate_of, loss, variant_of in (
        ("akcl-rotating", "AKCL, another anchor every step", "kcl", "akcl", "rotating_anchor", "akcl"),
        ("kcl-all-pairs", "AKCL, every language an anchor", "kcl", "akcl", "all_pairs", "akcl"),
        ("kcl-weighted", "KCL, Japanese and Chinese twice", "kcl", "kcl", "weighted_languages", "kcl"),
        ("cacl-8", "CACL, all languages a step", "akcl", "cacl", "anchored_thirds", "akcl"),
    )
]
_CACL = {"rate_of": "cacl", "loss": "anchored_thirds", "variant_of": "cacl"}
_OTHER_DRAWS = [
    _cell("cacl-4-budget", "CACL, 4 of 8", "akcl", BUDGET_PART, steps=None, languages_per_step=4, **_CACL),
    _cell(
        "cacl-by-batch",
        "CACL, the other language drawn for a batch",
        "akcl",
        *_BOTH,
        languages_per_step=2,
        **_CACL,
    ),
    _cell(
        "akcl-2-by-clip",
        "AKCL, 2 of 8, drawn for a clip",
        "cacl",
        *_BOTH,
        rate_of="akcl",
        loss="akcl_of_drawn_clips",
        variant_of="akcl-2",
    ),
]
_ENCODERS = [
    _cell(f"{name}-bert", f"{title}, BERT", name, ENCODER_PART, text_encoder="bert") for name, title in TITLES.items()
]
_TUNING = [
    _cell(
        f"{name}-{rate:g}",
        TITLES[name],
        name,
        STEPS_PART,
        learning_rate=rate,
        num_seeds=2 if rate in CLOSE_RATES[name] else 1,
    )
    for name, rates in RATES.items()
    for rate in rates
]
_TUNING += [
    _cell(f"{name}-rankings-{weight:g}", TITLES[name], name, STEPS_PART, ranking_weight=weight, num_seeds=1)
    for name in ("kcl", "akcl")
    for weight in RANKING_WEIGHTS
]

_ALL = [
    *_MAIN,
    *_BUDGET,
    *_SAMPLED_LANGUAGES,
    *_WEIGHTS,
    *_CONTINUED,
    *_RANKINGS,
    *_ANCHOR,
    *_OTHER_LOSSES,
    *_OTHER_DRAWS,
    *_ENCODERS,
]
CELLS = {cell.name: cell for cell in _ALL}
TUNING_CELLS = {cell.name: cell for cell in _TUNING}
