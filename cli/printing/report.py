"""Output of a run: saved files, and tables for the terminal."""

from collections.abc import Sequence
from pathlib import Path

from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, BadRow, count_kinds, read_bad_rows
from modeling_atri.hub_cards.cards import write_model_card
from modeling_atri.hub_cards.results import Results, evaluation_size
from modeling_atri.hub_cards.tables import results_table, text_table
from modeling_atri.trainer.trainer import AtriTrainer


def save_run(trainer: AtriTrainer) -> Results | None:
    """Save model and processor, and with an evaluation set also results and card. Push all if `push_to_hub` is set.

    Returns:
        The results, None without an evaluation set.
    """
    folder = str(trainer.args.output_dir)
    trainer.save_model(folder, _internal_call=True)  # it is pushed below, together with results and card
    results = None if trainer.eval_dataset is None else trainer.results(evaluate=True)
    if trainer.is_world_process_zero():
        if results is not None:
            write_model_card(results, folder)
            print_results(results)
        print_left_outs(folder, ("train",) if results is None else ("train", "eval"))
        saved = "model and processor" if results is None else "model, processor, results and model card"
        print(f"\nSaved {saved} to {folder}.")
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
        if trainer.is_world_process_zero():
            print(f"Pushed to {trainer.hub_model_id}.")
    return results


def print_left_outs(folder: str | None, names: Sequence[str]) -> None:
    """Print tables of the rows that a run left out of its data sets."""
    for name in names:
        path = Path(str(folder)) / f"{name}_{LEFT_OUT_NAME}"
        print_left_out(read_bad_rows(path), name, path)


def print_left_out(bad_rows: Sequence[BadRow], name: str, path: Path | None) -> None:
    """Print a table of the rows that were left out of a set. The file at `path`, if any, lists all of them."""
    if not bad_rows:
        return
    print(f"\nLeft out of the {name} data ({path or '--output'} lists all)\n")
    first = {row.kind: row.name for row in reversed(bad_rows)}
    rows = [[kind, count, first[kind]] for kind, count in count_kinds(bad_rows).items()]
    print(text_table(["", "rows", "first"], rows, align="<><"))


def print_results(results: Results) -> None:
    """Print the table of results: percentages, one row for each language."""
    evaluated = results["evaluated_on"]
    print(f"\nRetrieval over {evaluation_size(results)} (percent; T2A text to audio, A2T audio to text)\n")
    print(results_table(results["metrics"], evaluated["languages"]))
