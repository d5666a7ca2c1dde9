"""Claims about two cells of a study, and what the runs say about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from consistency_study.bootstrap import Bootstrap, Estimate, holm
from consistency_study.runs import Runs, read_runs
from evidence_study.studies import NAMES, find_study

from modeling_atri.hub_cards.tables import text_table


FILE = Path(__file__).parents[1] / "claims.yaml"
RESULTS = Path(__file__).parents[1] / "results"
LEVEL = 0.05  # of the chance that any verdict on the page is a false finding
# Of each figure: the values whose mean it is, `(seeds, clips)`; its title; and the factor that it is shown with.
FIGURES: dict[str, tuple[Callable[[Runs], Any], str, float]] = {
    "recall": (lambda runs: runs.recall, "R@1, %", 100),
    "variance": (lambda runs: runs.variance, "MRV", 1),
}


@dataclass(frozen=True)
class Claim:
    """A figure of one cell is higher or lower than that of another.

    Args:
        claim: the claim in words.
        said_by: who claims it.
        study: `consistency`, or a study of `evidence.py`.
        first, second: names of the two cells.
        figure: a key of `FIGURES`.
        expected: whether the figure of the first is claimed to be higher or lower.
        limits: what the comparison does not show.
    """

    claim: str
    said_by: str
    study: str
    first: str
    second: str
    figure: str
    expected: Literal["higher", "lower"]
    limits: str

    @property
    def command(self) -> str:
        """The command that does the runs."""
        script = "consistency.py" if self.study == "consistency" else f"evidence.py {self.study}"
        return f"`{script}`"

    def verdict(self, difference: Estimate, p_value: float) -> str:
        """What the runs say."""
        if p_value > LEVEL:
            return "not told apart"
        return "holds" if (difference.mean > 0) == (self.expected == "higher") else "the reverse holds"


def read_claims(file: Path = FILE) -> list[Claim]:
    """All claims of the page."""
    return [Claim(**entry) for entry in yaml.safe_load(file.read_text(encoding="utf-8"))]


def read_studies() -> dict[str, dict[str, Runs]]:
    """The runs of all studies that have any."""
    studies = {"consistency": read_runs(RESULTS / "consistency.parquet")}
    for name in NAMES:
        cells = {cell.name: cell for cell in find_study(name).cells}
        studies[name] = read_runs(RESULTS / "evidence" / f"{name}.parquet", cells)
    return studies


def table(claims: list[Claim], studies: Mapping[str, Mapping[str, Runs]], bootstrap: Bootstrap) -> str:
    """The table of the page, in Markdown. Claims whose runs are missing are listed without figures."""
    compared = {claim: _difference(claim, studies[claim.study], bootstrap) for claim in claims}
    known = [claim for claim in claims if compared[claim] is not None]
    p_values = dict(zip(known, holm([compared[claim][2].p_value for claim in known]), strict=True))
    rows = []
    for claim in claims:
        found = compared[claim]
        _, title, factor = FIGURES[claim.figure]
        if found is None:
            figures, verdict = ["", "", ""], "not run yet"
        else:
            first, second, difference = found
            figures = [
                f"{factor * first:.1f}, {factor * second:.1f}",
                difference.text(factor),
                _shown(p_values[claim]),
            ]
            verdict = claim.verdict(difference, p_values[claim])
        rows.append([claim.claim, claim.said_by, claim.command, title, *figures, verdict, claim.limits])
    header = ["claim", "by", "command", "figure", "the two", "difference", "p", "verdict", "does not show"]
    return text_table(header, rows, align="<" * len(header), markdown=True)


def _difference(claim: Claim, runs: Mapping[str, Runs], bootstrap: Bootstrap) -> tuple[float, float, Estimate] | None:
    if claim.first not in runs or claim.second not in runs:
        return None
    first, second = runs[claim.first], runs[claim.second]
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if not seeds:
        return None
    values, _, _ = FIGURES[claim.figure]
    pair = [one.on_seeds(seeds, values(one)) for one in (first, second)]
    return float(pair[0].mean()), float(pair[1].mean()), bootstrap.estimate(pair[0] - pair[1])


def _shown(p_value: float) -> str:
    return "< 0.01" if p_value < 0.01 else f"{p_value:.2f}"
