"""Run the benchmarks and write the table of their results.

    python benchmarks/table.py                                  # all of them, as `make bench` does
    python benchmarks/table.py benchmarks/bench_metrics.py      # only this one; the results of the others stay
    python benchmarks/table.py --report                         # only write the table

Each `bench_*.py` prints one line of JSON. The lines are kept in `results/bench.jsonl`. The table is written between
the `bench` markers of `docs/results/speed.md`: for each row the work, what it is compared with, the ratio, its bound,
and whether the bound is reached. A sentence below the table says how the figures were measured.

A benchmark that fails, for example because its results do not equal those of the reference, loses its rows. The others
still run. At the end the failures are named, and the exit status is 1. Missing a bound is no failure.
"""

from pathlib import Path
from typing import Any

from shared.options import option_parser
from shared.reports import (
    BenchmarkError,
    add_report_options,
    check_scripts,
    how_made,
    run_and_report,
    run_script,
)

from modeling_atri.hub_cards.tables import text_table


FOLDER = Path(__file__).resolve().parent
HEADER = ["work", "against", "ratio", "bound", "reached"]


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__)
    add_report_options(parser, FOLDER / "results" / "bench.jsonl", FOLDER.parent / "docs" / "results" / "speed.md")
    options = parser.parse_args()
    if options.report and options.scripts:
        parser.error("--report runs nothing: leave out the scripts, or --report.")
    check_scripts(parser, options.scripts, f"{FOLDER.name}/bench_*.py")
    run_and_report(options, FOLDER, "bench_*.py", run, table)


def run(script: Path) -> dict[str, Any]:
    """Run a script and return its report."""
    report = run_script(script)
    if not report.get("rows"):
        raise BenchmarkError("its report has no `rows`; pass them to `measuring.print_report`")
    return report


def table(reports: dict[str, dict[str, Any]]) -> str:
    """Make a Markdown table with the rows of each script below its name, and a sentence on how they were measured."""
    cells: list[list[str]] = []
    for name in sorted(reports):
        cells.append([f"**`{name}`**", "", "", "", ""])
        for row in reports[name]["rows"]:
            reached = "yes" if row["reached"] else "no"
            cells.append([row["work"], row["against"], f"{row['ratio']:g}", row["bound"], reached])
    way = how_made({name: reports[name] for name in sorted(reports)})
    return (
        text_table(HEADER, cells, align="<<>><", markdown=True)
        + f"\n\nBy `make bench`; times are CPU time, medians of ways that take turns. {way}\n"
    )


if __name__ == "__main__":
    main()
