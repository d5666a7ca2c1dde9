"""`atri diagnose model`: the modality alignment direction error of a saved model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_atri.bounds import option

from ...embedding import EmbeddingArguments, embed_data
from ...loading import data_name
from ...options import parse_options
from ...outputs import check_output_folder


DESCRIPTION = """\
Modality alignment direction error of a saved model on recordings with captions in several languages, in degrees. A
clip should have the direction of the mean of its text embeddings in all languages. "clips" is the angle between the
two. The angle of a language is the error of a step that draws this language alone. The angle of an objective is the
mean error over what its steps draw. Each clip and each caption is encoded once.

examples:
  atri diagnose model --model runs/first --data clips/dev
  atri diagnose model --model runs/first --data clips/dev --languages en fr ja --output_dir diagnosis/first
"""


@dataclass
class ModelArguments(EmbeddingArguments):
    """Options of `atri diagnose model`."""

    anchor_language: str = option("eng_Latn", "Anchor language of CACL.")
    output_dir: str = option("diagnosis", "Folder for alignment.json and alignment.png.")


def main(argv: list[str]) -> None:
    """Run the mode."""
    (args,) = parse_options(argv, (ModelArguments,), DESCRIPTION, "atri diagnose model")
    diagnose_model(args)


def diagnose_model(args: ModelArguments) -> dict[str, Any]:
    """Encode the data, measure, print and save the figures, and return them."""
    from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, write_bad_rows
    from modeling_atri.files import write_json
    from modeling_atri.hub_cards.environment import describe_environment
    from modeling_atri.languages_atri import resolve_language
    from modeling_atri.trainer.diagnostics.alignment_error import summarize_alignment
    from modeling_atri.trainer.publishing.results import evaluation_facts

    from ...printing.report import print_left_out
    from .plots import plot_alignment

    check_output_folder(args.output_dir)
    _, retrieval_set, embeddings, left_out = embed_data(args)
    anchor = resolve_language(args.anchor_language)
    results = {
        "alignment": summarize_alignment(embeddings.audio, embeddings.text, retrieval_set.owners, anchor),
        "evaluated_on": evaluation_facts(retrieval_set, anchor, left_out),
        "data": {"eval": data_name(args.data, args.split)},
        "model": {"name": data_name(args.model)},
        "environment": describe_environment(args.device),
    }
    folder = Path(args.output_dir)
    write_json(folder / "alignment.json", results)
    write_bad_rows(folder / f"alignment_{LEFT_OUT_NAME}", left_out)
    print_left_out(left_out, "evaluation", folder / f"alignment_{LEFT_OUT_NAME}")
    _print_table(results)
    plot_alignment(results, folder / "alignment.png")
    print(f"\nFigures and plot: {folder / 'alignment.json'}, {folder / 'alignment.png'}")
    return results


def _print_table(results: dict[str, Any]) -> None:
    from modeling_atri.languages_atri import language_name

    alignment, evaluated = results["alignment"], results["evaluated_on"]
    print(
        f"\nAngles to the mean text direction over {evaluated['num_clips']} clips, {alignment['num_captions']} "
        f"captions in {len(evaluated['languages'])} languages (degrees)\n"
    )
    print(f"{'':<28}{'mean':>7}{'5 %':>8}{'median':>8}{'95 %':>8}")
    of_texts = {f"texts, {language_name(code)}": angles for code, angles in alignment["text"].items()}
    for name, angles in {"clips": alignment["audio"], **of_texts}.items():
        print(f"{name:<28}{angles['mean']:>7.2f}" + "".join(f"{angles[q]:>8.2f}" for q in ("q05", "q50", "q95")))
    for objective, angle in alignment["pulls"].items():
        print(f"{f'a step of {objective} pulls to':<28}{angle:>7.2f}")
