"""A toy audio encoder with code of its own, in the way of Dasheng, that tests write to folders."""

import json
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel


FILES = ("configuration_toy", "feature_extraction_toy", "modeling_toy")


def write_repository(folder: Path) -> Path:
    """Write a repository with the code, a configuration and random weights."""
    folder.mkdir(parents=True)
    for name in FILES:
        source = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    auto_map = {"AutoConfig": "configuration_toy.ToyConfig", "AutoModel": "modeling_toy.ToyModel"}
    config = {"model_type": "toy_encoder", "auto_map": auto_map, "encoder_kwargs": {"embed_dim": 16, "depth": 2}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    extractor = {
        "feature_extractor_type": "ToyFeatureExtractor",
        "auto_map": {"AutoFeatureExtractor": "feature_extraction_toy.ToyFeatureExtractor"},
        "feature_size": 8,
        "sampling_rate": 16_000,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor), encoding="utf-8")
    torch.manual_seed(0)
    parsed = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = AutoModel.from_config(parsed, trust_remote_code=True)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder
