"""What a run leaves behind: model, results, card and table."""

from pathlib import Path
from typing import Any

from modeling_atri.hub_cards import make_model_card, results_table
from modeling_atri.trainer.evaluation import RetrievalSet, retrieval_table
from modeling_atri.trainer.results import RESULTS_NAME, save_json
from modeling_atri.trainer.trainer import AtriTrainer


def save_run(trainer: AtriTrainer) -> dict[str, Any] | None:
    """Save model and processor; evaluate, if there is something to evaluate on, and save results and card.

    Returns:
        the results, None without an evaluation set.
    """
    folder = trainer.args.output_dir
    trainer.save_model(folder)
    if trainer.eval_dataset is None:
        print(f"Saved model and processor to {folder}.")
        return None
    retrieval_set = RetrievalSet.from_rows(trainer.eval_dataset, trainer.args.languages)
    embeddings = trainer.embed(retrieval_set)
    table = retrieval_table(embeddings, retrieval_set.positives, trainer.args.anchor_language)
    results = trainer.describe_results(table, retrieval_set)
    if trainer.is_world_process_zero():
        save_results(results, folder, trainer.model.config.projection_dim)
        print(f"\nSaved model, processor, results and model card to {folder}.")
    return results


def save_results(results: dict[str, Any], folder: str, projection_dim: int) -> None:
    """Write results and model card, and print the table."""
    save_json(results, Path(folder) / RESULTS_NAME)
    make_model_card(results, folder, projection_dim).save(Path(folder) / "README.md")
    print_results(results)


def print_results(results: dict[str, Any]) -> None:
    """The table of a run: percent, one row a language."""
    evaluated = results["evaluated_on"]
    print(
        f"\nRetrieval over {evaluated['num_clips']} clips, {evaluated['num_captions_per_language']} captions in each "
        "language (percent; T2A text to audio, A2T audio to text)\n"
    )
    print(results_table(results["metrics"], evaluated["languages"]))
