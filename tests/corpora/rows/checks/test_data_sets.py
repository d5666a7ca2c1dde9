"""Data sets with recordings are checked in columns as they would be row by row."""

import json
import logging
import random

import datasets
import pyarrow as pa
import pytest

from modeling_atri.corpora.rows.kept.facts import facts_of
from modeling_atri.corpora.rows.load import check_rows, load_rows
from modeling_atri.corpora.sources.raw_rows import row_table
from tests.helpers.rows import make_row, sound, write_folder
from tests.helpers.slow_rows import check_data_set_slowly, random_row, write_sounds


def random_data_set(seed, folder):
    rng = random.Random(seed)
    odd = rng.choice([0, 0.02, 0.1, 0.3])
    rows = [random_row(rng, odd, number) for number in range(rng.randint(1, 12))]
    holds_contents, sounds = rng.random() < 0.4, []
    for row in rows:
        name = row.pop("file_name")
        name = name.replace("\ud800", "?") if isinstance(name, str) and name else None
        path = None if name is None else name if "://" in name else str(folder / name)
        content = None
        if holds_contents and rng.random() < 0.7:
            content, path = sound(rng.choice([2400, 2500, 10])), rng.choice([name, None])
        sounds.append({"bytes": content, "path": path})
    texts = json.loads(json.dumps(rows).replace("\\ud800", "?"))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = row_table(texts).append_column("audio", pa.array(sounds, kind))
    data = datasets.Dataset(table).cast_column("audio", datasets.Audio(decode=False))
    return data.select(rng.sample(range(len(data)), len(data))) if rng.random() < 0.3 else data


def outcome(check):
    try:
        return check()
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("languages", [None, ["eng_Latn", "fra_Latn"], ["fra_Latn"]])
def test_rows_in_columns_equal_rows_one_by_one(languages, tmp_path):
    logging.disable(logging.WARNING)
    write_sounds(tmp_path)
    for seed in range(20):
        data, skip = random_data_set(seed, tmp_path), seed % 3 > 0
        left_out = [] if skip else None
        expected = outcome(lambda data=data, skip=skip: check_data_set_slowly(data, languages, skip))
        found = outcome(lambda data=data, left_out=left_out: load_rows(data, languages=languages, left_out=left_out))
        if not isinstance(found, str):
            found = found.to_list(), left_out or []
        elif found.startswith("The data set has no column"):
            continue  # no row has captions
        assert found == expected, seed
    logging.disable(logging.NOTSET)


class LookupOfOthers:
    """A transform of a user that changes what rows hold."""

    def __call__(self, rows):
        return {name: values[::-1] for name, values in rows.items()}


def test_facts_are_those_of_the_rows_that_are_kept(tmp_path):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b"), make_row("c")])
    (folder / "a.wav").write_bytes(sound(100))
    (folder / "c.wav").write_bytes(sound(4_800))
    data = datasets.Dataset.from_list(
        [{"audio": str(folder / f"{name}.wav"), "captions": make_row(name)["captions"]} for name in "abc"]
    )
    left_out = []
    rows = load_rows(data, left_out=left_out)
    assert (rows["audio_id"], len(left_out)) == (["b", "c"], 1)
    assert facts_of(rows).states[:, 2].tolist() == [2_400, 4_800]
    assert check_rows(rows, ["en", "fr"]) is rows
    rows.set_format("numpy")
    assert facts_of(rows) is None
    rows.set_transform(LookupOfOthers())
    assert facts_of(rows) is None
