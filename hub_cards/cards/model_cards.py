"""Model cards, made from results. What the results do not say is left out."""

import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, cast

from huggingface_hub import ModelCard, ModelCardData

from modeling_atri.languages_atri import language_name

from ..example_captions import EXAMPLE_CAPTIONS
from ..figures import BARE_QUERY_FIGURE
from ..results import RESULTS_NAME, Results, as_list, evaluation_size, model_languages, write_results
from ..tables import counted, moments_table, results_table
from .authorship import write_card
from .metadata import model_card_data
from .origin import has_sonar_weights, model_license
from .taught import as_code, embedding_space_text, listed, maker_name, teacher_license_text


DEFAULT_TITLE = "ATRI model"

# Facts of a training run in the order of the card, and their titles.
_TRAINING_TITLES = {
    "objective": "objective",
    "anchor_language": "anchor language",
    "languages_per_step": "languages per step",
    "ranking_weight": "weight of the ranking divergence",
    "distill_weight": "weight of the squared distance to the teacher",
    "teach_audio": "term between audio and texts",
    "num_train_clips": "training clips",
    "stream": "read as a stream from",
    "steps": "optimizer steps",
    "best_step": "step of the best model, which is this one",
    "epochs": "epochs",
    "batch_size": "clips per step",
    "learning_rate": "peak learning rate",
    "audio_learning_rate": "peak learning rate of the audio tower",
    "text_learning_rate": "peak learning rate of the text tower",
    "head_learning_rate": "peak learning rate of the projections and the logit scale",
    "precision": "precision",
    "seed": "seed",
}

_TAUGHT_TITLES = {"num_train_clips": "training rows", "batch_size": "rows per step"}  # which may have no sound

_ADAPTER_NOTE = " It is an adapter: loading it needs `peft` and downloads the base model by its name."
_CODE_NOTE = " The code of its audio tower is a part of its repository: loading it needs `trust_remote_code=True`."


def make_model_card(results: Results, path: str, title: str = DEFAULT_TITLE) -> ModelCard:
    """Make the card of a model from its results.

    Args:
        results ([`~modeling_atri.hub_cards.results.Results`]): Figures and facts; every part is optional.
        path (`str`): Folder or Hub id that the usage examples load.
        title (`str`, *optional*, defaults to `"ATRI model"`): Heading, and name of the model in its `model-index`.

    Raises:
        ValueError: The results give a license that the weights do not allow.
    """
    languages = model_languages(results)
    model = results.get("model", {})
    captions = _captions(languages)
    maker = model.get("audio_embedded_by")
    sections = {
        "Languages": ", ".join(f"{language_name(code)} (`{code}`)" for code in languages),
        "Embedding space": embedding_space_text(results),
        "Training": _training(results),
        "Evaluation": _evaluation(results),
        "Moments": _moments(results),
        "Limits": _limits(results),
        "License": _license(results),
        "Carbon": _carbon(results),
    }
    use = read_template("use_sounds.md" if maker is None else "use_stored_embeddings.md").substitute(
        path=path,
        captions="\n".join(f'    "{code}": "{caption}",' for code, caption in captions.items()),
        first_language=next(iter(captions)),
        first_caption=next(iter(captions.values())),
        width=model.get("projection_dim", "projection_dim"),
        trust=", trust_remote_code=True" if model.get("trust_remote_code") else "",
        **({} if maker is None else {"maker": maker}),
    )
    content = read_template("model_card.md").substitute(
        title=title,
        intro=_intro(len(languages), maker),
        notes=(_ADAPTER_NOTE if "adapter" in model else "") + (_CODE_NOTE if model.get("trust_remote_code") else ""),
        use=use,
        sections=join_sections(sections),
    )
    return ModelCard(f"---\n{model_card_data(results, title).to_yaml()}\n---\n\n{content}")


def write_model_card(
    results: Results,
    folder: str | os.PathLike[str],
    path: str | None = None,
    title: str = DEFAULT_TITLE,
    tags: Iterable[str] = (),
    language: str | list[str] | None = None,
) -> None:
    """Write results and the model card made from them into a folder. A card that was edited by hand is kept.

    Args:
        results ([`~modeling_atri.hub_cards.results.Results`]): Figures and facts; every part is optional.
        folder (`str` or `os.PathLike`): Folder of the model.
        path (`str`, *optional*): Folder or Hub id that the usage examples load. Default: `folder`.
        title (`str`, *optional*, defaults to `"ATRI model"`): Heading of the card.
        tags (iterable of `str`, *optional*): Further tags in the card's metadata.
        language (`str` or list, *optional*): Languages in the metadata. Default: those of training and evaluation.

    Raises:
        ValueError: The results give a license that the weights do not allow.
    """
    # Results are always written: those of an earlier run in this folder would be pushed as those of this model.
    write_results(results, Path(folder) / RESULTS_NAME)
    card = make_model_card(results, path or os.fspath(folder), title)
    data = cast(ModelCardData, card.data)
    data.tags = list(dict.fromkeys([*(data.tags or []), *tags]))
    if language is not None:
        data.language = language
    write_card(card, folder)


