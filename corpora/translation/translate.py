"""Captions of a data set into other languages, from where the last run was stopped."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import datasets
import torch
import transformers
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from modeling_atri.files import remove_unfinished
from modeling_atri.languages_atri import LANGUAGES, resolve_language

from ..folders.prepared import OVERLAP_FILE
from ..rows.bad_rows import BadRow
from ..rows.load import load_rows, read_other_columns
from ..rows.metadata import METADATA_FILE
from .journal import JOURNAL_NAME, Entry, TranslationJournal, hash_text
from .models import Translation
from .quality import Scorer, rule_flags
from .translated_rows import FLAGGED_NAME, TranslatedSet, assemble, file_name_in, write_translated


class Translator(Protocol):
    """What `translate_captions` asks of a model; see `TranslationModel`."""

    settings: dict[str, Any]
    device: torch.device

    def check_languages(self, languages: Sequence[str]) -> None: ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]: ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]: ...


@dataclass
class TranslationSummary:
    """What `translate_captions` did.

    Args:
        num_clips, num_captions: that were written, in each language as many.
        num_dropped_clips, num_dropped_captions: that were not, since a translation failed or was flagged.
        num_overlaps: clips that were not, since `atri prepare check --drop` took them out of the output before.
        flags: how many captions of each language were flagged, and why; some for more than one reason.
        num_flagged: how many captions of each language were flagged.
        num_translated: texts that this run translated, over all languages; the others were there.
        seconds: that it took.
    """

    num_clips: int = 0
    num_captions: int = 0
    num_dropped_clips: int = 0
    num_dropped_captions: int = 0
    num_overlaps: int = 0
    flags: dict[str, Counter[str]] = field(default_factory=dict)
    num_flagged: dict[str, int] = field(default_factory=dict)
    num_translated: int = 0
    seconds: float = 0.0


def translate_captions(
    data: str | PathLike,
    output: str | PathLike,
    model: Translator,
    languages: Sequence[str],
    source: str = "eng_Latn",
    *,
    split: str | None = None,
    scorer: Scorer | None = None,
    min_score: float | None = None,
    batch_size: int = 32,
    batch_tokens: int = 2048,
    drop_flagged: bool = False,
    retranslate: bool = False,
    license: str | None = None,
    source_license: str | list[str] | None = None,
    left_out: list[BadRow] | None = None,
    progress: bool = False,
) -> TranslationSummary:
    """Translate the captions of a folder of recordings, and write a data set that `load_rows` reads.

    Each text is translated once into each language, however many clips have it. Batches depend on the texts alone,
    and each is kept on the disk when it is made: a run that is stopped, by whatever, loses the batch it was at, and
    the next one goes on from there to the same files, bit for bit. Captions that are new or were changed are
    translated when the function is called again; translations of captions that are gone stay in the journal, and out
    of the data set. Columns that rows have beside their own are written as they are. Clips that were taken out of the
    source or the output as ones of the test data (`drop_overlaps`) stay out.

    Args:
        data (`str` or `Path`): folder with `metadata.jsonl`, or such a file; see `load_rows`. Languages that it has
            beside the source are kept.
        output (`str` or `Path`): folder for `metadata.jsonl`, whose rows name the recordings where they are;
            `translations.jsonl`, see `TranslationJournal`; `flagged.jsonl`, the captions that may be wrong; and
            `README.md`, the data set's card.
        model (`TranslationModel`): that translates.
        languages (list of `str`): to translate into, in any writing that `resolve_language` takes. Others that
            `output` has already stay.
        source (`str`, *optional*, defaults to `"eng_Latn"`): to translate from.
        split (`str`, *optional*): subfolder of `data`.
        scorer (`Scorer`, *optional*): of `translation_quality`; its scores are kept with the translations.
        min_score (`float`, *optional*): flag what scores less. Default: the scorer's. It may be changed later on.
        batch_size, batch_tokens (`int`, *optional*): most texts, and source tokens with padding, of a batch.
        drop_flagged (`bool`, *optional*, defaults to `False`): leave out what is flagged, in all languages, so that
            captions stay parallel. What has no translation at all always is.
        retranslate (`bool`, *optional*, defaults to `False`): translate again what `output` holds of another model,
            decoding or scorer, instead of raising.
        license, source_license (`str`, *optional*): of the model and of the captions (a list where several hold), for
            the card.
        left_out (`list`, *optional*): takes the rows that cannot be used, see `load_rows`.
        progress (`bool`, *optional*, defaults to `False`): show a progress bar.

    Returns:
        `TranslationSummary`.

    Raises:
        ValueError: wrong rows; unknown languages, those that the model lacks, or the data has already; an `output`
            that is `data`, holds another data set, other translations or languages that would be lost, or is in use;
            no caption that is left.
    """
    began, output = time.perf_counter(), Path(output)
    source, codes = resolve_language(source), [resolve_language(language) for language in languages]
    for option, value in {"batch_size": batch_size, "batch_tokens": batch_tokens}.items():
        if value < 1:
            raise ValueError(f"`{option}` must be at least 1, got {value}.")
    if min_score is not None and scorer is None:
        raise ValueError("`min_score` is a limit for scores, but no scorer was given: pass one, or leave it out.")
    _check_output(data, split, output)
    known_bad = len(left_out or ())
    rows = load_rows(data, split, left_out=left_out)
    others = read_other_columns(Path(data), split, (left_out or [])[known_bad:])
    num_rows = len(rows)
    rows, others = _without_overlaps(rows, others, output)
    _check_languages(rows, source, codes)
    model.check_languages([source, *codes])
    made = _how_made(model, scorer, source)
    texts = list(dict.fromkeys(text for captions in rows["captions"] for text in captions[source]))
    with _locked(output):
        journal = TranslationJournal(output)
        entries = journal.read()
        earlier = _earlier_languages(entries, {*rows[0]["captions"], *codes}, set(map(hash_text, texts)), made)
        _refuse_loss(output, earlier, codes)
        wanted = {(code, hash_text(text)) for code in codes for text in texts}
        stale = {key for key in wanted & entries.keys() if _identity(entries[key].made) != _identity(made)}
        if stale and not retranslate:
            _refuse_mixture(journal.path, entries[min(stale)].made, made, len(stale))
        missing = wanted - (entries.keys() - stale)
        lengths = model.count_tokens(texts)
        with tqdm(total=len(missing), desc="captions", disable=not progress) as bar:
            for code in codes:
                is_missing = [(code, hash_text(text)) in missing for text in texts]
                for batch in plan_batches(texts, lengths, is_missing, batch_size, batch_tokens):
                    new = _translate_batch(model, scorer, [texts[index] for index in batch], source, code, made)
                    journal.append(new)
                    entries |= {entry.key: entry for entry in new}
                    bar.update(len(new))
        limit = None if scorer is None else scorer.min_score if min_score is None else min_score
        targets = codes
        if kept := {code for code, lacking in earlier.items() if not lacking}:
            # In the order in which they came, so that another one leaves that of the others as it was.
            targets = [code for code in dict.fromkeys(code for code, _ in entries) if code in kept | {*codes}]
        translated = assemble(rows, others, entries, source, targets, limit, drop_flagged)
        write_translated(translated, output, _name_of(data, split), made, limit, license, source_license)
    return _summarize(translated, num_rows - len(rows), len(missing), time.perf_counter() - began)


def plan_batches(
    texts: Sequence[str], lengths: Sequence[int], missing: Sequence[bool], batch_size: int, batch_tokens: int
) -> Iterator[list[int]]:
    """The missing texts in batches of similar length, the longest first, so that too little memory shows at once.

    Batches are those of all texts: they do not depend on where a run was stopped, and neither does rounding. Only what
    is left of batches that are there in part, since the texts or the sizes have changed, is batched anew.

    Args:
        texts: all of them, no two alike.
        lengths: of the texts, in tokens.
        missing: whether each is to be translated.
        batch_size: most texts of a batch.
        batch_tokens: most tokens, with padding; a text that is longer is a batch of its own.

    Yields:
        list of `int`: numbers of texts.
    """
    order = sorted(range(len(texts)), key=lambda index: (-lengths[index], texts[index]))
    rest = []
    for batch in _cut(order, lengths, batch_size, batch_tokens):
        left = [index for index in batch if missing[index]]
        if len(left) == len(batch):
            yield batch
        else:
            rest += left
    yield from _cut(rest, lengths, batch_size, batch_tokens)


def _cut(order: list[int], lengths: Sequence[int], batch_size: int, batch_tokens: int) -> Iterator[list[int]]:
    start = 0
    while start < len(order):
        stop = start + max(1, min(batch_size, batch_tokens // max(lengths[order[start]], 1)))
        yield order[start:stop]
        start = stop


def _translate_batch(
    model: Translator, scorer: Scorer | None, texts: list[str], source: str, language: str, made: dict[str, Any]
) -> list[Entry]:
    try:
        translations = model.translate(texts, source, language)
        scores = _score(scorer, texts, translations, source, language)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"There is too little memory for a batch of {len(texts)} captions. What is translated is kept: go on with "
            "a smaller `batch_size` or `batch_tokens`."
        ) from error
    return [
        Entry(language, hash_text(text), found.text, score, _flags(text, found, source, language), made)
        for text, found, score in zip(texts, translations, scores, strict=True)
    ]


def _score(
    scorer: Scorer | None, texts: list[str], translations: list[Translation], source: str, language: str
) -> list[float | None]:
    scores: list[float | None] = [None] * len(texts)
    there = [index for index, found in enumerate(translations) if found.text]
    if scorer is not None and there:
        pair = [texts[index] for index in there], [translations[index].text for index in there]
        for index, score in zip(there, scorer(*pair, source, language), strict=True):
            scores[index] = round(score, 4)
    return scores


def _flags(text: str, translation: Translation, source: str, language: str) -> tuple[str, ...]:
    found = rule_flags(text, translation.text, source, language)
    return tuple(dict.fromkeys([*translation.flags, *found]))


def _how_made(model: Translator, scorer: Scorer | None, source: str) -> dict[str, Any]:
    with_what = f"transformers {transformers.__version__}, torch {torch.__version__}, {model.device.type}"
    quality = None if scorer is None else scorer.settings
    return {"source_language": source, **model.settings, "quality": quality, "with": with_what}


def _identity(made: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in all translations of a data set."""
    return {name: value for name, value in made.items() if name != "with"}


