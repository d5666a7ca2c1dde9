"""Queries as people type them: which forms are understood, and do short captions in training help?

The queries are those of `query_set/queries.jsonl`. `ask_queries.py` asks the models, those of other studies and of
`teaching.py` too, and this study trains models with short captions beside the full ones.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from consistency_study.bootstrap import LEVEL, NUM_DRAWS
from query_set.found import read_found
from query_set.plots import draw
from query_set.results import ANSWERS, read_answers
from query_set.rules import read_queries
from query_set.tables import (
    ASKED,
    SCENE_FORMS,
    AllFound,
    Bootstraps,
    by_form,
    by_language,
    by_wording,
    changes,
    without,
    without_differences,
)
from shared.objectives import TITLES as OBJECTIVES
from teaching_study.cells import CELLS as TEACHING
from teaching_study.cells import ENGLISH, TITLES

from ..cells import Cell, Study


ROWS = "short-captions"
TAUGHT = "teach-akcl-distill"  # the default of `atri teach`


def _of_teaching(name: str) -> Cell:
    """A run of `teaching.py`. Its models may be used in place of those that this study would train."""
    cell = TEACHING[name]
    teacher = _of_teaching(f"{cell.text}-{ENGLISH}") if cell.is_taught else None
    return Cell(name, TITLES[cell.way], cell.options, cell.text, begins_with=teacher)


def _with_short(cell: Cell) -> Cell:
    """A cell whose training captions include short ones."""
    return dataclasses.replace(cell, name=f"{cell.name}-short", rows=ROWS, variant_of=cell.name)


SHORT = [_with_short(_of_teaching(f"{text}-{TAUGHT}")) for text in ("use", "scratch")]
# The cells that are reported, by text tower: of this study, of other studies, and of `teaching.py`.
_TAUGHT_WAYS = {
    "teach-captions": "taught: captions only",
    "teach-kcl": "taught: KCL",
    "teach-akcl": "taught: AKCL",
    TAUGHT: "taught: AKCL and captions (the default)",
}
TOWERS: Mapping[str, Mapping[str, str]] = {
    "Text tower from scratch": {
        **{f"scratch-{name}-600": title for name, title in OBJECTIVES.items()},
        **{f"scratch-{way}": title for way, title in _TAUGHT_WAYS.items()},
    },
    "Frozen pretrained text encoder": {
        "use-joint-mlclap": "ML-CLAP, 600 steps",
        **{f"use-{way}": title for way, title in _TAUGHT_WAYS.items()},
    },
}


def _report(results: Path, tuning: Path, work: Path) -> str:
    queries = read_queries()
    found = read_found(read_answers(ANSWERS), queries)
    if not found:
        raise SystemExit(f"There are no answers in {ANSWERS}: run ask_queries.py first.")
    asked = {cell for cell, _, _ in found}
    bootstraps = Bootstraps()
    sections = [f"# {STUDY.title}", HEAD]
    panels = {}
    for tower, cells in TOWERS.items():
        there = {cell: title for cell, title in cells.items() if cell in asked}
        if there:
            panels[tower] = there
            sections += [f"## {tower}", *_of_tower(there, found, bootstraps)]
    pairs = [(cell.title, cell.name, cell.variant_of) for cell in SHORT if {cell.name, cell.variant_of} <= asked]
    if pairs:
        sections += ["## Short captions in training", SHORT_HEAD, changes(pairs, found, bootstraps)]
        both = {name: title for title, *names in pairs for name in names}
        both |= {other: title.split(",")[0] for title, _, other in pairs}
        sections += ["R@1 by wording:", by_wording(both, found)]
    text = "\n\n".join(sections) + "\n"
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(panels, found, bootstraps, results.with_suffix(".png"))
    return text


def _of_tower(cells: Mapping[str, str], found: AllFound, bootstraps: Bootstraps) -> list[str]:
    last = dict([list(cells.items())[-1]])
    return [
        "R@1, the right scene is first:",
        by_form(cells, found, "recall", ASKED, bootstraps),
        "The first scene has all sounds that are named, whatever their relation:",
        by_form(cells, found, "sounds", SCENE_FORMS, bootstraps),
        "Mean rank variance over the languages:",
        by_form(cells, found, "variance", SCENE_FORMS, bootstraps),
        "R@1 by wording:",
        by_wording(cells, found),
        "R@1 by language:",
        by_language(last, found, SCENE_FORMS),
        "One sound without another:",
        without(cells, found, bootstraps),
        "Differences of the ways to ask for a sound without another:",
        without_differences(cells, found, bootstraps),
    ]


HEAD = (
    "Made by `python benchmarks/ask_queries.py` and `python benchmarks/evidence.py queries --report`. The models are "
    "asked the queries of `benchmarks/query_set/queries.jsonl` for the 190 scenes of dev. All figures are in percent, "
    "except the rank variance, and are the mean over eight languages. Brackets have "
    f"{LEVEL:.0%} intervals of {NUM_DRAWS:,} bootstrap draws over seeds and meanings of queries. A star is a p-value "
    "below 0.05, corrected for all comparisons of the table (Holm). Exactly one scene is right for a full caption, a "
    "short form and a paraphrase, four for two sounds, 37 for one sound, and 33 for one sound without another."
)
SHORT_HEAD = (
    "What training with short captions beside the full ones changes in R@1. Of the seven captions of a scene in each "
    "language, two are short. They have the names of the classes in templates that no query has, such as *dog bark, "
    "later rain* and *dog bark and rain*. Paired by seed and meaning."
)

STUDY = Study("queries", "Queries as people type them", SHORT, _report)
