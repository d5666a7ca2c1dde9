"""LoRA adapters on the text tower, in PEFT's format: what they change, what is trained and saved beside them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import nn
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import ADAPTER_CONFIG_NAME, ADAPTER_SAFE_WEIGHTS_NAME, CONFIG_NAME, is_peft_available

from modeling_atri.modeling_atri import AtriModel
from modeling_atri.sources import is_hub_id


if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel


# Trained and saved whole beside the adapter. PEFT keeps modules only: the logit scale, a bare parameter, is added by
# `AtriModel.get_adapter_state_dict`.
_WHOLE_PARTS = ("audio_model", "audio_projection", "text_projection")
_KEY_PREFIX = "base_model.model."  # of the names in an adapter's file
_MEL_STATISTICS = ("running_mean", "running_var")


def text_lora_config(
    model: AtriModel, rank: int = 16, alpha: float | None = None, dropout: float = 0.0
) -> "LoraConfig":
    """LoRA on every linear layer of the text tower; the other parts that can be trained are trained whole.

    Of SONAR's encoder (M2M100) these are `q_proj`, `k_proj`, `v_proj`, `out_proj`, `fc1` and `fc2` of each layer.

    Args:
        model (`AtriModel`): to be adapted.
        rank (`int`, *optional*, defaults to 16): of the change of each layer.
        alpha (`float`, *optional*): the change is scaled by alpha / rank. Default: twice the rank.
        dropout (`float`, *optional*, defaults to 0.0): on the input of the adapters, in training.

    Returns:
        `LoraConfig`, for `model.add_adapter` or `peft.get_peft_model`. What is frozen in the model is not in its
        `modules_to_save`; PEFT keeps a copy of each module there, so that the base stays as it is.

    Raises:
        ImportError: peft is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError("LoRA adapters need PEFT: pip install 'modeling_atri[peft]'") from error
    layers = {name.rsplit(".")[-1] for name, part in model.text_model.named_modules() if isinstance(part, nn.Linear)}
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=rf"text_model\..*\b({'|'.join(sorted(layers))})",
        modules_to_save=[name for name in _WHOLE_PARTS if _is_trained(model.get_submodule(name))],
    )


def add_text_lora(model: AtriModel, rank: int = 16, alpha: float | None = None, dropout: float = 0.0) -> None:
    """Put a LoRA adapter on the text tower, whose own weights are frozen by it; it changes nothing until trained.

    The audio tower, the projections and the logit scale stay as trainable, or frozen, as they are. All of it is what
    `save_pretrained` and `AtriTrainer` save: an `adapter_model.safetensors` that names the model it was made on.

    Args:
        model (`AtriModel`): from `from_pretrained`; it stays an `AtriModel`.
        rank, alpha, dropout: see [`text_lora_config`].

    Raises:
        ImportError: peft is not installed.
        ValueError: the model has an adapter already.
    """
    if has_adapter(model):
        raise ValueError(
            "The model has an adapter already. To train it further, call "
            "`modeling_atri.trainer.model.adapters.train_adapter(model)` and leave out `lora_rank`; to add one to a "
            "plain model, load it with `AtriModel.from_pretrained` first."
        )
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.add_adapter(text_lora_config(model, rank, alpha, dropout))
    # PEFT freezes all but the adapter, and trains all of a part that it copies.
    for part in _WHOLE_PARTS:
        for name, parameter in model.get_submodule(part).named_parameters():
            if "modules_to_save." in name:
                plain = name.removeprefix("modules_to_save.default.")
                parameter.requires_grad_(f"{part}.{plain}" in trained)
    model.logit_scale.requires_grad_("logit_scale" in trained)


def train_adapter(model: "AtriModel | PeftModel") -> None:
    """Make a loaded adapter trainable again, with the parts saved beside it and the logit scale.

    `AtriModel.from_pretrained(folder)` freezes an adapter, for inference.

    Raises:
        ValueError: the model has no adapter.
    """
    if not has_adapter(model):
        raise ValueError("The model has no adapter; put one on its text tower with `add_text_lora(model)`.")
    base = unwrap_peft_model(model)
    if base is model:
        model.set_adapter(model.active_adapters())
        model.logit_scale.requires_grad_(True)
    else:
        model.set_adapter(model.active_adapter)


def has_adapter(model: nn.Module) -> bool:
    """Whether a module of `model` is adapted by PEFT, active or not."""
    if not is_peft_available():
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


