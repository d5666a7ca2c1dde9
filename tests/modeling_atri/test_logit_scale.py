"""The learned temperature: a parameter of a module, read and written as `model.logit_scale`, also from version 0.1."""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from modeling_atri import AtriModel
from modeling_atri.modeling_atri import convert_scalar_logit_scale
from tests.helpers.tiny import tiny_model


NAME = "learned_logit_scale.weight"


def of_version_0_1(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the logit scale as a scalar of the model itself."""
    old = {name: value for name, value in state_dict.items() if name != NAME}
    return old | {"logit_scale": state_dict[NAME].reshape(())}


def save_as_version_0_1(model: AtriModel, folder, **options) -> None:
    model.save_pretrained(folder, **options)
    for path in folder.glob("*.safetensors"):
        if NAME in (weights := load_file(path)):
            save_file(of_version_0_1(weights), path, {"format": "pt"})
    for index in folder.glob("*.index.json"):
        index.write_text(index.read_text().replace(f'"{NAME}"', '"logit_scale"'))


def test_it_is_a_parameter_of_a_module():
    model = tiny_model()
    assert dict(model.named_parameters())[NAME] is model.logit_scale
    assert model.logit_scale.shape == (1,)
    assert model.learned_logit_scale().shape == ()
    assert model.learned_logit_scale().item() == model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert all(parameter.ndim > 0 for parameter in model.parameters())


def test_it_can_be_read_and_written():
    model = tiny_model()
    parameter, number = model.logit_scale, model.num_parameters()
    for value in (0.5, torch.tensor(1.5), torch.tensor([2.5]), 3):
        model.logit_scale = value
        assert model.logit_scale is parameter
        assert parameter.item() == float(value)
    with torch.no_grad():
        model.logit_scale += 1
        assert parameter.item() == 4.0
        model.logit_scale.fill_(math.log(20))
    assert model.learned_logit_scale().item() == pytest.approx(20)
    model.logit_scale.requires_grad_(False)
    assert not model.learned_logit_scale.weight.requires_grad
    assert model.num_parameters() == number
    for trained in (True, False):
        model.logit_scale = torch.nn.Parameter(torch.tensor(math.log(20)), requires_grad=trained)
        assert model.logit_scale is parameter
        assert parameter.requires_grad is trained
    other = copy.deepcopy(model)
    other.logit_scale = 0
    assert model.learned_logit_scale().item() == pytest.approx(20)


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "20KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize("loading", [{}, {"dtype": "auto"}, {"dtype": torch.bfloat16}, {"device_map": "auto"}])
def test_checkpoints_of_version_0_1_load(tmp_path, caplog, options, loading):
    model = tiny_model()
    model.logit_scale = 1.2345
    save_as_version_0_1(model, tmp_path, **options)
    loaded, info = AtriModel.from_pretrained(tmp_path, output_loading_info=True, **loading)
    assert not any(info.values())
    assert caplog.records == []
    assert torch.equal(loaded.logit_scale, model.logit_scale)
    assert loaded.logit_scale.dtype == torch.float32
    loaded.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors")[NAME].tolist() == model.logit_scale.tolist()


def test_state_dicts_of_version_0_1_load():
    model = tiny_model()
    model.logit_scale = 1.2345
    old = of_version_0_1(model.state_dict())
    other = tiny_model(seed=1)
    other.load_state_dict(old)
    assert "logit_scale" in old  # the state dict of the caller stays as it is
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    wrapped = torch.nn.ModuleDict({"inner": tiny_model(seed=2)})
    wrapped.load_state_dict({f"inner.{name}": value for name, value in old.items()})
    assert torch.equal(wrapped["inner"].logit_scale, model.logit_scale)
    convert_scalar_logit_scale(old)
    assert old.keys() == model.state_dict().keys()
