"""The corpora that `atri prepare` reads: the help, the options and the reader of each."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from modeling_atri.bounds import option

from ...loading import DATA_HELP, SPLIT_HELP


if TYPE_CHECKING:
    from modeling_atri.corpora.clips.clip import Corpus


_CSV = """\
CSV files are in UTF-8, with commas, and name their columns in the first line. Other columns are ignored. A caption
with a comma or a quote must be quoted and on one line: "A man says ""stop"", then walks"."""

_PARALLEL = """\
Languages are parallel: a caption that is missing or empty in one of them is left out in all, and listed in
lost_captions.jsonl. Clips without a usable recording are listed in left_out.jsonl and counted in report.json."""


@dataclass(kw_only=True)
class CorpusArguments:
    """Options that all corpora have, and the help of one corpus.

    Attributes:
        summary: One line for the overview.
        description: Text of the help before the options.
    """

    summary: ClassVar[str]
    description: ClassVar[str]

    output: str = field(metadata={"help": "Folder for metadata.jsonl, report.json and the lists of what is left out."})
    copy_audio: bool = option(False, "Copy the recordings too, to OUTPUT/sounds.")

    def read(self) -> "Corpus":
        """Read the corpus."""
        raise NotImplementedError


@dataclass(kw_only=True)
class CaptionFileArguments(CorpusArguments):
    """Options of corpora with a caption file for each language."""

    captions: list[str] = field(metadata={"help": "LANGUAGE=FILE for each language. The files are parallel."})
    audio: str = field(metadata={"help": "Folder of recordings, searched recursively."})

    def caption_files(self) -> dict[str, str]:
        """Return the caption files by FLORES-200 code."""
        from modeling_atri.corpora.clips.caption_files import parse_files

        return parse_files(self.captions)


@dataclass(kw_only=True)
class AudioCapsArguments(CaptionFileArguments):
    """Options of `atri prepare audiocaps`."""

    summary = "CSV files, also those of ml-audiocaps in Japanese, and clips named by their YouTube video"
    description = f"""\
