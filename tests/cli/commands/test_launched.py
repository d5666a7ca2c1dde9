"""`atri encode`, `evaluate` and `translate` in two processes do each item once, and write what one process writes."""

import json

import numpy as np
import pytest
import soundfile

from modeling_atri.cli.main import main
from modeling_atri.embedding_store.store import load_embeddings
from tests.helpers.bad_data import noise, sound
from tests.helpers.forks import check_call
from tests.helpers.launched_commands import LAUNCHERS, launch, run_commands, run_faulty
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


def write_clips(folder, count: int, broken: int | None = None, cut: bool = False) -> None:
    """Clips with captions. The header of a broken one cannot be read; that of `cut`, the second, can."""
    folder.mkdir()
    lines = []
    for number, row in enumerate(make_rows(count)):
        name = f"{row['audio_id']}.wav"
        soundfile.write(folder / name, row["audio"]["array"], 16000, subtype="FLOAT")
        if number == broken:
            (folder / name).write_bytes((folder / name).read_bytes()[:60])
        lines.append(json.dumps({"file_name": name, "captions": row["captions"]}))
    if cut:
        whole = sound(noise(0.5, 98), format="FLAC")
        (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
        lines.insert(1, json.dumps({"file_name": "cut.flac", "captions": make_rows(1)[0]["captions"]}))
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
        "evaluate raising": [*evaluate, "--data", str(folder / "cut")],
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
    write_clips(folder / "cut", 4, cut=True)
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
    check_equal("encode", folder / "two", folder / "one")
    ids, _ = load_embeddings(folder / "two" / "embeddings")
    assert ids == sorted(f"{number}.wav" for number in range(11) if number != 4)
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


@pytest.mark.parametrize(("name", "broken"), [("encode raising", "4.wav"), ("evaluate raising", "Row 'cut'")])
def test_all_processes_end_with_the_error_of_one(folder, said, capsys, name, broken):
    status, _, alone = run_alone(folder, name, capsys)
    for out, err in said(name):
        assert out.split() == ["status", str(status)] == ["status", "2"]
        (line,) = (line for line in err.splitlines() if line.startswith(f"atri {name.split()[0]}: "))
        assert line in alone
        assert broken in line


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
    check_equal("translate", folder / "two", folder / "one")
    (first, _), (second, _) = said("translate")
    assert first.splitlines()[:3] == alone.splitlines()[:3]
    assert second.split() == ["status", "0"]
    (again, _), _ = said("translate again")
    assert "\n0 texts translated" in again
    for out, err in said("translate wrong"):
        assert out.split() == ["status", "2"]
        assert "atri translate: " in err


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("encode", "killed"),
        ("evaluate", "failing"),
        ("translate", "killed"),
        pytest.param("encode", "failing", marks=pytest.mark.slow),
        pytest.param("evaluate", "killed", marks=pytest.mark.slow),
        pytest.param("translate", "failing", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_ends_does_not_keep_the_others_waiting(folder, capsys, name, fault):
    out = folder / f"{name}-{fault}"
    out.mkdir()
    words = commands(folder, out)[name]
    check_call(run_faulty, words, out, fault)
    said = (out / f"{fault}-0.err").read_text()
    assert f"atri {name}: Another process of this run has ended" in said
    assert "Traceback" not in said
    assert (out / f"{fault}-0.out").read_text().split() == ["status", "2"]
    if fault == "failing":
        assert "The device has had enough." in (out / "failing-1.err").read_text()
        assert (out / "failing-1.out").read_text().split() == ["status", "1"]
    kept = num_kept(name, out)
    assert kept > 0 or name == "evaluate"
    assert main(words) == 0
    capsys.readouterr()
    assert kept < num_kept(name, out)
    check_equal(name, out, folder / "two")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("name", ["evaluate", "translate"])
def test_real_launchers_give_the_results_of_one_process(folder, capsys, name, launcher):
    out = folder / launcher
    out.mkdir(exist_ok=True)
    ended = launch(launcher, commands(folder, out)[name], out)
    assert ended.returncode == 0, ended.stderr[-4000:]
    alone = folder / f"alone-{launcher}"
    alone.mkdir(exist_ok=True)
    assert main(commands(folder, alone)[name]) == 0
    assert len(ended.stdout.splitlines()) == len(capsys.readouterr().out.splitlines()), "said by one process"
    check_equal(name, out, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "name", "fault", "message"),
    [
        ("torchrun", "evaluate raising", None, "atri evaluate: Row 'cut'"),
        ("torchrun", "translate", "killed", "SIGKILL"),
        ("accelerate", "evaluate", "failing", "The device has had enough."),
        ("accelerate", "evaluate", "killed", "SIGKILL"),
    ],
)
def test_real_launchers_end_when_a_process_does(folder, tmp_path, launcher, name, fault, message):
    ended = launch(launcher, commands(folder, tmp_path)[name], tmp_path, fault)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert not (tmp_path / "results.json").exists()


def num_kept(name: str, out) -> int:
    """How much a command has written: embeddings, files of results, or translations."""
    if name == "encode":
        return len(load_embeddings(out / "embeddings")[0])
    if name == "evaluate":
        return len([*out.glob("results.json")])
    return len((out / "translated" / "translations.jsonl").read_bytes().splitlines())


def check_equal(name: str, *runs) -> None:
    """Check that a command wrote the same in two runs."""
    if name == "encode":
        (ids, found), (expected_ids, expected) = (load_embeddings(run / "embeddings") for run in runs)
        assert ids == expected_ids
        np.testing.assert_allclose(found, expected, atol=1e-6)
    elif name == "evaluate":
        found, expected = (json.loads((run / "results.json").read_text()) for run in runs)
        assert found["metrics"] == pytest.approx(expected["metrics"], abs=1e-6)
        assert found["evaluated_on"] == expected["evaluated_on"]
    else:
        for file in ("metadata.jsonl", "translations.jsonl", "flagged.jsonl", "README.md"):
            found, expected = ((run / "translated" / file).read_text(encoding="utf-8") for run in runs)
            assert found == expected, file
