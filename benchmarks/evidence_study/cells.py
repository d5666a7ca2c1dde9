"""A run of a study, and a study."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer.objectives import find_objective


BATCH = "per_device_train_batch_size"
BATCH_SIZE = 32  # as in consistency.yaml


@dataclass(frozen=True)
class Cell:
    """One row of a table, run once for each seed.

    Two cells of the same name, also in different studies, must be equal: they share the models in the work folder.

    Args:
        name: name of the cell, used in the results file and the work folder.
        title: name of the row in the tables.
        options: training arguments beside those of `consistency.yaml`: at least `objective`, `learning_rate` and
            `max_steps`.
        text: the text tower, a key of `towers.TOWERS`.
        begins_with: the cell whose model of the same seed the run continues; by default a new model.
        sounds_of: the cell whose model of the same seed has embedded the sounds. The run then trains heads alone (see
            `heads.py`): that of the text, which needs a frozen text tower, and that of the audio, which begins anew on
            these embeddings unless a model is taught. By default, a run hears the sounds.
        loss: name of a loss of `losses.LOSSES` that replaces the objective's own on the objective's batches.
        rows: name of a change of the training rows, a key of `training_rows.CHANGES`.
        variant_of: name of the cell that it is compared with.
        num_seeds: number of seeds; the seeds are 0, 1, ...
        measure_every: steps between two measurements on the evaluation scenes, the points of the run's curve. By
            default, only the final model is measured. This does not change the run.
    """

    name: str
    title: str
    options: dict[str, Any]
    text: str = "scratch"
    begins_with: "Cell | None" = None
    sounds_of: "Cell | None" = None
    loss: str | None = None
    rows: str | None = None
    variant_of: str | None = None
    num_seeds: int = 3
    measure_every: int | None = None

    @property
    def definition(self) -> dict[str, Any]:
        """Everything that decides what a run of a seed gives. A result with another definition is out of date."""
        earlier = {name: getattr(self, name) for name in ("begins_with", "sounds_of")}
        choices = {name: None if cell is None else cell.definition for name, cell in earlier.items()}
        choices |= {"text": self.text, "loss": self.loss, "rows": self.rows}
        return self.options | {key: value for key, value in choices.items() if value is not None}

    @property
    def earlier(self) -> "list[Cell]":
        """The cells whose models of the same seed the run needs."""
        return [cell for cell in (self.begins_with, self.sounds_of) if cell is not None]

    @property
    def is_taught(self) -> bool:
        """Whether the run teaches languages to the model of another cell, whose audio side stays as it is."""
        return self.options["objective"] == "teach"

    @property
    def captions_a_clip(self) -> int:
        """Captions of each clip of a batch that the text tower encodes during the run, without earlier cells."""
        languages = self.options.get("languages", list(ATRI_LANGUAGES))
        objective = find_objective(self.options["objective"])
        return self.options["max_steps"] * objective.num_drawn(len(languages), self.options.get("languages_per_step"))

    @property
    def captions(self) -> int:
        """Captions that the text tower encodes during the run and the cells that it builds on."""
        before = sum(cell.captions for cell in self.earlier)
        return before + self.captions_a_clip * self.options.get(BATCH, BATCH_SIZE)


@dataclass(frozen=True)
class Study:
    """A question with the runs that answer it.

    Args:
        name: name of the command's argument and of the result files.
        title: what the study asks.
        cells: the runs that are evaluated on dev.
        tuning: the runs that choose settings. They train on scenes without fold 3 and are evaluated on scenes of
            fold 3 alone, so dev takes no part.
        report: takes the results file, the results file of the tuning runs, and the folder of models, which need not
            exist. Writes tables and plots beside the results file, and returns the tables in Markdown.
    """

    name: str
    title: str
    cells: list[Cell]
    report: Callable[[Path, Path, Path], str]
    tuning: list[Cell] = field(default_factory=list)

    def find(self, names: list[str], is_tuning: bool = False) -> list[Cell]:
        """The cells with these names, or all cells.

        Raises:
            ValueError: there is no such cell.
        """
        cells = {cell.name: cell for cell in (self.tuning if is_tuning else self.cells)}
        if unknown := [name for name in names if name not in cells]:
            raise ValueError(f"{self.name} has no cells {', '.join(unknown)}. It has {', '.join(cells)}.")
        return [cells[name] for name in names] if names else list(cells.values())


def with_beginnings(cells: list[Cell]) -> list[Cell]:
    """The cells, each after the cells whose models it needs, and each once."""
    found: dict[str, Cell] = {}
    for cell in cells:
        for one in (*with_beginnings(cell.earlier), cell):
            found.setdefault(one.name, one)
    return list(found.values())