Prepare AudioCaps (https://audiocaps.github.io), or your own captions in its layout, for training or evaluation.

captions: a CSV file for each language, parallel by audiocap_id, with the columns
    audiocap_id   a number or word for each caption, the same in every language
    youtube_id    the video, 11 characters
    start_time    where the clip begins in the video, in seconds
    caption       one caption; a clip has several lines
  ml-audiocaps' Japanese has the same columns. Repeated lines count once.
recordings: named by the video, with or without a Y before it, and with any suffix of a sound file. Where a video has
  several clips, the start, or start and end, follow in s or ms. A clip may also be named by one of its audiocap_ids.
    Y7fmOlUlwoNg.wav  7fmOlUlwoNg.flac  7fmOlUlwoNg_20.wav  Y7fmOlUlwoNg_20000_30000.wav  103549.wav

{_CSV}

{_PARALLEL}

example:
  atri prepare audiocaps --captions en=en/test.csv ja=ja/test.csv --audio clips --output data/audiocaps/test
"""

    def read(self) -> "Corpus":
        from modeling_atri.corpora.readers.audiocaps import read_audiocaps

        return read_audiocaps(self.caption_files(), self.audio)


@dataclass(kw_only=True)
class ClothoArguments(CaptionFileArguments):
    """Options of `atri prepare clotho`."""

    summary = "CSV files with five captions for each clip"
    description = f"""\
Prepare Clotho v2 (https://zenodo.org/records/4783391), or your own captions in its layout, for training or evaluation.

captions: a CSV file for each language, parallel by file_name and number, with the columns
    file_name     name of the recording
    caption_1, ..., caption_5
recordings: named by file_name, or with another suffix of a sound file.
metadata: clotho_metadata_*.csv, of which the columns file_name and sound_id are read. With it, `atri prepare check`
  knows which other clips were cut from the same recordings of Freesound.

{_CSV}

{_PARALLEL}

example:
  atri prepare clotho --captions en=clotho_captions_evaluation.csv --metadata clotho_metadata_evaluation.csv \\
      --audio evaluation --output data/clotho/test
"""

    metadata: str | None = option(None, "clotho_metadata_*.csv, which names the Freesound recording of each clip.")

    def read(self) -> "Corpus":
        from modeling_atri.corpora.readers.clotho import read_clotho

        return read_clotho(self.caption_files(), self.audio, self.metadata)


@dataclass(kw_only=True)
class WavCapsArguments(CaptionFileArguments):
    """Options of `atri prepare wavcaps`."""

    summary = "JSON files of its four subsets"
    description = f"""\
Prepare one of the four subsets of WavCaps (https://huggingface.co/datasets/cvssp/WavCaps) for training.

captions: a JSON file for each language, parallel by id: {{"data": [{{"id", "caption", "duration", ...}}, ...]}}
recordings: named by the id, as 80399.flac or Y7fmOlUlwoNg.flac, or with another suffix of a sound file.

{_PARALLEL}

FreeSound and AudioSet have recordings that test clips of Clotho and AudioCaps are from: `atri prepare check` finds
them.

example:
  atri prepare wavcaps --captions en=fsd_final.json --subset freesound --audio FreeSound_flac --output data/freesound
"""

    subset: str = field(
        metadata={"help": "Source of the ids.", "choices": ["audioset", "bbc", "freesound", "soundbible"]}
    )

    def read(self) -> "Corpus":
        from modeling_atri.corpora.readers.wavcaps import read_wavcaps

        return read_wavcaps(self.caption_files(), self.audio, self.subset)


@dataclass(kw_only=True)
class MlclapArguments(CorpusArguments):
    """Options of `atri prepare mlclap`."""

    summary = "JSON files in ml-clap's layout, which distributes AudioCaps and Clotho"
    description = f"""\
Prepare JSON files in the layout of ml-clap (https://github.com/zyyan4/ml-clap) for training or evaluation.

captions: {{"data": [{{"wav", "audio", "id", "duration", "caption_1", "source_lang_1", ...}}, ...]}}. source_lang_1 is
  the language of caption_1, by default English. One file may have several languages, or there is one for each. The
  first captions of a clip in each language say the same, and so on. A null keeps the place of a missing caption.
recordings: named by the last part of wav, audio or id, or with another suffix of a sound file.

{_PARALLEL}

example:
  atri prepare mlclap --captions AudioCaps/test.json --audio AudioCaps/waveforms --output data/mlclap
"""

    captions: list[str] = field(
        metadata={"help": "JSON files. The c-th captions of a clip in all languages say the same."}
    )
    audio: str = field(metadata={"help": "Folder of recordings, searched recursively."})
    languages: list[str] | None = option(None, "Languages to keep. Default: all.")

    def read(self) -> "Corpus":
        from modeling_atri.corpora.readers.mlclap_json import read_mlclap_json
        from modeling_atri.languages_atri import resolve_languages

        codes = None if self.languages is None else resolve_languages(self.languages)
        return read_mlclap_json(self.captions, self.audio, codes)


@dataclass(kw_only=True)
class HubArguments(CorpusArguments):
    """Options of `atri prepare hub`."""

    summary = "a Hub dataset, tables, archives or an AudioFolder, by the names of its columns"
    description = f"""\
Prepare a dataset of the Hugging Face Hub, or one on your disk in any form that `atri train --help` lists, by the names
of its columns, for training or evaluation.

columns: those of the tables or of the metadata file. Archives of sounds beside .json or .txt files (WebDataset) have
  audio, audio_id, text (the lines of the .txt) and the keys of the JSON objects. Sounds without captions have audio
  and label, which is the name of their folder.
captions: for each language, one or several columns of strings or of lists of strings, parallel by their order. Of a
  column of captions by language, such as the `captions` of metadata.jsonl, those in the language are taken:
  --captions en=captions fr=captions
recordings: a column of Audio, paths, or {{"bytes", "path"}}. Embedded recordings are written to OUTPUT/sounds.
ids: a column of strings or whole numbers. Rows with the same id are one clip, as where every caption has its own row.
  With --source, `atri prepare check` compares the ids with those of other corpora. For youtube they are 7fmOlUlwoNg or
  Y7fmOlUlwoNg.wav, for freesound 80399 or 80399.wav.

{_PARALLEL}

example:
  atri prepare hub --name owner/name --split train --captions en=caption fr=caption_fr --id_column youtube_id \\
      --source youtube --output data/mine
"""

    name: str = field(metadata={"help": DATA_HELP})
    captions: list[str] = field(
        metadata={
            "help": "LANGUAGE=COLUMN or LANGUAGE=COLUMN,COLUMN,... for each language. Columns may hold lists. "
            "Captions are parallel by their order."
        }
    )
    split: str | None = option(None, f"{SPLIT_HELP}. Needed if there are several.")
    subset: str | None = option(None, "Configuration. Needed if the dataset has several.")
    audio_column: str | None = option(
        None, "Column of recordings. Default: audio, file_name, path, or one that is named like them or like a suffix."
    )
    id_column: str | None = option(
        None, "Column of the clips' names. Rows with one name are one clip. Default: each row is one."
    )
    source: str | None = option(None, "Source of the ids for `atri prepare check`, e.g. youtube or freesound.")

    def read(self) -> "Corpus":
        from modeling_atri.corpora.clips.caption_files import parse_files
        from modeling_atri.corpora.readers.hub_columns import read_columns
        from modeling_atri.corpora.sources.opening import open_dataset

        columns = {language: names.split(",") for language, names in parse_files(self.captions).items()}
        dataset = open_dataset(self.name, self.split, self.subset, self.audio_column)
        return read_columns(dataset, columns, self.audio_column, self.id_column, self.source, self.name)
