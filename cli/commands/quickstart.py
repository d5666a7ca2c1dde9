"""`atri quickstart`: training, evaluation and search in minutes on a CPU, with generated sounds."""

import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from modeling_atri.bounds import Bounds, Positive, PositiveCount, check_options, option
from modeling_atri.corpora.soundscapes.combinations import NUM_HELDOUT
from modeling_atri.corpora.soundscapes.scenes import MAX_DURATION_S, MIN_DURATION_S, Split
from modeling_atri.trainer.objectives import JOINT_OBJECTIVES

from ..options import parse_options


if TYPE_CHECKING:
    from modeling_atri.hub_cards.results import DataNames, Results


DESCRIPTION = """\
Generate sound scenes with captions in eight languages, train a small AtriModel on them, evaluate it on other scenes,
and search with a caption and with a short query in each language. This needs no download and no GPU, and about seven
minutes of CPU time. At the end, it prints commands to go on with: to search the sounds, to open a page that plays
them, and to train further.

The output folder then holds the model and its processor, results, a model card, a plot, the sounds, and an index of
the single sounds.

examples:
  atri quickstart
  atri quickstart --objective mlclap --output_dir quickstart-mlclap     # the baseline
"""

PLOT_NAME = "results.png"
INDEX_NAME = "index"
_NUM_SINGLE = 72  # four scenes of each source
_SHOWN_HITS = 3
_SHORT_QUERY = ("dog", 1)  # source and number of the bare caption "a dog barks"


@dataclass
class QuickstartArguments:
    """Options of `atri quickstart`."""

    output_dir: str = option("quickstart", "Folder for model, results and sounds.")
    objective: str = option("akcl", "Training objective; see `atri train --help`.", choices=JOINT_OBJECTIVES)
    num_train: Annotated[int, Bounds("[2, inf)")] = option(1500, "Scenes to train on.")
    num_heldout: Annotated[int, Bounds(f"[1, {NUM_HELDOUT}]")] = option(
        100, "Scenes to evaluate on. Their combinations of sounds are not in the training scenes."
    )
    duration_s: Annotated[float, Bounds(f"[{MIN_DURATION_S:g}, {MAX_DURATION_S:g}]")] = option(
        4.0, "Length of a scene, in seconds."
    )
    max_steps: PositiveCount = option(300, "Training steps.")
    batch_size: Annotated[int, Bounds("[2, inf)")] = option(64, "Scenes in each step.")
    learning_rate: Positive = option(1e-3, "Peak learning rate.")
    seed: Annotated[int, Bounds("[0, 4294967295]")] = option(0, "Seed of sounds, weights and random draws.")

    def __post_init__(self):
        check_options(self)
        folder = Path(self.output_dir)
        for part in (folder, *folder.parents):
            if part.exists() and not part.is_dir():
                raise ValueError(f"`output_dir` must be a folder, but {str(part)!r} is a file. Choose another path.")

    @property
    def num_scenes(self) -> dict[Split, int]:
        """Number of scenes of each split."""
        return {"train": self.num_train, "heldout": self.num_heldout, "single": _NUM_SINGLE}

    @property
    def scene_folders(self) -> dict[Split, Path]:
        """Folder of each split."""
        name = f"scenes-of-{self.duration_s:g}-s-seed-{self.seed}"
        return {split: Path(self.output_dir, "sounds", f"{split}-{n}-{name}") for split, n in self.num_scenes.items()}


def main(argv: list[str]) -> None:
    """Run the command."""
    (options,) = parse_options(argv, (QuickstartArguments,), DESCRIPTION, "atri quickstart")
    quickstart(options)


