"""Arguments of a training run."""

import logging
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Annotated, Any

import torch
from transformers import TrainingArguments

from modeling_atri.audio_io import MIN_SECONDS
from modeling_atri.bounds import (
    Bounds,
    Count,
    Dropout,
    Fraction,
    NonNegative,
    Positive,
    PositiveCount,
    check_options,
    option,
)
from modeling_atri.hub_cards.figures import BEST_MODEL_FIGURE, CONSISTENCY_TITLES, figure_names, is_lower_better
from modeling_atri.languages_atri import ATRI_LANGUAGES, resolve_languages

from .checks.engines import check_chosen_engine, check_processes
from .checks.fsdp_options import as_choice
from .checks.options import check_refused_options, check_trackers
from .data.augmentation import Augmentation
from .data.draws import CAPTION_CHOICES, LanguageDraws
from .data.feature_cache import CACHE_DTYPES
from .objectives import OBJECTIVES, find_objective, names_where


logger = logging.getLogger(__name__)

TEACH_AUDIO = ["akcl", "kcl", "none"]
METRIC_SCHEDULERS = ("reduce_lr_on_plateau", "greedy")  # their rate follows `metric_for_best_model`


@dataclass
class AtriTrainingArguments(TrainingArguments):
    r"""
    [`~transformers.TrainingArguments`] with the options that ATRI adds: objective, languages, frozen and adapted
    parts, learning rates of the parts, and augmentation. All options are checked when the object is made.

    The best model (`load_best_model_at_end`, `save_strategy="best"`) is the one with the highest
    `mean_text_to_audio_R@1`, unless `metric_for_best_model` names another figure of [`AtriTrainer.evaluate`]. For
    ranks and for the consistency figures the lowest value is best, unless `greater_is_better` is given. Schedulers
    that follow a figure (`reduce_lr_on_plateau`, `greedy`) use the same figure.

    NOTE: These defaults differ from those of transformers: `learning_rate` 5e-6, `per_device_train_batch_size` 24 and
    `num_train_epochs` 10 are the paper's; `remove_unused_columns` is False, because the collator needs all columns;
    `logging_nan_inf_filter` is False, because a NaN loss must be visible.
    """

    output_dir: str | None = option(
        None,
        "Folder for the model, processor, results and checkpoints. Default: trainer_output; `atri diagnose twins`: "
        "diagnosis.",
    )
    resume_from_checkpoint: str | None = option(
        None,
        "Continue a stopped run: true continues from the last checkpoint in output_dir, the folder of a checkpoint "
        "from that one. In commands, auto continues if there is a checkpoint. Default: start a new run.",
    )
    learning_rate: NonNegative = option(
        5e-6, "Peak learning rate. Default: 5e-6; `atri train` from scratch: 1e-3; `atri diagnose twins`: 0.01."
    )
    per_device_train_batch_size: int = option(
        24,
        "Clips of a batch on each device. A step compares the clips of all devices. The last step of an "
        "epoch is skipped if it has a single clip, or fewer clips than devices.",
    )
    num_train_epochs: float = option(10.0, "Number of epochs. Each epoch uses every clip once.")
    remove_unused_columns: bool = option(False, "Must stay False, because the collator needs all columns.")
    logging_nan_inf_filter: bool = option(
        False, "Must stay False, because a loss that is not finite ends the run and must be seen."
    )

    objective: str = option(
        "akcl",
        "Loss to train with. " + " ".join(f"{name}: {objective.summary}." for name, objective in OBJECTIVES.items()),
        choices=OBJECTIVES.keys(),
    )
    languages: list[str] = field(
        default_factory=lambda: list(ATRI_LANGUAGES),
        metadata={"help": "Languages to train and evaluate: FLORES-200 codes, ISO 639 codes or English names."},
    )
    anchor_language: str = option(
        "eng_Latn", "Anchor language of akcl, cacl and teach, and of the consistency metrics."
    )
    languages_per_step: int | None = option(
        None,
        "kcl, akcl and teach: number of languages in a step, drawn once a batch. The loss is then an unbiased "
        "estimate at a fraction of the text cost. The anchor of akcl is always one of them. Default: all.",
    )
    akcl_weight: Fraction = option(0.5, "akcl: weight of the audio-text terms; the text-text terms have the rest.")
    ranking_weight: NonNegative = option(
        0.0,
        "kcl and akcl: weight of a term that pulls the languages' rankings of the clips together (their "
        "Jensen-Shannon divergence, in nats). With languages_per_step, the term covers only the languages drawn "
        "for the step, so it is a biased estimate of the term over all languages. 0 leaves it out.",
    )
    teacher: str | None = option(
        None,
        "teach: folder or Hub id of the model that embeds the anchor's captions: an ATRI, CLAP, PE-Audio or "
        "sentence-transformers model. Default: the column teacher_embedding of the training data. Without one, the "
        "model itself before the first step (not in `atri teach`, which needs one of the two).",
    )
    distill_weight: NonNegative = option(
        1.0, "teach: weight of the mean squared distance of each caption to the teacher's embedding."
    )
    teach_audio: str = option(
        "akcl",
        "teach: contrastive term that is added if the training data have sounds or audio embeddings. kcl: each "
        "language with the frozen audio. akcl: half of kcl, and half the same with the teacher's embeddings instead "
        "of the audio. none: no such term.",
        choices=TEACH_AUDIO,
    )
    hold_languages: list[str] | None = option(
        None,
        "teach: languages whose embeddings are to stay as they are. Their captions are trained towards the "
        "embeddings of the model itself before the first step, instead of the teacher's.",
    )
    embed_regularization: bool = option(False, "mlclap: add ml-clap's regulariser of the embeddings.")
    exact_step: bool = option(
        True,
        "kcl, akcl and teach: compute the gradient language by language. It is the same gradient, in the memory "
        "of one language (akcl: two). With ranking_weight, all embeddings are needed together, so the captions of "
        "all languages but one are encoded twice, unless the text tower is frozen. False keeps the activations of "
        "all languages at once.",
    )
    audio_chunk_size: PositiveCount | None = option(
        None,
        "Number of clips in one forward pass on each device. A larger batch is encoded in chunks, most of "
        "them twice: the gradient is the same, the activations of one chunk are in memory, and a step takes about "
        "4/3 of the time. A batch may then have any number of negatives. Default: the whole batch at once.",
    )
    text_chunk_size: PositiveCount | None = option(
        None,
        "Number of captions in one forward pass on each device, as for audio_chunk_size. A step that goes "
        "language by language encodes one caption for each clip at a time; cacl encodes two, and kcl and akcl "
        "without exact_step one for each language. Default: all at once.",
    )
    caption_choice: str = option(
        "random",
        "Which of a clip's parallel captions an epoch uses: a random one, or the first.",
        choices=CAPTION_CHOICES,
    )
    group_column: str | None = option(
        None, "Column whose equal values make clips positives of one another (default: group_id, else audio_id)."
    )
    freeze_audio: bool = option(False, "Do not train the audio tower. Its projection is trained.")
    freeze_audio_head: bool = option(
        False,
        "Do not train the projection of the audio tower. Together with freeze_audio, this allows embeddings that the "
        "model itself made instead of recordings.",
    )
    freeze_text: bool = option(
        False, "Do not train the text tower, and run it without dropout. Its projection is trained."
    )
    lora_rank: PositiveCount | None = option(
        None,
        "Train the text tower through a LoRA adapter of this rank, e.g. 16. The adapter is saved with the "
        "other trained parts, without the tower. Default: no adapter.",
    )
    lora_alpha: Positive | None = option(
        None, "The adapter's output is scaled by alpha / rank. Default: twice the rank."
    )
    lora_dropout: Dropout = option(0.0, "Dropout on the adapter's input.")
    text_cache_dir: str | None = option(
        None,
        "With freeze_text: keep the text tower's output for each caption in this folder (4 kB with "
        "SONAR). Later epochs read it.",
    )
    audio_learning_rate: NonNegative | None = option(None, "Learning rate of the audio tower. Default: learning_rate.")
    text_learning_rate: NonNegative | None = option(None, "Learning rate of the text tower. Default: learning_rate.")
    head_learning_rate: NonNegative | None = option(
        None, "Learning rate of the projections and the logit scale. Default: learning_rate."
    )
    patch_dropout: Dropout | None = option(
        None,
        "Fraction of a clip's patches that is left out in training. It makes training faster and "
        "regularises. Default: the value in the model's configuration (0 for a new model).",
    )
    mix_probability: Fraction = option(
        0.0,
        "Augmentation: probability that a clip is mixed with another of its group. Clips of a group share "
        "their captions.",
    )
    time_warp: NonNegative = option(
        Augmentation.time_warp,
        "Augmentation: the speeds of a clip's parts differ by a factor of up to exp(time_warp).",
    )
    mel_shift_bins: NonNegative = option(
        Augmentation.mel_shift_bins, "Augmentation: the spectrum moves up or down by up to this many mel bins."
    )
    equalizer_db: NonNegative = option(
        Augmentation.equalizer_db, "Augmentation: standard deviation of a smooth random frequency response, in dB."
    )
    gain_db: NonNegative = option(Augmentation.gain_db, "Augmentation: random gain of up to this many dB, up or down.")
    time_masks: Count = option(Augmentation.time_masks, "SpecAugment: number of masks over time.")
    time_mask_frames: Count = option(
        Augmentation.time_mask_frames, "SpecAugment: longest time mask, in frames of 10 ms."
    )
    frequency_masks: Count = option(Augmentation.frequency_masks, "SpecAugment: number of masks over mel bins.")
    frequency_mask_bins: Count = option(
        Augmentation.frequency_mask_bins, "SpecAugment: widest frequency mask, in mel bins."
    )
    feature_cache_dir: str | None = option(
        None, "Keep the log-mel features of all clips in this folder (256 kB for 10 s). Later epochs read them."
    )
    feature_cache_dtype: str = option(
        "float32",
        "Dtype of the features in feature_cache_dir. float16 halves their size, and rounds the features of "
        "whole clips, in training and evaluation.",
        choices=list(CACHE_DTYPES),
    )
    feature_cache_max_gb: Positive | None = option(
        None,
        "Largest size of feature_cache_dir in GB. When it is reached, no more features are added, and those "
        "that are missing are computed in every epoch. Default: no limit.",
    )

    max_audio_seconds: Annotated[float, Bounds(f"[{MIN_SECONDS}, inf]")] | None = option(
        30.0,
        "Of a longer training clip, each epoch decodes and uses a random part of this length. inf (or "
        "None) uses clips whole, for which a batch with a recording of hours needs many GB. Evaluation always uses "
        "them whole, in pieces.",
    )
    shuffle_buffer: PositiveCount | None = option(
        None,
        "Rows of a stream that each process shuffles together; twice as many are in memory. Default: 1000. Rows that "
        "are not streamed are shuffled all together.",
    )
    on_bad_row: str = option(
        "raise",
        "What to do with rows that cannot be used (missing, broken, silent or too short recordings, wrong "
        "captions). raise: stop with an error that names them. skip: leave them out, list them in the output "
        "folder (train_left_out.jsonl, eval_left_out.jsonl), and count them in the results.",
        choices=["raise", "skip"],
    )

    def __post_init__(self):
        check_options(self, parent=TrainingArguments)
        draws = self.language_draws  # checks that objective, languages and anchor fit together
        self.languages, self.anchor_language = list(draws.languages), draws.anchor
        self._check_objective_options()
        self._check_teaching()
        self._check_adapter()
        self._check_feature_cache()
        self.fsdp = as_choice(self.fsdp)
        check_chosen_engine(self)  # before the parent sets it up
        check_refused_options(self)
        check_trackers(self.report_to)
        self.report_to = self.report_to or "none"
        self._choose_best_metric()  # before the parent chooses the loss, which no evaluation computes
        if self.gradient_accumulation_steps < 1:
            raise ValueError(f"`gradient_accumulation_steps` must be >= 1; got {self.gradient_accumulation_steps}.")
        super().__post_init__()
        if isinstance(self.lr_scheduler_kwargs, str):  # the parent reads a string that begins like a JSON object
            raise ValueError(f"`lr_scheduler_kwargs` must be a JSON object; got {self.lr_scheduler_kwargs!r}.")
        check_processes(self)
        if (self.activation_checkpointing_kwargs or {}).get("offload") and self.device.type == "cpu":
            raise ValueError("`offload` of `activation_checkpointing_kwargs` moves states to the CPU: it needs a GPU.")
        if self.lr_scheduler_type in METRIC_SCHEDULERS:  # transformers' default is that lower is better
            mode = {"mode": "max" if self.greater_is_better else "min"}
            self.lr_scheduler_kwargs = mode | (self.lr_scheduler_kwargs or {})
        if self.fp16 and self.device.type == "cpu":
            raise ValueError("`fp16` has no effect on a CPU. Leave it out, or use a GPU; `bf16` works on both.")
        if self.bf16 and self.device.type == "cpu" and not _cpu_computes_bf16():
            logger.warning(
                "This CPU has no bf16 arithmetic: training with bf16=True is several times slower on it than without."
            )

    def _check_objective_options(self) -> None:
        objective = find_objective(self.objective)
        if self.embed_regularization and "embed_regularization" not in objective.options:
            owners = names_where(lambda one: "embed_regularization" in one.options)
            raise ValueError(f"`embed_regularization` belongs to {owners}; the objective is {objective.name}.")
        if self.ranking_weight == 0:
            return
        if objective.draws_per_clip or objective.has_teacher:
            owners = names_where(lambda one: not (one.draws_per_clip or one.has_teacher))
            raise ValueError(
                f"`ranking_weight` compares the languages of a step, so it belongs to {owners}; the objective is "
                f"{objective.name}."
            )
        if objective.num_drawn(len(self.languages), self.languages_per_step) < 2:
            raise ValueError("`ranking_weight` compares languages, so a step needs two or more of them.")

    def _check_teaching(self) -> None:
        objective = find_objective(self.objective)
        if not objective.has_teacher:
            for name in ("teacher", "distill_weight", "teach_audio", "hold_languages"):
                if getattr(self, name) not in (None, type(self).__dataclass_fields__[name].default):
                    owners = names_where(lambda one: one.has_teacher)
                    raise ValueError(f"`{name}` belongs to {owners}; the objective is {objective.name}.")
            return
        changes = [name for name in ("mix_probability", "patch_dropout", "audio_learning_rate") if getattr(self, name)]
        if changes or self.augmentation is not None:
            raise ValueError(
                f"{self.objective} freezes the audio side and embeds every clip once, as a whole: leave out "
                f"{' and '.join(f'`{name}`' for name in changes) or 'the augmentation'}."
            )
        if self.distill_weight == 0 and self.teach_audio == "none":
            raise ValueError("With `distill_weight` 0 and `teach_audio` 'none', there is no loss. Change one of them.")
        if self.hold_languages is not None:
            self.hold_languages = resolve_languages(self.hold_languages)
            others = [code for code in self.languages if code != self.anchor_language]
            if wrong := [code for code in self.hold_languages if code not in others]:
                raise ValueError(
                    f"`hold_languages` has {', '.join(wrong)}, but only `languages` other than the anchor can be "
                    f"held: {', '.join(others) or 'there are none'}. Their captions are needed, so add them to "
                    "`languages`."
                )

    def _check_adapter(self) -> None:
        if self.lora_rank is None:
            if self.lora_alpha is not None or self.lora_dropout != 0:
                raise ValueError("`lora_alpha` and `lora_dropout` configure an adapter: set `lora_rank` too, e.g. 16.")
            return
        for name in ("freeze_text", "text_cache_dir"):
            if getattr(self, name):
                raise ValueError(f"`lora_rank` trains the text tower through an adapter: leave out `{name}`.")

    def _check_feature_cache(self) -> None:
        if self.feature_cache_dir is None:
            for name in ("feature_cache_dtype", "feature_cache_max_gb"):
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise ValueError(f"`{name}` is about the features on disk: set `feature_cache_dir` too.")

    def _choose_best_metric(self) -> None:
        needed = (
            self.load_best_model_at_end or self.save_strategy == "best" or self.lr_scheduler_type in METRIC_SCHEDULERS
        )
        if self.metric_for_best_model is None and needed:
            self.metric_for_best_model = BEST_MODEL_FIGURE
        if self.metric_for_best_model is None:
            return
        name = str(self.metric_for_best_model).removeprefix("eval_")
        known = figure_names(self.languages)
        if not any(name == figure or name.endswith(f"_{figure}") for figure in known):
            near = get_close_matches(name, known, n=3, cutoff=0.5)
            guess = f" Did you mean {' or '.join(near)}?" if near else ""
            means = [figure for figure in known if figure.startswith("mean_text") or figure in CONSISTENCY_TITLES]
            raise ValueError(
                f"`metric_for_best_model` {self.metric_for_best_model!r} is not a figure of an evaluation in "
                f"{', '.join(self.languages)}.{guess} The figures are {', '.join(means)}, and the same with "
                "audio_to_text in place of text_to_audio, or with the code of a language in place of mean. If there "
                "are several evaluation sets, put the name of a set and an underscore in front."
            )
        if self.greater_is_better is None:
            self.greater_is_better = not is_lower_better(name)

    @property
    def language_draws(self) -> LanguageDraws:
        """The languages and captions that a step takes of each clip."""
        return LanguageDraws(
            self.objective,
            self.languages,
            self.anchor_language,
            self.languages_per_step,
            self.caption_choice,
            self.seed if self.data_seed is None else self.data_seed,
        )

    @property
    def loss_options(self) -> dict[str, Any]:
        """The options that the loss of the objective takes."""
        return {name: getattr(self, name) for name in find_objective(self.objective).options}

    @property
    def is_chunked(self) -> bool:
        """Whether a step encodes clips or captions in chunks."""
        return self.audio_chunk_size is not None or self.text_chunk_size is not None

    @property
    def augmentation(self) -> Augmentation | None:
        """The augmentation of the features, or None if all of it is off."""
        augmentation = Augmentation(**{item.name: getattr(self, item.name) for item in fields(Augmentation)})
        return None if augmentation.is_off else augmentation


def _cpu_computes_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("architecture") != "x86_64":
        return True  # not known; no warning is better than a wrong one
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
