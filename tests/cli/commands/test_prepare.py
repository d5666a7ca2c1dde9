"""`atri prepare`, from files as people have them to a model that was trained on them."""

import dataclasses
import json
import re
import shlex

import pytest

from modeling_atri.cli.commands.prepare.kinds import TASKS, parse
from modeling_atri.cli.main import main
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.files import write_json_lines
from tests.helpers import sources
from tests.helpers.corpora import write_audiocaps, write_clotho, write_items, write_sound, youtube_id


@pytest.fixture
def audiocaps(tmp_path):
    """Six clips, two of which are missing, with captions in English and Japanese, one of which is missing."""
    ids = [youtube_id(number) for number in range(6)]
    rows = [(10 * clip + number, ids[clip], 30, f"{clip} {number}") for clip in range(6) for number in range(5)]
    write_audiocaps(tmp_path / "test.csv", rows)
    write_audiocaps(tmp_path / "ja" / "test.csv", [(*row[:3], f"音 {row[3]}") for row in rows if row[0] != 12])
    for number, name in enumerate(ids[:4]):
        write_sound(tmp_path / "clips" / f"Y{name}.wav", seed=number, seconds=3.0)
    return tmp_path


def run(*argv) -> int:
    return main(["prepare", *map(str, argv)])


def prepare_audiocaps(folder) -> int:
    captions = [f"en={folder / 'test.csv'}", f"ja={folder / 'ja' / 'test.csv'}"]
    return run("audiocaps", "--captions", *captions, "--audio", folder / "clips", "--output", folder / "data" / "test")


def test_audiocaps_in_two_languages(audiocaps, capsys):
    assert prepare_audiocaps(audiocaps) == 0
    data = audiocaps / "data" / "test"
    assert capsys.readouterr().out.splitlines() == [
        f"AudioCaps: 4 clips, 0.00 hours, in {data}",
        "",
        "language  captions",
        "eng_Latn        19",
        "jpn_Jpan        19",
        "",
        "clips by their number of captions in a language: 1 with 4, 3 with 5",
        "",
        "left out           clips",
        "missing recording      2",
        f"They are listed in {data / 'left_out.jsonl'}.",
        "",
        "left out          captions",
        "missing language         1",
        f"They are listed in {data / 'lost_captions.jsonl'}.",
        "",
        f"This report is in {data / 'report.json'}.",
    ]
    rows = load_rows(audiocaps / "data", "test")
    assert rows[1]["captions"]["jpn_Jpan"] == ["音 1 0", "音 1 1", "音 1 3", "音 1 4"]
    missing = [json.loads(line)["audio_id"] for line in (data / "left_out.jsonl").read_text("utf-8").splitlines()]
    assert missing == [f"{youtube_id(4)}_30", f"{youtube_id(5)}_30"]


def test_the_other_corpora(tmp_path):
    write_sound(tmp_path / "wav" / "A b.wav")
    write_sound(tmp_path / "flac" / "12.flac")
    clotho = write_clotho(tmp_path / "clotho.csv", {"A b.wav": list("abcde")})
    wavcaps = write_items(tmp_path / "fsd.json", [{"id": "12", "caption": "a", "duration": 0.5}])
    item = {"wav": "Clotho/A b.wav", "caption_1": "a", "caption_2": "A", "source_lang_2": "fra_Latn"}
    mlclap = write_items(tmp_path / "mlclap.json", [item])
    for kind, output, *options in (
        ("clotho", "1", "--captions", f"en={clotho}", "--audio", tmp_path / "wav"),
        ("wavcaps", "2", "--captions", f"en={wavcaps}", "--subset", "freesound", "--audio", tmp_path / "flac"),
        ("mlclap", "3", "--captions", mlclap, "--audio", tmp_path / "wav", "--copy_audio"),
        ("mlclap", "4", "--captions", mlclap, "--audio", tmp_path / "wav", "--languages", "fr"),
    ):
        assert run(kind, *options, "--output", tmp_path / "data" / output) == 0
    assert load_rows(tmp_path / "data", "1")[0]["captions"] == {"eng_Latn": list("abcde")}
    assert load_rows(tmp_path / "data", "2")[0]["audio_id"] == "12"
    assert load_rows(tmp_path / "data", "3")[0]["captions"] == {"eng_Latn": ["a"], "fra_Latn": ["A"]}
    assert load_rows(tmp_path / "data", "4")[0]["captions"] == {"fra_Latn": ["A"]}
    folders = [tmp_path / "data" / number for number in "12"]
    assert run("join", "--folders", *folders, "--output", tmp_path / "data" / "both") == 0
    assert load_rows(tmp_path / "data", "both")["audio_id"][:] == ["A b.wav", "12"]


