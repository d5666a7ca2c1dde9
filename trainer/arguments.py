"""Everything a training run can be told."""

import logging
import math
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import torch
from transformers import TrainingArguments

from modeling_atri.corpora.rows.recordings import MIN_SECONDS
from modeling_atri.hub_cards.figures import BEST_MODEL_FIGURE, CONSISTENCY_TITLES, figure_names, is_lower_better
from modeling_atri.languages_atri import ATRI_LANGUAGES, resolve_language

from .data.augmentation import Augmentation
from .data.collator import check_objective
from .run.engines import check_chosen_engine, check_processes


logger = logging.getLogger(__name__)

METRIC_SCHEDULERS = ("reduce_lr_on_plateau", "greedy")  # the rate follows `metric_for_best_model`


@dataclass
class AtriTrainingArguments(TrainingArguments):
    r"""
    [`~transformers.TrainingArguments`] with what ATRI adds: objective, languages, what is frozen, learning rates of
    the parts, and augmentation. Everything is checked when the object is made.

    The best model (`load_best_model_at_end`, `save_strategy="best"`) is that of the highest `mean_text_to_audio_R@1`,
    unless `metric_for_best_model` names another figure of [`AtriTrainer.evaluate`]; of ranks and of the consistency
    figures the lowest is best, unless `greater_is_better` is given. Schedulers that follow a figure
    (`reduce_lr_on_plateau`, `greedy`) go by the same.

    NOTE: other defaults than in transformers: `learning_rate` 5e-6, `per_device_train_batch_size` 24 and
    `num_train_epochs` 10 (the paper's); `remove_unused_columns` False (the collator needs all columns);
    `logging_nan_inf_filter` False (a NaN loss must be seen).
    """

    learning_rate: float = field(
        default=5e-6,
        metadata={
            "help": "Peak learning rate. Default: 5e-6; `atri train` from scratch: 1e-3; `atri diagnose twins`: 0.01."
        },
    )
    per_device_train_batch_size: int = field(
        default=24,
        metadata={
            "help": "Clips of a batch on each device; a step compares those of all devices. What is left of an epoch "
            "is left out if it is a single clip, or fewer clips than devices."
        },
    )
    num_train_epochs: float = field(default=10.0, metadata={"help": "Epochs; each sees every clip once."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay False: the collator needs them."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "Hide NaN and infinite losses in the logs."})

    objective: str = field(
        default="akcl",
        metadata={
            "help": "kcl: each clip with its captions in all languages. akcl: kcl, and all languages with the anchor. "
            "cacl: audio, anchor and one other language. mlclap: one random language a clip.",
            "choices": ["kcl", "akcl", "cacl", "mlclap"],
        },
    )
    languages: list[str] = field(
        default_factory=lambda: list(ATRI_LANGUAGES),
        metadata={"help": "Languages to train and evaluate: FLORES-200 codes, ISO 639 codes or English names."},
    )
    anchor_language: str = field(
        default="eng_Latn", metadata={"help": "Anchor of akcl and cacl, and of the consistency metrics."}
    )
    languages_per_step: int | None = field(
        default=None,
        metadata={
            "help": "kcl and akcl: languages of a step, drawn once a batch (an unbiased estimate at a share of the "
            "text cost); akcl's anchor is one of them. Default: all."
        },
    )
    akcl_weight: float = field(
        default=0.5, metadata={"help": "akcl: weight of the audio-text terms; text-text terms have the rest."}
    )
    ranking_weight: float = field(
        default=0.0,
        metadata={
            "help": "kcl and akcl: weight of a term that pulls the languages' rankings of the clips together (their "
            "Jensen-Shannon divergence, nats). Of the languages of languages_per_step alone it is smaller, and no "
            "estimate of that of all. 0 leaves it out."
        },
    )
    embed_regularization: bool = field(
        default=False, metadata={"help": "mlclap: add ml-clap's regulariser of the embeddings."}
    )
    exact_step: bool = field(
        default=True,
        metadata={
            "help": "kcl and akcl: go language by language, in the memory of one (akcl: two), with the same gradient. "
            "ranking_weight needs all embeddings together: the captions of all languages but one are encoded twice, "
            "unless the text tower is frozen. False keeps all languages' activations at once."
        },
    )
    audio_chunk_size: int | None = field(
        default=None,
        metadata={
            "help": "Clips of one forward pass on each device. A larger batch goes chunk by chunk, most chunks twice: "
            "the same gradient, with the activations of one chunk in memory, in about 4/3 of the time. So a batch may "
            "have as many negatives as you like. Default: the whole batch at once."
        },
    )
    text_chunk_size: int | None = field(
        default=None,
        metadata={
            "help": "Captions of one forward pass on each device, likewise. Language by language there are as many at "
            "a time as clips; cacl has twice as many, kcl and akcl without exact_step one for each language. Default: "
            "all at once."
        },
    )
    caption_choice: str = field(
        default="random",
        metadata={
            "help": "Which of a clip's parallel captions an epoch uses: a random index, or the first.",
            "choices": ["random", "first"],
        },
    )
    group_column: str | None = field(
        default=None,
        metadata={
            "help": "Column whose equal values make clips positives of one another (default: group_id, else audio_id)."
        },
    )
    freeze_audio: bool = field(default=False, metadata={"help": "Do not train the audio tower; its head is trained."})
    freeze_text: bool = field(
        default=False,
        metadata={"help": "Do not train the text tower, and run it without dropout; its head is trained."},
    )
    lora_rank: int | None = field(
        default=None,
        metadata={
            "help": "Train the text tower through a LoRA adapter of this rank, e.g. 16; it is saved with the other "
            "trained parts and without the tower. Default: none."
        },
    )
    lora_alpha: float | None = field(
        default=None, metadata={"help": "The adapter's change is scaled by alpha / rank. Default: twice the rank."}
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout on the adapter's input."})
    text_cache_dir: str | None = field(
        default=None,
        metadata={
            "help": "With freeze_text: keep what the text tower makes of each caption here (4 kB with SONAR); later "
            "epochs read it."
        },
    )
    audio_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the audio tower. Default: learning_rate."}
    )
    text_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the text tower. Default: learning_rate."}
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Of the projections and the logit scale. Default: learning_rate."}
    )
    patch_dropout: float | None = field(
        default=None,
        metadata={
            "help": "Share of a clip's patches left out in training: faster, and a regulariser. Default: as the model "
            "is configured (a new one: 0)."
        },
    )
    mix_probability: float = field(
        default=0.0,
        metadata={
            "help": "Augmentation: how often a clip is mixed with another of its group, whose captions it shares."
        },
    )
    time_warp: float = field(
        default=0.0,
        metadata={"help": "Augmentation: parts of a clip change speed, by up to exp(time_warp) to each other."},
    )
    mel_shift_bins: float = field(
        default=0.0, metadata={"help": "Augmentation: the spectrum moves by up to this many mel bins, up or down."}
    )
    equalizer_db: float = field(
        default=0.0, metadata={"help": "Augmentation: smooth random frequency response of this deviation, dB."}
    )
    gain_db: float = field(default=0.0, metadata={"help": "Augmentation: random gain, up to this many dB up or down."})
    time_masks: int = field(default=0, metadata={"help": "SpecAugment: masks over time."})
    time_mask_frames: int = field(default=100, metadata={"help": "SpecAugment: longest time mask, frames of 10 ms."})
    frequency_masks: int = field(default=0, metadata={"help": "SpecAugment: masks over mel bins."})
    frequency_mask_bins: int = field(default=8, metadata={"help": "SpecAugment: widest frequency mask, mel bins."})
    feature_cache_dir: str | None = field(
        default=None,
        metadata={"help": "Keep log-mel features of all clips here (256 kB for 10 s); later epochs read them."},
    )

    max_audio_seconds: float | None = field(
        default=30.0,
        metadata={
            "help": "Of a longer training clip each epoch takes a random part of this length, and decodes no more. "
            "inf (or None) takes clips whole; evaluation always does."
        },
    )
    on_bad_row: str = field(
        default="raise",
        metadata={
            "help": "Rows that cannot be used (missing, broken, silent or too short recordings, wrong captions): "
            "raise ends with an error that names them; skip leaves them out, lists them in the output folder "
            "(train_left_out.jsonl, eval_left_out.jsonl) and counts them in the results.",
            "choices": ["raise", "skip"],
        },
    )

    def __post_init__(self):
        if not isinstance(self.languages, (list, tuple)):
            raise ValueError(f"`languages` must be a list of languages; got {self.languages!r}.")
        self.languages = [resolve_language(language) for language in self.languages]
        self.anchor_language = resolve_language(self.anchor_language)
        self._check_ranges()
        self._check_adapter()
        check_objective(self.objective, self.languages, self.anchor_language, self.languages_per_step)
        self._check_choices()
        self._choose_best_metric()  # before the parent's choice, a loss that no evaluation computes
        check_chosen_engine(self)  # before the parent sets it up
        super().__post_init__()
        check_processes(self)
        if self.lr_scheduler_type in METRIC_SCHEDULERS:  # their own default is that lower is better
            mode = {"mode": "max" if self.greater_is_better else "min"}
            self.lr_scheduler_kwargs = mode | (self.lr_scheduler_kwargs or {})
        if self.bf16 and self.device.type == "cpu" and not _cpu_computes_bf16():
            logger.warning(
                "This CPU has no bf16 arithmetic: training with bf16=True is several times slower on it than without."
            )

    def _check_choices(self) -> None:
        if self.caption_choice not in ("random", "first"):
            raise ValueError(f"`caption_choice` must be 'random' or 'first'; got {self.caption_choice!r}.")
        if self.on_bad_row not in ("raise", "skip"):
            raise ValueError(f"`on_bad_row` must be 'raise' or 'skip'; got {self.on_bad_row!r}.")
        if self.remove_unused_columns:
            raise ValueError("`remove_unused_columns` must be False: captions and ids are no arguments of the model.")
        if self.embed_regularization and self.objective != "mlclap":
            raise ValueError(f"`embed_regularization` belongs to mlclap; the objective is {self.objective}.")
        if self.ranking_weight > 0:
            self._check_rankings()
        if self.label_smoothing_factor != 0:
            raise ValueError(
                "`label_smoothing_factor` is for losses over class labels; the objectives have none. Leave it 0; got "
                f"{self.label_smoothing_factor!r}."
            )

    def _check_rankings(self) -> None:
        if self.objective not in ("kcl", "akcl"):
            raise ValueError(
                f"`ranking_weight` compares all languages of a step, as kcl and akcl have them; the objective is "
                f"{self.objective}."
            )
        if min(len(self.languages), self.languages_per_step or len(self.languages)) < 2:
            raise ValueError("`ranking_weight` compares languages: train two or more of them a step.")

    def _check_adapter(self) -> None:
        if self.lora_rank is None:
            if self.lora_alpha is not None or self.lora_dropout != 0:
                raise ValueError("`lora_alpha` and `lora_dropout` are of an adapter: set `lora_rank` too, e.g. 16.")
            return
        if not (_is_number(self.lora_rank, Integral) and self.lora_rank >= 1):
            raise ValueError(f"`lora_rank` must be a whole number >= 1, or None; got {self.lora_rank!r}.")
        if self.lora_alpha is not None and not (_is_number(self.lora_alpha) and 0 < self.lora_alpha < math.inf):
            raise ValueError(f"`lora_alpha` must be a finite number > 0, or None; got {self.lora_alpha!r}.")
        if not (_is_number(self.lora_dropout) and 0 <= self.lora_dropout < 1):
            raise ValueError(f"`lora_dropout` must be a number in [0, 1); got {self.lora_dropout!r}.")
        for name in ("freeze_text", "text_cache_dir"):
            if getattr(self, name):
                raise ValueError(f"`lora_rank` trains the text tower through an adapter: leave out `{name}`.")

    def _check_ranges(self) -> None:
        for item in fields(Augmentation):
            value = getattr(self, item.name)
            if item.type is not int:
                _check_finite(item.name, value)
            elif not (_is_number(value, Integral) and value >= 0):
                raise ValueError(f"`{item.name}` must be a whole number >= 0; got {value!r}.")
        _check_finite("learning_rate", self.learning_rate)
        _check_finite("ranking_weight", self.ranking_weight)
        for name in ("audio_learning_rate", "text_learning_rate", "head_learning_rate"):
            if getattr(self, name) is not None:
                _check_finite(name, getattr(self, name))
        for name in ("akcl_weight", "mix_probability"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= 1):
                raise ValueError(f"`{name}` must be a number in [0, 1]; got {value!r}.")
        if self.patch_dropout is not None and not (_is_number(self.patch_dropout) and 0 <= self.patch_dropout < 1):
            raise ValueError(f"`patch_dropout` must be a number in [0, 1), or None; got {self.patch_dropout!r}.")
        for name in ("audio_chunk_size", "text_chunk_size"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value, Integral) and value >= 1):
                raise ValueError(f"`{name}` must be a whole number >= 1, or None; got {value!r}.")
        seconds = self.max_audio_seconds
        if seconds is not None and not (_is_number(seconds) and seconds >= MIN_SECONDS):
            raise ValueError(
                f"`max_audio_seconds` must be at least {MIN_SECONDS}, the shortest clip there may be, or None; got "
                f"{seconds!r}."
            )
        if self.languages_per_step is not None and not _is_number(self.languages_per_step, Integral):
            raise ValueError(f"`languages_per_step` must be a whole number, or None; got {self.languages_per_step!r}.")

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
                f"`metric_for_best_model` {self.metric_for_best_model!r} is no figure of an evaluation in "
                f"{', '.join(self.languages)}.{guess} There are {', '.join(means)}, and the same with audio_to_text "
                "or with the code of a language in place of mean. Of one of several evaluation sets, write its name "
                "and an underscore before that."
            )
        if self.greater_is_better is None:
            self.greater_is_better = not is_lower_better(name)

    @property
    def is_chunked(self) -> bool:
        """Whether a step encodes clips or captions in chunks."""
        return self.audio_chunk_size is not None or self.text_chunk_size is not None

    @property
    def augmentation(self) -> Augmentation | None:
        """The feature augmentation of these arguments, None where all of it is off."""
        augmentation = Augmentation(**{item.name: getattr(self, item.name) for item in fields(Augmentation)})
        return None if augmentation.is_off else augmentation


def _is_number(value: Any, kind: type = Real) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_finite(name: str, value: Any) -> None:
    if not (_is_number(value) and 0 <= value < math.inf):
        raise ValueError(f"`{name}` must be a finite number >= 0; got {value!r}.")


def _cpu_computes_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("architecture") != "x86_64":
        return True  # not known; better no warning than a wrong one
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
