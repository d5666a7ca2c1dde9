"""What the training step keeps in memory and how long it takes: all at once, language by language, and in chunks.

All are `AtriTrainer`'s own training step, on a text-heavy toy model (random weights) and clips of one second with
captions of `--tokens` tokens. The step that encodes the whole batch at once is the peer, and the floor.

- Language by language (`exact_step`): KCL and AKCL of `--clips` clips in 8 languages, in memory against the fewest
  languages (AKCL compares languages and needs two), and in time against all languages at once.
- In chunks (`audio_chunk_size`, `text_chunk_size`, both `--clips`): batches of `--batches` clips, and of 1,024 in 8
  languages, in memory against `--clips` clips with chunks of that size (KCL in 8 languages, and CACL), and in time
  against the largest of `--batches` without chunks (KCL in two languages, and CACL: the same captions).

Memory is what autograd keeps for backward, as its saved-tensor hooks see it: the bytes of all storages that are kept
at the same time, each counted once, the largest sum of the step; weights and batch, which are there anyway, are not
counted. It does not depend on the machine. Where batches of different size are compared, it is what the encoders keep:
what the loss keeps of a batch, embeddings and a few matrices of clips x clips, stands beside it (`loss`), and so do
the embeddings with their gradients, which no graph holds (`embeddings`). Both are there with and without chunks. A
ratio is below 1 where the last chunk, the one that lives beside the loss, is smaller than the others.

Time is CPU seconds on one thread, the ways taking turns. Gradients of the ways that are timed must agree, in float64,
to 1e-6 of the largest entry, or the benchmark fails. It prints one JSON line. `--plot` prints nothing: it measures
curves and draws them into results/training_step.png, with its figures beside it.
"""

from measuring import print_report, ratio, row, seconds_in_turns  # first: it keeps numpy and torch to one thread


# isort: split
import argparse
from typing import Any

from training_step import TrainingStep


FEWEST_LANGUAGES = {"kcl": 1, "akcl": 2}
ALL_LANGUAGES = 8
LARGE_BATCH = 1024
MEMORY_BOUND, TIME_BOUND, CHUNKS_TIME_BOUND = "<= 1.05", "<= 1.05", "<= 1.35"
TOLERANCE = 1e-6


def main() -> None:
    """Run the command."""
    options = parse_options()
    sizes = {
        "num_tokens": options.tokens,
        "hidden_size": options.hidden_size,
        "num_layers": options.layers,
        "seed": options.seed,
    }
    if options.plot:
        from plot_training_step import plot  # matplotlib is needed for nothing else

        plot(sizes, options.clips, max(options.batches), options.rounds)
        return
    rows, seconds, megabytes = [], {}, {}
    for objective in FEWEST_LANGUAGES:
        rows += compare_languages(objective, options, sizes, seconds, megabytes)
    for objective in ("kcl", "cacl"):
        rows += compare_batches(objective, options, sizes, megabytes)
        rows += [time_chunks(objective, options, sizes, seconds)]
    print_report("training_step", rows, seconds, megabytes=megabytes, clips=options.clips, **sizes)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Takes about two minutes, --plot some minutes more.",
    )
    parser.add_argument("--clips", type=int, default=24, help="clips of a batch, or of a chunk (default: %(default)s)")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[96, 384], help="clips of batches in chunks (default: 96 384)"
    )
    parser.add_argument("--tokens", type=int, default=32, help="tokens of every caption (default: %(default)s)")
    parser.add_argument("--hidden-size", type=int, default=128, help="width of both towers (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=4, help="layers of the text tower (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns that are timed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    parser.add_argument("--plot", action="store_true", help="draw the curves instead")
    return parser.parse_args()


def compare_languages(
    objective: str, options: argparse.Namespace, sizes: dict[str, int], seconds: dict, megabytes: dict
) -> list[dict[str, Any]]:
    """Language by language: memory of all languages against the fewest, time against all of them at once."""
    fewest, kept = FEWEST_LANGUAGES[objective], {}
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
    """In chunks: memory of large batches against a batch of one chunk of clips."""
    num_languages = ALL_LANGUAGES if objective == "kcl" else 2
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
    """Megabytes of what autograd keeps, of its parts, and of the embeddings and their gradients."""
    saved, loss = step.peak_saved_megabytes(), step.loss_megabytes()
    found = {"saved": saved, "encoders": saved - loss, "loss": loss, "embeddings": step.embeddings_megabytes()}
    return {name: round(value, 3) for name, value in found.items()}


def time_chunks(objective: str, options: argparse.Namespace, sizes: dict[str, int], seconds: dict) -> dict[str, Any]:
    """In chunks: time against the same batch at once, two captions a clip."""
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
    expected = first.gradients()
    difference = float((second.gradients() - expected).abs().max() / expected.abs().max())
    if difference > TOLERANCE:
        raise SystemExit(f"The gradients differ by {difference:.1e} of the largest entry: more than {TOLERANCE}.")


if __name__ == "__main__":
    main()
