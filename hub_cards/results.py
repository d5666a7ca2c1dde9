"""The results of a model: their schema, and the reader and writer of their file, `atri_results.json`.

Results are one JSON object, [`Results`]. Cards, the Hub's evaluation results and the tables are made from it. Every
part and every key is optional: what is unknown is left out, and cards leave it out too.
"""

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict, cast

from modeling_atri.files import write_json

from .tables import counted


RESULTS_NAME = "atri_results.json"
UNKNOWN_MAKER = "another model"  # that embeds the sounds
EMISSIONS_NAME = "emissions.csv"  # as codecarbon names its file


class EvaluatedOn(TypedDict, total=False):
    """The set that `metrics` were computed on."""

    num_clips: int  #: Number of recordings.
    num_captions_per_language: int  #: Number of captions in each language.
    languages: list[str]  #: FLORES-200 codes of the captions' languages.
    anchor_language: str  #: Code of the language that `embedding_gap` and `embedding_distance` start from.
    left_out: dict[str, int]  #: Number of rows that could not be used, by kind of fault.
    bare_queries: str  #: What `{language}_bare_query_R@1` was measured on and what counts as found.


class DataNames(TypedDict, total=False):
    """Names of the data. Of a local folder only the last part of its path is kept."""

    train: str | None  #: Name of the training data.
    train_hub_id: str | list[str] | None  #: Id of the training data on the Hub.
    eval: str | None  #: Name of the evaluation data.
    eval_hub_id: str | None  #: Id of the evaluation data on the Hub.
    eval_revision: str | None  #: Revision of the evaluation data on the Hub.
    group_column: str | None  #: Column whose equal values mean that a caption fits all those clips.
    seed: int  #: Seed that generated data were made with.


class Adapter(TypedDict, total=False):
    """A PEFT adapter."""

    method: str  #: PEFT's type, e.g. `"LORA"`.
    rank: int  #: Rank of the change of each layer.
    alpha: float  #: The change is scaled by alpha / rank.
    dropout: float  #: Dropout probability on the adapter's input.


class ModelFacts(TypedDict, total=False):
    """Size and origin of the weights."""

    name: str | None  #: Name or Hub id of an evaluated model.
    num_parameters: int  #: Number of parameters.
    num_trained_parameters: int  #: Number of parameters that are trained, for a model with an adapter.
    projection_dim: int  #: Width of the embedding space.
    adapter: Adapter  #: Present if the model is an adapter.
    initialized_from: str | None  #: Name of the model that training started from, or `"scratch"`.
    weights_from: str | list[str] | None  #: Names of the checkpoints that the weights were converted from.
    base_model: str | list[str] | None  #: Hub ids of the models that this one is based on.
    license: str | None  #: License id of the weights, as the Hub spells it.
    source_licenses: dict[str, str | None]  #: License of each of `weights_from`; None where it is not known.
    #: Name of the model that embeds the sounds, of a model without an audio tower; `UNKNOWN_MAKER` if not known.
    audio_embedded_by: str
    trust_remote_code: (
        bool  #: Present if the audio tower's code is a part of the repository, so loading must trust it.
    )


class Conversion(TypedDict, total=False):
    """Sources that `atri convert` read."""

    mlclap: str | None  #: Name of the ML-CLAP checkpoint.
    clap: str | None  #: Name of the CLAP model whose audio side was kept.
    archive: str | None  #: Name of the stored embeddings that the model is for.
    audio: str | None  #: Name of the audio tower. In conversions with `--ced`, it is `ced`.
    text: str | None  #: Name of the text tower. In conversions with `--sonar`, it is `sonar`.
    ced: str | None  #: See `audio`.
    sonar: str | None  #: See `text`.
    tokenizer: str | None  #: Name of the tokenizer.
    fresh: list[str]  #: Parts that no source had weights for, so they are untrained.
    seed: int  #: Seed of the fresh parts.
    temperature: float  #: Softmax temperature, if it was set.
    files: list[str]  #: Files that the conversion wrote.


