"""`atri prepare check`: find clips that training and test folders share, and take them out of the training folders."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modeling_atri.bounds import option

from ...outputs import check_output_file


if TYPE_CHECKING:
    from modeling_atri.corpora.folders.overlap import Overlap
    from modeling_atri.corpora.folders.prepared import PreparedClip


@dataclass
class CheckArguments:
    """Options of `atri prepare check`."""

    summary: ClassVar[str] = (
        "find clips that training and test folders share, by source id and by sound; --drop removes them"
    )
    description: ClassVar[str] = """\
Find clips that training and test folders share: by ids at the source (YouTube, Freesound), by equal samples, and by
sound, which also finds clips that were cut or encoded again. Any folder with a metadata.jsonl can be compared.

With --drop, shared rows are moved from the metadata.jsonl of the training folders to overlap.jsonl in the same folder.
Test folders and recordings are not changed. When a training folder is prepared again, these clips stay out; delete
overlap.jsonl to get them back.

Fingerprints of the recordings are kept in modeling_atri/fingerprints-N in the cache folder of Hugging Face (HF_HOME),
about 8 kB a minute, so that the next run decodes only new and changed recordings. It can be deleted at any time.

example:
  atri prepare check --train data/freesound --test data/clotho/test data/audiocaps/test --drop
"""

    train: list[str] = field(metadata={"help": "Folders to train on."})
    test: list[str] = field(metadata={"help": "Folders to evaluate on."})
    by_sound: bool = option(True, "Decode and compare the recordings, not only their ids.")
    drop: bool = option(False, "Take shared clips out of the training folders.")
    output: str | None = option(None, "JSON lines file for the list of shared clips.")

    def run(self) -> None:
        """Compare the folders, print and write the shared clips, and drop them if asked."""
        from modeling_atri.corpora.folders.dropping import drop_overlaps
        from modeling_atri.corpora.folders.overlap import find_overlaps
        from modeling_atri.corpora.folders.prepared import OVERLAP_FILE, read_clips
        from modeling_atri.corpora.rows.bad_rows import describe_kinds
        from modeling_atri.corpora.sources.metadata import METADATA_FILE
        from modeling_atri.files import write_json_lines
        from modeling_atri.hub_cards.tables import counted

        if self.output:
            check_output_file(self.output)
        if both := {Path(name).resolve() for name in self.train} & {Path(name).resolve() for name in self.test}:
            raise ValueError(f"{', '.join(map(str, sorted(both)))} is given to both --train and --test.")
        train, test = ([clip for name in names for clip in read_clips(name)] for names in (self.train, self.test))
        overlaps, unread, unheard = find_overlaps(train, test, by_sound=self.by_sound, progress=True)
        print(overlap_table(self.train, self.test, train, overlaps))
        for name, clips in (("training", train), ("test", test)):
            if nameless := sum(not clip.row.get("source_ids") for clip in clips):
                clips_of = counted(len(clips), f"{name} clip")
                print(f"Without an id at a source, so that only the sound is compared: {nameless} of {clips_of}.")
        if unheard:
            num_unheard = counted(len(unheard), "clip")
            print(f"{num_unheard} cannot be recognised by sound: less than 2 s are loud and changing.")
        if unread:
            print(f"{counted(len(unread), 'clip')} could not be read: {describe_kinds(unread)}.")
        if self.output:
            Path(self.output).parent.mkdir(parents=True, exist_ok=True)
            write_json_lines(Path(self.output), [overlap.describe() for overlap in overlaps])
        if self.drop and overlaps:
            for folder, num_dropped in drop_overlaps(overlaps).items():
                moved = counted(num_dropped, "clip")
                print(f"Moved {moved} from {folder / METADATA_FILE} to {OVERLAP_FILE} in the same folder.")


def overlap_table(
    train_names: Sequence[str],
    test_names: Sequence[str],
    train: "Sequence[PreparedClip]",
    overlaps: "Sequence[Overlap]",
) -> str:
    """Table of the training clips that are in a test folder, by pair of folders and by how that is known."""
    from modeling_atri.corpora.folders.overlap import BY_ID, BY_SAMPLES, BY_SOUND
    from modeling_atri.hub_cards.tables import text_table

    kinds = (BY_ID, BY_SAMPLES, BY_SOUND)
    rows: list[list[Any]] = []
    for train_name in train_names:
        num_clips = sum(clip.folder == Path(train_name) for clip in train)
        for test_name in test_names:
            folders = (Path(train_name), Path(test_name))
            found = [overlap for overlap in overlaps if (overlap.train.folder, overlap.test.folder) == folders]
            shared = {overlap.train.file_name for overlap in found}
            counts = [len({overlap.train.file_name for overlap in found if kind in overlap.by}) for kind in kinds]
            rows.append([train_name, test_name, num_clips, len(shared), *counts])
    return text_table(["train", "test", "clips", "shared", *(f"by {kind}" for kind in kinds)], rows, "<<>>>>>")
