"""The runs of `consistency.py`: which objective, how many steps, from where."""

from dataclasses import dataclass, field
from typing import Any


NUM_LANGUAGES = 8
STEPS = 600
STEPS_OF_A_CONTINUED_RUN = 200
CAPTIONS_A_CLIP = 2 * STEPS  # the text budget: what CACL encodes in `STEPS` steps
MANY_SEEDS, FEW_SEEDS = 5, 3

# Learning rates that `consistency.py --tune` compares for each objective, on a fold held out of train: doubled and
# halved until R@1 falls on both sides. One seed each, and a second of two that are close.
RATES = {
    "mlclap": (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3),
    "cacl": (1e-3, 2e-3, 4e-3),
    "kcl": (5e-4, 1e-3, 2e-3, 4e-3),
    "akcl": (1e-3, 2e-3, 4e-3, 8e-3),
}
CLOSE_RATES = {"mlclap": (5e-4, 1e-3), "cacl": (1e-3, 2e-3), "kcl": (5e-4, 1e-3), "akcl": (2e-3, 4e-3)}
# Of the highest R@1 there. ML-CLAP's 5e-4 had a point more than 1e-3, less than seeds differ by, at 1.8 times the MRV;
# AKCL's 4e-3 was as good as 2e-3.
LEARNING_RATES = {"mlclap": 1e-3, "cacl": 2e-3, "kcl": 1e-3, "akcl": 2e-3}
RANKING_WEIGHTS, RANKING_WEIGHT = (1.0, 3.0), 1.0  # compared likewise with one seed; the one chosen
LEARNING_RATE_OF_A_CONTINUED_RUN = 2e-4  # the same for all, as in the paper


@dataclass(frozen=True)
class Cell:
    """One row of the tables, run once for each seed.

    Args:
        name: of its files.
        title: what the tables call it.
        objective: `mlclap`, `cacl`, `kcl` or `akcl`.
        steps: of training.
        parts: names of the tables that it stands in.
        captions_a_step: captions that a clip brings into a step.
        options: further training arguments.
        loss: name of a loss of `consistency_losses.py` in place of the objective's own, on the objective's batches.
        text_encoder: name of another kind of text tower.
        begins_with: name of a cell whose model, of the same seed, is trained on; by default from scratch.
        variant_of: name of the cell that it is compared with, beside ML-CLAP.
        num_seeds: 0, 1, ... up to this many.
    """

    name: str
    title: str
    objective: str
    steps: int
    parts: tuple[str, ...]
    captions_a_step: int
    options: dict[str, Any] = field(default_factory=dict)
    loss: str | None = None
    text_encoder: str | None = None
    begins_with: str | None = None
    variant_of: str | None = None
    num_seeds: int = FEW_SEEDS


def _cell(
    name: str,
    title: str,
    objective: str,
    part: str | tuple[str, ...],
    options: dict[str, Any] | None = None,
    rate_of: str | None = None,
    **more: Any,
) -> Cell:
    options = {"learning_rate": LEARNING_RATES[rate_of or objective]} | (options or {})
    captions = {"mlclap": 1, "cacl": 2}.get(objective, options.get("languages_per_step", NUM_LANGUAGES))
    parts = (part,) if isinstance(part, str) else part
    steps = more.pop("steps", STEPS)
    if steps == "budget":
        steps = CAPTIONS_A_CLIP // captions
    return Cell(name, title, objective, steps, parts, captions, options, **more)


STEPS_PART, BUDGET_PART, WEIGHT_PART = "equal steps", "equal text budget", "terms of AKCL"
CONTINUED_PART, BEYOND_PART, ENCODER_PART = "continued from ML-CLAP", "beyond", "another text encoder"
PARTS = (STEPS_PART, BUDGET_PART, WEIGHT_PART, CONTINUED_PART, BEYOND_PART, ENCODER_PART)
OBJECTIVES = {"mlclap": "ML-CLAP", "cacl": "CACL", "kcl": "KCL", "akcl": "AKCL"}

