"""Equal cost: recall and rank variance against CPU seconds and captions, as curves.

Each way to train is run with several numbers of steps, each with a schedule of its own: the four objectives on all
languages, KCL and AKCL on languages that are drawn for a step, and English alone with the other languages taught
afterwards. The text tower is trained from scratch, or is the frozen pretrained encoder, of which only the head is
trained. From scratch, runs of `consistency.py` with the same settings are points of the curves.
"""

import dataclasses
from pathlib import Path
from typing import Any

from consistency_study.grid import CELLS as GRID
from consistency_study.grid import LEARNING_RATES
from shared.objectives import TITLES

from ..cells import BATCH, Cell, Study
from . import paper


STEPS = (150, 300, 600, 1200, 2400)
DRAWN, DRAWN_STEPS = (1, 2, 4), (300, 600, 1200)
TEACHER_STEPS = (150, 300, 600, 1200)
TEACHING = {"captions": ("captions", "none"), "kcl": ("KCL", "kcl"), "akcl": ("AKCL", "akcl")}
# Steps of the teacher and of the teaching, where AKCL teaches, and where the other two do as well. A step of teaching
# encodes 512 captions; with the frozen encoder, only the text head runs, so more steps are cheap.
TAUGHT = {
    "scratch": (
        (150, 50),
        (300, 50),
        (300, 150),
        (600, 50),
        (600, 150),
        (600, 300),
        (600, 600),
        (1200, 150),
        (1200, 300),
    ),
    "use": ((150, 150), (300, 150), (300, 600), (600, 300), (600, 600), (600, 1500), (1200, 600), (1200, 1500)),
}
TAUGHT_BY_ALL = {"scratch": ((300, 50), (600, 150), (600, 600)), "use": ((300, 150), (600, 600), (600, 1500))}
# As in teaching.yaml; with few steps, the warm-up is a twentieth of them, as everywhere.
TEACHING_OPTIONS: dict[str, dict[str, Any]] = {
    "scratch": {"learning_rate": 2e-3},
    "use": {"learning_rate": 1e-3, "adam_beta2": 0.999, "exact_step": False},
}
RATES = {"scratch": LEARNING_RATES, "use": paper.CHOSEN_RATES}
ENGLISH_RATE = 1e-3


def joint(text: str, objective: str, steps: int, drawn: int | None = None) -> Cell:
    """A run on all languages, or on languages that are drawn for each step."""
    name = f"{text}-{objective}-{steps}"
    if drawn is None and text == "use" and steps in (paper.EQUAL_STEPS, paper.CHOSEN_STEPS[objective]):
        return paper.frozen(objective, steps)
    options = {"objective": objective, "learning_rate": RATES[text][objective], "max_steps": steps}
    if drawn is None:
        return Cell(name, TITLES[objective], options, text)
    title = f"{TITLES[objective]}, {drawn} of 8 languages a step"
    return Cell(f"{name}-drawn{drawn}", title, options | {"languages_per_step": drawn}, text)


def english(text: str, steps: int) -> Cell:
    """A run on English alone, the teacher of others."""
    options = {
        "objective": "mlclap",
        "languages": ["eng_Latn"],
        "learning_rate": ENGLISH_RATE,
        "max_steps": steps,
    }
    return Cell(f"{text}-english-{steps}", "English alone", options, text)


def taught(text: str, way: str, teacher_steps: int, steps: int) -> Cell:
    """A run that teaches the other languages to a model that knows English."""
    ending, teach_audio = TEACHING[way]
    options = TEACHING_OPTIONS[text] | {
        "objective": "teach",
        "max_steps": steps,
        BATCH: 64,
        "teach_audio": teach_audio,
    }
    if teach_audio != "none":
        options["distill_weight"] = 0.0
    teacher = english(text, teacher_steps)
    name = f"{text}-taught-{way}-{teacher_steps}-{steps}"
    return Cell(name, f"English, then taught: {ending}", options, text, begins_with=teacher)


def _cells_of(text: str) -> list[Cell]:
    cells = [joint(text, objective, steps) for steps in STEPS for objective in TITLES]
    cells += [english(text, steps) for steps in TEACHER_STEPS]
    cells += [taught(text, "akcl", *pair) for pair in TAUGHT[text]]
    cells += [taught(text, way, *pair) for way in ("captions", "kcl") for pair in TAUGHT_BY_ALL[text]]
    cells += [
        joint(text, objective, steps, drawn)
        for objective in ("kcl", "akcl")
        for drawn in DRAWN
        for steps in DRAWN_STEPS
    ]
    return cells


CELLS = {text: _cells_of(text) for text in RATES}
# Runs of `consistency.py` that are runs of these cells, by the names of these cells. Two are repeated, which tells how
# much the CPU seconds of the two studies differ.
OF_GRID = {
    cell.name: of_grid.name
    for cell in CELLS["scratch"]
    for of_grid in GRID.values()
    if (of_grid.loss, of_grid.text_encoder, of_grid.begins_with) == (None, None, None)
    and cell.definition
    == {"text": "scratch", "objective": of_grid.objective, "max_steps": of_grid.steps} | of_grid.options
}
REPEATED = {"scratch-mlclap-600", "scratch-akcl-600"}


def _report(results: Path, tuning: Path, work: Path) -> str:
    from ..reports.cost import write_report  # only the report needs matplotlib

    return write_report(STUDY, CELLS, OF_GRID, results)


STUDY = Study(
    "cost",
    "Recall and rank variance at equal cost",
    [
        dataclasses.replace(cell, num_seeds=1) if cell.name in REPEATED else cell
        for cells in CELLS.values()
        for cell in cells
        if cell.name not in OF_GRID.keys() - REPEATED
    ],
    _report,
)