class TeacherFacts(TypedDict, total=False):
    """The teacher of the objective `teach`, whose embeddings of the anchor's captions are the training targets."""

    name: str  #: Name or Hub id of the model; of a folder the last part of its path; for a column, its name.
    kind: str  #: `"self"`, `"atri"`, `"clap"`, `"pe_audio"`, `"sentence_transformers"` or `"column"`.
    license: str | None  #: License id of its weights, as the Hub spells it; None if it is not known.
    width: int  #: Width of its embeddings.
    fingerprint: str  #: Digest of everything that determines its embeddings.
    num_captions: int  #: Number of distinct captions of the anchor language that it embedded.


class TrainingFacts(TypedDict, total=False):
    """How far training has come, and the arguments that shape its outcome."""

    objective: str  #: `"kcl"`, `"akcl"`, `"cacl"`, `"mlclap"` or `"teach"`.
    anchor_language: str | None  #: Code of the anchor language, for objectives that have one.
    akcl_weight: float | None  #: Weight of AKCL's term between texts.
    ranking_weight: float | None  #: Weight of the ranking divergence; None if it is off.
    teacher: TeacherFacts | None  #: Teacher of the objective `teach`; None for the others.
    distill_weight: float | None  #: Weight of `teach`'s squared distance to the teacher.
    teach_audio: str | None  #: Audio term of `teach`: `"akcl"`, `"kcl"` or, without sounds, `"none"`.
    hold_languages: list[str] | None  #: Codes of the languages that `teach` held as they were.
    languages: list[str]  #: Codes of the training languages.
    languages_per_step: int | None  #: Number of languages drawn for each step; None for all.
    caption_choice: str  #: How the caption of a clip is chosen.
    frozen: list[str]  #: Frozen towers, of `"audio"` and `"text"`.
    num_train_clips: int | None  #: Number of training clips; None for a stream whose length is not known.
    stream: str  #: Name of the stream that the run read its clips from, if it did not have them all at once.
    left_out: dict[str, int] | None  #: Number of training rows that could not be used, by kind of fault.
    max_audio_seconds: float | None  #: Longest part of a clip that is trained on, in seconds; None for whole clips.
    steps: int  #: Optimizer steps that were made.
    best_step: int | None  #: Step of the best model, if that one was loaded at the end.
    epochs: float | None  #: Epochs that were trained.
    batch_size: int  #: Clips of an optimizer step, over all processes.
    processes: int  #: Number of processes.
    learning_rate: float  #: Peak learning rate.
    audio_learning_rate: float | None  #: Peak learning rate of the audio tower, if it has its own.
    text_learning_rate: float | None  #: Peak learning rate of the text tower, if it has its own.
    head_learning_rate: float | None  #: Peak learning rate of projections and logit scale, if they have their own.
    lr_scheduler_type: str  #: Learning rate schedule, as transformers names it.
    weight_decay: float  #: Weight decay.
    mix_probability: float  #: Probability that a training clip is a mixture of two.
    augmentation: dict[str, Any] | None  #: Settings of the feature augmentation; None if it is off.
    patch_dropout: float  #: Share of audio patches that are dropped in training.
    precision: str  #: `"fp32"`, `"fp16"` or `"bf16"`.
    seed: int  #: Seed of weights and dropout.
    data_seed: int  #: Seed of the draws from the data.
    runtime_s: float  #: Duration of training, in seconds.


class Teaching(TypedDict, total=False):
    """Measurements of `atri teach`: the recall of the teacher, or the cosine to its embeddings."""

    #: Text-to-audio R@1 of the anchor's captions as the teacher embeds them, on the set of `metrics`.
    teacher_recall: float
    held_back_captions: int  #: Number of captions in each language that were held back from training.
    held_back_cosine: dict[str, float]  #: Mean cosine of these to the teacher's embedding, by language code.


class MomentResults(TypedDict, total=False):
    """How well the moments that a text describes were found in long recordings, by `atri evaluate --moments`."""

    #: Fractions: `{language}_{figure}` and `mean_{figure}`, with the figures that `hub_cards/figures.py` names.
    metrics: dict[str, float]
    languages: list[str]  #: FLORES-200 codes of the queries' languages.
    num_recordings: int  #: Number of recordings.
    num_queries: int  #: Number of queries over all languages.
    queries: str | None  #: Name of the file of queries.
    sounds: str | None  #: Name of the recordings' folder or index.
    window_s: float  #: Length of a window, in seconds.
    hop_s: float  #: Time from the start of a window to that of the next, in seconds.
    left_out: int  #: Number of recordings that were missing or could not be read.


