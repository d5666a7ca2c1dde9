"""Rows checked one by one, the reference of the checks in columns, and random rows with faults of every kind."""

import json
import random
from pathlib import Path

from modeling_atri.corpora.rows.captions import caption_columns
from modeling_atri.corpora.rows.checks.row_checker import VECTOR_COLUMNS, RowChecker
from modeling_atri.corpora.rows.recordings import audio_sources, is_url
from modeling_atri.corpora.sources.audio_column import audio_alone, audio_name, find_audio_column
from modeling_atri.corpora.sources.metadata import read_file_rows
from tests.helpers.rows import sound


SOUNDS = ["a.wav", "b.wav", "b.flac", "sub/c.wav", "sub/d.e.wav", "x y.wav", ".hid.wav", "n\u0303.wav"]
NAMES = [
    *SOUNDS,
    *("./a.wav", "sub//c.wav", "sub\\c.wav", "\u00f1.wav", "short.wav", "bad.wav", "none.wav", "", "http://x/y.wav"),
    *(None, 5, "sub", "\ud800.wav"),
]
TEXTS = [
    *("a dog", "R&B", "a &amp; b", " x ", "", "  ", "雨", "a\tb", None, "[1]", '["a"]', "x\u00a0y", "2020-01-01"),
    *(5, "\ud800", "{x}", "\u200b"),
]
IDS = [5, "", None, "e\u0301", "\u00e9", True, 2.5, [1], "2020-01-01", "x"]
LINES = ["", "not json", "[1]", '{"a":1}{"b":2}', '{"file_name":"a.wav","file_name":"b.wav","captions":{"en":"x"}}']


def write_sounds(folder: Path) -> None:
    for name in SOUNDS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(sound())
    (folder / "short.wav").write_bytes(sound(100))
    (folder / "bad.wav").write_bytes(b"no sound")


def random_row(rng: random.Random, odd: float, number: int) -> dict:
    """A row, of whose values a share `odd` are of other kinds."""

    def text() -> object:
        return rng.choice(TEXTS) if rng.random() < odd else f"text {rng.randint(0, 9)}"

    def captions() -> object:
        if rng.random() < odd / 3:
            return rng.choice([[], None, 5, {"a": 1}, [["x"]]])
        return text() if rng.random() < 0.1 else [text() for _ in range(rng.choice([1, 2, 2, 2]))]

    row: dict = {"file_name": rng.choice(NAMES) if rng.random() < odd else f"{rng.choice('ab')}.wav"}
    row |= {"audio_id": rng.choice(IDS) if rng.random() < odd else f"id {number}"} if rng.random() < 0.7 else {}
    row |= {"group_id": rng.choice(IDS) if rng.random() < odd else "g"} if rng.random() < 0.4 else {}
    style = rng.choice(["captions", "captions", "columns", "numbered"])
    if style == "columns":
        return row | {"caption_en": text(), "caption_fr": text()}
    if style == "numbered":
        return row | {f"caption_{code}_{index}": text() for code in ("en", "fr") for index in (1, 2)}
    languages = ["eng_Latn", "fra_Latn", *(["deu_Latn"] if rng.random() < odd else [])]
    if rng.random() < odd / 3:
        languages = rng.choice([["en", "fr"], ["en", "eng_Latn", "fra_Latn"], ["eng_Latn"], ["zzz", "fr"], []])
    return row | {"captions": {code: captions() for code in languages}}


def random_lines(seed: int) -> str:
    """The content of a `metadata.jsonl`."""
    rng = random.Random(seed)
    odd = rng.choice([0, 0.02, 0.1, 0.3])
    lines = [json.dumps(random_row(rng, odd, number)) for number in range(rng.randint(1, 12))]
    if rng.random() < odd:
        lines.insert(rng.randint(0, len(lines)), rng.choice(LINES))
    return "\n".join(lines) + rng.choice(["", "\n"])


def check_file_slowly(path: Path, languages, group_column, skip: bool):
    """The rows of a file, and those that are left out."""
    checker = RowChecker(languages, group_column)
    for place, row, problem in read_file_rows(path):
        name = audio_name(row)
        if problem is not None:
            checker.report_line(place, problem)
        elif name is None:
            checker.check(place, row, None)
        else:
            checker.check(place, row, name if is_url(name) else str(path.parent / name), name)
    kept, bad_rows = checker.finish(str(path), skip)
    columns = checker.columns(kept) | {"audio": [{"bytes": None, "path": row.path} for row in kept]}
    for name in VECTOR_COLUMNS:
        if any(name in row.vectors for row in kept):
            columns[name] = [row.vectors.get(name) for row in kept]
    return _rows(columns), bad_rows


def check_data_set_slowly(rows, languages, skip: bool):
    """The rows of a `datasets.Dataset`, and those that are left out."""
    checker = RowChecker(languages, None)
    names = rows.column_names
    found = caption_columns(tuple(names), None if languages is None else tuple(languages)).values()
    captions = {"captions"} & set(names) or {column for columns in found for column in columns}
    audio = audio_alone(rows, find_audio_column(rows.features))
    texts = rows.select_columns([name for name in names if name in {"audio_id", "group_id", *captions}])
    for number, (row, source) in enumerate(zip(texts, audio_sources(audio), strict=True)):
        checker.check(f"row {number}", row, source)
    kept, bad_rows = checker.finish("the data set", skip)
    contents = [(audio[row.number]["audio"] or {}).get("bytes") for row in kept]
    paths = [row.name if row.path is None else row.path for row in kept]
    sounds = [{"bytes": content, "path": path} for content, path in zip(contents, paths, strict=True)]
    return _rows(checker.columns(kept) | {"audio": sounds}), bad_rows


def _rows(columns: dict) -> list[dict]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
