"""A Trainer that evaluates retrieval in every language, and records how the figures were made."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers.trainer_utils import unwrap_peft_model

from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, BadRow, BadRowLog, write_bad_rows
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

from ..arguments import AtriTrainingArguments
from ..checks.embeddings import check_sounds
from ..checks.rows import checked_rows, report_captions
from ..data.collator import AtriDataCollator
from ..data.feature_cache import FeatureCache
from ..data.streams.training_stream import TrainingStream, num_rows_of
from ..publishing.pushing import PublishingTrainer
from ..publishing.results import complete_results, evaluation_facts, model_facts, training_facts
from ..teach.preparing import TeachingData
from .retrieval import (
    RetrievalEmbeddings,
    RetrievalSet,
    embed_retrieval_set,
    join_embeddings,
    leave_out_unreadable,
    retrieval_table,
)


class EvaluatingTrainer(PublishingTrainer):
    """[`PublishingTrainer`] that evaluates an `AtriModel` and knows its results.

    `left_out` lists the rows that were left out of each set by its name, `bad_rows` the training rows that could not
    be used. The other arguments are as in [`AtriTrainer`].
    """

    args: AtriTrainingArguments
    data_collator: AtriDataCollator

    def __init__(
        self,
        *,
        processor: AtriProcessor,
        feature_cache: FeatureCache,
        left_out: dict[str, list[BadRow]],
        bad_rows: BadRowLog,
        facts: Results,
        **kwargs,
    ):
        self.processor, self.feature_cache = processor, feature_cache
        self.left_out, self.bad_rows, self.facts = left_out, bad_rows, facts.copy()
        self.teaching_data: TeachingData | None = None  # of the objective `teach`
        self.embedding_listeners: list[Callable[[str, RetrievalSet, RetrievalEmbeddings], None]] = []
        self._unwrapped: tuple[Any, AtriModel] | None = None  # the model, with and without its wrappers
        self._measured: dict[str, tuple[TrainingFacts, Results]] = {}  # state of training and results, by prefix
        super().__init__(processing_class=processor, **kwargs)

    @property
    def atri_model(self) -> AtriModel:
        """The model without the wrappers of PEFT and of distributed training."""
        if self.model is None:
            raise ValueError(
                "The models of the trials were released at the end of the search. Train with the best "
                "hyperparameters, or load the model of a trial's folder."
            )
        if self._unwrapped is None or self._unwrapped[0] is not self.model:  # it looks through all modules
            self._unwrapped = self.model, unwrap_peft_model(self.accelerator.unwrap_model(self.model))
        return self._unwrapped[1]

    @property
    def data_seed(self) -> int:
        """Seed of all draws: that of the collator, or of the arguments if the collator is another function."""
        collator = self.data_collator
        return collator.seed if isinstance(collator, AtriDataCollator) else self.args.language_draws.seed

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate retrieval in every language, and consistency between languages.

        Each clip and each caption is encoded once. The figures are logged, and written together with how they were
        made to `{output_dir}/{metric_key_prefix}_atri_results.json`.

        Args:
            eval_dataset (*optional*): Rows, a dict of several sets of rows, or the name of one of the trainer's sets.
                Default: all sets of the trainer.
            ignore_keys: Ignored.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): Prefix of all keys. For several sets the
                prefix is `{metric_key_prefix}_{name of the set}`.

        Returns:
            `dict[str, float]`: The figures of [`~trainer.metrics.multilingual_metrics`], as `{prefix}_{figure}`.

        Raises:
            ValueError: There is nothing to evaluate on, rows are faulty, or no set has the given name.
        """
        sets = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(sets, dict):
            # The trainer's own sets are passed by name, because their rows were checked before.
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
        """The rows of a set, and the rows that were left out when it was checked."""
        if given is None and self.eval_dataset is None:
            raise ValueError("Evaluation needs an `eval_dataset`.")
        if given is None:
            return self.eval_dataset, self.left_out["eval"]
        if not isinstance(given, str):
            left_out: dict[str, list[BadRow]] = {}
            rows = checked_rows(given, self.args, "given", left_out)
            check_sounds(rows, self.atri_model, self.processor)
            report_captions([rows], self.processor, self.args)
            return rows, left_out["given"]
        if not isinstance(self.eval_dataset, dict) or given not in self.eval_dataset:
            names = ", ".join(self.eval_dataset) if isinstance(self.eval_dataset, dict) else "no named sets"
            raise ValueError(f"There is no evaluation set {given!r}; `eval_dataset` has {names}.")
        return self.eval_dataset[given], self.left_out[f"eval_{given}"]

    def predict(self, *args, **kwargs) -> None:
        """Always raises a ValueError that names the methods to use, because clips and captions have no logits."""
        raise ValueError(
            "AtriTrainer has no `predict`, because clips and captions have no logits. For figures use "
            "`evaluate(rows, metric_key_prefix='test')`, for embeddings `encode_audio` and `encode_text` of "
            "`modeling_atri.encode`."
        )

    def embed(self, retrieval_set: RetrievalSet, skip_unreadable: bool = False) -> RetrievalEmbeddings:
        """Embed a set as [`embed_retrieval_set`] does. All processes share the work, and each gets all embeddings."""
        with self.whole_parameters():
            part = embed_retrieval_set(
                self.atri_model,
                self.processor,
                retrieval_set,
                batch_size=self.args.per_device_eval_batch_size,
                read_features=self.feature_cache.read,
                progress=not self.args.disable_tqdm and self.is_world_process_zero(),
                part=(self.args.process_index, self.args.world_size),
                skip_unreadable=skip_unreadable,
                warns=False,  # rows were looked at when the trainer got them
            )
        return part if self.args.world_size == 1 else join_embeddings(gather_object([part]))

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
        embeddings = self.embed(retrieval_set, skip_unreadable=self.args.on_bad_row == "skip")
        retrieval_set, embeddings, unreadable = leave_out_unreadable(retrieval_set, embeddings)
        for listener in self.embedding_listeners:
            listener(prefix, retrieval_set, embeddings)
        left_out = [*left_out, *unreadable]
        if self.is_world_process_zero():
            write_bad_rows(Path(self.args.output_dir) / f"{prefix}_{LEFT_OUT_NAME}", left_out)
        anchor, training = self.args.anchor_language, self.training_facts()
        known: Results = {
            "metrics": retrieval_table(embeddings, retrieval_set.positives, anchor, self.args.device),
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

    def forget_figures(self) -> None:
        """Forget earlier evaluations, because a new run counts its steps from the start."""
        self._measured.clear()

    def training_facts(self) -> TrainingFacts:
        """How far training has come, and the arguments that shape its outcome."""
        return training_facts(
            self.args,
            self.state,
            train_batch_size=self._train_batch_size,
            num_train_clips=None if self.train_dataset is None else num_rows_of(self.train_dataset),
            stream=self.train_dataset.name if isinstance(self.train_dataset, TrainingStream) else None,
            left_out=self.bad_rows.rows(),
            patch_dropout=getattr(self.atri_model.audio_model.config, "patch_dropout", 0.0),
            data_seed=self.data_seed,
            best_is_loaded=self.args.load_best_model_at_end and not self.is_in_train,
            teacher=None if self.teaching_data is None else self.teaching_data.teacher,
            teach_audio=None if self.teaching_data is None else self.teaching_data.audio_term,
        )
