"""Results in, model card out. What is not known is left out."""

from importlib.resources import files
from string import Template
from typing import Any

from huggingface_hub import ModelCard

from modeling_atri.languages_atri import language_name

from .example_captions import EXAMPLE_CAPTIONS
from .metadata import model_card_data
from .results import as_list, evaluation_size, has_sonar_weights, model_languages, model_license
from .tables import results_table


DEFAULT_TITLE = "ATRI model"

# The order of a training run's facts in the card, and how they are called there.
_TRAINING_FACTS = (
    ("objective", "objective"),
    ("anchor_language", "anchor language"),
    ("languages_per_step", "languages a step"),
    ("ranking_weight", "weight of equal rankings"),
    ("num_train_clips", "training clips"),
    ("steps", "optimizer steps"),
    ("best_step", "step of the best model, which this is"),
    ("epochs", "epochs"),
    ("batch_size", "clips a step"),
    ("learning_rate", "peak learning rate"),
    ("audio_learning_rate", "peak learning rate of the audio tower"),
    ("text_learning_rate", "peak learning rate of the text tower"),
    ("head_learning_rate", "peak learning rate of projections and logit scale"),
    ("precision", "precision"),
    ("seed", "seed"),
)

_ADAPTER_NOTE = " It is an adapter: loading it takes `peft`, and the base model, which is found by its name."


def make_model_card(results: dict[str, Any], path: str, title: str = DEFAULT_TITLE) -> ModelCard:
    """The model card of a model.

    Args:
        results: the facts, as `modeling_atri.hub_cards.results` lists them, every one optional.
        path: folder or Hub id that the usage examples load.
        title (`str`, *optional*): heading, and the name of the model in its `model-index`.

    Raises:
        ValueError: a licence that the weights do not allow.
    """
    languages = model_languages(results)
    model = results.get("model", {})
    captions = _captions(languages)
    sections = (
        _languages_section(languages),
        _training_section(results),
        _evaluation_section(results),
        _limits_section(results),
        _license_section(results),
        _carbon_section(results),
    )
    content = read_template("model_card.md").substitute(
        title=title,
        path=path,
        in_languages=_in_languages(len(languages)),
        adapter=_ADAPTER_NOTE if "adapter" in model else "",
        captions="\n".join(f'    "{code}": "{caption}",' for code, caption in captions.items()),
        first_language=next(iter(captions)),
        first_caption=next(iter(captions.values())),
        audio_shape=f"2, {model.get('projection_dim', 'projection_dim')}",
        sections="".join(f"\n## {heading}\n\n{text}\n" for heading, text in sections if text),
    )
    return ModelCard(f"---\n{model_card_data(results, title).to_yaml()}\n---\n\n{content}")


def read_template(name: str) -> Template:
    """One of the templates beside this file."""
    return Template(files(__package__).joinpath("templates", name).read_text(encoding="utf-8"))


def _in_languages(count: int) -> str:
    return {0: "", 1: " in one language"}.get(count, f" in {count} languages")


def _captions(languages: list[str]) -> dict[str, str]:
    """An example in each language that there is one for, else one to be filled in; in English if none is known."""
    known = {code: EXAMPLE_CAPTIONS[code] for code in languages or ["eng_Latn"] if code in EXAMPLE_CAPTIONS}
    return known or {languages[0]: "..."}


def _languages_section(languages: list[str]) -> tuple[str, str]:
    return "Languages", ", ".join(f"{language_name(code)} (`{code}`)" for code in languages)