class Device(TypedDict):
    """The device that the figures were computed on."""

    type: str  #: Type as torch names it, e.g. `"cuda"`.
    name: str  #: Name of the processor or GPU.
    threads: int  #: Number of torch's CPU threads.


class Environment(TypedDict, total=False):
    """Software and hardware."""

    python: str  #: Version of Python.
    versions: dict[str, str]  #: Versions of the installed packages that matter.
    device: Device  #: See `Device`.
    date: str  #: Time of the evaluation, ISO 8601 with time zone.


class Emissions(TypedDict, total=False):
    """Carbon emissions of training."""

    co2_kg: float  #: Emissions in kg of CO2-equivalent.
    energy_kwh: float  #: Energy in kWh.
    country: str  #: Name of the country.
    source: str  #: Name of the measuring tool.


class Results(TypedDict, total=False):
    """Figures of a model and how they were made; the content of `atri_results.json`."""

    #: Fractions, ranks and distances: `{language}_{figure}`, `mean_{figure}`, `mrv`, ...; see `hub_cards/figures.py`.
    metrics: dict[str, float]
    evaluated_on: EvaluatedOn
    data: DataNames
    model: ModelFacts
    conversion: Conversion
    training: TrainingFacts
    teaching: Teaching
    moments: MomentResults
    environment: Environment
    emissions: Emissions


def read_results(folder: str | os.PathLike[str]) -> Results:
    """Read the results that a run left in a folder, with codecarbon's measurement if there is one.

    Returns:
        [`Results`], empty if the folder has none.

    Raises:
        ValueError: `atri_results.json` is not valid JSON, or does not hold an object.
    """
    path = Path(folder) / RESULTS_NAME
    results: Results = {}
    if path.is_file():
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(results, dict):
            raise ValueError(f"{path} must hold a mapping, but holds a {type(results).__name__}.")
    emissions = read_emissions(folder)
    return results | {"emissions": emissions} if emissions and "emissions" not in results else results


def write_results(results: Results, path: str | os.PathLike[str]) -> None:
    """Write results as JSON, whole or not at all. Missing folders are created."""
    write_json(Path(path), results)


def merge_results(known: Results, given: Results) -> Results:
    """Merge results part by part. Where both have a key, the value of `given` counts."""
    first, second = cast(dict[str, Any], known), cast(dict[str, Any], given)
    return cast(Results, first | second | {part: first[part] | second[part] for part in first.keys() & second.keys()})


def read_emissions(folder: str | os.PathLike[str]) -> Emissions | None:
    """Read the last measurement in the `emissions.csv` of a folder; None if there is none."""
    path = Path(folder) / EMISSIONS_NAME
    if not path.is_file():
        return None
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not rows[-1].get("emissions"):
        return None
    last = rows[-1]
    found = Emissions(co2_kg=float(last["emissions"]), source="codecarbon")
    if last.get("energy_consumed"):
        found["energy_kwh"] = float(last["energy_consumed"])
    if last.get("country_name"):
        found["country"] = last["country_name"]
    return found


def model_languages(results: Results) -> list[str]:
    """Codes of the languages that the model was trained in, followed by those it was only evaluated in."""
    trained, evaluated = results.get("training", {}), results.get("evaluated_on", {})
    return list(dict.fromkeys([*(trained.get("languages") or []), *(evaluated.get("languages") or [])]))


def evaluation_size(results: Results) -> str | None:
    """Size of the evaluation set in words; None if it is unknown."""
    evaluated = results.get("evaluated_on", {})
    sizes = []
    if "num_clips" in evaluated:
        sizes.append(counted(evaluated["num_clips"], "clip"))
    if "num_captions_per_language" in evaluated:
        sizes.append(f"{counted(evaluated['num_captions_per_language'], 'caption')} in each language")
    return ", ".join(sizes) or None


def as_list(value: str | Iterable[str] | None) -> list[str]:
    """List of the names in a value that may be one name, several, or None."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)
