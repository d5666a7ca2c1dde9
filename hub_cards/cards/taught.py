"""Texts of the cards of taught models: their embedding space, their teacher, and which embeddings stay valid."""

from collections.abc import Sequence

from modeling_atri.languages_atri import language_name

from ..results import UNKNOWN_MAKER, Results, TeacherFacts
from ..tables import counted


# With a teacher of these kinds, a taught model with an audio tower has the audio side of the teacher.
_WITH_AUDIO_SIDE = ("self", "atri", "clap")


def embedding_space_text(results: Results) -> str:
    """Describe the embedding space of a model, and what stored embeddings it searches; `""` if nothing is known."""
    parts = []
    if teacher := results.get("training", {}).get("teacher"):
        parts += [_training_text(results, teacher), _what_stays_valid(results, teacher), measured_text(results)]
    if (maker := results.get("model", {}).get("audio_embedded_by")) is not None:
        parts.append(
            f"This model has no audio tower. It searches embeddings of sounds that {maker_name(maker)} has made."
        )
    return "\n\n".join(part for part in parts if part)


def teacher_name(results: Results) -> str:
    """The name of the teacher for a card."""
    teacher = results.get("training", {}).get("teacher") or TeacherFacts()
    kind, name = teacher.get("kind"), teacher.get("name")
    if kind == "column":
        return f"the vectors in the column {as_code(name)} of the training data" if name else "the given vectors"
    if kind == "self" or name is None:
        start = results.get("model", {}).get("initialized_from")
        return as_code(start) if start and start != "scratch" else "the model that training started from"
    return as_code(name)


def teacher_license_text(results: Results) -> str:
    """State the license of the teacher; `""` if there is no teacher or its license is not known."""
    license = (results.get("training", {}).get("teacher") or {}).get("license")
    return f"The teacher, {teacher_name(results)}, is published under `{license}`." if license else ""


def measured_text(results: Results) -> str:
    """State the measured recall of the teacher, or the measured cosine to it; `""` if nothing was measured."""
    teaching = results.get("teaching", {})
    anchor = _anchor(results)
    if (recall := teaching.get("teacher_recall")) is not None:
        return (
            f"On the evaluation set, the teacher's embeddings of the {anchor} captions reach {100 * recall:.1f} % "
            "text-to-audio R@1."
        )
    if not (cosines := teaching.get("held_back_cosine")):
        return ""
    shown = ", ".join(f"{language_name(code)} {cosine:.3f}" for code, cosine in cosines.items())
    count = counted(teaching["held_back_captions"], "caption")
    return f"Mean cosine to the teacher's {anchor} embedding, on {count} held back from training: {shown}."


def listed(names: Sequence[str]) -> str:
    """Join names for a sentence: `A`, `A and B`, `A, B and C`."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def as_code(name: str) -> str:
    """A name in Markdown's typewriter face."""
    return f"`{name}`"


def maker_name(maker: str) -> str:
    """The name, for a sentence, of the model that embeds the sounds."""
    return f"{maker}, whose name is not known," if maker == UNKNOWN_MAKER else as_code(maker)


def _training_text(results: Results, teacher: TeacherFacts) -> str:
    """The embedding space of the model, and what it was trained on."""
    model, training = results.get("model", {}), results.get("training", {})
    name, anchor = teacher_name(results), _anchor(results)
    width = model.get("projection_dim") or teacher.get("width")
    size = f" ({width} numbers, L2-normalised)" if width else ""
    count = teacher.get("num_captions")
    captions = counted(count, f"{anchor} caption") if count else f"{anchor} captions"
    audio = training.get("teach_audio") or "none"
    sounds = "No sounds were used." if audio == "none" else f"Frozen audio embeddings were used too ({audio.upper()})."
    text = (
        f"The embeddings are in the space of {name}{size}. The text side was trained to give a caption in any of the "
        f"languages above the embedding that {name} gives to its {anchor} version. The training data were {captions} "
        f"and their translations. {sounds}"
    )
    if held := training.get("hold_languages"):
        text += f" The embeddings of these languages were kept: {listed([language_name(code) for code in held])}."
    return text


def _what_stays_valid(results: Results, teacher: TeacherFacts) -> str:
    name = teacher_name(results)
    has_audio_side = results.get("model", {}).get("audio_embedded_by") is None
    if has_audio_side and teacher.get("kind") in _WITH_AUDIO_SIDE:
        return (
            f"The audio side is that of {name}, and training did not change it. Audio embeddings that {name} has "
            "made, such as those of an archive, stay valid. This model searches them in all the languages above."
        )
    return (
        f"Audio embeddings in the space of {name} stay valid, because training did not change that space. This model "
        "searches them in all the languages above."
    )


def _anchor(results: Results) -> str:
    return language_name(results.get("training", {}).get("anchor_language") or "eng_Latn")