def _training_section(results: dict[str, Any]) -> tuple[str, str]:
    training, model, data = (results.get(part, {}) for part in ("training", "model", "data"))
    facts = [
        f"- {title}: {_short(training[name])}" for name, title in _TRAINING_FACTS if training.get(name) is not None
    ]
    if adapter := model.get("adapter"):
        facts.append("- adapter: " + ", ".join(f"{name} {_short(value)}" for name, value in adapter.items()))
    if left_out := training.get("left_out"):
        facts.append(f"- rows left out: {_counted(left_out)}")
    if frozen := training.get("frozen"):
        facts.append(f"- frozen: {' and '.join(frozen)} tower{'s' if len(frozen) > 1 else ''}")
    if seconds := training.get("runtime_s"):
        facts.append(f"- duration: {_duration(seconds)}")
    if name := data.get("train_hub_id") or data.get("train"):
        facts.insert(0, f"- data: {name}")
    if weights := as_list(model.get("weights_from")):
        facts.append(f"- weights converted from: {', '.join(weights)}")
    if start := model.get("initialized_from"):
        facts.append(f"- started from: {start}")
    if count := model.get("num_parameters"):
        facts.append(f"- parameters: {count / 1e6:.1f} M")
    return "Training", "\n".join(facts)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    for unit, length in {"hours": 3600, "minutes": 60}.items():
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _evaluation_section(results: dict[str, Any]) -> tuple[str, str]:
    evaluated, environment, data = (results.get(part, {}) for part in ("evaluated_on", "environment", "data"))
    if "metrics" not in results or not evaluated.get("languages"):
        return "Evaluation", ""
    made = [str(name) for name in (data.get("eval_hub_id") or data.get("eval"), evaluation_size(results)) if name]
    if versions := environment.get("versions"):
        made.append(", ".join(f"{package} {number}" for package, number in versions.items()))
    if device := environment.get("device"):
        made.append(f"{device['type']} ({device['name']})")
    table = results_table(results["metrics"], evaluated["languages"], markdown=True)
    legend = "Recall and mAP in percent; T2A: text to audio, A2T: audio to text."
    legend += f" On {'; '.join(made)}." if made else ""
    if left_out := evaluated.get("left_out"):
        legend += f" Left out of that set: {_counted(left_out)}."
    if "mrv" in results["metrics"]:
        legend += (
            " Mean rank variance: how much the rank of a caption's clip varies over the languages it is asked in; "
            "0 is the same answer in every language."
        )
    return "Evaluation", f"{table}\n\n{legend}"


def _limits_section(results: dict[str, Any]) -> tuple[str, str]:
    training, evaluated, model = (results.get(part, {}) for part in ("training", "evaluated_on", "model"))
    limits = [
        "- A search always has a nearest clip, also where none fits: similarities rank, they are not probabilities.",
        "- Longer recordings are cut into chunks whose embeddings are averaged, so a short sound in a long one can be "
        "missed.",
    ]
    if "metrics" in results:
        limits.append("- The figures are for the data named above; other recordings and captions give others.")
    else:
        limits.append("- No evaluation of these weights is recorded here.")
    if (fresh := results.get("conversion", {}).get("fresh")) and not training:
        limits.insert(0, f"- Not trained yet: {', '.join(fresh)} are fresh. Train the model before you use it.")
    untested = [code for code in training.get("languages") or [] if code not in evaluated.get("languages", [])]
    if untested and "metrics" in results:
        limits.append(f"- Trained in, but not evaluated: {', '.join(map(language_name, untested))}.")
    if model.get("initialized_from") == "scratch" and training.get("num_train_clips"):
        limits.append(
            f"- Trained from scratch on {training['num_train_clips']} clips: it knows their sounds and the words of "
            "their captions, and little else."
        )
    if training.get("seed") is not None and "metrics" in results:
        limits.append("- One training run with one seed: differences of a few points from another may be chance.")
    return "Limits", "\n".join(limits)


def _license_section(results: dict[str, Any]) -> tuple[str, str]:
    name = model_license(results)
    if name is None:
        return "Licence", ""
    if not has_sonar_weights(results):
        return "Licence", f"`{name}`."
    return "Licence", (
        f"`{name}`: the text tower was made from the weights of [SONAR](https://huggingface.co/facebook/SONAR), which "
        "are published under that licence, so these weights are too. Commercial use is not allowed."
    )


def _carbon_section(results: dict[str, Any]) -> tuple[str, str]:
    emissions = results.get("emissions", {})
    if "co2_kg" not in emissions:
        return "Carbon", ""
    energy = f", from {emissions['energy_kwh']:.3g} kWh" if "energy_kwh" in emissions else ""
    place = f", in {emissions['country']}" if "country" in emissions else ""
    source = f", measured by {emissions['source']}" if "source" in emissions else ""
    return "Carbon", f"Training emitted {emissions['co2_kg']:.3g} kg of CO2-equivalent{energy}{place}{source}."
