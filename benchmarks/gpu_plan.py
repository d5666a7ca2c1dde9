"""Do all that needs a GPU in one command of at most nine minutes, and keep the figures of each part.

    make gpu-plan                                              # on a machine with a GPU
    python benchmarks/gpu_plan.py --device cpu --tiny          # a trial on small models, half a minute of CPU time
    python benchmarks/gpu_plan.py --parts step tests           # only these

These parts run one after the other, the most important ones first. Each has a limit of its own:

{parts}

`--minutes` is the time for all of them, with loading and writing. A part that has too little time left is skipped, and
one that reaches its limit is stopped; both are said in one line. The report of a part is written as soon as the part
has ended, so that a later failure, or the end of a rented machine, loses nothing. Figures that a stopped part has
printed before are kept, too.

The reports are lines of JSON, appended to `--results` (by default `results/gpu.jsonl`; a trial keeps nothing unless
you name a file): the part, how it ended (`done`, `failed`, `stopped` or `skipped`), what it measured, the card,
versions, commit, and date. What a part printed is in `--logs`. The exit status is 1 if a part failed or a test did. A
bar that is missed, or a part that was skipped or stopped, is no failure.

Use a machine that does nothing else: figures are times. Of several GPUs the first that is visible is used, except that
the tests of FSDP2 and DDP start two processes if there are two GPUs. On a machine without a network, install with
`pip install --no-build-isolation --no-deps -e .` where the dependencies are there already.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.options import option_parser

from modeling_atri.files import json_line
from modeling_atri.hub_cards.tables import text_table


FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results" / "gpu.jsonl"
ENDING_SECONDS = 5.0  # to stop a part and to write its report
FACTS = """
import json, sys
import torch
from modeling_atri.hub_cards.environment import describe_environment
found = describe_environment(sys.argv[1])
if sys.argv[1] == "cuda":
    found["device"] |= {"memory_gb": round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)}
    found["device"] |= {"cuda": torch.version.cuda, "count": torch.cuda.device_count()}
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Part:
    """A command of the plan."""

    name: str
    does: str
    words: tuple[str, ...]  # script and options
    limit_s: float
    least_s: float  # with less time left, it is not begun
    tiny: tuple[str, ...] = ()  # options of a trial


_STEP_TRIAL = ("--tiny", "--clips", "4", "--languages", "3", "--chunk", "2", "--rounds", "1", "--warmup", "1")
_SOAK_TRIAL = ("--tiny", "--sounds", "4", "--languages", "3", "--batch-size", "4", "--clips", "32", "--workers", "1")
_KCL = ("--variants", "mlclap", "kcl_at_once", "kcl", "kcl_chunked")
_OTHERS = ("--variants", "mlclap", "cacl", "cacl_chunked", "akcl")
PLAN = (
    Part(
        "step",
        "time and memory of a step in the paper's setting (`gpu.py`): KCL takes at most 1.05 times the memory of "
        "ML-CLAP, and 1.05 times the time of all languages at once",
        ("gpu.py", "--settings", "sdpa", *_KCL),
        limit_s=150,
        least_s=60,
        tiny=_STEP_TRIAL,
    ),
    Part(
        "tests",
        "the tests of tests/gpu: precisions, replayed dropout, attention kernels, NCCL, FSDP2, metrics, torch.compile",
        ("gpu_tests.py",),
        limit_s=160,
        least_s=45,
    ),
    Part(
        "soak",
        "an epoch on generated sounds at full size (`gpu_soak.py epoch`): steps a second, growth of memory",
        ("gpu_soak.py", "epoch", "--seconds", "60"),
        limit_s=150,
        least_s=75,
        tiny=_SOAK_TRIAL,
    ),
    Part(
        "resume",
        "the same run resumed from a checkpoint (`gpu_soak.py resume`)",
        ("gpu_soak.py", "resume", "--clips", "240"),
        limit_s=130,
        least_s=60,
        tiny=_SOAK_TRIAL,
    ),
    Part(
        "others",
        "the steps of CACL, CACL in chunks and AKCL",
        ("gpu.py", "--settings", "sdpa", *_OTHERS),
        limit_s=100,
        least_s=50,
        tiny=_STEP_TRIAL,
    ),
    Part(
        "eager",
        "the step of KCL with explicit attention",
        ("gpu.py", "--settings", "eager", *_KCL),
        limit_s=100,
        least_s=50,
        tiny=_STEP_TRIAL,
    ),
    Part(
        "compiled",
        "the step of KCL under torch.compile",
        ("gpu.py", "--settings", "compiled", *_KCL),
        limit_s=240,
        least_s=90,
        tiny=_STEP_TRIAL,
    ),
)


def main(plan: Sequence[Part] = PLAN) -> None:
    """Run the command."""
    options = parse_options(plan)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a part ends with this command
    end = time.monotonic() + 60 * options.minutes - ENDING_SECONDS
    facts = facts_of_machine(options.device)
    if options.results is not None:
        options.results.parent.mkdir(parents=True, exist_ok=True)
    options.logs.mkdir(parents=True, exist_ok=True)
    reports = []
    for part in plan:
        if part.name not in options.parts:
            continue
        report = run_part(part, options, end) | facts
        reports.append(report)
        if options.results is not None:
            with options.results.open("ab") as file:
                file.write(json_line(report))
    print(table(reports))
    if any(report["outcome"] == "failed" for report in reports):
        raise SystemExit(1)


