"""What the language-by-language step keeps in memory and how long it takes, against all languages at once.

Both are `AtriTrainer`'s own training step, with `exact_step=True` and `False`, on the same text-heavy model (random
weights) and batch: `--clips` clips of one second with captions of `--tokens` tokens in K languages, K = 1, 2, 4, 8.

- `saved_megabytes`: the activations kept for backward, as autograd's saved-tensor hooks see them: the bytes of all
  storages that are kept at the same time, each counted once, the largest sum of the step. Weights and inputs, which
  are there anyway, are not counted. These figures are exact: they do not depend on the machine.
- `seconds`: CPU seconds of forward and backward on one thread; the two ways take turns, medians of `--rounds` turns.
- `bounds`: what must hold, K=8 against the smallest K: at most 1.05 times the memory, for KCL (against K=1) and
  anchored KCL (against K=2: audio, anchor and one other language). The benchmark fails where it does not.

It prints one JSON line. AKCL needs two languages, so its figures begin at K=2.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
import weakref
from typing import Any

import torch
import transformers

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.tokenization import train_tokenizer
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments


LANGUAGE_COUNTS = {"kcl": (1, 2, 4, 8), "akcl": (2, 4, 8)}
BOUND = 1.05
VOCAB_SIZE = 1000


def main() -> None:
    options = parse_options()
    torch.set_num_threads(1)
    sizes = {
        "num_clips": options.clips,
        "num_tokens": options.tokens,
        "hidden_size": options.hidden_size,
        "num_layers": options.layers,
        "seed": options.seed,
    }
    report: dict[str, Any] = {"benchmark": "exact_step", **sizes, "rounds": options.rounds, "threads": 1}
    bounds = {}
    for objective, counts in LANGUAGE_COUNTS.items():
        figures = {str(count): measure(objective, count, options.rounds, sizes) for count in counts}
        report[objective] = figures
        first, last = (figures[str(count)]["saved_megabytes"]["exact"] for count in (counts[0], counts[-1]))
        bounds[f"{objective} K={counts[-1]} / K={counts[0]}"] = round(last / first, 4)
    report |= {"bounds": bounds, "torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps(report | {"machine": platform.machine()}))
    if max(bounds.values()) > BOUND:
        raise SystemExit(f"More than {BOUND} times the memory: {bounds}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Takes about a minute."
    )
    parser.add_argument("--clips", type=int, default=16, help="clips of the batch (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of every caption (default: %(default)s)")
    parser.add_argument("--hidden-size", type=int, default=128, help="width of both towers (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=4, help="layers of the text tower (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="turns that are timed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batch (default: %(default)s)")
    return parser.parse_args()


def measure(objective: str, num_languages: int, rounds: int, sizes: dict[str, int]) -> dict[str, Any]:
    """Memory and time of both ways, and their ratio."""
    ways = {"exact": make_step(objective, num_languages, exact=True, **sizes)}
    ways["at_once"] = make_step(objective, num_languages, exact=False, **sizes)
    megabytes = {way: round(peak_saved_megabytes(step), 3) for way, step in ways.items()}
    seconds = {way: [] for way in ways}
    for _ in range(rounds):
        for way, step in ways.items():
            start = time.process_time()
            step()
            seconds[way].append(time.process_time() - start)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    return {
        "saved_megabytes": megabytes,
        "seconds": {way: round(value, 4) for way, value in medians.items()},
        "memory_ratio": round(megabytes["exact"] / megabytes["at_once"], 4),
        "time_ratio": round(medians["exact"] / medians["at_once"], 3),
    }


def measure_saved_megabytes(objective: str, num_languages: int, exact: bool, **sizes: int) -> float:
    """Activations kept for backward at the fullest moment of a training step; `sizes`: see `make_step`."""
    return peak_saved_megabytes(make_step(objective, num_languages, exact, **sizes))


def make_step(
    objective: str,
    num_languages: int,
    exact: bool,
    num_clips: int = 16,
    num_tokens: int = 48,
    hidden_size: int = 128,
    num_layers: int = 4,
    seed: int = 0,
) -> "TrainingStep":
    """A training step that can be made again and again."""
    torch.manual_seed(seed)
    model = make_model(hidden_size, num_layers)
    languages = list(ATRI_LANGUAGES[:num_languages])
    with tempfile.TemporaryDirectory() as folder:
        args = AtriTrainingArguments(
            folder,
            objective=objective,
            languages=languages,
            exact_step=exact,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        )
        processor = AtriProcessor(AtriFeatureExtractor(), train_tokenizer(["a dog"], languages, vocab_size=VOCAB_SIZE))
        trainer = AtriTrainer(model, args, processor)
    return TrainingStep(trainer, make_batch(languages, num_clips, num_tokens))


def make_model(hidden_size: int, num_layers: int) -> AtriModel:
    """One layer for a second of sound, `num_layers` for captions: most activations are the captions', as in SONAR."""
    audio = {"hidden_size": hidden_size, "intermediate_size": 4 * hidden_size, "num_hidden_layers": 1}
    text = {
        "vocab_size": VOCAB_SIZE,
        "d_model": hidden_size,
        "encoder_layers": num_layers,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 4 * hidden_size,
    }
    dropouts = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    config = AtriConfig(
        audio_config=audio | {"num_attention_heads": 4}, text_config=text | dropouts, projection_dim=hidden_size
    )
    model = AtriModel(config)
    model.audio_model.mel_norm.set_statistics(torch.zeros(64), torch.full((64,), 2.0))
    return model


