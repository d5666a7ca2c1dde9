"""Train two models that differ only in the languages they draw, and measure how far their weights move apart.

Both runs ("twins") start from the same weights and see the same clips, captions and dropout in the same order. So the
distance between their weights is the weight error of ATRI's theory.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from ..arguments import METRIC_SCHEDULERS, AtriTrainingArguments
from ..data.draws import PROBE, Draw, random_stream
from ..objectives import FULL_OBJECTIVE, find_objective
from ..trainer import SOUND_INPUTS, AtriTrainer
from .distribution_error import Sampling, caption_counts, epoch_shares
from .weight_error import squared_distance, weight_distances, weight_error_bound


_NEEDED = {  # values of the arguments that the loop of the twins can work with
    "gradient_accumulation_steps": (1,),
    "world_size": (1,),
    "n_gpu": (0, 1),
    "fp16": (False,),
    "embed_regularization": (False,),
    "ranking_weight": (0,),
    "on_bad_row": ("raise",),
}


def twin_weight_error(
    model: AtriModel,
    args: AtriTrainingArguments,
    processor: AtriProcessor,
    rows: Sequence[dict],
    num_probes: int = 20,
    num_pairs: int = 4,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure the distance between the weights of two runs after each step, and the upper bound of the theory.

    The sampled twin trains with `args`. The full twin trains on all languages in every step, with the same objective
    if it draws languages once a batch (`kcl`, `akcl`), and with `kcl` otherwise. In an epoch both take the same
    caption index of each clip. The bound uses the distribution error between the twins over audio-text pairs;
    text-text terms are not part of it. It is a heuristic, see `modeling_atri.trainer.diagnostics.weight_error`. Plain
    SGD (`optim="sgd"`, `max_grad_norm=0`) comes nearest to its premises.

    Args:
        model (`AtriModel`): The model that both start from. It is not changed.
        args (`AtriTrainingArguments`): Arguments of the sampled run: on one device, without gradient accumulation.
            They are not changed.
        processor (`AtriProcessor`), rows (`list[dict]`): See [`AtriTrainer`].
        num_probes (`int`, *optional*, defaults to 20): Number of steps at which the constants of the bound are
            estimated. Each costs about as much as `num_pairs + 2` steps.
        num_pairs (`int`, *optional*, defaults to 4): Number of pairs whose gradients are taken at each of these steps.
        progress (`bool`, *optional*, defaults to `False`): Whether to show a progress bar.

    Returns:
        A dict with `steps`, which has for each step `step`, `epoch`, `learning_rate`, the distances `total`, `audio`,
        `text` and `heads`, `travelled` (distance of the full twin from the start) and `log10_bound` (None where the
        bound is 0); `distribution_error` of each epoch; `lipschitz`, the largest ||g(w) - g(w')|| / ||w - w'||, with g
        the gradient of the full loss on one batch; `largest_gradient` of one pair; `steps_above_bound`, the number of
        steps after which the distance was larger than the bound; `objectives`; and `optimizer`.

    Raises:
        ValueError: Arguments that the twins do not support, or a learning rate at which they diverge.
    """
    _check(args, num_probes, num_pairs)
    counts = caption_counts(rows, args.languages)
    with torch.random.fork_rng(devices=[args.device] if args.device.type == "cuda" else []):
        full, sampled = _make_twins(model, args, processor, rows)
        probe = _Probe(full, sampled, num_probes, num_pairs)
        steps = list(tqdm(_steps(full, sampled, probe), "twin steps", full.num_steps, disable=not progress))
    errors = [_distance_of_distributions(full, sampled, counts, epoch) for epoch in range(steps[-1]["epoch"] + 1)]
    bounds = weight_error_bound(
        [step["learning_rate"] for step in steps],
        [errors[step["epoch"]] for step in steps],
        probe.lipschitz,
        probe.largest_gradient,
    ).tolist()
    return {
        "objectives": {"full": full.args.objective, "sampled": args.objective},
        "optimizer": str(getattr(args.optim, "value", args.optim)),
        "distribution_error": errors,
        "lipschitz": probe.lipschitz,
        "largest_gradient": probe.largest_gradient,
        "steps_above_bound": sum(
            step["total"] > 0 and math.log10(step["total"]) > bound for step, bound in zip(steps, bounds, strict=True)
        ),
        "steps": [
            step | {"log10_bound": None if math.isinf(bound) else bound}
            for step, bound in zip(steps, bounds, strict=True)
        ],
    }


