import io
import json
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
import soundfile

from modeling_atri.corpora.rows.bad_rows import BadRow, read_bad_rows, write_bad_rows
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.rows.schema import Row, UndecodedAudio
from modeling_atri.languages_atri import ATRI_LANGUAGES, resolve_languages
from tests.helpers.rows import make_row, sound, write_folder


def test_schema(tmp_path):
    rows = load_rows(write_folder(tmp_path / "data", [make_row("a"), make_row("b")]))
    assert rows.column_names == ["audio", "audio_id", "captions", "group_id"]
    assert list(Row.__annotations__) == ["audio", "audio_embedding", "audio_id", "captions", "group_id"]
    assert rows[0]["audio"].keys() == UndecodedAudio.__annotations__.keys()
    assert rows.features["audio"] == datasets.Audio(decode=False)
    assert rows[1] == {
        "audio": {"path": str(tmp_path / "data" / "b.wav"), "bytes": None},
        "audio_id": "b",
        "captions": {"eng_Latn": ["b one", "b two"], "fra_Latn": ["b un", "b deux"]},
        "group_id": "b",
    }


def test_language_keys_are_normalised_and_chosen(tmp_path):
    captions = {"en": ["a dog"], "French": ["un chien"], "zh": ["狗"]}
    folder = write_folder(tmp_path, [make_row("a", captions=captions)])
    assert load_rows(folder)[0]["captions"] == {"eng_Latn": ["a dog"], "fra_Latn": ["un chien"], "zho_Hans": ["狗"]}
    chosen = load_rows(folder, languages=["zh", "fra_Latn"])
    assert chosen[0]["captions"] == {"zho_Hans": ["狗"], "fra_Latn": ["un chien"]}
    assert list(chosen.features["captions"]) == ["zho_Hans", "fra_Latn"]


@pytest.mark.parametrize("languages", [None, "en-GB, br", ["no", "bre_Latn"], "hsb-Latn"])
def test_languages_as_people_write_them_and_outside_flores(tmp_path, languages):
    captions = {"en-US": ["a dog"], "br": ["ur c'hi"], "no": ["en hund"], "hsb_Latn": ["pos"]}
    rows = load_rows(write_folder(tmp_path, [make_row("a", captions=captions)]), languages=languages)
    by_code = dict(zip(["eng_Latn", "bre_Latn", "nob_Latn", "hsb_Latn"], captions.values(), strict=True))
    codes = by_code if languages is None else resolve_languages(languages)
    assert rows[0]["captions"] == {code: by_code[code] for code in codes}
    assert list(rows.features["captions"]) == list(codes)


def test_groups(tmp_path):
    folder = write_folder(tmp_path, [make_row("a", number=3, group_id="x"), make_row("b", number=3, group_id="y")])
    assert load_rows(folder)["group_id"][:] == ["x", "y"]
    assert load_rows(folder, group_column="number")["group_id"][:] == ["3", "3"]
    assert load_rows(folder, group_column="scene")["group_id"][:] == ["scene of a", "scene of b"]
    with pytest.raises(
        ValueError,
        match="line 1: the group `other` must be a string that is not empty, or a whole number, but is None",
    ):
        load_rows(folder, group_column="other")


def test_kinds_of_files(tmp_path):
    folder = write_folder(tmp_path / "data", [make_row("a"), make_row("b", audio_id="other")])
    expected = load_rows(folder).to_list()
    assert [row["audio_id"] for row in expected] == ["a", "other"]
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "rows.json").write_text(f"[{','.join(lines)}]", encoding="utf-8")
    absolute = make_row("a", file_name=str(folder / "a.wav"))
    (tmp_path / "absolute.jsonl").write_text("\ufeff" + json.dumps(absolute) + "\n\n", encoding="utf-8")
    assert load_rows(folder / "rows.json").to_list() == expected
    assert load_rows(str(folder / "metadata.jsonl")).to_list() == expected
    assert load_rows(tmp_path / "absolute.jsonl").to_list() == expected[:1]  # the folder is not part of the id
    assert load_rows(tmp_path, split="data").to_list() == expected


