"""`atri quickstart`: training, evaluation and search in minutes on a CPU, with generated sounds."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_atri.bounds import option
from modeling_atri.trainer.objectives import OBJECTIVES

from ..options import parse_options


DESCRIPTION = """\
Generate sound scenes with captions in eight languages, train a small AtriModel on them, evaluate it on other scenes,
and search with one caption in each language. This needs no download and no GPU, and takes about five minutes on two
cores.

The output folder then holds the model and its processor, results, a model card, a plot, and the sounds.

examples:
  atri quickstart
  atri quickstart --objective mlclap --output_dir quickstart-mlclap     # the baseline
"""

PLOT_NAME = "results.png"
_SHOWN_HITS = 3


@dataclass
class QuickstartArguments:
    """Options of `atri quickstart`."""

    output_dir: str = option("quickstart", "Folder for model, results and sounds.")
    objective: str = option("akcl", "Training objective; see `atri train --help`.", choices=OBJECTIVES.keys())
    num_train: int = option(1500, "Scenes to train on.")
    num_heldout: int = option(
        100, "Scenes to evaluate on. Their combinations of sounds are not in the training scenes."
    )
    duration_s: float = option(4.0, "Length of a scene, in seconds.")
    max_steps: int = option(300, "Training steps.")
    batch_size: int = option(64, "Scenes in each step.")
    learning_rate: float = option(1e-3, "Peak learning rate.")
    seed: int = option(0, "Seed of sounds, weights and random draws.")


def main(argv: list[str]) -> None:
    """Run the command."""
    (options,) = parse_options(argv, (QuickstartArguments,), DESCRIPTION, "atri quickstart")
    quickstart(options)


def quickstart(options: QuickstartArguments) -> dict[str, Any]:
    """Generate scenes, train, evaluate and search; return the results."""
    start = time.perf_counter(), time.process_time()
    from ..plots import plot_run
    from ..report import save_run

    folder = Path(options.output_dir)
    print(
        f"1. Making {options.num_train + options.num_heldout} sound scenes of {options.duration_s:g} s ...", flush=True
    )
    train_rows, heldout_rows = _make_scenes(options, folder / "sounds")
    print(f"2. Training with {options.objective} for {options.max_steps} steps ...", flush=True)
    trainer = _make_trainer(options, train_rows, heldout_rows)
    trainer.train()
    print("3. Evaluating on scenes with new combinations of sounds ...", flush=True)
    results = save_run(trainer)
    plot_run(results, trainer.state.log_history, folder / PLOT_NAME)
    print(f"Plot: {folder / PLOT_NAME}")
    print("\n4. Searching with one caption in each language (* marks the scene that it describes):")
    _ask(trainer, heldout_rows)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"\nDone in {wall / 60:.1f} minutes ({cpu / 60:.1f} minutes of CPU time). Everything is in {folder}/.")
    return results


def _make_scenes(options: QuickstartArguments, folder: Path):
    from modeling_atri.corpora.rows.load import load_rows
    from modeling_atri.corpora.rows.metadata import METADATA_FILE
    from modeling_atri.corpora.soundscapes.scenes import write_soundscapes

    rows = []
    for split, count in {"train": options.num_train, "heldout": options.num_heldout}.items():
        part = folder / f"{split}-{count}-scenes-{options.duration_s:g}-s-seed-{options.seed}"
        if not (part / METADATA_FILE).exists():  # written last, so the folder is complete
            write_soundscapes(part, count, seed=options.seed, split=split, duration_s=options.duration_s)
        rows.append(load_rows(part))
    return tuple(rows)


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
    names = {"train": "generated sounds (train)", "eval": "generated sounds (held out)", "seed": options.seed}
    facts = {"data": names, "model": {"initialized_from": "scratch"}}
    return AtriTrainer(model, args, processor, train_rows, heldout_rows, facts=facts)


def _ask(trainer, rows) -> None:
    """Rank all held-out scenes for one caption in each language. Each caption describes another scene."""
    from modeling_atri.encode.encoding import encode_audio, encode_text
    from modeling_atri.languages_atri import language_name
    from modeling_atri.top_k_atri import best_places

    languages = list(rows[0]["captions"])
    model, processor = trainer.model, trainer.processor
    audio = encode_audio(model, processor, rows["audio"], read_features=trainer.feature_cache)
    for number, language in enumerate(languages):
        target = number * len(rows) // len(languages)
        query = rows[target]["captions"][language][0]
        scores = encode_text(model, processor, query, language)[0] @ audio.T
        print(f"\n  {language_name(language)}: {query}")
        for place in best_places(scores, _SHOWN_HITS):
            mark = "*" if place == target else " "
            caption = rows[int(place)]["captions"][languages[0]][0]
            print(f"   {mark} {scores[place]:.2f}  {rows[int(place)]['audio_id']}  {caption}")
