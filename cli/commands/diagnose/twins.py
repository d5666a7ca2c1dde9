"""`atri diagnose twins`: measure the weight error between a run on drawn languages and one on all of them."""

import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from modeling_atri.bounds import PositiveCount, check_options, option
from modeling_atri.pretrained.loading import load_model
from modeling_atri.trainer.objectives import find_objective

from ...loading import DATA_HELP, data_name
from ...options import parse_options
from ...outputs import check_output_folder


DESCRIPTION = """\
Weight error: train two models from the same start on the same clips, one on all languages in every step and one on
the languages that --objective draws, and measure the distance between their weights. The upper bound of the paper is
printed beside it, with constants that are estimated along the way. The bound grows exponentially and is printed as a
power of ten. It holds for full-batch gradient descent on a sum of losses of pairs. For contrastive losses it is a
heuristic, and Adam can exceed it. Plain SGD, the default here, comes nearest to its premises. Only the figures and a
plot are saved. The options of `atri train` work here too (--help_all).

examples:
  atri diagnose twins --train_data clips/train --languages en fr --max_steps 20
  atri diagnose twins --model runs/first --train_data clips/train --objective cacl --learning_rate 0.01
"""

_SHOWN = {"objective", "languages", "anchor_language", "languages_per_step", "caption_choice", "freeze_audio"}
_SHOWN |= {"freeze_text", "optim", "learning_rate", "lr_scheduler_type", "max_grad_norm", "num_train_epochs"}
_SHOWN |= {"max_steps", "per_device_train_batch_size", "seed", "use_cpu", "output_dir"}


@dataclass
class TwinArguments:
    """Options of `atri diagnose twins`, in addition to those of a training run."""

    train_data: str = field(metadata={"help": DATA_HELP})
    train_split: str | None = option(None, "Split (or subfolder).")
    model: str | None = option(None, "Folder or Hub id of the model to start from. Default: a small new model.")
    num_probes: PositiveCount = option(20, "Number of steps at which the constants of the bound are estimated.")
    num_pairs: PositiveCount = option(
        4, "Number of pairs of clip and caption whose gradients are taken at each of them."
    )

    def __post_init__(self):
        check_options(self)


def main(argv: list[str]) -> None:
    """Run the mode."""
    from modeling_atri.trainer.arguments import AtriTrainingArguments
    from modeling_atri.trainer.scratch.model import ScratchArguments

    options, sizes, args = parse_options(
        argv,
        (TwinArguments, ScratchArguments, AtriTrainingArguments),
        DESCRIPTION,
        "atri diagnose twins",
        {item.name for item in fields(TwinArguments)} | _SHOWN,
        defaults=lambda given: {
            "objective": "mlclap",
            "output_dir": "diagnosis",
            "optim": "sgd",
            "learning_rate": 0.01,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "num_train_epochs": 3,
            "report_to": "none",
        },
    )
    diagnose_twins(options, sizes, args)


def diagnose_twins(options: TwinArguments, sizes, args) -> dict[str, Any]:
    """Train both models, print and save the figures, and return them."""
    from modeling_atri.corpora.rows.load import load_rows
    from modeling_atri.files import write_json
    from modeling_atri.hub_cards.environment import describe_environment
    from modeling_atri.trainer.diagnostics.twins import twin_weight_error
    from modeling_atri.trainer.scratch.model import caption_texts, model_from_scratch

    from .plots import plot_twins

    languages = args.language_draws.languages
    _refuse_equal_twins(args, len(languages))
    check_output_folder(args.output_dir)
    rows = load_rows(options.train_data, options.train_split, languages=languages, group_column=args.group_column)
    args = copy.copy(args)
    args.group_column = None  # `load_rows` wrote it to the column `group_id`
    if options.model is None:
        model, processor = model_from_scratch(caption_texts(rows, languages), languages, sizes, args.seed)
    else:
        model, processor = load_model(options.model)
    figures = twin_weight_error(
        model, args, processor, rows, num_probes=options.num_probes, num_pairs=options.num_pairs, progress=True
    )
    results = {
        "weight_error": figures,
        "data": {"train": data_name(options.train_data, options.train_split), "num_clips": len(rows)},
        "model": {"initialized_from": data_name(options.model) or "scratch"},
        "training": {
            "languages": languages,
            "batch_size": args.per_device_train_batch_size,
            "learning_rate": args.learning_rate,
            "max_grad_norm": args.max_grad_norm,
            "seed": args.seed,
        },
        "environment": describe_environment(args.device),
    }
    _print_table(figures)
    folder = Path(args.output_dir)
    write_json(folder / "twins.json", results)
    plot_twins(results, folder / "twins.png")
    print(f"\nFigures and plot: {folder / 'twins.json'}, {folder / 'twins.png'}")
    return results


def _refuse_equal_twins(args, num_languages: int) -> None:
    """Raise a ValueError if the objective draws all languages, as the full twin does: all figures would be 0."""
    if num_languages < 2:
        raise ValueError(
            "With one language there is nothing to draw, so there is no weight error. Give two or more `languages`."
        )
    # An objective that draws for each clip is compared with another one, so the weights differ in any case.
    objective = find_objective(args.objective)
    if not objective.draws_per_clip and objective.num_drawn(num_languages, args.languages_per_step) >= num_languages:
        raise ValueError(
            f"`objective` {args.objective!r} takes all {num_languages} languages in every step, as does the run it "
            "is compared with, so their weights would be the same. Choose an objective that draws fewer, or a "
            f"`languages_per_step` below {num_languages}."
        )


def _print_table(figures: dict[str, Any]) -> None:
    full, sampled = (figures["objectives"][twin] for twin in ("full", "sampled"))
    print(f"\nWeights w of {full} in all languages, w' of {sampled}, both by {figures['optimizer']}\n")
    columns = ("error of p'", "|w - start|", "|w - w'|", "audio", "text", "heads", "bound")
    print(f"epoch   step{''.join(f'{column:>13}' for column in columns)}")
    for epoch, step in {step["epoch"]: step for step in figures["steps"]}.items():  # the last step of each epoch
        values = [step[name] for name in ("travelled", "total", "audio", "text", "heads")]
        numbers = "".join(f"{value:>13.4g}" for value in [figures["distribution_error"][epoch], *values])
        bound = "0" if step["log10_bound"] is None else f"10^{step['log10_bound']:.1f}"
        print(f"{epoch + 1:>5}{step['step']:>7}{numbers}{bound:>13}")
    above, num_steps = figures["steps_above_bound"], len(figures["steps"])
    print(
        f"\nEstimated along the way: Lipschitz constant of the gradient {figures['lipschitz']:.3g}, largest gradient "
        f"of a pair {figures['largest_gradient']:.3g}.\nWith these the bound is a heuristic (--help): |w - w'| was "
        f"above it after {above} of {num_steps} steps."
    )