def _earlier_languages(
    entries: dict[tuple[str, str], Entry], known: set[str], hashes: set[str], made: dict[str, Any]
) -> dict[str, int]:
    """Languages of the journal beside those that are known, and how many of these texts, made so, each lacks."""
    identity = _identity(made)
    lacking = {code: len(hashes) for code, _ in entries if code not in known}
    for (code, source_hash), entry in entries.items():
        if code in lacking and source_hash in hashes and _identity(entry.made) == identity:
            lacking[code] -= 1
    return lacking


def _refuse_loss(output: Path, earlier: dict[str, int], codes: Sequence[str]) -> None:
    """Raise a ValueError for languages that the data set in `output` has and would not have any more."""
    path = output / METADATA_FILE
    if not path.exists():
        return
    with path.open("rb") as file:
        try:
            there = json.loads(file.readline())["captions"]
        except (ValueError, KeyError, TypeError):  # spoilt by hand; it is made anew
            return
    if lost := {code: lacking for code, lacking in earlier.items() if lacking and code in there}:
        names = ", ".join(f"{code} ({LANGUAGES[code].name}; {lacking} captions)" for code, lacking in lost.items())
        raise ValueError(
            f"{str(output)!r} has languages that are not asked for now, and of which captions are missing, or were "
            f"translated in another way: {names}. They would be lost: name them too "
            f"({' '.join([*lost, *codes])}), or name another folder."
        )


