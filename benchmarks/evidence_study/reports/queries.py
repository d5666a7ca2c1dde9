"""The report of the study of queries, from the file of what models found."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from consistency_study.bootstrap import LEVEL, NUM_DRAWS
from query_set.found import read_found
from query_set.plots import draw
from query_set.results import ANSWERS, read_answers
from query_set.rules import FORMS, Query, read_queries
from query_set.tables import (
    ASKED,
    SCENE_FORMS,
    AllFound,
    Bootstraps,
    by_form,
    by_language,
    by_wording,
    changes,
    without,
    without_differences,
)

from modeling_atri.hub_cards.tables import text_table


HEAD = (
    "Made by `python benchmarks/ask_queries.py` and `python benchmarks/evidence.py queries --report`. The models are "
    "asked the queries of `benchmarks/query_set/queries.jsonl` for the 190 scenes of dev. All figures are in percent, "
    "except the rank variance, and are the mean over eight languages. Brackets have "
    f"{LEVEL:.0%} intervals of {NUM_DRAWS:,} bootstrap draws over seeds and meanings of queries. A star is a p-value "
    "below 0.05, corrected for all comparisons of the table (Holm). Exactly one scene is right for a full caption, a "
    "short form and a paraphrase, four for two sounds, 37 for one sound, and 33 for one sound without another."
)
SHORT_HEAD = (
    "What training with short captions beside the full ones changes in R@1. Of the seven captions of a scene in each "
    "language, two are short. They have the names of the classes in templates that no query has, such as *dog bark, "
    "later rain* and *dog bark and rain*. The text towers are `scratch` and `use`, the frozen "
    "pretrained one; the objective is the default of `atri teach`."
)
WITHOUT_HEAD = (
    "*First right*: the scene that ranks first has A and not B. *First lacks B*: it does not have B. *R-precision*: "
    "of the first 33 scenes, those that are right. 33 scenes of 37 with A are right, so A alone is a strong baseline."
)


def write_report(
    towers: Mapping[str, Mapping[str, str]],
    detailed: Mapping[str, str],
    pairs: Sequence[tuple[str, str, str]],
    results: Path,
) -> str:
    """Write tables and plot beside the results file, and return the tables.

    Args:
        towers: titles of the cells that are reported, by text tower. Cells that were not asked are left out.
        detailed: titles of those whose details are reported.
        pairs: text tower, cell with short captions, and cell without.
        results: the results file of the study.
    """
    queries = read_queries()
    found = read_found(read_answers(ANSWERS), queries)
    if not found:
        raise SystemExit(f"There are no answers in {ANSWERS}: run ask_queries.py first.")
    asked = {cell for cell, _, _ in found}
    bootstraps = Bootstraps()
    sections = [HEAD, _examples(queries)]
    panels = {}
    for tower, cells in towers.items():
        if there := {cell: name for cell, name in cells.items() if cell in asked}:
            panels[tower] = there
            sections += [f"## {tower}", *_of_tower(there, found, bootstraps)]
    sections += _details({cell: name for cell, name in detailed.items() if cell in asked}, found, bootstraps)
    if there := [pair for pair in pairs if asked.issuperset(pair[1:])]:
        sections += _of_short(there, found, bootstraps)
    text = "\n\n".join(sections) + "\n"
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(panels, found, bootstraps, results.with_suffix(".png"))
    return text


def _examples(queries: Sequence[Query]) -> str:
    rows = []
    for form, title in FORMS.items():
        of_form = [query for query in queries if query.form == form]
        texts = of_form[0].texts["eng_Latn"]
        rows.append([title, len(of_form) * len(texts), "; ".join(texts), of_form[0].num_right])
    return text_table(["form", "texts a language", "the first ones in English", "right scenes"], rows, markdown=True)


def _of_tower(cells: Mapping[str, str], found: AllFound, bootstraps: Bootstraps) -> list[str]:
    (first, first_title), *others = cells.items()
    pairs = [(f"{title} - {first_title}", cell, first) for cell, title in others]
    return [
        "R@1: the scene that ranks first is right.",
        by_form(cells, found, "recall", ASKED, bootstraps),
        "The scene that ranks first has all sounds that are named, whatever their relation.",
        by_form(cells, found, "sounds", SCENE_FORMS, bootstraps),
        "Mean rank variance over the languages.",
        by_form(cells, found, "variance", SCENE_FORMS, bootstraps),
        "Differences in R@1, paired by seed and meaning.",
        changes(pairs, found, bootstraps),
    ]


def _details(cells: Mapping[str, str], found: AllFound, bootstraps: Bootstraps) -> list[str]:
    return [
        "## Wordings and languages",
        "R@1 by wording.",
        by_wording(cells, found),
        "R@1 by language.",
        by_language(cells, found, SCENE_FORMS),
        "## One sound without another",
        WITHOUT_HEAD,
        without(cells, found, bootstraps),
        "Differences, paired by seed and question.",
        without_differences(cells, found, bootstraps),
    ]


def _of_short(pairs: Sequence[tuple[str, str, str]], found: AllFound, bootstraps: Bootstraps) -> list[str]:
    """The section about training with short captions. `pairs` has a text tower, the cell and the one without."""
    titles = {}
    for text, with_short, plain in pairs:
        titles |= {plain: f"{text}, taught", with_short: f"{text}, taught with short captions"}
    return [
        "## Short captions in training",
        SHORT_HEAD,
        by_form(titles, found, "recall", ASKED, bootstraps),
        "What the short captions change, paired by seed and meaning.",
        changes([(text, *names) for text, *names in pairs], found, bootstraps),
        "R@1 by wording.",
        by_wording(titles, found),
        "Mean rank variance over the languages.",
        by_form(titles, found, "variance", SCENE_FORMS, bootstraps),
    ]
