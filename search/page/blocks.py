"""The page as `gradio.Blocks`: its parts, what happens when they are used, and the API."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from modeling_atri.languages_atri import language_name

from ..hits import Hit
from ..index.tables import OF_FILES, SoundKey, all_of, of_sounds
from .asking import MAX_LANGUAGES, MAX_QUERY, PageQuestion, ask, checked_text, page_languages
from .examples import example_questions, parallel_questions
from .filters import Filter, IndexFilters
from .markup import agreement_html, chips_html, heading_html, hits_html, like_html, message_html
from .media import ShownSounds, UnavailableSoundError
from .routes import SOUNDS, SoundFiles


if TYPE_CHECKING:
    import gradio

    from ..agreement import Agreement
    from ..sound_index import SoundIndex

_FIND_LANGUAGE = "Find the language"
_BY: dict[str, Literal["file", "moment"]] = {"Whole files": "file", "Moments": "moment"}
_NUMBERS = [10, 25, 50, 100]
_MAX_FILTERS = 12
# A keyboard can type at once. On a touch screen, the focus would open the keyboard over the page.
_FOCUS = """() => {
  if (matchMedia("(hover: hover)").matches) document.querySelector("#atri-query :is(input, textarea)")?.focus();
}"""
_TRIGGER = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button.%s");
  if (button) trigger("%s", Object.assign({}, %s));
});
"""


def import_gradio() -> Any:
    """The module `gradio`, without its telemetry.

    Raises:
        ImportError: it is not installed. The message says how to install it.
    """
    import os

    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError as error:
        raise ImportError('The page needs Gradio. Install it with `pip install "modeling_atri[search]"`.') from error
    return gradio


