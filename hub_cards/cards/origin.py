"""Where the weights of a model come from, and the license that follows from it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi, ModelCard, ModelCardData, is_offline_mode
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError

from modeling_atri.sources import is_hub_id, public_name

from ..results import ModelFacts, Results, as_list, read_results
from .authorship import CARD_NAME


SONAR_LICENSE = "cc-by-nc-4.0"

# Licenses of published weights according to their cards on the Hub, for when the Hub cannot be reached. The cards of
# WavLM do not state one.
_LICENSES = {
    r"laion/(clap-htsat|larger_clap)\w*-?\w*": "apache-2.0",
    r"lukewys/laion_clap": "cc0-1.0",
    r"MIT/ast-finetuned-audioset-[\d.-]+(v2)?": "bsd-3-clause",
    r"openai/whisper-(tiny|base|small|medium|large)[\w.-]*": "apache-2.0",
    r"facebook/wav2vec2-(base|large)(-960h)?": "apache-2.0",
    r"facebook/hubert-(base|large|xlarge)-l[sl]\w+": "apache-2.0",
    r"facebook/pe-av-(small|base|large)": "apache-2.0",
    r"CED|mispeech/ced-(tiny|mini|small|base)": "apache-2.0",
    r"mispeech/GLAP": "apache-2.0",
    r"FacebookAI/xlm-roberta-(base|large)": "mit",
    r"facebook/nllb-200-[\w.-]+": SONAR_LICENSE,
}

# SONAR's text encoder, as the Hub names it.
_SONAR = re.compile(r"(^|/)SONAR(_|$)")
# Files and folders of SONAR, or of ML-CLAP, whose text tower is a fine-tuned SONAR. Users may have renamed them.
_SONAR_FILES = re.compile(r"(?<![a-z])sonar(?![a-z])|ml-?clap", re.IGNORECASE)


def with_origin(model: ModelFacts, towers: Sequence[str]) -> ModelFacts:
    """Add to the facts of a model the origin of its weights.

    If the facts lack `initialized_from`, `towers` are the names that the audio and the text tower were loaded from.
    """
    model = model | origin_facts(model.get("initialized_from"))
    names = list(dict.fromkeys(towers))
    if "initialized_from" not in model and names:
        model |= {"initialized_from": " and ".join(names), "weights_from": names}
        if hub_ids := [name for name in names if is_hub_id(name)]:
            model["base_model"] = hub_ids
        model["source_licenses"] = {name: weights_license(name) for name in names}
    return model


def origin_facts(name: str | None) -> ModelFacts:
    """Find out `initialized_from`, `weights_from`, `base_model` and `license` of the model that training started from.

    Args:
        name (`str`, *optional*): Folder or Hub id, or `"scratch"`. A folder is described by its card and results, a
            Hub repository by the Hub, if it can be reached. The path to a folder is not part of the facts.

    Returns:
        [`~results.ModelFacts`] with what is known.
    """
    if name is None or name == "scratch":
        return {}
    folder = Path(name)
    facts: dict[str, Any] = {"initialized_from": public_name(name)}
    if folder.is_dir():
        results = read_results(folder)
        saved = results.get("model", {})
        card = ModelCard.load(folder / CARD_NAME).data if (folder / CARD_NAME).is_file() else ModelCardData()
        card = cast(ModelCardData, card)
        facts |= {
            "weights_from": saved.get("weights_from"),
            "base_model": as_list(card.base_model) or saved.get("base_model"),
            "license": card.license or model_license(results),
            "source_licenses": saved.get("source_licenses"),
        }
    elif is_hub_id(name):
        facts |= _hub_facts(name)
    return cast(ModelFacts, {key: value for key, value in facts.items() if value})


def weights_license(name: str) -> str | None:
    """License of published weights, from the card in their folder or on the Hub, or from the table `_LICENSES`.

    Args:
        name (`str`): Folder, Hub id, or the name of a project (`"CED"`, `"SONAR"`).

    Returns:
        License id as the Hub spells it; None if it is not known.
    """
    license = origin_facts(name).get("license")
    if license is None and not Path(name).exists():
        known = (value for pattern, value in _LICENSES.items() if re.fullmatch(pattern, name))
        license = SONAR_LICENSE if _SONAR.search(name) or name == "ML-CLAP" else next(known, None)
    return license


def _hub_facts(repo_id: str) -> dict[str, Any]:
    """`base_model`, and its license if the Hub has one; nothing if the Hub has no such repository."""
    base = {"base_model": [repo_id]}
    if is_offline_mode():
        return base
    try:
        card = HfApi(library_name="modeling_atri").model_info(repo_id).card_data
    except RepositoryNotFoundError:  # the relative path of a deleted folder looks like an id
        return {}
    except (HTTPError, ValueError):  # the Hub cannot be reached
        return base
    return base | {"license": card.license if card else None}


def has_sonar_weights(results: Results) -> bool:
    """Whether the text tower was made from SONAR's weights, directly or by way of ML-CLAP."""
    model = results.get("model", {})
    weights = as_list(model.get("weights_from"))
    names = [*weights, *as_list(model.get("base_model")), *as_list(model.get("initialized_from"))]
    return any(_SONAR.search(name) for name in names) or any(_SONAR_FILES.search(name) for name in weights)


def model_license(results: Results) -> str | None:
    """License of the weights; None if it is unknown.

    Raises:
        ValueError: The results give another license than SONAR's weights allow.
    """
    model = results.get("model", {})
    given, parts = model.get("license"), set(model.get("source_licenses", {}).values())
    if not has_sonar_weights(results):
        return given or (parts.pop() if len(parts) == 1 else None)
    if given not in (None, SONAR_LICENSE):
        raise ValueError(
            f"The license {given!r} was given, but the text tower holds weights made from SONAR's, which are "
            f"{SONAR_LICENSE}. Leave the license out, or give {SONAR_LICENSE!r}."
        )
    return SONAR_LICENSE
