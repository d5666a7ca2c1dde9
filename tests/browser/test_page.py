"""The page in a real browser."""

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import soundfile

from modeling_atri.search import Hit
from modeling_atri.search.index.tables import IndexedSound
from tests.helpers.pages import ANSWERS, HEARD, LONG, RATE, tone
from tests.helpers.tiny import CAPTIONS

from .conftest import MAX_UPLOAD_MB, Served


pytestmark = pytest.mark.browser

# Gradio closes the stream that reports how far an upload is, and writes that this needs no action.
UPLOAD_NOTE = "Method not implemented."
# The player of the uploaded sound cannot decode a file that is no sound.
NO_SOUND_NOTE = f"{UPLOAD_NOTE}|Waveform load error"
OpenPage = Callable[..., Any]


def ask(page: Any, text: str) -> None:
    """Type a question, press Enter, and wait for its answer."""
    query(page).fill(text)
    with answered(page):
        query(page).press("Enter")


def query(page: Any) -> Any:
    return page.get_by_label("Question", exact=True)


@contextmanager
def answered(page: Any) -> Iterator[None]:
    """Wait until what the block does is answered: by a new message, and by its hits if it has any."""
    before = page.evaluate("Number(document.querySelector('#atri-status .atri-message')?.dataset.answer ?? 0)")
    yield
    page.wait_for_function(
        """before => {
          const answer = document.querySelector("#atri-status .atri-message")?.dataset.answer;
          const hits = document.querySelector("#atri-results .atri-hits");
          return answer > before && (!hits || hits.dataset.answer === answer);
        }""",
        arg=before,
    )


def names(page: Any) -> list[str]:
    return page.locator(".atri-hit .atri-title .atri-name").all_text_contents()


def file_names(hits: list[Hit]) -> list[str]:
    return [hit.path.rpartition("/")[2] for hit in hits]


def scores(page: Any) -> list[float]:
    return [float(text) for text in page.locator(".atri-score").all_text_contents()]


def open_options(page: Any) -> None:
    page.get_by_role("button", name="Options and filters").click()
    page.get_by_label("Without").wait_for()


def fetch(page: Any, address: str, **headers: str) -> dict[str, Any]:
    """What the browser gets for an address relative to the page."""
    return page.evaluate(
        """async ([address, headers]) => {
          const answer = await fetch(address, {headers});
          const bytes = new Uint8Array(await answer.arrayBuffer());
          return {status: answer.status, type: answer.headers.get("content-type"),
                  range: answer.headers.get("content-range"), length: bytes.length,
                  start: String.fromCharCode(...bytes.slice(0, 4))};
        }""",
        [address, headers],
    )


def test_a_question_in_japanese_finds_its_sound_which_can_be_heard(open_page: OpenPage, site: Served):
    page = open_page()
    ask(page, CAPTIONS["jpn_Jpan"])
    assert names(page)[0] == "日本語.wav" and scores(page)[0] == 1.0
    assert "Japanese (found by itself)" in page.locator("#atri-status").inner_text()
    address = page.locator(".atri-hit audio").first.get_attribute("src")
    part = fetch(page, address, Range="bytes=0-99")
    size = (site.sounds / ANSWERS["jpn_Jpan"]).stat().st_size
    assert part == {
        "status": 206, "type": "audio/wav", "range": f"bytes 0-99/{size}", "length": 100, "start": "RIFF",
    }  # fmt: skip
    assert fetch(page, address)["length"] == size
    page.get_by_role("button", name="Play 日本語.wav").click()
    page.wait_for_function("document.querySelector('.atri-hit audio').currentTime > 0.1")


def test_each_format_plays(open_page: OpenPage):
    page = open_page()
    for code in ("spa_Latn", "deu_Latn", "fra_Latn", "nld_Latn"):
        ask(page, CAPTIONS[code])
        assert names(page)[0] == ANSWERS[code].rpartition("/")[2]
        page.locator(".atri-play").first.click()
        page.wait_for_function("document.querySelector('.atri-hit audio').currentTime > 0.1")
        length = page.evaluate("document.querySelector('.atri-hit audio').duration")
        assert length == pytest.approx(1.0 + list(ANSWERS).index(code), abs=0.1)


