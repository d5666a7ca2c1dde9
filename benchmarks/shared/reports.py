"""Run benchmarks that print one line of JSON, keep their reports, and write a table of them to a page."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modeling_atri.files import write_json_lines


START, END = "<!-- bench -->\n", "<!-- /bench -->"

Report = dict[str, Any]


class BenchmarkError(Exception):
    """A benchmark ended without figures."""


def add_report_options(parser: argparse.ArgumentParser, results: Path, page: Path) -> None:
    """Add the scripts to run, and the files of figures and table with their defaults."""
    parser.add_argument("scripts", nargs="*", type=Path, metavar="SCRIPT", help="benchmarks to run (default: all)")
    parser.add_argument("--report", action="store_true", help="run nothing, only write the table")
    parser.add_argument(
        "--results", type=Path, default=results, help=f"file of the figures (default: results/{results.name})"
    )
    parser.add_argument(
        "--page",
        type=Path,
        default=page,
        help=f"page that the table is written to (default: docs/results/{page.name})",
    )


def check_scripts(parser: argparse.ArgumentParser, scripts: Sequence[Path], pattern: str) -> None:
    """End the command if a script is missing. `pattern` says which scripts there are."""
    if missing := [str(script) for script in scripts if not script.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}. The benchmarks are {pattern}.")


def run_script(script: Path, *words: str) -> Report:
    """Run a script and return what it prints.

    Raises:
        BenchmarkError: It fails, or prints something else than one line of JSON.
    """
    done = subprocess.run([sys.executable, str(script), *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"exit status {done.returncode}; its messages are above")
    try:
        return {"script": script.name, **json.loads(done.stdout)}
    except (TypeError, ValueError) as error:
        raise BenchmarkError(f"it must print only one line of JSON, but printed {done.stdout!r}") from error


def run_and_report(
    options: argparse.Namespace,
    folder: Path,
    pattern: str,
    run: Callable[[Path], Report],
    table: Callable[[dict[str, Report]], str],
    is_kept: bool = True,
) -> None:
    """Run scripts, write and print the table of their reports, and end the command if some failed.

    Args:
        options: What `add_report_options` added.
        folder: The folder of the scripts.
        pattern: All scripts in it, for the case that none is named.
        run: Runs one and returns its report.
        table: Makes the table of the reports by the names of scripts.
        is_kept: Whether reports and table are written to their files, or only shown.
    """
    reports = read_reports(options.results, folder)
    scripts = [] if options.report else options.scripts or sorted(folder.glob(pattern))
    failures = run_scripts(scripts, run, reports, options.results if is_kept else None)
    if reports:
        print(table(reports))
        if is_kept:
            write_table(options.page, table(reports))
    end(reports, failures, options.results)


def read_reports(file: Path, folder: Path) -> dict[str, Report]:
    """Read the reports of the scripts that still exist in a folder."""
    if not file.exists():
        return {}
    reports = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {report["script"]: report for report in reports if (folder / report["script"]).exists()}


def run_scripts(
    scripts: Sequence[Path], run: Callable[[Path], Report], reports: dict[str, Report], results: Path | None
) -> dict[str, str]:
    """Run scripts, and replace their reports. Those that fail lose theirs.

    Args:
        scripts: Scripts to run.
        run: Runs one and returns its report.
        reports: Reports by the names of scripts, which are changed.
        results: File that the reports are written to after each script; None keeps nothing.

    Returns:
        Why scripts failed, by their names.
    """
    failures = {}
    for script in scripts:
        print(f"# {script.name}", file=sys.stderr, flush=True)
        reports.pop(script.name, None)
        try:
            reports[script.name] = run(script)
        except BenchmarkError as error:
            failures[script.name] = str(error)
        if results is not None:
            write_json_lines(results, (reports[name] for name in sorted(reports)))
    return failures


def end(reports: Mapping[str, Report], failures: Mapping[str, str], results: Path) -> None:
    """Name the failures, and end the command with status 1 if there are any, or if there are no figures."""
    for name, reason in failures.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    if failures or not reports:
        raise SystemExit(1 if failures else f"There are no figures in {results}: run the benchmarks first.")


def write_table(page: Path, text: str) -> None:
    """Replace the text between the markers of a page."""
    before, start, rest = page.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"{page} must have the markers {START.strip()} and {END} around the table.")
    page.write_text(f"{before}{start}{text}{end}{after}", encoding="utf-8")


def how_made(environments: Mapping[str, Report]) -> str:
    """Processor, threads and versions of all scripts, named where they differ."""
    ways: dict[str, list[str]] = {}
    for name, facts in environments.items():
        versions = [f"{library} {facts[library]}" for library in _LIBRARIES if library in facts]
        threads = "one thread" if facts.get("threads", 1) == 1 else f"{facts['threads']} threads"
        way = f"{facts['cpu']} ({facts['machine']}), {threads}; {', '.join(versions)}"
        ways.setdefault(way, []).append(name)
    return " ".join(f"{', '.join(names)}: {way}." if len(ways) > 1 else f"{way}." for way, names in ways.items())


_LIBRARIES = ("python", "numpy", "torch", "transformers")
