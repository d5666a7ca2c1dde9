"""The configurations in examples/accelerate start what they say, and `atri train` works under them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from accelerate import DistributedType
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import FullyShardedDataParallelPlugin

from modeling_atri import AtriModel
from modeling_atri.cli.main import main
from modeling_atri.trainer.checks.engines import FSDP, check_chosen_engine, chosen_engines
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import LANGUAGES, assert_same_weights, make_arguments, make_rows


@pytest.fixture(scope="module")
def configurations(repository_root) -> Path:
    return repository_root / "examples" / "accelerate"


@pytest.mark.parametrize(
    ("name", "engine", "num_processes", "use_cpu", "gpu_ids", "precision"),
    [
        ("one_gpu", DistributedType.NO, 1, False, "0", "bf16"),
        ("many_gpus", DistributedType.MULTI_GPU, -1, False, "all", "bf16"),
        ("cpus", DistributedType.MULTI_GPU, 2, True, None, "no"),
    ],
)
def test_accelerate_reads(configurations, name, engine, num_processes, use_cpu, gpu_ids, precision):
    read = load_config_from_file(str(configurations / f"{name}.yaml"))  # an unknown key is an error
    assert (read.distributed_type, read.num_processes, read.use_cpu) == (engine, num_processes, use_cpu)
    assert (read.gpu_ids, read.mixed_precision, read.num_machines) == (gpu_ids, precision, 1)
    assert not (read.fsdp_config or read.deepspeed_config or read.parallelism_config or read.dynamo_config)


def test_the_configuration_of_fsdp_is_one_that_is_supported(configurations, tmp_path, monkeypatch):
    read = load_config_from_file(str(configurations / "fsdp.yaml"))
    assert (read.distributed_type, read.num_processes, read.mixed_precision) == (DistributedType.FSDP, -1, "bf16")
    args = make_arguments(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for name, value in read.fsdp_config.items():  # as the launcher passes them on
        monkeypatch.setenv(name.upper(), str(value).lower())
    check_chosen_engine(args)
    assert chosen_engines(args) == [FSDP]
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.cpu_ram_efficient_loading) == (2, True, False)


def test_every_configuration_is_listed(configurations, repository_root):
    readme = (repository_root / "examples" / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in configurations.iterdir()}
    scripts = {"several_machines.sh": "bash", "slurm.sbatch": "sbatch"}
    configured = {"one_gpu.yaml", "many_gpus.yaml", "cpus.yaml", "fsdp.yaml"}
    assert names == {*scripts, *configured}, "a new one needs a test above"
    for name in names:
        assert f"| `accelerate/{name}` |" in readme
        starter = scripts.get(name, "--config_file")
        assert f"{starter} examples/accelerate/{name}" in (configurations / name).read_text(encoding="utf-8")
    for name in scripts:
        subprocess.run(["bash", "-n", str(configurations / name)], check=True)


# `atri train` in processes that the launcher starts


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, eleven clips to train on and five to evaluate."""
    folder = tmp_path_factory.mktemp("launch")
    tiny_model().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    for part, num_clips in (("train", 11), ("dev", 5)):
        (folder / part).mkdir()
        lines = []
        for row in make_rows(num_clips):
            name = f"{row['audio_id']}.wav"
            soundfile.write(folder / part / name, row["audio"]["array"], 16000, subtype="FLOAT")
            lines.append(json.dumps({"file_name": name, "captions": row["captions"]}))
        (folder / part / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def train_command(folder: Path, output: str, batch_size: int) -> list[str]:
    options = {
        "model": folder / "model",
        "train_data": folder / "train",
        "eval_data": folder / "dev",
        "output_dir": folder / output,
        "optim": "sgd",
        "learning_rate": 0.01,
        "num_train_epochs": 2,
        "per_device_train_batch_size": batch_size,
        "save_strategy": "no",
        "disable_tqdm": "true",
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return ["train", *words, "--languages", *LANGUAGES]


def launch(folder: Path, *launcher: str | Path, command: list[str]) -> subprocess.CompletedProcess:
    """`accelerate launch LAUNCHER... -m modeling_atri.cli.main COMMAND...`, far from the checkout."""
    words = [sys.executable, "-m", "accelerate.commands.launch", *map(str, launcher)]
    words += ["-m", "modeling_atri.cli.main", *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_two_processes_on_cpus_train_the_model_of_one(folder, configurations, capfd):
    command = [*train_command(folder, "two", batch_size=2), "--use_cpu", "true"]
    ended = launch(folder, "--config_file", configurations / "cpus.yaml", command=command)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert main([*train_command(folder, "one", batch_size=4), "--use_cpu", "true"]) == 0
    alone = capfd.readouterr().out

    two, one = (json.loads((folder / name / "atri_results.json").read_text()) for name in ("two", "one"))
    assert (two["training"]["processes"], one["training"]["processes"]) == (2, 1)
    assert two["training"]["batch_size"] == one["training"]["batch_size"] == 4
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-5)
    models = [AtriModel.from_pretrained(folder / name) for name in ("two", "one", "model")]
    assert_same_weights(models[0], models[1], tolerance=1e-5)
    assert any((models[1].state_dict()[name] != weight).any() for name, weight in models[2].state_dict().items())
    assert {path.name for path in (folder / "two").iterdir()} == {path.name for path in (folder / "one").iterdir()}

    assert len(alone.splitlines()) == len(ended.stdout.splitlines()), "said by one process, not by each"
    for line in ("Retrieval over 5 clips", "Saved model, processor, results and model card"):
        assert ended.stdout.count(line) == alone.count(line) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "options", "message"),
    [
        (["--config_file", "cpus.yaml"], [], "2 processes were started, but this one would train alone"),
        (
            ["--use_fsdp", "--fsdp_version", "1", "--num_processes", "2", "--num_machines", "1"],
            ["--use_cpu", "true"],
            "FSDP of version 1 is not supported",
        ),
    ],
    ids=["without use_cpu", "fsdp 1"],
)
def test_a_wrong_start_ends_with_one_sentence(folder, configurations, launcher, options, message):
    launcher = [str(configurations / word) if word.endswith(".yaml") else word for word in launcher]
    command = [*train_command(folder, "refused", batch_size=2), *options]
    ended = launch(folder, *launcher, command=command)
    assert ended.returncode != 0
    said = [line for line in ended.stderr.splitlines() if line.startswith("atri train: ")]
    assert said
    assert all(message in line for line in said)
    assert not (folder / "refused" / "model.safetensors").exists()