def test_datasets(tmp_path):
    folder = write_folder(tmp_path, [make_row("a"), make_row("b"), make_row("c")])
    rows = load_rows(folder, group_column="scene")
    assert load_rows(rows).to_list() == rows.to_list()
    assert load_rows(rows.select([2, 0])).to_list() == [rows[2], rows[0]]
    assert load_rows(datasets.DatasetDict(train=rows)).to_list() == rows.to_list()
    splits = datasets.DatasetDict(train=rows.select([0, 1]), dev=rows.select([2]))
    assert load_rows(splits, "dev").to_list() == [rows[2]]
    with pytest.raises(ValueError, match="splits train, dev: please name one"):
        load_rows(splits)
    with pytest.raises(ValueError, match="The column `audio` of the data set holds Value.'int64'., but rec"):
        load_rows(datasets.Dataset.from_dict({"audio": [3], "caption": ["a dog"]}))
    with pytest.raises(ValueError, match="no column captions; it has audio"):
        load_rows(rows.select_columns("audio"))


def test_a_dataset_with_bytes_and_one_with_paths(tmp_path):
    folder = write_folder(tmp_path, [make_row("a")])
    captions = [{"en": ["a dog"], "fr": ["un chien"]}] * 2
    audio = [{"path": "x.wav", "bytes": sound()}, {"path": None, "bytes": sound(9_600, rate=48_000)}]
    in_memory = datasets.Dataset.from_dict({"audio": audio, "captions": captions, "audio_id": [None, "y"]})
    assert load_rows(in_memory)["audio"][:] == audio
    assert load_rows(in_memory)["audio_id"][:] == ["x", "y"]
    paths = datasets.Dataset.from_dict({"audio": [str(folder / "a.wav")], "captions": captions[:1]})
    assert load_rows(paths)[0]["audio"] == {"path": str(folder / "a.wav"), "bytes": None}


def test_wrong_rows_are_reported_together(tmp_path):
    captions = make_row("a")["captions"]
    rows = [
        make_row("a"),
        "{not json",
        "[1, 2]",
        make_row("missing"),
        make_row("b", captions={"eng_Latn": ["b"]}),
        make_row("c", captions=captions | {"fra_Latn": ["only one"]}),
        make_row("d", captions=captions | {"frensh": ["x"]}),
        make_row("e", captions=captions | {"fra_Latn": ["x", "  "]}),
        make_row("f", captions=captions | {"fra_Latn": 7}),
        make_row("g", audio_id="a"),
        make_row("h", captions=None),
        make_row("i", file_name=None),
        make_row("j", captions=captions | {"fr": ["x", "y"]}),
    ]
    folder = write_folder(tmp_path, rows)
    with pytest.raises(ValueError) as error:
        load_rows(folder)
    message = str(error.value)
    assert "metadata.jsonl: 12 wrong rows, 12 problems" in message
    for part in (
        "line 2: this is not JSON (Expecting property name",
        "line 3: a row must be a JSON object, but this is a list",
        f"line 4: there is no file '{folder / 'missing.wav'}'",
        "line 5: captions are missing in fra_Latn",
        "line 6: the languages have different numbers of captions: 2 in eng_Latn, 1 in fra_Latn. The first caption",
        "line 7: Unknown language 'frensh'. Did you mean fra_Latn",
        "line 8: caption 1 in fra_Latn is empty",
        "line 9: the captions in fra_Latn must be a string or a list of strings, but are 7",
        "line 10: the `audio_id` 'a' is that of line 1 already",
        "line 11: `captions` must be lists of strings by language, but is None",
        "line 12: it names no recording",
        "line 13: the captions in fra_Latn are there twice, as `fra_Latn` and as `fr`: leave one of them out",
    ):
        assert part in message
    assert "line 1:" not in message


# Name, content, and what is said of it.
FAULTY_FILES = [
    ("empty.wav", b"", "Cannot decode '{path}': (the file is empty|Format not recognised)"),
    ("text.wav", b"not a sound\n" * 20, "Cannot decode '{path}': "),
    ("header.wav", sound(0), "Cannot use '{path}': it holds no samples"),
    (
        "short.wav",
        sound(1_000),
        r"Cannot use '{path}': it is too short \(1000 samples at 16000 Hz\). .* \(0.15 s\). Leave it out, or pad",
    ),
    ("short48.wav", sound(7_100, rate=48_000), r"Cannot use '{path}': it is too short \(2367 samples"),
    ("cut.wav", sound(10_000)[:-5_000], "Cannot use '{path}': the file is truncated"),
]