def test_only_one_sound_plays_at_a_time(open_page: OpenPage):
    page = open_page()
    ask(page, CAPTIONS["nld_Latn"])
    page.locator(".atri-play").nth(0).click()
    page.wait_for_function("!document.querySelectorAll('.atri-hit audio')[0].paused")
    page.locator(".atri-play").nth(1).click()
    page.wait_for_function(
        "(([first, second]) => first.paused && !second.paused)(document.querySelectorAll('.atri-hit audio'))"
    )


def test_a_moment_is_marked_and_played_from_its_start(open_page: OpenPage):
    page = open_page()
    open_options(page)
    page.get_by_label("Moments").check()
    ask(page, CAPTIONS["cat_Latn"])
    hit = page.locator(".atri-hit").first
    assert names(page)[0] == LONG.rpartition("/")[2]
    assert hit.locator(".atri-time").inner_text() == "0:20 – 0:30 of 1:00"
    mark = hit.locator(".atri-moment").evaluate(
        "mark => [mark, mark.parentElement].map(part => part.getBoundingClientRect()).map(({x, width}) => [x, width])"
    )
    (x, width), (left, whole) = mark
    assert (x - left) / whole == pytest.approx(1 / 3, abs=0.01) and width / whole == pytest.approx(1 / 6, abs=0.01)
    hit.get_by_role("button", name="Play recording.flac from 0:20").click()
    page.wait_for_function("document.querySelector('.atri-hit audio').currentTime > 20.05")
    page.evaluate("document.querySelector('.atri-hit audio').currentTime = 29.8")
    page.wait_for_function("document.querySelector('.atri-hit audio').paused")  # at the end of the moment
    assert page.evaluate("document.querySelector('.atri-hit audio').currentTime") == pytest.approx(30, abs=0.3)


def test_pictures_are_fetched_when_they_come_into_view(open_page: OpenPage):
    page = open_page(height=500)
    fetched = []
    page.on("request", lambda request: fetched.append(request.url) if "/pictures/" in request.url else None)
    open_options(page)
    page.get_by_label("Sounds to show").click()
    page.get_by_role("option", name="100").click()
    ask(page, CAPTIONS["eng_Latn"])
    page.wait_for_function("document.querySelector('.atri-picture img').naturalWidth === 480")
    assert 0 < len(fetched) < page.locator(".atri-picture").count()


def drop(page: Any, name: str, content: bytes) -> None:
    """Drop a file on the field for sounds."""
    page.get_by_role("button", name="Search by a sound").click()
    field = page.locator("#atri-by-sound button", has_text="Drop")
    field.wait_for()
    transfer = page.evaluate_handle(
        """([name, content]) => {
          const transfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
          transfer.items.add(new File([bytes], name, {type: "audio/wav"}));
          return transfer;
        }""",
        [name, base64.b64encode(content).decode()],  # a list of a million numbers takes minutes to hand over
    )
    field.dispatch_event("drop", {"dataTransfer": transfer})


def test_a_dropped_sound_finds_itself(open_page: OpenPage, site: Served):
    page = open_page(expect=UPLOAD_NOTE)
    with answered(page):
        drop(page, "mine.wav", (site.sounds / HEARD).read_bytes())
    assert names(page)[0] == HEARD.rpartition("/")[2] and scores(page)[0] == 1.0
    with answered(page):
        ask_too = CAPTIONS["eng_Latn"]
        query(page).fill(ask_too)
        query(page).press("Enter")
    of_both = site.index.search(ask_too, language="en", like=str(site.sounds / HEARD))
    # The words and the sound count alike, so the sounds of both have equal scores, in an order that rounding decides.
    assert set(names(page)[:4]) == set(file_names(of_both)[:4]) >= {HEARD.rpartition("/")[2], "english.wav"}
    assert scores(page)[0] < 1.0