def _steps(full: "_Twin", sampled: "_Twin", probe: "_Probe") -> Iterator[dict[str, Any]]:
    """Make the steps of both twins, and yield after each step where their weights are."""
    start = [parameter.detach().clone() for parameter in full.atri_model.parameters()]
    step = 0
    for epoch in count():
        for place, batch in enumerate(full.batches_of(epoch)):
            seed = full.args.seed + step  # seed of the dropout of both twins
            probe.measure(step, batch, seed)
            rate = max(group["lr"] for group in full.optimizer.param_groups)
            full.make_step(batch, seed)
            sampled.make_step(sampled.drawn_part(batch, epoch, place), seed)
            step += 1
            distances = weight_distances(full.atri_model, sampled.atri_model)
            if not math.isfinite(distances["total"]):
                raise ValueError(
                    f"After step {step}, some weights of the twins are not finite numbers, so the learning rate of "
                    f"{rate:g} is too high. Lower `learning_rate`."
                )
            travelled = math.sqrt(sum(map(squared_distance, full.atri_model.parameters(), start)))
            yield {"step": step, "epoch": epoch, "learning_rate": rate, **distances, "travelled": travelled}
            if step == full.num_steps:
                return


def _check(args: AtriTrainingArguments, num_probes: int, num_pairs: int) -> None:
    for name, value in {"num_probes": num_probes, "num_pairs": num_pairs}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, because the bound needs an estimate; got {value}.")
    for name, allowed in _NEEDED.items():
        if getattr(args, name) not in allowed:
            raise ValueError(f"Twin runs need `{name}` to be {allowed[-1]!r}; got {getattr(args, name)!r}.")
    if args.lr_scheduler_type in METRIC_SCHEDULERS:
        raise ValueError(
            f"`lr_scheduler_type` {args.lr_scheduler_type.value!r} follows evaluations, and twin runs have none. "
            "Choose another, such as 'constant'."
        )


class _Twin(AtriTrainer):
    """A run whose steps are made one by one. Model and arguments are copied; `changes` are arguments to change."""

    def __init__(
        self, model: AtriModel, args: AtriTrainingArguments, processor: AtriProcessor, rows: Sequence[dict], **changes
    ):
        args = copy.copy(args)
        for name, value in {"push_to_hub": False, "text_cache_dir": None, **changes}.items():
            setattr(args, name, value)
        super().__init__(copy.deepcopy(model), args, processor, rows)
        self.accelerator.prepare_model(self.model)  # puts autocast into the model
        self.current_gradient_accumulation_steps = 1
        self.loader = self.get_train_dataloader()
        self.num_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * len(self.loader))
        self.create_optimizer_and_scheduler(self.num_steps)
        self.optimizer = self.accelerator.prepare_optimizer(self.optimizer)

    def batches_of(self, epoch: int) -> DataLoader:
        """The batches of an epoch."""
        self._batch_sampler.set_epoch(epoch)
        return self.loader

    def drawn_part(self, batch: dict[str, Any], epoch: int, step: int) -> dict[str, Any]:
        """The part of a batch in all languages that the objective of this twin draws."""
        clips = torch.arange(len(batch["item_ids"]))
        languages = self.args.language_draws.languages_of(
            [Draw(epoch, step, item) for item in batch["item_ids"].tolist()]
        )
        rows = torch.tensor([[self.args.languages.index(code) for code in row] for row in languages])
        tokens = {name: batch[name][rows, clips] for name in ("input_ids", "attention_mask")}  # (k, N, tokens)
        return batch | tokens | {"languages": languages}

    def put_gradient(self, batch: dict[str, Any], seed: int, args: AtriTrainingArguments | None = None) -> None:
        """Add the gradient of the batch to the parameters' `grad`. With `args`, use the objective of these."""
        own_args = self.args
        self.args = own_args if args is None else args
        torch.manual_seed(seed)
        try:
            self.training_step(self.model, dict(batch))
        finally:
            self.args = own_args

    def make_step(self, batch: dict[str, Any], seed: int) -> None:
        """Make an optimizer step on the batch."""
        self.put_gradient(batch, seed)
        if self.args.max_grad_norm > 0:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
        self.optimizer.step()
        self.lr_scheduler.step()
        self.model.zero_grad()

    def pair_gradients(self, batch: dict[str, Any], seed: int, num_pairs: int) -> list[float]:
        """Norms of the gradients of single pairs, for random clips of the batch in one random language."""
        rng = random_stream(seed, PROBE)
        language = int(rng.integers(len(batch["input_ids"])))
        num_clips = len(batch["item_ids"])
        clips = rng.choice(num_clips, size=min(num_pairs, num_clips), replace=False).tolist()
        inputs = self._prepare_inputs(dict(batch))
        self.model.train()
        self._rest_frozen_parts()
        torch.manual_seed(seed)
        with self.compute_loss_context_manager():
            outputs = self.model(
                **{name: inputs[name] for name in SOUND_INPUTS if name in inputs},
                **self._caption_inputs(inputs["input_ids"][language], inputs["attention_mask"][language]),
            )
        scale = self.atri_model.logit_scale.exp()
        losses = pair_losses(outputs.audio_embeds, outputs.text_embeds, scale, inputs["group_ids"])
        parameters = [parameter for parameter in self.atri_model.parameters() if parameter.requires_grad]
        norms = []
        for clip in clips:
            gradients = torch.autograd.grad(losses[clip], parameters, retain_graph=True, allow_unused=True)
            squares = (gradient.double().square().sum().item() for gradient in gradients if gradient is not None)
            norms.append(math.sqrt(sum(squares)))
        return norms


