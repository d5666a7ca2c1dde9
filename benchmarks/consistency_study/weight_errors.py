"""Weight errors of the runs: how far their final weights are from those of a run with all languages."""

import math
from pathlib import Path

from safetensors.torch import load_file

from .grid import CELLS, NUM_LANGUAGES, Cell
from .results import edited_results, model_file


def write_weight_errors(results: Path, work: Path) -> None:
    """Compute the weight error of each run whose model, and whose twin's model, the work folder has.

    The weight error is the distance between the final weights of a run and of its twin, divided by the distance that
    the twin went from its initial weights. The twin (`twin_of`) trains with the full distribution: all languages, from
    the same initial weights, on the same clips. Runs whose models are gone keep the weight error they have.
    """
    with edited_results(results) as runs:
        done = {(run["cell"], run["seed"]): run for run in runs if run["options"] == CELLS[run["cell"]].options}
        for run in runs:
            key = run["cell"], run["seed"]
            twin_key = twin_of(CELLS[run["cell"]]).name, run["seed"]
            if twin_key == key or key not in done or twin_key not in done:
                run["weight_error"] = None
                continue
            files = [model_file(work, *one) for one in (key, twin_key)]
            if all(file.exists() for file in files):
                ours, theirs = map(load_file, files)
                squares = sum(((ours[name] - theirs[name]) ** 2).sum().item() for name in theirs)
                run["weight_error"] = round(math.sqrt(squares) / done[twin_key]["distance_from_start"], 4)


def twin_of(cell: Cell) -> Cell:
    """The cell of KCL with all languages, the same start, steps and rate; the cell itself if there is none."""
    same = [
        other
        for other in CELLS.values()
        if other.objective == "kcl"
        and other.captions_a_step == NUM_LANGUAGES
        and other.loss is None
        and "ranking_weight" not in other.options
        and (other.steps, other.begins_with, other.text_encoder) == (cell.steps, cell.begins_with, cell.text_encoder)
        and all(other.options.get(name) == cell.options.get(name) for name in ("freeze_text", "learning_rate"))
    ]
    return same[0] if same else cell
