"""`atri search`: find sounds of an index by text, by sound, or by both."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from modeling_atri.bounds import Bounds, PositiveCount, check_options, option

from ..loading import check_device
from ..options import parse_options
from ..outputs import check_output_file, check_output_folder
from ..printing.wide_text import cut_to, fitting_table


if TYPE_CHECKING:
    from modeling_atri.search import Hit, Question, SoundIndex


DESCRIPTION = """\
Find the sounds of INDEX that fit QUERY best, in any language of the index's model. `atri index` makes an index, which
notes its model.

examples:
  atri search sounds.index "a dog barks"
  atri search sounds.index "犬が吠える" --language ja --top_k 5
  atri search sounds.index "un chien aboie" --where "duration_s < 30 AND licence = 'cc0'"
  atri search sounds.index "a dog barks" --without "rain"
  atri search sounds.index --like my_dog.wav                        # sounds like this one
  atri search sounds.index "in a cave" --like footsteps/17.wav      # a text and a sound of the index together
  atri search sounds.index "a door slams" --by moment               # where in long recordings
  atri search sounds.index "a door slams" --by moment --m3u doors.m3u --export doors/
  atri search sounds.index --ask en="a dog barks" fr="un chien aboie" ja="犬が吠える"   # do the languages agree?

The score is the cosine of question and sound, from -1 to 1. Compare scores of one question, not of two. With
--without, a sound loses or gains by how much more, or less, it is like what should be absent than the mean sound is.

