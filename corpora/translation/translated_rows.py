"""The translated data set: parallel rows, the list of flagged captions, and a card."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import datasets

from modeling_atri.files import write_json_lines
from modeling_atri.hub_cards import make_dataset_card
from modeling_atri.hub_cards.cards.authorship import write_card
from modeling_atri.hub_cards.cards.dataset_cards import DatasetFacts
from modeling_atri.languages_atri import language_name

from ..rows.recordings import is_url
from ..sources.metadata import METADATA_FILE
from .journal import JOURNAL_NAME, Entry, hash_text
from .licenses import joint_license
from .quality import EMPTY, LOW_SCORE


FLAGGED_NAME = "flagged.jsonl"
# Texts of the card.
_COLUMNS = {
    "file_name": "the recording, relative to this file; recordings are not copied",
    "audio_id": "its name",
    "group_id": "clips of equal group have the same captions",
    "captions": "a list of captions for each language, parallel",
}
_QUALITY = {
    "round_trip": "chrF of the source and its translation back by the same model",
    "embedding": "cosine similarity of the embeddings of source and translation",
}


@dataclass
class TranslatedSet:
    """Rows with translations.

    Args:
        languages: FLORES-200 codes: the source, other languages of the data, and those translated into.
        targets: FLORES-200 codes of the languages translated into.
        rows: Rows of `metadata.jsonl`, with the recording's path as `audio`, and the other columns of the source.
        flagged: Rows of `flagged.jsonl`.
        num_captions: Number of captions in each language.
        num_dropped_clips, num_dropped_captions: Numbers of clips, and of captions in each language, that are not in
            `rows`.
        with_what: Versions and devices that made the translations.
    """

    languages: list[str]
    targets: list[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    flagged: list[dict[str, Any]] = field(default_factory=list)
    num_captions: int = 0
    num_dropped_clips: int = 0
    num_dropped_captions: int = 0
    with_what: set[str] = field(default_factory=set)

    def count_flags(self) -> dict[str, Counter[str]]:
        """Count the captions of each language that have each flag."""
        counts: dict[str, Counter[str]] = {code: Counter() for code in self.targets}
        for caption in self.flagged:
            counts[caption["language"]].update(caption["flags"])
        return counts

    def count_flagged(self) -> dict[str, int]:
        """Count the captions of each language that have a flag."""
        counts = Counter(caption["language"] for caption in self.flagged)
        return {code: counts[code] for code in self.targets}


def assemble(
    rows: datasets.Dataset,
    others: Sequence[dict[str, Any]],
    entries: Mapping[tuple[str, str], Entry],
    source: str,
    targets: Sequence[str],
    min_score: float | None,
    drop_flagged: bool,
) -> TranslatedSet:
    """Combine source captions with their translations.

    A caption is left out in all languages if its translation into one of them is missing, or, with `drop_flagged`, is
    flagged. A row without captions is left out.

    Args:
        rows, others: Rows from `load_rows`, and the other columns of each, which are copied.
        entries: All needed translations, by language and hash of the source text.
        source, targets: FLORES-200 codes.
        min_score: Translations with a lower score are flagged.
        drop_flagged: Leave out flagged captions.

    Raises:
        ValueError: if no caption is left.
    """
    made = TranslatedSet([*rows[0]["captions"], *targets], list(targets))
    made.languages.sort(key=lambda code: code != source)  # the source first, the others in their order
    for row, more in zip(rows, others, strict=True):
        kept: dict[str, list[str]] = {code: [] for code in made.languages}
        for number, text in enumerate(row["captions"][source]):
            source_hash = hash_text(text)
            found = [entries[code, source_hash] for code in targets]
            made.with_what.update(entry.made["with"] for entry in found)
            flags = [_all_flags(entry, min_score) for entry in found]
            is_dropped = any(EMPTY in problems or (drop_flagged and problems) for problems in flags)
            made.flagged += [
                {"audio_id": row["audio_id"], "caption": number, "language": entry.language, "source": text}
                | {"text": entry.text, "flags": problems, "score": entry.score, "is_dropped": is_dropped}
                for entry, problems in zip(found, flags, strict=True)
                if problems
            ]
            if is_dropped:
                made.num_dropped_captions += 1
                continue
            for code in row["captions"]:
                kept[code].append(row["captions"][code][number])
            for entry in found:
                kept[entry.language].append(entry.text)
        made.num_captions += len(kept[source])
        if kept[source]:
            names = {"audio": row["audio"]["path"], "audio_id": row["audio_id"], "group_id": row["group_id"]}
            made.rows.append(names | {"captions": kept} | more)
        else:
            made.num_dropped_clips += 1
    if not made.rows:
        raise ValueError(
            f"None of the {made.num_dropped_captions} captions is left: each has a translation that is missing or "
            "flagged. Keep flagged captions, set a lower limit for scores, or try another model."
        )
    return made


def write_translated(made: TranslatedSet, output: Path, facts: DatasetFacts) -> None:
    """Write `metadata.jsonl`, `flagged.jsonl` and `README.md` to an existing folder, each completely or not at all."""
    # Rows are written last: a folder that has them is complete.
    write_json_lines(output / FLAGGED_NAME, made.flagged)
    write_card(make_dataset_card(facts), output)
    rows = [{"file_name": file_name_in(output, row["audio"])} | row for row in made.rows]
    others = ({name: value for name, value in row.items() if name != "audio"} for row in rows)
    write_json_lines(output / METADATA_FILE, others)


def _all_flags(entry: Entry, min_score: float | None) -> list[str]:
    is_low = min_score is not None and entry.score is not None and entry.score < min_score
    return [*entry.flags, *([LOW_SCORE] if is_low else [])]


def file_name_in(output: Path, audio: str) -> str:
    """Return the path of a recording relative to a folder, as its `metadata.jsonl` has it; a URL as it is."""
    if is_url(audio):
        return audio
    path = Path(audio)  # both paths are resolved, because `..` after a link leads elsewhere
    return Path(os.path.relpath(path.parent.resolve() / path.name, output.resolve())).as_posix()


def card_facts(
    made: TranslatedSet,
    name: str,
    how: Mapping[str, Any],
    min_score: float | None,
    license: str | None,
    source_license: str | list[str] | None,
) -> DatasetFacts:
    """Facts for the card of translations of the data set `name`. `how` is the `made` of an `Entry`."""
    own = {*_COLUMNS, "audio"}
    facts = {
        "title": f"{name}, translated",
        "languages": made.languages,
        "source_language": how["source_language"],
        "source": name,
        "source_license": source_license,
        "translation_model": how["model"],
        "translation_license": license,
        "num_clips": len(made.rows),
        "num_captions_per_language": made.num_captions,
        "columns": _COLUMNS | {name: "as in the source" for row in made.rows for name in row if name not in own},
        "provenance": _provenance(made, how, min_score),
        "known_issues": [
            "Nobody who speaks the languages has read the translations.",
            "The checks find what a model does when it fails, not every wrong word.",
        ],
        "license": joint_license(source_license, license),
    }
    return cast(DatasetFacts, {name: value for name, value in facts.items() if value is not None})


def _provenance(made: TranslatedSet, how: Mapping[str, Any], min_score: float | None) -> list[str]:
    revision = f"revision `{how['revision']}`, " if how.get("revision") else ""
    decoding = ", ".join(f"{option} {value}" for option, value in how.get("decoding", {}).items())
    sentences = [
        f"translated from {language_name(how['source_language'])} into "
        f"{', '.join(language_name(code) for code in made.targets)}",
        f"model: {revision}weights `{how.get('fingerprint')}`; decoding: {decoding}",
        f"made with: {'; '.join(sorted(made.with_what))}",
    ]
    if quality := how.get("quality"):
        encoder = f" by {quality['model']} (`{quality['fingerprint']}`)" if "model" in quality else ""
        limit = "" if min_score is None else f"; below {min_score:g} is a low score"
        sentences.append(f"scored by {_QUALITY[quality['method']]}{encoder}{limit}")
    counts = sum(made.count_flags().values(), Counter())
    reasons = ", ".join(f"{flag} {count}" for flag, count in sorted(counts.items()))
    num_translations = (made.num_captions + made.num_dropped_captions) * len(made.targets)
    sentences += [
        f"of {num_translations} translations {len(made.flagged)} are flagged{f': {reasons}' if reasons else ''}; "
        f"`{FLAGGED_NAME}` lists them",
        f"left out in all languages, since one translation failed or was flagged: {made.num_dropped_captions} "
        f"captions, and {made.num_dropped_clips} clips that had no others",
        f"`{JOURNAL_NAME}` says of every translation how it was made",
    ]
    return sentences