def bare_query_text(results: Results) -> str:
    """Say how often queries of a word or two found their sound, and how that was measured; `""` if it was not."""
    metrics, evaluated = results.get("metrics", {}), results.get("evaluated_on", {})
    if f"mean_{BARE_QUERY_FIGURE}" not in metrics:
        return ""
    figures = {code: 100 * metrics[f"{code}_{BARE_QUERY_FIGURE}"] for code in (*evaluated["languages"], "mean")}
    mean = figures.pop("mean")
    shown = ", ".join(f"{language_name(code)} {figure:.1f}" for code, figure in figures.items())
    return f"Short queries, R@1 in percent: {mean:.1f} in the mean of languages ({shown}). {evaluated['bare_queries']}"


def read_template(name: str) -> Template:
    """Read one of the templates in the folder `templates`."""
    return Template(files(__package__).joinpath("templates", name).read_text(encoding="utf-8"))


def join_sections(sections: dict[str, str]) -> str:
    """Markdown of the sections that have a text, by heading."""
    return "".join(f"\n## {heading}\n\n{text}\n" for heading, text in sections.items() if text)


def _intro(num_languages: int, maker: str | None) -> str:
    in_languages = {0: "", 1: " in one language"}.get(num_languages, f" in {num_languages} languages")
    encoder = "[ATRI](https://arxiv.org/abs/2502.14627) audio-text dual encoder"
    if maker is None:
        return f"An {encoder}. It finds sounds by captions{in_languages}, and captions by sounds."
    return (
        f"The text side of an {encoder}. It embeds captions{in_languages}, to search sounds\n"
        f"by their embeddings, which {maker_name(maker)} has made."
    )


def _captions(languages: list[str]) -> dict[str, str]:
    """Example captions in the model's languages, in English if none is known; `"..."` if there is no example."""
    known = {code: EXAMPLE_CAPTIONS[code] for code in languages or ["eng_Latn"] if code in EXAMPLE_CAPTIONS}
    return known or {languages[0]: "..."}


def _training(results: Results) -> str:
    training, model, data = results.get("training", {}), results.get("model", {}), results.get("data", {})
    known = {name: value for name, value in training.items() if value not in (None, "none")}
    titles = _TRAINING_TITLES | (_TAUGHT_TITLES if "teacher" in known else {})
    facts = [f"- {title}: {_short(known[name])}" for name, title in titles.items() if name in known]
    if adapter := model.get("adapter"):
        facts.append("- adapter: " + ", ".join(f"{name} {_short(value)}" for name, value in adapter.items()))
    if held := training.get("hold_languages"):
        facts.append(f"- held languages: {listed([language_name(code) for code in held])}")
    if left_out := training.get("left_out"):
        facts.append(f"- rows left out: {_counted(left_out)}")
    if frozen := training.get("frozen"):
        facts.append(f"- frozen: {' and '.join(frozen)} tower{'s' if len(frozen) > 1 else ''}")
    if seconds := training.get("runtime_s"):
        facts.append(f"- duration: {_duration(seconds)}")
    if names := data.get("train_hub_id") or data.get("train"):
        facts.insert(0, f"- data: {', '.join(as_list(names))}")
    if weights := as_list(model.get("weights_from")):
        facts.append(f"- weights converted from: {', '.join(weights)}")
    if start := model.get("initialized_from"):
        facts.append(f"- started from: {start}")
    if count := model.get("num_parameters"):
        facts.append(f"- parameters: {count / 1e6:.1f} M")
    return "\n".join(facts)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    for unit, length in {"hours": 3600, "minutes": 60}.items():
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _evaluation(results: Results) -> str:
    metrics, evaluated = results.get("metrics"), results.get("evaluated_on", {})
    environment, data = results.get("environment", {}), results.get("data", {})
    if metrics is None or not evaluated.get("languages"):
        return ""
    made = [str(name) for name in (data.get("eval_hub_id") or data.get("eval"), evaluation_size(results)) if name]
    if versions := environment.get("versions"):
        made.append(", ".join(f"{package} {number}" for package, number in versions.items()))
    if device := environment.get("device"):
        made.append(f"{device['type']} ({device['name']})")
    legend = "Recall and mAP are percentages; T2A is text to audio, A2T is audio to text."
    legend += f" Evaluated on {'; '.join(made)}." if made else ""
    if left_out := evaluated.get("left_out"):
        legend += f" Left out of that set: {_counted(left_out)}."
    if "mrv" in metrics:
        legend += (
            " Mean rank variance measures how much the rank of a caption's clip varies between the languages of the "
            "caption; it is 0 if every language gives the same rank."
        )
    parts = [results_table(metrics, evaluated["languages"], markdown=True), legend, bare_query_text(results)]
    return "\n\n".join(part for part in parts if part)


