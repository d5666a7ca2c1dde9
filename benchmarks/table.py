"""The table of the README: runs benchmarks and collects what they print.

    python benchmarks/table.py                                  # all of them, as `make bench` does
    python benchmarks/table.py benchmarks/bench_metrics.py      # this one again; figures of the others stay
    python benchmarks/table.py --report                         # the table from figures in the repository

Each `bench_*.py` prints one JSON line. The lines are kept in `results/bench.jsonl`, and `results/bench.md` is made of
their rows: work, what it is compared with, ratio, what the ratio is meant to be, and whether it is. Below the table
stands how that was measured. The README holds the same text between its `bench` markers: copy it there.

A script that fails, as it does where its results are not equal to the reference, loses its rows; the others run all
the same. At the end the failures are named, and the exit status is 1. A bound that is missed is no failure.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


FOLDER = Path(__file__).resolve().parent
HEADER = "| work | against | ratio | bound | reached |\n| --- | --- | ---: | ---: | --- |"


def main() -> None:
    """Run the command."""
    options = parse_options()
    lines_file, table_file = options.results / "bench.jsonl", options.results / "bench.md"
    reports = read_reports(lines_file)
    failures = {}
    for script in [] if options.report else options.scripts or sorted(FOLDER.glob("bench_*.py")):
        print(f"# {script.name}", file=sys.stderr, flush=True)
        reports.pop(script.name, None)
        try:
            reports[script.name] = run(script)
        except BenchmarkError as error:
            failures[script.name] = str(error)
        options.results.mkdir(parents=True, exist_ok=True)
        lines_file.write_text("".join(f"{json.dumps(reports[name])}\n" for name in sorted(reports)), encoding="utf-8")
    if reports:
        table_file.write_text(table(reports), encoding="utf-8")
        print(table(reports))
    for name, reason in failures.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    if failures or not reports:
        raise SystemExit(1 if failures else f"There are no figures in {lines_file}: run the benchmarks first.")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", type=Path, metavar="SCRIPT", help="benchmarks to run (default: all)")
    parser.add_argument("--report", action="store_true", help="run nothing: make the table from bench.jsonl")
    parser.add_argument(
        "--results",
        type=Path,
        default=FOLDER / "results",
        help="folder of bench.jsonl and bench.md (default: results)",
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
    """The report that a script prints, with what the table says of how it was made."""
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"exit status {done.returncode}; what it said stands above")
    try:
        report = json.loads(done.stdout)
    except ValueError as error:
        raise BenchmarkError(f"it must print one line of JSON alone, but printed {done.stdout!r}") from error
    if not report.get("rows"):
        raise BenchmarkError("its report has no `rows`; `measuring.print_report` writes them")
    return {"script": script.name, **report, "cpu": cpu_model(), "python": platform.python_version()}


def read_reports(lines_file: Path) -> dict[str, dict[str, Any]]:
    """Reports by script; of a script that is no more, none."""
    if not lines_file.exists():
        return {}
    reports = [json.loads(line) for line in lines_file.read_text(encoding="utf-8").splitlines()]
    return {report["script"]: report for report in reports if (FOLDER / report["script"]).exists()}


def table(reports: dict[str, dict[str, Any]]) -> str:
    """A Markdown table, the rows of each script below its name, and a sentence on how they were made."""
    lines = [HEADER]
    for name in sorted(reports):
        lines.append(f"| **`{name}`** | | | | |")
        for row in reports[name]["rows"]:
            reached = "yes" if row["reached"] else "no"
            lines.append(f"| {row['work']} | {row['against']} | {row['ratio']:g} | {row['bound']} | {reached} |")
    ways: dict[str, list[str]] = {}
    for name in sorted(reports):
        ways.setdefault(how_made(reports[name]), []).append(name)
    parts = [f"{', '.join(names)}: {way}." if len(ways) > 1 else f"{way}." for way, names in ways.items()]
    return (
        "\n".join(lines)
        + f"\n\nBy `make bench`; times are CPU time, medians of ways that take turns. {' '.join(parts)}\n"
    )


def how_made(report: dict[str, Any]) -> str:
    """Processor, threads and versions of a report."""
    versions = [f"{name} {report[name]}" for name in ("python", "numpy", "torch", "transformers") if name in report]
    threads = "one thread" if report.get("threads", 1) == 1 else f"{report['threads']} threads"
    return f"{report['cpu']} ({report['machine']}), {threads}; {', '.join(versions)}"


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
