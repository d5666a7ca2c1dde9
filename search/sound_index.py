"""`SoundIndex`: an index of sounds on LanceDB, in a folder or on object storage."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from modeling_atri.processes import num_processes, process_rank, told_by_main
from modeling_atri.top_k_atri import check_top_k

from .hits import Hit
from .index import nearest
from .index.from_store import add_store, is_store
from .index.indexing import EncodeOptions, IndexSummary, add_folder
from .index.stats import IndexStats, stats_of
from .index.tables import IndexFacts, IndexTables, location_of
from .models import IndexModel, languages_of
from .windows import WindowPlan, plan_windows


if TYPE_CHECKING:
    from modeling_atri import AtriModel, AtriProcessor

    from .agreement import Agreement
    from .index.indexing import WriteFiles
    from .questions import Question


class SoundIndex:
    """Sounds that can be searched by text in any language of a model, by sound, or by both.

    An index is made with [`SoundIndex.open`] and filled with [`SoundIndex.add`]. One process at a time can write to
    it, and any number can search it meanwhile.

    Attributes:
        tables: the tables of the index.
        model: the model of the index, which is loaded when it is first needed.
    """

    def __init__(self, tables: IndexTables, model: IndexModel):
        self.tables = tables
        self.model = model

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        model: "AtriModel | str | PathLike[str] | None" = None,
        processor: "AtriProcessor | None" = None,
        window_s: float | None = None,
        hop_s: float | None = None,
        storage_options: Mapping[str, str] | None = None,
        device: str | None = None,
    ) -> "SoundIndex":
        """Open an index, or make one if there is none at `path` and a model is given.

        Args:
            path (`str` or `Path`): folder of the index, or its address on object storage, such as
                `s3://bucket/index`.
            model (`AtriModel`, `str` or `Path`, *optional*): the model, or its Hub id or folder. Its audio fingerprint
                must be that of the index. Default: the model that the index notes, which is loaded when it is first
                needed.
            processor (`AtriProcessor`, *optional*): the processor of the model. Default: the one that was saved with
                it.
            window_s (`float`, *optional*): length of a window of a new index in seconds. Default: that of the audio
                tower, 10.12 s with CED.
            hop_s (`float`, *optional*): step from one window to the next in seconds. Default: half a window.
            storage_options (mapping, *optional*): how to reach object storage, that of the index and that of the
                sounds, by the names of LanceDB (`endpoint`, `region`, `access_key_id` ...). Default: the environment
                (`AWS_ENDPOINT_URL` ...).
            device (`str`, *optional*): device to compute on. Default: the CPU, or where a given model is.

        Raises:
            ValueError: `path` is no index and no model is given, or it is a file or a folder of other files; the model
                does not exist, is another one than that of the index, or has changed since; other windows are asked
                for than those of the index.
            ImportError: the extra `search` is not installed.
        """
        location = location_of(path)
        if model is None and processor is not None:
            raise ValueError("`processor` was given without its `model`. Pass both.")
        if model is not None and not IndexTables.exist(path, storage_options):
            return cls._create(
                location, IndexModel(location, model, processor, device=device), window_s, hop_s, storage_options
            )
        tables = IndexTables.open(path, storage_options)
        facts = tables.facts
        _check_windows(facts, window_s, hop_s)
        named = facts.model if model is None else model
        if named is None:
            raise ValueError(f"The index {location!r} does not name its model. Pass the model.")
        noted = IndexModel(location, named, processor, facts.fingerprint, facts.model, device)
        if model is not None:
            noted.load()
        return cls(tables, noted)

    @classmethod
    def _create(
        cls,
        location: str,
        model: IndexModel,
        window_s: float | None,
        hop_s: float | None,
        storage_options: Mapping[str, str] | None,
    ) -> "SoundIndex":
        IndexTables.check_new(location)  # before the model is loaded
        loaded, processor = model.load()
        plan = plan_windows(loaded, processor, window_s, hop_s)
        facts = IndexFacts(
            model=model.name or None,
            fingerprint=model.fingerprint or "",
            projection_dim=loaded.config.projection_dim,
            languages=list(languages_of(model.name)),
            window_s=plan.window_s,
            hop_s=plan.hop_s,
        )
        return cls(IndexTables.create(location, facts, storage_options), model)

    @property
    def plan(self) -> WindowPlan:
        """The windows of the index."""
        facts = self.tables.facts
        return WindowPlan(facts.window_s or 0.0, facts.hop_s or 0.0)

    def add(
        self,
        sounds: Any,
        columns: str | PathLike[str] | None = None,
        batch_size: int = 16,
        num_workers: int | None = None,
        pad_short: bool = False,
        on_error: Literal["raise", "skip"] = "skip",
        progress: bool = False,
        engine: "WriteFiles | None" = None,
    ) -> IndexSummary:
        """Add a folder of sounds, rows that hold sounds, or stored embeddings.

        A folder is followed when it is added again: files that are new or have other content are encoded, moved ones
        keep their vectors, and those that are gone are removed. Rows are never removed. Sounds are written some
        hundreds at a time, completely or not at all, so a process that is killed can be started again.

        Of several processes that a launcher started, each calls this method inside of
        [`~processes.launched_processes`], and encodes its share of the files of a folder. With a
        [`~search.RayEngine`] as `engine`, workers on one or many machines encode them.

        Args:
            sounds: one of
                - a folder of sound files (`str` or `Path`), or its address on object storage;
                - a folder that `atri encode` wrote, or other stored embeddings, see
                  [`~embedding_store.open_vectors`];
                - rows, such as a `datasets.Dataset`: mappings with `audio` (a sound in any form that
                  [`~encode.encode_audio`] takes) or `audio_embedding` (the vector that the model gives the sound, or
                  for a model without an audio tower, the one that it takes), and `audio_id`, which becomes the path.
                  Their other values that are text, numbers, truth values, days, times or lists of texts become
                  columns.
            columns (`str` or `Path`, *optional*): file with the columns of the sounds of a folder. Default: its
                `metadata.jsonl` or `metadata.csv`, if there is one.
            batch_size (`int`, *optional*, defaults to 16): windows of the audio tower per forward pass.
            num_workers (`int`, *optional*): threads that decode, see [`~encode.encode_audio`].
            pad_short (`bool`, *optional*, defaults to `False`): zero-pad sounds below 0.15 s instead of refusing them.
            on_error (`str`, *optional*, defaults to `"skip"`): `"skip"` lists a sound that cannot be read, `"raise"`
                ends with an error.
            progress (`bool`, *optional*, defaults to `False`): show progress bars.
            engine (*optional*): encodes and writes the files of a folder.

        Returns:
            `IndexSummary`.

        Raises:
            ValueError: there is no such folder or no sound in it, the sounds do not fit the model, another process
                writes to the index, or an argument is wrong; with `on_error="raise"`, a sound cannot be read.
        """
        options = EncodeOptions(batch_size, num_workers, pad_short, on_error, progress)
        is_folder = isinstance(sounds, (str, PathLike)) and not is_store(sounds)
        if not is_folder and (engine is not None or num_processes() > 1):
            raise ValueError("Several processes, and Ray, only index folders of sounds. Add this in one process.")
        with ExitStack() as stack:
            told_by_main(lambda: stack.enter_context(self.tables.writing()))
            if process_rank() == 0 and self.model.has_moved:
                self.tables.note_model(self.model.name)
            if is_folder:
                if not self.plan.window_s:
                    raise ValueError(
                        f"The model of the index takes stored embeddings and no sounds, so the folder {str(sounds)!r} "
                        "cannot be added. Add embeddings that `atri encode` wrote, or rows with `audio_embedding`."
                    )
                load = self.model.load
                summary = add_folder(self.tables, load, self.plan, sounds, options, columns, engine)
            else:
                summary = self._add(sounds, columns, options)
            told_by_main(lambda: nearest.refresh(self.tables))
        return summary

    def _add(self, sounds: Any, columns: str | PathLike[str] | None, options: EncodeOptions) -> IndexSummary:
        """Add what is no folder of sounds."""
        if is_store(sounds):
            return add_store(self.tables, self.model.load, sounds, columns, options.progress)
        if isinstance(sounds, Mapping) or not isinstance(sounds, Iterable):
            raise ValueError(
                "`sounds` must be a folder, stored embeddings, a data set, or a list of rows, but is a "
                f"{type(sounds).__name__}."
            )
        if columns is not None:
            raise ValueError("`columns` names a side file of a folder. Rows hold their columns themselves.")
        from .index.sound_rows import add_rows

        return add_rows(self.tables, self.model.load, self.plan, sounds, options)

    def search(
        self,
        query: "str | Question | None" = None,
        language: str | None = None,
        top_k: int = 10,
        where: str | None = None,
        without: str | None = None,
        like: Any = None,
        like_weight: float = 0.5,
        by: Literal["file", "moment"] = "file",
        moments_per_file: int = 1,
        exact: bool | None = None,
    ) -> list[Hit]:
        """The sounds or moments that fit best, best first.

        Args:
            query (`str` or `Question`, *optional*): what is to be heard; or a question that [`SoundIndex.question`]
                made, which the arguments `language`, `without` and `like` belong to then.
            language (`str`, *optional*): language of the texts, as a code or an English name. Default: it is found in
                them, which may go wrong for a few words.
            top_k (`int`, *optional*, defaults to 10): the most hits.
            where (`str`, *optional*): condition of SQL on the columns, such as
                `"duration_s < 30 AND licence = 'cc0'"`.
            without (`str`, *optional*): what is not to be heard. From the score of a sound, 0.4 times its
                similarity to this text is subtracted, as far as it exceeds that of the mean sound of the index; where
                it is below, the score rises. A sound that is as similar to it as the mean sound keeps its score.
            like (*optional*): a sound to find similar ones: a path or other form that `encode_audio` takes, the path
                of a sound of the index as hits have it, or a hit. Sounds of the index are not encoded again. A sound
                below 0.15 s is padded with silence.
            like_weight (`float`, *optional*, defaults to 0.5): from 0 to 1, what `like` counts beside the text.
            by (`str`, *optional*, defaults to `"file"`): `"file"` finds whole sounds, `"moment"` the parts of them
                that fit.
            moments_per_file (`int`, *optional*, defaults to 1): the most moments of one file.
            exact (`bool`, *optional*): whether to compare with every row. Default: as the size of the index demands.

        Returns:
            A list of `Hit`. Equal scores are in the order of folders and paths.

        Raises:
            ValueError: there is no question, the language is not one of the model, `like` cannot be read, or an
                argument is wrong.
        """
        from .answers import answer
        from .questions import Question

        if isinstance(query, Question):
            if not (language is None and without is None and like is None):
                raise ValueError("`language`, `without` and `like` belong to `question()`, which made the question.")
            question = query
        else:
            question = self.question(query, language, without, like, like_weight)
        return answer(self.tables, [question], top_k, by, where, moments_per_file, exact)[0]

    def question(
        self,
        text: str | None = None,
        language: str | None = None,
        without: str | None = None,
        like: Any = None,
        like_weight: float = 0.5,
    ) -> "Question":
        """Make a question for `search`, which also says what language was found; see there for the arguments."""
        from .answers import stored_vector
        from .question_language import begin_loading
        from .questions import make_question

        among = self.tables.facts.languages or None
        if among and language is None and not (text is None and without is None):
            begin_loading()
        model, processor = self.model.load()
        stored = partial(stored_vector, self.tables)
        return make_question(model, processor, text, language, without, like, like_weight, stored, among)

    def compare_languages(
        self,
        queries: Mapping[str, str],
        top_k: int = 10,
        where: str | None = None,
        by: Literal["file", "moment"] = "file",
        exact: bool | None = None,
    ) -> "Agreement":
        """Ask the same question in several languages, and return what each finds and how far they agree.

        Args:
            queries: the question by language, in at least two: `{"en": "a dog barks", "fr": "un chien aboie"}`.
            top_k (`int`, *optional*, defaults to 10): number of first hits of which the overlap is computed.
            where, by, exact (*optional*): as in `search`.

        Raises:
            ValueError: there are fewer than two languages, one is unknown or given twice, or a text is empty.
        """
        from .agreement import DEPTH, Agreement, by_code
        from .answers import answer

        texts = by_code(queries)
        questions = [self.question(text, language) for language, text in texts.items()]
        depth = max(check_top_k(top_k), DEPTH)
        hits = answer(self.tables, questions, depth, by, where, exact=exact)
        return Agreement(dict(zip(texts, hits, strict=True)), texts, top_k, depth)

    def remove(self, paths: Sequence[str] | None = None, where: str | None = None) -> int:
        """Remove sounds by path or by a filter, and return their number.

        Args:
            paths: paths of sounds as hits have them, or absolute paths of files.
            where: condition of SQL on the columns.

        Raises:
            ValueError: not exactly one of both is given, or the index has no sound of a path.
        """
        if (paths is None) == (where is None):
            raise ValueError("Pass either `paths` or `where`.")
        if isinstance(paths, (str, os.PathLike)):
            raise ValueError(f"`paths` must be a list of paths, got {paths!r}. Pass [{paths!r}] for one.")
        with self.tables.writing():
            if where is not None:
                return self.tables.delete_where(where)
            keys = self.tables.keys_of(map(os.fspath, paths or ()))
            self.tables.delete(keys)
            return len(keys)

    def optimize(self) -> None:
        """Merge small fragments, refresh the vector index, and remove old versions of the table."""
        with self.tables.writing():
            self.tables.remove_doubles()
            self.tables.compact()
            nearest.refresh(self.tables, is_thorough=True)

    def stats(self) -> IndexStats:
        """Figures of the index."""
        return stats_of(self.tables)


def _check_windows(facts: IndexFacts, window_s: float | None, hop_s: float | None) -> None:
    """Raise a ValueError if other windows are asked for than those of the index."""
    for name, given, noted in (("window_s", window_s, facts.window_s), ("hop_s", hop_s, facts.hop_s)):
        if given is not None and given != noted:
            raise ValueError(
                f"The index has `{name}` {noted}, which cannot be changed; got {given}. Leave it out, or make a new "
                "index."
            )
