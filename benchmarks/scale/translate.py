"""Measure `atri translate` where nothing is new: 100,000 captions that were translated into seven languages before.

The journal of the earlier runs is written by this script, so no model computes anything. CPU seconds of
`translate_captions`, which is what the command calls after it has loaded the model:

- `first_cpu_seconds`: the run that finds all translations in the journal, and writes the data set.
- `again_cpu_seconds`: the same run again.
- `new_option_cpu_seconds`: again, with another limit for scores, so that the data set is put together anew.
- `bare_journal_cpu_seconds`: reading the lines of the journal with `json.loads`, and nothing else.

The benchmark fails if a run translates something, or if a file of the data set changes where nothing has changed. It
prints one JSON line.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import cpu_seconds, print_scale_report  # first: it sets one thread


# isort: split
import json
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import soundfile
import torch
from shared.options import SEED, option_parser
from shared.processes import peak_memory

from modeling_atri.corpora.translation.journal import JOURNAL_NAME, Entry, TranslationJournal, hash_text
from modeling_atri.corpora.translation.models import Translation
from modeling_atri.corpora.translation.translate import translate_captions
from modeling_atri.files import content_digest, write_json_lines


CAPTIONS, CAPTIONS_OF_A_CLIP, BATCH = 100_000, 5, 10_000
SOURCE = "eng_Latn"
TARGETS = ("fra_Latn", "deu_Latn", "spa_Latn", "nld_Latn", "cat_Latn", "jpn_Jpan", "zho_Hans")
WORDS = (
    "a",
    "the",
    "dog",
    "cat",
    "bird",
    "car",
    "rain",
    "water",
    "barks",
    "sings",
    "passes",
    "softly",
    "near",
    "then",
)
LOW_SCORES = 200  # one in so many translations
BARS = {"again_cpu_seconds": 5.0}


class FinishedModel:
    """Stands for the model of the earlier runs. It must not be asked for a translation."""

    settings = {"model": "bench", "revision": None, "fingerprint": "0" * 32, "decoding": {"num_beams": 4}}
    device = torch.device("cpu")

    def check_languages(self, languages: Sequence[str]) -> None:
        """Know all languages."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count words."""
        return [len(text.split()) for text in texts]

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        """Fail."""
        raise SystemExit(f"{len(texts)} captions were translated again.")


class FinishedScorer:
    """Stands for the scorer of the earlier runs."""

    settings = {"method": "round_trip"}
    min_score = 0.3

    def __call__(self, *_: Any) -> list[float]:
        raise SystemExit("Captions were scored again.")


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "two minutes", part=(1.0, "part of the 100,000 captions"), seed=(0, SEED))
    parser.add_argument("--work", type=Path, help="existing folder for the files (default: a temporary one)")
    options = parser.parse_args()
    number = max(100, int(CAPTIONS * options.part)) // CAPTIONS_OF_A_CLIP * CAPTIONS_OF_A_CLIP
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        figures = measure(Path(name), number, options.seed)
    figures["peak_memory_mb"] = peak_memory() // 2**20
    print_scale_report("translate", figures, BARS, {"captions": number, "languages": len(TARGETS)})


def measure(work: Path, number: int, seed: int) -> dict[str, float]:
    """Make data and journal, and run the translation several times."""
    texts = write_data(work / "data", number, seed)
    write_journal(work / "out", texts, seed)

    def run(min_score: float | None = None) -> None:
        summary = translate_captions(
            *(work / "data", work / "out", FinishedModel(), TARGETS, SOURCE),
            scorer=FinishedScorer(),
            min_score=min_score,
            license="apache-2.0",
        )
        if summary.num_translated or summary.num_captions != number:
            raise SystemExit(f"The run was not one where nothing is new: {summary}")

    def written() -> dict[str, str]:
        return {path.name: content_digest(path) for path in (work / "out").iterdir() if path.name[0] != "."}

    figures = {"first_cpu_seconds": cpu_seconds(run)}
    before = written()
    figures["again_cpu_seconds"] = cpu_seconds(run)
    if written() != before:
        raise SystemExit("Files have changed, though nothing was new.")
    figures["new_option_cpu_seconds"] = cpu_seconds(lambda: run(0.35))
    figures["bare_journal_cpu_seconds"] = cpu_seconds(lambda: read_lines(work / "out" / JOURNAL_NAME))
    return {name: round(seconds, 2) for name, seconds in figures.items()}


def write_data(folder: Path, number: int, seed: int) -> list[str]:
    """Write clips of five captions each, all different. Their recordings are one file under many names."""
    folder.mkdir()
    sound = folder / "sound.wav"
    soundfile.write(sound, np.random.default_rng(seed).normal(scale=0.1, size=4000), 16_000)
    generator = random.Random(seed)
    texts = [f"{' '.join(generator.choices(WORDS, k=9))} {index}" for index in range(number)]
    rows = []
    for clip, start in enumerate(range(0, number, CAPTIONS_OF_A_CLIP)):
        os.link(sound, folder / f"{clip:06}.wav")
        rows.append({"file_name": f"{clip:06}.wav", "captions": {SOURCE: texts[start : start + CAPTIONS_OF_A_CLIP]}})
    write_json_lines(folder / "metadata.jsonl", rows)
    return texts


def write_journal(folder: Path, texts: Sequence[str], seed: int) -> None:
    """Write the journal of finished runs."""
    folder.mkdir()
    made = {"source_language": SOURCE, **FinishedModel.settings, "quality": FinishedScorer.settings, "with": "bench"}
    generator, journal = random.Random(seed), TranslationJournal(folder)

    def entries() -> Iterator[Entry]:
        for code in TARGETS:
            for text in texts:
                score = 0.1 if generator.randrange(LOW_SCORES) == 0 else round(generator.uniform(0.4, 1), 4)
                yield Entry(code, hash_text(text), f"{code[:3]}: {text}", score, (), made)

    all_entries = entries()
    while batch := list(islice(all_entries, BATCH)):
        journal.append(batch)


def read_lines(path: Path) -> None:
    """Read a file of JSON lines."""
    with path.open("rb") as file:
        for line in file:
            json.loads(line)


if __name__ == "__main__":
    main()
