"""What results say of the weights that a model started from."""

import pytest

from modeling_atri.hub_cards import publish
from modeling_atri.hub_cards.cards.origin import model_license, origin_facts, weights_license, with_origin
from tests.helpers.local_hub import LocalHub
from tests.helpers.tiny import tiny_model, tiny_processor


@pytest.fixture
def hub(monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        yield hub


def test_the_origin_of_weights(hub, tmp_path):
    assert origin_facts(None) == origin_facts("scratch") == {}
    start = tmp_path / "start"
    start.mkdir()
    assert origin_facts(str(start)) == {"initialized_from": "start"}
    (start / "README.md").write_text("---\nlicense: cc-by-nc-4.0\nbase_model: tester/base\n---\n# Card\n")
    told = {"initialized_from": "start", "base_model": ["tester/base"], "license": "cc-by-nc-4.0"}
    assert origin_facts(str(start)) == told
    (start / "README.md").unlink()
    (start / "atri_results.json").write_text('{"model": {"weights_from": ["ML-CLAP"]}}')
    told = {"initialized_from": "start", "weights_from": ["ML-CLAP"], "license": "cc-by-nc-4.0"}
    assert origin_facts(str(start)) == told
    assert origin_facts(str(tmp_path / "gone")) == {"initialized_from": "gone"}
    # No repository, or a folder by its relative path that is gone.
    assert origin_facts("tester/unknown") == {"initialized_from": "tester/unknown"}
    hub.cut("GET /api/models/tester/away", times=float("inf"))
    away = {"initialized_from": "tester/away", "base_model": ["tester/away"]}
    assert origin_facts("tester/away") == away, "who cannot ask believes the name"


def test_the_license_of_a_start_on_the_hub_is_kept(hub, tmp_path):
    folder = tmp_path / "start"
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    publish(folder, "tester/start", facts={"model": {"license": "cc-by-nc-4.0"}})
    assert origin_facts("tester/start")["license"] == "cc-by-nc-4.0"


def test_towers_are_the_origin_where_no_other_is_known(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    towers = ["tester/towers", "SONAR", "SONAR"]
    known = {"initialized_from": "tester/towers and SONAR", "weights_from": ["tester/towers", "SONAR"]}
    known |= {"source_licenses": {"tester/towers": None, "SONAR": "cc-by-nc-4.0"}}
    assert with_origin({"projection_dim": 4}, towers) == {"projection_dim": 4, "base_model": ["tester/towers"]} | known
    assert with_origin({"initialized_from": "scratch"}, towers) == {"initialized_from": "scratch"}
    assert with_origin({}, []) == {}


@pytest.mark.parametrize(
    "name, license",
    [
        ("laion/clap-htsat-unfused", "apache-2.0"),
        ("laion/larger_clap_music_and_speech", "apache-2.0"),
        ("MIT/ast-finetuned-audioset-10-10-0.4593", "bsd-3-clause"),
        ("openai/whisper-large-v3", "apache-2.0"),
        ("facebook/wav2vec2-base", "apache-2.0"),
        ("cointegrated/SONAR_200_text_encoder", "cc-by-nc-4.0"),
        ("CED", "apache-2.0"),
        ("microsoft/wavlm-base-plus", None),
        ("someone/whisper-large-v3", None),
    ],
)
def test_licenses_of_published_weights(monkeypatch, name, license):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert weights_license(name) == license


def test_the_card_of_a_folder_says_its_license(tmp_path):
    assert weights_license(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Card\n")
    assert weights_license(str(tmp_path)) == "mit"


def test_a_license_that_all_sources_share_is_that_of_the_model():
    shared = {"a/b": "mit", "c/d": "mit"}
    assert model_license({"model": {"source_licenses": shared}}) == "mit"
    assert model_license({"model": {"source_licenses": {"a/b": "mit", "c/d": None}}}) is None
    assert model_license({"model": {"source_licenses": shared, "license": "apache-2.0"}}) == "apache-2.0"
