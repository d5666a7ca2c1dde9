"""The tables of the page of claims, in Markdown."""

from collections.abc import Sequence

from consistency_study.bootstrap import holm
from query_set.tables import Bootstraps

from modeling_atri.hub_cards.tables import text_table

from .claims import NOT_RUN, OPEN, VERDICTS, Claim, Compared, FrontClaim, Section, figure_of, verdict
from .figures import COMMANDS, Studies


HEADER = ["claim", "by", "figure", "the two", "difference", "p", "seeds", "verdict"]
Row = list[str | int]


def page(sections: Sequence[Section], studies: Studies, bootstraps: Bootstraps) -> str:
    """The verdicts of all claims: how many of each section, and a table of each section.

    Claims whose runs are missing are listed without figures.
    """
    rows = {section.title: _rows(section, studies, bootstraps) for section in sections}
    parts = [_summary(rows)]
    for section in sections:
        commands = ", ".join(f"`{COMMANDS[study]}`" for study in dict.fromkeys(one.study for one in section.claims))
        table = text_table(HEADER, rows[section.title], align="<" * len(HEADER), markdown=True)
        parts += [
            f"<!-- {section.name} -->",
            f"## {section.title}",
            f"Runs: {commands}. What this does not show: {section.limits}",
            table,
        ]
    return "\n\n".join(parts) + "\n"


def _rows(section: Section, studies: Studies, bootstraps: Bootstraps) -> list[Row]:
    compared = {claim: claim.compare(studies, bootstraps) for claim in section.claims}
    found = {claim: one for claim, one in compared.items() if one is not None}
    p_values = dict(zip(found, holm([one.p_value for one in found.values()]), strict=True))
    return [_row(claim, one, p_values.get(claim)) for claim, one in compared.items()]


def _row(claim: Claim | FrontClaim, found: Compared | None, p_value: float | None) -> Row:
    figure = figure_of(claim)
    if found is None or p_value is None:
        return [claim.claim, claim.said_by, figure.title, "", "", "", "", NOT_RUN]
    return [
        claim.claim,
        claim.said_by,
        f"{figure.title} {found.where}".strip(),
        f"{found.first}, {found.second}",
        found.difference.text(figure.scale),
        "< 0.01" if p_value < 0.01 else f"{p_value:.2f}",
        found.num_seeds,
        verdict(claim, found.difference, p_value) if found.num_seeds > 1 else OPEN,  # one seed says nothing of others
    ]


def _summary(rows: dict[str, list[Row]]) -> str:
    """How many claims of each section have each verdict."""
    counts = {
        title: [sum(row[-1] == one for row in of_section) for one in VERDICTS] for title, of_section in rows.items()
    }
    counts["all"] = [sum(column) for column in zip(*counts.values(), strict=True)]
    return text_table(["claims about", *VERDICTS], [[title, *found] for title, found in counts.items()], markdown=True)