def test_sources_of_every_kind_by_their_columns(tmp_path, capsys):
    text = {"dog.txt": b"a dog", "dog.flac": sources.sound("dog"), "rain.txt": b"rain\nmore rain", "lost.txt": b"x"}
    sources.write_tar(tmp_path / "000.tar", text)
    captions = ["--captions", "en=text", "--id_column", "audio_id"]
    assert run("hub", "--name", tmp_path / "000.tar", *captions, "--output", tmp_path / "data" / "tar") == 0
    (row,) = load_rows(tmp_path / "data" / "tar")
    assert (row["audio_id"], row["captions"]) == ("dog", {"eng_Latn": ["a dog"]})
    left_out = (tmp_path / "data" / "tar" / "left_out.jsonl").read_text()
    assert '"rain"' in left_out and '"lost"' in left_out and left_out.count("missing recording") == 2

    folder = sources.write_audio_folder(tmp_path / "clips" / "train")
    rows = [{"file_name": f"{name}.flac", "caption": f"a {name}"} for name in (*sources.NAMES, "lost")]
    write_json_lines(folder / "metadata.jsonl", rows)
    with (folder / "metadata.jsonl").open("a") as file:
        file.write("{broken\n")
    output = tmp_path / "data" / "folder"
    argv = ["--name", tmp_path / "clips", "--split", "train", "--captions", "en=caption", "--output", output]
    assert run("hub", *argv, "--copy_audio") == 0
    assert [row["captions"]["eng_Latn"] for row in load_rows(output)] == [["a dog"], ["a rain"], ["a bell"]]
    assert json.loads((output / "report.json").read_text())["left_out"] == {"missing recording": 1, "wrong line": 1}
    assert "line 5: this is not JSON" in (output / "left_out.jsonl").read_text()

    assert run("hub", "--name", tmp_path / "clips", *captions, "--output", tmp_path / "data" / "x") == 2
    assert "The splits are train: please choose one" in capsys.readouterr().err
    (tmp_path / "bad.parquet").write_bytes(b"x")
    assert run("hub", "--name", tmp_path / "bad.parquet", *captions, "--output", tmp_path / "data" / "x") == 2
    assert "bad.parquet' cannot be read" in capsys.readouterr().err


