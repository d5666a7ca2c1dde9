"""The Trainer that computes the ATRI objectives."""

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from transformers.trainer_utils import TrainOutput, unwrap_peft_model

from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, BadRow, BadRowError, BadRowLog, write_bad_rows
from modeling_atri.hub_cards.environment import describe_environment
from modeling_atri.hub_cards.results import (
    RESULTS_NAME,
    Results,
    TrainingFacts,
    merge_results,
    read_emissions,
    write_results,
)
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from .arguments import AtriTrainingArguments
from .data.batches import DrawnRows, EpochBatchSampler
from .data.collator import AtriDataCollator
from .data.draws import EXCERPT, random_stream
from .data.feature_cache import FeatureCache
from .data.text_cache import TextCache
from .evaluation.processes import embed_on_all_processes
from .evaluation.retrieval import RetrievalEmbeddings, RetrievalSet, leave_out_unreadable, retrieval_table
from .model.adapters import has_adapter, load_adapter_weights
from .model.mel_statistics import set_mel_statistics
from .model.parameters import is_frozen, parameter_groups, prepare_model
from .objectives import LossInputs, find_objective, objective_loss
from .publishing.pushing import PublishingTrainer
from .publishing.results import complete_results, evaluation_facts, model_facts, training_facts
from .run.checkpoints import full_disk_explained, remove_unfinished_saves, resolve_checkpoint
from .run.checks import check_best_metric, check_tokenizer, checked_rows, report_excerpts
from .run.engines import check_engine
from .run.progress import brief_callback
from .step.batch import BatchEncoder, exact_backward, joint_backward
from .step.distributed import average_gradients, batch_shard, told_by_main


if TYPE_CHECKING:
    from peft import PeftModel


# Arguments of `Trainer` that would have no effect here, or a wrong one.
_REFUSED = {
    "compute_metrics": "retrieval is measured over whole sets; use `evaluate`, or `embed` and metrics of your own",
    "compute_loss_func": "the loss is the `objective` of the arguments; override `compute_loss_from_embeddings` for "
    "another",
}


class _SetEpoch(TrainerCallback):
    """Passes the number of each epoch to the batch sampler, which Trainer cannot reach in a resumed run."""

    def __init__(self, set_epoch: Callable[[int], None]):
        self.set_epoch = set_epoch

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.set_epoch(int(state.epoch or 0))