def quickstart(options: QuickstartArguments) -> "Results":
    """Generate scenes, train, evaluate and search; return the results."""
    start = time.perf_counter(), time.process_time()
    from modeling_atri.hub_cards.cards import bare_query_text
    from modeling_atri.hub_cards.results import merge_results

    from ..printing.plots import plot_run
    from ..printing.report import save_run

    folder = Path(options.output_dir)
    num_scenes = sum(options.num_scenes.values())
    print(f"1. Making {num_scenes} sound scenes of {options.duration_s:g} s ...", flush=True)
    rows = _make_scenes(options)
    print(f"2. Training with {options.objective} for {options.max_steps} steps ...", flush=True)
    trainer = _make_trainer(options, rows["train"], rows["heldout"])
    trainer.train()
    print("3. Evaluating on scenes with new combinations of sounds, and on new single sounds ...", flush=True)
    trainer.facts = merge_results(trainer.facts, _evaluate_bare_queries(trainer, rows["single"]))
    save_run(trainer)
    results = trainer.results()
    print(f"\n{bare_query_text(results)}\n")
    plot_run(results, trainer.state.log_history, folder / PLOT_NAME)
    print(f"Plot: {folder / PLOT_NAME}")
    print("\n4. Searching with one caption in each language (* marks the scene that it describes):")
    _search(trainer, rows["heldout"], _caption_questions(rows["heldout"]))
    print("\n5. Searching the single sounds with a short query in each language (* marks the right ones):")
    _search(trainer, rows["single"], _short_questions(rows["single"]))
    has_index = _has_search_extra()
    if has_index:
        print("\n6. Indexing the single sounds ...", flush=True)
        _index_single_sounds(options)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"\nDone in {wall / 60:.1f} minutes ({cpu / 60:.1f} minutes of CPU time). Everything is in {folder}/.")
    print("\nNext, search the single sounds, open a page to ask and hear them, and train on sounds with captions:\n")
    print("\n".join(next_commands(options, has_index)))
    return results


def next_commands(options: QuickstartArguments, has_index: bool) -> list[str]:
    """Lines for a shell: search the single sounds for a dog, open their page, and train the model further.

    Without an index, two lines before them install what it needs and make it.
    """
    folder, scenes = Path(options.output_dir), options.scene_folders
    data: list[str | Path] = ["--train_data", scenes["train"], "--eval_data", scenes["heldout"]]
    tuned = folder.with_name(f"{folder.name}-tuned")
    commands: list[list[str | Path | int]] = [
        ["search", folder / INDEX_NAME, "a dog barks"],
        ["serve", folder / INDEX_NAME],
        ["train", "--model", folder, *data, "--max_steps", 20, "--output_dir", tuned],
    ]
    install = []
    if not has_index:
        install = [shlex.join([_program(Path(sys.executable).name), "-m", "pip", "install", "modeling_atri[search]"])]
        commands.insert(0, ["index", scenes["single"], folder / INDEX_NAME, "--model", folder])
    return [*install, *(shlex.join([_program("atri"), *map(str, command)]) for command in commands)]


def _has_search_extra() -> bool:
    return all(find_spec(name) is not None for name in ("lancedb", "gradio"))


def _index_single_sounds(options: QuickstartArguments) -> None:
    """Make an index of the single sounds with the saved model. An index of an earlier run is of another model."""
    from modeling_atri.search import SoundIndex
    from modeling_atri.search.index.tables import IndexTables

    path = Path(options.output_dir, INDEX_NAME)
    if IndexTables.exist(path):
        shutil.rmtree(path)
    SoundIndex.open(path, options.output_dir).add(options.scene_folders["single"])


def _program(name: str) -> str:
    """How a program of this environment is called from the current folder."""
    own, found = Path(sys.executable).with_name(name), shutil.which(name)
    if not own.exists() or (found is not None and Path(found) == own):
        return name
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def _make_scenes(options: QuickstartArguments) -> dict[Split, Any]:
    """Rows of each split, whose sounds are written unless they are there from an earlier run."""
    from modeling_atri.corpora.rows.load import load_rows
    from modeling_atri.corpora.soundscapes.scenes import write_soundscapes
    from modeling_atri.corpora.sources.metadata import METADATA_FILE

    for split, folder in options.scene_folders.items():
        if not (folder / METADATA_FILE).exists():  # written last, so the folder is complete
            write_soundscapes(folder, options.num_scenes[split], options.seed, split, options.duration_s)
    return {split: load_rows(folder) for split, folder in options.scene_folders.items()}


