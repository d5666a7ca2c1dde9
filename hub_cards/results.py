"""What is known of a model, and where it is read from.

A card is made from one plain dict, the content of `atri_results.json`. Every part is optional; what is missing is
left out of the card:

    metrics         `{language}_{metric}`, `mean_{metric}`, `mrv`, ..., as fractions
    evaluated_on    num_clips, num_captions_per_language, languages, anchor_language;
                    left_out: how many rows could not be used, by what is wrong with them
    data            train, eval: names; train_hub_id, eval_hub_id, eval_revision: data sets on the Hub
    model           num_parameters, projection_dim, base_model (Hub ids), license, adapter;
                    initialized_from: name of the model that training started from, or "scratch";
                    weights_from: names of the checkpoints that the weights were converted from
    conversion      fresh: what `atri convert` found no weights for
    training        objective, languages, steps, batch_size, seed, runtime_s, left_out, ...
    environment     versions, device, date
    emissions       co2_kg, energy_kwh, country, source
"""

import csv
import json
import os
import re
from pathlib import Path
from typing import Any


RESULTS_NAME = "atri_results.json"
EMISSIONS_NAME = "emissions.csv"  # as codecarbon writes it
SONAR_LICENSE = "cc-by-nc-4.0"

# SONAR's text encoder as the Hub names it; and what weights are converted from: files and folders of SONAR, or of
# ML-CLAP, whose text tower is SONAR fine-tuned, by whatever name somebody gave them.
_SONAR = re.compile(r"(^|/)SONAR(_|$)")
_SONAR_FILES = re.compile(r"(?<![a-z])sonar(?![a-z])|ml-?clap", re.IGNORECASE)


def read_facts(folder: str | os.PathLike) -> dict[str, Any]:
    """The results that a run left in a folder, with codecarbon's measurement where there is one.

    Raises:
        ValueError: `atri_results.json` holds something else than a mapping.
    """
    folder = Path(folder)
    facts: dict[str, Any] = {}
    if (folder / RESULTS_NAME).is_file():
        try:
            facts = json.loads((folder / RESULTS_NAME).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{folder / RESULTS_NAME} cannot be read as JSON: {error}") from error
        if not isinstance(facts, dict):
            raise ValueError(f"{folder / RESULTS_NAME} must hold a mapping, but holds a {type(facts).__name__}.")
    emissions = read_emissions(folder)
    return facts | ({"emissions": emissions} if emissions and "emissions" not in facts else {})


def read_emissions(folder: str | os.PathLike) -> dict[str, Any] | None:
    """The last measurement in `emissions.csv` of a folder: kg of CO2-equivalent and kWh; None without the file."""
    path = Path(folder) / EMISSIONS_NAME
    if not path.is_file():
        return None
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not rows[-1].get("emissions"):
        return None
    last = rows[-1]
    found = {"co2_kg": float(last["emissions"]), "source": "codecarbon"}
    if last.get("energy_consumed"):
        found["energy_kwh"] = float(last["energy_consumed"])
    if last.get("country_name"):
        found["country"] = last["country_name"]
    return found


def model_languages(facts: dict[str, Any]) -> list[str]:
    """Codes of the languages it was trained in, then of those it was only evaluated in."""
    parts = [facts.get(part, {}).get("languages") or [] for part in ("training", "evaluated_on")]
    return list(dict.fromkeys(code for part in parts for code in part))


def evaluation_size(facts: dict[str, Any]) -> str | None:
    """How much was evaluated on, in words; None where it is not known."""
    evaluated = facts.get("evaluated_on", {})
    sizes = {"num_clips": "{} clips", "num_captions_per_language": "{} captions in each language"}
    return ", ".join(text.format(evaluated[name]) for name, text in sizes.items() if name in evaluated) or None


def has_sonar_weights(facts: dict[str, Any]) -> bool:
    """Whether the text tower was made from SONAR's weights, directly or by way of ML-CLAP."""
    model = facts.get("model", {})
    weights = as_list(model.get("weights_from"))
    names = [*weights, *as_list(model.get("base_model")), *as_list(model.get("initialized_from"))]
    return any(_SONAR.search(name) for name in names) or any(_SONAR_FILES.search(name) for name in weights)


def model_license(facts: dict[str, Any]) -> str | None:
    """The licence of the weights, None where it is not known.

    Raises:
        ValueError: another licence was given than SONAR's weights allow.
    """
    given = facts.get("model", {}).get("license")
    if not has_sonar_weights(facts):
        return given
    if given not in (None, SONAR_LICENSE):
        raise ValueError(
            f"The licence {given!r} was given, but the text tower holds weights made from SONAR's, which are "
            f"{SONAR_LICENSE}. Leave the licence out, or give {SONAR_LICENSE!r}."
        )
    return SONAR_LICENSE


def as_list(value: str | list[str] | None) -> list[str]:
    """A fact that may be one name, several, or missing."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)
