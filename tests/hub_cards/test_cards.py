"""Model cards: the whole text for given results, and nothing that is not known."""

import re

import pytest
from huggingface_hub import ModelCard

from modeling_atri.hub_cards import make_model_card, results_table


NAMES = [f"{way}_{name}" for way in ("text_to_audio", "audio_to_text") for name in ("R@1", "R@5", "R@10", "mAP@10")]
LANGUAGES = ["eng_Latn", "jpn_Jpan"]
METRICS = {f"{key}_{name}": 0.1 * place for key in (*LANGUAGES, "mean") for place, name in enumerate(NAMES)}
RESULTS = {
    "metrics": METRICS | {"mrv": 2.5, "mean_rank_std": 1.25, "embedding_gap": 0.5, "embedding_distance": 0.25},
    "evaluated_on": {"num_clips": 3, "num_captions_per_language": 15, "languages": LANGUAGES},
    "training": {"objective": "akcl", "anchor_language": "eng_Latn", "steps": 7, "epochs": 16.666666, "seed": 0},
    "data": {"train": "clips/train", "eval": "clips/dev"},
    "model": {"num_parameters": 1_600_000, "initialized_from": "scratch"},
    "environment": {"versions": {"torch": "2.13.0"}, "device": {"type": "cpu", "name": "x86_64"}},
}


def test_table_in_percent_one_row_a_language():
    assert results_table(RESULTS["metrics"], LANGUAGES).splitlines() == [
        "language  T2A R@1   R@5  R@10  mAP@10  A2T R@1   R@5  R@10  mAP@10",
        "-" * 66,
        "English       0.0  10.0  20.0    30.0     40.0  50.0  60.0    70.0",
        "Japanese      0.0  10.0  20.0    30.0     40.0  50.0  60.0    70.0",
        "-" * 66,
        "mean          0.0  10.0  20.0    30.0     40.0  50.0  60.0    70.0",
        "",
        "Consistency between languages: mean rank variance 2.500, mean rank std 1.250, embedding gap 0.500, "
        "embedding distance 0.250.",
    ]


def test_one_language_has_no_consistency():
    assert "Consistency" not in results_table(METRICS, ["eng_Latn"])


def test_metadata():
    data = make_model_card(RESULTS, "out", projection_dim=8).data
    assert data.language == ["en", "ja"]
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "feature-extraction"


def test_facts_are_told():
    text = make_model_card(RESULTS, "runs/out", projection_dim=8, title="My model").text
    for line in (
        "# My model",
        'model = AtriModel.from_pretrained("runs/out")',
        "- data: clips/train",
        "- objective: akcl",
        "- epochs: 16.67",
        "- seed: 0",
        "- parameters: 1.6 M",
        "| Japanese | 0.0 | 10.0 | 20.0 | 30.0 | 40.0 | 50.0 | 60.0 | 70.0 |",
    ):
        assert line in text.splitlines(), line
    assert "3 clips, 15 captions in each language" in text
    assert not re.search(r"\$\w|None", text)  # no placeholder left, nothing unknown


def test_what_is_not_known_is_left_out():
    bare = {"metrics": RESULTS["metrics"], "evaluated_on": RESULTS["evaluated_on"]}
    text = make_model_card(bare, "out", projection_dim=8).text
    assert "## Training" not in text
    assert "None" not in text
    assert "## Evaluation" in text


@pytest.mark.parametrize("languages", [["jpn_Jpan"], ["eng_Latn"]])
def test_the_card_is_read_back_as_it_was_written(tmp_path, languages):
    results = RESULTS | {"evaluated_on": RESULTS["evaluated_on"] | {"languages": languages}}
    card = make_model_card(results, "out", projection_dim=8)
    card.save(tmp_path / "README.md")
    loaded = ModelCard.load(tmp_path / "README.md")
    assert loaded.data.to_dict() == card.data.to_dict()
    assert "find" in loaded.text