@pytest.mark.parametrize("embedded", [False, True])
def test_recordings_that_cannot_be_used_are_wrong_rows(tmp_path, embedded):
    rows = [make_row("good"), *(make_row(name, file_name=name) for name, _, _ in FAULTY_FILES)]
    write_folder(tmp_path, rows)
    for name, content, _ in FAULTY_FILES:
        (tmp_path / name).write_bytes(content)
    source = tmp_path
    if embedded:
        audio = [{"path": row["file_name"], "bytes": (tmp_path / row["file_name"]).read_bytes()} for row in rows]
        source = datasets.Dataset.from_dict({"audio": audio, "captions": [row["captions"] for row in rows]})
    with pytest.raises(ValueError, match="6 wrong rows, 6 problems") as error:
        load_rows(source)
    _, *lines = str(error.value).splitlines()
    for index, (line, (name, _, message)) in enumerate(zip(lines, FAULTY_FILES, strict=True), start=1):
        place = f"row {index}" if embedded else f"line {index + 1}"
        path = name if embedded else str(tmp_path / name)
        assert re.match(f"  {place}: {message.format(path=re.escape(path))}", line), line


def audio_ids(folder: Path, *rows: dict) -> list[str]:
    return load_rows(write_folder(folder, list(rows)))["audio_id"][:]


def test_audio_ids_are_file_names(tmp_path):
    names = ["a/1.wav", "b/1.wav", "1.wav", "./2.5.wav", "2.6.wav"]
    rows = [make_row("x", file_name=name) for name in names]
    assert audio_ids(tmp_path, *rows) == ["a/1", "b/1", "1", "2.5", "2.6"]
    twins = [make_row("x", file_name=name) for name in ("c/1.wav", "c/1.flac", "c/2.wav")]
    assert audio_ids(tmp_path, *twins) == ["c/1.wav", "c/1.flac", "c/2"]
    rows = load_rows(tmp_path)
    assert rows["group_id"][:] == rows["audio_id"][:]


