"""Options of the benchmarks of a GPU, which also run on a CPU as a trial."""

import argparse
import sys
from typing import Any

import torch

from modeling_atri.languages_atri import ATRI_LANGUAGES


NO_GPU = "There is no CUDA device: this benchmark needs a GPU (`--device cpu --tiny` is a trial run without)."


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add the device and the size of the model."""
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="use a small model, as a trial of this script")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace, *positive: str) -> None:
    """End the command if its device, its number of languages, or one of the `positive` numbers cannot be."""
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu is for trials: add --tiny.")
    if not 2 <= options.languages <= len(ATRI_LANGUAGES):
        parser.error(f"--languages must be 2 to {len(ATRI_LANGUAGES)}; got {options.languages}.")
    for name in positive:
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1; got {getattr(options, name)}.")


def check_device(device: str) -> None:
    """End the command with status 2 if it needs a GPU and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        raise SystemExit(2)


def device_facts(device: str) -> dict[str, Any]:
    """Name of the device and version of CUDA, for a report."""
    return {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "cuda": torch.version.cuda}
