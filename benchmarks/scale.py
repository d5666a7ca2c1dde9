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

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from shared.options import option_parser
from table import BenchmarkError, how_made, write_table

from modeling_atri.files import write_json_lines
from modeling_atri.hub_cards.tables import text_table


FOLDER = Path(__file__).resolve().parent
SCRIPTS = FOLDER / "scale"
HEADER = ["benchmark", "figure", "measured", "bar", "met"]
KEYS = ("name", "figures", "bars", "size", "environment")


def main() -> None:
    """Run the command."""
    options = parse_options()
    reports = read_reports(options.results)
    failures = {}
    for script in [] if options.report else options.scripts or sorted(SCRIPTS.glob("*.py")):
        print(f"# {script.name}", file=sys.stderr, flush=True)
        reports.pop(script.name, None)
        try:
            reports[script.name] = run(script, options.part)
        except BenchmarkError as error:
            failures[script.name] = str(error)
        if options.part == 1:
            write_json_lines(options.results, (reports[name] for name in sorted(reports)))
    if reports:
        print(table(reports))
        if options.part == 1:
            write_table(options.page, table(reports))
    for name, reason in failures.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    if failures or not reports:
        raise SystemExit(1 if failures else f"There are no figures in {options.results}: run the benchmarks first.")


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = option_parser(
        __doc__,
        "up to 20 minutes on two cores",
        part=(1.0, "part of the full sizes; below 1, results are shown but not kept"),
    )
    parser.add_argument("scripts", nargs="*", type=Path, metavar="SCRIPT", help="benchmarks to run (default: all)")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the table")
    parser.add_argument(
        "--results",
        type=Path,
        default=FOLDER / "results" / "scale.jsonl",
        help="file of the figures (default: results/scale.jsonl)",
    )
    parser.add_argument(
        "--page",
        type=Path,
        default=FOLDER.parent / "docs" / "results" / "scale.md",
        help="page that the table is written to (default: docs/results/scale.md)",
    )
    options = parser.parse_args()
    if options.report and (options.scripts or options.part != 1):
        parser.error("--report runs nothing: leave out the scripts and --part, or --report.")
    if not 0 < options.part <= 1:
        parser.error(f"--part must be above 0 and at most 1, got {options.part}.")
    missing = [str(script) for script in options.scripts if not script.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}. The benchmarks are {FOLDER.name}/scale/*.py.")
    return options


def run(script: Path, part: float) -> dict[str, Any]:
    """Run a script and return its report, with the wall-clock seconds that it took."""
    start = time.perf_counter()
    command = [sys.executable, str(script), "--part", str(part)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"exit status {done.returncode}; its messages are above")
    try:
        report = json.loads(done.stdout)
    except ValueError as error:
        raise BenchmarkError(f"it must print only one line of JSON, but printed {done.stdout!r}") from error
    missing = [key for key in KEYS if key not in report]
    if missing or not report["bars"]:
        raise BenchmarkError(
            f"its report lacks {', '.join(missing) or 'bars'}; print it with `measuring.print_scale_report`"
        )
    return {"script": script.name, **report, "run_seconds": round(time.perf_counter() - start)}


def read_reports(file: Path) -> dict[str, dict[str, Any]]:
    """Read the reports of the scripts that still exist."""
    if not file.exists():
        return {}
    reports = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {report["script"]: report for report in reports if (SCRIPTS / report["script"]).exists()}


def table(reports: dict[str, dict[str, Any]]) -> str:
    """Make a Markdown table of the bars, and a sentence on how the figures were measured."""
    if not reports:
        return ""
    cells: list[list[str]] = []
    ways: dict[str, list[str]] = {}
    for name in sorted(reports):
        report = reports[name]
        size = ", ".join(
            f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in report["size"].items()
        )
        cells.append([f"**`{name}`**", size, "", "", ""])
        cells += [["", figure, *judged(report["figures"].get(figure), bar)] for figure, bar in report["bars"].items()]
        ways.setdefault(how_made(report["environment"]), []).append(name)
    parts = [f"{', '.join(names)}: {way}." if len(ways) > 1 else f"{way}." for way, names in ways.items()]
    return text_table(HEADER, cells, align="<<>><", markdown=True) + f"\n\nBy `make bench-scale`. {' '.join(parts)}\n"


def judged(value: float | None, bar: float) -> list[str]:
    """The cells of a figure, its bar, and whether it is met."""
    if value is None:
        return ["not measured", f"<= {bar:g}", ""]
    return [f"{value:g}", f"<= {bar:g}", "yes" if value <= bar else "no"]


if __name__ == "__main__":
    main()
