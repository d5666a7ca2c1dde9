"""Cards of data sets of translated captions, and of Spaces that demonstrate models."""

from typing import Any, TypedDict

from huggingface_hub import DatasetCard, DatasetCardData, SpaceCard, SpaceCardData

from modeling_atri.languages_atri import iso_code, language_name, resolve_language, resolve_languages

from ..results import as_list
from ..tables import counted
from .model_cards import join_sections, read_template


# Upper bounds and names of the Hub's size categories.
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_SPACE_SDKS = ("gradio", "docker")


class DatasetFacts(TypedDict, total=False):
    """Description of a data set of captions. All keys but the first two are optional."""

    title: str  #: Heading of the card.
    languages: list[str]  #: Codes, or what else `resolve_languages` accepts.
    source_language: str  #: Code of the language that was translated.
    source: str  #: Name of the data set whose captions were translated.
    source_id: str  #: Id of that data set on the Hub.
    source_license: str | list[str]  #: License ids of the original captions.
    translation_model: str  #: Hub id of the translation model, or its name if it is not on the Hub.
    translation_license: str  #: License id of the translation model.
    num_clips: int  #: Number of clips.
    num_captions_per_language: int  #: Number of captions in each language.
    splits: dict[str, int]  #: Number of clips of each split.
    columns: dict[str, str]  #: Meaning of each column.
    provenance: list[str]  #: Sentences on how the data set was made.
    known_issues: list[str]  #: Sentences on known problems.
    #: License ids of the data set. Without them, the card of translations says which of the two licenses that it
    #: depends on is unknown.
    license: str | list[str]


def make_dataset_card(facts: DatasetFacts) -> DatasetCard:
    """Make the card of a data set of captions in several languages.

    Args:
        facts ([`DatasetFacts`]): Description of the data set.

    Raises:
        ValueError: There is no title or no language, or a language is unknown.
    """
    if missing := [name for name in ("title", "languages") if not facts.get(name)]:
        raise ValueError(
            f"A dataset card needs {' and '.join(f'`{name}`' for name in missing)}; the facts have "
            f"{', '.join(facts) or 'nothing'}."
        )
    languages = resolve_languages(facts["languages"])
    sections = {
        "Languages": _language_lines(languages, facts.get("source_language")),
        "Sizes": _size_lines(facts),
        "Columns": "\n".join(f"- `{name}`: {meaning}" for name, meaning in facts.get("columns", {}).items()),
        "How it was made": _provenance(facts),
        "Known issues": "\n".join(f"- {issue}" for issue in facts.get("known_issues", [])),
        "License": _license(facts),
    }
    content = read_template("dataset_card.md").substitute(
        title=facts["title"],
        summary=_summary(facts, len(languages)),
        sections=join_sections(sections).rstrip("\n"),
    )
    is_translated = facts.get("translation_model") is not None
    data = DatasetCardData(
        language=sorted({iso_code(code) for code in languages}),
        license=facts.get("license"),
        pretty_name=facts["title"],
        multilinguality="translation" if is_translated else "multilingual" if len(languages) > 1 else "monolingual",
        language_creators="machine-generated" if is_translated else None,
        size_categories=_size_category(facts.get("num_clips")),
        source_datasets=as_list(facts.get("source_id")) or None,
        task_categories=["feature-extraction"],
        tags=["audio", "audio-text-retrieval", "captions"],
    )
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{content}")


def make_space_card(
    title: str, models: list[str], languages: list[str], sdk: str = "gradio", **front: Any
) -> SpaceCard:
    """Make the README of a Space that demonstrates models.

    Args:
        title (`str`): Title of the Space.
        models (list of `str`): Hub ids of the models that the Space loads.
        languages (list of `str`): Languages of captions; codes, or what else `resolve_language` accepts.
        sdk (`str`, *optional*, defaults to `"gradio"`): `"gradio"` or `"docker"`.
        front: Further settings of the Space, such as `sdk_version`, `app_file`, `app_port`, `license`, `emoji`.

    Raises:
        ValueError: `sdk` is unknown, there are no models, or a language is unknown.
    """
    if sdk not in _SPACE_SDKS:
        raise ValueError(f"`sdk` must be one of {', '.join(_SPACE_SDKS)}; got {sdk!r}.")
    if not models:
        raise ValueError("A Space card needs the Hub id of at least one model in `models`.")
    names = [language_name(resolve_language(code)) for code in languages]
    content = read_template("space_card.md").substitute(
        title=title,
        in_languages=f" in {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}" if names else "",
        models=", ".join(f"[{model}](https://huggingface.co/{model})" for model in models),
    )
    data = SpaceCardData(title=title, sdk=sdk, models=models, tags=["audio-text-retrieval", "multilingual"], **front)
    return SpaceCard(f"---\n{data.to_yaml()}\n---\n\n{content}")


def _summary(facts: DatasetFacts, num_languages: int) -> str:
    count = "one language" if num_languages == 1 else f"{num_languages} languages"
    summary = f"Parallel captions of sounds in {count}: the c-th caption of a clip says the same in every language."
    if facts.get("source"):
        summary += f" The captions come from {facts['source']}."
    return summary


def _language_lines(languages: list[str], source: str | None) -> str:
    source = resolve_language(source) if source else None
    return "\n".join(
        f"- {language_name(code)} (`{code}`){', the original' if code == source else ''}" for code in languages
    )


def _size_lines(facts: DatasetFacts) -> str:
    lines = [f"- {name}: {counted(count, 'clip')}" for name, count in facts.get("splits", {}).items()]
    if facts.get("num_clips") is not None:
        lines.append(f"- total: {counted(facts['num_clips'], 'clip')}")
    if facts.get("num_captions_per_language") is not None:
        lines.append(f"- captions in each language: {facts['num_captions_per_language']}")
    return "\n".join(lines)


def _provenance(facts: DatasetFacts) -> str:
    lines = []
    if facts.get("source"):
        names = as_list(facts.get("source_license"))
        licensed = f", license {_quoted(names)}" if names else ""
        source = facts["source"]
        if name := facts.get("source_id"):
            source += f" ([{name}](https://huggingface.co/datasets/{name}))"
        lines.append(f"- original captions: {source}{licensed}")
    if model := facts.get("translation_model"):
        licensed = f", license `{facts['translation_license']}`" if facts.get("translation_license") else ""
        linked = f"[{model}](https://huggingface.co/{model})" if "/" in model else model
        lines.append(f"- translated by machine: {linked}{licensed}")
    return "\n".join([*lines, *(f"- {sentence}" for sentence in facts.get("provenance", []))])


def _license(facts: DatasetFacts) -> str:
    if facts.get("license"):
        return f"{_quoted(as_list(facts['license']))}."
    names = {
        "original captions": _quoted(as_list(facts.get("source_license"))),
        "translation model": _quoted(as_list(facts.get("translation_license"))),
    }
    if facts.get("translation_model") is None or all(names.values()):
        return ""
    lines = [f"- license of the {part}: {licensed or 'unknown'}" for part, licensed in names.items()]
    return "\n".join(["The license of the data set is unknown, because it depends on two licenses:\n", *lines])


def _quoted(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _size_category(num_clips: int | None) -> str | None:
    if num_clips is None:
        return None
    return next((name for bound, name in _SIZES if num_clips < bound), "10M<n<100M")