class AtriTrainer(PublishingTrainer):
    """Trains an `AtriModel` with KCL, anchored KCL, CACL or ML-CLAP, and evaluates it in every language.

    Args:
        model (`AtriModel`): to train, as it is, with an adapter (`add_text_lora`), or in a `PeftModel`. If its mel
            statistics were never set (a model from scratch), they are taken from training clips once, before the
            first step.
        args (`AtriTrainingArguments`): objective, languages, and all that `TrainingArguments` knows.
        processor (`AtriProcessor`): of the model; saved with every checkpoint.
        train_dataset, eval_dataset (*optional*): rows with `audio`, `audio_id`, `captions` and optional `group_id`, as
            `load_rows` returns them; `eval_dataset` may be a dict of several. Faulty rows of a `datasets.Dataset` are
            reported together, before anything is trained; other sequences of rows are taken as they are. With
            `on_bad_row="skip"` they are left out, and so are clips whose faults only decoding shows: in training
            another clip, drawn for the clip and epoch, takes their place. The attribute `left_out` has, for each set
            (`"train"`, `"eval"`, of a dict `"eval_{name}"`), the list of what was left out beforehand: add there what
            `load_rows` left out, for results to count it.
        data_collator (*optional*): default: an `AtriDataCollator` made from the arguments.
        facts (`dict`, *optional*): what results and card are to say beside the figures and what the trainer knows,
            e.g. `{"data": {"train": "my clips"}, "model": {"initialized_from": "scratch"}}`; see
            `modeling_atri.hub_cards.results`.
        kwargs: further arguments of [`~transformers.Trainer`], but for `compute_metrics` and `compute_loss_func`.

    What an evaluation embeds is shown, on every process, to the functions in the attribute `embedding_listeners`: they
    take the prefix of its figures, the `RetrievalSet`, and its `RetrievalEmbeddings`.

    Raises:
        ValueError: faulty rows; arguments that do not fit, or that have no meaning here; a tokenizer without one of
            the languages or of another model; steps of one clip; an engine the exact step cannot work in; an adapter
            that could not be saved with all that is trained.
    """

    args: AtriTrainingArguments

    def __init__(
        self,
        model: "AtriModel | PeftModel",
        args: AtriTrainingArguments,
        processor: AtriProcessor,
        train_dataset: Sequence[dict] | None = None,
        eval_dataset: Sequence[dict] | None = None,
        data_collator: AtriDataCollator | None = None,
        facts: Results | None = None,
        **kwargs,
    ):
        for name, reason in _REFUSED.items():
            if kwargs.get(name) is not None:
                raise ValueError(f"AtriTrainer takes no `{name}`: {reason}.")
        if args.is_chunked and type(self).compute_loss is not AtriTrainer.compute_loss:
            raise ValueError(
                f"{type(self).__name__} overrides `compute_loss`, which encodes the whole batch at once: the chunk "
                "sizes would have no effect. Override `compute_loss_from_embeddings` instead, or leave out "
                "`audio_chunk_size` and `text_chunk_size`."
            )
        check_tokenizer(processor, unwrap_peft_model(model), args.languages)
        self.feature_cache = FeatureCache(processor.feature_extractor, args.feature_cache_dir)
        if data_collator is None:
            data_collator = AtriDataCollator(
                processor,
                args.language_draws,
                augmentation=args.augmentation,
                feature_cache=self.feature_cache,
                max_audio_seconds=args.max_audio_seconds,
            )
        self.left_out: dict[str, list[BadRow]] = {}
        train_dataset = checked_rows(train_dataset, args, "train", self.left_out)
        eval_dataset = checked_rows(eval_dataset, args, "eval", self.left_out)
        report_excerpts(train_dataset, args)
        self.bad_rows = BadRowLog(Path(args.output_dir) / f"train_{LEFT_OUT_NAME}", self.left_out["train"])
        self.processor = processor
        self.facts = dict(facts or {})
        self._measured: dict[str, tuple[TrainingFacts, Results]] = {}  # state of training and results, by prefix
        self.embedding_listeners: list[Callable[[str, RetrievalSet, RetrievalEmbeddings], None]] = []
        self._text_cache: TextCache | None = None
        prepare_model(model, args, is_trained=train_dataset is not None)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            **kwargs,
        )
        check_engine(self.args.n_gpu, self.accelerator)
        check_best_metric(self.args, self.eval_dataset)
        if train_dataset is not None:
            self._batch_sampler = self._epoch_batches()
        self.add_callback(_SetEpoch(lambda epoch: self._batch_sampler.set_epoch(epoch)))
        stock, brief = brief_callback(args.disable_tqdm)
        if self.pop_callback(stock) is not None:
            self.add_callback(brief)

    @property
    def _is_exact(self) -> bool:
        """Whether steps keep to one language's memory; a subclass's own loss may need more."""
        own = type(self)
        has_own_loss = (
            own.compute_loss is not AtriTrainer.compute_loss
            or own.compute_loss_from_embeddings is not AtriTrainer.compute_loss_from_embeddings
        )
        is_sum_of_pairs = find_objective(self.args.objective).pair_weights is not None
        return self.args.exact_step and is_sum_of_pairs and not has_own_loss

    @property
    def atri_model(self) -> AtriModel:
        """The model itself, without the wrappers of PEFT and of several processes."""
        return unwrap_peft_model(self.accelerator.unwrap_model(self.model))

    # Data

    def get_train_dataloader(self) -> DataLoader:
        """This process's batches, drawn by `EpochBatchSampler`; Accelerate must not shard them again."""
        if self.train_dataset is None:
            raise ValueError("Training needs a `train_dataset`.")
        args = self.args
        self._batch_sampler = self._epoch_batches()
        num_workers = args.dataloader_num_workers
        return DataLoader(
            DrawnRows(
                self.train_dataset, args.mix_probability, self.data_collator.seed, stand_ins=args.on_bad_row == "skip"
            ),
            batch_sampler=self._batch_sampler,
            collate_fn=self.data_collator,
            num_workers=num_workers,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=args.dataloader_persistent_workers and num_workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # Noted when the batch is trained on: what workers read ahead of the end of training does not count.
        self.bad_rows.add(inputs.pop("left_out", ()))
        return super()._prepare_inputs(inputs)

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
            base = unwrap_peft_model(self.accelerator.unwrap_model(model))
            groups = parameter_groups(base, self.args, set(self.get_decay_parameter_names(base)))
            self.optimizer = optimizer_class(groups, **options)
        return self.optimizer

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as [`~transformers.Trainer.train`] does, with mel statistics set first where the model has none.

        A run that is resumed goes on as if it had never stopped, bit for bit on a CPU: data, languages, captions,
        dropout, optimizer, logged losses. It warns of arguments, and of captions and clips, that are others than
        before.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*): a checkpoint, or True for the whole one that was
                saved last in `args.output_dir`.
            trial, ignore_keys_for_eval: the parent's.

        Raises:
            ValueError: there is no such checkpoint, it is damaged, or holds a model alone; the message says which is
                whole. It is of another model than this one. A clip that cannot be used, which only decoding shows; the
                message names its row.
            TrainingDivergedError: a loss or a weight is no finite number; a `ValueError`.
            SavingError: the disk is full, or refuses; an `OSError`. The last checkpoint is whole.
        """
        run_folder = Path(self.args.output_dir)
        checkpoint = told_by_main(lambda: resolve_checkpoint(resume_from_checkpoint, run_folder))
        if self.args.should_save:
            remove_unfinished_saves(run_folder)
        if self.train_dataset is not None:
            self._begin_run(checkpoint)
        if checkpoint is None:
            self._set_mel_statistics()
        self._measured.clear()  # steps are counted from the start again
        self.bad_rows.begin(self.is_world_process_zero(), resumed=checkpoint is not None)
        try:
            with full_disk_explained(run_folder):
                output = super().train(checkpoint, trial, ignore_keys_for_eval)
        except BadRowError as error:
            traceback.clear_frames(error.__traceback__)  # lets go of the workers, which end now
            sentence = str(error).rpartition(f"{BadRowError.__name__}: ")[2].strip()  # without a worker's stack
            advice = "Mend it or leave it out; with `on_bad_row='skip'` training goes around such clips."
            if self.args.on_bad_row == "skip":
                advice = "Mend them, or train on other recordings: training can only go around some."
            raise BadRowError(f"{sentence} {advice}") from None
        else:
            if self.is_world_process_zero():
                self.bad_rows.report()
            return output
        finally:
            if self._text_cache is not None:
                self._text_cache.close()
                self._text_cache = None

    def _set_mel_statistics(self) -> None:
        mel_norm = self.atri_model.audio_model.mel_norm
        if self.train_dataset is not None:
            part = (self.args.process_index, self.args.world_size)
            seed, seconds, skips = self.data_collator.seed, self.args.max_audio_seconds, self.args.on_bad_row == "skip"

            def read_features(audio: Any) -> Tensor:
                return self.feature_cache.excerpt(audio, seconds, random_stream(seed, EXCERPT))

            set_mel_statistics(mel_norm, self.train_dataset, read_features, seed, part, skips)
        self.data_collator.mask_level = mel_norm.running_mean.detach().cpu().float()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._has_own_adapter:
            load_adapter_weights(self.atri_model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._set_mel_statistics()

    def _load_best_model(self) -> None:
        if self._has_own_adapter:
            load_adapter_weights(self.atri_model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    @property
    def _has_own_adapter(self) -> bool:
        """An adapter inside an `AtriModel`: Trainer knows how to load only those of a `PeftModel`."""
        return has_adapter(self.atri_model) and self.accelerator.unwrap_model(self.model) is self.atri_model

    # Steps

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward of a batch: language by language, in chunks, both, or all at once."""
        if not (self._is_exact or self.args.is_chunked):
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        self._rest_frozen_text()
        if self.optimizer is not None:
            self.optimizer.train()  # what is said to a schedule-free one before every step
        inputs = self._prepare_inputs(inputs)
        # Several backward passes a step would each start DDP's reduction: gradients are averaged once, at the end.
        with self.accelerator.no_sync(model):
            loss = self._backward_in_parts(model, inputs)
        if self.accelerator.sync_gradients and self.args.world_size > 1:
            average_gradients(model.parameters())
        return loss

    def _backward_in_parts(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Accumulate the gradient of a batch, language by language or in chunks; returns the loss, detached."""
        args, goes_by_language = self.args, self._is_exact and self.args.ranking_weight == 0
        num_languages, num_clips, _ = inputs["input_ids"].shape
        text_chunk_size = args.text_chunk_size
        if self._is_exact and not goes_by_language:  # all languages together, in the memory of one
            text_chunk_size = min(text_chunk_size or num_clips, num_clips)
        encoder = BatchEncoder(model, self.atri_model, self._caption_inputs, args.audio_chunk_size, text_chunk_size)
        backward, num_batches = self.accelerator.backward, self.current_gradient_accumulation_steps
        if not goes_by_language:
            return joint_backward(encoder, inputs, self.compute_loss_from_embeddings, backward, num_batches)
        anchor = args.language_draws.anchor_row(inputs["languages"])
        weights = find_objective(args.objective).weigh(num_languages, anchor, len(args.languages), args.loss_options)
        return exact_backward(encoder, inputs, weights, anchor, backward, num_batches)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss with the whole batch, in all languages, encoded at once."""
        self._rest_frozen_text()
        num_languages, num_clips, _ = inputs["input_ids"].shape
        outputs = model(
            input_features=inputs["input_features"],
            input_features_mask=inputs["input_features_mask"],
            **self._caption_inputs(inputs["input_ids"].flatten(0, 1), inputs["attention_mask"].flatten(0, 1)),
        )
        text_embeds = outputs.text_embeds.view(num_languages, num_clips, -1)
        loss = self.compute_loss_from_embeddings(outputs.audio_embeds, text_embeds, inputs)
        return (loss, outputs) if return_outputs else loss

    def compute_loss_from_embeddings(
        self, audio_embeds: Tensor, text_embeds: Tensor, inputs: dict[str, Any]
    ) -> Tensor:
        """The objective, of embeddings alone; override it for a loss of your own.

        A loss of your own needs all embeddings together, so its step never goes language by language; with
        `audio_chunk_size` and `text_chunk_size` it trains in the memory of one chunk all the same. `ranking_weight`
        belongs to the objective that it replaces: add `ranking_divergence` yourself.

        Args:
            audio_embeds (`torch.Tensor` of shape `(N, D)`): of this process's clips, L2-normalised.
            text_embeds (`torch.Tensor` of shape `(K, N, D)`): of their captions, L2-normalised; which languages the K
                rows hold says `inputs["languages"]`.
            inputs (`dict`): the batch, as the collator made it.

        Returns:
            `torch.Tensor` of shape `()`. Its mean over the processes is what is trained.
        """
        args = self.args
        others = LossInputs(
            scale=self.atri_model.logit_scale.exp(),
            ids=inputs["group_ids"],
            shard=batch_shard(len(audio_embeds), audio_embeds.device),
            anchor=args.language_draws.anchor_row(inputs["languages"]),
            num_languages=len(args.languages),
            options=args.loss_options,
        )
        return objective_loss(args.objective, audio_embeds, text_embeds, others, args.ranking_weight)

    def _rest_frozen_text(self) -> None:
        """Without dropout a frozen tower says of a caption always the same, whether it is asked or its cache is."""
        text_model = self.atri_model.text_model
        if text_model.training and is_frozen(text_model):
            text_model.eval()

    def _caption_inputs(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """What the model takes of captions, `(n, tokens)`: their tokens, or what the cache knows of them."""
        if self.args.text_cache_dir is None:
            return _trimmed(input_ids, attention_mask)
        if self._text_cache is None:
            self._text_cache = TextCache(self.atri_model, self.args.text_cache_dir)
        return {"text_pooler_output": self._text_cache(input_ids, attention_mask, self._train_batch_size)}

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
        rows, left_out = self._eval_rows(eval_dataset)
        results = self.measure(rows, metric_key_prefix, left_out)
        if self.is_world_process_zero():
            write_results(results, Path(self.args.output_dir) / f"{metric_key_prefix}_{RESULTS_NAME}")
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in results["metrics"].items()}
        metrics[f"{metric_key_prefix}_runtime"] = round(time.time() - start, 4)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _eval_rows(self, given: Any) -> tuple[Sequence[dict], list[BadRow]]:
        """The rows of a set, and what was left out of it when it was checked."""
        if given is None and self.eval_dataset is None:
            raise ValueError("Evaluation needs an `eval_dataset`.")
        if given is None:
            return self.eval_dataset, self.left_out["eval"]
        if not isinstance(given, str):
            left_out: dict[str, list[BadRow]] = {}
            return checked_rows(given, self.args, "given", left_out), left_out["given"]
        if not isinstance(self.eval_dataset, dict) or given not in self.eval_dataset:
            names = ", ".join(self.eval_dataset) if isinstance(self.eval_dataset, dict) else "no named sets"
            raise ValueError(f"There is no evaluation set {given!r}; `eval_dataset` has {names}.")
        return self.eval_dataset[given], self.left_out[f"eval_{given}"]

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
        """Embed a set, for figures of your own. All processes share the work, and each gets all embeddings.

        Raises:
            ValueError: A language that the tokenizer lacks, or a clip that cannot be read.
        """
        return self._embed(retrieval_set)

    def _embed(self, retrieval_set: RetrievalSet, skip_unreadable: bool = False) -> RetrievalEmbeddings:
        return embed_on_all_processes(
            self.atri_model,
            self.processor,
            retrieval_set,
            self.args.process_index,
            self.args.world_size,
            batch_size=self.args.per_device_eval_batch_size,
            read_features=self.feature_cache,
            progress=not self.args.disable_tqdm and self.is_world_process_zero(),
            skip_unreadable=skip_unreadable,
        )

    # Results

    def measure(self, rows: Sequence[dict], prefix: str = "eval", left_out: Sequence[BadRow] = ()) -> Results:
        """Evaluate the model as it is now, and record how the figures were made.

        Args:
            rows (sequence of `dict`): Checked rows to evaluate on.
            prefix (`str`, *optional*, defaults to `"eval"`): Name of the set. The output folder's
                `{prefix}_left_out.jsonl` lists the rows that could not be used.
            left_out (sequence of `BadRow`, *optional*): Rows that were left out before. With `on_bad_row="skip"`,
                clips that cannot be read are added to them.

        Returns:
            [`~modeling_atri.hub_cards.results.Results`] on every process.

        Raises:
            ValueError: A clip cannot be read; with `on_bad_row="skip"`, no clip can be read.
        """
        retrieval_set = RetrievalSet.from_rows(rows, self.args.languages)
        embeddings = self._embed(retrieval_set, skip_unreadable=self.args.on_bad_row == "skip")
        retrieval_set, embeddings, unreadable = leave_out_unreadable(retrieval_set, embeddings)
        for listener in self.embedding_listeners:
            listener(prefix, retrieval_set, embeddings)
        left_out = [*left_out, *unreadable]
        if self.is_world_process_zero():
            write_bad_rows(Path(self.args.output_dir) / f"{prefix}_{LEFT_OUT_NAME}", left_out)
        anchor, training = self.args.anchor_language, self.training_facts()
        known: Results = {
            "metrics": retrieval_table(embeddings, retrieval_set.positives, anchor),
            "evaluated_on": evaluation_facts(retrieval_set, anchor, left_out),
            "model": model_facts(self.accelerator.unwrap_model(self.model)),
            "training": training,
            "environment": describe_environment(self.args.device),
        }
        results = merge_results(known, self.facts)
        self._measured[prefix] = training, results
        return results

    def results(self, evaluate: bool = False) -> Results:
        """Results of the model as it is now. They have figures only if no step was made since an evaluation.

        Args:
            evaluate (`bool`, *optional*, defaults to `False`): Evaluate the model on `eval_dataset`, which must be a
                single set, if there are no figures. All processes must call the method.
        """
        training = self.training_facts()
        results = next((results for state, results in self._measured.values() if state == training), None)
        if results is None and evaluate:
            results = self.measure(self.eval_dataset, left_out=self.left_out["eval"])
        if results is None:
            known: Results = {"training": training, "environment": describe_environment(self.args.device)}
            results = merge_results(known, self.facts)
        return complete_results(
            results,
            self.accelerator.unwrap_model(self.model),
            self.facts.get("model", {}),
            self.state.log_history,
            # Without the tracker, the folder may hold the measurement of an earlier run.
            read_emissions(self.args.output_dir) if "codecarbon" in self.args.report_to else None,
        )

    def training_facts(self) -> TrainingFacts:
        """How far training has come, and the arguments that shape its outcome."""
        return training_facts(
            self.args,
            self.state,
            train_batch_size=self._train_batch_size,
            num_train_clips=None if self.train_dataset is None else len(self.train_dataset),
            left_out=self.bad_rows.rows(),
            patch_dropout=self.atri_model.audio_model.config.patch_dropout,
            data_seed=self.data_collator.seed,
            best_is_loaded=self.args.load_best_model_at_end and not self.is_in_train,
        )

    # Saving

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._text_cache is not None:
            # Saved too, because rounding in a caption's states depends on the captions it was encoded with.
            self._text_cache.flush()
        super()._save_checkpoint(model, trial)


def _trimmed(input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    """One language's captions without the columns that only longer captions of other languages need."""
    used = attention_mask.any(dim=0)
    return {"input_ids": input_ids[:, used], "attention_mask": attention_mask[:, used]}
