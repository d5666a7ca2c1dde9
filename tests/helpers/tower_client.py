"""What a user without this package does with models that have other audio towers; run in a bare environment.

    python -I -S tower_client.py SITE_PACKAGES WORK

Reads the folders `clap` and `toy` and `inputs.npz` in WORK, writes `numbers.npz` there.
"""

import importlib.util
import sys
from pathlib import Path


sys.path.insert(0, sys.argv[1])

import numpy as np
import torch
from transformers import AutoModel, AutoProcessor


WORK = Path(sys.argv[2])
assert importlib.util.find_spec("modeling_atri") is None

clips = list(np.load(WORK / "inputs.npz").values())
numbers = {}
for name in ("clap", "toy"):
    model = AutoModel.from_pretrained(WORK / name, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(WORK / name, trust_remote_code=True)
    rate = processor.feature_extractor.sampling_rate
    with torch.no_grad():
        numbers[name] = model.get_audio_features(**processor(audio=clips, sampling_rate=rate)).pooler_output.numpy()
np.savez(WORK / "numbers.npz", **numbers)
