"""Twin runs: one model trained on the full distribution, one on what an objective draws, all else the same.

They start from the same weights and see the same clips, captions and dropout in the same order; only the languages
differ. So the distance of their weights is the weight error of ATRI's theory, and stands beside its upper bound
([`weight_error_bound`]) with constants estimated on the way.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers.trainer_utils import unwrap_peft_model

from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from ..arguments import METRIC_SCHEDULERS, AtriTrainingArguments
from ..data.sampling import PROBE, Draw, draw_languages, random_stream
from ..trainer import AtriTrainer
from .distribution_error import Sampling, caption_counts, epoch_shares
from .weight_error import weight_error_bound


_TOWERS = {"audio_model.": "audio", "text_model.": "text"}  # by prefix of their parameters; all others are heads
_NEEDED = {  # what the loop of the twins does not do
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
    """Distance of the weights of two runs, step by step, and the upper bound that the theory gives.

    The sampled twin trains with `args`, the other with all languages in every step: with KCL, or, where `args` say
    anchored KCL, with that. Both see of each clip the one caption index that is drawn for the epoch. The bound is made
    of the distribution error between the two, over audio-text pairs; text-text terms are not in it. It is a heuristic:
    see `modeling_atri.trainer.diagnostics.weight_error`; plain SGD (`optim="sgd"`, `max_grad_norm=0`) comes nearest to
    its premises.

    Args:
        model: that both start from; it stays as it is.
        args: of the sampled run, on one device, without gradient accumulation.
        processor, rows: see [`AtriTrainer`].
        num_probes: steps at which the constants are estimated, which costs about `num_pairs + 2` steps each.
        num_pairs: whose gradients are taken at each.
        progress: show a bar.

    Returns:
        `steps`, for each step a dict of `step`, `epoch`, `learning_rate`, the distances `total`, `audio`, `text` and
        `heads`, `travelled` (of the full twin from the start) and `log10_bound` (None where the bound is 0);
        `distribution_error`, of each epoch; `lipschitz`, the largest ||g(w) - g(w')|| / ||w - w'||, g the gradient of
        the full loss on one batch; `largest_gradient`, of one pair; `steps_above_bound`, after which the distance was
        larger than the bound; `objectives`, `optimizer`.

    Raises:
        ValueError: arguments that the twins do not know; a learning rate at which they diverge.
    """
    _check(args, num_probes, num_pairs)
    counts = caption_counts(rows, args.languages)
    with torch.random.fork_rng(devices=[args.device] if args.device.type == "cuda" else []):
        full, sampled = _make_twins(model, args, processor, rows)
        probe = _Probe(full, sampled, num_probes, num_pairs)
        steps = list(tqdm(_train(full, sampled, probe), "twin steps", full.num_steps, disable=not progress))
    errors = [_distance_of_distributions(full, sampled, counts, epoch) for epoch in range(steps[-1]["epoch"] + 1)]
    bounds = weight_error_bound(
        [step["learning_rate"] for step in steps],
        [errors[step["epoch"]] for step in steps],
        probe.lipschitz,
        probe.largest_gradient,
    )
    above = 0
    for step, bound in zip(steps, bounds.tolist(), strict=True):
        step["log10_bound"] = None if math.isinf(bound) else bound
        above += step["total"] > 0 and math.log10(step["total"]) > bound
    return {
        "objectives": {"full": full.trainer.args.objective, "sampled": args.objective},
        "optimizer": str(getattr(args.optim, "value", args.optim)),
        "distribution_error": errors,
        "lipschitz": probe.lipschitz,
        "largest_gradient": probe.largest_gradient,
        "steps_above_bound": above,
        "steps": steps,
    }


def _train(full: "_Twin", sampled: "_Twin", probe: "_Probe") -> Iterator[dict[str, Any]]:
    """Make the steps of both, and say after each where the weights are."""
    start = [parameter.detach().clone() for parameter in full.model.parameters()]
    step = 0
    for epoch in count():
        for place, batch in enumerate(full.epoch(epoch)):
            seed = full.trainer.args.seed + step  # of the dropout of both twins
            probe.measure(step, batch, seed)
            rate = max(group["lr"] for group in full.trainer.optimizer.param_groups)
            full.step(batch, seed)
            sampled.step(_drawn_part(sampled, batch, epoch, place), seed)
            step += 1
            distances = weight_distances(full.model, sampled.model)
            if not math.isfinite(distances["total"]):
                raise ValueError(
                    f"After step {step} weights of the twins are no finite numbers: the learning rate of {rate:g} is "
                    "too high. Lower `learning_rate`."
                )
            yield {
                "step": step,
                "epoch": epoch,
                "learning_rate": rate,
                **distances,
                "travelled": math.sqrt(sum(map(_squared, full.model.parameters(), start))),
            }
            if step == full.num_steps:
                return


def weight_distances(first: nn.Module, second: nn.Module) -> dict[str, float]:
    """Euclidean distance of the weights of two models of one architecture: `total`, and `audio`, `text`, `heads`."""
    squares = {"audio": 0.0, "text": 0.0, "heads": 0.0}
    for (name, x), y in zip(first.named_parameters(), second.parameters(), strict=True):
        part = next((tower for prefix, tower in _TOWERS.items() if name.startswith(prefix)), "heads")
        squares[part] += _squared(x, y)
    return {name: math.sqrt(value) for name, value in {"total": sum(squares.values()), **squares}.items()}


def _squared(x: Tensor, y: Tensor) -> float:
    return (x.detach().double() - y.detach().double()).square().sum().item()


def _check(args: AtriTrainingArguments, num_probes: int, num_pairs: int) -> None:
    for name, value in {"num_probes": num_probes, "num_pairs": num_pairs}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, else there is no bound; got {value}.")
    for name, allowed in _NEEDED.items():
        if getattr(args, name) not in allowed:
            raise ValueError(f"Twin runs need `{name}` to be {allowed[-1]!r}; got {getattr(args, name)!r}.")
    if args.lr_scheduler_type in METRIC_SCHEDULERS:
        raise ValueError(
            f"`lr_scheduler_type` {args.lr_scheduler_type.value!r} follows evaluations, and twin runs have none. "
            "Choose another, such as 'constant'."
        )


class _Twin:
    """A trainer whose steps are made one by one."""

    def __init__(
        self, model: AtriModel, args: AtriTrainingArguments, processor: AtriProcessor, rows: Sequence[dict], **changes
    ):
        args = copy.copy(args)
        for name, value in {"push_to_hub": False, "text_cache_dir": None, **changes}.items():
            setattr(args, name, value)
        self.trainer = trainer = AtriTrainer(copy.deepcopy(model), args, processor, rows)
        self.model = unwrap_peft_model(trainer.accelerator.prepare_model(trainer.model))  # in place: bf16
        trainer.current_gradient_accumulation_steps = 1
        self.loader = trainer.get_train_dataloader()
        self.num_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * len(self.loader))
        trainer.create_optimizer_and_scheduler(self.num_steps)
        trainer.optimizer = trainer.accelerator.prepare_optimizer(trainer.optimizer)

    def epoch(self, epoch: int) -> Iterable[dict[str, Any]]:
        """The batches of an epoch."""
        self.trainer._batch_sampler.set_epoch(epoch)
        return self.loader

    def gradient(self, batch: dict[str, Any], seed: int, args: AtriTrainingArguments | None = None) -> None:
        """Put the gradient of the batch where the optimizer finds it; with `args`, of their objective."""
        own_args = self.trainer.args
        self.trainer.args = own_args if args is None else args
        torch.manual_seed(seed)
        try:
            self.trainer.training_step(self.trainer.model, dict(batch))
        finally:
            self.trainer.args = own_args

    def step(self, batch: dict[str, Any], seed: int) -> None:
        trainer = self.trainer
        self.gradient(batch, seed)
        if trainer.args.max_grad_norm > 0:
            trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        trainer.model.zero_grad()


def _make_twins(
    model: AtriModel, args: AtriTrainingArguments, processor: AtriProcessor, rows: Sequence[dict]
) -> tuple[_Twin, _Twin]:
    objective = "akcl" if args.objective == "akcl" else "kcl"
    full = _Twin(model, args, processor, rows, objective=objective, languages_per_step=None)
    full.trainer._set_mel_statistics()
    sampled = _Twin(model, args, processor, rows)
    sampled.model.load_state_dict(full.model.state_dict())  # with these statistics, and an adapter's first weights
    return full, sampled


def _drawn_part(twin: _Twin, batch: dict[str, Any], epoch: int, step: int) -> dict[str, Any]:
    """Of a batch in all languages what the objective of a twin draws."""
    args, seed = twin.trainer.args, twin.trainer.data_collator.seed
    draws = [Draw(epoch, step, item) for item in batch["item_ids"].tolist()]
    codes = draw_languages(args.objective, args.languages, args.anchor_language, args.languages_per_step, seed, draws)
    rows = torch.tensor([[args.languages.index(code) for code in row] for row in codes])
    clips = torch.arange(len(draws))
    tokens = {name: batch[name][rows, clips] for name in ("input_ids", "attention_mask")}  # (k, N, tokens)
    return batch | tokens | {"languages": codes}


def _distance_of_distributions(full: _Twin, sampled: _Twin, counts: np.ndarray, epoch: int) -> float:
    """The data distribution error between the twins, over languages: both draw the same captions."""
    p, drawn = (epoch_shares(Sampling.from_arguments(twin.trainer.args), counts, epoch) for twin in (full, sampled))
    return float(np.abs(p / p.sum() - drawn / drawn.sum()).sum())


class _Probe:
    """The constants of the bound, estimated as the largest of what a run shows at some of its steps, evenly spread.

    Attributes:
        lipschitz: of the gradient, between the weights of the twins.
        largest_gradient: norm of the gradient of one pair's loss at the weights of the full twin.
    """

    def __init__(self, full: _Twin, sampled: _Twin, num_probes: int, num_pairs: int):
        self.full, self.sampled, self.num_pairs = full, sampled, num_pairs
        self.steps = set(np.linspace(0, full.num_steps - 1, num_probes).round().astype(int).tolist())
        self.lipschitz = self.largest_gradient = 0.0

    def measure(self, step: int, batch: dict[str, Any], seed: int) -> None:
        """At the weights as they are before a step with this batch and seed, if it is one of those."""
        if step not in self.steps:
            return
        distance = weight_distances(self.full.model, self.sampled.model)["total"]
        if distance > 0:
            gradients = []
            for twin in (self.full, self.sampled):
                twin.gradient(batch, seed, args=self.full.trainer.args)
                gradients.append([parameter.grad for parameter in twin.model.parameters()])
                twin.trainer.model.zero_grad()
            squares = (_squared(x, y) for x, y in zip(*gradients, strict=True) if x is not None)
            self.lipschitz = max(self.lipschitz, math.sqrt(sum(squares)) / distance)
        self.largest_gradient = max(self.largest_gradient, *self._pair_gradients(batch, seed))

    def _pair_gradients(self, batch: dict[str, Any], seed: int) -> list[float]:
        """Norms for some clips of the batch in one language, all chosen at random."""
        trainer = self.full.trainer
        _, num_clips, _ = batch["input_ids"].shape
        rng = random_stream(seed, PROBE)
        language = int(rng.integers(len(batch["input_ids"])))
        clips = rng.choice(num_clips, size=min(self.num_pairs, num_clips), replace=False).tolist()
        inputs = trainer._prepare_inputs(dict(batch))
        trainer.model.train()
        trainer._rest_frozen_text()
        torch.manual_seed(seed)
        with trainer.compute_loss_context_manager():
            outputs = trainer.model(
                input_features=inputs["input_features"],
                input_features_mask=inputs["input_features_mask"],
                **trainer._caption_inputs(inputs["input_ids"][language], inputs["attention_mask"][language]),
            )
        losses = pair_losses(
            outputs.audio_embeds, outputs.text_embeds, self.full.model.logit_scale.exp(), inputs["group_ids"]
        )
        parameters = [parameter for parameter in self.full.model.parameters() if parameter.requires_grad]
        norms = []
        for clip in clips:
            gradients = torch.autograd.grad(losses[clip], parameters, retain_graph=True, allow_unused=True)
            squares = (gradient.double().square().sum().item() for gradient in gradients if gradient is not None)
            norms.append(math.sqrt(sum(squares)))
        return norms


def pair_losses(audio_embeds: Tensor, text_embeds: Tensor, scale: Tensor, ids: Tensor) -> Tensor:
    """The terms `(N,)` of the pairs of a batch, whose mean is `info_nce_loss` of the same arguments."""
    logits = scale * audio_embeds.float() @ text_embeds.float().T
    targets = ids[:, None].eq(ids[None, :]).to(logits.dtype)
    targets = targets / targets.sum(dim=1, keepdim=True)
    return (
        F.cross_entropy(logits, targets, reduction="none") + F.cross_entropy(logits.T, targets, reduction="none")
    ) / 2
