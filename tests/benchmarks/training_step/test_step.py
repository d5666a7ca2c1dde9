"""The memory bounds of `benchmarks/bench_training_step.py`, on a small model."""

import pytest
import torch


pytestmark = pytest.mark.heavy


SIZES = {"num_tokens": 24, "hidden_size": 32, "num_layers": 2}


def test_language_by_language_memory_does_not_grow_with_the_languages():
    from training_step.step import TrainingStep

    megabytes = {
        (objective, count, exact): TrainingStep(
            objective, count, num_clips=8, exact_step=exact, **SIZES
        ).peak_saved_megabytes()
        for objective, counts in (("kcl", (1, 8)), ("akcl", (2, 8)))
        for count in counts
        for exact in (True, False)
    }
    assert megabytes["kcl", 8, True] <= 1.05 * megabytes["kcl", 1, True]
    assert megabytes["akcl", 8, True] <= 1.05 * megabytes["akcl", 2, True]
    # With all languages at once, eight languages keep far more.
    assert megabytes["kcl", 8, False] > 3 * megabytes["kcl", 1, False]
    assert megabytes["akcl", 8, False] > 2.5 * megabytes["akcl", 2, False]
    assert megabytes["kcl", 1, True] == pytest.approx(megabytes["kcl", 1, False], rel=0.1)


@pytest.mark.parametrize(
    "objective, num_languages, exact_step",
    [("kcl", 3, True), ("akcl", 3, True), ("kcl", 3, False), ("cacl", 2, True), ("mlclap", 1, True)],
)
def test_in_chunks_memory_does_not_grow_with_the_batch(objective, num_languages, exact_step):
    from training_step.step import TrainingStep

    chunks = {"audio_chunk_size": 4, "text_chunk_size": 4, "exact_step": exact_step}
    small, large = (TrainingStep(objective, num_languages, num_clips, **chunks, **SIZES) for num_clips in (4, 32))
    whole = TrainingStep(objective, num_languages, 32, exact_step=exact_step, **SIZES)
    assert encoders(large) <= 1.05 * encoders(small)
    assert encoders(whole) > 6 * encoders(small)


def encoders(step) -> float:
    """Megabytes that the encoders keep."""
    return step.peak_saved_megabytes() - step.loss_megabytes()


def test_what_autograd_keeps_is_counted():
    """The product keeps its two factors of 4 kB each, and tanh keeps its output."""
    from training_step.saved_tensors import peak_saved_megabytes

    first, second = (torch.randn(1000, requires_grad=True) for _ in range(2))

    def run() -> None:
        ((first * second).tanh()).sum().backward()

    assert peak_saved_megabytes(run, []) == pytest.approx(0.012)
    assert peak_saved_megabytes(run, [first]) == pytest.approx(0.008)
