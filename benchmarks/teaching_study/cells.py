"""The runs of `teaching.py`: each a text encoder, trained on English, on all languages at once, or taught."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modeling_atri.trainer.scratch.model import ScratchArguments


FOLDER = Path(__file__).parents[1]
SEEDS = (0, 1, 2)
TEXTS = {"scratch": "text tower from scratch", "use": "frozen pretrained text encoder"}
ENGLISH, JOINT_MLCLAP, JOINT_AKCL = "english", "joint-mlclap", "joint-akcl"
TITLES = {
    ENGLISH: "English only, the teacher",
    JOINT_MLCLAP: "ML-CLAP, all languages at once",
    JOINT_AKCL: "AKCL, all languages at once",
    "teach-captions": "taught: captions only",
    "teach-kcl": "taught: KCL",
    "teach-akcl": "taught: AKCL",
    "teach-kcl-distill": "taught: KCL and captions",
    "teach-akcl-distill": "taught: AKCL and captions (the default)",
}


@dataclass(frozen=True)
class Cell:
    """A run, done once for each seed.

    Args:
        text: `scratch` or `use`.
        way: a key of `TITLES`.
        options: training arguments beside those of `consistency.yaml`.
    """

    text: str
    way: str
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the run in the results and in the work folder."""
        return f"{self.text}-{self.way}"

    @property
    def is_taught(self) -> bool:
        """Whether the run continues the model that knows English alone."""
        return self.way.startswith("teach")


def _read_cells() -> dict[str, Cell]:
    settings = _read(FOLDER / "teaching.yaml")
    cells = {}
    for text, of_text in settings["texts"].items():
        for way in TITLES:
            if text == "scratch" and way in (JOINT_MLCLAP, JOINT_AKCL):
                continue  # the grid of `consistency.py` has trained these
            of_way = settings["teach" if way in settings["ways"] else way]
            options = of_text | of_way["both"] | of_way.get(text, {}) | settings["ways"].get(way, {})
            cell = Cell(text, way, options)
            cells[cell.name] = cell
    return cells


def _read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def shared_settings() -> tuple[dict[str, Any], ScratchArguments, str]:
    """What all runs have in common: training arguments, sizes of the model, and the column of groups."""
    settings = _read(FOLDER / "consistency.yaml")
    sizes = {key: settings.pop(key) for key in [*settings] if key in ScratchArguments.__dataclass_fields__}
    group = settings.pop("group_column")
    return settings, ScratchArguments(**sizes), group


CELLS = _read_cells()
