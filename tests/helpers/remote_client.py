"""What a user without this package does with a saved folder; `test_remote_code.py` runs it in a bare environment.

    python -I -S remote_client.py SITE_PACKAGES WORK

Reads the folders and `inputs.npz` in WORK, writes `numbers.npz` and `facts.json` there.
"""

import importlib.util
import json
import sys
from pathlib import Path


sys.path.insert(0, sys.argv[1])

import numpy as np
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, AutoTokenizer


# Of the package, of its other requirements and of what its extras bring.
ABSENT = "modeling_atri trainer tests soundfile soxr datasets evaluate accelerate matplotlib pytest peft onnx mteb"

WORK = Path(sys.argv[2])


def numbers_of(folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    batch = processor(
        text=[str(caption) for caption in inputs["captions"]],
        language=[str(language) for language in inputs["languages"]],
        audio=[inputs[f"clip{index}"] for index in range(len(inputs["captions"]))],
        sampling_rate=16_000,
    )
    with torch.no_grad():
        outputs = model(**batch, return_loss=True)
    return {name: outputs[name] for name in ("loss", "audio_embeds", "text_embeds", "logits_per_audio")}


def tower_numbers(folder: Path, inputs: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    tower = AutoModel.from_pretrained(folder, trust_remote_code=True)
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    clips = [inputs[f"clip{index}"] for index in range(2)]
    batch = extractor(clips, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        return {"pooler_output": tower(**batch).pooler_output, "input_features": batch["input_features"]}


def versions_of(folder: Path) -> list[str]:
    """What the classes that a folder is loaded with say of themselves."""
    loaded = [
        auto_class.from_pretrained(folder, trust_remote_code=True)
        for auto_class in (AutoModel, AutoProcessor, AutoConfig)
    ]
    return [vars(type(item)).get("version_of_the_code", "") for item in loaded]


def main() -> None:
    inputs = dict(np.load(WORK / "inputs.npz"))
    numbers = {name: numbers_of(WORK / name, inputs) for name in ("model", "bert", "trained")}
    numbers["tower"] = tower_numbers(WORK / "tower", inputs)

    again = WORK / "again"
    AutoModel.from_pretrained(WORK / "model", trust_remote_code=True).save_pretrained(again)
    AutoProcessor.from_pretrained(WORK / "model", trust_remote_code=True).save_pretrained(again)
    numbers["again"] = numbers_of(again, inputs)

    config = AutoConfig.from_pretrained(WORK / "model", trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(WORK / "model")
    facts = {
        "present": [name for name in ABSENT.split() if importlib.util.find_spec(name)],
        "from_config": list(AutoModel.from_config(config, trust_remote_code=True).state_dict()),
        "classes": {
            auto_class.__name__: type(auto_class.from_pretrained(WORK / "model", trust_remote_code=True)).__name__
            for auto_class in (AutoConfig, AutoModel, AutoProcessor, AutoFeatureExtractor, AutoTokenizer)
        },
        "versions": {folder: versions_of(WORK / folder) for folder in ("model", "newer")},
        "tokens": tokenizer(str(inputs["captions"][1]))["input_ids"],
        "special_tokens": tokenizer.all_special_tokens,
    }
    (WORK / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    flat = {f"{folder}.{name}": value.numpy() for folder, found in numbers.items() for name, value in found.items()}
    np.savez(WORK / "numbers.npz", **flat)


main()
