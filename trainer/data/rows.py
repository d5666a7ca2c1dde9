"""The row schema of training and evaluation data, and the one function that reads it from wherever it is.

A row is one recording with its parallel captions:
    audio      `{"path": str | None, "bytes": bytes | None}`, undecoded: `datasets.Audio(decode=False)`
    audio_id   `str`, unique
    captions   `{language: list[str]}` by FLORES-200 code; `captions[l][c]` says the same in every language l
    group_id   `str`; rows of equal group are positives of one another
On disk a data set is a folder of sound files beside a `metadata.jsonl`; its lines hold `file_name` and not `audio`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets

from modeling_atri.languages_atri import resolve_language


METADATA_FILE = "metadata.jsonl"
MAX_PROBLEMS_SHOWN = 20


def load_rows(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
) -> datasets.Dataset:
    """Reads and checks rows; recordings stay where they are, undecoded.

    Args:
        source: a folder that holds `metadata.jsonl` (or whose subfolder `split` does), a `.jsonl` or `.json` file of
            the same rows, a `datasets.Dataset` or `DatasetDict`, or the id of a data set on the Hub (`"owner/name"`).
            `file_name` (or `audio`, if it is a string) is relative to the folder of the file it stands in.
        split (`str`, *optional*): which split. Needed where there are several.
        languages (*optional*): the languages that every row must have, in any writing that `resolve_language` takes;
            others are left out. By default those of the first row.
        group_column (`str`, *optional*): the column whose values say which rows describe the same sound. By default
            `group_id` where a row has it, else every row is its own group.

    Returns:
        `datasets.Dataset` with exactly the columns `audio`, `audio_id`, `captions` and `group_id` as the module's
        docstring describes them. `audio_id` defaults to the stem of the file's name.

    Raises:
        ValueError: if the source is not found or not understood, or any row is wrong. Wrong rows are reported
            together: the first 20 problems, each with its line number, and how many there are.
    """
    codes = None if languages is None else [resolve_language(language) for language in languages]
    if codes is not None and (not codes or len(set(codes)) < len(codes)):
        raise ValueError(f"`languages` must name at least one language and none twice, but is {list(languages)}.")
    checker = _RowChecker(codes, group_column)
    if isinstance(source, (str, Path)) and Path(source).exists():
        return _load_file(_metadata_file(Path(source), split), checker)
    if isinstance(source, (str, Path)):
        source = _load_from_hub(str(source))
    return _load_dataset(_pick_split(source, split), checker)


def validate_rows(
    source: str | Path | datasets.Dataset | datasets.DatasetDict,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
) -> int:
    """Checks a data set as `load_rows` does, with the same arguments and errors; returns how many rows it has."""
    return len(load_rows(source, split, languages=languages, group_column=group_column))


def _load_file(path: Path, checker: "_RowChecker") -> datasets.Dataset:
    paths = []
    for place, row in _read_json(path, checker):
        name = row.get("file_name", row.get("audio"))
        audio_path = str(path.parent / name) if isinstance(name, str) and name else None
        checker.check(place, row, audio_path, has_bytes=False)
        paths.append(audio_path)
    columns = checker.finish(str(path))
    return datasets.Dataset.from_dict({"audio": paths} | columns).cast_column("audio", datasets.Audio(decode=False))


def _metadata_file(path: Path, split: str | None) -> Path:
    if path.is_file():
        if path.suffix not in (".json", ".jsonl"):
            raise ValueError(f"Rows are read from folders and .jsonl or .json files, but {str(path)!r} is neither.")
        if split is not None:
            raise ValueError(
                f"A file has no splits, but `split` is {split!r}: please name the folder, or leave it out."
            )
        return path
    file = path / (split or "") / METADATA_FILE
    if file.is_file():
        return file
    splits = sorted(candidate.parent.name for candidate in path.glob(f"*/{METADATA_FILE}"))
    hint = f" The splits there are {', '.join(splits)}: please name one as `split`." if splits else ""
    raise ValueError(f"There is no file {str(file)!r}.{hint}")


def _read_json(path: Path, checker: "_RowChecker") -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows that can be read, each with its place in the file."""
    for place, row in _json_lines(path, checker) if path.suffix == ".jsonl" else _json_items(path):
        if isinstance(row, dict):
            yield place, row
        else:
            checker.report(place, [f"a row must be a JSON object, but this is a {type(row).__name__}"])


