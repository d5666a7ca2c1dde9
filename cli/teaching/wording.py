"""The texts that `atri teach` prints: the plan before training, and one sentence with the result."""

from typing import TYPE_CHECKING, Any

from modeling_atri.hub_cards.cards.taught import listed
from modeling_atri.hub_cards.results import Results
from modeling_atri.hub_cards.tables import counted
from modeling_atri.languages_atri import language_name
from modeling_atri.trainer.teach.taught_rows import captions_in
from modeling_atri.trainer.teach.teachers import TEACHER_COLUMN, Teacher
from modeling_atri.trainer.trainer import AtriTrainer

from .student import Student


if TYPE_CHECKING:
    from datasets import Dataset


def outcome(results: Results) -> str:
    """One sentence: recall before and after, or the cosine to the teacher and how to measure recall."""
    training, teaching = results["training"], results.get("teaching", {})
    anchor = language_name(training["anchor_language"] or "")
    if "metrics" in results:
        after = [
            f"{language_name(code)} {100 * results['metrics'][f'{code}_text_to_audio_R@1']:.1f} %"
            for code in results["evaluated_on"]["languages"]
        ]
        recall = teaching.get("teacher_recall")
        before = "" if recall is None else f" was {100 * recall:.1f} % in {anchor} with the teacher, and"
        return (
            f"Text-to-audio R@1 on {counted(results['evaluated_on']['num_clips'], 'clip')}{before} is now "
            f"{listed(after)}."
        )
    advice = "to measure recall, pass sounds or stored embeddings with captions as --eval_data"
    if "held_back_cosine" not in teaching:
        return f"Nothing was measured, because there are too few captions to hold some back: {advice}."
    cosines = [f"{language_name(code)} {cosine:.3f}" for code, cosine in teaching["held_back_cosine"].items()]
    return (
        f"The mean cosine to the teacher's {anchor} embedding, on "
        f"{counted(teaching['held_back_captions'], 'caption')} held back from training, is {listed(cosines)}; "
        f"{advice}."
    )


def summary(
    trainer: AtriTrainer,
    student: Student,
    teacher: Teacher | None,
    eval_rows: "Dataset | None",
    held_back: "Dataset | None",
) -> str:
    """The plan: languages, teacher, parts of the model and which are frozen, data, and length of the training."""
    args, model = trainer.args, trainer.atri_model
    rows: Any = trainer.train_dataset
    anchor = language_name(args.anchor_language)
    taught = listed([language_name(code) for code in args.languages if code != args.anchor_language] or [anchor])
    width = model.config.projection_dim
    if teacher is None:
        source = f"the column {TEACHER_COLUMN} of the training data, {width} numbers a row"
    else:
        license = f", license {teacher.license}" if teacher.license else ", license not known"
        source = f"{teacher.name} ({teacher.kind}, {width} numbers a caption{license})"
    counts = {code: len(list(captions_in(rows, code))) for code in args.languages}
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    kept = ", frozen" if args.freeze_text else f", with an adapter of rank {args.lora_rank}" if args.lora_rank else ""
    first = rows[0]
    has_sounds = first.get("audio") is not None or first.get("audio_embedding") is not None
    audio_term = f"{args.teach_audio} with the frozen audio" if has_sounds and args.teach_audio != "none" else "none"
    measured = (
        f"recall on {counted(len(eval_rows), 'clip')}"
        if eval_rows is not None
        else f"cosine to the teacher on {counted(len(held_back), 'row')} held back"
        if held_back is not None
        else "nothing: there are too few captions to hold some back"
    )
    steps = args.max_steps if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
    rates = f"{args.head_learning_rate or args.learning_rate:g} for the head"
    if not args.freeze_text:
        rates += f", {args.text_learning_rate or args.learning_rate:g} for the text encoder"
    facts = {
        "teaches": taught,
        "teacher": source,
        "text side": f"{student.text}{kept}; {trained / 1e6:.2f} M parameters are trained",
        "audio side": f"{student.audio}, frozen" if "none" not in student.audio else student.audio,
        "captions": ", ".join(f"{count:,} {language_name(code)}" for code, count in counts.items()),
        "audio term": audio_term,
        "measured": measured,
        "training": f"{steps} steps" if isinstance(steps, int) else steps,
        "learning rates": rates,
    }
    return "\n".join(f"{name:>14}: {text}" for name, text in facts.items())
