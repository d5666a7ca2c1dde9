"""The Trainer of the ATRI objectives."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import BestRun, TrainOutput, unwrap_peft_model

from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, BadRow, BadRowLog
from modeling_atri.hub_cards.results import Results, TeacherFacts
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processes import told_by_main
from modeling_atri.processing_atri import AtriProcessor

from .arguments import AtriTrainingArguments
from .checks.embeddings import check_sounds, refuse_options_of_sounds
from .checks.engines import check_engine
from .checks.given import check_given, check_overrides, checked_arguments, one_processor
from .checks.optimizers import check_optimizer
from .checks.rows import check_best_metric, check_tokenizer, checked_rows, report_captions, report_excerpts
from .checks.sharding import check_sharded_run
from .data.batches import DrawnRows, EpochBatchSampler
from .data.collator import AtriDataCollator
from .data.draws import EXCERPT, random_stream
from .data.feature_cache import FeatureCache
from .data.streams.batches import StreamBatches
from .data.streams.loading import handed_rows, stream_batches
from .data.streams.training_stream import TrainingStream
from .data.text_cache import TextCache
from .evaluation.evaluating import EvaluatingTrainer
from .model.adapters import has_adapter, is_frozen, load_adapter_weights
from .model.mel_statistics import set_mel_statistics
from .model.parameters import fit_state_shapes, leaves_out_layers, parameter_groups, prepare_model
from .objectives import LossInputs, find_objective, objective_loss
from .run.bad_rows import bad_row_explained
from .run.checkpoints import full_disk_explained, remove_unfinished_saves, resolve_checkpoint
from .run.divergence import TrainingDivergedError
from .run.manifest import read_manifest
from .run.progress import brief_callback
from .run.search import callback_attributes, check_search, default_objective, trial_arguments
from .step.batch import BatchEncoder, exact_backward, joint_backward, language_targets
from .step.distributed import average_gradients, batch_shard, rows_of_processes
from .step.sharded import is_sharded, mixed_precision_call, whole_parameter
from .teach.preparing import TeachingData, TeachingPreparation, column_teacher, teaching_of_stream
from .teach.teachers import Teacher


if TYPE_CHECKING:
    from peft import PeftModel


SOUND_INPUTS = ("input_features", "input_features_mask", "audio_embeds")  # inputs of the model


class _SetEpoch(TrainerCallback):
    """Passes the number of each epoch to the batch sampler, which Trainer cannot reach in a resumed run."""

    def __init__(self, set_epoch: Callable[[int], None]):
        self.set_epoch = set_epoch

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.set_epoch(int(state.epoch or 0))


class AtriTrainer(EvaluatingTrainer):
    """Trains an [`AtriModel`] with KCL, anchored KCL, CACL, ML-CLAP or a teacher, and evaluates it in every language.

    The class adds data, optimizer and steps to its base classes: [`ResumableTrainer`] (checkpoints),
    [`PublishingTrainer`] (cards and pushes) and [`EvaluatingTrainer`] (evaluation and results).

    Args:
        model ([`AtriModel`] or `PeftModel`, *optional*): Model to train, which may have an adapter (`add_text_lora`).
            If it has no mel statistics yet (a model from scratch), they are computed from training clips before the
            first step.
        args ([`AtriTrainingArguments`]): Arguments of the run.
        processor ([`AtriProcessor`]): Processor of the model, which is saved with every checkpoint. It may also be
            given as `processing_class`, its name in [`~transformers.Trainer`].
        train_dataset (*optional*): Rows with `audio`, `audio_id`, `captions` and optional `group_id`, as `load_rows`
            returns them, or rows of any kind that it takes, such as a list of dicts. They may have `audio_embedding`
            instead of `audio`. They are checked first, and faulty rows are reported together. With
            `on_bad_row="skip"`, faulty rows are left out, and a clip that cannot be decoded is replaced by another
            clip, drawn for the clip and epoch. For the objective `teach`, rows may have neither, and
            `teacher_embedding`. It may also be a stream: a `datasets.IterableDataset`, or what `open_stream` or
            `open_streams` of `modeling_atri.corpora.streams` returns, whose rows are checked when they are read. If
            its number of rows is not known, `max_steps` is needed.
        eval_dataset (*optional*): The same for evaluation, or a dict of several sets. The rows of a stream, whose
            number must be known, are copied to a temporary file.
        data_collator (*optional*): A function of a list of rows that returns a batch as [`AtriDataCollator`] does.
            Default: an [`AtriDataCollator`] made from the arguments.
        facts ([`~modeling_atri.hub_cards.results.Results`], *optional*): Further facts for results and card, e.g.
            `{"data": {"train": "my clips"}, "model": {"initialized_from": "scratch"}}`.
        model_init (callable, *optional*): In place of `model`, a function that returns a new model, without an
            argument or with the trial of a search (None outside of one). It is called when the trainer is made, and
            at the beginning of every training, after the random generators were seeded.
        teacher ([`~trainer.teach.teachers.Teacher`], *optional*): Teacher of the objective `teach`, instead of the
            arguments' `teacher`, for example one that was loaded with `trust_remote_code`.
        kwargs: Further arguments of [`~transformers.Trainer`], except `compute_metrics`, `compute_loss_func` and
            `preprocess_logits_for_metrics`.

    Attributes:
        left_out (`dict[str, list[BadRow]]`): Rows that were left out of each set before training, by its name:
            `"train"`, `"eval"`, or `"eval_{name}"` for a dict of sets. Add the rows that `load_rows` left out, so that
            results count them.
        embedding_listeners (`list`): Functions that are called on every process with the embeddings of each
            evaluation. They take the prefix of its figures, the [`RetrievalSet`] and the [`RetrievalEmbeddings`].

    Raises:
        ValueError: Rows are faulty, arguments do not fit or have no meaning here, the tokenizer lacks a language or
            belongs to another model, a step has a single clip, the exact step does not work with the distributed
            engine, or an adapter could not be saved with all that is trained.
    """

    def __init__(
        self,
        model: "AtriModel | PeftModel | None" = None,
        args: AtriTrainingArguments | None = None,
        processor: AtriProcessor | None = None,
        train_dataset: Sequence[dict] | None = None,
        eval_dataset: Sequence[dict] | None = None,
        data_collator: Callable[[Sequence[dict]], dict[str, Any]] | None = None,
        facts: Results | None = None,
        model_init: Callable[..., "AtriModel | PeftModel"] | None = None,
        teacher: Teacher | None = None,
        **kwargs,
    ):
        processor = one_processor(processor, kwargs.pop("processing_class", None))
        args = checked_arguments(model, model_init, args)
        check_given(args, kwargs)
        check_overrides(type(self), args, type(self).compute_loss is not AtriTrainer.compute_loss)
        left_out: dict[str, list[BadRow]] = {}
        train_dataset = checked_rows(train_dataset, args, "train", left_out)
        eval_dataset = checked_rows(eval_dataset, args, "eval", left_out)
        refuse_options_of_sounds(train_dataset, args)
        report_excerpts(train_dataset, args)
        eval_sets = eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]
        report_captions([train_dataset, *eval_sets], processor, args)
        self._text_cache: TextCache | None = None
        self._teacher = teacher
        self._column: TeacherFacts | None = None
        self._is_trained = train_dataset is not None
        self._own_collator = data_collator is None
        self._search_args: AtriTrainingArguments | None = None
        self.processor = processor
        self._sets = [train_dataset, *eval_sets]
        if model is not None:
            args = self._prepared_for(model, args)
        feature_cache = FeatureCache(
            processor.feature_extractor,
            *(args.feature_cache_dir, args.feature_cache_dtype, args.feature_cache_max_gb),
        )
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or _collator(args, processor, feature_cache),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processor=processor,
            feature_cache=feature_cache,
            left_out=left_out,
            bad_rows=_bad_row_log(args, left_out),
            facts=facts or {},
            model_init=model_init,
            **kwargs,
        )
        check_engine(self.args.n_gpu, self.accelerator)
        if self.is_fsdp_enabled and self._is_trained:
            plugin = self.accelerator.state.fsdp_plugin
            check_sharded_run(self.args, self.atri_model, plugin.transformer_cls_names_to_wrap)
        check_best_metric(self.args, self.eval_dataset)
        if self._is_trained:
            self._batch_sampler = self._epoch_batches()
        self.add_callback(_SetEpoch(lambda epoch: self._batch_sampler.set_epoch(epoch)))
        stock, brief = brief_callback(args.disable_tqdm)
        if self.pop_callback(stock) is not None:
            self.add_callback(brief)

    # Model

    def _prepared_for(self, model: "AtriModel | PeftModel", args: AtriTrainingArguments) -> AtriTrainingArguments:
        """Freeze parts of a model, add an adapter, and return the arguments that fit the model."""
        check_tokenizer(self.processor, unwrap_peft_model(model), args.languages)
        prepare_model(model, args, self._is_trained)
        for rows in self._sets:
            check_sounds(rows, unwrap_peft_model(model), self.processor, self._is_trained)
        if self._is_trained and find_objective(args.objective).has_teacher:
            width = unwrap_peft_model(model).config.projection_dim
            self._column = column_teacher(self._sets[0], args, width, self._teacher)
        if self._is_trained and leaves_out_layers(model) and args.ddp_find_unused_parameters is None:
            # Each process leaves out other layers. Without this, which Trainer turns off for activation checkpointing,
            # the processes would wait for each other's gradients for ever.
            args = copy.copy(args)
            args.ddp_find_unused_parameters = True
        return args

    def call_model_init(self, trial: Any = None) -> "AtriModel | PeftModel":
        """Call `model_init` and prepare its model as the arguments say.

        Raises:
            ValueError: `model_init` returns the same model again, whose weights have been trained.
        """
        before = self.model
        model: Any = super().call_model_init(trial)
        if model is before:
            raise ValueError(
                "`model_init` returned the same model again, so that a training would go on from the weights of the "
                "last one. Make or load the model inside of `model_init`."
            )
        self.args = self._prepared_for(model, self.args)
        return model

    @property
    def _is_exact(self) -> bool:
        """Whether a step needs the memory of one language only. The loss of a subclass may need more."""
        own = type(self)
        has_own_loss = (
            own.compute_loss is not AtriTrainer.compute_loss
            or own.compute_loss_from_embeddings is not AtriTrainer.compute_loss_from_embeddings
        )
        is_sum_of_pairs = find_objective(self.args.objective).pair_weights is not None
        return self.args.exact_step and is_sum_of_pairs and not has_own_loss

    # Data

    def get_train_dataloader(self) -> DataLoader:
        """Batches of this process, drawn by [`EpochBatchSampler`]. Accelerate must not shard them again."""
        if self.train_dataset is None:
            raise ValueError("Training needs a `train_dataset`.")
        args, num_workers = self.args, self.args.dataloader_num_workers
        self._batch_sampler = self._epoch_batches()
        return DataLoader(
            self._looked_up_rows(),
            batch_sampler=self._batch_sampler,
            collate_fn=self.data_collator,
            num_workers=num_workers,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
            persistent_workers=args.dataloader_persistent_workers and num_workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context if num_workers > 0 else None,
            in_order=args.dataloader_in_order,
        )

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # Noted here, because workers may read batches that are never trained on.
        self.bad_rows.add(inputs.pop("left_out", ()))
        # Trainer would look through every name of a language for tensors.
        others = {name: value for name, value in inputs.items() if name != "languages"}
        return super()._prepare_inputs(others) | {name: inputs[name] for name in inputs.keys() - others.keys()}

    def _looked_up_rows(self) -> Dataset:
        """The rows of the draws that the batch sampler gives, or its own if it reads a stream."""
        if isinstance(self.train_dataset, TrainingStream):
            audio_term = None if self.teaching_data is None else self.teaching_data.audio_term
            return handed_rows(self.train_dataset, self.args, self.data_seed, audio_term)
        rows: Any = self.train_dataset if self.teaching_data is None else self.teaching_data.rows
        return DrawnRows(rows, self.args.mix_probability, self.data_seed, self.args.on_bad_row == "skip")

    def _epoch_batches(self) -> EpochBatchSampler | StreamBatches:
        if isinstance(self.train_dataset, TrainingStream):
            self._stream_batches = stream_batches(
                self.train_dataset, self.args, self._train_batch_size, self.data_seed
            )
            return self._stream_batches
        return EpochBatchSampler(
            len(self.train_dataset),
            self._train_batch_size,
            seed=self.data_seed,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            drop_last=self.args.dataloader_drop_last,
            noun="row" if self._has_teacher else "clip",
        )

    # Parameters

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer of the arguments, with a learning rate for each tower and for the heads."""
        if self.optimizer is None:
            model = self.model if model is None else model
            given = self.optimizer_cls_and_kwargs
            optimizer_class, options = given or self.get_optimizer_cls_and_kwargs(self.args, cast(Any, model))
            base = unwrap_peft_model(self.accelerator.unwrap_model(model))
            groups = parameter_groups(base, self.args, set(self.get_decay_parameter_names(base)))
            self.optimizer = optimizer_class(groups, **options)
            self.optimizer.register_load_state_dict_post_hook(fit_state_shapes)
        return self.optimizer

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as [`~transformers.Trainer.train`] does. A model without mel statistics gets them first.

        A resumed run continues as if it had never stopped, on a CPU bit for bit: data, languages, captions, dropout,
        optimizer and logged losses. It warns if arguments, captions or clips have changed.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*): Folder of a checkpoint, or True for the last whole
                one in `args.output_dir`.
            trial, ignore_keys_for_eval: As in the parent class.

        Raises:
            ValueError: The checkpoint does not exist, is damaged, holds no optimizer state, or belongs to another
                model; or a clip cannot be decoded.
            TrainingDivergedError: A loss or a weight is not finite (a `ValueError`).
            SavingError: The disk is full or cannot be written (an `OSError`). The last checkpoint is whole.
        """
        if self.model_init is not None:
            self._set_up_run(trial)
        run_folder = Path(self.args.output_dir)
        checkpoint = told_by_main(lambda: resolve_checkpoint(resume_from_checkpoint, run_folder))
        if self.args.should_save:
            remove_unfinished_saves(run_folder)
        if self.train_dataset is not None:
            self._begin_run(checkpoint)
        self.forget_figures()
        self.bad_rows.begin(self.is_world_process_zero(), resumed=checkpoint is not None)
        try:
            with full_disk_explained(run_folder), bad_row_explained(self.args.on_bad_row):
                output = super().train(checkpoint, trial, ignore_keys_for_eval)
        finally:
            if self._stream_batches is not None:
                self._stream_batches.close()
            if self._text_cache is not None:
                self._text_cache.close()
                self._text_cache = None
        if self.is_world_process_zero():
            self.bad_rows.report()
        return output

    def _set_up_run(self, trial: Any) -> None:
        """Make everything that belongs to a run anew from its arguments, which differ between trials."""
        if self._search_args is not None:
            self.args = self._search_args
            folder = super()._get_output_dir(trial)
            self.args = trial_arguments(self._search_args, self.hp_space(trial), folder)
            for callback, attributes in self._callback_attributes:
                vars(callback).update(attributes)
        check_optimizer(self.args)
        check_best_metric(self.args, self.eval_dataset)
        if self._own_collator:
            self.data_collator = _collator(self.args, self.processor, self.feature_cache)
        self.bad_rows = _bad_row_log(self.args, self.left_out)
        self._train_batch_size = self.args.train_batch_size

    def _inner_training_loop(
        self,
        batch_size: int | None = None,
        args: TrainingArguments | None = None,
        resume_from_checkpoint: str | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train the model, which `model_init` has made by now, as the parent does."""
        if resume_from_checkpoint is None:
            self.set_mel_statistics()
            self._prepare_teaching()
        elif self.is_fsdp_enabled:  # Trainer would load the weights after they were sharded
            self._load_from_checkpoint(resume_from_checkpoint)
        return super()._inner_training_loop(batch_size, args, resume_from_checkpoint, trial, ignore_keys_for_eval)

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] | None = None,
        backend: Any = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs,
    ) -> BestRun | list[BestRun]:
        """Search for hyperparameters with optuna, as [`~transformers.Trainer.hyperparameter_search`] does.

        Each trial is a run of its own: its arguments are checked, its model is a new one of `model_init(trial)`, and
        its checkpoints, results and lists of left-out rows are in `{output_dir}/run-{number of the trial}`. A trial
        that diverges counts as failed, and the search goes on. The arguments are afterwards what they were before, and
        the trainer has no model until it is trained.

        Args:
            hp_space (callable, *optional*): Returns the hyperparameters of a trial, which are fields of
                [`AtriTrainingArguments`], by name.
            compute_objective (callable, *optional*): Returns what is compared, from the figures of the last
                evaluation of a trial. Default: `metric_for_best_model`, or `mean_text_to_audio_R@1`.
            n_trials (`int`, *optional*, defaults to 20): Number of trials.
            direction (`str` or list, *optional*): `"maximize"` or `"minimize"`. Default: that of the figure; with
                `compute_objective`, `"minimize"`.
            backend (*optional*): `"optuna"` or None.
            hp_name (callable, *optional*): Returns the name of a trial's folder.
            kwargs: Arguments of `optuna.create_study` and of `Study.optimize`.

        Returns:
            `BestRun`, or a list for several directions. To train with it:
            `AtriTrainer(args=dataclasses.replace(args, **best_run.hyperparameters), ...)`.

        Raises:
            ValueError: There is no `model_init` or `eval_dataset`, optuna is not installed, a hyperparameter is no
                argument, or every trial failed.
        """
        check_search(self.args, self.model_init is not None, self.eval_dataset, backend, kwargs.get("n_jobs", 1))
        if compute_objective is None:
            compute_objective, direction = default_objective(self.args, self.eval_dataset, direction)
        if self.args.world_size == 1:  # other processes would not know that a trial is over
            kwargs = {"catch": (TrainingDivergedError,)} | kwargs
        self._search_args, given = self.args, self.args
        self._callback_attributes = callback_attributes(self.callback_handler)
        try:
            return super().hyperparameter_search(
                hp_space, compute_objective, n_trials, direction or "minimize", "optuna", hp_name, **kwargs
            )
        except ValueError as error:
            if "No trials are completed" not in str(error):  # optuna's words
                raise
            raise ValueError(
                "No trial of the search came to an end, because all diverged or were pruned. Search in a range of "
                "lower learning rates, or prune less."
            ) from error
        finally:
            self.args, self._search_args, self.hp_search_backend = given, None, None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.args.output_dir)  # the arguments of a trial have its own folder

    def _prepare_teaching(self, checkpoint: str | None = None) -> None:
        """Prepare the training data of `teach`, with the model before its first step or from a checkpoint."""
        if not self._has_teacher:
            return
        known = read_manifest(Path(checkpoint)).get("teacher") if checkpoint else None
        self.teaching_data = self._teaching_data(known)
        self._run_facts["teacher"] = self.teaching_data.teacher["fingerprint"]

    def _teaching_data(self, known: str | None) -> TeachingData:
        """The data of `teach`. `known` is the fingerprint of the teacher of a resumed run."""
        if isinstance(self.train_dataset, TrainingStream):
            return teaching_of_stream(self.train_dataset, self.args, cast(TeacherFacts, self._column), known)
        rng = random_stream(self.data_seed, EXCERPT)
        preparation = TeachingPreparation(
            self.args,
            self.atri_model,
            self.processor,
            cast(Any, self.train_dataset),
            read_clip=lambda audio: self.feature_cache.excerpt(audio, None, rng),
            states=self._text_states if self.args.text_cache_dir else None,
            teacher=self._teacher,
            column=self._column,
        )
        return preparation.prepare(known)

    @property
    def _has_teacher(self) -> bool:
        return find_objective(self.args.objective).has_teacher

    def set_mel_statistics(self) -> None:
        """Compute the mel statistics of a model that has none, and fill the augmentation's masks with their mean."""
        mel_norm = getattr(self.atri_model.audio_model, "mel_norm", None)
        if mel_norm is None or self._has_teacher:  # another tower than CED, or an audio side that stays as it is
            return
        if self.train_dataset is not None:
            part = (self.args.process_index, self.args.world_size)
            seed, seconds, skips = self.data_seed, self.args.max_audio_seconds, self.args.on_bad_row == "skip"

            def read_features(audio: Any) -> Tensor:
                return self.feature_cache.excerpt(audio, seconds, random_stream(seed, EXCERPT))

            set_mel_statistics(mel_norm, self.train_dataset, read_features, seed, part, skips)
        if isinstance(self.data_collator, AtriDataCollator):
            self.data_collator.mask_level = mel_norm.running_mean.detach().cpu().float()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if is_sharded(model):
            return  # the weights were loaded before
        self._prepare_teaching(resume_from_checkpoint)
        if self._has_own_adapter:
            load_adapter_weights(self.atri_model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.set_mel_statistics()

    def _load_best_model(self) -> None:
        if self._has_own_adapter or (is_sharded(self.model) and has_adapter(self.model)):
            model = self.atri_model if self._has_own_adapter else self.model
            load_adapter_weights(model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    @property
    def _has_own_adapter(self) -> bool:
        """Whether the adapter is inside an `AtriModel`. Trainer can load only adapters of a `PeftModel`."""
        return has_adapter(self.atri_model) and self.accelerator.unwrap_model(self.model) is self.atri_model

    # Steps

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run forward and backward of a batch: language by language, in chunks, both, or all at once."""
        if not (self._is_exact or self.args.is_chunked):
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        self._rest_frozen_parts()
        if self.optimizer is not None:
            self.optimizer.train()  # as Trainer does before every step, for schedule-free optimizers
        inputs = self._prepare_inputs(inputs)
        if self.is_fsdp_enabled:  # every backward pass averages what it adds, so that no process has whole gradients
            loss = self._backward_in_parts(model, inputs)
        else:
            # Each backward pass would start DDP's reduction, so gradients are averaged at the end. The context of
            # Accelerate does nothing for a single process, which DDP wraps, too, if a launcher started it.
            with getattr(model, "no_sync", nullcontext)():
                loss = self._backward_in_parts(model, inputs)
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()
        if self.accelerator.sync_gradients and self.args.world_size > 1 and not self.is_fsdp_enabled:
            average_gradients(model.parameters())
        return loss

    def _backward_in_parts(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """Accumulate the gradient of a batch, language by language or in chunks. Returns the loss, detached."""
        args, goes_by_language = self.args, self._is_exact and self.args.ranking_weight == 0
        num_languages, num_clips, _ = inputs["input_ids"].shape
        everywhere = rows_of_processes(num_clips, args.device) if self.is_fsdp_enabled else None
        text_chunk_size = args.text_chunk_size
        if self._is_exact and not goes_by_language:  # encode the captions of one language at a time
            most = max(everywhere or [num_clips])
            text_chunk_size = min(text_chunk_size or most, most)
        encoder = BatchEncoder(
            self._callable(model),
            self.atri_model,
            self._caption_inputs,
            args.audio_chunk_size,
            text_chunk_size,
            sharded=model if self.is_fsdp_enabled else None,
            num_clips_everywhere=everywhere,
        )
        backward, num_batches = self.accelerator.backward, self.current_gradient_accumulation_steps
        if not goes_by_language:
            return joint_backward(encoder, inputs, self.compute_loss_from_embeddings, backward, num_batches)
        anchor = args.language_draws.anchor_row(inputs["languages"])
        options = self._loss_options
        weights = find_objective(args.objective).weigh(num_languages, anchor, len(args.languages), options)
        distill_weight = options.get("distill_weight", 0.0)
        return exact_backward(encoder, inputs, weights, anchor, backward, num_batches, distill_weight)

    def _callable(self, model: nn.Module) -> Callable[..., Any]:
        """The model as a step calls it: in mixed precision, which Accelerate adds for the other engines."""
        return mixed_precision_call(model, self.accelerator) if self.is_fsdp_enabled else model

    @property
    def _loss_options(self) -> dict[str, Any]:
        """The options of the loss. The audio term is that of the rows, which may have no sounds."""
        options = self.args.loss_options
        return options if self.teaching_data is None else options | {"teach_audio": self.teaching_data.audio_term}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Compute the loss of a batch whose clips, and captions in all languages, are encoded at once."""
        self._rest_frozen_parts()
        num_languages, num_clips, _ = inputs["input_ids"].shape
        outputs = self._callable(model)(
            **{name: inputs[name] for name in SOUND_INPUTS if name in inputs},
            **self._caption_inputs(inputs["input_ids"].flatten(0, 1), inputs["attention_mask"].flatten(0, 1)),
        )
        text_embeds = outputs.text_embeds.view(num_languages, num_clips, -1)
        loss = self.compute_loss_from_embeddings(outputs.audio_embeds, text_embeds, inputs)
        return (loss, outputs) if return_outputs else loss

    def compute_loss_from_embeddings(
        self, audio_embeds: Tensor | None, text_embeds: Tensor, inputs: dict[str, Any]
    ) -> Tensor:
        """Compute the loss of the objective from the embeddings of a batch. Override it to train with another loss.

        Another loss may need all embeddings together, so its step does not go language by language. With
        `audio_chunk_size` and `text_chunk_size` it still trains in the memory of one chunk. Another loss also replaces
        the term of `ranking_weight`; add `ranking_divergence` to it if you need the term.

        Args:
            audio_embeds (`torch.Tensor` of shape `(N, D)`): Embeddings of this process's clips, L2-normalised. None
                for the objective `teach` if rows have no sounds.
            text_embeds (`torch.Tensor` of shape `(K, N, D)`): Embeddings of their captions, L2-normalised.
                `inputs["languages"]` has the language of each.
            inputs (`dict`): The batch, as the collator makes it.

        Returns:
            `torch.Tensor` of shape `()`. Training minimises its mean over the processes.
        """
        args, targets = self.args, language_targets(inputs)
        others = LossInputs(
            scale=whole_parameter(self.atri_model.logit_scale).exp(),
            ids=inputs["group_ids"],
            shard=batch_shard(text_embeds.shape[1], text_embeds.device),
            anchor=args.language_draws.anchor_row(inputs["languages"]),
            num_languages=len(args.languages),
            options=self._loss_options,
            teacher=None if targets is None else torch.stack(targets),
        )
        return objective_loss(args.objective, audio_embeds, text_embeds, others, args.ranking_weight)

    def _rest_frozen_parts(self) -> None:
        """Turn off the dropout of a frozen text tower, so that its outputs equal those in its cache.

        With a teacher, nothing of the audio side may change, not even the statistics of a BatchNorm.
        """
        if self._has_teacher:
            self.atri_model.audio_model.eval()
            self.atri_model.audio_projection.eval()
        text_model = self.atri_model.text_model
        if text_model.training and is_frozen(text_model):
            text_model.eval()

    def _caption_inputs(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Arguments of the model for captions `(n, tokens)`: their tokens, or with a cache their pooled states."""
        if self.args.text_cache_dir is None:
            return _trimmed(input_ids, attention_mask)
        return {"text_pooler_output": self._text_states(input_ids, attention_mask)}

    def _text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooled states of captions `(n, tokens)`, from the cache on disk."""
        if self._text_cache is None:
            self._text_cache = TextCache(self.atri_model, str(self.args.text_cache_dir))
        return self._text_cache(input_ids, attention_mask, self._train_batch_size)

    # Saving

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self._text_cache is not None:
            # A resumed run needs the same states. Their rounding depends on the captions they are encoded with.
            self._text_cache.flush()
        super()._save_checkpoint(model, trial)


def _trimmed(input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    """Remove the columns that are padding for all of these captions, but not for those of other languages."""
    used = attention_mask.any(dim=0)
    return {"input_ids": input_ids[:, used], "attention_mask": attention_mask[:, used]}


def _collator(args: AtriTrainingArguments, processor: AtriProcessor, feature_cache: FeatureCache) -> AtriDataCollator:
    return AtriDataCollator(
        processor,
        args.language_draws,
        augmentation=args.augmentation,
        feature_cache=feature_cache,
        max_audio_seconds=args.max_audio_seconds,
    )


def _bad_row_log(args: AtriTrainingArguments, left_out: dict[str, list[BadRow]]) -> BadRowLog:
    return BadRowLog(Path(args.output_dir) / f"train_{LEFT_OUT_NAME}", left_out["train"])
