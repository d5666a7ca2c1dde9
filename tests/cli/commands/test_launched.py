"""`atri encode`, `evaluate` and `translate` in two processes do each item once, and write what one process writes."""

import json

import numpy as np
import pytest
import soundfile

from modeling_atri.cli.main import main
from modeling_atri.embedding_store.store import load_embeddings
from tests.helpers.forks import check_call
from tests.helpers.launched_commands import run_commands, run_killed
from tests.helpers.tiny import tiny_model, tiny_processor, tiny_tokenizer
from tests.helpers.training import LANGUAGES, make_rows
from tests.helpers.translation import english_captions, tiny_nllb, write_data


pytestmark = pytest.mark.heavy


def write_sounds(folder, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        samples = np.random.default_rng(number).normal(scale=0.1, size=4000 + 700 * ((7 * number) % 10))
        soundfile.write(folder / f"{number}.wav", samples, 16000)
    (folder / "4.wav").write_bytes(b"broken")


def write_clips(folder, count: int, broken: int | None = None) -> None:
    folder.mkdir()
    lines = []
    for number, row in enumerate(make_rows(count)):
        name = f"{row['audio_id']}.wav"
        soundfile.write(folder / name, row["audio"]["array"], 16000, subtype="FLOAT")
        if number == broken:
            (folder / name).write_bytes((folder / name).read_bytes()[:60])
        lines.append(json.dumps({"file_name": name, "captions": row["captions"]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def commands(folder, out) -> dict[str, list[str]]:
    model = ["--model", str(folder / "model")]
    sounds, sizes = ["encode", str(folder / "sounds")], [*model, "--part_size", "4", "--batch_size", "2"]
    translate = ["translate", str(folder / "captions"), str(out / "translated"), "--languages", "fr", "ja"]
    translate += ["--model", str(folder / "nllb"), "--num_beams", "1", "--max_new_tokens", "8", "--batch_size", "3"]
    translate += ["--license", "cc-by-nc-4.0"]
    evaluate = ["evaluate", *model, "--languages", *LANGUAGES]
    return {
        "encode": [*sounds, str(out / "embeddings"), *sizes, "--format", "npy"],
        "encode again": [*sounds, str(out / "embeddings"), *sizes],
        "encode raising": [*sounds, str(out / "raising"), *sizes, "--on_error", "raise"],
        "evaluate": [*evaluate, "--data", str(folder / "clips"), "--output", str(out / "results.json")],
        "evaluate skipping": [
            *(*evaluate, "--data", str(folder / "broken"), "--on_bad_row", "skip"),
            *("--output", str(out / "skipped.json")),
        ],
        "translate": translate,
        "translate again": translate,
        "translate wrong": [*translate[:2], str(folder / "captions"), *translate[3:]],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models and data, and what one process, and two, made of them."""
    folder = tmp_path_factory.mktemp("launched")
    for part in (tiny_model(), tiny_processor()):
        part.save_pretrained(folder / "model")
    for part in (tiny_nllb(), tiny_tokenizer()):
        part.save_pretrained(folder / "nllb")
    write_sounds(folder / "sounds", 11)
    write_clips(folder / "clips", 5)
    write_clips(folder / "broken", 5, broken=3)
    write_data(folder / "captions", english_captions(10))
    for name in ("one", "two"):
        (folder / name).mkdir()
    check_call(run_commands, commands(folder, folder / "two"), folder / "two")
    return folder


@pytest.fixture(scope="module")
def said(folder):
    """What each of two processes said, and its status."""

    def read(name: str) -> list[tuple[str, str]]:
        return [
            tuple((folder / "two" / f"{name}-{rank}.{kind}").read_text() for kind in ("out", "err"))
            for rank in range(2)
        ]

    return read


def run_alone(folder, name: str, capsys) -> tuple[int, str, str]:
    status = main(commands(folder, folder / "one")[name])
    return (status, *capsys.readouterr())


def test_encode_writes_the_rows_of_one_process(folder, said, capsys):
    status, alone, _ = run_alone(folder, "encode", capsys)
    assert status == 0
    (ids, expected), (ours, found) = (load_embeddings(folder / name / "embeddings") for name in ("one", "two"))
    assert ours == ids == sorted(f"{number}.wav" for number in range(11) if number != 4)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for run in ("one", "two"):
        parts = sorted(path.name for path in (folder / run / "embeddings" / "embeddings").iterdir())
        assert parts == ["00000.parquet", "00001.parquet", "00002.parquet"]
    for name in ("failures.jsonl", "ids.json"):
        first, second = ((folder / run / "embeddings" / name).read_text() for run in ("one", "two"))
        assert first == second
    (first, progress), (second, other) = said("encode")
    assert first.splitlines()[1].split()[:4] == alone.splitlines()[1].split()[:4] == ["10", "10", "0", "1"]
    assert first.splitlines()[-1] == "status 0"
    assert second.split() == ["status", "0"]
    assert "files read: 100%" in progress and "11/11" in progress
    assert "files read" not in other


def test_encode_again_reads_nothing(said):
    (first, _), _ = said("encode again")
    assert first.splitlines()[1].split()[:4] == ["10", "0", "0", "1"]


def test_all_processes_end_with_the_error_of_one(folder, said, capsys):
    status, _, alone = run_alone(folder, "encode raising", capsys)
    for out, err in said("encode raising"):
        assert out.split() == ["status", str(status)] == ["status", "2"]
        (line,) = (line for line in err.splitlines() if line.startswith("atri encode: "))
        assert line in alone
        assert "4.wav" in line


@pytest.mark.parametrize(("name", "file"), [("evaluate", "results.json"), ("evaluate skipping", "skipped.json")])
def test_evaluate_equals_one_process(folder, said, capsys, name, file):
    status, alone, _ = run_alone(folder, name, capsys)
    assert status == 0
    one, two = (json.loads((folder / run / file).read_text()) for run in ("one", "two"))
    assert two["metrics"].keys() == one["metrics"].keys()
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-6)
    assert two["evaluated_on"] == one["evaluated_on"]
    assert two["evaluated_on"]["num_clips"] == (4 if "skipping" in name else 5)
    (first, _), (second, _) = said(name)
    assert len(first.splitlines()) == len(alone.splitlines()) + 2
    assert second.split() == ["status", "0"]


def test_translate_writes_the_files_of_one_process(folder, said, capsys):
    status, alone, _ = run_alone(folder, "translate", capsys)
    assert status == 0
    for name in ("metadata.jsonl", "translations.jsonl", "flagged.jsonl", "README.md"):
        one, two = ((folder / run / "translated" / name).read_text(encoding="utf-8") for run in ("one", "two"))
        assert one == two, name
    (first, _), (second, _) = said("translate")
    assert first.splitlines()[:3] == alone.splitlines()[:3]
    assert second.split() == ["status", "0"]
    (again, _), _ = said("translate again")
    assert "\n0 texts translated" in again
    for out, err in said("translate wrong"):
        assert out.split() == ["status", "2"]
        assert "atri translate: " in err


def test_a_killed_process_does_not_keep_the_others_waiting(folder, tmp_path, capsys):
    words = [word.replace(str(folder / "two"), str(tmp_path)) for word in commands(folder, folder / "two")["encode"]]
    check_call(run_killed, words, tmp_path)
    assert "Another process of this run has ended" in (tmp_path / "killed-0.err").read_text()
    assert (tmp_path / "killed-0.out").read_text().split() == ["status", "2"]
    ids, _ = load_embeddings(tmp_path / "embeddings")
    assert 0 < len(ids) < 10
    assert main(words) == 0
    capsys.readouterr()
    (whole, found), (expected, embeddings) = (
        load_embeddings(path / "embeddings") for path in (tmp_path, folder / "two")
    )
    assert whole == expected
    np.testing.assert_allclose(found, embeddings, atol=1e-6)