def _make_twins(
    model: AtriModel, args: AtriTrainingArguments, processor: AtriProcessor, rows: Sequence[dict]
) -> tuple[_Twin, _Twin]:
    objective = FULL_OBJECTIVE if find_objective(args.objective).draws_per_clip else args.objective
    full = _Twin(model, args, processor, rows, objective=objective, languages_per_step=None)
    full.set_mel_statistics()
    sampled = _Twin(model, args, processor, rows)
    sampled.atri_model.load_state_dict(full.atri_model.state_dict())  # the statistics, and a new adapter's weights
    return full, sampled


def _distance_of_distributions(full: _Twin, sampled: _Twin, counts: np.ndarray, epoch: int) -> float:
    """The data distribution error between the twins, over languages: both draw the same captions."""
    p, drawn = (epoch_shares(Sampling.from_arguments(twin.args), counts, epoch) for twin in (full, sampled))
    return float(np.abs(p / p.sum() - drawn / drawn.sum()).sum())


class _Probe:
    """Estimates of the constants of the bound: the largest values at some steps of a run, spread evenly.

    `lipschitz` is taken between the weights of the twins, and `largest_gradient`, the norm of the gradient of one
    pair's loss, at the weights of the full twin.
    """

    def __init__(self, full: _Twin, sampled: _Twin, num_probes: int, num_pairs: int):
        self.full, self.sampled, self.num_pairs = full, sampled, num_pairs
        self.steps = set(np.linspace(0, full.num_steps - 1, num_probes).round().astype(int).tolist())
        self.lipschitz = self.largest_gradient = 0.0

    def measure(self, step: int, batch: dict[str, Any], seed: int) -> None:
        """Update the constants before a step with this batch and seed, if it is one of the chosen steps."""
        if step not in self.steps:
            return
        distance = weight_distances(self.full.atri_model, self.sampled.atri_model)["total"]
        if distance > 0:
            gradients = []
            for twin in (self.full, self.sampled):
                twin.put_gradient(batch, seed, args=self.full.args)
                gradients.append([parameter.grad for parameter in twin.atri_model.parameters()])
                twin.model.zero_grad()
            squares = (squared_distance(x, y) for x, y in zip(*gradients, strict=True) if x is not None)
            self.lipschitz = max(self.lipschitz, math.sqrt(sum(squares)) / distance)
        self.largest_gradient = max(self.largest_gradient, *self.full.pair_gradients(batch, seed, self.num_pairs))


def pair_losses(audio_embeds: Tensor, text_embeds: Tensor, scale: Tensor, ids: Tensor) -> Tensor:
    """The terms `(N,)` of the pairs of a batch, whose mean is `info_nce_loss` of the same arguments."""
    logits = scale * audio_embeds.float() @ text_embeds.float().T
    positives = ids[:, None].eq(ids).to(logits.dtype)
    targets = positives / positives.sum(dim=1, keepdim=True)
    to_text, to_audio = (F.cross_entropy(one, targets, reduction="none") for one in (logits, logits.T))
    return (to_text + to_audio) / 2
