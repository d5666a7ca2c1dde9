"""The file of results: what is read, written and merged."""

import json
import stat

import pytest

from modeling_atri.hub_cards.results import merge_results, read_emissions, read_results, write_results


def test_results_are_written_as_readable_json_and_read_back(tmp_path):
    path = tmp_path / "new" / "folder" / "atri_results.json"
    results = {"data": {"train": "狗在雨中"}, "metrics": {"mrv": 0.5}}
    write_results(results, path)
    assert path.read_text(encoding="utf-8") == (
        '{\n  "data": {\n    "train": "狗在雨中"\n  },\n  "metrics": {\n    "mrv": 0.5\n  }\n}\n'
    )
    assert read_results(path.parent) == results
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_results_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "atri_results.json"
    write_results({"metrics": {"mrv": 1.0}}, path)
    with pytest.raises(TypeError):
        write_results({"metrics": {"mrv": object()}}, path)
    assert json.loads(path.read_text()) == {"metrics": {"mrv": 1.0}}
    assert [entry.name for entry in tmp_path.iterdir()] == ["atri_results.json"], "no temporary file is left"


def test_a_folder_without_results_has_none(tmp_path):
    assert read_results(tmp_path) == {}
    (tmp_path / "emissions.csv").write_text("emissions\n0.5\n")
    assert read_results(tmp_path) == {"emissions": {"co2_kg": 0.5, "source": "codecarbon"}}
    write_results({"emissions": {"co2_kg": 2.0}}, tmp_path / "atri_results.json")
    assert read_results(tmp_path) == {"emissions": {"co2_kg": 2.0}}, "results count more than the measurement"


def test_given_facts_count_in_merged_results():
    known = {"model": {"num_parameters": 1, "initialized_from": "a"}, "training": {"steps": 3}}
    given = {"model": {"initialized_from": "b"}, "data": {"train": "clips"}}
    merged = merge_results(known, given)
    assert merged == {
        "model": {"num_parameters": 1, "initialized_from": "b"},
        "training": {"steps": 3},
        "data": {"train": "clips"},
    }
    assert list(merged) == ["model", "training", "data"], "the order of a file does not depend on what is given"
    assert known["model"]["initialized_from"] == "a"


def test_emissions_are_those_of_the_last_measurement(tmp_path):
    assert read_emissions(tmp_path) is None
    lines = ["timestamp,emissions,energy_consumed,country_name", "1,0.5,1.5,Spain", "2,0.25,0.75,France"]
    (tmp_path / "emissions.csv").write_text("\n".join(lines))
    assert read_emissions(tmp_path) == {
        "co2_kg": 0.25,
        "energy_kwh": 0.75,
        "country": "France",
        "source": "codecarbon",
    }
    (tmp_path / "emissions.csv").write_text("timestamp,emissions\n1,\n")
    assert read_emissions(tmp_path) is None