def test_audio_ids_of_absolute_paths_do_not_tell_where_they_lie(tmp_path):
    for name in ("data/a/1.wav", "data/b/1.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(sound())
    paths = [str(tmp_path / "data" / name) for name in ("a/1.wav", "b/1.wav")]
    dataset = datasets.Dataset.from_dict({"audio": paths, "captions": [{"en": ["a dog"]}] * 2})
    assert load_rows(dataset)["audio_id"][:] == ["a/1", "b/1"]
    assert audio_ids(tmp_path, *(make_row("x", file_name=path) for path in paths)) == ["a/1", "b/1"]


def test_audio_ids_may_be_numbers(tmp_path):
    assert audio_ids(tmp_path, make_row("a", audio_id=7), make_row("b", audio_id=0)) == ["7", "0"]
    dataset = datasets.Dataset.from_dict(
        {"audio": [str(tmp_path / "a.wav")], "captions": [{"en": ["a dog"]}], "audio_id": [3]}
    )
    assert load_rows(dataset)["audio_id"][:] == ["3"]


@pytest.mark.parametrize("second", [{"audio_id": "a"}, {"file_name": "a.wav"}, {"file_name": "./a.wav"}])
def test_an_audio_id_that_is_there_twice(tmp_path, second):
    advice = "please give every row its own, or make them one row if they are one recording"
    with pytest.raises(ValueError, match=f"line 2: the `audio_id` 'a' is that of line 1 already: {advice}"):
        load_rows(write_folder(tmp_path, [make_row("a"), make_row("b", **second)]))


def test_the_first_20_problems_are_shown(tmp_path):
    with pytest.raises(ValueError, match="30 wrong rows, 30 problems") as error:
        load_rows(write_folder(tmp_path, [make_row(f"missing{index}") for index in range(30)]))
    assert str(error.value).count("there is no file") == 20
    assert str(error.value).endswith("... and 10 more")


def test_wrong_rows_of_a_dataset(tmp_path):
    rows = load_rows(write_folder(tmp_path, [make_row("a"), make_row("b")]))
    (tmp_path / "b.wav").unlink()
    with pytest.raises(ValueError, match=r"the data set: 1 wrong row, 1 problem:\n  row 1: there is no file"):
        load_rows(rows)


@pytest.mark.parametrize("left_out", [None, []])
def test_a_language_that_every_row_lacks_is_one_problem(tmp_path, left_out):
    folder = write_folder(tmp_path, [make_row(name) for name in "abc"])
    message = (
        r"3 wrong rows, 1 problem:\n  every row: captions are missing in deu_Latn, nld_Latn; leave the language out, "
        r"because captions are in eng_Latn, fra_Latn$"
    )
    with pytest.raises(ValueError, match=message):
        load_rows(folder, languages=["en", "de", "nl"], left_out=left_out)


def test_wrong_rows_are_left_out_where_there_is_a_list_for_them(tmp_path, caplog):
    captions = make_row("a")["captions"]
    rows = [
        make_row("missing1"),
        "{not json",
        make_row("a"),
        make_row("b", captions=captions | {"fra_Latn": ["", "x"]}, file_name="missing2.wav"),
        make_row("b", captions={"eng_Latn": ["b"]}),
        make_row("b", captions=captions),
        make_row("c", file_name="c.flac"),
        make_row("missing", file_name="missing/c.wav"),  # of one name with the last
        make_row("c", audio_id="a"),
    ]
    folder = write_folder(tmp_path, rows)
    left_out = []
    kept = load_rows(folder, left_out=left_out)
    # The ids are those of a data set that never had the wrong rows.
    assert [row["audio_id"] for row in kept] == ["a", "b", "c"]
    assert [row["audio"]["path"] for row in kept] == [str(folder / name) for name in ("a.wav", "b.wav", "c.flac")]
    assert [row[:3] for row in left_out] == [
        ("line 1", "missing1.wav", "missing recording"),
        ("line 2", None, "wrong line"),
        ("line 4", "missing2.wav", "missing recording"),
        ("line 5", "b.wav", "missing language"),
        ("line 8", "missing/c.wav", "missing recording"),
        ("line 9", "a", "duplicate id"),
    ]
    assert left_out[2].reason == f"there is no file '{folder / 'missing2.wav'}'; caption 0 in fra_Latn is empty"
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{folder / 'metadata.jsonl'}: 6 of 9 rows (67%!) are left out: 3 missing recordings (line 1, missing1.wav, "
        "...), 1 duplicate id (line 9, a), 1 missing language (line 5, b.wav), 1 wrong line (line 2)."
    )


def test_the_first_of_two_rows_with_one_id_may_be_the_wrong_one(tmp_path):
    folder = write_folder(tmp_path, [make_row("missing", audio_id="x"), make_row("a", audio_id="x"), make_row("b")])
    left_out = []
    assert load_rows(folder, left_out=left_out)["audio_id"][:] == ["x", "b"]
    assert left_out == [BadRow("line 1", "x", "missing recording", f"there is no file '{folder / 'missing.wav'}'")]


def test_wrong_rows_of_a_dataset_with_embedded_sounds_are_left_out():
    audio = [{"path": name, "bytes": content} for name, content in (("a", sound()), ("b", b""), ("c", sound(3_000)))]
    captions = [{"en": [f"{number} a"], "fr": [f"{number} un"]} for number in range(3)]
    dataset = datasets.Dataset.from_dict({"audio": audio, "captions": captions})
    left_out = []
    rows = load_rows(dataset, left_out=left_out)
    assert rows.to_list() == load_rows(dataset.select([0, 2])).to_list()
    assert [row[:3] for row in left_out] == [("row 1", "b", "unreadable recording")]


def test_no_row_is_left(tmp_path):
    folder = write_folder(tmp_path, [make_row("missing1"), make_row("missing2")])
    with pytest.raises(
        ValueError, match=r"has no row that can be used: 2 wrong rows, 2 problems:\n  line 1: there is"
    ):
        load_rows(folder, left_out=[])


@pytest.mark.parametrize(
    "source, arguments, message",
    [
        ("data", {"split": "dev"}, r"no file '.*metadata\.jsonl'\. The splits are train: please choose one"),
        ("data", {}, "The splits are train"),
        ("data/train", {"languages": []}, "at least one language"),
        ("data/train", {"languages": ["fr", "fra_Latn"]}, "none twice"),
        ("data/train/a.wav", {}, r"\.jsonl or \.json files"),
        ("data/train/metadata.jsonl", {"split": "train"}, "A file has no splits"),
        ("empty.jsonl", {}, "holds no rows"),
        ("object.json", {}, "must hold a list of rows, but holds a dict"),
        ("broken.json", {}, "is not JSON"),
    ],
)
def test_wrong_sources(tmp_path, source, arguments, message):
    write_folder(tmp_path / "data" / "train", [make_row("a")])
    for name, content in (("empty.jsonl", "\n"), ("object.json", "{}"), ("broken.json", "[")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_rows(tmp_path / source, **arguments)


@pytest.mark.heavy
def test_real_recordings(shared_dir):
    for split, num_rows, num_groups in (("train", 1500, 190), ("dev", 190, 190)):
        rows = load_rows(shared_dir / "esc10", split, languages=ATRI_LANGUAGES, group_column="triple")
        assert len(rows) == num_rows
        assert len(set(rows["group_id"])) == num_groups
        assert all(len(texts) == 5 for texts in rows[0]["captions"].values())
        assert list(rows.features["captions"]) == list(ATRI_LANGUAGES)


@pytest.mark.parametrize("format", ["OGG", "MP3", "FLAC", "WAV"])
def test_embedded_files_of_any_format(format):
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(scale=0.1, size=16_000), 16_000, format=format)
    row = {"audio": {"bytes": file.getvalue(), "path": None}, "audio_id": "a", "captions": {"eng_Latn": ["x"]}}
    audio = datasets.Features({"bytes": datasets.Value("binary"), "path": datasets.Value("string")})
    rows = datasets.Dataset.from_list([row]).cast_column("audio", audio)
    assert len(load_rows(rows)) == 1


def text_row(audio_id: str, caption: str = "x") -> str:
    """A line for `a.wav`, as it is written, with its escapes."""
    return f'{{"file_name": "a.wav", "audio_id": "{audio_id}", "captions": {{"eng_Latn": ["{caption}"]}}}}'


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        (text_row("q", "\\ud800 a"), "wrong captions", "caption 0 in eng_Latn is no valid Unicode, but '\\ud800 a'"),
        (text_row("\\ud800"), "wrong id", "`audio_id` is no valid Unicode, but '\\ud800'"),
        (text_row("q", "y")[:-1] + ', "group_id": "\\udfff"}', "wrong id", "the group `group_id`"),
        (text_row("q").replace("a.wav", "\\ud800.wav"), "missing recording", "there is no file"),
        (text_row("q").replace("a.wav", "x" * 300 + ".wav"), "missing recording", "File name too long"),
        (text_row("q").replace("a.wav", "a\\u0000.wav"), "missing recording", "there is no file"),
        ("[" * 100_000, "wrong line", "this is not JSON (maximum recursion depth exceeded"),
    ],
)
def test_one_bad_line_costs_no_other(tmp_path, line, kind, reason):
    good = {"file_name": "a.wav", "captions": {"eng_Latn": ["a dog"]}}
    folder = write_folder(tmp_path, [good, line])
    left_out = []
    assert load_rows(folder, left_out=left_out)["audio_id"][:] == ["a"]
    (bad,) = left_out
    assert (bad.place, bad.kind) == ("line 2", kind)
    assert reason in bad.reason
    write_bad_rows(tmp_path / "left_out.jsonl", left_out)
    assert read_bad_rows(tmp_path / "left_out.jsonl") == left_out
    with pytest.raises(ValueError, match="line 2: "):
        load_rows(folder)


def test_a_file_of_nothing_but_brackets(tmp_path):
    (tmp_path / "rows.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ValueError, match="rows.json' is not JSON"):
        load_rows(tmp_path / "rows.json")
