"""`atri diagnose model`: the modality alignment direction error of a saved model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .loading import check_device, data_name, load_model
from .options import parse_options


DESCRIPTION = """\
Modality alignment direction error of a saved model on recordings with captions in several languages, in degrees. A
clip should point where the mean of its text embeddings in all languages points; "clips" is the angle between the two.
The angle of a language says how far a step that draws it alone pulls a clip off that direction, the angle of an
objective how far its steps do, on average over what they draw. Each clip and each caption is encoded once.

examples:
  atri diagnose model --model runs/first --data clips/dev
  atri diagnose model --model runs/first --data clips/dev --languages en fr ja --output_dir diagnosis/first
"""


@dataclass
class ModelArguments:
    """Options of `atri diagnose model`."""

    model: str = field(metadata={"help": "Folder or Hub id of the model."})
    data: str = field(metadata={"help": "Folder with metadata.jsonl, JSON lines file, or Hub dataset id."})
    split: str | None = field(default=None, metadata={"help": "Split (or subfolder)."})
    languages: list[str] | None = field(
        default=None, metadata={"help": "Languages of the mean. Default: those of the data's first row."}
    )
    anchor_language: str = field(default="eng_Latn", metadata={"help": "Anchor of CACL."})
    batch_size: int = field(default=16, metadata={"help": "Clips or captions of a forward pass."})
    device: str = field(default="cpu", metadata={"help": "Where to compute, e.g. cpu or cuda."})
    output_dir: str = field(default="diagnosis", metadata={"help": "Folder for alignment.json and alignment.png."})


def main(argv: list[str]) -> None:
    """Run the mode."""
    shown = set(ModelArguments.__annotations__)
    (args,) = parse_options(argv, (ModelArguments,), DESCRIPTION, "atri diagnose model", shown)
    diagnose_model(args)


def diagnose_model(args: ModelArguments) -> dict[str, Any]:
    """Load, encode, measure, print; returns the figures."""
    from modeling_atri.languages_atri import resolve_language
    from modeling_atri.trainer.alignment_error import summarize_alignment
    from modeling_atri.trainer.data.feature_cache import FeatureCache
    from modeling_atri.trainer.data.rows import load_rows
    from modeling_atri.trainer.evaluation import RetrievalSet, embed_retrieval_set
    from modeling_atri.trainer.facts import evaluation_facts
    from modeling_atri.trainer.results import describe_environment, save_json

    from .diagnose_plots import plot_alignment

    check_device(args.device)
    rows = load_rows(args.data, args.split, languages=args.languages)
    model, processor = load_model(args.model)
    retrieval_set = RetrievalSet.from_rows(rows, list(rows[0]["captions"]))
    embeddings = embed_retrieval_set(
        model.to(args.device).eval(),
        processor,
        retrieval_set,
        batch_size=args.batch_size,
        read_features=FeatureCache(processor.feature_extractor),
        progress=True,
    )
    anchor = resolve_language(args.anchor_language)
    results = {
        "alignment": summarize_alignment(embeddings.audio, embeddings.text, retrieval_set.owners, anchor),
        "evaluated_on": evaluation_facts(retrieval_set, anchor),
        "data": {"eval": data_name(args.data, args.split)},
        "model": {"name": data_name(args.model, None)},
        "environment": describe_environment(args.device),
    }
    _print_table(results)
    folder = Path(args.output_dir)
    save_json(results, folder / "alignment.json")
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
