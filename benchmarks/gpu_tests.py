"""Run the tests that need a GPU, and print one line of JSON for each of them as soon as it has ended.

    python benchmarks/gpu_tests.py                        # tests/gpu on the GPU
    python benchmarks/gpu_tests.py --device cpu           # the same tests on the CPU, as a trial
    python benchmarks/gpu_tests.py -k "replay or nccl"    # only these

A line has the test's name, its outcome (`passed`, `failed` or `skipped`), its seconds, and what it said if it did not
pass. What was printed is therefore kept if the run is stopped before its end. The output of pytest goes to standard
error. The exit status is that of pytest: 0 if no test failed. Tests that a device cannot run (fp16 on a CPU, two
processes on one GPU) are skipped and say why.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest
from shared.options import option_parser


ROOT = Path(__file__).resolve().parents[1]


class _Lines:
    """A plugin of pytest that writes the outcome of each test to a file."""

    def __init__(self, file: TextIO):
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return  # of a fixture
        line: dict[str, Any] = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            line["reason"] = report.longrepr[2].removeprefix("Skipped: ")
        elif report.outcome == "failed":
            line["reason"] = report.longreprtext[-2000:]
        # Where both outputs go to one file, pytest has begun a line there.
        print(f"\n{json.dumps(line)}", file=self._file, flush=True)


def main() -> None:
    """Run the command."""
    options = parse_options()
    os.environ["ATRI_TEST_DEVICE"] = options.device
    words = [str(ROOT / "tests" / "gpu"), "--rootdir", str(ROOT), "-m", "gpu", "-v", "-p", "no:cacheprovider"]
    words += ["-k", options.k]
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))  # also for the processes that tests start
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tests and pytest print
    raise SystemExit(int(pytest.main(words, plugins=[_Lines(lines)])))


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = option_parser(__doc__, "about two minutes on an H200-class card")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(default: %(default)s)")
    parser.add_argument("-k", default="", metavar="EXPRESSION", help="run only tests whose names match, as in pytest")
    return parser.parse_args()


if __name__ == "__main__":
    main()
