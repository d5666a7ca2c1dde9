from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import nn

from modeling_atri.eval_mode_atri import in_eval_mode


def make_model() -> nn.Module:
    """In training mode, except the last part."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)), nn.Dropout(0.5)).train()
    model[2].eval()
    return model


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_every_module_gets_its_own_mode_back():
    model = make_model()
    before = modes(model)
    assert not all(before)
    assert any(before)
    with in_eval_mode(model):
        assert not any(modes(model))
    assert modes(model) == before
    with pytest.raises(RuntimeError, match="x"), in_eval_mode(model):
        raise RuntimeError("x")
    assert modes(model) == before
    with in_eval_mode("another object"):
        pass


@pytest.mark.parametrize("part", [None, 1])
def test_overlapping_contexts(part):
    model = make_model()
    before = modes(model)
    first, second = in_eval_mode(model), in_eval_mode(model if part is None else model[part])
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(modes(model if part is None else model[part]))
    second.__exit__(None, None, None)
    assert modes(model) == before


def test_threads_never_see_training_mode():
    model = make_model()
    before, x = modes(model), torch.ones(4, 2)
    with in_eval_mode(model):
        expected = model(x)
    barrier = Barrier(8)

    def compute(number: int) -> bool:
        barrier.wait()
        results = []
        for _ in range(50):
            with in_eval_mode(model if number % 2 else model[1]):
                results.append(model[1](x) if not number % 2 else model(x))
        return all(torch.equal(result, expected if number % 2 else results[0]) for result in results)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(compute, range(8)))
    assert modes(model) == before
