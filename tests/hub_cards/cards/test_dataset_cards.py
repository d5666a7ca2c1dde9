"""Cards of data sets of translated captions and of Spaces."""

import re
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, SpaceCard

from modeling_atri.hub_cards import make_dataset_card, make_space_card
from tests.helpers.local_hub import card_problems


EXPECTED = Path(__file__).parent / "expected"
FACTS = {
    "title": "Scenes in three languages",
    "languages": ["eng_Latn", "fr", "Japanese"],
    "source_language": "en",
    "source": "Scenes",
    "source_id": "tester/scenes",
    "source_license": "cc-by-4.0",
    "translation_model": "facebook/nllb-200-3.3B",
    "translation_license": "cc-by-nc-4.0",
    "num_clips": 1700,
    "num_captions_per_language": 8500,
    "splits": {"train": 1500, "dev": 200},
    "columns": {"audio": "the recording", "captions": "a list of captions for each language"},
    "provenance": ["captions that came back empty were translated again, sentence by sentence"],
    "known_issues": ["Nobody who speaks the languages has read the translations."],
    "license": "cc-by-nc-4.0",
}


@pytest.mark.parametrize(
    "name, facts", [("dataset_card", FACTS), ("dataset_card_without_facts", {"title": "Few", "languages": ["en"]})]
)
def test_the_whole_card(tmp_path, name, facts):
    card = make_dataset_card(facts)
    assert str(card) == (EXPECTED / f"{name}.md").read_text(encoding="utf-8")
    assert card_problems(str(card)) == []
    card.save(tmp_path / "README.md")
    assert DatasetCard.load(tmp_path / "README.md").data.to_dict() == card.data.to_dict()
    assert not re.search(r"\$\w|None", str(card))


@pytest.mark.parametrize(
    "name, line",
    [
        ("source_language", ", the original"),
        ("source_id", "](https://huggingface.co/datasets/tester/scenes)"),
        ("source_license", "license `cc-by-4.0`"),
        ("translation_model", "translated by machine"),
        ("num_clips", "- total: 1700 clips"),
        ("splits", "- dev: 200 clips"),
        ("columns", "## Columns"),
        ("known_issues", "## Known issues"),
        ("license", "## License"),
    ],
)
def test_without_a_fact_its_lines_are_gone(name, line):
    assert line in str(make_dataset_card(FACTS))
    assert line not in str(make_dataset_card({key: value for key, value in FACTS.items() if key != name}))


def test_several_licenses_and_a_model_that_is_not_on_the_hub():
    licenses = ["cc-by-4.0", "cc-by-nc-4.0"]
    card = make_dataset_card(FACTS | {"license": licenses, "source_license": licenses, "translation_model": "ours"})
    assert card.data.license == licenses
    assert card_problems(str(card)) == []
    assert "\n`cc-by-4.0` and `cc-by-nc-4.0`." in str(card)
    assert "tester/scenes)), license `cc-by-4.0` and `cc-by-nc-4.0`\n" in str(card)
    assert "- translated by machine: ours, license" in str(card)


@pytest.mark.parametrize("missing", ["source_license", "translation_license"])
def test_where_one_of_two_licenses_is_unknown_the_card_gives_none(missing):
    card = make_dataset_card({key: value for key, value in FACTS.items() if key not in (missing, "license")})
    assert "license" not in card.data.to_dict()
    assert card_problems(str(card)) == []
    own, model = ("unknown", "`cc-by-nc-4.0`") if missing == "source_license" else ("`cc-by-4.0`", "unknown")
    lines = f"- license of the original captions: {own}\n- license of the translation model: {model}"
    unknown = "The license of the data set is unknown, because it depends on two licenses:"
    assert f"## License\n\n{unknown}\n\n{lines}" in str(card)
    assert make_dataset_card({**FACTS, missing: None}).data.license == "cc-by-nc-4.0", "unless it is given"


@pytest.mark.parametrize(
    "count, category", [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10_000_000, "10M<n<100M")]
)
def test_size_categories(count, category):
    assert make_dataset_card(FACTS | {"num_clips": count}).data.size_categories == category


def test_languages_outside_flores():
    card = make_dataset_card({"title": "x", "languages": "en-US,br,sr-Latn,frr_Latn", "source_language": "en"})
    assert card.data.language == ["br", "en", "frr", "sr"]
    assert card_problems(str(card)) == []
    for line in ["Breton (`bre_Latn`)", "Serbian (Latn script) (`srp_Latn`)", "frr_Latn (`frr_Latn`)"]:
        assert f"- {line}\n" in str(card)


def test_what_a_dataset_card_cannot_do_without():
    with pytest.raises(ValueError, match="needs `title`"):
        make_dataset_card({"languages": ["en"]})
    with pytest.raises(ValueError, match="needs `languages`"):
        make_dataset_card({"title": "x", "languages": []})
    with pytest.raises(ValueError, match="Unknown language 'klingon'"):
        make_dataset_card({"title": "x", "languages": ["klingon"]})


def test_a_space_card(tmp_path):
    card = make_space_card("Find sounds", ["tester/atri"], ["en", "fr", "ja"], sdk_version="6.0.0", app_file="app.py")
    assert card.data.to_dict() == {
        "title": "Find sounds",
        "sdk": "gradio",
        "sdk_version": "6.0.0",
        "app_file": "app.py",
        "models": ["tester/atri"],
        "tags": ["audio-text-retrieval", "multilingual"],
    }
    assert card_problems(str(card)) == []
    lines = card.text.strip().splitlines()
    assert lines[0] == "# Find sounds"
    assert lines[2] == (
        "Find sounds by captions in English, French and Japanese, with [tester/atri](https://huggingface.co/tester/atri)."
    )
    card.save(tmp_path / "README.md")
    assert SpaceCard.load(tmp_path / "README.md").data.to_dict() == card.data.to_dict()
    assert "captions, with" in make_space_card("x", ["a/b"], []).text
    assert "captions in English, with" in make_space_card("x", ["a/b"], ["en"], sdk="docker").text


def test_what_a_space_card_cannot_do_without():
    with pytest.raises(ValueError, match="must be one of gradio, docker; got 'shiny'"):
        make_space_card("x", ["a/b"], ["en"], sdk="shiny")
    with pytest.raises(ValueError, match="at least one model"):
        make_space_card("x", [], ["en"])
