"""The data set that translations make: parallel rows, the list of what was flagged, and a card."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import datasets

from modeling_atri.files import write_json_lines
from modeling_atri.hub_cards import make_dataset_card
from modeling_atri.hub_cards.authorship import write_card
from modeling_atri.hub_cards.results import as_list
from modeling_atri.languages_atri import LANGUAGES

from ..rows.metadata import METADATA_FILE
from .journal import JOURNAL_NAME, Entry, hash_text
from .quality import EMPTY, LOW_SCORE


FLAGGED_NAME = "flagged.jsonl"
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
        languages: codes: the source, what else the data had, what was translated into.
        targets: those that were translated into.
        rows: of `metadata.jsonl`, with the recording's path as `audio`, and what other columns the source has.
        flagged: rows of `flagged.jsonl`.
        num_captions: in each language.
        num_dropped_clips, num_dropped_captions: that are not in `rows`; of the latter, in each language.
        with_what: versions and devices.
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
        """How many captions of each language have each flag."""
        counts: dict[str, Counter[str]] = {code: Counter() for code in self.targets}
        for caption in self.flagged:
            counts[caption["language"]].update(caption["flags"])
        return counts

    def count_flagged(self) -> dict[str, int]:
        """How many captions of each language have a flag."""
        counts = Counter(caption["language"] for caption in self.flagged)
        return {code: counts[code] for code in self.targets}


def assemble(
    rows: datasets.Dataset,
    others: Sequence[Mapping[str, Any]],
    entries: Mapping[tuple[str, str], Entry],
    source: str,
    targets: Sequence[str],
    min_score: float | None = None,
    drop_flagged: bool = False,
) -> TranslatedSet:
    """Put translations beside their sources.

    A caption stays or goes in all languages: it goes where a translation is missing, or (`drop_flagged`) flagged in
    one of them. A row without captions goes.

    Args:
        rows: of `load_rows`.
        others: further columns of each row, which stay as they are.
        entries: translations by language and hash of the source text; all that are needed.
        source, targets: codes.
        min_score (`float`, *optional*): what scores less is flagged.
        drop_flagged (`bool`, *optional*, defaults to `False`): leave out what is flagged.

    Raises:
        ValueError: no caption is left.
    """
    made = TranslatedSet([*rows[0]["captions"], *targets], list(targets))
    made.languages.sort(key=lambda code: code != source)  # the source first, the others as they were
    for row, more in zip(rows, others, strict=True):
        kept: dict[str, list[str]] = {code: [] for code in made.languages}
        for number, text in enumerate(row["captions"][source]):
            found = [entries[code, hash_text(text)] for code in targets]
            made.with_what |= {entry.made["with"] for entry in found}
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
            f"Of {made.num_dropped_captions} captions none is left that has a translation in every language and is "
            "not flagged. Keep flagged ones, set a lower limit for scores, or try another model."
        )
    return made


def write_translated(
    made: TranslatedSet,
    output: Path,
    name: str,
    how: Mapping[str, Any],
    min_score: float | None = None,
    license: str | None = None,
    source_license: str | list[str] | None = None,
) -> None:
    """Write `metadata.jsonl`, `flagged.jsonl` and `README.md`, each whole or not at all.

    Args:
        made: what to write.
        output (`Path`): a folder that is there.
        name (`str`): of the data that was translated.
        how: `made` of an `Entry`.
        min_score, license, source_license: for the card; see `translate_captions`.
    """
    # What is listed must be on the disk before the rows are: who finds these, finds all.
    write_json_lines(output / FLAGGED_NAME, made.flagged)
    write_card(make_dataset_card(_card_facts(made, name, how, min_score, license, source_license)), output)
    write_json_lines(output / METADATA_FILE, [_with_file_name(row, output) for row in made.rows])


def _all_flags(entry: Entry, min_score: float | None) -> list[str]:
    is_low = min_score is not None and entry.score is not None and entry.score < min_score
    return [*entry.flags, *([LOW_SCORE] if is_low else [])]


def _with_file_name(row: dict[str, Any], output: Path) -> dict[str, Any]:
    """The row with its recording's path relative to the folder."""
    others = {column: value for column, value in row.items() if column != "audio"}
    return {"file_name": file_name_in(output, row["audio"])} | others


def file_name_in(output: Path, audio: str) -> str:
    """What a recording is called in the `metadata.jsonl` of a folder."""
    path = Path(audio)  # both are resolved: `..` of a link leads elsewhere
    return Path(os.path.relpath(path.parent.resolve() / path.name, output.resolve())).as_posix()


def _card_facts(
    made: TranslatedSet,
    name: str,
    how: Mapping[str, Any],
    min_score: float | None,
    license: str | None,
    source_license: str | list[str] | None,
) -> dict[str, Any]:
    own = {*_COLUMNS, "audio"}
    parts = [as_list(source_license), as_list(license)]
    # Translations are the work of both: where one licence is not known, neither is the whole's.
    licenses = list(dict.fromkeys(chain.from_iterable(parts))) if all(parts) else []
    return {
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
        "license": licenses if len(licenses) > 1 else next(iter(licenses), None),
    }


def _provenance(made: TranslatedSet, how: Mapping[str, Any], min_score: float | None) -> list[str]:
    revision = f"revision `{how['revision']}`, " if how.get("revision") else ""
    decoding = ", ".join(f"{option} {value}" for option, value in how.get("decoding", {}).items())
    sentences = [
        f"translated from {LANGUAGES[how['source_language']].name} into "
        f"{', '.join(LANGUAGES[code].name for code in made.targets)}",
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


__all__ = ["FLAGGED_NAME", "TranslatedSet", "assemble", "file_name_in", "write_translated"]
