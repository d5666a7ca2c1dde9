"""`atri evaluate`: retrieval and consistency of a saved model."""

from dataclasses import dataclass, field

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
    output: str | None = field(default=None, metadata={"help": "Write the results, and how they were made, as JSON."})


def main(argv: list[str]) -> None:
    """Run the command."""
    shown = set(EvaluateArguments.__annotations__)
    (args,) = parse_options(argv, (EvaluateArguments,), DESCRIPTION, "atri evaluate", shown)
    evaluate(args)


def evaluate(args: EvaluateArguments) -> dict:
    """Load, encode, compare; returns the results."""
    from modeling_atri.languages_atri import resolve_language
    from modeling_atri.trainer.data.rows import load_rows
    from modeling_atri.trainer.evaluation import RetrievalSet, embed_retrieval_set, retrieval_table
    from modeling_atri.trainer.facts import evaluation_facts, model_facts
    from modeling_atri.trainer.results import describe_environment, make_results, save_json

    from .report import print_results

    check_device(args.device)
    rows = load_rows(args.data, args.split, languages=args.languages, group_column=args.group_column)
    model, processor = load_model(args.model)
    retrieval_set = RetrievalSet.from_rows(rows, list(rows[0]["captions"]))
    embeddings = embed_retrieval_set(
        model.to(args.device).eval(), processor, retrieval_set, batch_size=args.batch_size, progress=True
    )
    anchor = resolve_language(args.anchor_language)
    results = make_results(
        retrieval_table(embeddings, retrieval_set.positives, anchor),
        evaluated_on=evaluation_facts(retrieval_set, anchor),
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
    if args.output:
        save_json(results, args.output)
    print_results(results)
    return results
