"""The table of training objectives: which languages each one draws, its loss, and the options that belong to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast


# The losses are imported when they are used, because the help of the command line shows the names without torch.
if TYPE_CHECKING:
    from torch import Tensor

    from modeling_atri.loss_atri import Shard


@dataclass(frozen=True)
class LossInputs:
    """Everything that the loss of a step depends on, beside the embeddings.

    Args:
        scale (`torch.Tensor` or `float`): Inverse temperature, 1 / tau.
        ids (`torch.Tensor` of shape `(N,)`, *optional*): Items with equal id are positives of one another.
        shard (`Shard`, *optional*): This process's place in a batch that is spread over several processes.
        anchor (`int`, *optional*): Row of the anchor language among the languages of the step. None for an objective
            without an anchor.
        num_languages (`int`): Number of languages of the run.
        options (`dict`): Values of the training arguments that the objective names in `Objective.options`.
        teacher (`torch.Tensor` of shape `(N, D)` or `(K, N, D)`, *optional*): Embeddings of the anchor's captions by
            the teacher, for an objective that has one; or those that each language learns.
    """

    scale: "Tensor | float"
    ids: "Tensor | None"
    shard: "Shard | None"
    anchor: int | None
    num_languages: int
    options: Mapping[str, Any] = field(default_factory=dict)
    teacher: "Tensor | None" = None


Loss = Callable[[Any, "Tensor", LossInputs], "Tensor"]
PairWeights = Callable[[int, int | None, int, Mapping[str, Any]], list[tuple[float, float]]]


@dataclass(frozen=True)
class Objective:
    """One training objective.

    Args:
        name (`str`): Value of the argument `objective`.
        title (`str`): Name for people, in cards and plots.
        summary (`str`): One sentence for the help of the command line.
        loss (`Callable`): Takes the audio embeddings `(N, D)`, the caption embeddings `(K, N, D)` of the K languages
            of the step, and `LossInputs`; returns a scalar. The audio embeddings are None if the rows have no sounds,
            which only an objective with a teacher allows.
        draws_per_clip (`bool`): True if one language is drawn for each clip. False if the languages are drawn once for
            the whole batch, `languages_per_step` of them, or all.
        has_anchor (`bool`): Whether the anchor language is part of every draw, in addition to the language of a clip,
            or as one of the languages of the batch.
        pair_weights (`Callable`, *optional*): For a loss that is a weighted sum of InfoNCE terms. Takes the number of
            languages of the step, the row of the anchor, the number of languages of the run, and the options. Returns,
            for each language k of the step, the weights of A(audio, text_k) and A(text_anchor, text_k). With these
            weights a step can go language by language. Without them all embeddings are needed together, and the
            diagnostics take the audio-text terms to weigh the same.
        options (`tuple[str]`): Names of the training arguments that the loss takes.
        has_teacher (`bool`): Whether the captions learn from a frozen teacher. Then the audio side is frozen, rows
            need no sound, and the teacher's embeddings take the place of `text_anchor` in `pair_weights`. The option
            `distill_weight` adds the mean over the languages of the squared distance to the teacher.
    """

    name: str
    title: str
    summary: str
    loss: Loss
    draws_per_clip: bool
    has_anchor: bool
    pair_weights: PairWeights | None = None
    options: tuple[str, ...] = ()
    has_teacher: bool = False

    @property
    def fewest_languages(self) -> int:
        """The smallest number of languages that the objective can train on."""
        return 2 if self.has_anchor else 1

    def weigh(
        self, num_drawn: int, anchor: int | None, num_languages: int, options: Mapping[str, Any]
    ) -> list[tuple[float, float]]:
        """The weights of `pair_weights`. Without it, the audio-text terms weigh the same."""
        if self.pair_weights is None:
            return [(1 / num_drawn, 0.0)] * num_drawn
        return self.pair_weights(num_drawn, anchor, num_languages, options)

    def num_drawn(self, num_languages: int, per_step: int | None = None) -> int:
        """The number of languages that a clip takes part with in a step."""
        return self.fewest_languages if self.draws_per_clip else per_step or num_languages


def _kcl(audio: "Tensor", text: "Tensor", inputs: LossInputs) -> "Tensor":
    from .losses import kcl_loss

    return kcl_loss(audio, text, inputs.scale, inputs.ids, inputs.shard)


def _kcl_weights(
    num_drawn: int, anchor: int | None, num_languages: int, options: Mapping[str, Any]
) -> list[tuple[float, float]]:
    return [(1 / num_drawn, 0.0)] * num_drawn


def _akcl(audio: "Tensor", text: "Tensor", inputs: LossInputs) -> "Tensor":
    from .losses import akcl_loss

    return akcl_loss(
        audio,
        text,
        inputs.scale,
        inputs.ids,
        anchor=cast(int, inputs.anchor),
        weight=inputs.options["akcl_weight"],
        num_languages=inputs.num_languages,
        shard=inputs.shard,
    )


def _akcl_weights(
    num_drawn: int, anchor: int | None, num_languages: int, options: Mapping[str, Any]
) -> list[tuple[float, float]]:
    from .losses import akcl_weights

    return akcl_weights(num_drawn, cast(int, anchor), options["akcl_weight"], num_languages)


def _cacl(audio: "Tensor", text: "Tensor", inputs: LossInputs) -> "Tensor":
    from .losses import cacl_loss

    return cacl_loss(audio, text[0], text[1], inputs.scale, inputs.ids, inputs.shard)


def _mlclap(audio: "Tensor", text: "Tensor", inputs: LossInputs) -> "Tensor":
    from .losses import mlclap_loss

    regularization = inputs.options["embed_regularization"]
    return mlclap_loss(audio, text[0], inputs.scale, inputs.ids, regularization, inputs.shard)


def _teach(audio: "Tensor | None", text: "Tensor", inputs: LossInputs) -> "Tensor":
    from .losses import teach_loss

    weight, audio_term = inputs.options["distill_weight"], inputs.options["teach_audio"]
    return teach_loss(
        audio, text, cast(Any, inputs.teacher), inputs.scale, inputs.ids, weight, audio_term, inputs.shard
    )


def _teach_weights(
    num_drawn: int, anchor: int | None, num_languages: int, options: Mapping[str, Any]
) -> list[tuple[float, float]]:
    from .losses import teach_weights

    return teach_weights(num_drawn, options["teach_audio"])


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(
            name="kcl",
            title="KCL",
            summary="each clip with its captions in all languages",
            loss=_kcl,
            draws_per_clip=False,
            has_anchor=False,
            pair_weights=_kcl_weights,
        ),
        Objective(
            name="akcl",
            title="AKCL",
            summary="kcl, and in addition every language with the anchor language",
            loss=_akcl,
            draws_per_clip=False,
            has_anchor=True,
            pair_weights=_akcl_weights,
            options=("akcl_weight",),
        ),
        Objective(
            name="cacl",
            title="CACL",
            summary="each clip, its caption in the anchor language, and its caption in one other language",
            loss=_cacl,
            draws_per_clip=True,
            has_anchor=True,
        ),
        Objective(
            name="mlclap",
            title="ML-CLAP",
            summary="each clip with its caption in one random language",
            loss=_mlclap,
            draws_per_clip=True,
            has_anchor=False,
            options=("embed_regularization",),
        ),
        Objective(
            name="teach",
            title="Teaching",
            summary="the captions of all languages learn a frozen teacher's embeddings of the anchor's captions",
            loss=_teach,
            draws_per_clip=False,
            has_anchor=False,
            pair_weights=_teach_weights,
            options=("distill_weight", "teach_audio"),
            has_teacher=True,
        ),
    )
}
JOINT_OBJECTIVES = [name for name, one in OBJECTIVES.items() if not one.has_teacher]  # train audio and text together
FULL_OBJECTIVE = "kcl"  # trains every clip on all languages with equal weights; the diagnostics compare others with it


def find_objective(name: str) -> Objective:
    """The objective of this name.

    Raises:
        ValueError: There is no such objective.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"Unknown objective {name!r}; choose one of {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def names_where(condition: Callable[[Objective], bool]) -> str:
    """Names of the objectives that fulfil a condition, for error messages: "kcl, akcl and teach"."""
    *others, last = [name for name, objective in OBJECTIVES.items() if condition(objective)]
    return f"{', '.join(others)} and {last}" if others else last


def objective_loss(
    name: str, audio_embeds: "Tensor | None", text_embeds: "Tensor", inputs: LossInputs, ranking_weight: float = 0.0
) -> "Tensor":
    """The loss of an objective, plus `ranking_weight` times [`ranking_divergence`].

    The embeddings are L2-normalised: clips `(N, D)`, and captions `(K, N, D)` in the languages of the step.
    """
    loss = find_objective(name).loss(audio_embeds, text_embeds, inputs)
    if ranking_weight > 0 and audio_embeds is not None:
        from .losses import ranking_divergence

        loss = loss + ranking_weight * ranking_divergence(audio_embeds, text_embeds, inputs.scale, inputs.shard)
    return loss
