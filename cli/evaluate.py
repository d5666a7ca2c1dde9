"""`atri evaluate`: retrieval and consistency of a saved model."""

from dataclasses import dataclass, field
from pathlib import Path

from .loading import check_device, data_name, hub_id, load_model
from .options import parse_options


DESCRIPTION = """\
Evaluate a saved model on recordings with captions in several languages: recall, mAP and ranks both ways for each
language, and how consistent the languages are. Each clip and each caption is encoded once.

examples:
  atri evaluate --model runs/first --data clips/dev
  atri evaluate --model runs/first --data clips/dev --languages en fr ja --output results.json
"""


@dataclass
class EvaluateArguments:
    """Options of `atri evaluate`."""

    model: str = field(metadata={"help": "Folder or Hub id of the model."})
    data: str = field(metadata={"help": "Folder with metadata.jsonl, JSON lines file, or Hub dataset id."})
    split: str | None = field(default=None, metadata={"help": "Split (or subfolder)."})
    languages: list[str] | None = field(
        default=None, metadata={"help": "Languages to evaluate. Default: those of the data's first row."}
    )
    anchor_language: str = field(default="eng_Latn", metadata={"help": "Gap and distance are measured from it."})
    group_column: str | None = field(
        default=None, metadata={"help": "Column whose equal values mean that a caption fits all those clips."}
    )
    batch_size: int = field(default=16, metadata={"help": "Clips or captions of a forward pass."})
    device: str = field(default="cpu", metadata={"help": "Where to compute, e.g. cpu or cuda."})
    on_bad_row: str = field(
        default="raise",
        metadata={
            "help": "Rows that cannot be used (missing, broken or too short recordings, wrong captions): raise ends "
            "with an error that names them; skip leaves clip and captions out of the set and counts them in the "
            "results.",
            "choices": ["raise", "skip"],
        },
    )
    output: str | None = field(
        default=None,
        metadata={
            "help": "Write the results, and how they were made, as JSON; beside it, what was left out as "
            "NAME_left_out.jsonl."
        },
    )


def main(argv: list[str]) -> None:
    """Run the command."""
    shown = set(EvaluateArguments.__annotations__)
    (args,) = parse_options(argv, (EvaluateArguments,), DESCRIPTION, "atri evaluate", shown)
    evaluate(args)


def evaluate(args: EvaluateArguments) -> dict:
    """Load, encode, compare; returns the results."""
    from modeling_atri.languages_atri import resolve_language
    from modeling_atri.trainer.data.bad_rows import LEFT_OUT_NAME, write_bad_rows
    from modeling_atri.trainer.data.feature_cache import FeatureCache
    from modeling_atri.trainer.data.rows import load_rows
    from modeling_atri.trainer.evaluation import (
        RetrievalSet,
        embed_retrieval_set,
        leave_out_unreadable,
        retrieval_table,
    )
    from modeling_atri.trainer.facts import evaluation_facts, model_facts
    from modeling_atri.trainer.results import describe_environment, make_results, save_json

    from .report import print_left_out, print_results

    check_device(args.device)
    skips, left_out = args.on_bad_row == "skip", []
    options = {"languages": args.languages, "group_column": args.group_column, "left_out": left_out if skips else None}
    rows = load_rows(args.data, args.split, **options)
    model, processor = load_model(args.model)
    retrieval_set = RetrievalSet.from_rows(rows, list(rows[0]["captions"]))
    embeddings = embed_retrieval_set(
        model.to(args.device).eval(),
        processor,
        retrieval_set,
        batch_size=args.batch_size,
        read_features=FeatureCache(processor.feature_extractor),
        progress=True,
        skip_unreadable=skips,
    )
    retrieval_set, embeddings, unreadable = leave_out_unreadable(retrieval_set, embeddings)
    left_out += unreadable
    anchor = resolve_language(args.anchor_language)
    results = make_results(
        retrieval_table(embeddings, retrieval_set.positives, anchor),
        evaluated_on=evaluation_facts(retrieval_set, anchor, left_out),
        data={
            "eval": data_name(args.data, args.split),
            "eval_hub_id": hub_id(args.data),
            "group_column": args.group_column,
        },
        model={
            "name": data_name(args.model, None),
            "num_parameters": model_facts(model)["num_parameters"],
            "projection_dim": model.config.projection_dim,
        },
        environment=describe_environment(args.device),
    )
    list_path = None
    if args.output:
        save_json(results, args.output)
        list_path = Path(args.output).with_name(f"{Path(args.output).stem}_{LEFT_OUT_NAME}")
        write_bad_rows(list_path, left_out)
    print_left_out(left_out, "evaluation", list_path)
    print_results(results)
    return results
