"""The base class of the model and all audio towers, and functions that they share."""

from collections.abc import Collection, Iterable
from importlib import import_module

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import TransformersKwargs, auto_docstring

from .ced_layers_atri import AtriAudioAttention, AtriAudioEmbeddings, AtriAudioLayer, AtriMelNorm
from .configuration_atri import AtriConfig


# Options that every model of transformers takes.
MODEL_OPTIONS = frozenset(TransformersKwargs.__annotations__) | {"return_dict"}


class AtriLogitScale(nn.Module):
    """The learned logarithm of the inverse temperature, as a parameter of shape (1,) in a module of its own.

    PEFT, torchao and FSDP handle the parameters of modules, but no scalars of the model itself.
    """

    def __init__(self, initial_value: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([float(initial_value)]))

    def forward(self) -> Tensor:
        """The factor of the similarities, of shape `()`."""
        return self.weight.exp().squeeze(0)


@auto_docstring
class AtriPreTrainedModel(PreTrainedModel):
    config: AtriConfig
    base_model_prefix = "atri"
    input_modalities = ["audio", "text"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # InfoNCE is a mean over the batch, so Trainer has to scale it for accumulation
    _no_split_modules: set[str] | list[str] | None = ["AtriAudioLayer", "AtriAudioEmbeddings"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": AtriAudioLayer, "attentions": AtriAudioAttention}
    _trained_with_adapters: set[int] | None = None  # ids of the parameters that were trained before `disable_adapters`

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AtriMelNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
        elif isinstance(module, AtriAudioEmbeddings):
            init.trunc_normal_(module.frequency_positions, std=0.02)
            init.trunc_normal_(module.time_positions, std=0.02)
        elif isinstance(module, AtriLogitScale):
            init.constant_(module.weight, self.config.logit_scale_init_value)

    def set_adapter(self, adapter_name: list[str] | str) -> None:
        """Activate an adapter of PEFT, as in transformers. Adapters may also differ in their `modules_to_save`."""
        names = [adapter_name] if isinstance(adapter_name, str) else adapter_name
        if not self._hf_peft_config_loaded or not set(names) <= self.peft_config.keys():
            return super().set_adapter(adapter_name)  # raises
        # transformers demands of everybody the packages that a copy of this file on the Hub names in an import.
        peft = import_module("peft.functional")
        peft.set_adapter(self, adapter_name)
        # `add_adapter` leaves the parts of the adapter that was active before trainable.
        peft.set_requires_grad(self, [name for name in self.peft_config if name not in names], requires_grad=False)
        self._trained_with_adapters = None

    def disable_adapters(self) -> None:
        """Compute as the base model, as in transformers."""
        trained = {id(parameter) for parameter in self.parameters() if parameter.requires_grad}
        super().disable_adapters()
        if self._trained_with_adapters is None:
            self._trained_with_adapters = trained

    def enable_adapters(self) -> None:
        """Undo `disable_adapters`, also for the parts in `modules_to_save`, which transformers leaves disabled.

        PEFT makes whole parts trainable. What was frozen before `disable_adapters` is frozen again.
        """
        super().enable_adapters()
        wrapper = import_module("peft.utils").ModulesToSaveWrapper
        for module in self.modules():
            if isinstance(module, wrapper):
                module.enable_adapters(True)
        if self._trained_with_adapters is not None:
            for parameter in self.parameters():
                parameter.requires_grad_(parameter.requires_grad and id(parameter) in self._trained_with_adapters)
        self._trained_with_adapters = None


def check_inputs(given: Iterable[str], known: Collection[str], inputs: str) -> None:
    """Raise a ValueError if a model gets inputs that it does not have and would ignore, such as another mask."""
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"The model has no inputs {unknown}. Its inputs here are {inputs}; leave out the others.")


def masked_mean(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """Mean of `(batch, items, dim)` over the items where `mask` is set, computed in at least float32."""
    weights = mask[..., None].to(torch.promote_types(hidden_states.dtype, torch.float32))
    total = (hidden_states.to(weights.dtype) * weights).sum(dim=1)
    return (total / weights.sum(dim=1).clamp(min=1.0)).to(hidden_states.dtype)
