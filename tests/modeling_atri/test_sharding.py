"""FSDP (`fully_shard`) in two processes makes the same steps as a plain model."""

import pytest
import torch

from modeling_atri import AtriModel
from tests.helpers import sharded
from tests.helpers.forks import check_call
from tests.helpers.tiny import tiny_model


pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    """What the two processes saved."""
    file = tmp_path_factory.mktemp("sharded") / "found.pt"
    check_call(sharded.run_processes, file)
    return torch.load(file)


@pytest.fixture(scope="module")
def plain() -> AtriModel:
    """A model that was trained on the batches of both processes in one."""
    model = tiny_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(sharded.NUM_STEPS):
        (sum(model(**sharded.batch(rank, step)).loss for rank in range(2)) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def test_steps_equal_those_of_a_plain_model(found, plain):
    start = tiny_model().state_dict()
    assert found["trained"].keys() == plain.state_dict().keys()
    for name, weight in plain.state_dict().items():
        # A softmax does not depend on the bias of its keys. The gradient is rounding alone, which Adam makes large.
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(found["trained"][name], weight, atol=1e-5, rtol=0, msg=name)
    for name, parameter in plain.named_parameters():
        assert not torch.equal(parameter, start[name]), name


def test_state_dicts_survive_sharding(found):
    assert found["again"].keys() == found["trained"].keys()
    for name, weight in found["trained"].items():
        assert torch.equal(found["again"][name], weight), name
    model = tiny_model(seed=2)
    model.load_state_dict(found["trained"])
    assert torch.equal(model.logit_scale, found["trained"]["learned_logit_scale.weight"])
