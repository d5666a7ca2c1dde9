"""What machines read of a model: the metadata of its card, and its results as the Hub collects them."""

from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from modeling_atri.languages_atri import iso_code

from .figures import published_titles
from .results import as_list, evaluation_size, model_languages, model_license


TAGS = ("audio-text-retrieval", "zero-shot-audio-classification", "multilingual", "atri", "clap")
_TASK = ("audio-text-retrieval", "Audio-text retrieval")
_LOCAL_DATA = "audiofolder"  # how the Hub names the format of sound files beside a metadata.jsonl
_DIGITS = 4


def model_card_data(facts: dict[str, Any], name: str) -> ModelCardData:
    """The metadata of a model card; `name` is the model's in its `model-index`."""
    languages = sorted({iso_code(code) for code in model_languages(facts)})
    model, emissions = facts.get("model", {}), facts.get("emissions", {})
    more = {"co2_eq_emissions": _emissions(emissions)} if "co2_kg" in emissions else {}
    results = _eval_results(facts)
    return ModelCardData(
        language=languages or None,
        license=model_license(facts),
        library_name="peft" if "adapter" in model else "transformers",
        pipeline_tag="feature-extraction",
        tags=list(TAGS),
        base_model=as_list(model.get("base_model")) or None,
        datasets=as_list(facts.get("data", {}).get("train_hub_id")) or None,
        metrics=["recall", "map"] if results else None,
        model_name=name if results else None,
        eval_results=results or None,
        **more,
    )


def eval_results_files(facts: dict[str, Any]) -> dict[str, str]:
    """Path in the repository -> content of the results in the Hub's `.eval_results/*.yaml` format.

    The format names a data set on the Hub, so there is nothing to write for results on other data. The task of an
    entry is the name of the figure, which the `eval.yaml` of a benchmark lists.
    """
    data, metrics = facts.get("data", {}), facts.get("metrics", {})
    dataset = data.get("eval_hub_id")
    if dataset is None or not metrics:
        return {}
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=name,
            value=round(metrics[name], _DIGITS),
            dataset_revision=data.get("eval_revision"),
            date=facts.get("environment", {}).get("date"),
            notes=evaluation_size(facts),
        )
        for name, _ in _shown_figures(facts)
    ]
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    return {f".eval_results/{dataset.replace('/', '--')}.yaml": text}


def _eval_results(facts: dict[str, Any]) -> list[EvalResult]:
    data, metrics = facts.get("data", {}), facts.get("metrics", {})
    dataset = {
        "dataset_type": data.get("eval_hub_id") or _LOCAL_DATA,
        "dataset_name": data.get("eval_hub_id") or data.get("eval") or _LOCAL_DATA,
        "dataset_revision": data.get("eval_revision"),
    }
    return [
        EvalResult(
            task_type=_TASK[0],
            task_name=_TASK[1],
            metric_type=name,
            metric_name=title,
            metric_value=round(metrics[name], _DIGITS),
            **dataset,
        )
        for name, title in _shown_figures(facts)
    ]


def _shown_figures(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and titles of the published figures that the results have."""
    titles = published_titles(facts.get("evaluated_on", {}).get("languages", []))
    return [(name, title) for name, title in titles.items() if name in facts.get("metrics", {})]


def _emissions(emissions: dict[str, Any]) -> dict[str, Any]:
    places = {"geographical_location": emissions.get("country"), "source": emissions.get("source")}
    grams = round(1000 * emissions["co2_kg"], 3)  # the Hub counts grams
    return {"emissions": grams, **{name: value for name, value in places.items() if value is not None}}
