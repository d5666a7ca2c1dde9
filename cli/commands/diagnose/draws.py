"""`atri diagnose draws`: measure the data distribution error of a run's epochs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from modeling_atri.bounds import PositiveCount, check_options, option
from modeling_atri.hub_cards.tables import counted
from modeling_atri.languages_atri import ATRI_LANGUAGES, resolve_language, resolve_languages
from modeling_atri.trainer.data.draws import CAPTION_CHOICES, LanguageDraws
from modeling_atri.trainer.objectives import JOINT_OBJECTIVES, find_objective

from ...loading import DATA_HELP, data_name
from ...options import parse_options
from ...outputs import check_output_folder


DESCRIPTION = """\
Data distribution error of every epoch, computed from the draws of `atri train` with the same options. Nothing is
trained, and no recording is decoded.

An epoch has no error if it trains each clip on all its captions in all languages equally. ML-CLAP trains a clip on one
of K languages and has an error of 2 (1 - 1/K), CACL trains it on two and has 2 (1 - 2/K), and KCL and AKCL use all
languages and have 0. The error over pairs of language and caption also counts the captions that were not drawn.
"So far" is the error of all epochs until then together: later epochs draw what earlier ones lacked. Text-text terms do
not count.

examples:
  atri diagnose draws --train_data clips/train
  atri diagnose draws --train_data clips/train --objective mlclap kcl --languages_per_step 3 --epochs 20
"""

_SHOWN_EPOCHS = 8  # columns of the table, at most


@dataclass
class DrawsArguments:
    """Options of `atri diagnose draws`; those that `atri train` has too mean the same."""

    train_data: str = field(metadata={"help": DATA_HELP})
    train_split: str | None = option(None, "Split (or subfolder).")
    objective: list[str] = field(
        default_factory=lambda: ["mlclap", "cacl", "kcl"],
        metadata={"help": "Objectives to compare.", "choices": JOINT_OBJECTIVES},
    )
    languages: list[str] | None = option(
        None,
        "Languages of the run, in the same order, because the draws depend on it. Default: those of the "
        "first row of the data, in the paper's order, as in `atri train`.",
    )
    anchor_language: str = option("eng_Latn", "Anchor language of akcl and cacl.")
    languages_per_step: int | None = option(None, "kcl and akcl: number of languages in a step. Default: all.")
    caption_choice: str = option("random", "Which of a clip's captions an epoch uses.", choices=CAPTION_CHOICES)
    epochs: PositiveCount = option(10, "Number of epochs.")
    per_device_train_batch_size: PositiveCount = option(24, "Clips of a batch on each process.")
    num_processes: PositiveCount = option(1, "Number of processes of the run.")
    dataloader_drop_last: bool = option(False, "Leave out a last step that is not full.")
    seed: int = option(42, "The run's --data_seed, or its --seed if it has none.")
    output_dir: str = option("diagnosis", "Folder for draws.json and draws.png.")

    def __post_init__(self):
        check_options(self)


def main(argv: list[str]) -> None:
    """Run the mode."""
    (args,) = parse_options(argv, (DrawsArguments,), DESCRIPTION, "atri diagnose draws")
    diagnose_draws(args)


def diagnose_draws(args: DrawsArguments) -> dict[str, Any]:
    """Replay the draws, measure their error, print and save the figures, and return them."""
    check_output_folder(args.output_dir)
    from modeling_atri.corpora.rows.load import load_rows
    from modeling_atri.files import write_json
    from modeling_atri.hub_cards.environment import describe_environment
    from modeling_atri.trainer.diagnostics.distribution_error import DistributionErrors, caption_counts

    from .plots import plot_draws

    rows = load_rows(args.train_data, args.train_split, languages=args.languages)
    languages = _languages(args, list(rows[0]["captions"]))
    samplings = {objective: _sampling(args, objective, languages) for objective in args.objective}
    counts = caption_counts(rows, languages)
    errors: dict[str, list[dict[str, float]]] = {}
    with tqdm(total=args.epochs * len(samplings), desc="epochs") as bar:
        for objective, sampling in samplings.items():
            of_run = DistributionErrors(sampling, counts)
            errors[objective] = []
            for epoch in range(args.epochs):
                errors[objective].append({"epoch": epoch + 1, **of_run.of_epoch(epoch)})
                bar.update()
    options = ("languages_per_step", "caption_choice", "per_device_train_batch_size", "num_processes", "seed")
    results = {
        "distribution_error": errors,
        "data": {
            "train": data_name(args.train_data, args.train_split),
            "num_clips": len(rows),
            "languages": languages,
            "captions_per_language": [int(counts.min()), int(counts.max())],
        },
        "sampling": {
            "anchor_language": resolve_language(args.anchor_language),
            **{name: getattr(args, name) for name in (*options, "dataloader_drop_last")},
        },
        "environment": describe_environment(),
    }
    _print_table(results)
    folder = Path(args.output_dir)
    write_json(folder / "draws.json", results)
    plot_draws(results, folder / "draws.png")
    print(f"\nFigures and plot: {folder / 'draws.json'}, {folder / 'draws.png'}")
    return results


def _languages(args: DrawsArguments, of_data: list[str]) -> list[str]:
    if args.languages is not None:
        return resolve_languages(args.languages)
    of_paper = [language for language in ATRI_LANGUAGES if language in of_data]
    return of_paper + [language for language in of_data if language not in of_paper]


def _sampling(args: DrawsArguments, objective: str, languages: list[str]):
    from modeling_atri.trainer.diagnostics.distribution_error import Sampling

    per_step = None if find_objective(objective).draws_per_clip else args.languages_per_step
    draws = LanguageDraws(objective, languages, args.anchor_language, per_step, args.caption_choice, args.seed)
    return Sampling(
        draws,
        batch_size=args.per_device_train_batch_size,
        num_processes=args.num_processes,
        drop_last=args.dataloader_drop_last,
    )


def _print_table(results: dict[str, Any]) -> None:
    data = results["data"]
    fewest, most = data["captions_per_language"]
    captions = counted(fewest, "caption") if fewest == most else f"{fewest} to {most} captions"
    print(
        f"\nData distribution error over {data['num_clips']} clips with {captions} in {len(data['languages'])} "
        "languages (0: none, 2: most there can be)"
    )
    num_epochs = len(next(iter(results["distribution_error"].values())))
    # The first, the last, and the powers of two between them: that is how the error changes.
    shown = sorted({*(2**power for power in range(num_epochs.bit_length())), num_epochs})[-_SHOWN_EPOCHS:]
    header = "".join(f"{f'1-{epoch}':>8}" for epoch in shown)
    for name, title in {"languages": "over languages", "pairs": "over language and caption"}.items():
        print(f"\n{title:<28}{'an epoch':>9}   so far, epochs\n{'':<37}{header}")
        for objective, epochs in results["distribution_error"].items():
            mean = sum(epoch[name] for epoch in epochs) / len(epochs)
            so_far = "".join(f"{epochs[epoch - 1][f'{name}_so_far']:>8.3f}" for epoch in shown)
            print(f"  {objective:<26}{mean:>9.3f}{so_far}")
    left_out = {epoch["left_out"] for epochs in results["distribution_error"].values() for epoch in epochs}
    if left_out != {0}:
        clips = counted(max(left_out), "clip")
        print(f"\nAn epoch leaves out up to {clips}, because its last step is too small or dropped.")
