"""The HTML of what the page shows: hits with players, the agreement of languages, example questions, messages.

Every text that comes from an index or from a visitor is escaped here.
"""

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from modeling_atri.languages_atri import iso_code, language_name

from ..exports import clock_time
from ..hits import Hit


if TYPE_CHECKING:
    from ..agreement import Agreement

_MAX_TAGS, _MAX_TAG = 8, 80  # shown values of a hit, and characters of each


def clock(seconds: float) -> str:
    """A time such as 0:07, 12:30 or 1:02:03; with a decimal below a minute, such as 0:07.5, unless it is whole."""
    tenths = round(10 * seconds)
    if tenths < 600:
        return f"0:{tenths // 10:02d}" + (f".{tenths % 10}" if tenths % 10 else "")
    return clock_time(round(seconds))


def hits_html(hits: Iterable[tuple[Hit, str, str | None]], by_moment: bool, number: int) -> str:
    """A list of hits.

    Args:
        hits: each hit with the token of its sound, and None or the reason why it cannot be played.
        by_moment: whether the hits are moments, which are marked and played from their start.
        number: of the answer, as in `message_html`.
    """
    items = "".join(_hit(hit, token, reason, by_moment) for hit, token, reason in hits)
    return (
        f'<ol class="atri-hits" data-answer="{number}" aria-label="Sounds that were found">{items}</ol>'
        if items
        else ""
    )


def message_html(text: str, is_error: bool = False, number: int = 0) -> str:
    """A sentence above the hits, which screen readers announce.

    Args:
        text: the sentence.
        is_error: whether it says what was wrong.
        number: of the answer. With another number, a sentence that says the same is announced again.
    """
    kind = 'class="atri-message atri-error" role="alert"' if is_error else 'class="atri-message" role="status"'
    return f'<p {kind} data-answer="{number}">{escape(text)}</p>'


def heading_html(num_sounds: int, num_languages: int) -> str:
    """The heading of the page."""
    languages = f", in {num_languages} languages" if num_languages > 1 else ""
    return (
        f'<h1 class="atri-heading">Search {num_sounds:,} sounds</h1>'
        f'<p class="atri-lead">Say what you want to hear{languages}.</p>'
    )


def chips_html(questions: Mapping[str, str]) -> str:
    """Buttons with example questions, by language."""
    chips = "".join(
        f'<button type="button" class="atri-chip" data-language="{escape(language)}" lang="{_tag(language)}" '
        f'title="{escape(language_name(language))}">{escape(text)}</button>'
        for language, text in questions.items()
    )
    return f'<div class="atri-chips" role="group" aria-label="Example questions">{chips}</div>'


def like_html(name: str | None) -> str:
    """The sound that is asked for more of, with a button to drop it; nothing without one."""
    if name is None:
        return ""
    return (
        f'<div class="atri-like-this">Like <strong>{escape(name)}</strong>'
        '<button type="button" class="atri-unlike">Clear</button></div>'
    )