The language of the question is found by itself if --language is not given. In a question of a few words, that
may be wrong; the line above the table says what was found.
"""

_SHOWN = {
    *("index", "query", "language", "top_k", "where", "without", "like", "by", "moments_per_file", "ask"),
    *("json", "m3u", "export"),
}
_MAX_CELL = 40  # columns of the terminal that a value of a column of the index takes


@dataclass
class SearchArguments:
    """Options of `atri search`."""

    index: str = field(metadata={"help": "Folder or address of the index.", "positional": True})
    query: str | None = field(default=None, metadata={"help": "What is to be heard, in words.", "positional": True})
    language: str | None = option(
        None, "Language of the question, as a code (fr, fra_Latn) or an English name. Default: found in the question."
    )
    top_k: PositiveCount = option(10, "Number of hits.")
    where: str | None = option(
        None,
        "Condition of SQL on the columns of the index: those of the side file that was indexed, duration_s, path, "
        "folder and others.",
    )
    without: str | None = option(None, "What is not to be heard, in the language of the question.")
    like: str | None = option(
        None,
        "A sound to find similar ones: the path of a sound of the index, as the table shows it, or else of any file. "
        "A sound below 0.15 s is padded with silence.",
    )
    like_weight: Annotated[float, Bounds("[0, 1]")] = option(0.5, "What --like counts beside the question, 0 to 1.")
    by: str = option(
        "file",
        "`file` compares whole sounds, `moment` finds the parts of them that fit, to hear long recordings from there.",
        choices=["file", "moment"],
    )
    moments_per_file: PositiveCount = option(1, "The most moments of one file, with --by moment.")
    ask: list[str] | None = option(
        None,
        "The same question in several languages, each as LANGUAGE=TEXT, in place of QUERY. Shows what each finds, and "
        "whether they agree.",
    )
    json: bool = option(False, "Print JSON instead of a table, with the values of all columns.")
    m3u: str | None = option(None, "Also write the hits to this playlist; players such as VLC start at the moment.")
    relative: bool = option(False, "Write paths relative to the playlist, instead of absolute ones.")
    export: str | None = option(
        None, "Also cut the hits out of their recordings, and write them to this folder, named by rank and recording."
    )
    export_format: str = option("wav", "Format of the cut sounds.", choices=["wav", "flac"])
    exact: bool = option(False, "Compare with every row, even if the index has a vector index.")
    model: str | None = option(None, "Folder or Hub id of the model. Default: the one that the index notes.")
    device: str = option("cpu", "Device to compute on, such as cpu or cuda.")


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (SearchArguments,), DESCRIPTION, "atri search", _SHOWN)
    search(args)


def search(args: SearchArguments) -> None:
    """Answer the question, and print and write the hits."""
    check_options(args)
    _check(args)
    from modeling_atri.search.exports import cut_targets
    from modeling_atri.search.sound_index import SoundIndex

    index = SoundIndex.open(args.index, args.model, device=args.device)
    if index.tables.count_sounds() == 0:
        raise ValueError(
            f"The index {args.index!r} has no sounds yet. `atri index SOUNDS {args.index}` adds those of a folder."
        )
    if args.ask is not None:
        _compare(args, index)
        return
    question = index.question(args.query, args.language, args.without, args.like, args.like_weight)
    hits = index.search(
        question,
        top_k=args.top_k,
        where=args.where,
        by=cast("Literal['file', 'moment']", args.by),
        moments_per_file=args.moments_per_file,
        exact=args.exact or None,
    )
    if args.export is not None:
        cut_targets(hits, args.export, args.export_format)  # it raises an error before anything is written
    _show(args, question, hits)
    _write(args, hits)


def _check(args: SearchArguments) -> None:
    """Raise a ValueError for options that do not fit together or name what cannot be written."""
    if args.ask is None and args.query is None and args.like is None:
        raise ValueError('There is no question. Write one, such as `atri search INDEX "a dog barks"`, or pass --like.')
    if args.ask is not None:
        names = ("query", "language", "without", "like", "m3u", "export")
        if given := [name for name in names if getattr(args, name) is not None]:
            raise ValueError(f"--ask has the questions and compares them, so it does not go with {', '.join(given)}.")
    from modeling_atri.search.exports import check_playlist

    if args.m3u is not None:
        check_output_file(args.m3u)
        check_playlist(args.m3u)
    if args.export is not None:
        check_output_folder(args.export)
    if args.device != "cpu":
        check_device(args.device)


def _compare(args: SearchArguments, index: "SoundIndex") -> None:
    agreement = index.compare_languages(
        questions_by_language(args.ask or ()),
        args.top_k,
        where=args.where,
        by=cast("Literal['file', 'moment']", args.by),
        exact=args.exact or None,
    )
    if args.json:
        print(json.dumps(agreement.as_dict(), indent=2, ensure_ascii=False, default=str))
    else:
        print(f"{agreement.table()}\n\n{agreement.summary()}")


def questions_by_language(words: Sequence[str]) -> dict[str, str]:
    """The texts of `LANGUAGE=TEXT`, by language.

    Raises:
        ValueError: a word has another form, or a language is given twice.
    """
    texts: dict[str, str] = {}
    for word in words:
        language, equals, text = word.partition("=")
        if not equals or not language.strip() or not text.strip():
            raise ValueError(f'--ask takes LANGUAGE=TEXT, such as fr="un chien aboie"; got {word!r}.')
        if language.strip() in texts:
            raise ValueError(f"--ask has the language {language.strip()!r} twice. Keep one of its texts.")
        texts[language.strip()] = text
    return texts


def _show(args: SearchArguments, question: "Question", hits: Sequence["Hit"]) -> None:
    from modeling_atri.search.exports import hits_as_json

    if args.json:
        facts = {"query": args.query, "language": question.language, "language_was_found": question.language_was_found}
        print(hits_as_json(hits, **facts))
        return
    if question.language_was_found and question.language is not None:
        print(f"{language_line(question.language)}\n")
    print(hits_table(hits, args.by, _width()) if hits else f"No sound meets the filter {args.where!r}.")


def language_line(code: str) -> str:
    """A line that says which language was found, and how to name another one."""
    from modeling_atri.languages_atri import iso_code, language_name

    return (
        f"Language: {language_name(code)}, as found in the question. If that is wrong, name another one, as in "
        f"--language {iso_code(code)}."
    )


def hits_table(hits: Sequence["Hit"], by: str, width: int | None = None) -> str:
    """A table with one row for each hit, and as many columns of the index as fit into a width of characters.

    Long values are cut, and columns of nested values (JSON objects and lists of them) are left out. `--json` has all.
    """
    from modeling_atri.search.exports import clock_time

    is_moment = by == "moment"
    header = ["rank", "score", "moment" if is_moment else "length", "path"]
    rows = [
        [
            str(rank),
            f"{hit.score:.3f}",
            f"{clock_time(hit.start_s)}-{clock_time(hit.end_s)}" if is_moment else clock_time(hit.duration_s),
            " ".join(hit.path.splitlines()),
        ]
        for rank, hit in enumerate(hits, 1)
    ]
    names = list(hits[0].metadata) if hits else []
    more = [name for name in names if not _are_nested([hit.metadata[name] for hit in hits])]
    cells = [[_cell(hit.metadata[name]) for name in more] for hit in hits]
    return fitting_table(header + more, [row + extra for row, extra in zip(rows, cells, strict=True)], ">>><", width)


def _are_nested(values: Sequence[Any]) -> bool:
    """Whether the values of a column, or the items of its lists, are JSON texts of objects or lists."""
    lists = (value if isinstance(value, list) else [value] for value in values if value is not None)
    items = [item for items in lists for item in items]
    return bool(items) and all(isinstance(item, str) and _is_nested(item) for item in items)


def _is_nested(text: str) -> bool:
    if not text.startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _cell(value: Any) -> str:
    """A value in one line of at most `_MAX_CELL` columns."""
    if value is None:
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return cut_to(" ".join(text.split()), _MAX_CELL)


def _width() -> int | None:
    """The width of the terminal; None if the output goes elsewhere, where a line may have any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write(args: SearchArguments, hits: Sequence["Hit"]) -> None:
    """Write the playlist and the cut sounds. What is said about them goes to the error stream beside JSON."""
    from modeling_atri.hub_cards.tables import counted
    from modeling_atri.search.exports import cut_sounds, write_playlist

    stream: Any = sys.stderr if args.json else sys.stdout
    if args.m3u is not None:
        write_playlist(hits, args.m3u, args.relative)
        print(f"\nPlaylist of {counted(len(hits), 'entry').replace('entrys', 'entries')}: {args.m3u}", file=stream)
    if args.export is not None:
        cuts = cut_sounds(hits, args.export, args.export_format)
        print(f"\n{counted(len(cuts.written), 'sound')} cut out and written to {args.export}.", file=stream)
        for file, reason in cuts.failures.items():
            print(f"  not cut: {file}: {reason}", file=stream)
        if cuts.failures and not cuts.written:
            raise ValueError(
                f"None of the {counted(len(hits), 'hit')} could be cut out. The reasons are listed above."
            )
