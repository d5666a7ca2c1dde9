"""Step time and peak memory in the paper's setting, on one GPU.

The model is the paper's (CED-Base and SONAR's text encoder, 852 M parameters, random weights), the batch 24 clips of
ten seconds with captions in eight languages, of lengths as SONAR's tokens of such captions have. Weights, gradients
and Adam are in float32, the towers compute in bfloat16 autocast, with dropout. Every step is `AtriTrainer`'s own, from
the batch on the device to the weights updated:

- `mlclap`: one caption a clip, what the others are compared with;
- `cacl`: two captions a clip, all at once; `cacl_chunked`: encoded in chunks of `--chunk`, twice;
- `kcl_at_once`: eight captions a clip, all activations kept, as the paper did;
- `kcl`, `akcl`: the same language by language; `kcl_chunked`: and in chunks.

They are run in three settings: `sdpa` (torch's fused attention), `eager` (attention spelled out), and `compiled`
(`sdpa` under torch.compile, which takes minutes to warm up). All train one model with one optimizer.

- `ms`: between two CUDA events around a step, the device being idle before; steps of all variants and settings take
  turns; medians of `--rounds`, after `--warmup` steps each that are not counted.
- `peak_gb`, `reserved_gb`: the most that tensors take, and that torch holds for them, in a step of its own that begins
  with an empty cache; 1 GB is 10^9 bytes. `above_gb` is what the peak adds to what stands before the step (weights,
  Adam's moments, batch): activations and gradients.

It prints a table and one JSON line. A step that the device has not the memory for is reported, and the others go on.
Targets: KCL in 1.05 times ML-CLAP's peak memory, where the paper reports 2.8 times; in 1.05 times the time of all at
once; CACL in chunks in 1.35 times the time of CACL. Language by language, the gradients of the first language stand
beside the activations of the next, which those of one language never do: chunks make up for that.

`--tiny` runs everything on a small model, with `--device cpu` even without a GPU, to see that it works: its figures
mean nothing, and a CPU has none of memory.
"""

import os


# With several GPUs in sight, Trainer would split the batch over them.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

import argparse
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers
from measuring import row
from torch import Tensor

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.scratch import train_tokenizer


SETTINGS = ("sdpa", "eager", "compiled")
NO_GPU = "There is no CUDA device: this benchmark needs a GPU (`--device cpu --tiny` is a trial run without)."

