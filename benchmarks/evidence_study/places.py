"""Where a study finds its scenes and keeps its models."""

from dataclasses import dataclass
from pathlib import Path

from shared.scenes import hold_out_fold


@dataclass(frozen=True)
class Places:
    """Folders of a run.

    Args:
        scenes: folder with train/ and dev/.
        work: folder for models, features and states.
        is_tuning: whether runs train on a part of train/ and are evaluated on scenes of another fold of train/.
    """

    scenes: Path
    work: Path
    is_tuning: bool = False

    @property
    def rows(self) -> Path:
        """Folder of the rows, with train/metadata.jsonl and dev/metadata.jsonl."""
        return self.work / "held_out" / "rows" if self.is_tuning else self.scenes

    def model(self, cell: str, seed: int) -> Path:
        """Folder of the model of a run."""
        return (self.work / "held_out" if self.is_tuning else self.work) / f"{cell}-{seed}"

    def has_model(self, cell: str, seed: int) -> bool:
        """Whether the work folder has the model of a run that ended."""
        return (self.model(cell, seed) / "model.safetensors").exists()

    def split(self) -> None:
        """Write the rows of the tuning runs if they are not there yet."""
        if not self.is_tuning or self.rows.exists():
            return
        for part, file in zip(("train", "dev"), hold_out_fold(self.scenes / "train", self.rows), strict=True):
            (self.rows / part).mkdir(exist_ok=True)
            file.replace(self.rows / part / "metadata.jsonl")
