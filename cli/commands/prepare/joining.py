"""`atri prepare join`: join several prepared folders."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .report import print_report


@dataclass
class JoinArguments:
    """Options of `atri prepare join`."""

    summary: ClassVar[str] = "join several prepared folders"
    description: ClassVar[str] = """\
Join several folders that `atri prepare` wrote to one, for training. Recordings stay where they are.

The folders must have the same languages and no audio_id in common. Clips that `check --drop` took out of OUTPUT stay
out.

example:
  atri prepare join --folders data/audiocaps/train data/clotho/train --output data/train
"""

    folders: list[str] = field(metadata={"help": "Folders that `atri prepare` wrote, with the same languages."})
    output: str = field(metadata={"help": "Folder for metadata.jsonl and report.json."})

    def run(self) -> None:
        """Join the folders and print the report."""
        from modeling_atri.corpora.folders.joining import join_folders

        print_report(join_folders(self.folders, self.output), Path(self.output))
