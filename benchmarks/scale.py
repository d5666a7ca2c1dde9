"""Run the benchmarks of large sizes and write the table of their results.

    python benchmarks/scale.py                                   # all of them, as `make bench-scale` does
    python benchmarks/scale.py benchmarks/scale/metrics.py       # only this one; the results of the others stay
    python benchmarks/scale.py --part 0.05                       # a twentieth of each size, to try; keeps nothing
    python benchmarks/scale.py --report                          # only write the table

Each script of `scale/` prints one line of JSON with its name, figures, bars, sizes and environment. The lines are kept
in `results/scale.jsonl`. The table is written between the `bench` markers of `docs/results/scale.md`: a row for each
bar with the figure and whether it is met. A bar is the largest value that a figure may have.

A benchmark that fails, for example because its results are wrong, loses its rows. The others still run. At the end the
failures are named, and the exit status is 1. A bar that is not met is no failure.
"""

import time
from functools import partial
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
SCRIPTS = FOLDER / "scale"
HEADER = ["benchmark", "figure", "measured", "bar", "met"]
KEYS = ("name", "figures", "bars", "size", "environment")


def main() -> None:
    """Run the command."""
    parser = option_parser(
        __doc__,
        "up to 20 minutes on two cores",
        part=(1.0, "part of the full sizes; below 1, results are shown but not kept"),
    )
    add_report_options(parser, FOLDER / "results" / "scale.jsonl", FOLDER.parent / "docs" / "results" / "scale.md")
    options = parser.parse_args()
    if options.report and (options.scripts or options.part != 1):
        parser.error("--report runs nothing: leave out the scripts and --part, or --report.")
    if not 0 < options.part <= 1:
        parser.error(f"--part must be above 0 and at most 1, got {options.part}.")
    check_scripts(parser, options.scripts, f"{FOLDER.name}/scale/*.py")
    run_and_report(options, SCRIPTS, "*.py", partial(run, part=options.part), table, is_kept=options.part == 1)


def run(script: Path, part: float) -> dict[str, Any]:
    """Run a script and return its report, with the wall-clock seconds that it took."""
    start = time.perf_counter()
    report = run_script(script, "--part", str(part))
    missing = [key for key in KEYS if key not in report]
    if missing or not report["bars"]:
        raise BenchmarkError(
            f"its report lacks {', '.join(missing) or 'bars'}; print it with `measuring.print_scale_report`"
        )
    return {**report, "run_seconds": round(time.perf_counter() - start)}


def table(reports: dict[str, dict[str, Any]]) -> str:
    """Make a Markdown table of the bars, and a sentence on how the figures were measured."""
    if not reports:
        return ""
    cells: list[list[str]] = []
    for name in sorted(reports):
        report = reports[name]
        size = ", ".join(
            f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in report["size"].items()
        )
        cells.append([f"**`{name}`**", size, "", "", ""])
        cells += [["", figure, *judged(report["figures"].get(figure), bar)] for figure, bar in report["bars"].items()]
    way = how_made({name: reports[name]["environment"] for name in sorted(reports)})
    return text_table(HEADER, cells, align="<<>><", markdown=True) + f"\n\nBy `make bench-scale`. {way}\n"


def judged(value: float | None, bar: float) -> list[str]:
    """The cells of a figure, its bar, and whether it is met."""
    if value is None:
        return ["not measured", f"<= {bar:g}", ""]
    return [f"{value:g}", f"<= {bar:g}", "yes" if value <= bar else "no"]


if __name__ == "__main__":
    main()
