"""Translate the captions of a data set into other languages, continuing where the last run was stopped."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from tqdm.auto import tqdm

from modeling_atri.languages_atri import language_name, resolve_language, resolve_languages

from ..rows.bad_rows import BadRow
from ..rows.load import load_rows, read_other_columns
from ..rows.recordings import is_url
from ..sources.opening import open_source
from .batches import Translator, plan_batches, translate_batch
from .finished import FinishedRun
from .journal import Entry, TranslationJournal, hash_text
from .output import check_output, earlier_languages, find_stale, locked, refuse_loss, without_overlaps
from .quality import Scorer
from .sharing import SharedTranslation
from .translated_rows import TranslatedSet, assemble, card_facts, write_translated


@dataclass
class TranslationSummary:
    """What `translate_captions` did.

    Args:
        num_clips, num_captions: Numbers of clips, and of captions in each language, that were written.
        num_dropped_clips, num_dropped_captions: Numbers of those that were not written because a translation failed or
            was flagged.
        num_overlaps: Number of clips that were not written because `atri prepare check --drop` took them out of the
            output before.
        flags: Number of captions of each language with each flag. A caption may have several.
        num_flagged: Number of captions of each language with any flag.
        num_translated: Number of texts that this run translated, over all languages.
        seconds: Duration of the run.
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
    data: str | PathLike[str],
    output: str | PathLike[str],
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

    Each text is translated once into each language, however many clips have it. Batches depend only on the texts, and
    each is written to disk when it is finished. A run that is stopped loses at most one batch, and the next run
    continues to the same files, bit for bit. When captions have been added or changed, calling the function again
    translates only these. When nothing has changed since a run that finished, neither rows nor output (by their
    content) nor recordings (by size and time of change), no row is read. Translations of removed captions stay in the
    journal but not in the data set. Other columns of the rows are copied. Clips that `drop_overlaps` took out of the
    source or the output stay out.

    Several processes that a launcher started (see [`~modeling_atri.processes.launched_processes`]) translate batches
    at the same time, and the main process writes the files that one process would write. All of them return the same
    summary.

    Args:
        data (`str` or `Path`): Folder with `metadata.jsonl`, or such a file; see `load_rows`. Its languages are kept.
        output (`str` or `Path`): Folder for `metadata.jsonl`, whose rows name the recordings where they are;
            `translations.jsonl`, see `TranslationJournal`; `flagged.jsonl`, the captions that may be wrong; and
            `README.md`, the data set's card.
        model (`TranslationModel`): The model that translates.
        languages (list of `str`): Languages to translate into, as in `resolve_languages`. Other
            languages that `output` has are kept.
        source (`str`, *optional*, defaults to `"eng_Latn"`): Language to translate from.
        split (`str`, *optional*): Subfolder of `data`.
        scorer (`Scorer`, *optional*): Scores the translations. Scores are kept with them.
        min_score (`float`, *optional*): Flag translations with a lower score. Defaults to the scorer's limit. A later
            run may change it.
        batch_size (`int`, *optional*, defaults to 32): Largest number of texts in a batch.
        batch_tokens (`int`, *optional*, defaults to 2048): Largest number of source tokens in a batch, with padding.
        drop_flagged (`bool`, *optional*, defaults to `False`): Leave out captions that are flagged in one language, in
            all languages. Captions without a translation are always left out.
        retranslate (`bool`, *optional*, defaults to `False`): Translate again what `output` holds from another model,
            decoding or scorer, instead of raising an error.
        license, source_license (`str`, *optional*): Licenses of the model and of the captions (a list if several
            apply), for the card.
        left_out (`list`, *optional*): Collects rows that cannot be used; see `load_rows`.
        progress (`bool`, *optional*, defaults to `False`): Show a progress bar.

    Returns:
        `TranslationSummary`: What was done.

    Raises:
        ValueError: If rows are wrong; a language is unknown to the library or the model, or in the data already;
            `output` is `data`, holds another data set, translations made in another way or languages that would be
            lost, or is in use; or no caption is left.
    """
    shared = SharedTranslation(partial(_translate_batch, model, scorer, source))
    options: dict[str, Any] = {"split": split, "scorer": scorer, "min_score": min_score, "batch_size": batch_size}
    options |= {"batch_tokens": batch_tokens, "drop_flagged": drop_flagged, "retranslate": retranslate}
    options |= {"license": license, "source_license": source_license, "left_out": left_out, "progress": progress}
    return shared.run(partial(_translate_captions, shared, data, Path(output), model, languages, source, **options))


def _translate_batch(
    model: Translator, scorer: Scorer | None, source: str, texts: list[str], code: str, made: dict[str, Any]
) -> list[Entry]:
    return translate_batch(model, scorer, texts, resolve_language(source), code, made)


def _translate_captions(
    shared: SharedTranslation,
    data: str | PathLike[str],
    output: Path,
    model: Translator,
    languages: Sequence[str],
    source: str,
    *,
    split: str | None,
    scorer: Scorer | None,
    min_score: float | None,
    batch_size: int,
    batch_tokens: int,
    drop_flagged: bool,
    retranslate: bool,
    license: str | None,
    source_license: str | list[str] | None,
    left_out: list[BadRow] | None,
    progress: bool,
) -> TranslationSummary:
    """The work of the main process: all but the translation of batches, which it shares with the others."""
    began = time.perf_counter()
    source, codes = resolve_language(source), resolve_languages(languages)
    _check_options(batch_size, batch_tokens, min_score, scorer)
    check_output(data, split, output)
    made, name = _how_made(model, scorer, source), _name_of(data, split)
    limit = scorer.min_score if scorer is not None and min_score is None else min_score
    facts = {"made": made, "languages": codes, "limit": limit, "drop_flagged": drop_flagged, "name": name}
    facts |= {"license": license, "source_license": source_license}
    finished = FinishedRun(output, _file_of(data, split), facts)
    if (done := _read_finished(finished, output)) is None:
        read = _read_rows(data, split, output, left_out)
        _check_languages(read.rows, source, codes)
        model.check_languages([source, *codes])
        hashes = {text: hash_text(text) for text in read.texts(source)}
        with locked(output):
            journal = TranslationJournal(output)
            entries = journal.read()
            earlier = earlier_languages(entries, {*read.rows[0]["captions"], *codes}, {*hashes.values()}, made)
            refuse_loss(output, earlier, codes)
            wanted = {(code, source_hash) for code in codes for source_hash in hashes.values()}
            missing = wanted - (entries.keys() - find_stale(journal.path, entries, wanted, made, retranslate))
            batches = _plan(model, hashes, codes, missing, batch_size, batch_tokens)
            with tqdm(total=len(missing), desc="captions", disable=not progress) as bar:
                for new in shared.translated(batches, made):
                    journal.append(new)
                    entries |= {entry.key: entry for entry in new}
                    bar.update(len(new))
            targets = _targets(entries, earlier, codes)
            translated = assemble(read.rows, read.others, entries, source, targets, limit, drop_flagged)
            write_translated(translated, output, card_facts(translated, name, made, limit, license, source_license))
            done = _summary(translated, len(read.all_rows) - len(read.rows), len(missing))
            if not read.has_bad_rows:  # a recording that was missing may come back
                finished.write(read.recordings, vars(done))
    return replace(done, seconds=time.perf_counter() - began)


def _read_finished(finished: FinishedRun, output: Path) -> TranslationSummary | None:
    """The summary of the last run, which translated the same; None if there is something to do."""
    if not output.is_dir():
        return None
    with locked(output):
        summary = finished.read()
    if summary is None:
        return None
    flags = {code: Counter(counts) for code, counts in summary.pop("flags").items()}
    return replace(TranslationSummary(**summary, flags=flags), num_translated=0)


@dataclass(frozen=True)
class _ReadRows:
    """The rows to translate with their other columns, and all rows of the data, also those that the output lost."""

    rows: datasets.Dataset
    others: list[dict[str, Any]]
    all_rows: datasets.Dataset
    has_bad_rows: bool

    def texts(self, source: str) -> list[str]:
        """The different captions in a language, in the order of the rows."""
        return list(dict.fromkeys(text for captions in self.rows["captions"] for text in captions[source]))

    @property
    def recordings(self) -> Iterator[str]:
        """The paths of all recordings on disk."""
        return (sound["path"] for sound in self.all_rows["audio"] if not is_url(sound["path"]))


def _read_rows(data: str | PathLike[str], split: str | None, output: Path, left_out: list[BadRow] | None) -> _ReadRows:
    bad_rows: list[BadRow] | None = None if left_out is None else []
    read = load_rows(Path(data), split, left_out=bad_rows)
    others = read_other_columns(Path(data), split, bad_rows or [])
    if left_out is not None:
        left_out += bad_rows or []
    return _ReadRows(*without_overlaps(read, others, output), read, bool(bad_rows))


def _plan(
    model: Translator,
    hashes: dict[str, str],
    codes: list[str],
    missing: set[tuple[str, str]],
    batch_size: int,
    batch_tokens: int,
) -> Iterator[tuple[list[str], str]]:
    """Batches of the missing texts, language by language. `hashes` are those of all texts."""
    texts = list(hashes)
    lengths = model.count_tokens(texts)
    for code in codes:
        is_missing = [(code, source_hash) in missing for source_hash in hashes.values()]
        for batch in plan_batches(texts, lengths, is_missing, batch_size, batch_tokens):
            yield [texts[index] for index in batch], code


def _summary(translated: TranslatedSet, num_overlaps: int, num_translated: int) -> TranslationSummary:
    return TranslationSummary(
        num_clips=len(translated.rows),
        num_captions=translated.num_captions,
        num_dropped_clips=translated.num_dropped_clips,
        num_dropped_captions=translated.num_dropped_captions,
        num_overlaps=num_overlaps,
        flags=translated.count_flags(),
        num_flagged=translated.count_flagged(),
        num_translated=num_translated,
    )


def _check_options(batch_size: int, batch_tokens: int, min_score: float | None, scorer: Scorer | None) -> None:
    for option, value in {"batch_size": batch_size, "batch_tokens": batch_tokens}.items():
        if value < 1:
            raise ValueError(f"`{option}` must be at least 1, got {value}.")
    if min_score is not None and scorer is None:
        raise ValueError("`min_score` is a limit for scores, but no scorer was given: pass one, or leave it out.")


def _file_of(data: str | PathLike[str], split: str | None) -> Path:
    """The file of rows."""
    found = open_source(str(data), split)
    if not isinstance(found, Path):
        raise ValueError(f"{str(data)!r} is no folder or file of rows. Write it as one with `atri prepare hub` first.")
    return found


def _check_languages(rows: datasets.Dataset, source: str, codes: list[str]) -> None:
    there = list(rows[0]["captions"])
    if source not in there:
        raise ValueError(f"The data has no captions in {source}; it has {', '.join(there)}. Name one as the source.")
    if not codes or len(set(codes)) < len(codes):
        raise ValueError(f"`languages` must name at least one language and none twice, but are {codes}.")
    if again := [code for code in codes if code in there]:
        names = ", ".join(f"{code} ({language_name(code)})" for code in again)
        raise ValueError(f"The data has captions in {names} already, and they are kept: leave these languages out.")


def _how_made(model: Translator, scorer: Scorer | None, source: str) -> dict[str, Any]:
    with_what = f"transformers {transformers.__version__}, torch {torch.__version__}, {model.device.type}"
    quality = None if scorer is None else scorer.settings
    return {"source_language": source, **model.settings, "quality": quality, "with": with_what}


def _targets(entries: dict[tuple[str, str], Entry], earlier: dict[str, int], codes: list[str]) -> list[str]:
    """The languages of this run and those of earlier runs that lack no text, in the order of the journal."""
    kept = {code for code, lacking in earlier.items() if not lacking}
    return [code for code in dict.fromkeys(code for code, _ in entries) if code in kept | {*codes}] if kept else codes


def _name_of(data: str | PathLike[str], split: str | None) -> str:
    path = Path(data).resolve()
    name = path.parent.name if path.is_file() else path.name
    return f"{name}/{split}" if split else name