def test_a_dropped_file_that_is_no_sound_is_a_sentence(open_page: OpenPage):
    page = open_page(expect=NO_SOUND_NOTE)
    with answered(page):
        drop(page, "page.wav", b"<html><body>Not found</body></html>")
    message = page.locator("#atri-status [role=alert]").inner_text()
    assert "HTML page" in message and "/tmp" not in message and "Traceback" not in message
    assert page.locator(".atri-hit").count() == 0


def test_a_dropped_file_that_is_too_large_is_a_sentence(open_page: OpenPage):
    page = open_page(expect=f"{UPLOAD_NOTE}|413")
    drop(page, "large.wav", bytes(round(1.2e6 * MAX_UPLOAD_MB)))
    page.get_by_text(re.compile("maximum allowed size", re.IGNORECASE)).first.wait_for()


def test_more_like_this(open_page: OpenPage):
    page = open_page()
    ask(page, CAPTIONS["eng_Latn"])
    second = names(page)[1]
    with answered(page):
        page.get_by_role("button", name=f"More like {second}").click()
    assert names(page)[0] == second and scores(page)[0] == 1.0
    assert page.locator(".atri-like-this strong").inner_text() == second
    assert query(page).input_value() == ""
    with answered(page):  # a question refines it
        query(page).fill(CAPTIONS["jpn_Jpan"])
        query(page).press("Enter")
    assert scores(page)[0] < 1.0
    with answered(page):
        page.get_by_role("button", name="Clear").click()
    assert names(page)[0] == "日本語.wav" and scores(page)[0] == 1.0
    assert page.locator(".atri-like-this").count() == 0


def test_an_example_is_asked_in_its_language(open_page: OpenPage):
    page = open_page()
    assert page.locator(".atri-chip").count() == 8
    chip = page.locator(".atri-chip[lang=ca]")
    with answered(page):
        chip.click()
    page.wait_for_function(
        "text => document.querySelector('#atri-query :is(input, textarea)').value === text", arg=chip.inner_text()
    )
    assert page.locator("#atri-status").inner_text().endswith("Catalan")
    assert page.locator(".atri-hit").count() == 10


def test_filters(open_page: OpenPage):
    page = open_page()
    ask(page, CAPTIONS["eng_Latn"])
    open_options(page)
    with answered(page):
        page.get_by_label("licence").click()
        page.get_by_role("option", name="l'auteur").click()
    assert set(page.locator(".atri-tag[title=licence]").all_text_contents()) == {"l'auteur"}
    with answered(page):
        page.get_by_label("yes", exact=True).check()
    assert set(page.locator(".atri-tag[title=checked]").all_text_contents()) == {"checked"}
    years = [int(text) for text in page.locator(".atri-tag[title=year]").all_text_contents()]
    assert len(set(years)) > 1
    with answered(page):
        slider = page.get_by_role("slider", name=re.compile("year, at most"))
        slider.fill(str(sorted(years)[0]))
        slider.dispatch_event("pointerup")
    assert page.locator(".atri-tag[title=year]").all_text_contents() == [str(sorted(years)[0])]


def test_without(open_page: OpenPage, site: Served):
    page = open_page()
    ask(page, CAPTIONS["eng_Latn"])
    before = names(page)
    open_options(page)
    page.get_by_label("Without").fill("Rain falls.")
    with answered(page):
        page.get_by_label("Without").press("Enter")
    left = site.index.search(CAPTIONS["eng_Latn"], language="en", without="Rain falls.")
    assert names(page) == file_names(left) != before
    assert names(page) != before


def test_the_languages_are_compared(open_page: OpenPage):
    page = open_page()
    page.get_by_role("button", name="Do the languages agree?").click()
    for code, text in CAPTIONS.items():
        page.locator("#atri-agreement textarea, #atri-agreement input").nth(list(CAPTIONS).index(code)).fill(text)
    page.get_by_role("button", name="Compare").click()
    rows = page.locator("#atri-agreement tbody tr")
    rows.first.wait_for()
    assert rows.count() == 8
    for row, (code, path) in zip(rows.all(), ANSWERS.items(), strict=True):
        cells = row.locator("th, td").all_text_contents()
        assert cells[1] == CAPTIONS[code] and cells[2] == path.rpartition("/")[2]
        assert re.fullmatch(r"\d+\s%", cells[3])


