"""Results in, model card out. What is not known is left out."""

from importlib.resources import files
from string import Template
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from modeling_atri.languages_atri import iso_code, language_name


_COLUMNS = (
    ("T2A R@1", "text_to_audio_R@1"),
    ("R@5", "text_to_audio_R@5"),
    ("R@10", "text_to_audio_R@10"),
    ("mAP@10", "text_to_audio_mAP@10"),
    ("A2T R@1", "audio_to_text_R@1"),
    ("R@5", "audio_to_text_R@5"),
    ("R@10", "audio_to_text_R@10"),
    ("mAP@10", "audio_to_text_mAP@10"),
)
_CONSISTENCY = (
    ("mean rank variance", "mrv"),
    ("mean rank std", "mean_rank_std"),
    ("embedding gap", "embedding_gap"),
    ("embedding distance", "embedding_distance"),
)
# The order of a training run's facts in the card, and how they are called there.
_TRAINING_FACTS = (
    ("objective", "objective"),
    ("anchor_language", "anchor language"),
    ("languages_per_step", "languages a step"),
    ("num_train_clips", "training clips"),
    ("steps", "optimizer steps"),
    ("epochs", "epochs"),
    ("batch_size", "clips a step"),
    ("learning_rate", "peak learning rate"),
    ("precision", "precision"),
    ("seed", "seed"),
)


def make_model_card(results: dict[str, Any], path: str, projection_dim: int, title: str = "ATRI model") -> ModelCard:
    """The model card of a trained model.

    Args:
        results: `metrics`, `evaluated_on`, and, where known, `data`, `training`, `model`, `environment`.
        path: folder or Hub id that the usage example loads.
        projection_dim: width of the embeddings.
        title (`str`, *optional*): heading.
    """
    languages = results["evaluated_on"]["languages"]
    template = Template(files(__package__).joinpath("templates/model_card.md").read_text(encoding="utf-8"))
    content = template.substitute(
        title=title,
        path=path,
        projection_dim=projection_dim,
        num_languages="one language" if len(languages) == 1 else f"{len(languages)} languages",
        languages=", ".join(f"{language_name(code)} (`{code}`)" for code in languages),
        example="a dog barks" if "eng_Latn" in languages else "...",
        example_language="eng_Latn" if "eng_Latn" in languages else languages[0],
        training=_training_section(results),
        evaluation=_evaluation_section(results),
    )
    data = ModelCardData(
        language=sorted({code for code in map(iso_code, languages) if code}),
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=["audio-text-retrieval", "multilingual", "atri", "clap"],
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{content}")


def results_table(metrics: dict[str, float], languages: list[str], markdown: bool = False) -> str:
    """One row a language and one for their mean, in percent, with the consistency figures below.

    Args:
        metrics: keys `{language}_{metric}`, `mean_{metric}`, `mrv`, ...
        languages: FLORES-200 codes, in the order of the rows.
        markdown (`bool`, *optional*, defaults to `False`): Markdown instead of aligned plain text.
    """
    header = ["language", *(title for title, _ in _COLUMNS)]
    rows = [
        [label, *(f"{100 * metrics[f'{key}_{name}']:.1f}" for _, name in _COLUMNS)]
        for key, label in [*((code, language_name(code)) for code in languages), ("mean", "mean")]
    ]
    lines = _markdown_lines(header, rows) if markdown else _aligned_lines(header, rows)
    figures = [f"{title} {metrics[name]:.3f}" for title, name in _CONSISTENCY if name in metrics]
    if figures:
        lines += ["", "Consistency between languages: " + ", ".join(figures) + "."]
    return "\n".join(lines)


def _aligned_lines(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join([cells[0].ljust(len(first)), *others])

    rule = "-" * len(line(header))
    return [line(header), rule, *(line(row) for row in rows[:-1]), rule, line(rows[-1])]


def _markdown_lines(header: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in [header, rule, *rows]]


def _training_section(results: dict[str, Any]) -> str:
    training = results.get("training", {})
    facts = [
        f"- {title}: {_short(training[name])}" for name, title in _TRAINING_FACTS if training.get(name) is not None
    ]
    if name := results.get("data", {}).get("train"):
        facts.insert(0, f"- data: {name}")
    if start := results.get("model", {}).get("initialized_from"):
        facts.append(f"- started from: {start}")
    if count := results.get("model", {}).get("num_parameters"):
        facts.append(f"- parameters: {count / 1e6:.1f} M")
    return "\n## Training\n\n" + "\n".join(facts) + "\n" if facts else ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _evaluation_section(results: dict[str, Any]) -> str:
    evaluated, environment = results["evaluated_on"], results.get("environment", {})
    name = results.get("data", {}).get("eval")
    made = [f"{evaluated['num_clips']} clips, {evaluated['num_captions_per_language']} captions in each language"]
    if name:
        made.insert(0, str(name))
    if versions := environment.get("versions"):
        made.append(", ".join(f"{package} {number}" for package, number in versions.items()))
    if device := environment.get("device"):
        made.append(f"{device['type']} ({device['name']})")
    table = results_table(results["metrics"], evaluated["languages"], markdown=True)
    legend = f"Recall and mAP in percent; T2A: text to audio, A2T: audio to text. On {'; '.join(made)}."
    return f"\n## Evaluation\n\n{table}\n\n{legend}\n"
