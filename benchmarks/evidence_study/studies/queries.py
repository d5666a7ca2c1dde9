"""Queries as people type them: which forms are understood, and do short captions in training help?

The queries are those of `query_set/queries.jsonl`. `ask_queries.py` asks the models, those of other studies and of
`teaching.py` too. This study trains models with short captions beside the full ones.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from shared.objectives import TITLES as OBJECTIVES
from teaching_study.cells import CELLS as TEACHING
from teaching_study.cells import ENGLISH, TITLES

from ..cells import Cell, Study
from . import cost, paper


ROWS = "short-captions"
STEPS = 600  # of the joint runs with a text tower from scratch
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
# `consistency.py` has trained these, too, but their models are not kept.
JOINT = [dataclasses.replace(cost.joint("scratch", name, STEPS), num_seeds=1) for name in OBJECTIVES]
_TAUGHT_WAYS = {
    "teach-captions": "taught: captions only",
    "teach-kcl": "taught: KCL",
    "teach-akcl": "taught: AKCL",
    TAUGHT: "taught: AKCL and captions (the default)",
}
# The cells that are reported, by text tower: of this study, of other studies, and of `teaching.py`.
TOWERS: Mapping[str, Mapping[str, str]] = {
    "Text tower from scratch": {
        **{cell.name: cell.title for cell in JOINT},
        **{f"scratch-{way}": title for way, title in _TAUGHT_WAYS.items()},
    },
    "Frozen pretrained text encoder": {
        **{cell.name: cell.title for cell in paper.EQUAL.values()},
        **{f"use-{way}": title for way, title in _TAUGHT_WAYS.items()},
    },
}
# Those whose details are reported.
DETAILED: Mapping[str, str] = {
    f"scratch-{TAUGHT}": "from scratch, taught",
    **{cell.name: f"pretrained, {cell.title}" for name, cell in paper.EQUAL.items() if name in ("mlclap", "akcl")},
    f"use-{TAUGHT}": "pretrained, taught",
}


def _report(results: Path, tuning: Path, work: Path) -> str:
    from ..reports.queries import write_report  # only the report needs matplotlib

    pairs = [(cell.text, cell.name, cell.variant_of) for cell in SHORT if cell.variant_of is not None]
    return write_report(TOWERS, DETAILED, pairs, results)


STUDY = Study("queries", "Queries as people type them", [*SHORT, *JOINT], _report)
