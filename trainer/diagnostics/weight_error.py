"""The weight error: the distance between the weights of two runs, and its upper bound.

The bound is from ATRI (Yin et al., ACL 2025). Two runs start from the same weights. w is trained on the distribution p
over pairs of clip and caption, w' on p'. With learning rate eta, Lipschitz constant L of the gradient, and g_max the
largest norm of one pair's gradient along w, each step gives

    ||w_(s+1) - w'_(s+1)||  <=  (1 + eta L) ||w_s - w'_s||  +  eta g_max sum_(a,t) |p(a, t) - p'(a, t)|,

Over the T steps of an epoch this is the paper's recursion. It holds for full-batch gradient descent on the sum of
p(a, t) times the loss of the pair. It is only a heuristic if in-batch negatives make a pair's loss depend on its
batch, if an optimizer such as Adam takes other steps than eta times the gradient, or if the constants are estimated
from a run and therefore too small. The bound grows as (1 + eta L)^s, which overflows, so it is kept as a logarithm.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn


_TOWERS = {"audio_model.": "audio", "text_model.": "text"}  # by prefix of their parameters; all others are heads


def weight_distances(first: nn.Module, second: nn.Module) -> dict[str, float]:
    """Euclidean distance between the weights of two models of one architecture.

    Returns:
        The distance of all weights (`total`), and of those of the parts `audio`, `text` and `heads`.
    """
    squares = {"audio": 0.0, "text": 0.0, "heads": 0.0}
    for (name, x), y in zip(first.named_parameters(), second.parameters(), strict=True):
        part = next((tower for prefix, tower in _TOWERS.items() if name.startswith(prefix)), "heads")
        squares[part] += squared_distance(x, y)
    return {name: math.sqrt(value) for name, value in {"total": sum(squares.values()), **squares}.items()}


def squared_distance(x: Tensor, y: Tensor) -> float:
    """Squared Euclidean distance between two tensors, computed in float64."""
    return (x.detach().double() - y.detach().double()).square().sum().item()


def weight_error_bound(
    learning_rates: Sequence[float], distribution_errors: Sequence[float], lipschitz: float, largest_gradient: float
) -> np.ndarray:
    """Base-10 logarithm of the upper bound of ||w - w'|| after each step; -inf where the bound is 0.

    Args:
        learning_rates: Learning rate of each step, `(S,)`.
        distribution_errors: Data distribution error of each step's epoch, `(S,)`, summed over all pairs, with p and p'
            that sum to 1.
        lipschitz: Lipschitz constant L of the gradient of the mean loss.
        largest_gradient: Largest norm g_max of the gradient of one pair.

    Raises:
        ValueError: The lengths differ, or a number is negative or not finite.
    """
    rates, errors = (np.asarray(values, dtype=np.float64) for values in (learning_rates, distribution_errors))
    constants = {"lipschitz": lipschitz, "largest_gradient": largest_gradient}
    for name, value in {"learning_rates": rates, "distribution_errors": errors, **constants}.items():
        if not (np.isfinite(value).all() and (np.asarray(value) >= 0).all()):
            raise ValueError(f"`{name}` must be finite and >= 0; got {value}.")
    if rates.ndim != 1 or rates.shape != errors.shape:
        raise ValueError(
            "`learning_rates` and `distribution_errors` must be lists of equal length, one entry per step; got shapes "
            f"{rates.shape} and {errors.shape}."
        )
    with np.errstate(divide="ignore"):  # log(0) is -inf
        growth, added = np.log1p(rates * lipschitz), np.log(rates * errors * largest_gradient)
    bound, bounds = -math.inf, np.empty(len(rates))
    for step, (grows, adds) in enumerate(zip(growth, added, strict=True)):
        bounds[step] = bound = np.logaddexp(bound + grows, adds)
    return bounds / math.log(10)