def _refuse_mixture(path: Path, theirs: dict[str, Any], made: dict[str, Any], count: int) -> None:
    differing = [
        f"{name} was {theirs.get(name)!r}, is {value!r}"
        for name, value in _identity(made).items()
        if theirs.get(name) != value
    ]
    raise ValueError(
        f"{path} holds {count} of these translations, made in another way ({'; '.join(differing)}), and the two are "
        "not mixed. Translate as before, name another folder, or pass `retranslate` to make them again."
    )


def _check_output(data: str | PathLike, split: str | None, output: Path) -> None:
    path = Path(data)
    if not path.exists():
        raise ValueError(f"There is no folder or file {str(path)!r}; captions are translated where they lie on disk.")
    folder = path.parent if path.is_file() else path / (split or "")
    if output.resolve() == folder.resolve():
        raise ValueError(f"The translations of {str(folder)!r} need a folder of their own: its rows would be lost.")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{str(output)!r} is a file; name a folder for the translations.")
    if (output / METADATA_FILE).exists() and not (output / JOURNAL_NAME).exists():
        raise ValueError(f"{str(output)!r} holds another data set, whose rows would be lost: name another folder.")


def _check_languages(rows: datasets.Dataset, source: str, codes: list[str]) -> None:
    there = list(rows[0]["captions"])
    if source not in there:
        raise ValueError(f"The data has no captions in {source}; it has {', '.join(there)}. Name one as the source.")
    if not codes or len(set(codes)) < len(codes):
        raise ValueError(f"`languages` must name at least one language and none twice, but are {codes}.")
    if again := [code for code in codes if code in there]:
        names = ", ".join(f"{code} ({LANGUAGES[code].name})" for code in again)
        raise ValueError(f"The data has captions in {names} already, which are kept as they are: leave out those.")