def make_batch(languages: list[str], num_clips: int, num_tokens: int) -> dict[str, Any]:
    shape = (len(languages), num_clips, num_tokens)
    return {
        "input_features": torch.randn(num_clips, 101, 64),
        "input_features_mask": torch.ones(num_clips, 101, dtype=torch.long),
        "input_ids": torch.randint(4, VOCAB_SIZE, shape),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "item_ids": torch.arange(num_clips),
        "group_ids": torch.arange(num_clips),
        "languages": [[language] * num_clips for language in languages],
    }


class TrainingStep:
    """Forward and backward of one batch; the gradients are thrown away."""

    def __init__(self, trainer: AtriTrainer, batch: dict[str, Any]):
        self.trainer, self.batch = trainer, batch
        self.trainer.current_gradient_accumulation_steps = 1  # said by `Trainer.train`, which is not needed here

    def __call__(self) -> None:
        self.trainer.training_step(self.trainer.model, dict(self.batch))
        self.trainer.model.zero_grad()

    def standing_storages(self) -> set[int]:
        """Addresses of what is in memory with or without a step: weights and inputs."""
        model = self.trainer.model
        tensors = [*model.parameters(), *model.buffers(), *self.batch.values()]
        return {tensor.untyped_storage().data_ptr() for tensor in tensors if isinstance(tensor, torch.Tensor)}


class SavedTensors:
    """Counts the bytes that autograd keeps for backward, storage by storage."""

    def __init__(self, ignored: set[int]):
        self.ignored = ignored
        self.holders: dict[int, int] = {}  # address of a storage: nodes that keep it
        self.bytes = self.peak = 0

    def pack(self, tensor: torch.Tensor) -> "_Saved":
        saved = _Saved(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.ignored:
            self._add(storage.data_ptr(), storage.nbytes())
            # Autograd lets go of it when its node has run backward.
            weakref.finalize(saved, self._remove, storage.data_ptr(), storage.nbytes())
        return saved

    def _add(self, address: int, size: int) -> None:
        self.holders[address] = self.holders.get(address, 0) + 1
        if self.holders[address] == 1:
            self.bytes += size
            self.peak = max(self.peak, self.bytes)

    def _remove(self, address: int, size: int) -> None:
        self.holders[address] -= 1
        if self.holders[address] == 0:
            del self.holders[address]
            self.bytes -= size


class _Saved:
    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor


def peak_saved_megabytes(step: "TrainingStep") -> float:
    """The most that is kept for backward at any time of a step, in megabytes (10^6 bytes)."""
    counter = SavedTensors(step.standing_storages())
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, lambda saved: saved.tensor):
        step()
    # All at once, the model's forward pass also makes logits that no loss uses; their scale, one number, stays.
    if counter.bytes > 1e-4 * counter.peak:
        raise RuntimeError(f"{counter.bytes} bytes are still kept after the step: the count is wrong.")
    return counter.peak / 1e6


if __name__ == "__main__":
    main()
