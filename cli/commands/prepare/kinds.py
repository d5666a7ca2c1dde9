"""`atri prepare`: public corpora, as people hold them, to folders that `atri train` reads; and what they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dispatch import Command, dispatch
from ...options import parse_options
from .help import DESCRIPTIONS


if TYPE_CHECKING:
    from modeling_atri.corpora.clips.clip import Corpus


_DESCRIPTION = """\
Turn a corpus on your disk into a folder that `atri train --train_data` reads: a caption file for each language, and a
folder of recordings. Recordings stay where they are. Clips that are missing or broken, and captions that a language
lacks, are left out, counted in the report and listed beside it.
"""
_EXAMPLES = """\
examples:
  atri prepare audiocaps --captions en=test.csv ja=ja/test.csv --audio clips/ --output data/audiocaps/test
  atri prepare clotho --captions en=clotho_captions_evaluation.csv --metadata clotho_metadata_evaluation.csv \\
      --audio evaluation/ --output data/clotho/test
  atri prepare wavcaps --captions en=fsd_final.json --subset freesound --audio FreeSound_flac/ --output data/freesound
  atri prepare mlclap --captions AudioCaps/test.json --audio AudioCaps/waveforms --output data/audiocaps/test
  atri prepare hub --name owner/name --split train --captions en=caption fr=caption_fr --output data/mine
  atri prepare join --folders data/audiocaps/train data/clotho/train --output data/train
  atri prepare check --train data/freesound --test data/clotho/test data/audiocaps/test --drop