def _make_trainer(options: QuickstartArguments, train_rows, heldout_rows):
    from modeling_atri.languages_atri import ATRI_LANGUAGES
    from modeling_atri.trainer.arguments import AtriTrainingArguments
    from modeling_atri.trainer.scratch.model import ScratchArguments, caption_texts, model_from_scratch
    from modeling_atri.trainer.trainer import AtriTrainer

    sizes = ScratchArguments()
    model, processor = model_from_scratch(
        caption_texts(train_rows, ATRI_LANGUAGES), ATRI_LANGUAGES, sizes, options.seed
    )
    args = AtriTrainingArguments(
        output_dir=options.output_dir,
        objective=options.objective,
        max_steps=options.max_steps,
        per_device_train_batch_size=min(options.batch_size, options.num_train),
        learning_rate=options.learning_rate,
        warmup_steps=options.max_steps // 20,
        lr_scheduler_type="cosine",
        weight_decay=0.05,
        patch_dropout=0.3,
        seed=options.seed,
        feature_cache_dir=str(Path(options.output_dir) / "features"),
        logging_steps=max(options.max_steps // 20, 1),
        save_strategy="no",
        report_to="none",
    )
    data: DataNames = {
        "train": "generated sounds (train)",
        "eval": "generated sounds (held out)",
        "seed": options.seed,
    }
    facts: Results = {"data": data, "model": {"initialized_from": "scratch"}}
    return AtriTrainer(model, args, processor, train_rows, heldout_rows, facts=facts)


def _evaluate_bare_queries(trainer, rows) -> "Results":
    """R@1 of bare queries among single sounds, in each language, and what it means."""
    from modeling_atri.hub_cards.figures import BARE_QUERY_FIGURE
    from modeling_atri.trainer.evaluation.retrieval import RetrievalSet, retrieval_table

    languages = trainer.args.languages
    queries = RetrievalSet.from_rows(rows, languages)
    table = retrieval_table(trainer.embed(queries), queries.positives, trainer.args.anchor_language)
    num_sources = len(set(rows["group_id"]))
    definition = (
        f"A query names one of {num_sources} sources and nothing else, such as 'dog', 'a dog barks', 'bark of a dog' "
        f"and 'barking dog'. It is ranked against {len(rows)} scenes of single sounds, {len(rows) // num_sources} of "
        "each source, whose renderings are not in the training data. It is found if the first scene has its source."
    )
    metrics = {f"{name}_{BARE_QUERY_FIGURE}": table[f"{name}_text_to_audio_R@1"] for name in (*languages, "mean")}
    return {"metrics": metrics, "evaluated_on": {"bare_queries": definition}}


def _caption_questions(rows) -> Iterable[tuple[str, str, set[int]]]:
    """In each language, a caption of another scene, and the place of its scene."""
    languages = list(rows[0]["captions"])
    for number, language in enumerate(languages):
        target = number * len(rows) // len(languages)
        yield language, rows[target]["captions"][language][0], {target}


def _short_questions(rows) -> Iterable[tuple[str, str, set[int]]]:
    """In each language, the same short query, and the places of the scenes that it fits."""
    source, number = _SHORT_QUERY
    places = {place for place, group in enumerate(rows["group_id"]) if group == source}
    for language, texts in rows[min(places)]["captions"].items():
        yield language, texts[number], places


def _search(trainer, rows, questions: Iterable[tuple[str, str, set[int]]]) -> None:
    """Print the scenes that rank first for each question: a language, a query, and the places of the right scenes."""
    from modeling_atri.encode.encoding import encode_audio, encode_text
    from modeling_atri.languages_atri import language_name
    from modeling_atri.top_k_atri import best_places

    model, processor = trainer.model, trainer.processor
    audio = encode_audio(model, processor, rows["audio"], read_features=trainer.feature_cache)
    for language, query, right in questions:
        scores = encode_text(model, processor, query, language)[0] @ audio.T
        print(f"\n  {language_name(language)}: {query}")
        for place in best_places(scores, _SHOWN_HITS).tolist():
            row = rows[place]
            caption = next(iter(row["captions"].values()))[0]
            print(f"   {'*' if place in right else ' '} {scores[place]:.2f}  {row['audio_id']}  {caption}")
