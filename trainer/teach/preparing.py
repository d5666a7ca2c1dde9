"""Before the first step of `teach`: load the teacher, and compute the embeddings of captions and clips."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
from torch import Tensor

from modeling_atri.corpora.rows.bad_rows import Problem, kind_of
from modeling_atri.corpora.rows.plain_rows import CheckedRows
from modeling_atri.encode.encoding import encode_audio
from modeling_atri.encode.fingerprints import audio_fingerprint
from modeling_atri.hub_cards.results import TeacherFacts
from modeling_atri.modeling_atri import AtriModel
from modeling_atri.processing_atri import AtriProcessor

from ..arguments import AtriTrainingArguments
from ..data.batches import without_audio
from ..data.streams.training_stream import TrainingStream
from .tables import KeyedTable, caption_table, digests, read_facts, write_table
from .taught_rows import TaughtRows, captions_in, check_teacher_column
from .teachers import COLUMN, SELF, TEACHER_COLUMN, Teacher, load_teacher, model_teacher


FOLDER = "teaching"  # in the output folder of a run


@dataclass(frozen=True)
class TeachingData:
    """The training data of a run of `teach`.

    Args:
        rows: Rows with the embeddings that a step needs. None for a stream, whose rows have them already.
        audio_term: The audio term of the loss, `"none"` if the rows have no sounds.
        teacher: Facts of the teacher.
    """

    rows: TaughtRows | None
    audio_term: str
    teacher: TeacherFacts


def column_teacher(
    rows: datasets.Dataset | CheckedRows | TrainingStream,
    args: AtriTrainingArguments,
    width: int,
    teacher: Teacher | None,
) -> TeacherFacts | None:
    """Check the teacher's vectors that rows contain, and return the facts of this teacher; None without vectors.

    Args:
        rows: Checked rows.
        args: Arguments of the run.
        width: Width of the model's embeddings.
        teacher: A loaded teacher, instead of the arguments' `teacher`.

    Raises:
        ValueError: The vectors do not fit the model or the rows, or another teacher is named as well.
    """
    if isinstance(rows, TrainingStream):
        has_vectors = rows.facts.has_teacher
    elif isinstance(rows, CheckedRows):
        has_vectors = rows.has_vectors(TEACHER_COLUMN)
    else:
        has_vectors = TEACHER_COLUMN in rows.column_names
    if not has_vectors:
        return None
    if teacher is not None or args.teacher is not None:
        raise ValueError(
            f"The training rows have a column `{TEACHER_COLUMN}`, and a `teacher` is named too. Remove one of them."
        )
    if isinstance(rows, TrainingStream):  # the vectors of its first rows stand for all
        fingerprint, _ = check_teacher_column(rows.sample, width, args.languages[0])
        return TeacherFacts(name=TEACHER_COLUMN, kind=COLUMN, width=width, fingerprint=fingerprint)
    fingerprint, count = check_teacher_column(rows, width, args.languages[0])
    return TeacherFacts(name=TEACHER_COLUMN, kind=COLUMN, width=width, fingerprint=fingerprint, num_captions=count)


@dataclass(frozen=True)
class TeachingPreparation:
    """Prepares the data of a run.

    A resumed run reads the tables in its output folder. A new run reuses only the tables of captions, if the same
    teacher made them. It encodes the sounds anew, because the sounds of the same ids may have changed.

    Args:
        args: Arguments of the run.
        model, processor: The model at its start.
        rows: Checked rows.
        read_clip: Returns the features of a clip.
        states: Returns the pooled states of tokens, as a [`TextCache`] does. None runs the text tower.
        teacher: A loaded teacher, instead of the arguments' `teacher`.
        column: Facts from `column_teacher`, if the rows contain the teacher's vectors.
    """

    args: AtriTrainingArguments
    model: AtriModel
    processor: AtriProcessor
    rows: Sequence[dict]
    read_clip: Callable[[Any], Tensor]
    states: Callable[[Tensor, Tensor], Tensor] | None = None
    teacher: Teacher | None = None
    column: TeacherFacts | None = None

    @property
    def _part(self) -> tuple[int, int]:
        return self.args.process_index, self.args.world_size

    @property
    def _shows_progress(self) -> bool:
        return self.args.process_index == 0 and not self.args.disable_tqdm

    def prepare(self, resumed: str | None = None) -> TeachingData:
        """Prepare the data.

        Args:
            resumed (`str`, *optional*): Fingerprint of the teacher, if a run is resumed.

        Raises:
            ValueError: The teacher does not fit the model or the rows, or a resumed run had another teacher.
        """
        args, first = self.args, self.rows[0]
        has_sounds = first.get("audio") is not None or first.get("audio_embedding") is not None
        audio_term = args.teach_audio if has_sounds else "none"
        _check_audio_term(audio_term, args)
        clips = (
            self._clip_table(resumed is not None) if audio_term != "none" and first.get("audio") is not None else None
        )
        table, facts = self._teach(resumed) if self.column is None else (None, self.column)
        _check_resumed(facts, resumed)
        held = {code: self._held_table(code, resumed is not None) for code in args.hold_languages or ()}
        rows = TaughtRows(self.rows, args.anchor_language, table, held, clips, uses_audio=audio_term != "none")
        return TeachingData(rows, audio_term, facts)

    def _teach(self, resumed: str | None) -> tuple[KeyedTable, TeacherFacts]:
        """The table of a teacher that is a model, and the facts of the teacher."""
        anchor, path = self.args.anchor_language, self._path("teacher")
        if anchor not in self.args.languages:
            raise ValueError(
                f"The teacher embeds captions in the anchor language {anchor}, but `languages` has only "
                f"{', '.join(self.args.languages)}. Add {anchor} to `languages`, choose another `anchor_language`, or "
                f"add the teacher's vectors to the rows as the column `{TEACHER_COLUMN}`."
            )
        teacher = self.teacher
        if teacher is None and self.args.teacher is not None:
            teacher = load_teacher(self.args.teacher, anchor, device=self.args.device)
        if teacher is None:
            teacher = self._model_itself(anchor)
        width = self.model.config.projection_dim
        if teacher.width != width:
            raise ValueError(
                f"The embeddings of the teacher {teacher.name!r} have {teacher.width} numbers, but those of the model "
                f"have {width} (`projection_dim`). Use a model whose embeddings are as wide as the teacher's."
            )
        # In a resumed run, the model has the weights of the checkpoint, but the table is that of its first weights.
        known = read_facts(path)
        trusts_file = teacher.kind == SELF and known.get("kind") == SELF and known.get("fingerprint") == resumed
        table = self._captions(path, anchor, teacher, trusts_file)
        facts = teacher.facts(len(table))
        return table, facts | {"fingerprint": table.facts["fingerprint"]}

    def _held_table(self, language: str, is_resumed: bool) -> KeyedTable:
        """The embeddings that the model itself gives to the captions in a held language before the first step."""
        path = self._path(f"held_{language}")
        if is_resumed and not read_facts(path):
            raise ValueError(
                f"{path} is missing or damaged. It holds the embeddings that the model gave to the captions in "
                f"{language} when the run started, and the model has changed since then. Restore the file, its .json "
                "and its .keys.npy, or start a new run in another `output_dir`."
            )
        return self._captions(path, language, self._model_itself(language), is_resumed)

    def _captions(self, path: Path, language: str, teacher: Teacher, trusts_file: bool) -> KeyedTable:
        captions = partial(captions_in, self.rows, language)
        return caption_table(path, captions, teacher, self._part, self._shows_progress, trusts_file)

    def _model_itself(self, language: str) -> Teacher:
        return model_teacher(self.model, self.processor, language, states=self.states)

    def _clip_table(self, is_resumed: bool) -> KeyedTable:
        """The embeddings of the rows' sounds by the frozen audio side."""
        path, fingerprint = self._path("clips"), audio_fingerprint(self.model, self.processor)
        ids = [str(row["audio_id"]) for row in without_audio(self.rows)]
        known = read_facts(path)
        if is_resumed and known.get("fingerprint") == fingerprint:
            table = KeyedTable(path)
            if table.has_all(digests([name for name in ids if name not in known["problems"]])):
                return table
        rank, world_size = self._part
        own = np.array_split(np.arange(len(ids)), world_size)[rank].tolist()
        names = [f"Row {ids[index]!r}" for index in own]

        def write(file: Path) -> tuple[np.ndarray, dict[str, Problem]]:
            options: dict[str, Any] = {"batch_size": self.args.per_device_eval_batch_size, "out": file, "names": names}
            options |= {"progress": self._shows_progress, "read_features": self.read_clip}
            if self.args.on_bad_row != "skip":
                encode_audio(self.model, self.processor, self._sounds(own), **options)
                return digests(ids[index] for index in own), {}
            _, failures = encode_audio(self.model, self.processor, self._sounds(own), on_error="skip", **options)
            problems = {
                ids[own[one.index]]: Problem(kind_of(cast(ValueError, one.error)), one.reason) for one in failures
            }
            return digests(ids[index] for index in own if ids[index] not in problems), problems

        facts = {"kind": "audio", "model": self.model.config._name_or_path, "fingerprint": fingerprint}
        return write_table(path, write, facts, self._part)

    def _sounds(self, indices: Sequence[int]) -> Iterator[Any]:
        for index in indices:
            yield self.rows[index]["audio"]

    def _path(self, name: str) -> Path:
        return Path(str(self.args.output_dir)) / FOLDER / f"{name}.npy"


