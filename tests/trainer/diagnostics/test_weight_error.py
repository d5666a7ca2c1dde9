"""The upper bound of the weight error, where it is known to hold: full-batch descent on convex losses of pairs."""

import numpy as np
import pytest

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer.data.draws import LanguageDraws
from modeling_atri.trainer.diagnostics.distribution_error import Sampling, distribution_error, epoch_shares
from modeling_atri.trainer.diagnostics.weight_error import weight_error_bound


NUM_CLIPS, NUM_EPOCHS, STEPS_AN_EPOCH = 6, 5, 4
COUNTS = np.ones((NUM_CLIPS, 8), dtype=int)


class Toy:
    """`sum p(a, t) l_at(w)` of a smooth convex loss a pair, with the constants of its gradients.

    Losses are `log(1 + exp(-x_at w))` (logistic) or `(x_at w - y_at)^2 / 2` (quadratic). The features of a clip's
    pairs share a direction, as the languages of a caption share their meaning.
    """

    def __init__(self, kind: str, seed: int, spread: float):
        rng = np.random.default_rng(seed)
        of_clips = rng.normal(size=(NUM_CLIPS, 1, 12))
        features = of_clips + spread * rng.normal(size=(NUM_CLIPS, 8, 12))
        self.features = features / np.linalg.norm(features, axis=2, keepdims=True)
        self.targets = rng.normal(size=(NUM_CLIPS, 8))
        self.kind = kind
        self.lipschitz = 0.25 if kind == "logistic" else 1.0  # the largest second derivative, of unit features

    def gradients(self, weights: np.ndarray) -> np.ndarray:
        """Of every pair, `(N, K, D)`."""
        scores = self.features @ weights
        slopes = -1 / (1 + np.exp(scores)) if self.kind == "logistic" else scores - self.targets
        return slopes[:, :, None] * self.features

    def descend(self, distributions: list[np.ndarray], rates: np.ndarray) -> np.ndarray:
        """Weights before the first step and after each, `(S + 1, D)`."""
        weights = [np.full(12, 0.5)]
        for step, rate in enumerate(rates):
            p = distributions[step // STEPS_AN_EPOCH]
            weights.append(weights[-1] - rate * (p[:, :, None] * self.gradients(weights[-1])).sum(axis=(0, 1)))
        return np.array(weights)


def run(toy: Toy, objective: str, rates: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight error and log10 of its bound after each step, and the data distribution errors of the epochs."""
    sampling = Sampling(LanguageDraws(objective, ATRI_LANGUAGES, seed=seed), batch_size=NUM_CLIPS)
    shares = [epoch_shares(sampling, COUNTS, epoch) for epoch in range(NUM_EPOCHS)]
    errors = np.array([distribution_error(of_epoch, COUNTS).languages for of_epoch in shares])
    uniform = [np.full((NUM_CLIPS, 8), 1 / (NUM_CLIPS * 8))] * NUM_EPOCHS
    full = toy.descend(uniform, rates)
    sampled = toy.descend([of_epoch[:, :, 0] / NUM_CLIPS for of_epoch in shares], rates)
    largest = max(np.linalg.norm(toy.gradients(weights), axis=2).max() for weights in full[:-1])
    bound = weight_error_bound(rates, np.repeat(errors, STEPS_AN_EPOCH), toy.lipschitz, largest)
    return np.linalg.norm(full - sampled, axis=1)[1:], bound, errors


@pytest.mark.parametrize("kind", ["logistic", "quadratic"])
@pytest.mark.parametrize("objective", ["mlclap", "cacl"])
@pytest.mark.parametrize("seed", range(5))
def test_the_bound_holds_where_it_must(kind, objective, seed):
    rates = np.linspace(0.2, 0.05, NUM_EPOCHS * STEPS_AN_EPOCH)
    error, bound, _ = run(Toy(kind, seed, spread=1.0), objective, rates, seed)
    assert (error > 0).all()
    assert (np.log10(error) <= bound).all()
    assert (bound - np.log10(error) < 2.5).all(), "it says next to nothing"


def test_the_bound_is_not_empty():
    """Where one language pulls every clip against all others, what is drawn matters as much as it can."""
    toy = Toy("logistic", 0, spread=0.0)
    direction = toy.features[0, 0]
    toy.features = np.broadcast_to(direction, toy.features.shape) * np.where(np.arange(8) == 0, -1, 1)[:, None]
    rates = np.full(NUM_EPOCHS * STEPS_AN_EPOCH, 0.1)
    ratios = []
    for seed in range(20):
        error, bound, _ = run(toy, "mlclap", rates, seed)
        ratios.append(10 ** bound[STEPS_AN_EPOCH - 1] / error[STEPS_AN_EPOCH - 1])
    assert min(ratios) >= 1
    assert min(ratios) < 4


def test_the_bound_is_reached():
    """Two pairs of one clip with the constant gradients x and -x, p = (1/2, 1/2) and p' = (1, 0)."""
    rates, size = np.array([0.1, 0.2, 0.3]), 5.0
    distance = np.cumsum(rates) * size  # w stands still, w' goes along -x
    assert 10 ** weight_error_bound(rates, np.ones(3), 0.0, size) == pytest.approx(distance)


def test_the_recursion_by_hand():
    # a = 1 + 0.5 * 2 = 2; each step adds 0.5 * 1.75 * 4 = 3.5 in the first epoch, nothing in the second.
    bound = weight_error_bound([0.5] * 4, [1.75, 1.75, 0, 0], lipschitz=2, largest_gradient=4)
    assert 10**bound == pytest.approx([3.5, 10.5, 21, 42])


def test_the_papers_recursion_over_epochs():
    rate, lipschitz, largest, steps = 0.01, 3.0, 2.0, 7
    errors = [1.75, 1.5, 0.0, 1.0]
    bound = weight_error_bound([rate] * 28, np.repeat(errors, steps), lipschitz, largest)
    growth, expected = 1 + rate * lipschitz, 0.0
    for epoch, error in enumerate(errors):
        inner = sum(growth**j for j in range(steps)) * largest
        expected = growth**steps * expected + rate * error * inner
        assert 10 ** bound[(epoch + 1) * steps - 1] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["logistic", "quadratic"])
def test_the_same_distribution_has_no_weight_error(kind):
    error, bound, errors = run(Toy(kind, 0, spread=1.0), "kcl", np.full(NUM_EPOCHS * STEPS_AN_EPOCH, 0.1), 0)
    assert errors == pytest.approx([0] * NUM_EPOCHS, abs=1e-12)
    assert error == pytest.approx(np.zeros(len(error)), abs=1e-12)
    assert (bound < -12).all()
    assert weight_error_bound([0.1, 0.1], [0.0, 0.0], 1.0, 1.0).tolist() == [-np.inf, -np.inf]


def test_a_bound_beyond_all_floats():
    bound = weight_error_bound([1.0] * 10_000, [1.0] * 10_000, lipschitz=9.0, largest_gradient=9.0)
    assert bound[-1] == pytest.approx(10_000)  # 9 * (10^10000 - 1) / 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lipschitz": -1.0}, "`lipschitz` must be finite and >= 0; got -1.0"),
        ({"largest_gradient": np.nan}, "`largest_gradient` must be finite"),
        ({"learning_rates": [0.1, np.inf]}, "`learning_rates` must be finite"),
        ({"learning_rates": [0.1]}, r"lists of equal length, one entry per step; got shapes \(1,\) and \(2,\)"),
    ],
)
def test_what_is_refused(changes, message):
    numbers = {"learning_rates": [0.1, 0.1], "distribution_errors": [1.0, 1.0]}
    with pytest.raises(ValueError, match=message):
        weight_error_bound(**numbers | {"lipschitz": 1.0, "largest_gradient": 1.0} | changes)