"""

_CAPTIONS_HELP = "LANGUAGE=FILE, one for each language; all of them parallel."
_AUDIO_HELP = "Folder of recordings, with all below it."
_OUTPUT_HELP = "Folder for metadata.jsonl, report.json and the lists of what is left out."


@dataclass
class OutputArguments:
    """What every corpus is asked."""

    output: str = field(metadata={"help": _OUTPUT_HELP})
    copy_audio: bool = field(default=False, metadata={"help": "Copy the recordings too, to OUTPUT/sounds."})


@dataclass
class AudioCapsArguments(OutputArguments):
    """Options of `atri prepare audiocaps`."""

    captions: list[str] = field(kw_only=True, metadata={"help": _CAPTIONS_HELP})
    audio: str = field(kw_only=True, metadata={"help": _AUDIO_HELP})

    def read(self) -> "Corpus":
        from modeling_atri.corpora.clips.caption_files import parse_files
        from modeling_atri.corpora.readers.audiocaps import read_audiocaps

        return read_audiocaps(parse_files(self.captions), self.audio)


@dataclass
class ClothoArguments(OutputArguments):
    """Options of `atri prepare clotho`."""

    captions: list[str] = field(kw_only=True, metadata={"help": _CAPTIONS_HELP})
    audio: str = field(kw_only=True, metadata={"help": _AUDIO_HELP})
    metadata: str | None = field(
        default=None, metadata={"help": "clotho_metadata_*.csv: which recording of Freesound a clip is from."}
    )

    def read(self) -> "Corpus":
        from modeling_atri.corpora.clips.caption_files import parse_files
        from modeling_atri.corpora.readers.clotho import read_clotho

        return read_clotho(parse_files(self.captions), self.audio, self.metadata)


@dataclass
class WavCapsArguments(OutputArguments):
    """Options of `atri prepare wavcaps`."""

    captions: list[str] = field(kw_only=True, metadata={"help": _CAPTIONS_HELP})
    audio: str = field(kw_only=True, metadata={"help": _AUDIO_HELP})
    subset: str = field(
        kw_only=True,
        metadata={"help": "What the ids are of.", "choices": ["audioset", "bbc", "freesound", "soundbible"]},
    )

    def read(self) -> "Corpus":
        from modeling_atri.corpora.clips.caption_files import parse_files
        from modeling_atri.corpora.readers.wavcaps import read_wavcaps

        return read_wavcaps(parse_files(self.captions), self.audio, self.subset)


@dataclass
class MlclapArguments(OutputArguments):
    """Options of `atri prepare mlclap`."""

    captions: list[str] = field(
        kw_only=True, metadata={"help": "JSON files. The c-th captions of a clip in each language say the same."}
    )
    audio: str = field(kw_only=True, metadata={"help": _AUDIO_HELP})
    languages: list[str] | None = field(
        default=None, metadata={"help": "Languages to keep. Default: all that there are."}
    )

    def read(self) -> "Corpus":
        from modeling_atri.corpora.readers.mlclap_json import read_mlclap_json
        from modeling_atri.languages_atri import resolve_language

        codes = None if self.languages is None else [resolve_language(language) for language in self.languages]
        return read_mlclap_json(self.captions, self.audio, codes)


@dataclass
class HubArguments(OutputArguments):
    """Options of `atri prepare hub`."""

    name: str = field(kw_only=True, metadata={"help": "Hub id (owner/name), or folder, of the data set."})
    captions: list[str] = field(
        kw_only=True,
        metadata={
            "help": "LANGUAGE=COLUMN, or LANGUAGE=COLUMN,COLUMN,... of captions that are parallel by their order; a "
            "column may hold lists."
        },
    )
    split: str | None = field(default=None, metadata={"help": "Needed where there are several."})
    subset: str | None = field(default=None, metadata={"help": "Configuration of the data set, where it has several."})
    audio_column: str = field(default="audio", metadata={"help": "Column of recordings."})
    id_column: str | None = field(
        default=None, metadata={"help": "Column of clips' names: rows of one are one clip. Default: every row is one."}
    )
    source: str | None = field(
        default=None, metadata={"help": "What the ids are of, e.g. youtube or freesound, for `atri prepare check`."}
    )

    def read(self) -> "Corpus":
        from modeling_atri.corpora.clips.caption_files import parse_files
        from modeling_atri.corpora.readers.hub_columns import read_columns
        from modeling_atri.corpora.rows.opening import open_dataset

        columns = {language: names.split(",") for language, names in parse_files(self.captions).items()}
        dataset = open_dataset(self.name, self.split, self.subset)
        return read_columns(dataset, columns, self.audio_column, self.id_column, self.source, self.name)


@dataclass
class JoinArguments:
    """Options of `atri prepare join`."""

    folders: list[str] = field(metadata={"help": "Folders that `atri prepare` wrote, of the same languages."})
    output: str = field(metadata={"help": "Folder for metadata.jsonl and report.json."})


@dataclass
class CheckArguments:
    """Options of `atri prepare check`."""

    train: list[str] = field(metadata={"help": "Folders to train on."})
    test: list[str] = field(metadata={"help": "Folders to evaluate on."})
    by_sound: bool = field(default=True, metadata={"help": "Decode and compare the recordings, not only their ids."})
    drop: bool = field(default=False, metadata={"help": "Take what is shared out of the folders to train on."})
    output: str | None = field(default=None, metadata={"help": "JSON lines file for the list of what is shared."})


_HELP = {
    "audiocaps": "CSV files, also those of ml-audiocaps in Japanese, and clips named by their YouTube video",
    "clotho": "CSV files of five captions a clip",
    "wavcaps": "JSON files of its four subsets",
    "mlclap": "JSON files in ml-clap's layout, which distributes AudioCaps and Clotho",
    "hub": "a Hub dataset (or a folder of `datasets`), by the names of its columns",
    "join": "join several prepared folders",
    "check": "find clips that training and test folders share, by source id and by sound; --drop removes them",
}
_ARGUMENTS = {
    "audiocaps": AudioCapsArguments,
    "clotho": ClothoArguments,
    "wavcaps": WavCapsArguments,
    "mlclap": MlclapArguments,
    "hub": HubArguments,
    "join": JoinArguments,
    "check": CheckArguments,
}


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    commands = {name: Command(help, partial(_run, name)) for name, help in _HELP.items()}
    return dispatch(argv, "atri prepare", "task", commands, _DESCRIPTION, _EXAMPLES)


def _run(name: str, argv: Sequence[str]) -> None:
    arguments = _parse(name, argv)
    if isinstance(arguments, CheckArguments):
        check(arguments)
    elif isinstance(arguments, JoinArguments):
        join(arguments)
    else:
        prepare(arguments)


def _parse(name: str, argv: Sequence[str]) -> Any:
    return parse_options(argv, (_ARGUMENTS[name],), DESCRIPTIONS[name], f"atri prepare {name}")[0]


def prepare(args: OutputArguments) -> dict[str, Any]:
    """Read, write, print the report; returns it."""
    from modeling_atri.corpora.folders.prepared import check_output
    from modeling_atri.corpora.folders.writing import write_corpus

    check_output(Path(args.output))  # told before anything is read
    report = write_corpus(args.read(), args.output, copy_audio=args.copy_audio, progress=True)
    print_report(report, Path(args.output))
    return report


def join(args: JoinArguments) -> dict[str, Any]:
    """Put folders together, print the report; returns it."""
    from modeling_atri.corpora.folders.joining import join_folders

    report = join_folders(args.folders, args.output)
    print_report(report, Path(args.output))
    return report


def print_report(report: dict[str, Any], folder: Path) -> None:
    """What is in a folder and what is not."""
    from modeling_atri.corpora.clips.clip import OVERLAP
    from modeling_atri.corpora.folders.prepared import LEFT_OUT_FILE, LOST_CAPTIONS_FILE, OVERLAP_FILE, REPORT_FILE

    print(f"{report['corpus']}: {report['clips']} clips, {report['hours']:.2f} hours, in {folder}\n")
    _print_counts("language", "captions", report["captions"])
    counts = ", ".join(f"{clips} of {count}" for count, clips in report["captions_per_clip"].items())
    print(f"\nclips by their captions in a language: {counts}")
    if report["of_other_length"]:
        print(f"{report['of_other_length']} clips are over 1 s longer or shorter than the corpus says.")
    for name, unit, file in (("left_out", "clips", LEFT_OUT_FILE), ("lost_captions", "captions", LOST_CAPTIONS_FILE)):
        if report[name]:
            print()
            _print_counts("left out", unit, report[name])
            print(f"{folder / file} lists them.")
    if kept_out := report["left_out"].get(OVERLAP):
        print(
            f"\n{kept_out} clips stay out since {folder / OVERLAP_FILE} lists them: `check --drop` found them in test"
        )
        print("data. What is new here was not compared yet: run `atri prepare check` again.")
    print(f"\n{folder / REPORT_FILE} says all this.")


def _print_counts(name: str, unit: str, counts: dict[str, int]) -> None:
    width = max(len(name), *map(len, counts))
    print(f"{name:<{width}}  {unit:>8}")
    for kind, count in counts.items():
        print(f"{kind:<{width}}  {count:>8}")


def check(args: CheckArguments) -> list[dict[str, Any]]:
    """Compare, print, write and drop; returns what was found."""
    from modeling_atri.corpora.folders.dropping import drop_overlaps
    from modeling_atri.corpora.folders.overlap import find_overlaps
    from modeling_atri.corpora.folders.prepared import read_clips
    from modeling_atri.corpora.rows.bad_rows import describe_kinds
    from modeling_atri.files import write_json_lines

    both = {Path(folder).resolve() for folder in args.train} & {Path(folder).resolve() for folder in args.test}
    if both:
        raise ValueError(f"{', '.join(map(str, sorted(both)))} is given to train and to test on.")
    train, test = ([clip for folder in folders for clip in read_clips(folder)] for folders in (args.train, args.test))
    overlaps, unread, unheard = find_overlaps(train, test, by_sound=args.by_sound, progress=True)
    _print_overlaps(args, train, overlaps)
    for name, clips in (("training", train), ("test", test)):
        if nameless := sum(not clip.row.get("source_ids") for clip in clips):
            print(f"{nameless} of {len(clips)} {name} clips have no id at a source: only their sound was compared.")
    if unheard:
        print(f"{len(unheard)} clips are too short, quiet or steady (less than 2 s of change) to be known by sound.")
    if unread:
        print(f"{len(unread)} clips could not be read: {describe_kinds(unread)}.")
    found = [overlap.describe() for overlap in overlaps]
    if args.output:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        write_json_lines(Path(args.output), found)
    if args.drop and overlaps:
        for folder, count in drop_overlaps(overlaps).items():
            print(f"Took {count} clips out of {folder / 'metadata.jsonl'}; their rows are in overlap.jsonl beside it.")
    return found


def _print_overlaps(args: CheckArguments, train: Sequence[Any], overlaps: Sequence[Any]) -> None:
    """Of each two folders how many training clips are in the test folder, and by what that is known."""
    from modeling_atri.corpora.folders.overlap import BY_ID, BY_SAMPLES, BY_SOUND

    columns: dict[str, Callable[[Any], bool]] = {
        "shared": lambda overlap: True,
        **{f"by {kind}": lambda overlap, kind=kind: kind in overlap.by for kind in (BY_ID, BY_SAMPLES, BY_SOUND)},
    }
    width = max(len("train"), *map(len, args.train))
    other = max(len("test"), *map(len, args.test))
    print(f"{'train':<{width}}  {'test':<{other}}  {'clips':>7}" + "".join(f"  {name:>10}" for name in columns))
    for train_folder in args.train:
        num_clips = sum(clip.folder == Path(train_folder) for clip in train)
        for test_folder in args.test:
            found = [
                overlap
                for overlap in overlaps
                if overlap.train.folder == Path(train_folder) and overlap.test.folder == Path(test_folder)
            ]
            counts = [
                len({overlap.train.row["file_name"] for overlap in found if holds(overlap)})
                for holds in columns.values()
            ]
            print(
                f"{train_folder:<{width}}  {test_folder:<{other}}  {num_clips:>7}"
                + "".join(f"  {count:>10}" for count in counts)
            )