def test_a_question_that_is_too_long_is_cut_and_a_wrong_one_is_a_sentence(open_page: OpenPage):
    page = open_page()
    query(page).fill("x" * 600)
    query(page).press_sequentially("y")
    assert len(query(page).input_value()) <= 600
    page.get_by_role("button", name="Do the languages agree?").click()
    fields = page.locator("#atri-agreement textarea, #atri-agreement input")
    fields.first.wait_for()
    for field in fields.all()[1:]:
        field.fill("")
    page.get_by_role("button", name="Compare").click()
    page.locator("#atri-agreement [role=alert]").get_by_text("at least two").wait_for()


def test_texts_of_the_index_are_no_markup(open_page: OpenPage):
    page = open_page()
    ask(page, CAPTIONS["zho_Hans"])
    assert names(page)[0] == ANSWERS["zho_Hans"]
    assert page.locator(".atri-hit script, .atri-tag b").count() == 0
    page.locator(".atri-play").first.click()
    page.wait_for_function("document.querySelector('.atri-hit audio').currentTime > 0.1")


def test_sounds_that_are_added_meanwhile_are_found_without_a_restart(open_page: OpenPage, site: Served):
    page = open_page()
    ask(page, CAPTIONS["deu_Latn"])
    before = page.locator(".atri-heading").inner_text()
    rows = site.index.tables.rows(f"path = '{ANSWERS['deu_Latn']}'", ["vector"])
    vector = np.array(rows["vector"][0].as_py(), dtype=np.float32)
    soundfile.write(site.sounds / "new.wav", tone(1.0), RATE)
    added = IndexedSound("new.wav", str(site.sounds), 1.0, [(0.0, 1.0)], vector[None], vector)
    with site.index.tables.writing():
        site.index.tables.append([added])
    try:
        ask(page, CAPTIONS["deu_Latn"])
        assert set(names(page)[:2]) == {"new.wav", "deutsch.mp3"}
        address = page.locator(".atri-hit", has_text="new.wav").locator("audio").get_attribute("src")
        assert fetch(page, address)["status"] == 200
        page.reload()
        page.locator(".atri-heading").wait_for()
        assert page.locator(".atri-heading").inner_text() != before
    finally:
        site.index.remove(["new.wav"])


def test_a_sound_without_a_file_says_why_it_cannot_be_played(open_page: OpenPage):
    page = open_page()
    open_options(page)
    page.get_by_label("Sounds to show").click()
    page.get_by_role("option", name="25").click()
    ask(page, CAPTIONS["eng_Latn"])
    other = page.locator(".atri-hit", has_text="others").first
    assert "does not exist any more" in other.locator(".atri-reason").inner_text()
    assert other.locator("audio, .atri-play").count() == 0
    with answered(page):
        other.get_by_role("button", name="More like").click()
    assert scores(page)[0] == 1.0


# By keyboard


def focused(page: Any) -> str:
    """The class or id that says which part has the focus."""
    return page.evaluate(
        """() => { const part = document.activeElement;
                   return part.closest("#atri-query")?.id || part.id || part.className.toString(); }"""
    )


def has_visible_focus(page: Any) -> bool:
    return page.evaluate(
        """() => { const style = getComputedStyle(document.activeElement);
                   return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2; }"""
    )


def test_everything_works_by_keyboard(open_page: OpenPage):
    page = open_page()
    page.wait_for_function("document.activeElement.closest('#atri-query')")  # one can type at once
    page.keyboard.insert_text(CAPTIONS["jpn_Jpan"])
    with answered(page):
        page.keyboard.press("Enter")
    order = []
    while len(order) < 40 and "atri-play" not in focused(page):
        page.keyboard.press("Tab")
        order.append(focused(page))
        assert has_visible_focus(page), order
    assert order[0] == "atri-search" and order[1:9] == ["atri-chip"] * 8
    page.keyboard.press("Space")
    page.wait_for_function("!document.querySelector('.atri-hit audio').paused")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.atri-hit audio').paused")
    page.keyboard.press("Tab")
    assert "atri-picture" in focused(page) and has_visible_focus(page)
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.ariaValueNow") == "2.0"
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.atri-hit audio').currentTime > 2.05")
    page.keyboard.press("Tab")
    assert "atri-like" in focused(page)
    with answered(page):
        page.keyboard.press("Enter")
    assert names(page)[0] == "日本語.wav"


