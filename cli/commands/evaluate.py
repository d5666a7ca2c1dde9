"""`atri evaluate`: retrieval and consistency of a saved model."""

import os
from dataclasses import dataclass
from pathlib import Path

from modeling_atri.bounds import option
from modeling_atri.hub_cards.results import Results, write_results

from ..embedding import EmbeddingArguments, embed_data
from ..loading import data_name, hub_id
from ..options import parse_options
from ..outputs import check_output_file


DESCRIPTION = """\
Evaluate a saved model on recordings with captions in several languages: recall, mAP and ranks in both directions for
each language, and the consistency between languages. Each clip and each caption is encoded once.

With --moments, evaluate how well the moments that texts describe are found in long recordings: R1@0.5, R1@0.7 and mAP
over intersection over union, for each language. --data is then a folder of recordings or an index of `atri index`.

examples:
  atri evaluate --model runs/first --data clips/dev
  atri evaluate --model runs/first --data clips/dev --languages en fr ja --output results.json
  atri evaluate --model runs/first --data recordings --moments moments.jsonl --window_s 4
"""


@dataclass
class EvaluateArguments(EmbeddingArguments):
    """Options of `atri evaluate`."""

    anchor_language: str = option("eng_Latn", "Language that embedding gap and distance are measured from.")
    group_column: str | None = option(None, "Column whose equal values mean that a caption fits all those clips.")
    moments: str | None = option(
        None,
        "File of queries with their relevant windows, in the format of CASTELLA and QVHighlights (query, vid, "
        "relevant_windows). Evaluate moments of the recordings in --data instead of whole clips. A query whose line "
        "has no language is in the one of --languages, by default English.",
    )
    window_s: float | None = option(
        None, "With --moments: length of a window in seconds. Default: that of the audio tower, or of the index."
    )
    hop_s: float | None = option(
        None, "With --moments: seconds from the start of a window to that of the next. Default: half of a window."
    )
    output: str | None = option(
        None,
        "JSON file for the results and how they were made. Rows that could not be used are listed beside "
        "it in NAME_left_out.jsonl.",
    )


def main(argv: list[str]) -> None:
    """Run the command."""
    (args,) = parse_options(argv, (EvaluateArguments,), DESCRIPTION, "atri evaluate")
    from modeling_atri.processes import launched_processes

    if args.moments is not None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("--moments runs in one process. Run it without `torchrun` or `accelerate launch`.")
        if args.streaming:
            raise ValueError("--streaming has no effect on the recordings of --moments. Leave it out.")
        from ..moments import evaluate_moment_file

        evaluate_moment_file(args)
        return
    if args.window_s is not None or args.hop_s is not None:
        raise ValueError("--window_s and --hop_s are options of --moments, which is missing.")
    with launched_processes():
        evaluate(args)


def evaluate(args: EvaluateArguments) -> Results:
    """Load model and data, evaluate, and return the results. Launched processes share the work of encoding."""
    from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, write_bad_rows
    from modeling_atri.hub_cards.environment import describe_environment
    from modeling_atri.languages_atri import resolve_language
    from modeling_atri.processes import process_rank
    from modeling_atri.trainer.evaluation.retrieval import retrieval_table
    from modeling_atri.trainer.publishing.results import evaluation_facts, model_facts

    from ..printing.report import print_left_out, print_results

    if args.output:
        check_output_file(args.output)
    model, retrieval_set, embeddings, left_out = embed_data(args, args.group_column)
    if process_rank() != 0:
        return Results()
    anchor = resolve_language(args.anchor_language)
    results = Results(
        metrics=retrieval_table(embeddings, retrieval_set.positives, anchor, model.device),
        evaluated_on=evaluation_facts(retrieval_set, anchor, left_out),
        data={
            "eval": data_name(args.data, args.split),
            "eval_hub_id": hub_id(args.data),
            "group_column": args.group_column,
        },
        model={
            "name": data_name(args.model),
            "num_parameters": model_facts(model)["num_parameters"],
            "projection_dim": model.config.projection_dim,
        },
        environment=describe_environment(args.device),
    )
    list_path = None
    if args.output:
        write_results(results, args.output)
        list_path = Path(args.output).with_name(f"{Path(args.output).stem}_{LEFT_OUT_NAME}")
        write_bad_rows(list_path, left_out)
    print_left_out(left_out, "evaluation", list_path)
    print_results(results)
    return results
