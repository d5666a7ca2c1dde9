"""Claims about two cells of a study, and what the runs say about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from consistency_study.bootstrap import Estimate
from evidence_study.reports.cost import COSTS
from evidence_study.reports.points import rivals
from evidence_study.studies.cost import CELLS
from query_set.tables import Bootstraps

from .figures import Figure, Studies, figures_of


FILE = Path(__file__).parents[1] / "claims.yaml"
LEVEL = 0.05  # of the chance that any verdict of a section is a false finding
HOLDS, REVERSE, OPEN, NOT_RUN = "holds", "the reverse holds", "not told apart", "not run yet"
VERDICTS = (HOLDS, REVERSE, OPEN, NOT_RUN)
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Compared:
    """What the runs say about a claim.

    Args:
        first, second: the two figures, in the unit of the table.
        difference: what the first has more than the second with its margin.
        p_value: of the claim, before the correction for all claims of the section.
        num_seeds: seeds that both cells have.
        where: at which of several places the figures are.
    """

    first: str
    second: str
    difference: Estimate
    p_value: float
    num_seeds: int
    where: str = ""


@dataclass(frozen=True)
class Claim:
    """A figure of one cell is higher or lower than that of another.

    Args:
        claim: the claim in words.
        said_by: who claims it.
        study: a study of `figures.COMMANDS`.
        first, second: names of the two cells.
        figure: a key of `figures.figures_of(study)`.
        expected: whether the figure of the first is claimed to be higher or lower.
        times, plus: the first is compared with `times` the second, `plus` a margin in the unit of the table.
        second_figure: the figure of the second, if it is another one.
    """

    claim: str
    said_by: str
    study: str
    first: str
    second: str
    figure: str
    expected: Direction
    times: float = 1.0
    plus: float = 0.0
    second_figure: str | None = None

    def compare(self, studies: Studies, bootstraps: Bootstraps) -> Compared | None:
        """Compare the two cells on the seeds that both have; None if there are none."""
        cells, figures = studies.cells[self.study], figures_of(self.study)
        scale = figures[self.figure].scale
        if self.first not in cells or self.second not in cells:
            return None
        first, second = cells[self.first], cells[self.second]
        seeds = [seed for seed in first.seeds if seed in second.seeds]
        if not seeds:
            return None
        ours, theirs = (
            figures[name].of(cell)[[cell.seeds.index(seed) for seed in seeds]]
            for name, cell in ((self.figure, first), (self.second_figure or self.figure, second))
        )
        difference = bootstraps.estimate(ours - self.times * theirs - self.plus / scale)
        margin = f" {'-' if self.plus < 0 else '+'} {abs(self.plus):g}" if self.plus else ""
        factor = f"{self.times:g} x " if self.times != 1 else ""
        texts = [f"{scale * values.mean():.1f}" for values in (ours, theirs)]
        return Compared(texts[0], f"{factor}{texts[1]}{margin}", difference, difference.p_value, len(seeds))


@dataclass(frozen=True)
class FrontClaim:
    """English-then-teach is on the Pareto front of a figure over a cost, at every budget.

    At each budget, the best taught run is compared with the best other run that costs no more. The budgets double from
    the cheapest that both kinds can be paid from. The claim holds only if the taught run is ahead beyond chance at
    every budget, so its p-value is the largest of all. If another run is ahead at some budgets, it is the smallest
    p-value of these, times the number of budgets.

    Args:
        claim, said_by, figure: see [`Claim`]; the figure is `recall` or `variance`.
        text: the text tower, a key of the points.
        cost: a key of `COSTS`.
    """

    claim: str
    said_by: str
    figure: Literal["recall", "variance"]
    text: str
    cost: str
    study: str = "cost"

    @property
    def expected(self) -> Direction:
        """Which figure is better."""
        return "higher" if self.figure == "recall" else "lower"

    def compare(self, studies: Studies, bootstraps: Bootstraps) -> Compared | None:
        """Compare the best runs at each budget, and return the budget that decides; None if there are none."""
        sign = 1 if self.expected == "higher" else -1
        figure = figures_of(self.study)[self.figure]
        points, planned = studies.points.get(self.text, []), len(CELLS[self.text])
        partly = f"; {len(points)} of {planned} cells have runs" if len(points) < planned else ""
        found = []
        for budget, first, second in rivals(
            points, COSTS[self.cost], lambda one: sign * float(figure.of(one.runs).mean())
        ):
            seeds = [seed for seed in first.runs.seeds if seed in second.runs.seeds]
            ours, theirs = (one.runs.on_seeds(seeds, figure.of(one.runs)) for one in (first, second))
            texts = [
                f"{figure.scale * values.mean():.1f} ({one.label})"
                for one, values in ((first, ours), (second, theirs))
            ]
            where = f"at {budget:,.0f} {self.cost}{partly}"
            difference = bootstraps.estimate(ours - theirs)
            found.append(Compared(*texts, difference, difference.p_value, len(seeds), where))
        if not found:
            return None
        behind = [one for one in found if sign * one.difference.mean <= 0]
        if not behind:
            return max(found, key=lambda one: one.p_value)
        worst = min(behind, key=lambda one: one.p_value)
        p_value = min(1.0, len(found) * worst.p_value)
        return Compared(worst.first, worst.second, worst.difference, p_value, worst.num_seeds, worst.where)


@dataclass(frozen=True)
class Section:
    """Claims that belong together.

    Args:
        name: marks the beginning of the section in the page, `<!-- name -->`, for pages that include it.
        title: title of the section.
        limits: what its comparisons do not show.
        claims: the claims.
    """

    name: str
    title: str
    limits: str
    claims: Sequence[Claim | FrontClaim]


def read_sections(file: Path = FILE) -> list[Section]:
    """All claims of the page, by section."""
    return [
        Section(
            entry["name"],
            entry["title"],
            entry["limits"],
            [_read_claim(entry.get("all", {}) | claim) for claim in entry["claims"]],
        )
        for entry in yaml.safe_load(file.read_text(encoding="utf-8"))
    ]


def figure_of(claim: Claim | FrontClaim) -> Figure:
    """The figure that a claim is about."""
    return figures_of(claim.study)[claim.figure]


def verdict(claim: Claim | FrontClaim, difference: Estimate, p_value: float) -> str:
    """What the runs say about a claim, one of `VERDICTS`.

    Args:
        claim: the claim.
        difference: what the first figure has more than the second.
        p_value: corrected for all claims of the section.
    """
    if p_value > LEVEL:
        return OPEN
    return HOLDS if (difference.mean > 0) == (claim.expected == "higher") else REVERSE


def _read_claim(entry: dict[str, Any]) -> Claim | FrontClaim:
    return FrontClaim(**entry) if "cost" in entry else Claim(**entry)