# For every eye and every width

CONTRAST = """() => {
  const number = (text) => { const parts = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith("color(srgb") ? [...parts.slice(0, 3).map((part) => 255 * part), parts[3] ?? 1]
                                         : [...parts.slice(0, 3), parts[3] ?? 1]; };
  const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]).concat(1);
  const background = (part) => {
    const layers = [];
    for (; part; part = part.parentElement) layers.push(number(getComputedStyle(part).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = (color) => { const [r, g, b] = color.map((value) => {
      const share = value / 255; return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), part = walker.currentNode.parentElement;
    if (!text || !part.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (["SCRIPT", "STYLE"].includes(part.tagName) || part.getBoundingClientRect().width < 2) continue;
    const below = background(part), style = getComputedStyle(part), color = over(number(style.color), below);
    const [low, high] = [light(color), light(below)].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    found.push({text, ratio: (high + 0.05) / (low + 0.05), needed: isLarge ? 3 : 4.5});
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(open_page: OpenPage, scheme: str):
    page = open_page(color_scheme=scheme)
    for name in ("Search by a sound", "Options and filters", "Do the languages agree?"):
        page.get_by_role("button", name=name).click()
    page.get_by_role("button", name="Compare").click()
    page.locator("#atri-agreement tbody tr").first.wait_for()
    page.get_by_label("Sounds to show").click()
    page.get_by_role("option", name="50").click()
    ask(page, CAPTIONS["eng_Latn"])
    with answered(page):
        page.get_by_role("button", name="More like english.wav").click()
    found = page.evaluate(CONTRAST)
    assert len(found) > 100
    assert [item for item in found if item["ratio"] < item["needed"]] == []
    is_dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(part => part < 60)")
    assert is_dark == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_error_has_the_contrast_of_wcag_aa(open_page: OpenPage, scheme: str):
    page = open_page(color_scheme=scheme, expect=NO_SOUND_NOTE)
    with answered(page):
        drop(page, "page.wav", b"not a sound")
    found = {item["text"]: item["ratio"] for item in page.evaluate(CONTRAST)}
    assert found[page.locator("#atri-status [role=alert]").inner_text()] >= 4.5


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_does_not_scroll_sideways(open_page: OpenPage, width: int):
    page = open_page(width=width, height=844, has_touch=True, is_mobile=True)

    def check() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        beyond = page.evaluate(
            """width => [...document.querySelectorAll(".gradio-container *")].filter((part) =>
                 part.checkVisibility() && !part.closest(".atri-chips, .atri-table") &&
                 part.getBoundingClientRect().right > width + 1).map((part) => part.outerHTML.slice(0, 80))""",
            width,
        )
        assert beyond == []

    check()
    ask(page, CAPTIONS["zho_Hans"])
    check()
    for name in ("Search by a sound", "Options and filters", "Do the languages agree?"):
        page.get_by_role("button", name=name).click()
    page.get_by_label("Moments").wait_for()
    page.get_by_role("button", name="Compare").click()
    page.locator("#atri-agreement tbody tr").first.wait_for()
    check()
    target = page.locator(".atri-play").first.bounding_box()
    assert target["width"] >= 40 and target["height"] >= 40


def test_the_page_of_the_api_works_offline(open_page: OpenPage):
    page = open_page(expect="Failed to load resource")  # it looks for optional parts of the server
    page.get_by_role("button", name="Use via API").click()
    page.get_by_text("/compare_languages").first.wait_for()
    assert page.get_by_text("/search").count() > 0