def test_a_data_set_by_its_columns(tmp_path):
    import datasets

    sound = {"path": "a.wav", "bytes": write_sound(tmp_path / "a.wav").read_bytes()}
    rows = {"sound": [sound, sound], "name": ["a", "a"], "en": ["x", "y"], "fr": ["X", "Y"]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    options = ["--captions", "en=en", "fr=fr", "--audio_column", "sound", "--id_column", "name", "--source", "youtube"]
    assert run("hub", "--name", tmp_path / "saved", *options, "--output", tmp_path / "data") == 0
    (row,) = load_rows(tmp_path / "data")
    assert row["captions"] == {"eng_Latn": ["x", "y"], "fra_Latn": ["X", "Y"]}
    assert json.loads((tmp_path / "data" / "metadata.jsonl").read_text())["source_ids"] == ["youtube:a"]


def test_check_and_drop(audiocaps, capsys):
    prepare_audiocaps(audiocaps)
    items = [{"id": f"Y{youtube_id(number)}.wav", "caption": "a", "duration": 3.0} for number in (0, 7)]
    for number in (0, 7):
        write_sound(audiocaps / "wavcaps" / f"Y{youtube_id(number)}.flac", seed=50 + number, seconds=3.0)
    write_sound(audiocaps / "wavcaps" / "Y00000000000.flac", seed=1, seconds=3.0)
    items.append({"id": "Y00000000000.wav", "caption": "b", "duration": 3.0})
    train, test = audiocaps / "data" / "wavcaps", audiocaps / "data" / "test"
    path = write_items(audiocaps / "as_final.json", items)
    options = ["--captions", f"en={path}", "--subset", "audioset", "--audio", audiocaps / "wavcaps"]
    assert run("wavcaps", *options, "--output", train) == 0
    capsys.readouterr()
    check = ["check", "--train", train, "--test", test]
    assert run(*check, "--by_sound", "false") == 0
    header, counts = capsys.readouterr().out.splitlines()
    assert header.split() == ["train", "test", "clips", "shared", "by", "id", "by", "samples", "by", "sound"]
    assert counts.split() == [str(train), str(test), "3", "1", "1", "0", "0"]
    assert run(*check, "--output", audiocaps / "shared.jsonl", "--drop") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split() == [str(train), str(test), "3", "2", "1", "1", "1"]
    assert printed[2] == f"Moved 2 clips from {train / 'metadata.jsonl'} to overlap.jsonl in the same folder."
    found = [json.loads(line) for line in (audiocaps / "shared.jsonl").read_text("utf-8").splitlines()]
    assert [(item["train"]["audio_id"], item["by"]) for item in found] == [
        (f"Y{youtube_id(0)}", ["id"]),
        ("Y00000000000", ["samples", "sound"]),
    ]
    assert load_rows(train)["audio_id"][:] == [f"Y{youtube_id(7)}"]
    assert run(*check) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[3:] == ["0", "0", "0", "0"]
    assert run("wavcaps", *options, "--output", train) == 0
    assert f"2 clips stay out because {train / 'overlap.jsonl'} lists them" in capsys.readouterr().out
    assert load_rows(train)["audio_id"][:] == [f"Y{youtube_id(7)}"]


@pytest.mark.parametrize(
    "argv, message",
    [
        (["audiocap"], "Did you mean 'audiocaps'?"),
        (["audiocaps", "--captions", "test.csv", "--audio", "a", "--output", "b"], "LANGUAGE=FILE"),
        (["audiocaps", "--captions", "en=none.csv", "--audio", "a", "--output", "b"], "There is no file 'none.csv'"),
        (["audiocaps", "--captions", "en=test.csv"], "required: --output, --audio"),
        (["wavcaps", "--subset", "youtube"], "invalid choice: 'youtube'"),
        (["clotho", "--captoins", "x"], "required"),
        (["check", "--train", "a", "--test", "a"], "is given to both --train and --test"),
        (["check", "--train", "a", "--test", "b"], "There is no file"),
    ],
)
def test_mistakes(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "kind, words",
    [
        ("audiocaps", ["audiocap_id", "start_time", "Y7fmOlUlwoNg_20000_30000.wav", '""stop""']),
        ("clotho", ["file_name", "caption_5", "sound_id"]),
        ("wavcaps", ['{"data": [{"id", "caption"', "80399.flac"]),
        ("mlclap", ["source_lang_1", '{"data": [{"wav"']),
        ("hub", ["lists of strings", "youtube"]),
        ("join", ["audio_id"]),
        ("check", ["overlap.jsonl"]),
    ],
)
def test_help_of_one_kind(capsys, kind, words):
    """It tells of files and columns, its example is one that is understood, and required options are marked."""
    with pytest.raises(SystemExit):
        run(kind, "--help")
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)
    assert max(map(len, printed.splitlines())) <= 120
    (example,) = re.findall(rf"atri prepare ({kind} --[^\\\n]*(?:\\\n.*)?)\n", printed)
    parse(kind, shlex.split(example.replace("\\\n", ""))[1:])
    fields = dataclasses.fields(TASKS[kind])
    required = sum(field.default is dataclasses.MISSING for field in fields)
    assert " ".join(printed.split()).count(" Required.") == required > 0


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--help"], ["audiocaps", "check"]),
        (["--help_all"], ["--subset", "--by_sound", "--id_column", "--metadata", "--copy_audio"]),
        ([], ["audiocaps"]),
    ],
)
def test_help(capsys, argv, words):
    assert run(*argv) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in words)
