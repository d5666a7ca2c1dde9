"""A browser, and the page of an index whose answers are known. After each test, its console must be empty."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modeling_atri.search import SoundIndex
from tests.helpers.pages import known_index, served


_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# Without these, the browser itself calls other machines.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
MAX_UPLOAD_MB = 1.0
TIMEOUT_MS = 20_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)")
    path = os.environ.get("ATRI_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(f"No browser is installed: none of {', '.join(_NAMES)} is on the PATH, nor is ATRI_BROWSER set.")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield started
        started.close()


@dataclass(frozen=True)
class Served:
    """An index, its page, and the folder of its sounds."""

    index: SoundIndex
    url: str
    sounds: Path


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page; only where there is a browser."""
    pytest.importorskip("gradio")
    from modeling_atri.search.page import page_app

    folder = tmp_path_factory.mktemp("page")
    index = known_index(folder)
    with served(page_app(index, max_upload_mb=MAX_UPLOAD_MB)) as url:
        yield Served(index, url, folder / "sounds")


@pytest.fixture(scope="module")
def profiles(browser: Any) -> Iterator[Callable[..., Any]]:
    """A profile of the browser for each kind of device. Its cache keeps the scripts of Gradio, which are many."""
    made: dict[tuple[tuple[str, Any], ...], Any] = {}

    def profile(**options: Any) -> Any:
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = browser.new_context(**options)
        return made[key]

    yield profile
    for context in made.values():
        context.close()


@pytest.fixture
def open_page(profiles: Callable[..., Any], site: Served) -> Iterator[Callable[..., Any]]:
    """Open the page. The test fails if it wrote to the console or called another machine."""
    pages, problems, expected = [], [], []

    def watch(page: Any) -> None:
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on(
            "request", lambda request: problems.append(request.url) if not _is_own(request.url, site.url) else None
        )

    def open(width: int = 1100, height: int = 900, expect: str | None = None, **options: Any) -> Any:
        """`expect` has parts of the only messages that may be in the console, with `|` between them."""
        if expect is not None:
            expected.extend(expect.split("|"))
        page = profiles(**options).new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(TIMEOUT_MS)
        watch(page)
        page.goto(site.url)
        page.locator(".atri-heading").wait_for()
        return page

    yield open
    for page in pages:
        page.close()
    assert [text for text in problems if not any(part in text for part in expected)] == []


def _is_own(address: str, url: str) -> bool:
    return address.startswith((f"{url}/", "data:", f"blob:{url}/"))