_MAIN = [
    _cell("mlclap", "ML-CLAP", "mlclap", STEPS_PART, num_seeds=MANY_SEEDS),
    _cell("cacl", "CACL", "cacl", (STEPS_PART, BUDGET_PART, BEYOND_PART), num_seeds=MANY_SEEDS),
    _cell("kcl", "KCL", "kcl", (STEPS_PART, WEIGHT_PART, BEYOND_PART), num_seeds=MANY_SEEDS),
    _cell("akcl", "AKCL", "akcl", (STEPS_PART, WEIGHT_PART, BEYOND_PART), num_seeds=MANY_SEEDS),
]
_BUDGET = [
    _cell("mlclap-budget", "ML-CLAP", "mlclap", BUDGET_PART, steps="budget", num_seeds=MANY_SEEDS),
    _cell("kcl-budget", "KCL", "kcl", BUDGET_PART, steps="budget", num_seeds=MANY_SEEDS),
    _cell("akcl-budget", "AKCL", "akcl", BUDGET_PART, steps="budget", num_seeds=MANY_SEEDS),
]
_DRAWN = [
    _cell(f"kcl-{k}", f"KCL, {k} of 8 languages a step", "kcl", parts, options={"languages_per_step": k})
    for k, parts in ((1, STEPS_PART), (2, (STEPS_PART, BUDGET_PART)), (4, STEPS_PART))
]
_DRAWN += [
    _cell("kcl-1-budget", "KCL, 1 of 8", "kcl", BUDGET_PART, steps="budget", options={"languages_per_step": 1}),
    _cell("kcl-4-budget", "KCL, 4 of 8", "kcl", BUDGET_PART, steps="budget", options={"languages_per_step": 4}),
    _cell(
        "akcl-2",
        "AKCL, 2 of 8 languages a step",
        "akcl",
        (STEPS_PART, BUDGET_PART),
        options={"languages_per_step": 2},
        num_seeds=MANY_SEEDS,
    ),
    _cell("akcl-4", "AKCL, 4 of 8 languages a step", "akcl", STEPS_PART, options={"languages_per_step": 4}),
    _cell(
        "akcl-4-budget",
        "AKCL, 4 of 8",
        "akcl",
        BUDGET_PART,
        steps="budget",
        options={"languages_per_step": 4},
    ),
]
_WEIGHTS = [
    _cell(
        f"akcl-w{weight}",
        f"AKCL, w = {weight}",
        "akcl",
        WEIGHT_PART,
        options={"akcl_weight": weight},
        variant_of="akcl",
    )
    for weight in (0.0, 0.25, 0.75)
]
_CONTINUED = [
    _cell(
        f"{name}-continued",
        title,
        name,
        CONTINUED_PART,
        steps=STEPS_OF_A_CONTINUED_RUN,
        options={"learning_rate": LEARNING_RATE_OF_A_CONTINUED_RUN},
        begins_with="mlclap-budget",
    )
    for name, title in OBJECTIVES.items()
]
_CONTINUED += [
    _cell(
        f"{name}-frozen-text",
        f"{title}, text tower frozen",
        name,
        CONTINUED_PART,
        steps=STEPS_OF_A_CONTINUED_RUN,
        options={"learning_rate": LEARNING_RATE_OF_A_CONTINUED_RUN, "freeze_text": True},
        begins_with="mlclap-budget",
    )
    for name, title in OBJECTIVES.items()
]
_RANKINGS = [
    _cell(
        f"{name}-rankings",
        f"{OBJECTIVES[name]} and equal rankings",
        name,
        BEYOND_PART,
        options={"ranking_weight": RANKING_WEIGHT},
        variant_of=name,
    )
    for name in ("kcl", "akcl")
]
_ANCHORS = [
    _cell(
        "akcl-jpn",
        "AKCL, anchor Japanese",
        "akcl",
        BEYOND_PART,
        options={"anchor_language": "jpn_Jpan"},
        variant_of="akcl",
    ),
    _cell(
        "akcl-rotating",
        "AKCL, another anchor every step",
        "kcl",
        BEYOND_PART,
        rate_of="akcl",
        loss="rotating_anchor",
        variant_of="akcl",
    ),
    _cell(
        "kcl-all-pairs",
        "AKCL, every language an anchor",
        "kcl",
        BEYOND_PART,
        rate_of="akcl",
        loss="all_pairs",
        variant_of="akcl",
    ),
]
_LANGUAGE_WEIGHTS = [
    _cell(
        "kcl-weighted",
        "KCL, Japanese and Chinese twice",
        "kcl",
        BEYOND_PART,
        loss="weighted_languages",
        variant_of="kcl",
    ),
    _cell(
        "cacl-8",
        "CACL, all languages a step",
        "akcl",
        BEYOND_PART,
        rate_of="cacl",
        loss="anchored_thirds",
        variant_of="akcl",
    ),
    _cell(
        "cacl-4-budget",
        "CACL, 4 of 8",
        "akcl",
        BUDGET_PART,
        steps="budget",
        options={"languages_per_step": 4},
        rate_of="cacl",
        loss="anchored_thirds",
        variant_of="cacl",
    ),
]
_DRAWS = [
    _cell(
        "cacl-by-batch",
        "CACL, the other language drawn for a batch",
        "akcl",
        (STEPS_PART, BUDGET_PART),
        options={"languages_per_step": 2},
        rate_of="cacl",
        loss="anchored_thirds",
        variant_of="cacl",
    ),
    _cell(
        "akcl-2-by-clip",
        "AKCL, 2 of 8, drawn for a clip",
        "cacl",
        (STEPS_PART, BUDGET_PART),
        rate_of="akcl",
        loss="akcl_of_drawn_clips",
        variant_of="akcl-2",
    ),
]
_ENCODERS = [
    _cell(f"{name}-bert", f"{title}, BERT", name, ENCODER_PART, text_encoder="bert")
    for name, title in OBJECTIVES.items()
]

_TUNING = [
    _cell(
        f"{name}-{rate:g}",
        OBJECTIVES[name],
        name,
        STEPS_PART,
        options={"learning_rate": rate},
        num_seeds=2 if rate in CLOSE_RATES[name] else 1,
    )
    for name, rates in RATES.items()
    for rate in rates
]
_TUNING += [
    _cell(
        f"{name}-rankings-{weight:g}",
        OBJECTIVES[name],
        name,
        STEPS_PART,
        options={"ranking_weight": weight},
        num_seeds=1,
    )
    for name in ("kcl", "akcl")
    for weight in RANKING_WEIGHTS
]
TUNING_CELLS = {cell.name: cell for cell in _TUNING}

_ALL = [
    *_MAIN,
    *_BUDGET,
    *_DRAWN,
    *_WEIGHTS,
    *_CONTINUED,
    *_RANKINGS,
    *_ANCHORS,
    *_LANGUAGE_WEIGHTS,
    *_DRAWS,
    *_ENCODERS,
]
CELLS = {cell.name: cell for cell in _ALL}
