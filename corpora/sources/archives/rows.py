"""Rows in tar and zip archives: sounds with a metadata file, and the shards of a WebDataset.

Each archive is read once, into an Arrow file in the cache of `datasets`, which is memory-mapped from then on.
"""

import hashlib
import json
import posixpath
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet
from huggingface_hub.utils import WeakFileLock

from modeling_atri.files import file_state, normalized_name, write_json, written_whole
from modeling_atri.languages_atri import resolve_language

from ..audio_column import audio_name, undecoded
from ..layout import ALL_SOUND_SUFFIXES, METADATA_FILES, TEXT_SUFFIXES, base_name, find_splits, stem_of, suffix_of
from ..metadata import read_file_rows
from ..raw_rows import PROBLEM_COLUMN, row_table
from .files import Archive, FolderFiles


_VERSION = 2  # of the cached files: to be raised when the same archives give other rows
_BATCH_BYTES, _BATCH_ROWS = 32 << 20, 1_000  # of what is written at once
KEY = "__key__"  # of the rows in a cached file: the name of the sound without suffix
_DOCUMENTS = {"readme", "license", "licence", "copying", "citation", "changelog", "attribution", "requirements"}
_SCHEMA = pa.schema([("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("row", pa.string())])


class Member(NamedTuple):
    """A row, and the file of the archive that is its sound; None, and a name for messages, if there is none."""

    row: dict[str, Any]
    file: str | None
    name: str | None = None


def splits_in_archives(paths: Sequence[Path]) -> list[str]:
    """The splits in an archive that holds folders of metadata or sounds for them. Empty if there are none."""
    if len(paths) != 1:
        return []
    cached = _cache_file(paths[0], ".json")
    if not cached.exists():
        with Archive(paths[0], keep_beginning=True) as archive:
            write_json(cached, list(_splits(archive)))
    splits: list[str] = json.loads(cached.read_text(encoding="utf-8"))
    return splits if len(splits) > 1 else []


def rows_of_archives(paths: Sequence[Path], split: str | None = None) -> datasets.Dataset:
    """Open archives of sounds with captions as one data set.

    Args:
        paths: Archives. Each has a metadata file (`metadata.jsonl`, `.csv`, `.json` or `.parquet`) that names its
            sounds by paths relative to it, or is a shard of a WebDataset: `dog.flac` beside `dog.json` or `dog.txt`.
        split (*optional*): One of `splits_in_archives`.

    Returns:
        `datasets.Dataset`: Its column `audio` holds the contents and names of the files, undecoded. Of a metadata
        file, it has the columns. Of a WebDataset, it has `audio_id`, which is the key (with the shard before it, if
        several shards have it), the keys of the JSON objects, and `text` for the lines of a `.txt`. Where no sound has
        captions, it has `label`, which is the name of the folder. A row that cannot be used says why in
        `PROBLEM_COLUMN`.

    Raises:
        ValueError: if an archive is damaged, or holds neither metadata nor sounds.
    """
    cached = _all_cached(paths, split)
    rows = [[json.loads(row) for row in dataset["row"][:]] for dataset in cached]
    if not any(rows):
        raise ValueError(f"There are no sounds in {', '.join(map(str, paths[:3]))}{' ...' if len(paths) > 3 else ''}.")
    _fill_in_ids(rows, paths)
    columns = datasets.Dataset(row_table([row for of_archive in rows for row in of_archive]))
    return undecoded(datasets.concatenate_datasets([_sounds(cached), columns], axis=1), "audio")


def sounds_of_archives(paths: Sequence[Path], split: str | None = None) -> datasets.Dataset:
    """The column `audio` of `rows_of_archives` alone, for which no row is parsed."""
    return undecoded(_sounds(_all_cached(paths, split)), "audio")


def _all_cached(paths: Sequence[Path], split: str | None) -> list[datasets.Dataset]:
    return [_cached(path, split) if len(paths) == 1 else _cached_or_problem(path, split) for path in paths]


def _sounds(cached: Sequence[datasets.Dataset]) -> datasets.Dataset:
    return datasets.concatenate_datasets([dataset.select_columns("audio") for dataset in cached])


def rows_of_sounds(folder: Path, names: Sequence[str]) -> datasets.Dataset:
    """Open sounds in a folder without metadata, as `rows_of_archives` does those of an archive. They stay files.

    Args:
        folder: A folder.
        names: Its sounds, by paths relative to it.
    """
    files = FolderFiles(folder.absolute(), names)
    members = list(sound_members(files, names))
    rows = [
        {"audio": str(files.path / member.file) if member.file else member.name, **member.row} for member in members
    ]
    _fill_in_ids([rows], [folder])
    return undecoded(datasets.Dataset(row_table(rows)), "audio")


def _cached_or_problem(path: Path, split: str | None) -> datasets.Dataset:
    """The rows of an archive, or one row that says why it cannot be read, so that the other archives can be."""
    try:
        return _cached(path, split)
    except (ValueError, OSError) as error:
        row = {"audio": None, "row": json.dumps({PROBLEM_COLUMN: str(error)})}
        return datasets.Dataset(pa.Table.from_pylist([row], _SCHEMA))


def _cached(path: Path, split: str | None) -> datasets.Dataset:
    """The rows of an archive with the columns `audio` and `row`, which is JSON."""
    cached = _cache_file(path, ".arrow", split)
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(cached.with_suffix(".lock")):
            if not cached.exists():  # another process may have written it
                _write(path, split, cached)
                _remove_earlier(cached)
    return datasets.Dataset.from_file(str(cached))


def _cache_file(path: Path, suffix: str, split: str | None = None) -> Path:
    """A file in the cache for what is known of an archive in its present state."""
    parts = [[str(path.resolve()), split], [_VERSION, *file_state(path)]]
    name, state = (hashlib.sha256(json.dumps(part).encode()).hexdigest()[:24] for part in parts)
    return Path(datasets.config.HF_DATASETS_CACHE, "archives", f"{name}-{state}{suffix}")


def _remove_earlier(cached: Path) -> None:
    """Remove what is in the cache of earlier states of the same archive."""
    name = cached.name.partition("-")[0]
    for file in cached.parent.glob(f"{name}-*{cached.suffix}"):
        if file != cached:
            with suppress(OSError):  # Windows does not remove a file that another process reads
                file.unlink()


def _write(path: Path, split: str | None, target: Path) -> None:
    with (
        Archive(path) as archive,
        written_whole(target) as file,
        pa.ipc.new_stream(file, _SCHEMA) as writer,
    ):
        batch: list[dict[str, Any]] = []
        size = 0
        for member in archive_members(archive, split):
            row, content = member.row, None
            try:
                content = None if member.file is None else archive.read(member.file)
            except ValueError as error:
                row = row | {PROBLEM_COLUMN: str(error)}
            audio = {"bytes": content, "path": member.file or member.name}
            batch.append({"audio": audio, "row": json.dumps(row, default=str)})
            size += len(content or b"")
            if size > _BATCH_BYTES or len(batch) == _BATCH_ROWS:
                writer.write_table(pa.Table.from_pylist(batch, _SCHEMA))
                batch, size = [], 0
        writer.write_table(pa.Table.from_pylist(batch, _SCHEMA))


def _splits(archive: Archive) -> dict[str, list[str]]:
    return find_splits(name for name in archive.names if suffix_of(name) in ALL_SOUND_SUFFIXES or _is_metadata(name))


def _is_metadata(name: str) -> bool:
    return base_name(name) in METADATA_FILES or suffix_of(name) in (".jsonl", ".csv", ".tsv")


def archive_members(archive: Archive, split: str | None) -> Iterator[Member]:
    """The rows of an archive in its order, whose captions are read one by one. `KEY` of a row is its key."""
    splits = _splits(archive)
    order = {name: number for number, name in enumerate(archive.names)}
    found = [name for files in splits.values() for name in files] if split is None else splits[split]
    names = sorted(found, key=order.__getitem__)
    if not names:
        return
    if any(map(_is_metadata, names)):
        for name in names:
            yield from _metadata_rows(archive, name)
    else:
        yield from sound_members(archive, names)


def sound_members(archive: Archive | FolderFiles, names: Sequence[str]) -> Iterator[Member]:
    """Rows of sounds without metadata: with the captions beside them, or else with the names of their folders."""
    if companions := _companions(archive.names, names):
        yield from _web_dataset_rows(archive, names, companions)
    else:
        for name in names:
            folder = PurePosixPath(name).parent.name
            yield Member({KEY: stem_of(name)} | ({"label": folder} if folder else {}), name)


def _metadata_rows(archive: Archive, name: str) -> Iterator[Member]:
    """The rows of a metadata file in the archive. They name sounds by paths relative to it."""
    there, content = set(archive.names), archive.read(name)
    for place, row, problem in _read_rows(content, PurePosixPath(name).name):
        sound = audio_name(row)
        if problem is not None or sound is None:
            yield Member(row | ({PROBLEM_COLUMN: f"{name}, {place}: {problem}"} if problem else {}), None)
            continue
        sound = normalized_name(sound.replace("\\", "/"))
        file = posixpath.normpath(posixpath.join(posixpath.dirname(name), sound))
        other = {column: value for column, value in row.items() if column not in ("audio", "row")}
        # The name of a sound that is missing in the archive must not be taken for a file on this machine.
        missing = None if file in there else str(archive.path / sound.lstrip("/"))
        yield Member(other | {KEY: stem_of(file)}, None if missing else file, missing)


def _read_rows(content: bytes, name: str) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    if name.endswith(".parquet"):
        for number, row in enumerate(pyarrow.parquet.read_table(pa.BufferReader(content)).to_pylist()):
            yield f"row {number}", row, None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        yield from read_file_rows(path)


def _companions(names: Sequence[str], sounds: Sequence[str]) -> dict[str, dict[str, str]]:
    """Files of captions by key: `{"dog": {"json": "dog.json", "en.txt": "dog.en.txt"}}`.

    A key is the name up to its last dot or, if no sound has this key, also the name up to its first dot, as WebDataset
    has it. Documents such as `README.txt` are no captions, unless a sound has their name.
    """
    found: dict[str, dict[str, str]] = {}
    stems = {stem_of(sound) for sound in sounds}
    for name in names:
        is_document = base_name(stem_of(name)).lower() in _DOCUMENTS and stem_of(name) not in stems
        if suffix_of(name) in (".json", *TEXT_SUFFIXES) and not is_document:
            for key in (stem_of(name),) if stem_of(name) in stems else (stem_of(name), first_stem(name)):
                found.setdefault(key, {})[name[len(key) + 1 :]] = name
    return found


def _web_dataset_rows(
    archive: Archive | FolderFiles, sounds: Sequence[str], companions: Mapping[str, Mapping[str, str]]
) -> Iterator[Member]:
    used: set[str] = set()
    of_key: dict[str, str] = {}
    for sound in sounds:
        key = next((key for key in (stem_of(sound), first_stem(sound)) if key in companions), stem_of(sound))
        files = companions.get(key, {})
        used.update(files.values())
        row = {KEY: key, "audio_id": None} | _captions(archive, files)
        if of_key.setdefault(key, sound) != sound:
            row[PROBLEM_COLUMN] = f"{sound}: {of_key[key]} has the same key {key!r}, and a key has one sound"
        yield Member(row, sound)
    for key, files in companions.items():
        if not used.issuperset(files.values()):  # captions without a sound
            used.update(files.values())
            row = {KEY: key, "audio_id": None} | _captions(archive, files)
            yield Member(row, None, str(archive.path / key))


def _captions(archive: Archive | FolderFiles, files: Mapping[str, str]) -> dict[str, Any]:
    """What the files of a key say: the keys of JSON objects, and the lines of texts."""
    row: dict[str, Any] = {}
    for extension, name in sorted(files.items(), key=lambda item: not item[0].endswith("json")):
        try:
            content = archive.read(name).decode("utf-8-sig")
            values = json.loads(content) if extension.endswith("json") else content
        except (ValueError, RecursionError) as error:
            return row | {PROBLEM_COLUMN: f"{name} cannot be read: {error}"}
        if isinstance(values, dict):
            row |= {column: value for column, value in values.items() if column not in ("audio", KEY)}
        else:
            _add_texts(row, extension, values)
    return row


def _add_texts(row: dict[str, Any], extension: str, values: Any) -> None:
    """Add the content of `dog.txt` or of `dog.en.txt`, whose language goes into `captions`."""
    texts = [line.strip() for line in values.splitlines() if line.strip()] if isinstance(values, str) else values
    language, _, kind = extension.rpartition(".")
    try:
        code = resolve_language(language) if language else None
    except ValueError:
        code = None
    if code is not None:
        row.setdefault("captions", {}).setdefault(code, texts)
        return
    column = "text" if kind in ("txt", "text", "json") and "text" not in row else extension
    row[column] = texts


def _fill_in_ids(rows: Sequence[list[dict[str, Any]]], paths: Sequence[Path]) -> None:
    """Name rows that have no `audio_id` by their keys, with the shard before it where several shards have a key."""
    counts = Counter(key for of_archive in rows for key in {row.get(KEY) for row in of_archive})
    for path, of_archive in zip(paths, rows, strict=True):
        for row in of_archive:
            key = row.pop(KEY, None)
            if key is None or row.get("audio_id") is not None:
                continue
            if "audio_id" in row or counts[key] > 1:
                row["audio_id"] = key if counts[key] == 1 else f"{first_stem(path.name)}/{key}"


def first_stem(name: str) -> str:
    """A path up to the first dot of its last part."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.split(".")[0])