def parse_options(plan: Sequence[Part]) -> argparse.Namespace:
    """The command's options."""
    lines = (f"- `{part.name}` (at most {part.limit_s:g} s): {part.does}." for part in plan)
    parser = option_parser(
        __doc__.format(parts="\n".join(lines)),
        "up to nine minutes",
        minutes=(9.0, "time for everything"),
    )
    names = [part.name for part in plan]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="(default: all)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="use small models, as a trial of this script")
    parser.add_argument("--results", type=Path, help="file that reports are appended to (default: results/gpu.jsonl)")
    parser.add_argument("--logs", type=Path, default=Path("runs/gpu_plan"), help="folder (default: %(default)s)")
    options = parser.parse_args()
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu is for trials: add --tiny.")
    if options.minutes <= 0:
        parser.error(f"--minutes must be above 0; got {options.minutes}.")
    if options.results is None and not options.tiny:
        options.results = RESULTS
    return options


def facts_of_machine(device: str) -> dict[str, Any]:
    """Card, versions, commit and date. The GPU is asked in a process that ends, so that it is free for the parts.

    Raises:
        SystemExit: There is no GPU.
    """
    asked = subprocess.run([sys.executable, "-c", FACTS, device], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(
            f"torch cannot use a CUDA device here ({last}). This plan needs a GPU; `--device cpu --tiny` tries it "
            "without one.",
            file=sys.stderr,
        )
        raise SystemExit(2)
    return {**json.loads(asked.stdout.splitlines()[-1]), "commit": commit()}


def commit() -> str | None:
    """The commit of the checkout; None outside of a repository."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None


def run_part(part: Part, options: argparse.Namespace, end: float) -> dict[str, Any]:
    """Run a part in the time that is left, and return its report."""
    left = end - time.monotonic()
    report: dict[str, Any] = {"part": part.name, "limit_s": part.limit_s, "is_trial": options.tiny}
    if left < (min(part.least_s, 10.0) if options.tiny else part.least_s):
        reason = f"{max(left, 0):.0f} s are left, and it needs {part.least_s:g}"
        say(f"{part.name}: skipped, because {reason}")
        return {**report, "outcome": "skipped", "reason": reason, "reports": []}
    limit = min(part.limit_s, left)
    words = [sys.executable, str(FOLDER / part.words[0]), *part.words[1:], "--device", options.device]
    words += part.tiny if options.tiny else ()
    say(f"{part.name}: {part.does} (at most {limit:.0f} s)")
    log = options.logs / f"{part.name}.log"
    start = time.monotonic()
    status = run_limited(words, limit, log)
    seconds = round(time.monotonic() - start, 1)
    found = json_lines(log)
    if status is None:
        outcome, reason = "stopped", f"it was stopped at its limit of {limit:.0f} s"
    elif status != 0:
        outcome, reason = "failed", f"exit status {status}; its messages are in {log}"
    else:
        outcome, reason = "done", None
    say(f"{part.name}: {outcome} after {seconds} s" + (f"; {reason}" if reason else ""))
    return {**report, "outcome": outcome, "reason": reason, "seconds": seconds, "reports": found}


def run_limited(words: Sequence[str], limit: float, log: Path) -> int | None:
    """Run a command that writes to a log. Returns its exit status, or None if it was stopped at the limit.

    It is stopped with all processes that it started.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def json_lines(log: Path) -> list[dict[str, Any]]:
    """The lines of a log that are reports."""
    found = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("{"):
            continue
        try:
            found.append(json.loads(line))
        except ValueError:  # another line, or one that was not written to its end
            continue
    return found


def say(text: str) -> None:
    """Tell the user how far the plan is."""
    print(f"# {text}", file=sys.stderr, flush=True)


def table(reports: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of the parts, of their bars, and of the tests that did not pass."""
    cells: list[list[str]] = []
    for report in reports:
        seconds = f"{report['seconds']:g} s" if "seconds" in report else ""
        cells.append([f"**{report['part']}**", report["outcome"], seconds, report["reason"] or ""])
        tests = [line for line in report["reports"] if "test" in line]
        if tests:
            passed = sum(line["outcome"] == "passed" for line in tests)
            cells.append(["", f"{passed} of {len(tests)} tests passed", "", ""])
        cells += [
            ["", line["test"].rpartition("::")[2], line["outcome"], line.get("reason", "").strip().split("\n")[-1]]
            for line in tests
            if line["outcome"] != "passed"
        ]
        rows = [row for line in report["reports"] for row in line.get("rows", ())]
        cells += [
            ["", f"{row['work']}: {row['against']}", f"{row['ratio']} (bar {row['bound']})", met(row)] for row in rows
        ]
    return text_table(["part", "what", "figure", ""], cells, align="<<<<", markdown=True)


def met(row: dict[str, Any]) -> str:
    """Whether a bar is met."""
    return "met" if row["reached"] else "missed"


if __name__ == "__main__":
    main()
