"""The model that `atri teach` teaches: the audio side of the teacher, and a text encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from modeling_atri.configuration_atri import AtriEmbeddedAudioConfig
from modeling_atri.embedded_audio_atri import AtriEmbeddingExtractor
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.pretrained.audio_sides import audio_side_of, embedded_audio_side
from modeling_atri.pretrained.clap import load_clap_audio_side
from modeling_atri.pretrained.loading import load_model, reason_of
from modeling_atri.pretrained.models import make_feature_extractor
from modeling_atri.pretrained.towers import load_text_tower
from modeling_atri.processing_atri import AtriProcessor
from modeling_atri.sources import public_name
from modeling_atri.trainer.arguments import AtriTrainingArguments
from modeling_atri.trainer.model.adapters import has_adapter
from modeling_atri.trainer.scratch.model import ScratchTextArguments, caption_texts
from modeling_atri.trainer.teach.students import join_student, text_from_scratch
from modeling_atri.trainer.teach.taught_rows import teacher_vectors
from modeling_atri.trainer.teach.teachers import TEACHER_COLUMN, Teacher, load_teacher


if TYPE_CHECKING:
    from datasets import Dataset


START_NAME = "start"  # folder of the base model of an adapter


class Student(NamedTuple):
    """The model that is taught, and where its parts come from, for the printed plan."""

    model: AtriModel
    processor: AtriProcessor
    text: str
    audio: str


def find_teacher(args: AtriTrainingArguments, trust_remote_code: bool, rows: "Dataset") -> Teacher | None:
    """Load the teacher that the options name; None if the training rows contain the teacher's vectors."""
    if args.teacher is not None:
        try:
            return load_teacher(args.teacher, args.anchor_language, trust_remote_code, args.device)
        except (ValueError, ImportError, MemoryError, torch.OutOfMemoryError):
            raise
        # The libraries that read the files raise errors of any class where a file is damaged.
        except Exception as error:
            raise ValueError(f"The teacher {args.teacher!r} cannot be loaded: {reason_of(error)}") from error
    if TEACHER_COLUMN not in rows.column_names:
        raise ValueError(
            f"There is no teacher. Name a model with --teacher, or add a column {TEACHER_COLUMN} with the vector of "
            "each row to the training data."
        )
    return None


def load_or_make_student(
    text_model: str | None,
    sizes: ScratchTextArguments,
    args: AtriTrainingArguments,
    rows: "Dataset",
    teacher: Teacher | None,
    checkpoint: str | None,
    trust_remote_code: bool,
) -> Student:
    """The model to teach: from the resumed checkpoint, the ATRI teacher itself, or joined from its parts."""
    start = Path(str(args.output_dir), START_NAME)
    is_itself = teacher is not None and teacher.kind == "atri" and text_model is None
    if args.hold_languages and not is_itself:
        raise ValueError(
            "--hold_languages keeps languages that the teacher's own text side knows. It needs an ATRI model as "
            "--teacher, and no --text_model."
        )
    if checkpoint is not None:
        continued = args.lora_rank is not None and not is_itself
        source = start if continued else args.teacher if args.lora_rank is not None else checkpoint
        model, processor = load_model(str(source), trust_remote_code)
        if args.lora_rank is None:  # results must not name the checkpoint as the origin of the weights
            model.config.name_or_path = str(args.teacher) if is_itself else ""
    elif is_itself:
        model, processor = load_model(str(args.teacher), trust_remote_code)
    else:
        model, processor = _make_student(text_model, sizes, args, rows, teacher, trust_remote_code)
    if has_adapter(model):
        raise ValueError(
            f"{args.teacher!r} is an adapter. Save it as a whole model first: load it, call "
            "`modeling_atri.trainer.model.adapters.merge_adapter(model)`, and save model and processor."
        )
    if args.lora_rank is not None and checkpoint is None and not is_itself:
        # An adapter refers to its base model by name.
        model.save_pretrained(start)
        processor.save_pretrained(start)
        model, processor = load_model(str(start), trust_remote_code)
    text = f"that of {public_name(str(args.teacher))}" if is_itself else text_model or "a small encoder from scratch"
    embedded = isinstance(model.config.audio_config, AtriEmbeddedAudioConfig)
    audio = "none: the result searches embeddings that the teacher has made" if embedded else "that of the teacher"
    return Student(model, processor, text, audio)


def _make_student(
    text_model: str | None,
    sizes: ScratchTextArguments,
    args: AtriTrainingArguments,
    rows: "Dataset",
    teacher: Teacher | None,
    trust_remote_code: bool,
) -> tuple[AtriModel, AtriProcessor]:
    """Join the audio side of the teacher, if it has one, and the text encoder that the options name."""
    if text_model is None:
        if args.freeze_text or args.lora_rank is not None:
            wrong = "--freeze_text" if args.freeze_text else "--lora_rank"
            raise ValueError(
                f"{wrong} keeps the weights of a text encoder, but those of a new encoder are random. Name a "
                "pretrained encoder with --text_model."
            )
        captions = caption_texts(rows, args.languages)
        text, tokenizer = text_from_scratch(captions, args.languages, sizes, args.seed)
    else:
        text = load_text_tower(text_model)
        tokenizer = _tokenizer_of(text_model)
    extractor: Any
    if teacher is not None and teacher.kind == "atri":
        model, processor = load_model(str(args.teacher), trust_remote_code)
        audio, extractor = audio_side_of(model), processor.feature_extractor
    elif teacher is not None and teacher.kind == "clap":
        audio, extractor = load_clap_audio_side(str(args.teacher)), make_feature_extractor(str(args.teacher))
    else:
        width = teacher_vectors(rows[0]).shape[1] if teacher is None else teacher.width
        source = None if teacher is None else teacher.name
        audio, extractor = embedded_audio_side(width, source, normalized=True), AtriEmbeddingExtractor(width, source)
    return join_student(audio, extractor, text, tokenizer, args.seed)


def _tokenizer_of(text_model: str) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(text_model)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{text_model!r} has no tokenizer that can be loaded. Name a folder or Hub id that has the text encoder "
            "and its tokenizer, such as cointegrated/SONAR_200_text_encoder."
        ) from error