def teaching_of_stream(
    rows: TrainingStream, args: AtriTrainingArguments, column: TeacherFacts, resumed: str | None = None
) -> TeachingData:
    """The data of a run on a stream, whose rows have the teacher's vectors, and embeddings if they have sounds.

    Args:
        rows: The stream.
        args: Arguments of the run.
        column: Facts from `column_teacher`.
        resumed: Fingerprint of the teacher, if a run is resumed.

    Raises:
        ValueError: There is nothing to compare captions with, or a resumed run had another teacher.
    """
    audio_term = "none" if rows.facts.embeddings is None else args.teach_audio
    _check_audio_term(audio_term, args)
    _check_resumed(column, resumed)
    return TeachingData(None, audio_term, column)


def _check_audio_term(audio_term: str, args: AtriTrainingArguments) -> None:
    if audio_term == "none" and args.distill_weight == 0:
        raise ValueError(
            "With `distill_weight` 0, the loss compares captions with sounds alone, but the training rows have no "
            "sounds. Add sounds or their embeddings, or raise `distill_weight`."
        )


def _check_resumed(facts: TeacherFacts, resumed: str | None) -> None:
    if resumed is not None and facts["fingerprint"] != resumed:
        raise ValueError(
            f"The run had another teacher than {facts['name']!r} before it was stopped (fingerprint {resumed}, now "
            f"{facts['fingerprint']}). Resume it with the same teacher, or start a new run in another `output_dir`."
        )
