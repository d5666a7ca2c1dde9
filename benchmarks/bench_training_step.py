"""Measure memory and time of the training step: all at once, language by language, and in chunks.

All ways are `AtriTrainer`'s own training step, on a toy model with random weights and most of its layers in the text
tower, and on clips of one second with captions of `--tokens` tokens. The step that encodes the whole batch at once is
the alternative that the others are compared with.

- Language by language (`exact_step`): KCL and AKCL of `--clips` clips in 8 languages. Memory is compared with the
  fewest possible languages (two for AKCL, which compares languages), time with all languages at once.
- In chunks (`audio_chunk_size` and `text_chunk_size` are `--clips`): batches of `--batches` clips, and of 1,024 clips
  in 8 languages. Memory is compared with a batch of one chunk (KCL in 8 languages, and CACL), time with the largest of
  `--batches` without chunks (KCL in two languages, and CACL).

Memory is the largest number of bytes that autograd keeps for backward at the same time, as its saved-tensor hooks see
them. Each storage is counted once. Weights and batch are not counted. This does not depend on the machine. Where
batches of different sizes are compared, only the part of the encoders counts. The report has the part of the loss
(`loss`: embeddings, and some matrices of clips x clips) and the embeddings with their gradients (`embeddings`, which
no graph keeps) beside it; both are needed with and without chunks. A ratio is below 1 where the last chunk, which is
in memory together with the loss, is smaller than the others.

Time is CPU seconds on one thread; the ways take turns. In float64, the gradients of the ways that are timed must agree
to 1e-6 of the largest entry; otherwise the benchmark fails. It prints one JSON line. With `--plot` it prints nothing,
but measures curves and writes `results/training_step.json` and `results/training_step.png`.
"""

from shared.measuring import medians, print_report, ratio, row, seconds_in_turns  # first: it sets one thread


# isort: split
import argparse
from typing import Any

from shared.options import ROUNDS, SEED, option_parser
from training_step.step import TrainingStep

from modeling_atri.trainer.objectives import JOINT_OBJECTIVES, find_objective


BY_LANGUAGE = [name for name in JOINT_OBJECTIVES if find_objective(name).pair_weights is not None]
ALL_LANGUAGES = 8
LARGE_BATCH = 1024
MEMORY_BOUND, TIME_BOUND, CHUNKS_TIME_BOUND = "<= 1.05", "<= 1.05", "<= 1.35"
TOLERANCE = 1e-6


def main() -> None:
    """Run the command."""
    options = parse_options()
    sizes = {"num_tokens": options.tokens, "hidden_size": options.hidden_size}
    sizes |= {"num_layers": options.layers, "seed": options.seed}
    if options.plot:
        from training_step.plot import plot  # only the plot needs matplotlib

        plot(sizes, options.clips, max(options.batches), options.rounds)
        return
    rows, seconds, megabytes = [], {}, {}
    for objective in BY_LANGUAGE:
        rows += compare_languages(objective, options, sizes, seconds, megabytes)
    for objective in ("kcl", "cacl"):
        rows += compare_batches(objective, options, sizes, megabytes)
        rows += [time_chunks(objective, options, sizes, seconds)]
    print_report(
        "training_step", rows=rows, seconds=medians(seconds), megabytes=megabytes, clips=options.clips, **sizes
    )


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = option_parser(
        __doc__,
        "about two minutes, --plot some minutes more",
        clips=(24, "clips of a batch, or of a chunk"),
        tokens=(32, "tokens of every caption"),
        hidden_size=(128, "width of both towers"),
        layers=(4, "layers of the text tower"),
        rounds=(3, ROUNDS),
        seed=(0, SEED),
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[96, 384], help="clips of batches in chunks (default: 96 384)"
    )
    parser.add_argument("--plot", action="store_true", help="measure and draw the curves instead")
    return parser.parse_args()