def check_adapter(model: "AtriModel | PeftModel", trains_text: bool = True) -> None:
    """Refuse a training whose outcome could not be saved with the adapter, or not be loaded again.

    Args:
        model: with an adapter.
        trains_text (`bool`, *optional*, defaults to `True`): whether the adapter is to be trained.

    Raises:
        ValueError: the adapter is frozen; a trained weight is not saved with it; its base has no name.
    """
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    beside = (".modules_to_save.", "logit_scale")
    if trains_text and all(any(part in name for part in beside) for name in trained):
        raise ValueError(
            "The adapter is frozen, as `from_pretrained` leaves it. Call "
            "`modeling_atri.trainer.model.adapters.train_adapter(model)` to train it further."
        )
    names = {name: name for name in model.state_dict()}
    saved = set(_adapter_state(model, names).values())
    lost = [name for name in trained if name not in saved]
    mel_norm = unwrap_peft_model(model).audio_model.mel_norm
    if not mel_norm.is_set:
        lost += [name for name in names if name.endswith(_MEL_STATISTICS) and _is_active(name) and name not in saved]
    if lost:
        raise ValueError(
            f"{len(lost)} weights would be trained, but not saved with the adapter: {', '.join(lost[:3])}"
            f"{', ...' if len(lost) > 3 else ''}. Freeze them, or name their modules in `modules_to_save` of the "
            "adapter's configuration. PEFT saves no bare parameter of a `PeftModel`, such as logit_scale; "
            "`modeling_atri.trainer.model.adapters.add_text_lora(model)` saves that too."
        )
    if not _active_config(model).base_model_name_or_path:
        raise ValueError(
            "An adapter's checkpoint holds what was trained and the name of its base model, but this one was built in "
            "memory and has no name. Save it first and load it from there: `model.save_pretrained(folder)`, "
            "`AtriModel.from_pretrained(folder)`."
        )


def check_folder(model: "AtriModel | PeftModel", folder: str) -> None:
    """Refuse to save beside files of another run, which `from_pretrained` would load with those of this one.

    Raises:
        ValueError: the folder holds an adapter and the model has none; or a model that is not the adapter's base.
    """
    path = Path(folder)
    if not has_adapter(model):
        found = "an adapter" if (path / ADAPTER_CONFIG_NAME).exists() else None
    else:
        is_base = Path(_active_config(model).base_model_name_or_path).resolve() == path.resolve()
        found = "a whole model" if (path / CONFIG_NAME).exists() and not is_base else None
    if found is not None:
        raise ValueError(
            f"The output folder {folder} holds {found} from another run, which `from_pretrained` would mix with this "
            "run's. Choose another `output_dir`, or move it away."
        )


def check_base_on_hub(model: "AtriModel | PeftModel") -> None:
    """Refuse a training that is to be pushed, but whose adapter others could not load.

    Raises:
        ValueError: the base model is a local folder.
    """
    base = _active_config(model).base_model_name_or_path
    if not is_hub_id(base):
        raise ValueError(
            f"`push_to_hub` would push an adapter on a model that is not on the Hub ({base}), where nobody could load "
            "it. Push that model and load it by its Hub id; or leave `push_to_hub` out, and name the Hub id at the "
            "end: `trainer.push_to_hub(finetuned_from=...)`, or `atri push --base_model ...`."
        )


def load_adapter_weights(model: AtriModel, folder: str) -> None:
    """Put the weights that `save_pretrained` wrote into the model's own adapter and what is trained beside it.

    Raises:
        ValueError: the folder holds no adapter, or one of another make.
    """
    from peft import set_peft_model_state_dict

    path = Path(folder) / ADAPTER_SAFE_WEIGHTS_NAME
    if not path.is_file():
        raise ValueError(f"{folder} holds no adapter ({ADAPTER_SAFE_WEIGHTS_NAME}), but the model has one.")
    saved, own = load_file(path), _adapter_state(model)
    other = [name for name in own.keys() | saved.keys() if name not in saved or name not in own]
    other += [name for name in own.keys() & saved.keys() if saved[name].shape != own[name].shape]
    if other:
        raise ValueError(
            f"The adapter in {folder} is another than the model's: {len(other)} weights differ in name or shape, e.g. "
            f"{min(other)}. Give the rank and the frozen parts that it was trained with."
        )
    plain = {name.removeprefix(_KEY_PREFIX): weight for name, weight in saved.items()}
    set_peft_model_state_dict(model, plain, adapter_name=model.active_adapters()[0])


def adapter_facts(model: "AtriModel | PeftModel") -> dict[str, Any] | None:
    """What results say of the adapter; None without one."""
    if not has_adapter(model):
        return None
    config = _active_config(model).to_dict()
    names = {"peft_type": "method", "r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
    facts = {ours: config[theirs] for theirs, ours in names.items() if config.get(theirs) is not None}
    return {name: str(getattr(value, "value", value)) if name == "method" else value for name, value in facts.items()}


def _adapter_state(model: "AtriModel | PeftModel", state_dict: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is saved of an adapter, named as in its file; values are those of `state_dict`."""
    if unwrap_peft_model(model) is model:
        state = model.get_adapter_state_dict(state_dict=state_dict)
        return {f"{_KEY_PREFIX}{name}": value for name, value in state.items()}
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(model, state_dict, adapter_name=model.active_adapter)


def _active_config(model: "AtriModel | PeftModel") -> Any:
    name = model.active_adapters()[0] if unwrap_peft_model(model) is model else model.active_adapter
    return model.peft_config[name]


def _is_active(name: str) -> bool:
    return ".original_module." not in name


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