TINY_SIZES = {
    "audio_config": {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "text_config": {
        "vocab_size": 1000,
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
    },
    "projection_dim": 12,
}


class Case(NamedTuple):
    """What is measured: a variant of the step in a setting."""

    variant: str
    setting: str


def main() -> None:
    """Run the command."""
    options = parse_options()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        raise SystemExit(2)
    # More shapes than torch.compile allows a function by default; beyond the limit it would silently not compile.
    torch._dynamo.config.recompile_limit = 64
    bench = Bench(options)
    cases = [Case(variant, setting) for setting in options.settings for variant in options.variants]
    memory = {case: bench.without_failing(lambda case=case: bench.measure_memory(case)) for case in cases}
    seconds = bench.measure_seconds([case for case in cases if memory[case] is not None])
    figures = [figures_of(case, memory[case], seconds.get(case)) for case in cases]
    print(table(figures))
    report = {
        "benchmark": "gpu",
        "rows": rows(figures, options.languages),
        "cases": figures,
        "standing_gb": bench.standing_gigabytes(),
        "parameters": bench.trainer.model.num_parameters(),
        "clips": options.clips,
        "languages": options.languages,
        "tokens": bench.num_tokens,
        "chunk": options.chunk,
        "rounds": options.rounds,
        "warmup": options.warmup,
        "seed": options.seed,
        "device": torch.cuda.get_device_name() if bench.on_gpu else "cpu",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(report))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Takes some minutes."
    )
    parser.add_argument("--clips", type=int, default=24, help="clips of the batch (default: %(default)s)")
    parser.add_argument("--languages", type=int, default=8, help="2 to 8 languages (default: %(default)s)")
    parser.add_argument("--chunk", type=int, default=12, help="clips and captions of a chunk (default: %(default)s)")
    parser.add_argument(
        "--variants", nargs="+", choices=list(variants(1)), default=list(variants(1)), help="steps (default: all)"
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="(default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="steps of each that are timed (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=3, help="steps of each before (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batch (default: %(default)s)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="a small model: a trial of this script")
    options = parser.parse_args()
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu is for trials: add --tiny.")
    if not 2 <= options.languages <= len(ATRI_LANGUAGES):
        parser.error(f"--languages must be 2 to {len(ATRI_LANGUAGES)}; got {options.languages}.")
    for name in ("clips", "chunk", "rounds", "warmup"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1; got {getattr(options, name)}.")
    return options


def variants(chunk: int) -> dict[str, dict[str, Any]]:
    """What `AtriTrainingArguments` are told of each variant."""
    chunks = {"audio_chunk_size": chunk, "text_chunk_size": chunk}
    return {
        "mlclap": {"objective": "mlclap"},
        "cacl": {"objective": "cacl"},
        "cacl_chunked": {"objective": "cacl", **chunks},
        "kcl_at_once": {"objective": "kcl", "exact_step": False},
        "kcl": {"objective": "kcl"},
        "kcl_chunked": {"objective": "kcl", **chunks},
        "akcl": {"objective": "akcl"},
    }


class Bench:
    """One model and one optimizer, which the steps of all variants and settings train in turn."""

    def __init__(self, options: argparse.Namespace):
        torch.manual_seed(options.seed)
        self.options = options
        self.on_gpu = options.device == "cuda"
        languages = list(ATRI_LANGUAGES[: options.languages])
        with tempfile.TemporaryDirectory() as folder:
            self.arguments = {
                name: AtriTrainingArguments(
                    folder,
                    languages=languages,
                    bf16=True,
                    use_cpu=not self.on_gpu,
                    report_to="none",
                    disable_tqdm=True,
                    seed=options.seed,
                    **variants(options.chunk)[name],
                )
                for name in options.variants
            }
        tokenizer = train_tokenizer(["a dog"], languages, vocab_size=1000)  # made for the trainer; never asked
        model = make_model(TINY_SIZES if options.tiny else {})
        processor = AtriProcessor(AtriFeatureExtractor(), tokenizer)
        self.trainer = AtriTrainer(model, self.arguments[options.variants[0]], processor)
        self.trainer.current_gradient_accumulation_steps = 1  # said by `Trainer.train`, which is not needed here
        # As `Trainer.train` does: it is `prepare` that puts autocast around the model's forward pass.
        self.trainer.create_optimizer()
        prepared, self.trainer.optimizer = self.trainer.accelerator.prepare(model, self.trainer.optimizer)
        self.models = {"sdpa": prepared, "eager": prepared, "compiled": torch.compile(prepared)}
        self.num_tokens, self.batches = self._make_batches(languages)

    def _make_batches(self, languages: list[str]) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
        """Lengths of captions in tokens, and each variant's batch, on the device: loaders copy it there in advance."""
        num_clips, vocab_size = self.options.clips, self.trainer.model.config.text_config.vocab_size
        # Captions of nine words, as in AudioCaps, are some sixteen tokens with language and end.
        lengths = torch.empty(len(languages), num_clips).log_normal_(2.8, 0.35).round().clamp(6, 64).long()
        mask = (torch.arange(int(lengths.max())) < lengths[..., None]).long()
        ids = torch.where(mask.bool(), torch.randint(4, vocab_size, mask.shape), 1)
        drawn, clips = torch.randint(1, len(languages), (num_clips,)), torch.arange(num_clips)
        tokens = {
            "mlclap": (ids[drawn, clips][None], mask[drawn, clips][None]),
            "cacl": (torch.stack([ids[0], ids[drawn, clips]]), torch.stack([mask[0], mask[drawn, clips]])),
            "kcl": (ids, mask),
            "akcl": (ids, mask),
        }
        features, device = torch.randn(num_clips, 1001, 64), self.trainer.args.device
        batches = {}
        for name, args in self.arguments.items():
            input_ids, attention_mask = tokens[args.objective]
            batch = {
                "input_features": features,
                "input_features_mask": torch.ones(num_clips, features.shape[1], dtype=torch.long),
                "input_ids": input_ids,
                "attention_mask": attention_mask,
                "item_ids": clips,
                "group_ids": clips,
            }
            on_device = {key: value.to(device) for key, value in batch.items()}
            batches[name] = on_device | {"languages": [[code] * num_clips for code in languages[: len(input_ids)]]}
        return {"mean": round(lengths.float().mean().item(), 1), "longest": int(lengths.max())}, batches

    def step(self, case: Case) -> None:
        """One training step: forward, backward, update; gradients are freed, as `Trainer` frees them."""
        self.trainer.training_step(self.models[case.setting], dict(self.batches[case.variant]))
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()

    def choose(self, case: Case) -> None:
        """Make ready for steps of a case."""
        self.trainer.args = self.arguments[case.variant]
        self.trainer.model.set_attn_implementation("eager" if case.setting == "eager" else "sdpa")

    def without_failing(self, run: Callable[[], dict[str, float]]) -> dict[str, float] | None:
        """What `run` returns; None where memory does not suffice, after which memory is as before."""
        try:
            return run()
        except torch.OutOfMemoryError:
            pass  # what its traceback holds is free after this block
        self.trainer.optimizer.zero_grad()
        self._empty_cache()
        return None

    def measure_memory(self, case: Case) -> dict[str, float]:
        """Peaks of a step, in GB, after the warm-up (which also makes Adam's moments); nothing on a CPU."""
        self.choose(case)
        for _ in range(self.options.warmup):
            self.step(case)
        if not self.on_gpu:
            return {}
        self._empty_cache()
        standing = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.step(case)
        torch.cuda.synchronize()
        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        sizes = {"peak_gb": peak, "reserved_gb": reserved, "above_gb": peak - standing}
        return {name: round(size / 1e9, 3) for name, size in sizes.items()}

    def measure_seconds(self, cases: list[Case]) -> dict[Case, float]:
        """Median seconds of a step of each case; the cases take turns."""
        seconds: dict[Case, list[float]] = {case: [] for case in cases}
        for _ in range(self.options.rounds):
            for case in cases:
                self.choose(case)
                seconds[case].append(self._seconds_of_step(case))
        return {case: statistics.median(values) for case, values in seconds.items()}

    def _seconds_of_step(self, case: Case) -> float:
        if not self.on_gpu:
            start = time.perf_counter()
            self.step(case)
            return time.perf_counter() - start
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        self.step(case)
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1000

    def _empty_cache(self) -> None:
        gc.collect()
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def standing_gigabytes(self) -> dict[str, float]:
        """What all variants have in memory, and gradients, which they have for a part of the step."""
        trained = [parameter for parameter in self.trainer.model.parameters() if parameter.requires_grad]
        states = self.trainer.optimizer.state.values()
        moments = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        parts = {"weights": list(self.trainer.model.parameters()), "adam": moments, "gradients": trained}
        return {name: round(sum(map(num_bytes, tensors)) / 1e9, 3) for name, tensors in parts.items()}


def make_model(sizes: dict[str, Any]) -> AtriModel:
    """With random weights, and mel statistics of the random features."""
    model = AtriModel(AtriConfig(**sizes))
    model.audio_model.mel_norm.set_statistics(torch.zeros(64), torch.ones(64))
    return model


def num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def figures_of(case: Case, memory: dict[str, float] | None, seconds: float | None) -> dict[str, Any]:
    """A case's part of the report; `memory` is None where it did not suffice."""
    found = {} if seconds is None else {"ms": round(1000 * seconds, 3)}
    return {**case._asdict(), "out_of_memory": memory is None, **found, **(memory or {})}


def table(figures: list[dict[str, Any]]) -> str:
    """Markdown; what is not known is left empty."""
    names = {"ms": "ms", "peak_gb": "peak GB", "reserved_gb": "reserved GB", "above_gb": "above standing GB"}
    lines = [
        f"| step | setting | {' | '.join(names.values())} | time / ML-CLAP | peak / ML-CLAP |",
        f"| --- | --- {'| ---: ' * (len(names) + 2)}|",
    ]
    for item in figures:
        cells = ["out of memory" if item["out_of_memory"] else f"{item['ms']:.1f}"]
        cells += [f"{item[name]:.2f}" if name in item else "" for name in list(names)[1:]]
        for name in ("ms", "peak_gb"):
            value = quotient(figures, item["setting"], name, item["variant"], "mlclap")
            cells.append("" if value is None else f"{value:.2f}")
        lines.append(f"| {item['variant']} | {item['setting']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rows(figures: list[dict[str, Any]], num_languages: int) -> list[dict[str, Any]]:
    """The targets that there are figures for."""
    targets = (
        ("kcl", "mlclap", "peak_gb", "times the peak memory of ML-CLAP", "<= 1.05"),
        ("kcl_chunked", "mlclap", "peak_gb", "times the peak memory of ML-CLAP", "<= 1.05"),
        ("kcl", "kcl_at_once", "ms", "times the time of all languages at once", "<= 1.05"),
        ("cacl_chunked", "cacl", "ms", "times the time of CACL at once", "<= 1.35"),
    )
    found = []
    for setting in SETTINGS:
        for variant, base, name, against, bound in targets:
            value = quotient(figures, setting, name, variant, base)
            if value is not None:
                found.append(row(f"{variant} step, K={num_languages}, {setting}", against, value, bound))
    return found


def quotient(figures: list[dict[str, Any]], setting: str, name: str, variant: str, base: str) -> float | None:
    """A figure of one variant over that of another, in one setting; None where one of them is missing."""
    by_variant = {item["variant"]: item.get(name) for item in figures if item["setting"] == setting}
    first, second = by_variant.get(variant), by_variant.get(base)
    return None if first is None or second is None else first / second


if __name__ == "__main__":
    main()
