"""Measure the page of `atri serve`: from the question to the first hit that a browser shows.

A tiny model and an index of 50,000 sounds are made, and `atri serve` serves them in a process of its own. Chromium
asks questions that differ, in eight languages, and the time from the Enter key to the list of hits is measured. For
each question, these are measured in turns with it, in this process:

- `text`: the text tower's own time, `encode_text` of the question. What is left of the page's time is compared with
  the bar.
- `search`: `SoundIndex.search`, the floor of a page that only shows what is found.

The model has random weights and the index has random vectors, because the time does not depend on what is found. It
needs Chromium and playwright, and prints one JSON line.
"""

from shared.measuring import medians, print_report, row, wall_seconds  # first: it sets one thread


# isort: split
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from bench_daily_index import FILES_AT_ONCE, write_sounds
from shared.options import SEED, option_parser

from modeling_atri.audio_io.discovery import search_folder
from modeling_atri.corpora.soundscapes.captions import bare_captions
from modeling_atri.corpora.soundscapes.sources import SOURCES
from modeling_atri.encode import encode_text
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.search import SoundIndex
from modeling_atri.search.index.tables import IndexedSound
from modeling_atri.trainer.scratch.model import ScratchArguments, model_from_scratch


BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
HIDDEN_SIZE = 48
# True once the answer after number `before` is shown with its hits.
IS_ANSWERED = """before => {
  const answer = document.querySelector("#atri-status .atri-message")?.dataset.answer;
  return answer > before && document.querySelector("#atri-results .atri-hits")?.dataset.answer === answer;
}"""
LAST_ANSWER = "Number(document.querySelector('#atri-status .atri-message')?.dataset.answer ?? 0)"


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "two minutes",
        files=(50_000, "sounds of the index"),
        rounds=(24, "questions"),
        seed=(0, SEED),
    ).parse_args()
    with tempfile.TemporaryDirectory() as name:
        index = make_index(Path(name), options.files, options.seed)
        seconds = seconds_of_questions(index, Path(name, "index"), options.rounds)
    beside = [page - text for page, text in zip(seconds["page"], seconds["text"], strict=True)]
    work = f"page: question to first hit, {options.files:,} sounds"
    rows = [row(work, "milliseconds beside the text tower", 1000 * statistics.median(beside), "<= 300")]
    print_report("page", rows=rows, seconds=medians(seconds), **vars(options))


def questions() -> Iterator[tuple[str, str]]:
    """Short queries for the generated sounds, with their languages, which take turns."""
    for source in SOURCES:
        captions = bare_captions(source)
        yield from ((captions[code][0], code) for code in ATRI_LANGUAGES)


def make_index(folder: Path, num_sounds: int, seed: int) -> SoundIndex:
    """Write a tiny model, sounds, and an index of random vectors for them."""
    sizes = ScratchArguments(audio_hidden_size=HIDDEN_SIZE, text_hidden_size=HIDDEN_SIZE, audio_heads=3, text_heads=3)
    texts = [text for text, _ in questions()]
    model, processor = model_from_scratch(texts, list(ATRI_LANGUAGES), sizes, seed)
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    write_sounds(folder / "sounds", num_sounds, seed)
    index = SoundIndex.open(folder / "index", str(folder / "model"))
    generator = np.random.default_rng(seed)
    found = iter(search_folder(folder / "sounds").sounds.items())
    while batch := list(islice(found, FILES_AT_ONCE)):
        vectors = generator.standard_normal((len(batch), model.config.projection_dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with index.tables.writing():
            index.tables.append(
                [
                    IndexedSound(path, str(folder / "sounds"), 0.25, [(0.0, 0.25)], vector[None], vector, sound.size)
                    for (path, sound), vector in zip(batch, vectors, strict=True)
                ]
            )
    return index


def seconds_of_questions(index: SoundIndex, folder: Path, rounds: int) -> dict[str, list[float]]:
    """The seconds of each way for each question. The first two questions only warm up."""
    model, processor = index.model.load()
    seconds: dict[str, list[float]] = {"page": [], "search": [], "text": []}
    with served(folder) as url, opened(url) as page:
        box = page.get_by_label("Question", exact=True)
        for number, (text, code) in enumerate(islice(questions(), rounds + 2)):
            box.fill(text)
            before = page.evaluate(LAST_ANSWER)
            taken = {
                "page": wall_seconds(partial(ask, page, box, before)),
                "search": wall_seconds(partial(index.search, text, language=code)),
                "text": wall_seconds(partial(encode_text, model, processor, text, code)),
            }
            for way, values in seconds.items() if number >= 2 else ():
                values.append(taken[way])
    return seconds


def ask(page: Any, box: Any, before: int) -> None:
    """Press Enter, and wait until the answer shows its hits."""
    box.press("Enter")
    page.wait_for_function(IS_ANSWERED, arg=before)


@contextmanager
def served(index: Path) -> Iterator[str]:
    """The address of the page, which `atri serve` serves meanwhile."""
    command = [sys.executable, "-m", "modeling_atri.cli.main", "serve", str(index), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            said = next(line for line in process.stdout or () if "http://" in line)
            yield next(word for word in said.split() if word.startswith("http://"))
        finally:
            process.terminate()


@contextmanager
def opened(url: str) -> Iterator[Any]:
    """A page of Chromium that shows the address."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise SystemExit(f"No browser is installed: none of {', '.join(BROWSERS)} is on the PATH.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page()
        page.goto(url)
        page.locator(".atri-heading").wait_for()
        yield page
        browser.close()


if __name__ == "__main__":
    main()
