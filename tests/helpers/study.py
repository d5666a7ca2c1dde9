"""Made-up runs of the study of `benchmarks/consistency.py`."""

import math
from typing import Any

import numpy as np


def made_up_run(cell: str, seed: int, **columns: Any) -> dict[str, Any]:
    """A row of the results file, with random ranks of 190 clips with five captions each."""
    metrics = {
        "mean_text_to_audio_R@1": 1 / 3,
        "mean_text_to_audio_R@10": 0.5,
        "mean_audio_to_text_R@1": 0.25,
        "mrv": math.pi,
        "mean_rank_std": 1.0,
        "embedding_gap": 0.125,
        "embedding_distance": 0.5,
    }
    return {
        "cell": cell,
        "seed": seed,
        "steps": 600,
        "options": {"learning_rate": 0.1 + 0.2, "freeze_text": True},
        "captions_a_clip": 1200,
        "num_parameters": 1_234_567,
        "metrics": metrics,
        "last_loss": 5e-324,
        "distance_from_start": 2.0,
        "cpu_seconds": 90.0,
        "peak_memory_mb": 700,
        "environment": {"device": {"type": "cpu"}, "versions": {"torch": "2.13", "transformers": "5.23"}},
        "doubled_ranks": np.random.default_rng(seed).integers(2, 17, size=(8, 950), dtype=np.uint16),
        "weight_error": None,
        "curve": None,
        "cpu_seconds_of_text_states": None,
        "cpu_seconds_of_archive": None,
        **columns,
    }
