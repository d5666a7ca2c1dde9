"""What `atri prepare KIND --help` says before the options: file names, the caption files' columns, an example."""

_PARALLEL = """\
Languages are parallel: a caption that one of them lacks, or has empty, is left out in all and listed in
lost_captions.jsonl. Clips without a usable recording are listed in left_out.jsonl, and counted in report.json."""

_CSV = """\
CSV files are in UTF-8, with commas, and name their columns in the first line; further columns do not matter. A
caption that has a comma or a quote stands in quotes, in one line: "A man says ""stop"", then walks"."""

DESCRIPTIONS = {
    "audiocaps": f"""\
AudioCaps (https://audiocaps.github.io), or captions of your own in its layout, to a folder to train or test on.

captions: a CSV file for each language, parallel by audiocap_id, with the columns
    audiocap_id   one number or word for each caption, the same in every language
    youtube_id    the video, 11 characters
    start_time    where the clip begins in it, in seconds
    caption       one line for each; a clip has several
  ml-audiocaps' Japanese has the same columns. A line that is there twice counts once.
recordings: named by the video, with or without a Y before it, and any suffix of a sound file; where a video has
  several clips also by the start, or start and end, in s or ms; or by an audiocap_id of the clip:
    Y7fmOlUlwoNg.wav  7fmOlUlwoNg.flac  7fmOlUlwoNg_20.wav  Y7fmOlUlwoNg_20000_30000.wav  103549.wav

{_CSV}

{_PARALLEL}

example:
  atri prepare audiocaps --captions en=en/test.csv ja=ja/test.csv --audio clips --output data/audiocaps/test
""",
    "clotho": f"""\
Clotho v2 (https://zenodo.org/records/4783391), or captions of your own in its layout, to a folder to train or test
on.

captions: a CSV file for each language, parallel by file_name and number, with the columns
    file_name     of the recording
    caption_1, ..., caption_5
recordings: called by file_name; another suffix of a sound file will do.
metadata: clotho_metadata_*.csv, of whose columns file_name and sound_id are read. Name it, so that `check` knows
  what else was cut from the same recordings of Freesound.

{_CSV}

{_PARALLEL}

example:
  atri prepare clotho --captions en=clotho_captions_evaluation.csv --metadata clotho_metadata_evaluation.csv \\
      --audio evaluation --output data/clotho/test
""",
    "wavcaps": f"""\
One of the four subsets of WavCaps (https://huggingface.co/datasets/cvssp/WavCaps) to a folder to train on.

captions: a JSON file for each language, parallel by id: {{"data": [{{"id", "caption", "duration", ...}}, ...]}}
recordings: called by the id, as 80399.flac or Y7fmOlUlwoNg.flac; another suffix of a sound file will do.

{_PARALLEL}

FreeSound and AudioSet hold recordings that Clotho's and AudioCaps' test clips are of: `atri prepare check` finds them.

example:
  atri prepare wavcaps --captions en=fsd_final.json --subset freesound --audio FreeSound_flac --output data/freesound
""",
    "mlclap": f"""\
JSON files in the layout of ml-clap (https://github.com/zyyan4/ml-clap) to a folder to train or test on.

captions: {{"data": [{{"wav", "audio", "id", "duration", "caption_1", "source_lang_1", ...}}, ...]}}. source_lang_1 is
  the language of caption_1; without it that is English. One file may have several languages, or each its own. The
  first captions of a clip in each language say the same, and so on: a null keeps the place of one that is missing.
recordings: called as the last part of wav, audio or id says; another suffix of a sound file will do.

{_PARALLEL}

example:
  atri prepare mlclap --captions AudioCaps/test.json --audio AudioCaps/waveforms --output data/mlclap
""",
    "hub": f"""\
A data set of the Hugging Face Hub, a folder of its files, or one that `save_to_disk` wrote, by the names of its
columns, to a folder to train or test on.

captions: for each language a column of strings or of lists of strings, or several; parallel by their order.
recordings: a column of Audio, paths, or {{"bytes", "path"}}. What is inside the data set is written to OUTPUT/sounds.
ids: a column of strings or whole numbers. Rows of one id are one clip, as where every caption has a row. With
  --source, ids are compared by `atri prepare check`: of youtube they are 7fmOlUlwoNg or Y7fmOlUlwoNg.wav, of freesound
  80399 or 80399.wav.

{_PARALLEL}

example:
  atri prepare hub --name owner/name --split train --captions en=caption fr=caption_fr --id_column youtube_id \\
      --source youtube --output data/mine
""",
    "join": """\
Several folders that `atri prepare` wrote as one, to train on. Recordings stay where they are.

Folders have the same languages, and no audio_id twice. What `check --drop` took out of OUTPUT before stays out.

example:
  atri prepare join --folders data/audiocaps/train data/clotho/train --output data/train
""",
    "check": """\
What training and test folders share: by ids at the source (YouTube, Freesound), by equal samples, and by sound, which
also finds what was cut or encoded again. Any folder with a metadata.jsonl can be compared.

With --drop the rows that are shared move from metadata.jsonl of the training folders to overlap.jsonl beside it; test
folders and recordings stay as they are. A folder that is prepared again keeps them out; delete overlap.jsonl to have
them back.

example:
  atri prepare check --train data/freesound --test data/clotho/test data/audiocaps/test --drop
""",
}
