"""Training steps of all objectives in the paper's setting, with the memory and the time they take."""

import argparse
import gc
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from shared.measuring import seconds_in_turns, wall_seconds
from torch import Tensor

from modeling_atri import AtriConfig, AtriModel
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainingArguments

from .random_data import make_batch, make_trainer


NUM_FRAMES = 1001  # of ten seconds
SETTINGS = ("sdpa", "eager", "compiled")
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
    """A variant of the step in a setting."""

    variant: str
    setting: str


def variants(chunk: int) -> dict[str, dict[str, Any]]:
    """The `AtriTrainingArguments` of each variant, with `chunk` clips and captions in a chunk."""
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


class GpuSteps:
    """One model and one optimizer, which the steps of all variants and settings train in turn.

    Args:
        options: options of the command, see `gpu.py`.
    """

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
        model = AtriModel(AtriConfig(**TINY_SIZES if options.tiny else {}))
        self.trainer = make_trainer(model, self.arguments[options.variants[0]])
        # As `Trainer.train` does: `prepare` puts autocast around the model's forward pass.
        self.trainer.create_optimizer()
        prepared, self.trainer.optimizer = self.trainer.accelerator.prepare(model, self.trainer.optimizer)
        backend = "inductor" if self.on_gpu else "aot_eager"  # for a trial: a compiler of C++ takes minutes
        self.models = {"sdpa": prepared, "eager": prepared, "compiled": torch.compile(prepared, backend=backend)}
        self.num_tokens, self.batches = self._make_batches(languages)

    def _make_batches(self, languages: list[str]) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
        """Lengths of captions in tokens, and the batch of each variant, on the device as data loaders put it there."""
        num_clips, vocab_size = self.options.clips, self.trainer.model.config.text_config.vocab_size
        # Captions of nine words, as in AudioCaps, have about sixteen tokens with language and end.
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
        batches = {}
        for name, args in self.arguments.items():
            input_ids, attention_mask = tokens[args.objective]
            captions = languages[: len(input_ids)]
            batches[name] = make_batch(NUM_FRAMES, input_ids, attention_mask, captions, args.device)
        return {"mean": round(lengths.float().mean().item(), 1), "longest": int(lengths.max())}, batches

    def step(self, case: Case) -> None:
        """One training step: forward, backward, update. It frees the gradients, as `Trainer` does."""
        self.trainer.training_step(self.models[case.setting], dict(self.batches[case.variant]))
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()

    def choose(self, case: Case) -> None:
        """Prepare the trainer for steps of a case."""
        self.trainer.args = self.arguments[case.variant]
        self.trainer.model.set_attn_implementation("eager" if case.setting == "eager" else "sdpa")

    def memory_of_each(self, cases: Sequence[Case]) -> dict[Case, dict[str, float] | None]:
        """`measure_memory` of each case, None where the memory of the device does not suffice."""
        return {case: self._memory_if_enough(case) for case in cases}

    def _memory_if_enough(self, case: Case) -> dict[str, float] | None:
        try:
            return self.measure_memory(case)
        except torch.OutOfMemoryError:
            pass  # the tensors of its traceback are free only after this block
        self.trainer.optimizer.zero_grad()
        self._empty_cache()
        return None

    def measure_memory(self, case: Case) -> dict[str, float]:
        """Peaks of a step in GB, after the warm-up, which also creates Adam's moments; an empty dict on a CPU."""
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

    def measure_seconds(self, cases: Sequence[Case]) -> dict[Case, list[float]]:
        """Seconds of a step of each case in each round; the cases take turns."""
        return seconds_in_turns({case: case for case in cases}, self.options.rounds, self._seconds_of_step)

    def _seconds_of_step(self, case: Case) -> float:
        self.choose(case)
        if not self.on_gpu:
            return wall_seconds(lambda: self.step(case))
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
        """The memory of weights and Adam's moments, and of the gradients, which exist for a part of the step."""
        trained = [parameter for parameter in self.trainer.model.parameters() if parameter.requires_grad]
        states = self.trainer.optimizer.state.values()
        moments = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        parts = {"weights": list(self.trainer.model.parameters()), "adam": moments, "gradients": trained}
        return {name: round(sum(tensor.nbytes for tensor in tensors) / 1e9, 3) for name, tensors in parts.items()}
