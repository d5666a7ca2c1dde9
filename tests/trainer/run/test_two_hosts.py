"""The recipe for several machines: two hosts meet, a worker is killed, all start again, and nothing is different."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import soundfile

from modeling_atri import AtriModel
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import LANGUAGES, assert_same_weights, make_rows
from tests.helpers.two_hosts import ADDRESSES, children, start, two_hosts, why_impossible


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NUM_STEPS = 40


@pytest.fixture(scope="module")
def hosts():
    if reason := why_impossible():
        pytest.skip(reason)
    with two_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hosts")
    for part in (tiny_model(), tiny_processor()):
        part.save_pretrained(folder / "model")
    (folder / "clips").mkdir()
    lines = []
    for row in make_rows(11):
        name = f"{row['audio_id']}.wav"
        soundfile.write(folder / "clips" / name, row["audio"]["array"], 16000, subtype="FLOAT")
        lines.append(json.dumps({"file_name": name, "captions": row["captions"]}))
    (folder / "clips" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def train(repository_root: Path, hosts: list[str], folder: Path, output: str, killed_after: int | None = None) -> None:
    """Run the recipe on both hosts. The worker of the second is killed once a checkpoint of so many steps is there."""
    words = ["bash", str(repository_root / "examples" / "accelerate" / "several_machines.sh"), "--use_cpu", "true"]
    options = {"model": folder / "model", "train_data": folder / "clips", "output_dir": folder / output}
    options |= {"optim": "adamw_torch", "learning_rate": 1e-3, "max_steps": NUM_STEPS, "save_steps": 2}
    options |= {"per_device_train_batch_size": 2, "save_total_limit": 3, "disable_tqdm": "true", "seed": 3}
    words += [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    words += ["--languages", *LANGUAGES]
    logs = [folder / f"{output}-{number}.log" for number in range(2)]
    agents = [
        start(host, words, log, HEAD=ADDRESSES[0], RUN=output, GLOO_SOCKET_IFNAME=interface(host))
        for host, log in zip(hosts, logs, strict=True)
    ]
    try:
        if killed_after is not None:
            wait_for(lambda: (folder / output / f"checkpoint-{killed_after}").exists(), agents)
            (worker,) = children(agents[1].pid)
            os.kill(worker, signal.SIGKILL)
            assert not (folder / output / f"checkpoint-{NUM_STEPS}").exists(), "the run was over before"
            wait_for(lambda: [pid for pid in children(agents[1].pid) if pid != worker], agents)
        wait_for(lambda: all(agent.poll() is not None for agent in agents), agents, may_end=True)
    finally:
        for agent in agents:
            if agent.poll() is None:
                os.killpg(agent.pid, signal.SIGKILL)
            agent.wait()
    said = [log.read_text()[-3000:] for log in logs]
    assert [agent.returncode for agent in agents] == [0, 0], said


def interface(host: str) -> str:
    """The end of the cable, which gloo does not find by itself, because both hosts have the same name."""
    number = int(host.split("-")[1]) % 100000
    return f"atri{number}{'ab'[int(host[-1])]}"


def wait_for(condition, agents, may_end: bool = False, seconds: float = 400.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        assert may_end or all(agent.poll() is None for agent in agents), "a launcher ended"
        time.sleep(0.05)


def test_a_killed_worker_changes_nothing(repository_root, hosts, folder):
    train(repository_root, hosts, folder, "undisturbed")
    train(repository_root, hosts, folder, "killed", killed_after=6)
    expected, found, first = (AtriModel.from_pretrained(folder / name) for name in ("undisturbed", "killed", "model"))
    assert_same_weights(found, expected)
    assert any((weight != first.state_dict()[name]).any() for name, weight in expected.state_dict().items())
    results = json.loads((folder / "killed" / f"checkpoint-{NUM_STEPS}" / "trainer_state.json").read_text())
    assert results["global_step"] == NUM_STEPS