def build_page(index: "SoundIndex", files: SoundFiles | None = None) -> "gradio.Blocks":
    """Make the page for an index.

    [`page_app`] mounts it beside the addresses of the sounds, without which it has no players.

    Args:
        index: the index.
        files (*optional*): where the sounds are found. Default: where they were indexed.

    Raises:
        ImportError: Gradio is not installed.
    """
    library = import_gradio()
    files = files or SoundFiles(index, ShownSounds())
    filters = IndexFilters(index.tables)
    languages = page_languages(index)
    desk = _Desk(index, files, filters)
    with library.Blocks(title="Search sounds", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
        parts = _lay_out(library, languages, filters.now()[:_MAX_FILTERS])
        _connect(library, blocks, parts, desk, len(languages))
        _add_agreement(library, parallel_questions(languages), desk)
        _add_api(library, desk)
    page: gradio.Blocks = blocks
    return page


@dataclass(frozen=True)
class _Parts:
    """The components of the page."""

    heading: Any
    query: Any
    ask: Any
    chips: Any
    like: Any
    sound: Any
    by: Any
    language: Any
    number: Any
    without: Any
    filters: list[tuple[Filter, list[Any]]]
    status: Any
    results: Any
    liked: Any  # the hit that more like it are asked for
    shown: Any  # the filters as this visitor sees them

    @property
    def filter_components(self) -> list[Any]:
        return [component for _, components in self.filters for component in components]

    @property
    def inputs(self) -> list[Any]:
        named = [self.query, self.language, self.without, self.sound, self.liked, self.by, self.number, self.shown]
        return named + self.filter_components


def _lay_out(gradio: Any, languages: Sequence[str], filters: Sequence[Filter]) -> _Parts:
    named = sorted((language_name(code), code) for code in languages)
    heading = gradio.HTML(elem_id="atri-heading")
    with gradio.Row(elem_id="atri-ask", equal_height=True):
        query = gradio.Textbox(
            "",
            label="Question",
            show_label=False,
            container=False,
            placeholder="a dog barks in the distance",
            max_length=MAX_QUERY,
            lines=1,
            max_lines=1,
            scale=1,
            elem_id="atri-query",
        )
        button = gradio.Button("Search", variant="primary", scale=0, min_width=104, elem_id="atri-search")
    chips = gradio.HTML(
        chips_html(example_questions(languages)),
        js_on_load=_TRIGGER
        % ("atri-chip", "example", "{text: button.textContent, language: button.dataset.language}"),
    )
    like = gradio.HTML("", js_on_load=_TRIGGER % ("atri-unlike", "unlike", "{}"), elem_id="atri-like")
    with gradio.Accordion("Search by a sound", open=False, elem_id="atri-by-sound"):
        sound = _uploads_only(
            gradio,
            gradio.Audio(
                label="Drop a sound, or record one", sources=["upload", "microphone"], type="filepath", editable=False
            ),
        )
    with gradio.Accordion("Options and filters", open=False, elem_id="atri-options"):
        with gradio.Row():
            by = gradio.Radio(list(_BY), value="Whole files", label="Find", min_width=260)
            language = gradio.Dropdown(
                [(_FIND_LANGUAGE, ""), *named], value="", label="Language of the question", min_width=260
            )
            number = gradio.Dropdown(_NUMBERS, value=_NUMBERS[0], label="Sounds to show", min_width=260)
            without = gradio.Textbox("", label="Without", placeholder="speech", max_length=MAX_QUERY, min_width=260)
        with gradio.Row(elem_id="atri-filters"):
            components = [(item, _filter_components(gradio, item)) for item in filters]
    status = gradio.HTML(elem_id="atri-status")
    results = gradio.HTML(
        js_on_load=_TRIGGER % ("atri-like", "more_like", 'button.closest(".atri-hit").dataset'), elem_id="atri-results"
    )
    liked, shown = gradio.State(None), gradio.State(list(filters))
    return _Parts(
        heading,
        query,
        button,
        chips,
        like,
        sound,
        by,
        language,
        number,
        without,
        components,
        status,
        results,
        liked,
        shown,
    )


def _uploads_only(gradio: Any, field: Any) -> Any:
    """A field for sounds that refuses an address, which Gradio's server would fetch for a client of the API."""
    take = field.async_move_resource_to_block_cache

    async def take_upload(place: Any) -> Any:
        if place is not None and "://" in str(place):
            raise gradio.Error(
                "The page fetches no sounds from other addresses. Upload the sound itself.", print_exception=False
            )
        return await take(place)

    field.async_move_resource_to_block_cache = take_upload
    return field


def _filter_components(gradio: Any, item: Filter) -> list[Any]:
    """What sets a filter: two sliders for a range, and one component for the others."""
    name = item.column.replace("_", " ") if item.column != "duration_s" else "length in seconds"
    if item.kind == "choice":
        return [gradio.Dropdown(list(item.choices), multiselect=True, label=name, min_width=200)]
    if item.kind == "yes_no":
        return [gradio.CheckboxGroup([("yes", True), ("no", False)], label=name, min_width=160)]
    if item.kind == "text":
        return [gradio.Textbox("", label=f"{name} contains", min_width=200)]
    low, high, step = _slider(item)
    return [
        gradio.Slider(low, high, value=value, step=step, label=f"{name}, {end}", buttons=[], min_width=200)
        for value, end in ((low, "at least"), (high, "at most"))
    ]


def _slider(item: Filter) -> tuple[float, float, float]:
    """The ends and the step of a slider, as round numbers that include all values."""
    if item.is_whole:
        return item.low, item.high, max(1, round((item.high - item.low) / 1000))
    step = 10.0 ** math.floor(math.log10((item.high - item.low) / 100))
    return math.floor(item.low / step) * step, math.ceil(item.high / step) * step, step


class _Desk:
    """Answers what the components of the page and the API ask."""

    def __init__(self, index: "SoundIndex", files: SoundFiles, filters: IndexFilters):
        self.index, self.files, self.filters = index, files, filters
        self._numbers = count(1)

    def answer(
        self,
        query: str,
        language: str,
        without: str,
        sound: str | None,
        liked: Hit | None,
        by: str,
        top_k: int,
        shown: Sequence[Filter],
        *values: Any,
    ) -> tuple[str, str]:
        """The message and the hits for the present values of the components."""
        if not (query.strip() or sound or liked):
            return "", ""
        question = PageQuestion(
            query, language, without, sound or liked, _filter_values(shown, values), _BY[by], top_k
        )
        try:
            found = ask(self.index, self.filters, question)
        except (ValueError, OSError) as error:
            return message_html(str(error), True, next(self._numbers)), ""
        kind = "sound" if question.by == "file" else "moment"
        text = (
            f"{len(found.hits) or 'No'} {kind}{'' if len(found.hits) == 1 else 's'} in {1000 * found.seconds:.0f} ms"
        )
        if found.language is not None:
            text += f" · {language_name(found.language)}{' (found by itself)' if found.language_was_found else ''}"
        hits = [(hit, self.files.shown.token(_key(hit)), self._reason(hit)) for hit in found.hits]
        number = next(self._numbers)
        return message_html(text, number=number), hits_html(hits, question.by == "moment", number)

    def hits(self, found: Iterable[Hit]) -> list[dict[str, Any]]:
        """Hits as the API returns them, without the place of the folder on the server.

        No key is called `path`, because Gradio's clients fetch every value with this key as a file.
        """
        return [
            {
                "sound": hit.path,
                "start_s": hit.start_s,
                "end_s": hit.end_s,
                "duration_s": hit.duration_s,
                "score": hit.score,
                "metadata": dict(hit.metadata),
                "url": f"/{SOUNDS}/{self.files.shown.token(_key(hit))}" if self._reason(hit) is None else None,
            }
            for hit in found
        ]

    def part_of(self, sound: SoundKey, start_s: float, end_s: float) -> Hit:
        """A part of a sound, to ask for more like it."""
        rows = self.index.tables.rows(all_of(OF_FILES, of_sounds([sound])), ["duration_s"])
        duration_s = float(rows["duration_s"][0].as_py()) if len(rows) else end_s
        return Hit(sound.path, start_s, end_s, 0.0, duration_s=duration_s, folder=sound.folder)

    def compared(self, questions: Mapping[str, str]) -> "Agreement":
        """What the same question finds in several languages. Languages without a question are left out."""
        if not isinstance(questions, Mapping):
            raise ValueError(f"Questions are given by language, such as {{'en': 'a dog barks'}}; got {questions!r}.")
        texts = {language: text for language, given in questions.items() if (text := checked_text(given))}
        if len(texts) > MAX_LANGUAGES:
            raise ValueError(f"At most {MAX_LANGUAGES} languages can be compared at once, got {len(texts)}.")
        agreement: Agreement = self.index.compare_languages(texts)
        return agreement

    def _reason(self, hit: Hit) -> str | None:
        """Why a hit cannot be played here; None if it can."""
        try:
            self.files.file(_key(hit))
        except (UnavailableSoundError, OSError) as error:
            return str(error)
        return None


def _key(hit: Hit) -> SoundKey:
    return SoundKey(hit.folder, hit.path)


def _filter_values(shown: Sequence[Filter], values: Sequence[Any]) -> dict[str, Any]:
    """The values of filters by column. The ends of a slider do not filter."""
    rest, found = list(values), {}
    for item in shown:
        if item.kind != "range":
            found[item.column] = rest.pop(0)
            continue
        least, greatest = rest.pop(0), rest.pop(0)
        low, high, _ = _slider(item)
        if least > low or greatest < high:
            found[item.column] = (least if least > low else None, greatest if greatest < high else None)
    return found


def _connect(gradio: Any, blocks: Any, parts: _Parts, desk: _Desk, num_languages: int) -> None:
    """Say what happens when the components are used."""
    shown = [parts.status, parts.results]
    quiet = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
    typed = gradio.skip()

    def on_load() -> list[Any]:
        """The number of sounds and the filters of the index as it is now."""
        now = {item.column: item for item in desk.filters.now()}
        present = [now.get(item.column, item) for item, _ in parts.filters]
        updates = [update for item, own in parts.filters for update in _updates(gradio, now.get(item.column), own)]
        heading = heading_html(desk.index.tables.count_sounds(), num_languages)
        return [heading, present, *updates]

    def on_example(event: gradio.EventData, *values: Any) -> tuple[Any, ...]:
        text, language = event.text, event.language
        _, _, without, _, _, *others = values
        return text, None, None, "", *desk.answer(text, language, without, None, None, *others)

    def on_more_like(event: gradio.EventData, *values: Any) -> tuple[Any, ...]:
        sound = desk.files.shown.get(event.token)
        if sound is None:
            return typed, typed, typed, typed, message_html("Ask again: this sound is not known any more.", True), ""
        hit = desk.part_of(sound, float(event.start), float(event.end))
        _, language, without, _, _, *others = values
        return "", None, hit, like_html(event.name), *desk.answer("", language, without, None, hit, *others)

    def on_unlike(*values: Any) -> tuple[Any, ...]:
        query, language, without, sound, _, *others = values
        return None, "", *desk.answer(query, language, without, sound, None, *others)

    blocks.load(on_load, None, [parts.heading, parts.shown, *parts.filter_components], js=_FOCUS, **quiet)
    asking = [parts.query.submit, parts.ask.click, parts.without.submit, parts.by.input, parts.language.input]
    asking += [parts.number.input, parts.sound.upload, parts.sound.stop_recording, parts.sound.clear]
    asking += [
        getattr(component, "release" if item.kind == "range" else "submit" if item.kind == "text" else "input")
        for item, components in parts.filters
        for component in components
    ]
    gradio.on(asking, desk.answer, parts.inputs, shown, **quiet)
    replaced = [parts.query, parts.sound, parts.liked, parts.like, *shown]
    parts.chips.example(on_example, parts.inputs, replaced, **quiet)
    parts.results.more_like(on_more_like, parts.inputs, replaced, **quiet)
    parts.like.unlike(on_unlike, parts.inputs, [parts.liked, parts.like, *shown], **quiet)


def _updates(gradio: Any, item: Filter | None, components: Sequence[Any]) -> list[Any]:
    """What the components of a filter show for the index as it is now; hidden where the column can filter no more."""
    if item is None:
        return [gradio.update(visible=False) for _ in components]
    if item.kind == "choice":
        return [gradio.update(choices=list(item.choices), visible=True)]
    if item.kind == "range":
        low, high, step = _slider(item)
        return [
            gradio.update(minimum=low, maximum=high, step=step, value=value, visible=True) for value in (low, high)
        ]
    return [gradio.update(visible=True)]


def _add_agreement(gradio: Any, questions: Mapping[str, str], desk: _Desk) -> None:
    """The same question in several languages, and a table of whether they find the same."""
    if len(questions) < 2:
        return
    with gradio.Accordion("Do the languages agree?", open=False, elem_id="atri-agreement"):
        with gradio.Row():
            boxes = [
                gradio.Textbox(text, label=language_name(language), max_length=MAX_QUERY, min_width=180)
                for language, text in questions.items()
            ]
        button = gradio.Button("Compare", elem_id="atri-compare")
        table = gradio.HTML()

    def on_compare(*texts: str) -> str:
        try:
            return agreement_html(desk.compared(dict(zip(questions, texts, strict=True))))
        except (ValueError, OSError) as error:
            return message_html(str(error), is_error=True)

    gradio.on(
        [button.click, *(box.submit for box in boxes)],
        on_compare,
        boxes,
        table,
        api_visibility="private",
        show_progress="hidden",
    )


def _add_api(gradio: Any, desk: _Desk) -> None:
    """Endpoints for programs. Their parameters are documented at `/?view=api`."""

    def search(
        query: str,
        language: str,
        without: str,
        sound: str | None,
        by: Literal["file", "moment"],
        top_k: int,
        filters: dict[str, Any] | None,
    ) -> list[dict[str, Any]]:
        """Find sounds by words in any language of the model, by a sound, or by both.

        Returns a list of hits, best first. `sound` is the path of a sound below its folder, and `url` its address on
        this server.
        """
        question = PageQuestion(query or "", language or "", without or "", sound, filters or {}, by, int(top_k))
        with _told(gradio):
            return desk.hits(ask(desk.index, desk.filters, question).hits)

    def compare_languages(questions: dict[str, str]) -> dict[str, Any]:
        """Ask the same question in several languages, given by language, and compare what they find."""
        with _told(gradio):
            found = desk.compared(questions)
            return {
                "overlap": found.overlap,
                "rank_variance": found.rank_variance,
                "ranks": found.ranks,
                "languages": {
                    language: {"question": found.queries[language], "hits": desk.hits(hits[: found.top_k])}
                    for language, hits in found.hits.items()
                },
            }

    def columns() -> list[dict[str, Any]]:
        """The filters of the index as it is now: the columns with their kinds and values."""
        return [asdict(item) for item in desk.filters.now()]

    parameters = [
        gradio.Textbox("", label="Question, in any language of the model", visible=False),
        gradio.Textbox("", label="Language of the question, such as ja; empty to find it", visible=False),
        gradio.Textbox("", label="What should not be heard", visible=False),
        _uploads_only(gradio, gradio.Audio(label="A sound to find similar ones", type="filepath", visible=False)),
        gradio.Radio(["file", "moment"], value="file", label="What to find", visible=False),
        gradio.Number(10, label="Number of hits, at most 100", precision=0, visible=False),
        gradio.JSON(
            {}, label='Filters by column, such as {"licence": ["cc0"], "duration_s": [null, 30]}', visible=False
        ),
    ]
    hits = gradio.JSON(label="Hits", visible=False)
    gradio.Button(visible=False).click(search, parameters, hits, api_name="search", show_progress="hidden")
    gradio.api(compare_languages, api_name="compare_languages")
    gradio.api(columns, api_name="columns")


@contextmanager
def _told(gradio: Any) -> Iterator[None]:
    """Tell a client of the API what was wrong, instead of that there was an error."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gradio.Error(str(error), print_exception=False) from error
