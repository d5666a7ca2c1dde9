"""State dicts out of files as training scripts, torch and transformers leave them."""

import argparse
import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from modeling_atri.pretrained.checkpoints import read_checkpoint, read_weights


WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.tensor([1, 2])}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS, "optimizer": {"step": 3}, "args": {"lr": 1e-3}},
        {"state_dict": WEIGHTS, "epoch": 7},
        {f"module.{key}": value for key, value in WEIGHTS.items()},
        {"model": {f"module.{key}": value for key, value in WEIGHTS.items()}},
        {key: nn.Parameter(value, requires_grad=value.is_floating_point()) for key, value in WEIGHTS.items()},
    ],
    ids=["bare", "model", "state_dict", "parallel", "parallel in model", "parameters"],
)
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_state_dict_is_taken_out_of_what_is_around_it(tmp_path, content, is_zip):
    path = tmp_path / "weights.pt"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert zipfile.is_zipfile(path) == is_zip  # torch before 1.6 wrote no archive, which cannot be memory-mapped
    found = read_checkpoint(path)
    assert_same(found, WEIGHTS)
    assert not any(value.requires_grad for value in found.values())


def test_safetensors_are_read_too(tmp_path):
    save_file(WEIGHTS, tmp_path / "weights.safetensors")
    assert_same(read_checkpoint(tmp_path / "weights.safetensors"), WEIGHTS)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what a process has mapped")
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_file_is_mapped_not_copied(tmp_path, name):
    path = tmp_path / name
    weights = {"a": torch.zeros(100_000)}
    save_file(weights, path) if name.endswith("safetensors") else torch.save(weights, path)
    found = read_checkpoint(path)
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    ranges = [[int(address, 16) for address in line.split()[0].split("-")] for line in mapped]
    assert any(start <= found["a"].data_ptr() < end for start, end in ranges)


def test_what_needs_code_to_be_read_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    for is_zip in (True, False):
        torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=1)}, path, _use_new_zipfile_serialization=is_zip)
        with pytest.raises(ValueError, match=r"holds an object of argparse.Namespace; .*save its state"):
            read_checkpoint(path)


def cut_off() -> bytes:
    torch.save({"a": torch.zeros(9999)}, path := "cut.pt")
    return Path(path).read_bytes()[:9000]


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", cut_off])
def test_a_damaged_file_is_named(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content() if callable(content) else content)
    with pytest.raises(ValueError, match=rf"{name} is not a checkpoint.* or it is damaged") as error:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"weights": WEIGHTS, "epoch": 3}, r"these are not tensors: weights \(dict\), epoch \(int\). Save the state"),
        (WEIGHTS | {f"n{i}": i for i in range(14)}, r"n0 \(int\), .*n11 \(int\) and 2 more"),
        ([torch.ones(1)], "holds a list"),
        ({}, "holds a dict without"),
    ],
)
def test_what_is_no_state_dict_is_described(tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_is_read_whole_or_in_shards(tmp_path, name):
    def save(weights: dict[str, Tensor], path: Path) -> None:
        save_file(weights, path) if name.endswith("safetensors") else torch.save(weights, path)

    (tmp_path / "whole").mkdir()
    save(WEIGHTS, tmp_path / "whole" / name)
    assert_same(read_weights(str(tmp_path / "whole")), WEIGHTS)

    folder = tmp_path / "shards"
    folder.mkdir()
    stem, ending = name.split(".")
    shards = {key: f"{stem}-0000{number}-of-00002.{ending}" for number, key in enumerate(WEIGHTS, start=1)}
    for key, shard in shards.items():
        save({key: WEIGHTS[key]}, folder / shard)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    assert_same(read_weights(str(folder)), WEIGHTS)
    (folder / shards["b.bias"]).unlink()
    with pytest.raises(OSError, match="00002-of-00002"):
        read_weights(str(folder))


def test_a_folder_without_weights_says_what_it_lacks(tmp_path):
    with pytest.raises(ValueError, match="has no weights: there is none of model.safetensors, .*pytorch_model.bin"):
        read_weights(str(tmp_path))
