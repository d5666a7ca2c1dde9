"""The Trainer that computes the ATRI objectives."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import DistributedType
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from .arguments import AtriTrainingArguments, figure_names
from .data.collator import AtriDataCollator
from .data.feature_cache import FeatureCache
from .data.rows import load_rows
from .data.sampling import MEL_STATISTICS, DrawnRows, EpochBatchSampler, random_stream
from .distributed import average_gradients, batch_shard
from .evaluation import RetrievalEmbeddings, RetrievalSet, embed_retrieval_set, retrieval_table
from .exact_step import language_by_language_backward
from .losses import akcl_loss, akcl_weights, cacl_loss, kcl_loss, mlclap_loss
from .progress import brief_callback
from .results import RESULTS_NAME, describe_environment, make_results, save_json


logger = logging.getLogger(__name__)

_MEL_CLIPS = 1000  # clips that mel statistics are taken from

# Arguments of `Trainer` that would have no effect here, or a wrong one.
_REFUSED = {
    "compute_metrics": "retrieval is measured over whole sets; use `evaluate`, or `embed` and metrics of your own",
    "compute_loss_func": "the loss is the `objective` of the arguments; override `compute_loss` for another",
}


class _SetEpoch(TrainerCallback):
    """Tells the batch sampler which epoch begins; a resumed loader wraps it out of Trainer's reach."""

    def __init__(self, trainer: "AtriTrainer"):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.trainer._batch_sampler.set_epoch(int(state.epoch or 0))


