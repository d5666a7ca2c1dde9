"""A weak language: who suffers if one language has wrong or few captions, and do weights of languages help?

The weak language is Catalan, the only language of the scenes that the pretrained text encoder was not trained on. Only
the captions of the scenes can teach it, as it is with languages that need more data. Japanese, which the encoder knows
moderately well, is the comparison. The clean runs of KCL and AKCL are those of the study `supclap`.
"""

from pathlib import Path
from typing import Any

from consistency_study.runs import read_runs
from shared.objectives import TITLES

from ..cells import BATCH, Cell, Study
from ..reports.weak import Question, write_report
from ..training_rows import NOISY_SHARES, SCARCE_SHARE, WEAK_LANGUAGES, noisy, scarce
from . import supclap


MAIN, OTHER = "ca", "ja"
WORST = max(NOISY_SHARES)
WEIGHTS = {0.5: "half the weight", 0.0: "no weight"}
TEACH = "teach"
WAYS = {"kcl": TITLES["kcl"], "akcl": TITLES["akcl"], TEACH: "English, then taught"}

# As in teaching.yaml, with the objective's defaults: AKCL on stored sounds, and distances to the teacher.
TEACHING: dict[str, Any] = {
    "objective": TEACH,
    "learning_rate": supclap.LEARNING_RATE,
    "max_steps": supclap.STEPS,
    "adam_beta2": 0.999,
    BATCH: 64,
}
TAUGHT = Cell("heads-teach", WAYS[TEACH], TEACHING, text="use", begins_with=supclap.ENGLISH, sounds_of=supclap.ENGLISH)
CLEAN = {"kcl": supclap.BASES["kcl"], "akcl": supclap.BASES["akcl"], TEACH: TAUGHT}


def _varied(way: str, rows: str, loss: str | None = None, ending: str = "", title: str = "") -> Cell:
    """A clean cell with changed rows."""
    clean = CLEAN[way]
    return Cell(
        f"weak-{way}-{rows}{ending}",
        f"{WAYS[way]}{title}",
        clean.options,
        clean.text,
        begins_with=clean.begins_with,
        sounds_of=clean.sounds_of,
        loss=loss,
        rows=rows,
        variant_of=clean.name,
    )


CHANGED = [(MAIN, noisy(MAIN, share)) for share in NOISY_SHARES] + [(MAIN, scarce(MAIN))]
CHANGED += [(OTHER, noisy(OTHER, WORST)), (OTHER, scarce(OTHER))]
VARIED = {(way, rows): _varied(way, rows) for _, rows in CHANGED for way in WAYS}
WEIGHED = {
    weight: _varied(
        "kcl",
        noisy(MAIN, WORST),
        f"kcl-weight{weight:g}-{WEAK_LANGUAGES[MAIN]}",
        f"-weight{weight:g}",
        f", {title}",
    )
    for weight, title in WEIGHTS.items()
}


def _report(results: Path, tuning: Path, work: Path) -> str:
    of_both = {cell.name: cell for cell in (*CLEAN.values(), *STUDY.cells)}
    runs = read_runs(results.with_name(f"{supclap.STUDY.name}.parquet"), of_both) | read_runs(results, of_both)
    titles = {noisy(short, share): f"{share:.0%} wrong" for short in WEAK_LANGUAGES for share in NOISY_SHARES}
    titles |= {scarce(short): f"{SCARCE_SHARE:.0%} left" for short in WEAK_LANGUAGES}
    questions = [
        Question(WEAK_LANGUAGES[short], titles[rows], [(CLEAN[way], VARIED[way, rows]) for way in WAYS])
        for short, rows in CHANGED
    ]
    noisiest = noisy(MAIN, WORST)
    pairs = [(VARIED["kcl", noisiest], cell) for cell in WEIGHED.values()]
    weights = Question(WEAK_LANGUAGES[MAIN], titles[noisiest], pairs)
    return write_report(STUDY, results, runs, questions, weights)


STUDY = Study(
    "weak",
    "Who suffers if one language has wrong or few captions?",
    [TAUGHT, *VARIED.values(), *WEIGHED.values()],
    _report,
)
