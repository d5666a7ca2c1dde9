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

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from shared.options import option_parser

from modeling_atri.files import write_json_lines
from modeling_atri.hub_cards.tables import text_table


FOLDER = Path(__file__).resolve().parent
START, END = "<!-- bench -->\n", "<!-- /bench -->"
HEADER = ["work", "against", "ratio", "bound", "reached"]


def main() -> None:
    """Run the command."""
    options = parse_options()
    reports = read_reports(options.results)
    failures = {}
    for script in [] if options.report else options.scripts or sorted(FOLDER.glob("bench_*.py")):
        print(f"# {script.name}", file=sys.stderr, flush=True)
        reports.pop(script.name, None)
        try:
            reports[script.name] = run(script)
        except BenchmarkError as error:
            failures[script.name] = str(error)
        write_json_lines(options.results, (reports[name] for name in sorted(reports)))
    if reports:
        write_table(options.page, table(reports))
        print(table(reports))
    for name, reason in failures.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    if failures or not reports:
        raise SystemExit(1 if failures else f"There are no figures in {options.results}: run the benchmarks first.")


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = option_parser(__doc__)
    parser.add_argument("scripts", nargs="*", type=Path, metavar="SCRIPT", help="benchmarks to run (default: all)")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the table")
    parser.add_argument(
        "--results",
        type=Path,
        default=FOLDER / "results" / "bench.jsonl",
        help="file of the figures (default: results/bench.jsonl)",
    )
    parser.add_argument(
        "--page",
        type=Path,
        default=FOLDER.parent / "docs" / "results" / "speed.md",
        help="page that the table is written to (default: docs/results/speed.md)",
    )
    options = parser.parse_args()
    if options.report and options.scripts:
        parser.error("--report runs nothing: leave out the scripts, or --report.")
    missing = [str(script) for script in options.scripts if not script.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}. The benchmarks are {FOLDER.name}/bench_*.py.")
    return options


class BenchmarkError(Exception):
    """A benchmark ended without figures."""


def run(script: Path) -> dict[str, Any]:
    """Run a script and return its report."""
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"exit status {done.returncode}; its messages are above")
    try:
        report = json.loads(done.stdout)
    except ValueError as error:
        raise BenchmarkError(f"it must print only one line of JSON, but printed {done.stdout!r}") from error
    if not report.get("rows"):
        raise BenchmarkError("its report has no `rows`; pass them to `measuring.print_report`")
    return {"script": script.name, **report}


def read_reports(file: Path) -> dict[str, dict[str, Any]]:
    """Read the reports of the scripts that still exist."""
    if not file.exists():
        return {}
    reports = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {report["script"]: report for report in reports if (FOLDER / report["script"]).exists()}


def write_table(page: Path, text: str) -> None:
    """Replace the text between the markers of a page."""
    before, start, rest = page.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"{page} must have the markers {START.strip()} and {END} around the table.")
    page.write_text(f"{before}{start}{text}{end}{after}", encoding="utf-8")


def table(reports: dict[str, dict[str, Any]]) -> str:
    """Make a Markdown table with the rows of each script below its name, and a sentence on how they were measured."""
    cells: list[list[str]] = []
    ways: dict[str, list[str]] = {}
    for name in sorted(reports):
        cells.append([f"**`{name}`**", "", "", "", ""])
        for row in reports[name]["rows"]:
            reached = "yes" if row["reached"] else "no"
            cells.append([row["work"], row["against"], f"{row['ratio']:g}", row["bound"], reached])
        ways.setdefault(how_made(reports[name]), []).append(name)
    parts = [f"{', '.join(names)}: {way}." if len(ways) > 1 else f"{way}." for way, names in ways.items()]
    return (
        text_table(HEADER, cells, align="<<>><", markdown=True)
        + f"\n\nBy `make bench`; times are CPU time, medians of ways that take turns. {' '.join(parts)}\n"
    )


def how_made(report: dict[str, Any]) -> str:
    """Processor, threads and versions of a report."""
    versions = [f"{name} {report[name]}" for name in ("python", "numpy", "torch", "transformers") if name in report]
    threads = "one thread" if report.get("threads", 1) == 1 else f"{report['threads']} threads"
    return f"{report['cpu']} ({report['machine']}), {threads}; {', '.join(versions)}"


if __name__ == "__main__":
    main()
