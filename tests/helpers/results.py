"""Facts of a run that never was, with everything that a card can tell."""

NAMES = [f"{way}_{name}" for way in ("text_to_audio", "audio_to_text") for name in ("R@1", "R@5", "R@10", "mAP@10")]
LANGUAGES = ["eng_Latn", "jpn_Jpan"]
METRICS = {f"{key}_{name}": 0.1 * place for key in (*LANGUAGES, "mean") for place, name in enumerate(NAMES)}
RESULTS = {
    "metrics": METRICS | {"mrv": 2.5, "mean_rank_std": 1.25, "embedding_gap": 0.5, "embedding_distance": 0.25},
    "evaluated_on": {
        "num_clips": 3,
        "num_captions_per_language": 15,
        "languages": LANGUAGES,
        "anchor_language": "eng_Latn",
    },
    "training": {
        "objective": "akcl",
        "anchor_language": "eng_Latn",
        "languages": [*LANGUAGES, "fra_Latn"],
        "languages_per_step": None,
        "frozen": ["audio"],
        "num_train_clips": 40,
        "steps": 7,
        "epochs": 16.666666,
        "batch_size": 4,
        "learning_rate": 5e-06,
        "precision": "bf16",
        "seed": 0,
        "runtime_s": 90.0,
    },
    "data": {"train": "clips/train", "eval": "clips/dev"},
    "model": {"num_parameters": 1_600_000, "projection_dim": 12, "initialized_from": "scratch"},
    "environment": {
        "versions": {"torch": "2.13.0"},
        "device": {"type": "cpu", "name": "x86_64"},
        "date": "2026-11-22T15:37:12+00:00",
    },
}
# Of a model on the Hub, made from SONAR's weights.
ON_THE_HUB = RESULTS | {
    "data": {"train_hub_id": "tester/clips", "eval_hub_id": "tester/scenes", "eval_revision": "abc123"},
    "model": RESULTS["model"]
    | {
        "initialized_from": "tester/start",
        "base_model": ["mispeech/ced-base", "cointegrated/SONAR_200_text_encoder"],
        "weights_from": ["CED-Base", "SONAR"],
    },
    "emissions": {"co2_kg": 0.0123, "energy_kwh": 0.25, "country": "France", "source": "codecarbon"},
}
