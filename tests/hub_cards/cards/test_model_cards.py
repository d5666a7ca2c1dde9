"""Model cards: the whole text for given facts, nothing that is not known, and nothing that the Hub refuses."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from modeling_atri.hub_cards import eval_results_files, make_model_card, results_table
from modeling_atri.hub_cards.cards import bare_query_text
from modeling_atri.hub_cards.example_captions import EXAMPLE_CAPTIONS
from modeling_atri.languages_atri import ATRI_LANGUAGES, LANGUAGES
from tests.helpers.local_hub import card_problems
from tests.helpers.results import LANGUAGES as EVALUATED
from tests.helpers.results import METRICS, ON_THE_HUB, RESULTS


EXPECTED = Path(__file__).parent / "expected"


def without(facts: dict, *path: str) -> dict:
    """The facts without one of them."""
    facts = copy.deepcopy(facts)
    part = facts
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    return facts


def test_table_in_percent_one_row_a_language():
    assert results_table(RESULTS["metrics"], EVALUATED).splitlines() == [
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


@pytest.mark.parametrize("name, facts", [("model_card", ON_THE_HUB), ("model_card_without_facts", {})])
def test_the_whole_card(name, facts):
    card = make_model_card(facts, "tester/atri", title="My model")
    assert str(card) == (EXPECTED / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("facts", [RESULTS, ON_THE_HUB, {}, without(RESULTS, "metrics")])
def test_the_card_is_valid_and_read_back_as_it_was_written(tmp_path, facts):
    card = make_model_card(facts, "runs/out")
    assert card_problems(str(card)) == []
    card.save(tmp_path / "README.md")
    loaded = ModelCard.load(tmp_path / "README.md")
    assert loaded.data.to_dict() == card.data.to_dict()
    assert loaded.text.strip() == card.text.strip()
    assert not re.search(r"\$\w|None|nan", loaded.text)  # no placeholder left, nothing unknown


@pytest.mark.parametrize(
    "path, lines",
    [
        (("training", "seed"), ["- seed: 0", "- One training run with one seed"]),
        (("training", "frozen"), ["- frozen: audio tower"]),
        (("training", "runtime_s"), ["- duration: 1.5 minutes"]),
        (("training", "num_train_clips"), ["- training clips: 40"]),
        (("training",), ["- objective: akcl", "- Trained in, but not evaluated: French", '"fra_Latn"', "- fr\n"]),
        (("data", "train_hub_id"), ["datasets:", "- data: tester/clips"]),
        (("data", "eval_revision"), ["revision: abc123"]),
        (("model", "num_parameters"), ["- parameters: 1.6 M"]),
        (("model", "weights_from"), ["- weights converted from: CED-Base, SONAR"]),
        (("model", "initialized_from"), ["- started from: tester/start"]),
        (("emissions",), ["## Carbon", "0.0123 kg", "co2_eq_emissions"]),
        (("emissions", "country"), [", in France", "geographical_location"]),
        (("environment",), ["torch 2.13.0", "cpu (x86_64)"]),
        (("metrics",), ["## Evaluation", "model-index", "metrics:", "mean rank variance"]),
        (("metrics", "mrv"), ["ean rank variance"]),
    ],
)
def test_without_a_fact_its_lines_are_gone(path, lines):
    whole, reduced = (str(make_model_card(facts, "out")) for facts in (ON_THE_HUB, without(ON_THE_HUB, *path)))
    for line in lines:
        assert line in whole
        assert line not in reduced


@pytest.mark.parametrize(
    "facts",
    [
        {"metrics": {"mrv": 7.0}},
        {"metrics": RESULTS["metrics"], "evaluated_on": {"num_clips": 3}},
        {"metrics": RESULTS["metrics"], "evaluated_on": {"languages": EVALUATED}},
        {"metrics": RESULTS["metrics"], "evaluated_on": {"languages": EVALUATED, "num_clips": 3}},
        {"metrics": RESULTS["metrics"], "data": {"eval_hub_id": "tester/scenes"}},
    ],
)
def test_figures_of_which_little_is_known(facts):
    card = make_model_card(facts, "out")
    assert card_problems(str(card)) == []
    assert ("| English |" in card.text) == ("languages" in facts.get("evaluated_on", {}))
    assert ("Evaluated on 3 clips." in card.text) == (
        facts.get("evaluated_on", {}).keys() == {"languages", "num_clips"}
    )
    assert all(yaml.safe_load(text) for text in eval_results_files(facts).values())


def test_learning_rates_and_durations():
    rates = {"learning_rate": 5e-6, "text_learning_rate": 1e-4, "head_learning_rate": None}
    text = make_model_card({"training": rates | {"runtime_s": 12.4}}, "out").text
    assert "- peak learning rate: 5e-06\n- peak learning rate of the text tower: 0.0001\n" in text
    assert "projections" not in text
    assert "- duration: 12 seconds" in text
    assert "- duration: 2.0 hours" in make_model_card({"training": {"runtime_s": 7200}}, "out").text


def test_sonar_weights_bring_their_license():
    card = make_model_card(ON_THE_HUB, "out")
    assert card.data.license == "cc-by-nc-4.0"
    assert "made from the weights of [SONAR]" in card.text
    for model in (
        {"weights_from": ["ML-CLAP pretrain.pt"]},
        {"weights_from": ["my-ced", "my-sonar"]},
        {"initialized_from": "cointegrated/SONAR_200_text_encoder"},
    ):
        assert make_model_card({"model": model}, "out").data.license == "cc-by-nc-4.0"
    with pytest.raises(ValueError, match="'apache-2.0' was given.*Leave the license out, or give 'cc-by-nc-4.0'"):
        make_model_card({"model": ON_THE_HUB["model"] | {"license": "apache-2.0"}}, "out")


def test_other_weights_have_the_license_that_is_given_or_none():
    assert make_model_card({"model": {"license": "mit"}}, "out").data.license == "mit"
    assert make_model_card({"model": {"license": "mit", "base_model": "me/sonar-pings"}}, "out").data.license == "mit"
    card = make_model_card({"model": {"initialized_from": "runs/mlclap"}}, "out")
    assert card.data.license is None
    assert "## License" not in card.text


def test_adapter_and_fresh_parts_are_told():
    adapter = {"model": {"adapter": {"method": "LORA", "rank": 8, "alpha": 16.0}, "base_model": "tester/base"}}
    card = make_model_card(adapter, "out")
    assert (card.data.library_name, card.data.base_model) == ("peft", ["tester/base"])
    assert "- adapter: method LORA, rank 8, alpha 16\n" in card.text
    assert "loading it needs `peft`" in card.text
    assert "peft" not in make_model_card({}, "out").text
    converted = {"model": {"weights_from": ["CED"]}, "conversion": {"fresh": ["audio_projection", "logit_scale"]}}
    warning = "- Not trained yet: audio_projection, logit_scale have random weights. Train the model before use."
    assert warning in make_model_card(converted, "out").text
    assert warning not in make_model_card(converted | {"training": {"steps": 1}}, "out").text


def test_an_example_in_each_language_of_the_model():
    facts = {"training": {"languages": [*ATRI_LANGUAGES, "zul_Latn"]}}
    text = make_model_card(facts, "out").text
    assert all(f'    "{code}": "{EXAMPLE_CAPTIONS[code]}",\n' in text for code in ATRI_LANGUAGES)
    assert "zul_Latn" not in text[: text.index("## Languages")]
    assert '    "eng_Latn": "a dog barks",\n}' in make_model_card({}, "out").text
    assert '    "zul_Latn": "...",' in make_model_card({"training": {"languages": ["zul_Latn"]}}, "out").text
    assert set(EXAMPLE_CAPTIONS) <= set(LANGUAGES)


def test_results_as_the_hub_collects_them():
    (path, text), *more = eval_results_files(ON_THE_HUB).items()
    assert path == ".eval_results/tester--scenes.yaml"
    assert more == []
    entries = {entry.task_id: entry for entry in parse_eval_result_entries(yaml.safe_load(text))}
    assert entries["mean_text_to_audio_R@10"].value == 0.2
    assert entries["jpn_Jpan_audio_to_text_R@1"].value == 0.4
    assert entries["mrv"].value == 2.5
    for entry in entries.values():
        assert (entry.dataset_id, entry.dataset_revision) == ("tester/scenes", "abc123")
        assert entry.date == "2026-11-22T15:37:12+00:00"
        assert entry.notes == "3 clips, 15 captions in each language"


def test_results_on_other_data_than_the_hub_has_are_in_the_card_alone():
    assert eval_results_files(RESULTS) == {}
    assert eval_results_files(without(ON_THE_HUB, "metrics")) == {}
    results = make_model_card(RESULTS, "out").data.eval_results
    assert {(result.dataset_type, result.dataset_name) for result in results} == {("audiofolder", "clips/dev")}


def test_a_model_of_languages_outside_flores():
    metrics = {key.replace("jpn_Jpan", "bre_Latn"): value for key, value in METRICS.items()}
    of_run = RESULTS["training"] | {"languages": ["eng_Latn", "bre_Latn", "srp_Latn", "frr_Latn"]}
    evaluated = RESULTS["evaluated_on"] | {"languages": ["eng_Latn", "bre_Latn"]}
    card = make_model_card(RESULTS | {"metrics": metrics, "training": of_run, "evaluated_on": evaluated}, "out")
    assert card.data.language == ["br", "en", "frr", "sr"]
    assert card_problems(str(card)) == []
    for name in ("Breton (`bre_Latn`)", "Serbian (Latn script) (`srp_Latn`)", "frr_Latn (`frr_Latn`)"):
        assert name in str(card)
    assert re.search(r"^\| Breton ", str(card), flags=re.M)


def test_what_short_queries_found_is_said_where_it_was_measured():
    metrics = {"eng_Latn_bare_query_R@1": 0.875, "jpn_Jpan_bare_query_R@1": 0.8, "mean_bare_query_R@1": 0.8375}
    evaluated = {"languages": ["eng_Latn", "jpn_Jpan"], "bare_queries": "Each query is a noun."}
    assert bare_query_text({"metrics": metrics, "evaluated_on": evaluated}) == (
        "Short queries, R@1 in percent: 83.8 in the mean of languages (English 87.5, Japanese 80.0). "
        "Each query is a noun."
    )
    assert bare_query_text({"metrics": {}, "evaluated_on": evaluated}) == ""


def test_the_card_says_what_short_queries_found():
    metrics = METRICS | {f"{name}_bare_query_R@1": 0.5 for name in ("eng_Latn", "jpn_Jpan", "mean")}
    results = RESULTS | {"metrics": metrics, "evaluated_on": RESULTS["evaluated_on"] | {"bare_queries": "Nouns."}}
    stated = "Short queries, R@1 in percent: 50.0 in the mean of languages (English 50.0, Japanese 50.0). Nouns."
    assert stated in str(make_model_card(results, "runs/out"))
    assert "Short queries" not in str(make_model_card(RESULTS, "runs/out"))
