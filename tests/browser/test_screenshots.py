"""Pictures of the page for the documentation: `ATRI_SCREENSHOTS=docs/_static make test-browser ARGS="-k screenshot"`.

The sounds are generated soundscapes. The vectors are made so that those with a dog fit best, since a tiny model of the
tests knows no sounds. A browser shows Japanese and Chinese if a font for them is installed.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from modeling_atri import encode_text
from modeling_atri.corpora.soundscapes.combinations import all_combinations
from modeling_atri.corpora.soundscapes.scenes import make_scene
from modeling_atri.search import SoundIndex
from modeling_atri.search.index.tables import IndexedSound
from tests.helpers.pages import served
from tests.helpers.tiny import tiny_model, tiny_processor


pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif("ATRI_SCREENSHOTS" not in os.environ, reason="ATRI_SCREENSHOTS names no folder for pictures"),
]
QUESTION, LANGUAGE = "犬が吠える", "jpn_Jpan"
MAX_BYTES = 300_000
SECONDS = 20.0


def soundscape_index(folder: Path) -> SoundIndex:
    model, processor = tiny_model(), tiny_processor()
    index = SoundIndex.open(folder / "index", model=model, processor=processor)
    question = encode_text(model, processor, [QUESTION], LANGUAGE)[0]
    random = np.random.default_rng(0)
    combinations = [item for item in all_combinations() if item.relation == "then"]
    lasting = [item for item in combinations if all(sound.count != "once" for sound in item.sounds)]
    with_dog = [item for item in lasting if item.sources[-1] == "dog"][::2]
    others = [item for item in combinations if "dog" not in item.sources][::60]
    rows = []
    for number, combination in enumerate([*with_dog, *others][:40]):
        samples = make_scene(combination, index=number, duration_s=SECONDS)["audio"]["array"]
        path = f"{'-'.join(combination.sources)}/{number:03d}.flac"
        (folder / "sounds" / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "sounds" / path, samples, 16_000)
        spans = [(start, start + 5.0) for start in np.arange(0.0, SECONDS, 5.0).tolist()]
        loudness = samples.reshape(len(spans), -1).std(axis=1)
        # The dog is in the second half. A window of it in which nothing sounds is no moment to show.
        fits = [
            0.9 if combination.sources[-1] == "dog" and start >= SECONDS / 2 and loud > loudness.mean() / 2 else 0.1
            for (start, _), loud in zip(spans, loudness, strict=True)
        ]
        vectors = np.stack([mixed(question, fit - 0.003 * number, random) for fit in fits])
        columns = {"licence": ("cc0", "cc-by")[number % 2], "sources": list(combination.sources)}
        whole = mixed(question, max(fits) - 0.003 * number, random)
        rows.append(IndexedSound(path, str(folder / "sounds"), SECONDS, spans, vectors, whole, columns=columns))
    with index.tables.writing():
        index.tables.ensure_columns({"licence": pa.string(), "sources": pa.list_(pa.string())})
        index.tables.append(rows)
    return index


def mixed(question: np.ndarray, cosine: float, random: np.random.Generator) -> np.ndarray:
    """A unit vector with a cosine to the question."""
    other = random.normal(size=question.size)
    other -= (other @ question) * question
    other /= np.linalg.norm(other)
    return (cosine * question + np.sqrt(1 - cosine**2) * other).astype(np.float32)


@pytest.fixture(scope="module")
def url(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from modeling_atri.search.page import page_app

    with served(page_app(soundscape_index(tmp_path_factory.mktemp("screenshots")))) as address:
        yield address


@pytest.mark.parametrize(
    ("name", "width", "height", "options"),
    [
        ("page_desktop", 1000, 860, {"color_scheme": "light"}),
        ("page_phone", 390, 800, {"color_scheme": "dark", "device_scale_factor": 1.5}),
    ],
)
def test_screenshot(browser: Any, url: str, name: str, width: int, height: int, options: dict[str, Any]):
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.goto(url)
    page.get_by_role("button", name="Options and filters").click()
    page.get_by_label("Moments").check()
    page.get_by_role("button", name="Options and filters").click()
    page.get_by_label("Question", exact=True).fill(QUESTION)
    page.get_by_label("Question", exact=True).press("Enter")
    page.locator(".atri-hit").first.wait_for()
    assert "dog" in page.locator(".atri-folder").first.inner_text()
    page.wait_for_function(
        "[...document.querySelectorAll('.atri-picture img')].slice(0, 4).every(image => image.naturalWidth)"
    )
    file = Path(os.environ["ATRI_SCREENSHOTS"], f"{name}.png")
    page.screenshot(path=file)
    context.close()
    assert file.stat().st_size < MAX_BYTES
