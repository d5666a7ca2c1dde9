"""What a run leaves behind: model, results, card and table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, BadRow, count_kinds, read_bad_rows
from modeling_atri.hub_cards import make_model_card, results_table
from modeling_atri.hub_cards.authorship import write_card
from modeling_atri.hub_cards.environment import RESULTS_NAME, save_json
from modeling_atri.hub_cards.tables import text_table
from modeling_atri.trainer.evaluation.measuring import current_results, measure
from modeling_atri.trainer.publishing.publishing import complete_results
from modeling_atri.trainer.trainer import AtriTrainer


def save_run(trainer: AtriTrainer) -> dict[str, Any] | None:
    """Save model and processor; evaluate, if there is something to evaluate on, and save results and card.

    With `push_to_hub`, all of it is pushed in the end.

    Returns:
        the results, None without an evaluation set.
    """
    folder = trainer.args.output_dir
    trainer.save_model(folder, _internal_call=True)  # pushed below, with results and card
    results = None
    if trainer.eval_dataset is not None:
        # Where the last step was evaluated, that is the model which is saved.
        measured = current_results(trainer) or measure(
            trainer, trainer.eval_dataset, left_out=trainer.left_out["eval"]
        )
        results = complete_results(trainer, measured)
        if trainer.is_world_process_zero():
            save_results(results, folder)
    if trainer.is_world_process_zero():
        for name in ("train",) if results is None else ("train", "eval"):
            path = Path(folder) / f"{name}_{LEFT_OUT_NAME}"
            print_left_out(read_bad_rows(path), name, path)
        saved = "model and processor" if results is None else "model, processor, results and model card"
        print(f"\nSaved {saved} to {folder}.")
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
        if trainer.is_world_process_zero():
            print(f"Pushed to {trainer.hub_model_id}.")
    return results


def save_results(results: dict[str, Any], folder: str) -> None:
    """Write results and model card, and print the table."""
    save_json(results, Path(folder) / RESULTS_NAME)
    write_card(make_model_card(results, folder), folder)
    print_results(results)


def print_left_out(bad_rows: Sequence[BadRow], name: str, path: Path | None) -> None:
    """A table of what was left out of a set, all of which is listed in the file at `path`, if any."""
    if not bad_rows:
        return
    print(f"\nLeft out of the {name} data ({path or '--output'} lists all)\n")
    first = {row.kind: row.name for row in reversed(bad_rows)}
    rows = [[kind, count, first[kind]] for kind, count in count_kinds(bad_rows).items()]
    print(text_table(["", "rows", "first"], rows, align="<><"))


def print_results(results: dict[str, Any]) -> None:
    """The table of a run: percent, one row a language."""
    evaluated = results["evaluated_on"]
    print(
        f"\nRetrieval over {evaluated['num_clips']} clips, {evaluated['num_captions_per_language']} captions in each "
        "language (percent; T2A text to audio, A2T audio to text)\n"
    )
    print(results_table(results["metrics"], evaluated["languages"]))
