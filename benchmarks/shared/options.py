"""Command line options of the benchmarks."""

import argparse


ROUNDS = "timed rounds in which each way runs once"
SEED = "seed of weights and data"


def option_parser(
    description: str, duration: str | None = None, **numbers: tuple[int | float, str]
) -> argparse.ArgumentParser:
    """Make a parser whose help is a module's docstring.

    Args:
        description: docstring of the command.
        duration: how long the command takes with its default options, e.g. "about a minute".
        numbers: default value and help of each option that is a number, e.g. `loop_rounds=(3, ROUNDS)` for
            `--loop-rounds`.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=duration and f"Takes {duration}.",
    )
    for name, (default, text) in numbers.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{text} (default: %(default)s)"
        )
    return parser
