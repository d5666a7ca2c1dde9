"""What mteb wants to know of a model: from the model itself, and from its card, its results and its repository."""

import os
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import torch
from huggingface_hub import HfApi, ModelCard, ModelCardData, hf_hub_download

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.hub_cards.cards import read_template
from modeling_atri.hub_cards.cards.authorship import CARD_NAME
from modeling_atri.hub_cards.cards.origin import model_license
from modeling_atri.hub_cards.results import RESULTS_NAME, Results, as_list, model_languages, read_results
from modeling_atri.languages_atri import resolve_language
from modeling_atri.sources import check_source

from .encoder import AtriMtebEncoder, facts_of_model
from .installed import ModelMeta


_HUB = "https://huggingface.co"
# Tasks of mteb on the test sets of corpora that models are trained on, by a word in the corpora's names.
_TASKS_OF_CORPORA = {
    "audiocaps": {"AudioCapsA2TRetrieval", "AudioCapsT2ARetrieval"},
    "clotho": {"ClothoA2TRetrieval", "ClothoT2ARetrieval"},
    "macs": {"MACSA2TRetrieval", "MACST2ARetrieval"},
    "esc50": {"ESC50", "ESC50_Zeroshot"},
    "esc10": {"ESC50", "ESC50_Zeroshot"},  # ESC-10 is a part of ESC-50
}


class AtriModelMeta(ModelMeta):
    """[`ModelMeta`] of a model that needs no extra of mteb.

    mteb asks for `mteb[audio]` (torchaudio and torchcodec) before it loads any model of sounds. ATRI decodes with
    soundfile, so that is not needed.
    """

    def _resolve_extras_groups(self) -> list[str]:
        return list(self.extra_requirements_groups or [])


def model_meta(model_name: str | os.PathLike[str], revision: str | None = None, **facts: Any) -> AtriModelMeta:
    """Describe a saved model to mteb, from its configuration, its card and its results.

    Of a model on the Hub, weights are not downloaded before mteb needs them: `mteb.evaluate(model_meta("me/atri"),
    tasks)` loads the model only if results are missing in the cache. A folder is loaded at once, because its revision
    is a fingerprint of the weights.

    Args:
        model_name (`str` or `Path`): Folder or Hub id (`"owner/name"`).
        revision (`str`, *optional*): Branch, tag or commit on the Hub. The commit is recorded.
        facts: Fields of `ModelMeta` that replace what was found, or that no card has, such as `contacts`,
            `public_training_code` and `training_datasets` (names of mteb's tasks).

    Returns:
        `mteb.ModelMeta`, checked by mteb. `training_datasets` is None where the training data is not known.

    Raises:
        ValueError: There is no such folder, the name is no Hub id, or a field is wrong.
        ImportError: mteb is not installed.
    """
    name = check_source(model_name)
    if os.path.isdir(name):
        encoder = AtriMtebEncoder.from_pretrained(name)
        found = encoder.mteb_model_meta.model_dump() | {
            "loader": partial(_load_folder, os.path.abspath(name)),
            "memory_usage_mb": _memory_mb(encoder.model),
        }
        return _described(found | _published_facts(Path(name), None) | facts)
    info = HfApi(library_name="modeling_atri").model_info(name, revision=revision)
    commit = cast(str, info.sha)  # the Hub states it for every model
    files = {file.rfilename for file in info.siblings or ()}
    folder = Path(hf_hub_download(name, "config.json", revision=commit)).parent
    for file in files & {CARD_NAME, RESULTS_NAME}:
        hf_hub_download(name, file, revision=commit)
    with torch.device("meta"):
        model = AtriModel(AtriConfig.from_pretrained(name, revision=commit))
    processor = AtriProcessor.from_pretrained(name, revision=commit)
    found = facts_of_model(model, processor) | {
        "loader": load_atri,
        "name": name,
        "revision": commit,
        "reference": f"{_HUB}/{name}",
        "open_weights": True,
        "memory_usage_mb": _memory_mb(model),
        "release_date": info.created_at.strftime("%Y-%m-%d") if info.created_at else None,
    }
    return _described(found | _published_facts(folder, name) | facts)


def load_atri(model_name: str, revision: str | None = None, **options: Any) -> AtriMtebEncoder:
    """Load a model from the Hub for mteb; options as in `AtriMtebEncoder.from_pretrained`."""
    return AtriMtebEncoder.from_pretrained(model_name, revision=revision, **options)


def _load_folder(folder: str, model_name: str, revision: str | None = None, **options: Any) -> AtriMtebEncoder:
    return AtriMtebEncoder.from_pretrained(folder, **options)


def _described(found: dict[str, Any]) -> AtriModelMeta:
    """mteb's object, checked, with what all models of this package share."""
    (citation,) = re.findall(r"```bibtex\n(.*?)\n```", read_template("model_card.md").template, re.DOTALL)
    return AtriModelMeta(
        **ModelMeta.create_empty().model_dump() | found | {"citation": found.get("citation") or citation}
    )


def _memory_mb(model: torch.nn.Module) -> float:
    """Memory of the weights in MB, as mteb counts it."""
    return round(sum(weight.numel() * weight.element_size() for weight in model.parameters()) / 2**20)


def _published_facts(folder: Path, hub_id: str | None) -> dict[str, Any]:
    """What the card and the results in a folder say: languages, license, training data, origin."""
    results = read_results(folder)
    has_card = (folder / CARD_NAME).is_file()
    card = cast(ModelCardData, ModelCard.load(folder / CARD_NAME).data) if has_card else ModelCardData()
    languages = model_languages(results) or [resolve_language(code) for code in as_list(card.language)]
    base_models = [base for base in as_list(card.base_model) if base != hub_id]
    found = {
        "languages": [code.replace("_", "-") for code in languages],
        "license": _license(card.license or model_license(results), hub_id),
        "adapted_from": base_models[0] if len(base_models) == 1 else None,
        **_training_data(results, as_list(card.datasets)),
    }
    return {name: value for name, value in found.items() if value is not None and value != []}


def _license(license: str | None, hub_id: str | None) -> str | None:
    """The license as mteb spells it: one of its list, or the address of the card that names another."""
    if license is None:
        return None
    known = {name for part in get_args(_license_type()) for name in get_args(part)}
    return license.lower() if license.lower() in known else (f"{_HUB}/{hub_id}" if hub_id else None)


def _license_type() -> Any:
    return ModelMeta.model_fields["license"].annotation


def _training_data(results: Results, datasets: Iterable[str]) -> dict[str, Any]:
    """Address of public training data, and the names of mteb's tasks that have data of the same corpora.

    Data that is not on the Hub and whose name says nothing can be anything, so it is unknown.
    """
    data = results.get("data", {})
    hub_ids = list(dict.fromkeys([*datasets, *as_list(data.get("train_hub_id"))]))
    names = [*hub_ids, *as_list(data.get("train"))]
    plain = ["".join(letter for letter in name.lower() if letter.isalnum()) for name in names]
    tasks = {
        task for word, tasks in _TASKS_OF_CORPORA.items() if any(word in name for name in plain) for task in tasks
    }
    return {
        "public_training_data": ", ".join(f"{_HUB}/datasets/{name}" for name in hub_ids) or None,
        "training_datasets": tasks if tasks or hub_ids else None,
    }
