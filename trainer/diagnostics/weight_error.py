"""The weight error's upper bound: how far training on other data can take the weights.

The source is ATRI (Yin et al., ACL 2025). Two runs start from the same weights; w is trained on the distribution p
over pairs of clip and caption, w' on p'. Step by step, with learning rate eta, Lipschitz constant L of the gradient,
and g_max the largest norm of one pair's gradient along w,

    ||w_(s+1) - w'_(s+1)||  <=  (1 + eta L) ||w_s - w'_s||  +  eta g_max sum_(a,t) |p(a, t) - p'(a, t)|,

which, over the T steps of an epoch, is the paper's recursion. It holds for full-batch gradient descent on the sum of
p(a, t) times the loss of the pair. In-batch negatives make a pair's loss depend on its batch, Adam's steps are not eta
times the gradient, and constants that are estimated from a run may be too small: there the bound is a heuristic. It
grows as (1 + eta L)^s, beyond what a float holds, so it is kept as its logarithm to base 10.
"""

import math
from collections.abc import Sequence

import numpy as np


def weight_error_bound(
    learning_rates: Sequence[float], distribution_errors: Sequence[float], lipschitz: float, largest_gradient: float
) -> np.ndarray:
    """log10 of the upper bound of ||w - w'|| after each step; -inf where it is 0.

    Args:
        learning_rates: `(S,)`, of each step.
        distribution_errors: `(S,)`, the data distribution error of each step's epoch, summed over all pairs; p and
            p' sum up to 1.
        lipschitz: L, of the gradient of the mean loss.
        largest_gradient: g_max.

    Raises:
        ValueError: lengths that differ; a number that is negative or not finite.
    """
    rates, errors = (np.asarray(values, dtype=np.float64) for values in (learning_rates, distribution_errors))
    constants = {"lipschitz": lipschitz, "largest_gradient": largest_gradient}
    for name, value in {"learning_rates": rates, "distribution_errors": errors, **constants}.items():
        if not (np.isfinite(value).all() and (np.asarray(value) >= 0).all()):
            raise ValueError(f"`{name}` must be finite and >= 0; got {value}.")
    if rates.ndim != 1 or rates.shape != errors.shape:
        raise ValueError(
            "`learning_rates` and `distribution_errors` must be two lists of one length, an entry a step; got shapes "
            f"{rates.shape} and {errors.shape}."
        )
    with np.errstate(divide="ignore"):  # what adds nothing has the logarithm -inf
        growth, added = np.log1p(rates * lipschitz), np.log(rates * errors * largest_gradient)
    bound, bounds = -math.inf, np.empty(len(rates))
    for step, (grows, adds) in enumerate(zip(growth, added, strict=True)):
        bounds[step] = bound = np.logaddexp(bound + grows, adds)
    return bounds / math.log(10)