def agreement_html(agreement: "Agreement") -> str:
    """A table with a row for each language: its question, its first sound, and the share that others find too."""
    heads = ("Language", "Question", "First sound", "Shared")
    rows = "".join(
        f"<tr><th scope='row'>{escape(language_name(language))}</th>"
        f"<td lang='{_tag(language)}'>{escape(agreement.queries[language])}</td>"
        f"<td>{escape(hits[0].path.rpartition('/')[2]) if hits else '–'}</td>"
        f"<td class='atri-number'>{100 * agreement.overlap_of(language):.0f}&nbsp;%</td></tr>"
        for language, hits in agreement.hits.items()
    )
    return (
        f'<p class="atri-message" role="status">{escape(agreement.summary())}</p>'
        '<div class="atri-table" tabindex="0" role="region" aria-label="Agreement of the languages"><table>'
        f"<thead><tr>{''.join(f'<th scope=col>{head}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _hit(hit: Hit, token: str, reason: str | None, by_moment: bool) -> str:
    folder, _, name = hit.path.rpartition("/")
    tags = "".join(
        f'<span class="atri-tag" title="{escape(column)}">{escape(text)}</span>'
        for column, text in _tags(hit.metadata)
    )
    part = f"{clock(hit.start_s)} – {clock(hit.end_s)} of {clock(hit.duration_s)}"
    has_part = by_moment and (hit.start_s > 0 or hit.end_s < hit.duration_s - 0.05)
    can_play = reason is None
    player = _player(hit, token, name, has_part) if can_play else f'<p class="atri-reason">{escape(reason or "")}</p>'
    span = f'data-start="{hit.start_s!r}" data-end="{hit.end_s!r}"'
    return (
        f'<li class="atri-hit" data-token="{token}" data-name="{escape(name)}" {span}>'
        f'<div class="atri-head">{_play_button(name, hit.start_s if has_part else None) if can_play else ""}'
        f'<div class="atri-title"><span class="atri-name">{escape(name)}</span>'
        f'<span class="atri-folder">{escape(folder)}</span></div>'
        f'<span class="atri-score" title="How well it fits: cosine similarity, 1 at most">{hit.score:.2f}</span></div>'
        f'{player}<div class="atri-foot"><span class="atri-time">{part if has_part else clock(hit.duration_s)}</span>'
        f'{tags}<span class="atri-actions">{_actions(token, name, can_play)}</span></div></li>'
    )


def _play_button(name: str, start_s: float | None) -> str:
    label = f"Play {name}" + (f" from {clock(start_s)}" if start_s is not None else "")
    return (
        f'<button type="button" class="atri-play" aria-label="{escape(label)}" aria-pressed="false">'
        '<svg viewBox="0 0 24 24" aria-hidden="true"><path class="atri-icon-play" d="M8 5v14l11-7z"/>'
        '<path class="atri-icon-pause" d="M6 5h4v14H6zm8 0h4v14h-4z"/></svg></button>'
    )


def _player(hit: Hit, token: str, name: str, has_part: bool) -> str:
    duration_s = max(hit.duration_s, 0.001)
    fragment, mark = "", ""
    if has_part:
        fragment = f"#t={hit.start_s:.3f},{hit.end_s:.3f}"
        left, width = 100 * hit.start_s / duration_s, 100 * (hit.end_s - hit.start_s) / duration_s
        mark = f'<span class="atri-moment" style="left:{left:.2f}%;width:{max(width, 0.5):.2f}%"></span>'
    return (
        f'<div class="atri-picture" role="slider" tabindex="0" aria-label="{escape(f"Position in {name}")}" '
        f'aria-valuemin="0" aria-valuemax="{duration_s:.1f}" aria-valuenow="{hit.start_s if has_part else 0:.1f}" '
        f'aria-valuetext="{clock(hit.start_s if has_part else 0)}">'
        f'<img src="pictures/{token}.png" alt="" loading="lazy" decoding="async">{mark}'
        '<span class="atri-cursor"></span></div>'
        f'<audio preload="none" src="sounds/{token}{fragment}" data-start="{hit.start_s if has_part else 0:.3f}" '
        f'data-end="{hit.end_s if has_part else duration_s:.3f}" data-duration="{duration_s:.3f}"></audio>'
    )


def _actions(token: str, name: str, can_play: bool) -> str:
    like = (
        f'<button type="button" class="atri-like" aria-label="{escape(f"More like {name}")}">More like this</button>'
    )
    link = f'<a class="atri-download" href="sounds/{token}" download="{escape(name)}">Download</a>' if can_play else ""
    return like + link


def _tags(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Values of a hit's columns as short texts; lists give one each."""
    found = []
    for column, value in metadata.items():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if item is None or item == "":
                continue
            text = _tag_text(column, item)
            found.append((column, text if len(text) <= _MAX_TAG else f"{text[:_MAX_TAG]}…"))
    return found[:_MAX_TAGS]


def _tag_text(column: str, value: Any) -> str:
    if isinstance(value, bool):
        return column if value else f"not {column}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tag(language: str) -> str:
    """The tag of a language for the attribute `lang`, so that browsers choose the right font and voice."""
    return escape(iso_code(language))
