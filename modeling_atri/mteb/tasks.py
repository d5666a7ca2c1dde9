"""Retrieval between texts in several languages and sounds, as tasks of mteb with our figures beside mteb's own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset

from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.languages_atri import language_name, resolve_language
from modeling_atri.sources import public_name

from .consistency import AUDIO_TO_TEXT, TEXT_TO_AUDIO, RememberingEncoder, figures_by_subset
from .installed import AbsTaskRetrieval, TaskMetadata
from .split_data import digest_of_rows, split_data


_DIGITS_IN_NAME = 8
_ANCHOR = "eng_Latn"


@dataclass(frozen=True)
class _Evaluated:
    """Scores of all subsets, by subset, until mteb has asked for them.

    mteb asks for one subset after the other. Each of its evaluations has a timer of its own, by which the scores of
    an earlier one are told from those of this one.
    """

    model: Any
    timer: Any
    split: str
    scores: dict[str, dict[str, Any]]

    def holds(self, model: Any, timer: Any, split: str, subset: str) -> bool:
        return self.model is model and self.timer is timer and self.split == split and subset in self.scores


class _SoundRetrieval(AbsTaskRetrieval):
    """Retrieval in one direction, with a subset for each language.

    A subset's scores have, beside those of mteb, the figures of `retrieval_table` of its language in this direction,
    and the figures that compare the languages (`mrv`, `mean_rank_std`, `embedding_gap`, `embedding_distance`), which
    are the same in all subsets. So all languages of the task are evaluated together, whichever of them are asked for,
    and each clip and each caption is encoded once. Similarity is the cosine in our figures, and the model's in mteb's.

    The data is that of `rows`, or else the data set on the Hub that `metadata` names, in mteb's own format; a caption
    must then have the same id in every language, and a clip too.

    Attributes:
        rows: Rows as `load_rows` returns them; None for a data set on the Hub.
        anchor_language: FLORES-200 code of the language that gap and distance are measured from. If the task lacks
            it, it is the first.
    """

    rows: ClassVar[Dataset | None] = None
    anchor_language: ClassVar[str] = _ANCHOR
    direction: ClassVar[str]
    # They have no embeddings, which the figures need.
    _support_cross_encoder = False
    _support_search = False

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._evaluated: _Evaluated | None = None

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Load all languages, also those that were filtered out, because the figures compare them."""
        if self.data_loaded:
            return
        if self.rows is None:
            wanted, self.hf_subsets = self.hf_subsets, self.metadata.hf_subsets
            try:
                super().load_data(num_proc, **kwargs)
            finally:
                self.hf_subsets = wanted
            return
        (split,) = self.metadata.eval_splits
        data = split_data(self.rows, self.metadata.hf_subsets, self.direction == TEXT_TO_AUDIO)
        self.dataset = {subset: {split: of_subset} for subset, of_subset in data.items()}
        self.data_loaded = True

    def unload_data(self) -> None:
        """Forget the data, and scores that nobody asked for."""
        self._evaluated = None
        super().unload_data()

    def _evaluate_subset(
        self, model: Any, data_split: Any, *, hf_split: str, hf_subset: str, timer: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Scores of a subset. The first that is asked for evaluates all."""
        known = self._evaluated
        if known is None or not known.holds(model, timer, hf_split, hf_subset):
            known = _Evaluated(model, timer, hf_split, self._evaluate_all(model, hf_split, timer, **kwargs))
        scores = known.scores.pop(hf_subset)
        self._evaluated = known if known.scores.keys() & set(self.hf_subsets) else None
        return scores

    def _evaluate_all(
        self, model: Any, split: str, timer: Any, prediction_folder: Path | None = None, **kwargs: Any
    ) -> dict[str, dict[str, Any]]:
        encoder = RememberingEncoder(model)
        data = {subset: self.dataset[subset][split] for subset in self.metadata.hf_subsets}
        scores = {
            subset: super(_SoundRetrieval, self)._evaluate_subset(
                encoder,
                of_subset,
                hf_split=split,
                hf_subset=subset,
                timer=timer,
                prediction_folder=prediction_folder if subset in self.hf_subsets else None,
                **kwargs,
            )
            for subset, of_subset in data.items()
        }
        figures = figures_by_subset(encoder, data, self.direction, self._anchor())
        return {subset: {**of_subset, **figures[subset]} for subset, of_subset in scores.items()}

    def _anchor(self) -> str | None:
        """The subset of the anchor language; None if there is none."""
        codes = {
            resolve_language(named[0]): subset for subset, named in self.metadata.hf_subsets_to_langscripts.items()
        }
        return codes.get(self.anchor_language)


class TextToAudioRetrieval(_SoundRetrieval):
    __doc__ = f"Find the clips that a text describes.\n{_SoundRetrieval.__doc__}"
    direction = TEXT_TO_AUDIO


class AudioToTextRetrieval(_SoundRetrieval):
    __doc__ = f"Find the texts that describe a clip.\n{_SoundRetrieval.__doc__}"
    direction = AUDIO_TO_TEXT


def retrieval_tasks(
    source: Any,
    name: str | None = None,
    split: str | None = None,
    *,
    languages: Sequence[str] | None = None,
    group_column: str | None = None,
    anchor_language: str = _ANCHOR,
    **metadata: Any,
) -> list[AbsTaskRetrieval]:
    """Make a text-to-audio and an audio-to-text task for mteb of any data that `load_rows` takes.

    mteb looks cached results up by the name of a task alone. Therefore the name ends in eight digits of the digest of
    the data (captions, ids, groups and contents of recordings): changed data is another task.

    Args:
        source: A folder, a file, the id of a data set on the Hub, or rows, as in `load_rows`.
        name (`str`, *optional*): Name of the data, such as `"Clotho"`, which gives the tasks
            `ClothoT2ARetrieval-0123abcd` and `ClothoA2TRetrieval-0123abcd`. Default: the last part of the source's
            name. Rows need one.
        split (`str`, *optional*): Which split to load, as in `load_rows`. mteb's name of it is `"test"` by default.
        languages (sequence of `str`, *optional*): Languages that every row must have. Default: those of the first row.
        group_column (`str`, *optional*): As in `load_rows`.
        anchor_language (`str`, *optional*, defaults to `"eng_Latn"`): Language that embedding gap and distance are
            measured from.
        metadata: Fields of mteb's `TaskMetadata` that both tasks get, such as `license`, `reference` or
            `bibtex_citation`. To submit tasks, fill all of them.

    Returns:
        The two tasks, for `mteb.evaluate(model, tasks)`.

    Raises:
        ValueError: As in `load_rows`; or rows have embeddings instead of recordings, or no name.
        ImportError: mteb is not installed.

    Example:
        >>> tasks = retrieval_tasks("clips/dev", "Clips")  # doctest: +SKIP
        >>> results = mteb.evaluate(AtriMtebEncoder.from_pretrained("quickstart"), tasks)  # doctest: +SKIP
        >>> results[0].get_score(getter=lambda scores: scores["mrv"])  # doctest: +SKIP
    """
    name = _checked_name(source, name)
    rows = load_rows(source, split, languages=languages, group_column=group_column)
    if "audio" not in rows.column_names:
        raise ValueError(
            f"The rows of {name!r} have embeddings instead of recordings, but mteb gives recordings to a model. Pass "
            "the data with its recordings, or use `atri evaluate`."
        )
    codes = list(rows.features["captions"])
    digest = digest_of_rows(rows, codes)
    path = public_name(source) if isinstance(source, (str, Path)) else name
    shared = {
        "dataset": {"path": path, "revision": digest},
        "eval_splits": [split or "test"],
        "eval_langs": {code: [code.replace("_", "-")] for code in codes},
    }
    tasks = []
    for base, short in ((TextToAudioRetrieval, "T2A"), (AudioToTextRetrieval, "A2T")):
        task_name = f"{name}{short}Retrieval-{digest[:_DIGITS_IN_NAME]}"
        fields = _default_metadata(name, base.direction, codes) | shared | {"name": task_name} | metadata
        members = {
            "__doc__": fields["description"],
            "metadata": TaskMetadata(**fields),
            "rows": rows,
            "anchor_language": resolve_language(anchor_language),
        }
        tasks.append(type(f"{name}{short}Retrieval", (base,), members)())
    return tasks


def _checked_name(source: Any, name: str | None) -> str:
    """The name of the data as part of a task's and of a file's name."""
    if name is None:
        if not isinstance(source, (str, Path)):
            raise ValueError(
                f"Rows ({type(source).__name__}) need a `name`, which becomes a part of the tasks' names."
            )
        name = "".join(part[0].upper() + part[1:] for part in re.findall(r"\w+", Path(public_name(source)).stem))
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(
            f"`name` is {name!r}, but it is a part of the tasks' names and of files, so it may have letters, digits, "
            "'_', '-' and '.' only."
        )
    return name


def _default_metadata(name: str, direction: str, codes: Sequence[str]) -> dict[str, Any]:
    """What is known of any such task. The main score is that of mteb's own tasks on AudioCaps and Clotho."""
    to_audio = direction == TEXT_TO_AUDIO
    what = "the recording that a caption describes" if to_audio else "the captions that describe a recording"
    languages = ", ".join(language_name(code) for code in codes)
    return {
        "description": f"Retrieve {what}, on {name}, with parallel captions in {languages}.",
        "type": "Any2AnyMultilingualRetrieval",
        "category": "t2a" if to_audio else "a2t",
        "modalities": ["text", "audio"],
        "main_score": "hit_rate_at_5",
        "domains": ["AudioScene"],
        "task_subtypes": ["Environment Sound Retrieval"],
    }
