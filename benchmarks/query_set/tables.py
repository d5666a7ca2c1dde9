"""The tables of the study of queries, in Markdown."""

from collections.abc import Mapping, Sequence

import numpy as np
from consistency_study.bootstrap import NUM_DRAWS, Bootstrap, Estimate, holm

from modeling_atri.hub_cards.tables import text_table
from modeling_atri.languages_atri import ATRI_LANGUAGES, language_name

from .answers import ALONE, CAPTIONS, SUBTRACTED, TYPED
from .found import Found
from .rules import FORMS


AllFound = Mapping[tuple[str, str, str], Found]
TITLES = {CAPTIONS: "full captions", **FORMS}
ONE_SCENE = (CAPTIONS, "short", "paraphrase")  # forms with exactly one right scene
SCENE_FORMS = (*ONE_SCENE, "words")
ASKED = (*SCENE_FORMS, "word")
WAYS = {ALONE: "A alone", TYPED: '"A without B" typed', SUBTRACTED: "A, with B subtracted (`without` of search)"}
WORDINGS = {
    "short": ("as heard", "the other way round"),
    "words": ("nouns", "names of classes"),
    "word": ("noun", "name of the class", "clause"),
}


class Bootstraps:
    """A bootstrap for each number of meanings, so that all figures of a form share their draws."""

    def __init__(self, num_draws: int = NUM_DRAWS):
        self._num_draws = num_draws
        self._made: dict[int, Bootstrap] = {}

    def estimate(self, values: np.ndarray) -> Estimate:
        """Estimate the mean of an array `(seeds, meanings)`."""
        count = values.shape[1]
        return self._made.setdefault(count, Bootstrap(count, self._num_draws)).estimate(values)


def by_form(
    cells: Mapping[str, str], found: AllFound, figure: str, forms: Sequence[str], bootstraps: Bootstraps
) -> str:
    """A figure of `Found`, one row for each cell and one column for each form; shares in percent."""
    scale = 1 if figure == "variance" else 100
    rows = []
    if figure == "recall":
        chances = [100 * _chance(next(one for (_, name, _), one in found.items() if name == form)) for form in forms]
        rows.append(["chance", "", *(f"{chance:.1f}" for chance in chances)])
    for cell, title in cells.items():
        of_cell = [found[cell, form, TYPED] for form in forms]
        estimates = [bootstraps.estimate(getattr(one, figure)) for one in of_cell]
        rows.append([title, len(of_cell[0].seeds), *(estimate.text(scale) for estimate in estimates)])
    return text_table(["", "seeds", *(TITLES[form] for form in forms)], rows, markdown=True)


def _chance(found: Found) -> float:
    return float(np.mean([query.num_right for query in found.queries])) / len(found.triples)


def by_wording(cells: Mapping[str, str], found: AllFound) -> str:
    """R@1 of each wording of the forms that have several, one row for each cell."""
    header = [f"{TITLES[form]}: {wording}" for form, wordings in WORDINGS.items() for wording in wordings]
    rows = []
    for cell, title in cells.items():
        shares = np.concatenate([found[cell, form, TYPED].hits.mean(axis=(0, 1, 2)) for form in WORDINGS])
        rows.append([title, *(f"{100 * share:.1f}" for share in shares)])
    return text_table(["", *header], rows, markdown=True)


def by_language(cells: Mapping[str, str], found: AllFound, forms: Sequence[str]) -> str:
    """R@1 in each language, one row for each cell and form."""
    rows = [
        [title, TITLES[form], *(f"{100 * share:.1f}" for share in found[cell, form, TYPED].hits.mean(axis=(0, 2, 3)))]
        for cell, title in cells.items()
        for form in forms
    ]
    return text_table(["", "", *map(language_name, ATRI_LANGUAGES)], rows, markdown=True)


def without(cells: Mapping[str, str], found: AllFound, bootstraps: Bootstraps) -> str:
    """Ways to ask for one sound without another, one row for each cell and way."""
    rows = []
    for cell, title in cells.items():
        for way, name in WAYS.items():
            one = found[cell, "without", way]
            estimates = [bootstraps.estimate(getattr(one, figure)) for figure in ("recall", "lacks")]
            rows.append(
                [title, name, *(estimate.text(100) for estimate in estimates), f"{100 * one.r_precision.mean():.1f}"]
            )
    return text_table(["", "way", "first right", "first lacks B", "R-precision"], rows, markdown=True)


def without_differences(cells: Mapping[str, str], found: AllFound, bootstraps: Bootstraps) -> str:
    """What subtracting B changes, compared with typing it and with not naming it."""
    rows = []
    for cell, title in cells.items():
        ours = found[cell, "without", SUBTRACTED]
        for way, name in ((TYPED, "typed"), (ALONE, "A alone")):
            theirs = found[cell, "without", way]
            rows.append((f"{title}: subtracted - {name}", [(ours, theirs, figure) for figure in ("recall", "lacks")]))
    return _differences(rows, ("first right", "first lacks B"), bootstraps)


def changes(pairs: Sequence[tuple[str, str, str]], found: AllFound, bootstraps: Bootstraps) -> str:
    """What a cell has more than another in R@1, by form. `pairs` has a title, the cell, and the other cell."""
    rows = [
        (title, [(found[cell, form, TYPED], found[other, form, TYPED], "recall") for form in ASKED])
        for title, cell, other in pairs
    ]
    return _differences(rows, [TITLES[form] for form in ASKED], bootstraps)


def _differences(
    rows: Sequence[tuple[str, Sequence[tuple[Found, Found, str]]]], names: Sequence[str], bootstraps: Bootstraps
) -> str:
    """Differences over the seeds that both have, in percent. A star is a corrected p-value below 0.05."""
    estimates = []
    for _, pairs in rows:
        for ours, theirs, figure in pairs:
            seeds = [seed for seed in ours.seeds if seed in theirs.seeds]
            estimates.append(bootstraps.estimate(ours.on(seeds, figure) - theirs.on(seeds, figure)))
    p_values = holm([estimate.p_value for estimate in estimates])
    cells = [f"{one.text(100)}{' *' if p < 0.05 else ''}" for one, p in zip(estimates, p_values, strict=True)]
    width = len(names)
    lines = [[title, *cells[width * place : width * (place + 1)]] for place, (title, _) in enumerate(rows)]
    return text_table(["", *names], lines, markdown=True)
