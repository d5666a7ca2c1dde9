import copy

import torch

from modeling_atri.trainer.model.parameters import fit_state_shapes


def test_optimizer_state_of_a_scalar_goes_on_for_one_number():
    """As from a checkpoint of version 0.1, in which the logit scale is a scalar."""
    parameters = torch.nn.Parameter(torch.tensor([2.5])), torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.AdamW(parameters, lr=0.1)

    def step(scale: torch.nn.Parameter, weights: torch.nn.Parameter, own: torch.optim.Optimizer) -> None:
        (scale.exp() * weights.sum()).sum().backward()
        own.step()
        own.zero_grad()

    step(*parameters, optimizer)
    old = copy.deepcopy(optimizer.state_dict())
    for name in ("exp_avg", "exp_avg_sq"):
        old["state"][0][name] = old["state"][0][name].reshape(())
    copies = [torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    resumed = torch.optim.AdamW(copies, lr=0.1)
    resumed.register_load_state_dict_post_hook(fit_state_shapes)
    resumed.load_state_dict(old)
    step(*parameters, optimizer)
    step(*copies, resumed)
    for ours, theirs in zip(copies, parameters, strict=True):
        assert torch.equal(ours, theirs)
    assert [state["exp_avg"].shape for state in resumed.state.values()] == [(1,), (2, 3)]
    assert all(state["step"].shape == () for state in resumed.state.values())
