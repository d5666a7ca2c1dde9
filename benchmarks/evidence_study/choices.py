"""Rules by which tuning runs choose settings, from R@1 and mAP@10 on held-out training scenes."""

from collections.abc import Mapping


GAIN = 0.01  # mAP@10 that doubling the steps must bring at least


def best_rate(recalls: Mapping[float, float]) -> float:
    """The learning rate of the highest recall; the lower one of two that are equal.

    Args:
        recalls: recall by learning rate.
    """
    return max(sorted(recalls), key=lambda rate: recalls[rate])


def enough_steps(recalls: Mapping[int, float]) -> tuple[int, bool]:
    """The smallest number of steps whose double brings less than `GAIN` more mAP@10.

    Args:
        recalls: mAP@10 by number of steps, each with a schedule of its own.

    Returns:
        The number of steps, and whether recall no longer rises there. If it still rises wherever the double was run,
        or no double was run, the number is the largest one and the second value is False.
    """
    for steps in sorted(recalls):
        if 2 * steps in recalls and recalls[2 * steps] - recalls[steps] < GAIN:
            return steps, True
    return max(recalls), False
