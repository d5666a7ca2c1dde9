"""Measure step time and peak memory in the paper's setting on one GPU.

The model is the paper's (CED-Base and SONAR's text encoder, 852 M parameters, random weights). The batch has 24 clips
of ten seconds with captions in eight languages, whose lengths are those of such captions in SONAR's tokens. Weights,
gradients and Adam are in float32; the towers compute in bfloat16 autocast with dropout. Each step is `AtriTrainer`'s
own, from the batch on the device to the updated weights:

- `mlclap`: one caption of each clip. The others are compared with it.
- `cacl`: two captions of each clip, encoded at once. `cacl_chunked` encodes them twice, in chunks of `--chunk`.
- `kcl_at_once`: eight captions of each clip, with all activations kept, as in the paper.
- `kcl`, `akcl`: the same language by language. `kcl_chunked` also encodes in chunks.

They run in three settings: `sdpa` (torch's fused attention), `eager` (explicit attention), and `compiled` (`sdpa`
under torch.compile, which takes minutes to warm up). All train one model with one optimizer.

- `ms`: time between two CUDA events around a step that starts on an idle device. Steps of all variants and settings
  take turns; the figure is the median of `--rounds`, after at least `--warmup` steps that are not counted.
- `peak_gb`, `reserved_gb`: the most memory that tensors take, and that torch reserves for them, in a step that begins
  with an empty cache. 1 GB is 10^9 bytes. `above_gb` is the peak less the memory in use before the step (weights,
  Adam's moments, batch), i.e. activations and gradients.

It prints a table and one JSON line. Steps that the device has too little memory for are reported as such. The targets
are: KCL takes at most 1.05 times the peak memory of ML-CLAP (2.8 times in the paper) and 1.05 times the time of all
languages at once, and CACL in chunks takes at most 1.35 times the time of CACL. Language by language, the gradients of
the first language are in memory beside the activations of the next, unlike with one language; chunks make up for that.

`--tiny` runs everything on a small model, with `--device cpu` even without a GPU, as a trial of this script. Its
figures mean nothing, and a CPU has no figures of memory.
"""

import os


# If several GPUs are visible, Trainer splits the batch over them.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

from shared.measuring import medians, print_report, row  # first: it sets one thread


# isort: split
import argparse
from typing import Any

import torch
from shared.gpu_options import add_device_options, check_device, check_options, device_facts
from shared.options import SEED, option_parser
from training_step.gpu_steps import SETTINGS, Case, GpuSteps, variants

from modeling_atri.hub_cards.tables import text_table


NUMBERS = {
    "clips": (24, "clips of the batch"),
    "languages": (8, "number of languages, 2 to 8"),
    "chunk": (12, "clips and captions of a chunk"),
    "rounds": (9, "timed steps of each case"),
    "warmup": (3, "steps of each case before"),
    "seed": (0, SEED),
}
MEMORY_TITLES = {"peak_gb": "peak GB", "reserved_gb": "reserved GB", "above_gb": "above standing GB"}


def main() -> None:
    """Run the command."""
    options = parse_options()
    check_device(options.device)
    # There are more shapes than torch.compile allows for one function; beyond its limit it silently does not compile.
    torch._dynamo.config.recompile_limit = 64
    steps = GpuSteps(options)
    cases = [Case(variant, setting) for setting in options.settings for variant in options.variants]
    memory = steps.memory_of_each(cases)
    seconds = medians(steps.measure_seconds([case for case in cases if memory[case] is not None]), digits=6)
    figures = [figures_of(case, memory[case], seconds.get(case)) for case in cases]
    print(table(figures))
    print_report(
        "gpu",
        rows=rows(figures, options.languages),
        cases=figures,
        standing_gb=steps.standing_gigabytes(),
        parameters=steps.trainer.model.num_parameters(),
        tokens=steps.num_tokens,
        **{name: getattr(options, name) for name in NUMBERS},
        **device_facts(options.device),
    )


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = option_parser(__doc__, "some minutes", **NUMBERS)
    names = list(variants(1))
    parser.add_argument("--variants", nargs="+", choices=names, default=names, help="steps (default: all)")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="(default: all)")
    add_device_options(parser)
    options = parser.parse_args()
    check_options(parser, options, "clips", "chunk", "rounds", "warmup")
    return options


def figures_of(case: Case, memory: dict[str, float] | None, seconds: float | None) -> dict[str, Any]:
    """The report's entry of a case. `memory` is None if the memory of the device does not suffice."""
    time = {} if seconds is None else {"ms": round(1000 * seconds, 3)}
    return {**case._asdict(), "out_of_memory": memory is None, **time, **(memory or {})}


def table(figures: list[dict[str, Any]]) -> str:
    """A Markdown table of the cases; unknown figures are left empty."""
    cells = []
    for item in figures:
        time = "out of memory" if item["out_of_memory"] else f"{item['ms']:.1f}"
        memory = [f"{item[name]:.2f}" if name in item else "" for name in MEMORY_TITLES]
        quotients = [quotient(figures, item["setting"], name, item["variant"], "mlclap") for name in ("ms", "peak_gb")]
        shown = ["" if value is None else f"{value:.2f}" for value in quotients]
        cells.append([item["variant"], item["setting"], time, *memory, *shown])
    header = ["step", "setting", "ms", *MEMORY_TITLES.values(), "time / ML-CLAP", "peak / ML-CLAP"]
    return text_table(header, cells, align="<<>>>>>>", markdown=True)


def rows(figures: list[dict[str, Any]], num_languages: int) -> list[dict[str, Any]]:
    """Rows of the table of benchmarks: the targets whose figures are known."""
    targets = (
        ("kcl", "mlclap", "peak_gb", "times the peak memory of ML-CLAP", "<= 1.05"),
        ("kcl_chunked", "mlclap", "peak_gb", "times the peak memory of ML-CLAP", "<= 1.05"),
        ("kcl", "kcl_at_once", "ms", "times the time of all languages at once", "<= 1.05"),
        ("cacl_chunked", "cacl", "ms", "times the time of CACL at once", "<= 1.35"),
    )
    return [
        row(f"{variant} step, K={num_languages}, {setting}", against, value, bound)
        for setting in SETTINGS
        for variant, base, name, against, bound in targets
        if (value := quotient(figures, setting, name, variant, base)) is not None
    ]


def quotient(figures: list[dict[str, Any]], setting: str, name: str, variant: str, base: str) -> float | None:
    """A figure of one variant over that of another in the same setting; None if one of them is unknown."""
    by_variant = {item["variant"]: item.get(name) for item in figures if item["setting"] == setting}
    first, second = by_variant.get(variant), by_variant.get(base)
    return None if first is None or second is None else first / second


if __name__ == "__main__":
    main()