def _json_lines(path: Path, checker: "_RowChecker") -> Iterator[tuple[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:  # wrong JSON or wrong UTF-8
                checker.report(f"line {number}", [f"this is not JSON ({error})"])
            else:
                yield f"line {number}", row


def _json_items(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON: {error}. (JSON Lines end in .jsonl.)") from error
    if not isinstance(rows, list):
        raise ValueError(f"{str(path)!r} must hold a list of rows, but holds a {type(rows).__name__}.")
    return ((f"item {index}", row) for index, row in enumerate(rows))


def _load_from_hub(name: str) -> datasets.DatasetDict:
    try:
        return datasets.load_dataset(name)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(
            f"{name!r} is neither an existing file or folder, nor a data set that can be reached on the Hub ({error})."
        ) from error


def _pick_split(source: datasets.Dataset | datasets.DatasetDict, split: str | None) -> datasets.Dataset:
    if isinstance(source, datasets.Dataset):
        if split is not None:
            raise ValueError(f"A `datasets.Dataset` has no splits, but `split` is {split!r}: please leave it out.")
        return source
    if not isinstance(source, datasets.DatasetDict):
        raise ValueError(
            "Rows are read from a path, the id of a data set on the Hub, a `datasets.Dataset` or a `DatasetDict`, but "
            f"this is a {type(source).__name__}."
        )
    if split is None and len(source) == 1:
        return next(iter(source.values()))
    if split not in source:
        raise ValueError(
            f"The data set has the splits {', '.join(source)}: please name one as `split` (got {split!r})."
        )
    return source[split]


def _load_dataset(dataset: datasets.Dataset, checker: "_RowChecker") -> datasets.Dataset:
    missing = [column for column in ("audio", "captions") if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"The data set has no column {' and no column '.join(missing)}; it has {', '.join(dataset.column_names)}. "
            "Please rename its columns (`dataset.rename_column`)."
        )
    audio = dataset.select_columns("audio").cast_column("audio", datasets.Audio(decode=False))
    read_columns = {"captions", "audio_id", "group_id", checker.group_column} & set(dataset.column_names)
    rows = dataset.select_columns(sorted(read_columns))
    for index, (row, (path, has_bytes)) in enumerate(zip(rows, _audio_sources(audio), strict=True)):
        checker.check(f"row {index}", row, path, has_bytes)
    columns = datasets.Dataset.from_dict(checker.finish("the data set"))
    return datasets.concatenate_datasets([audio, columns], axis=1)


def _audio_sources(audio: datasets.Dataset) -> Iterator[tuple[str | None, bool]]:
    """Path and presence of bytes, row by row; the bytes themselves are not touched."""
    for table in audio.with_format("arrow").iter(batch_size=1_000):
        column = table["audio"].combine_chunks()
        yield from zip(column.field("path").to_pylist(), column.field("bytes").is_valid().to_pylist(), strict=True)


class _RowChecker:
    """Collects the columns of rows that are right and the problems of those that are wrong."""

    def __init__(self, languages: list[str] | None, group_column: str | None) -> None:
        self.languages = languages
        self.group_column = group_column
        self._columns: dict[str, list] = {"audio_id": [], "captions": [], "group_id": []}
        self._place_of_id: dict[str, str] = {}
        self._problems: list[str] = []
        self._num_wrong_rows = 0

    def check(self, place: str, row: dict[str, Any], path: str | None, has_bytes: bool) -> None:
        problems: list[str] = []
        _check_audio(path, has_bytes, problems)
        audio_id = self._audio_id(place, row, path, problems)
        captions = _resolve_captions(row.get("captions"), problems)
        if self.languages is None and captions:
            self.languages = list(captions)
        captions = _check_captions(captions, self.languages or [], problems)
        group_id = self._group_id(row, audio_id, problems)
        self.report(place, problems)
        for column, value in (("audio_id", audio_id), ("captions", captions), ("group_id", group_id)):
            self._columns[column].append(value)

    def report(self, place: str, problems: list[str]) -> None:
        self._num_wrong_rows += bool(problems)
        self._problems.extend(f"{place}: {problem}" for problem in problems)

    def finish(self, name: str) -> dict[str, list]:
        """The columns; or one error with all that is wrong."""
        if self._problems:
            shown = self._problems[:MAX_PROBLEMS_SHOWN]
            more = f"\n  ... and {len(self._problems) - len(shown)} more" if len(self._problems) > len(shown) else ""
            raise ValueError(
                f"{name}: {self._num_wrong_rows} wrong rows, {len(self._problems)} problems:\n  "
                + "\n  ".join(shown)
                + more
            )
        if not self._columns["audio_id"]:
            raise ValueError(f"{name} holds no rows.")
        return self._columns

    def _audio_id(self, place: str, row: dict[str, Any], path: str | None, problems: list[str]) -> str | None:
        audio_id = row.get("audio_id")
        if audio_id is None and path:
            audio_id = Path(path).stem
        if not isinstance(audio_id, str) or not audio_id:
            problems.append(f"`audio_id` must be a string that is not empty, but is {audio_id!r}")
            return None
        first_place = self._place_of_id.setdefault(audio_id, place)
        if first_place != place:
            problems.append(f"the `audio_id` {audio_id!r} is that of {first_place} already")
        return audio_id

    def _group_id(self, row: dict[str, Any], audio_id: str | None, problems: list[str]) -> str | None:
        group_id = row.get(self.group_column or "group_id")
        if group_id is None and self.group_column is None:
            return audio_id
        if not isinstance(group_id, (str, int)) or group_id == "":
            problems.append(
                f"the group `{self.group_column or 'group_id'}` must be a string or number, but is {group_id!r}"
            )
            return None
        return str(group_id)


def _check_audio(path: str | None, has_bytes: bool, problems: list[str]) -> None:
    if has_bytes:
        return
    if not path:
        problems.append("it names no recording (`file_name` beside the metadata, or `audio`)")
    elif not Path(path).is_file():
        problems.append(f"there is no file {path!r}")


def _resolve_captions(captions: Any, problems: list[str]) -> dict[str, Any]:
    """Captions by FLORES-200 code. What a data set of other rows lacks is None there: left out."""
    if not isinstance(captions, dict):
        problems.append(f"`captions` must be lists of strings by language, but is {captions!r}")
        return {}
    resolved: dict[str, Any] = {}
    for name, texts in captions.items():
        if texts is None:
            continue
        try:
            code = resolve_language(name)
        except ValueError as error:
            problems.append(str(error))
            continue
        if code in resolved:
            problems.append(f"the language {code} is there twice")
        resolved[code] = texts
    return resolved


def _check_captions(captions: dict[str, Any], languages: list[str], problems: list[str]) -> dict[str, list[str]]:
    missing = [language for language in languages if language not in captions]
    if missing:
        problems.append(f"captions are missing in {', '.join(missing)}")
    lengths = {}
    for language in languages:
        texts = captions.get(language, [""])
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            problems.append(
                f"the captions in {language} must be a list of strings that is not empty, but are {texts!r}"
            )
        elif language in captions:
            lengths[language] = len(texts)
            problems.extend(
                f"caption {index} in {language} is empty" for index, text in enumerate(texts) if not text.strip()
            )
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{language} {length}" for language, length in lengths.items())
        problems.append(f"captions are parallel, so every language must have as many; there are: {counts}")
    return {language: captions.get(language) for language in languages}


__all__ = ["METADATA_FILE", "load_rows", "validate_rows"]
