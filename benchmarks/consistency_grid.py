"""The runs of `consistency.py`: which objective, how many steps, from where."""

from dataclasses import dataclass, field
from typing import Any


NUM_LANGUAGES = 8
STEPS = 600
STEPS_OF_A_CONTINUED_RUN = 200
CAPTIONS_A_CLIP = 2 * STEPS  # the text budget: what CACL encodes in `STEPS` steps
TEN_TIMES_SMALLER = {"learning_rate": 2e-4}
MANY_SEEDS, FEW_SEEDS = 5, 3


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
    num_seeds: int = FEW_SEEDS


def _cell(name: str, title: str, objective: str, part: str | tuple[str, ...], **more: Any) -> Cell:
    captions = {"mlclap": 1, "cacl": 2}.get(
        objective, more.get("options", {}).get("languages_per_step", NUM_LANGUAGES)
    )
    parts = (part,) if isinstance(part, str) else part
    steps = more.pop("steps", STEPS)
    if steps == "budget":
        steps = CAPTIONS_A_CLIP // captions
    return Cell(name, title, objective, steps, parts, captions, **more)


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
    _cell(f"akcl-w{weight}", f"AKCL, w = {weight}", "akcl", WEIGHT_PART, options={"akcl_weight": weight})
    for weight in (0.0, 0.25, 0.75)
]
_CONTINUED = [
    _cell(
        f"{name}-continued",
        title,
        name,
        CONTINUED_PART,
        steps=STEPS_OF_A_CONTINUED_RUN,
        options=TEN_TIMES_SMALLER,
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
        options=TEN_TIMES_SMALLER | {"freeze_text": True},
        begins_with="mlclap-budget",
    )
    for name, title in OBJECTIVES.items()
]
_BEYOND = [
    _cell("akcl-jpn", "AKCL, anchor Japanese", "akcl", BEYOND_PART, options={"anchor_language": "jpn_Jpan"}),
    _cell("akcl-rotating", "AKCL, another anchor every step", "kcl", BEYOND_PART, loss="rotating_anchor"),
    _cell("kcl-all-pairs", "KCL and all pairs of languages", "kcl", BEYOND_PART, loss="all_pairs"),
    _cell("kcl-rankings", "KCL and equal rankings", "kcl", BEYOND_PART, loss="equal_rankings"),
    _cell("akcl-rankings", "AKCL and equal rankings", "akcl", BEYOND_PART, loss="anchored_equal_rankings"),
    _cell("kcl-weighted", "KCL, Japanese and Chinese twice", "kcl", BEYOND_PART, loss="weighted_languages"),
]
_ENCODERS = [
    _cell(f"{name}-bert", f"{title}, BERT", name, ENCODER_PART, text_encoder="bert")
    for name, title in OBJECTIVES.items()
]

CELLS = {cell.name: cell for cell in [*_MAIN, *_BUDGET, *_DRAWN, *_WEIGHTS, *_CONTINUED, *_BEYOND, *_ENCODERS]}