def _without_overlaps(
    rows: datasets.Dataset, others: list[dict[str, Any]], output: Path
) -> tuple[datasets.Dataset, list[dict[str, Any]]]:
    """Rows but for those that `drop_overlaps` took out of the output: made anew from the source, they would be back.

    What it took out of the source is not among the rows.
    """
    path = output / OVERLAP_FILE
    if not path.exists():
        return rows, others
    dropped = {json.loads(line)["file_name"] for line in path.read_bytes().splitlines()}
    names = [file_name_in(output, row["audio"]["path"]) for row in rows.select_columns("audio")]
    kept = [place for place, name in enumerate(names) if name not in dropped]
    if not kept:
        raise ValueError(
            f"{path} lists every clip of the data as one of the test data too: none is left to translate. Remove the "
            "file to have them all the same, or name another folder."
        )
    return rows.select(kept), [others[place] for place in kept]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from a folder, which is made when it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"Another process is translating into {str(folder)!r}.") from error
    try:
        remove_unfinished(folder)  # a process that was killed may have left some
        yield
    finally:
        lock.release()


def _name_of(data: str | PathLike, split: str | None) -> str:
    path = Path(data).resolve()
    name = path.parent.name if path.is_file() else path.name
    return f"{name}/{split}" if split else name


def _summarize(
    translated: TranslatedSet, num_overlaps: int, num_translated: int, seconds: float
) -> TranslationSummary:
    return TranslationSummary(
        num_clips=len(translated.rows),
        num_captions=translated.num_captions,
        num_dropped_clips=translated.num_dropped_clips,
        num_dropped_captions=translated.num_dropped_captions,
        num_overlaps=num_overlaps,
        flags=translated.count_flags(),
        num_flagged=translated.count_flagged(),
        num_translated=num_translated,
        seconds=seconds,
    )


__all__ = ["FLAGGED_NAME", "TranslationSummary", "plan_batches", "translate_captions"]