class AtriTrainer(Trainer):
    """Trains an `AtriModel` with KCL, anchored KCL, CACL or ML-CLAP, and evaluates it in every language.

    Args:
        model (`AtriModel`): to train. If its mel statistics were never set (a model from scratch), they are taken from
            training clips once, before the first step.
        args (`AtriTrainingArguments`): objective, languages, and all that `TrainingArguments` knows.
        processor (`AtriProcessor`): of the model; saved with every checkpoint.
        train_dataset, eval_dataset (*optional*): rows with `audio`, `audio_id`, `captions` and optional `group_id`, as
            `load_rows` returns them; `eval_dataset` may be a dict of several. Faulty rows of a `datasets.Dataset` are
            reported together, before anything is trained; other sequences of rows are taken as they are.
        data_collator (*optional*): default: an `AtriDataCollator` made from the arguments.
        facts (`dict`, *optional*): what is to stand in the results file beside the figures, e.g. `{"data": {...}}`.
        kwargs: further arguments of [`~transformers.Trainer`], but for `compute_metrics` and `compute_loss_func`.

    Raises:
        ValueError: faulty rows; arguments that do not fit, or that have no meaning here; a tokenizer without one of
            the languages or of another model; steps of one clip; an engine the exact step cannot work in.
    """

    args: AtriTrainingArguments

    def __init__(
        self,
        model: AtriModel,
        args: AtriTrainingArguments,
        processor: AtriProcessor,
        train_dataset: Sequence[dict] | None = None,
        eval_dataset: Sequence[dict] | None = None,
        data_collator: AtriDataCollator | None = None,
        facts: dict[str, Any] | None = None,
        **kwargs,
    ):
        for name, reason in _REFUSED.items():
            if kwargs.get(name) is not None:
                raise ValueError(f"AtriTrainer takes no `{name}`: {reason}.")
        _check_tokenizer(processor, model, args.languages)
        self.feature_cache = FeatureCache(processor.feature_extractor, args.feature_cache_dir)
        if data_collator is None:
            data_collator = AtriDataCollator(
                processor,
                languages=args.languages,
                objective=args.objective,
                anchor_language=args.anchor_language,
                languages_per_step=args.languages_per_step,
                caption_choice=args.caption_choice,
                augmentation=args.augmentation,
                feature_cache=self.feature_cache,
                seed=args.seed if args.data_seed is None else args.data_seed,
            )
        train_dataset = self._checked(train_dataset, args)
        eval_dataset = self._checked(eval_dataset, args)
        self.processor = processor
        self.facts = dict(facts or {})
        freeze(model, audio=args.freeze_audio, text=args.freeze_text)
        if args.patch_dropout is not None:
            model.audio_model.config.patch_dropout = args.patch_dropout
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            **kwargs,
        )
        self._check_engine()
        self._check_best_metric()
        if train_dataset is not None:
            self._batch_sampler = self._epoch_batches()
        self.add_callback(_SetEpoch(self))
        stock, brief = brief_callback(args.disable_tqdm)
        if self.pop_callback(stock) is not None:
            self.add_callback(brief)

    @staticmethod
    def _checked(rows: Any, args: AtriTrainingArguments) -> Any:
        if isinstance(rows, dict):
            return {name: AtriTrainer._checked(part, args) for name, part in rows.items()}
        if isinstance(rows, datasets.Dataset):
            return load_rows(rows, languages=args.languages, group_column=args.group_column)
        if rows is not None and args.group_column is not None:
            raise ValueError(
                f"`group_column` ({args.group_column!r}) is read from a `datasets.Dataset`; a {type(rows).__name__} "
                "of rows says it as `group_id`. Leave `group_column` out, or pass a `datasets.Dataset`."
            )
        return rows

    def _check_engine(self) -> None:
        if self.args.n_gpu > 1:
            raise ValueError(
                "DataParallel splits a batch after its negatives were counted, so the loss would be wrong. Start one "
                "process a GPU (accelerate launch or torchrun), or make one GPU visible (CUDA_VISIBLE_DEVICES=0)."
            )
        supported = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
        if self.accelerator.distributed_type not in supported:
            raise ValueError(
                "The losses read the logit scale beside the model's forward pass, and the language-by-language step "
                f"sums gradients itself: neither works under {self.accelerator.distributed_type.value}. Use one "
                "process or plain data parallel processes (torchrun)."
            )

    def _check_best_metric(self) -> None:
        metric = self.args.metric_for_best_model
        if metric is None or self.eval_dataset is None:
            return
        known, sets = figure_names(self.args.languages), "one set without a name"
        if isinstance(self.eval_dataset, dict):
            known = [f"{name}_{figure}" for name in self.eval_dataset for figure in known]
            sets = f"the sets {', '.join(self.eval_dataset)}"
        name = metric.removeprefix("eval_")
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            raise ValueError(
                f"`metric_for_best_model` {metric!r} is no figure of `eval_dataset`, which has {sets}. Name one that "
                f"is, such as {' '.join(near)}."
            )

    @property
    def _is_exact(self) -> bool:
        return self.args.exact_step and self.args.objective in ("kcl", "akcl")

    # Data

    def get_train_dataloader(self) -> DataLoader:
        """This process's batches, drawn by `EpochBatchSampler`; Accelerate must not shard them again."""
        if self.train_dataset is None:
            raise ValueError("Training needs a `train_dataset`.")
        args = self.args
        self._batch_sampler = self._epoch_batches()
        num_workers = args.dataloader_num_workers
        return DataLoader(
            DrawnRows(self.train_dataset, args.mix_probability, self.data_collator.seed),
            batch_sampler=self._batch_sampler,
            collate_fn=self.data_collator,
            num_workers=num_workers,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=args.dataloader_persistent_workers and num_workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def _epoch_batches(self) -> EpochBatchSampler:
        return EpochBatchSampler(
            len(self.train_dataset),
            self._train_batch_size,
            seed=self.data_collator.seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            drop_last=self.args.dataloader_drop_last,
        )

    # Parameters

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of the arguments, with a learning rate for each tower and for the heads."""
        if self.optimizer is None:
            model = self.model if model is None else model
            given = self.optimizer_cls_and_kwargs
            optimizer_class, options = given or self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(self._parameter_groups(model), **options)
        return self.optimizer

    def _parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        decayed = set(self.get_decay_parameter_names(model)) - {"logit_scale"}
        rates = {
            "audio_model.": self.args.audio_learning_rate,
            "text_model.": self.args.text_learning_rate,
            "": self.args.head_learning_rate,
        }
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                part = next(prefix for prefix in rates if name.removeprefix("module.").startswith(prefix))
                groups.setdefault((part, name in decayed), []).append(parameter)
        return [
            {
                "params": parameters,
                "weight_decay": self.args.weight_decay if decays else 0.0,
                "lr": self.args.learning_rate if rates[part] is None else rates[part],
            }
            for (part, decays), parameters in groups.items()
        ]

    def train(self, *args, **kwargs):
        """Train as [`~transformers.Trainer.train`] does, with mel statistics set first where the model has none."""
        self._set_mel_statistics()
        self.data_collator.mask_level = self.model.audio_model.mel_norm.running_mean.detach().cpu().float()
        return super().train(*args, **kwargs)

    def _set_mel_statistics(self) -> None:
        """Mean and variance of each mel bin over the frames of training clips, the same on all processes."""
        mel_norm = self.model.audio_model.mel_norm
        if mel_norm.is_set or self.train_dataset is None:
            return
        num_clips = min(_MEL_CLIPS, len(self.train_dataset))
        rng = random_stream(self.data_collator.seed, MEL_STATISTICS)
        chosen = rng.choice(len(self.train_dataset), size=num_clips, replace=False)
        own = chosen[self.args.process_index :: self.args.world_size]
        sums = torch.zeros(3, mel_norm.running_mean.numel(), dtype=torch.float64)
        for index in own:
            features = self.feature_cache(self.train_dataset[int(index)]["audio"]).double()
            sums += torch.stack(
                [features.sum(0), features.square().sum(0), torch.full_like(features[0], len(features))]
            )
        if self.args.world_size > 1:
            sums = torch.stack(gather_object([sums])).sum(0)
        mean = sums[0] / sums[2]
        mel_norm.set_statistics(mean, (sums[1] / sums[2] - mean.square()).clamp(min=1e-6))
        logger.info("Set the mel statistics of a model from scratch from %d training clips.", num_clips)

    # Steps

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass; KCL and anchored KCL go language by language."""
        if not self._is_exact:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        inputs = self._prepare_inputs(inputs)
        # Several backward passes a step would each start DDP's reduction: gradients are averaged once, at the end.
        with self.accelerator.no_sync(model):
            loss = self._exact_backward(model, inputs)
        if self.accelerator.sync_gradients and self.args.world_size > 1:
            average_gradients(model.parameters())
        return loss

    def _exact_backward(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        num_languages, num_clips, _ = inputs["input_ids"].shape
        shard = batch_shard(num_clips, inputs["input_ids"].device)
        anchor = self._anchor_row(inputs)
        if anchor is None:
            weights = [(1 / num_languages, 0.0)] * num_languages
        else:
            weights = akcl_weights(num_languages, anchor, self.args.akcl_weight, len(self.args.languages))

        def encode_audio() -> Tensor:
            outputs = model(input_features=inputs["input_features"], input_features_mask=inputs["input_features_mask"])
            return outputs.audio_embeds

        def encode_captions(k: int) -> Tensor:
            return model(**_trimmed(inputs["input_ids"][k], inputs["attention_mask"][k])).text_embeds

        def pair_loss(x: Tensor, y: Tensor) -> Tensor:
            loss = info_nce_loss(x, y, self._logit_scale(model), inputs["group_ids"], shard)
            return loss / self.current_gradient_accumulation_steps

        return language_by_language_backward(
            encode_audio, encode_captions, pair_loss, weights, self.accelerator.backward, anchor
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The objective with all languages of the batch encoded at once."""
        num_languages, num_clips, num_tokens = inputs["input_ids"].shape
        outputs = model(
            input_features=inputs["input_features"],
            input_features_mask=inputs["input_features_mask"],
            input_ids=inputs["input_ids"].view(-1, num_tokens),
            attention_mask=inputs["attention_mask"].view(-1, num_tokens),
        )
        audio = outputs.audio_embeds
        text = outputs.text_embeds.view(num_languages, num_clips, -1)
        shard = batch_shard(num_clips, audio.device)
        scale, ids = self._logit_scale(model), inputs["group_ids"]
        if self.args.objective == "kcl":
            loss = kcl_loss(audio, text, scale, ids, shard)
        elif self.args.objective == "akcl":
            total = len(self.args.languages)
            loss = akcl_loss(audio, text, scale, ids, self._anchor_row(inputs), self.args.akcl_weight, total, shard)
        elif self.args.objective == "cacl":
            loss = cacl_loss(audio, text[0], text[1], scale, ids, shard)
        else:
            loss = mlclap_loss(audio, text[0], scale, ids, self.args.embed_regularization, shard)
        return (loss, outputs) if return_outputs else loss

    def _logit_scale(self, model: nn.Module) -> Tensor:
        return self.accelerator.unwrap_model(model).logit_scale.exp()

    def _anchor_row(self, inputs: dict[str, Any]) -> int | None:
        """Row of the anchor language among the languages of the batch; None where the objective has no anchor."""
        if self.args.objective != "akcl":
            return None
        return [row[0] for row in inputs["languages"]].index(self.args.anchor_language)

    # Evaluation

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Retrieval in every language and consistency between them; each clip and caption is encoded once.

        Args:
            eval_dataset (*optional*): rows, a dict of them, or the name of one of the trainer's sets; default: all of
                the trainer's.
            ignore_keys: not used; the parent's.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): before every key.

        Returns:
            `{prefix}_{language}_{metric}` and `{prefix}_mean_{metric}` for the metrics of `retrieval_metrics`, and
            `{prefix}_mrv`, `{prefix}_mean_rank_std`, `{prefix}_embedding_gap`, `{prefix}_embedding_distance`. They are
            logged, and written with all that made them to `{output_dir}/{prefix}_atri_results.json`. Of several sets,
            the prefix is `{prefix}_{name of the set}`.

        Raises:
            ValueError: nothing to evaluate on; faulty rows; a name that no set has.
        """
        sets = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(sets, dict):
            # The trainer's own sets were checked, and their groups read: they go by their names.
            given = {name: name for name in sets} if eval_dataset is None else sets
            parts = [self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}") for name, part in given.items()]
            return {key: value for part in parts for key, value in part.items()}
        start = time.time()
        rows = self._eval_rows(eval_dataset)
        retrieval_set = RetrievalSet.from_rows(rows, self.args.languages)
        embeddings = self.embed(retrieval_set)
        table = retrieval_table(embeddings, retrieval_set.positives, self.args.anchor_language)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in table.items()}
        self._save_results(table, retrieval_set, metric_key_prefix)
        metrics[f"{metric_key_prefix}_runtime"] = round(time.time() - start, 4)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _eval_rows(self, given: Any) -> Sequence[dict]:
        if given is None and self.eval_dataset is None:
            raise ValueError("Evaluation needs an `eval_dataset`.")
        if given is None:
            return self.eval_dataset
        if not isinstance(given, str):
            return self._checked(given, self.args)
        if not isinstance(self.eval_dataset, dict) or given not in self.eval_dataset:
            names = ", ".join(self.eval_dataset) if isinstance(self.eval_dataset, dict) else "no named sets"
            raise ValueError(f"There is no evaluation set {given!r}; `eval_dataset` has {names}.")
        return self.eval_dataset[given]

    def predict(self, *args, **kwargs) -> None:
        """Refused: clips and captions have no logits.

        Raises:
            ValueError: always; it says what to use.
        """
        raise ValueError(
            "AtriTrainer has no `predict`: clips and captions have no logits. For figures use "
            "`evaluate(rows, metric_key_prefix='test')`, for embeddings `encode_audio` and `encode_text` of "
            "`modeling_atri.encode`."
        )

    def embed(self, retrieval_set: RetrievalSet) -> RetrievalEmbeddings:
        """Embeddings of a set, the work shared by all processes; all get the whole."""
        rank, world_size = self.args.process_index, self.args.world_size
        own = embed_retrieval_set(
            self.accelerator.unwrap_model(self.model),
            self.processor,
            retrieval_set,
            batch_size=self.args.per_device_eval_batch_size,
            read_features=self.feature_cache,
            progress=not self.args.disable_tqdm and self.is_world_process_zero(),
            part=(rank, world_size),
        )
        if world_size == 1:
            return own
        parts = gather_object([own])
        return RetrievalEmbeddings(
            audio=_interleave([part.audio for part in parts]),
            text={language: _interleave([part.text[language] for part in parts]) for language in own.text},
        )

    def _save_results(self, table: dict[str, float], retrieval_set: RetrievalSet, prefix: str) -> None:
        if self.is_world_process_zero():
            save_json(
                self.describe_results(table, retrieval_set), Path(self.args.output_dir) / f"{prefix}_{RESULTS_NAME}"
            )

    def describe_results(self, table: dict[str, float], retrieval_set: RetrievalSet) -> dict[str, Any]:
        """Figures with the data, the training and the environment behind them."""
        languages = list(retrieval_set.captions)
        anchor = self.args.anchor_language
        evaluated = {
            "num_clips": len(retrieval_set.audios),
            "num_captions_per_language": len(retrieval_set.positives),
            "languages": languages,
            "anchor_language": anchor if anchor in languages else languages[0],  # as `retrieval_table` takes it
        }
        model = {
            "num_parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "initialized_from": self.model.config._name_or_path or "scratch",
        }
        facts = {"evaluated_on": evaluated, "model": model, "training": self._training_facts()} | self.facts
        return make_results(table, **facts, environment=describe_environment(self.args.device))

    def _training_facts(self) -> dict[str, Any]:
        args = self.args
        return {
            "objective": args.objective,
            "anchor_language": args.anchor_language if args.objective in ("akcl", "cacl") else None,
            "akcl_weight": args.akcl_weight if args.objective == "akcl" else None,
            "languages": args.languages,
            "languages_per_step": args.languages_per_step,
            "caption_choice": args.caption_choice,
            "frozen": [tower for tower in ("audio", "text") if getattr(args, f"freeze_{tower}")],
            "num_train_clips": None if self.train_dataset is None else len(self.train_dataset),
            "steps": self.state.global_step,
            "best_step": self.state.best_global_step if args.load_best_model_at_end and not self.is_in_train else None,
            "epochs": self.state.epoch,
            "batch_size": self._train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "processes": args.world_size,
            "learning_rate": args.learning_rate,
            **{f"{part}_learning_rate": getattr(args, f"{part}_learning_rate") for part in ("audio", "text", "head")},
            "lr_scheduler_type": args.lr_scheduler_type.value,
            "weight_decay": args.weight_decay,
            "mix_probability": args.mix_probability,
            "augmentation": None if args.augmentation is None else asdict(args.augmentation),
            "patch_dropout": self.model.audio_model.config.patch_dropout,
            "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            "seed": args.seed,
            "data_seed": self.data_collator.seed,
        }


def freeze(model: AtriModel, audio: bool = False, text: bool = False) -> None:
    """Freeze towers; the projections and the logit scale stay as they are, and so does what the caller froze."""
    if audio:
        model.audio_model.requires_grad_(False)
    if text:
        model.text_model.requires_grad_(False)


def _check_tokenizer(processor: AtriProcessor, model: AtriModel, languages: Sequence[str]) -> None:
    for language in languages:
        processor.language_id(language)  # raises where there is none
    num_tokens, num_rows = len(processor.tokenizer), model.get_input_embeddings().num_embeddings
    if num_tokens > num_rows:
        raise ValueError(
            f"The tokenizer has {num_tokens} tokens, the model embeddings for only {num_rows}: they do not belong "
            "together. Use the processor that was saved with the model."
        )


def _trimmed(input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    """One language's captions without the columns that only longer captions of other languages need."""
    used = attention_mask.any(dim=0)
    return {"input_ids": input_ids[:, used], "attention_mask": attention_mask[:, used]}


def _interleave(parts: list[np.ndarray]) -> np.ndarray:
    """Undo `rows[rank::world_size]`."""
    whole = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
