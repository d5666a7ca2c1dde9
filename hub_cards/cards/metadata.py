"""Machine-readable descriptions of a model: the metadata of its card, and evaluation results for the Hub."""

from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from modeling_atri.languages_atri import iso_code

from ..figures import published_titles
from ..results import Emissions, Results, as_list, evaluation_size, model_languages
from .origin import model_license


_CLASSIFICATION = "zero-shot-audio-classification"  # of sounds, so only of models with an audio tower
TAGS = ("audio-text-retrieval", _CLASSIFICATION, "multilingual", "atri", "clap")
_TASK = ("audio-text-retrieval", "Audio-text retrieval")
_LOCAL_DATA = "audiofolder"  # the Hub's name for sound files beside a metadata.jsonl
_DIGITS = 4


def model_card_data(results: Results, name: str) -> ModelCardData:
    """Make the metadata of a model card; `name` is the model's name in its `model-index`."""
    languages = sorted({iso_code(code) for code in model_languages(results)})
    model, emissions = results.get("model", {}), results.get("emissions", {})
    more: dict[str, Any] = {"co2_eq_emissions": _emissions(emissions)} if "co2_kg" in emissions else {}
    figures = _eval_results(results)
    return ModelCardData(
        language=languages or None,
        license=model_license(results),
        library_name="peft" if "adapter" in model else "transformers",
        pipeline_tag="feature-extraction",
        tags=[tag for tag in TAGS if tag != _CLASSIFICATION or "audio_embedded_by" not in model],
        base_model=as_list(model.get("base_model")) or None,
        datasets=as_list(results.get("data", {}).get("train_hub_id")) or None,
        metrics=["recall", "map"] if figures else None,
        model_name=name if figures else None,
        eval_results=figures or None,
        **more,
    )


def eval_results_files(results: Results) -> dict[str, str]:
    """Make the files of the Hub's `.eval_results/*.yaml` format.

    The format needs a data set on the Hub, so there are no files for results on other data. The task of an entry is
    the name of the figure, which the `eval.yaml` of a benchmark lists.

    Returns:
        `dict[str, str]`: Content of each file, by path in the repository.
    """
    data, metrics = results.get("data", {}), results.get("metrics", {})
    dataset = data.get("eval_hub_id")
    if dataset is None or not metrics:
        return {}
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=name,
            value=round(metrics[name], _DIGITS),
            dataset_revision=data.get("eval_revision"),
            date=results.get("environment", {}).get("date"),
            notes=evaluation_size(results),
        )
        for name in _published_figures(results)
    ]
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    return {f".eval_results/{dataset.replace('/', '--')}.yaml": text}


def _eval_results(results: Results) -> list[EvalResult]:
    data, metrics = results.get("data", {}), results.get("metrics", {})
    return [
        EvalResult(
            task_type=_TASK[0],
            task_name=_TASK[1],
            dataset_type=data.get("eval_hub_id") or _LOCAL_DATA,
            dataset_name=data.get("eval_hub_id") or data.get("eval") or _LOCAL_DATA,
            dataset_revision=data.get("eval_revision"),
            metric_type=name,
            metric_name=title,
            metric_value=round(metrics[name], _DIGITS),
        )
        for name, title in _published_figures(results).items()
    ]


def _published_figures(results: Results) -> dict[str, str]:
    """Names and titles of the published figures that the results have."""
    titles = published_titles(results.get("evaluated_on", {}).get("languages", []))
    return {name: title for name, title in titles.items() if name in results.get("metrics", {})}


def _emissions(emissions: Emissions) -> dict[str, Any]:
    places = {"geographical_location": emissions.get("country"), "source": emissions.get("source")}
    grams = round(1000 * emissions["co2_kg"], 3)  # the Hub counts grams
    return {"emissions": grams, **{name: value for name, value in places.items() if value is not None}}