def _moments(results: Results) -> str:
    moments = results.get("moments", {})
    if not moments.get("metrics") or not moments.get("languages"):
        return ""
    text = (
        "How well the moment that a text describes is found in a long recording, in percent. R1@t is the share of "
        "queries whose best moment has an intersection over union of at least t with a described one; mAP is the mean "
        "over t from 0.5 to 0.95."
    )
    if "num_queries" in moments and "num_recordings" in moments:
        size = f"{moments['num_queries']} queries in {counted(moments['num_recordings'], 'recording')}"
        text += f" Measured on {size}" + (f" of {moments['queries']}." if moments.get("queries") else ".")
    if "window_s" in moments and "hop_s" in moments:
        text += f" Windows of {moments['window_s']:g} s, every {moments['hop_s']:g} s."
    return f"{moments_table(moments['metrics'], moments['languages'], markdown=True)}\n\n{text}"


def _limits(results: Results) -> str:
    training, evaluated = results.get("training", {}), results.get("evaluated_on", {})
    limits = [
        "- A search always returns a nearest clip, even if none fits. Similarities rank clips; they are not "
        "probabilities.",
    ]
    if "audio_embedded_by" not in results.get("model", {}):
        limits.append(
            "- Long recordings are cut into chunks whose embeddings are averaged, so a short sound in a long "
            "recording can be missed."
        )
    if "metrics" in results:
        limits.append("- The figures hold for the data named above. On other recordings and captions they differ.")
    else:
        limits.append("- No evaluation of these weights is recorded here.")
    if (fresh := results.get("conversion", {}).get("fresh")) and not training:
        limits.insert(0, f"- Not trained yet: {', '.join(fresh)} have random weights. Train the model before use.")
    untested = [code for code in training.get("languages") or [] if code not in evaluated.get("languages", [])]
    if untested and "metrics" in results:
        limits.append(f"- Trained in, but not evaluated: {', '.join(map(language_name, untested))}.")
    if results.get("model", {}).get("initialized_from") == "scratch" and training.get("num_train_clips"):
        limits.append(
            f"- Trained from scratch on {training['num_train_clips']} clips: the model knows little beyond their "
            "sounds and the words of their captions."
        )
    if training.get("seed") is not None and "metrics" in results:
        limits.append("- One training run with one seed. Differences of a few points between models may be chance.")
    return "\n".join(limits)


def _license(results: Results) -> str:
    name, of_teacher = model_license(results), teacher_license_text(results)
    parts = results.get("model", {}).get("source_licenses", {})
    if name is None and parts:
        known = {part: "not known" if given is None else as_code(given) for part, given in parts.items()}
        found = "; ".join(f"{as_code(part)}: {given}" for part, given in known.items())
        return f"The weights were made from others, whose licenses apply: {found}. {of_teacher}".rstrip()
    if name is None:
        return of_teacher
    if not has_sonar_weights(results):
        return f"`{name}`. {of_teacher}".rstrip()
    text = (
        f"`{name}`: the text tower was made from the weights of [SONAR](https://huggingface.co/facebook/SONAR). They "
        "are published under this license, so it also applies to this model. Commercial use is not allowed."
    )
    return f"{text} {of_teacher}".rstrip()


def _carbon(results: Results) -> str:
    emissions = results.get("emissions", {})
    if "co2_kg" not in emissions:
        return ""
    energy = f", from {emissions['energy_kwh']:.3g} kWh" if "energy_kwh" in emissions else ""
    place = f", in {emissions['country']}" if "country" in emissions else ""
    source = f", measured by {emissions['source']}" if "source" in emissions else ""
    return f"Training emitted {emissions['co2_kg']:.3g} kg of CO2-equivalent{energy}{place}{source}."