def compare_languages(
    objective: str, options: argparse.Namespace, sizes: dict[str, int], seconds: dict, megabytes: dict
) -> list[dict[str, Any]]:
    """Compare language by language: memory with the fewest languages, time with all languages at once."""
    fewest, kept = find_objective(objective).fewest_languages, {}
    for num_languages in (fewest, ALL_LANGUAGES):
        ways = {
            f"{objective} K={num_languages} {way}": TrainingStep(
                objective, num_languages, options.clips, exact_step=way == "language by language", **sizes
            )
            for way in ("at once", "language by language")
        }
        check_gradients(*ways.values())
        kept |= {way: step.peak_saved_megabytes() for way, step in ways.items()}
    seconds |= seconds_in_turns(ways, options.rounds)
    megabytes |= {way: {"saved": round(value, 3)} for way, value in kept.items()}
    at_once, ours = ways
    name = f"{objective.upper()} step, {ALL_LANGUAGES} languages"
    growth = kept[ours] / kept[f"{objective} K={fewest} language by language"]
    return [
        row(name, f"memory of {fewest} language{'s' * (fewest > 1)}", growth, MEMORY_BOUND),
        row(name, "time of all languages at once", ratio(seconds, ours, at_once), TIME_BOUND),
    ]


def compare_batches(
    objective: str, options: argparse.Namespace, sizes: dict[str, int], megabytes: dict
) -> list[dict[str, Any]]:
    """Compare the memory of large batches in chunks with that of a batch of one chunk."""
    num_languages = find_objective(objective).num_drawn(ALL_LANGUAGES)
    chunks = {"audio_chunk_size": options.clips, "text_chunk_size": options.clips}
    base = TrainingStep(objective, num_languages, options.clips, **chunks, **sizes)
    memory = megabytes[f"{objective} K={num_languages} N={options.clips}"] = memory_of(base)
    rows = []
    for num_clips in [*options.batches] + [LARGE_BATCH] * (objective == "kcl"):
        step = TrainingStep(objective, num_languages, num_clips, **chunks, **sizes)
        found = megabytes[f"{objective} K={num_languages} N={num_clips} in chunks"] = memory_of(step)
        work = f"{objective.upper()} step, {num_clips} clips x {num_languages} captions, in chunks of {options.clips}"
        against = f"memory of {options.clips} clips"
        rows.append(row(work, against, found["encoders"] / memory["encoders"], MEMORY_BOUND))
    return rows


def memory_of(step: TrainingStep) -> dict[str, float]:
    """Megabytes that autograd keeps, their parts, and megabytes of the embeddings with their gradients."""
    saved, loss = step.peak_saved_megabytes(), step.loss_megabytes()
    found = {"saved": saved, "encoders": saved - loss, "loss": loss, "embeddings": step.embeddings_megabytes()}
    return {name: round(value, 3) for name, value in found.items()}


def time_chunks(objective: str, options: argparse.Namespace, sizes: dict[str, int], seconds: dict) -> dict[str, Any]:
    """Compare the time of a step in chunks with that of the same batch at once, with two captions of each clip."""
    num_clips = max(options.batches)
    chunks = {"audio_chunk_size": options.clips, "text_chunk_size": options.clips}
    ways = {
        f"{objective} K=2 N={num_clips}": TrainingStep(objective, 2, num_clips, **sizes),
        f"{objective} K=2 N={num_clips} in chunks": TrainingStep(objective, 2, num_clips, **chunks, **sizes),
    }
    check_gradients(*ways.values())
    seconds |= seconds_in_turns(ways, options.rounds)
    whole, ours = ways
    work = f"{objective.upper()} step, {num_clips} clips x 2 captions, in chunks of {options.clips}"
    return row(work, "time without chunks", ratio(seconds, ours, whole), CHUNKS_TIME_BOUND)


def check_gradients(first: TrainingStep, second: TrainingStep) -> None:
    """End the run if two ways have different gradients."""
    expected = first.gradients()
    difference = float((second.gradients() - expected).abs().max() / expected.abs().max())
    if difference > TOLERANCE:
        raise SystemExit(f"The gradients differ by {difference:.1e} of the largest entry: more than {TOLERANCE}.")


if __name__ == "__main__":
    main()
