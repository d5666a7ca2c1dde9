"""LoRA adapters on the text tower, trained and saved in PEFT's format together with the other trained parts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file
from torch import nn
from transformers.trainer_utils import unwrap_peft_model
from transformers.utils import ADAPTER_CONFIG_NAME, ADAPTER_SAFE_WEIGHTS_NAME, CONFIG_NAME, is_peft_available

from modeling_atri.hub_cards.results import Adapter
from modeling_atri.modeling_atri import AtriModel, convert_scalar_logit_scale
from modeling_atri.sources import is_hub_id

from ..step.sharded import sharded_like


if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel


# Parts that are trained and saved whole beside the adapter.
_WHOLE_PARTS = ("learned_logit_scale", "audio_model", "audio_projection", "text_projection")
_KEY_PREFIX = "base_model.model."  # before the names in an adapter's file
_MEL_STATISTICS = ("running_mean", "running_var")


def text_lora_config(
    model: AtriModel, rank: int = 16, alpha: float | None = None, dropout: float = 0.0
) -> "LoraConfig":
    """Configure LoRA for every linear layer of the text tower. The other trainable parts are trained whole.

    In SONAR's encoder (M2M100) the layers are `q_proj`, `k_proj`, `v_proj`, `out_proj`, `fc1` and `fc2`.

    Args:
        model ([`AtriModel`]): Model to adapt.
        rank (`int`, *optional*, defaults to 16): Rank of the change of each layer.
        alpha (`float`, *optional*): The change is scaled by alpha / rank. Default: twice the rank.
        dropout (`float`, *optional*, defaults to 0.0): Dropout probability on the input of the adapters in training.

    Returns:
        `LoraConfig` for `model.add_adapter` or `peft.get_peft_model`. Its `modules_to_save` lists the parts that are
        not frozen; PEFT trains copies of them, so that the base model is unchanged.

    Raises:
        ImportError: PEFT is not installed.
        ValueError: A part that is not frozen is quantised to integers.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError("LoRA adapters need PEFT: pip install 'modeling_atri[peft]'") from error
    parts = [name for name in _WHOLE_PARTS if not is_frozen(model.get_submodule(name))]
    quantised = [name for name in parts if not _is_floating(model.get_submodule(name))]
    if quantised:
        raise ValueError(
            f"The weights of {', '.join(quantised)} are quantised, so they cannot be trained whole beside the "
            "adapter. Freeze them with `requires_grad_(False)`, or load the model with a `quantization_config` that "
            f"leaves them out: BitsAndBytesConfig(..., llm_int8_skip_modules={[*_WHOLE_PARTS]})."
        )
    layers = {name.rsplit(".")[-1] for name, part in model.text_model.named_modules() if isinstance(part, nn.Linear)}
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=rf"text_model\..*\b({'|'.join(sorted(layers))})",
        modules_to_save=parts,
    )


def add_text_lora(model: AtriModel, rank: int = 16, alpha: float | None = None, dropout: float = 0.0) -> None:
    """Add a LoRA adapter to the text tower, and freeze the tower's own weights.

    The outputs do not change until the adapter is trained. Audio tower, projections and logit scale stay trainable or
    frozen as they are. `save_pretrained` and [`AtriTrainer`] then save only the adapter and these parts, with the name
    of the base model.

    Args:
        model ([`AtriModel`]): Model from `from_pretrained`. It stays an `AtriModel`.
        rank, alpha, dropout: As in [`text_lora_config`].

    Raises:
        ImportError: PEFT is not installed.
        ValueError: The model has an adapter already.
    """
    if has_adapter(model):
        raise ValueError(
            "The model has an adapter already. To train it further, call "
            "`modeling_atri.trainer.model.adapters.train_adapter(model)` and leave out `lora_rank`. To add a new "
            "adapter, load the base model with `AtriModel.from_pretrained`."
        )
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.add_adapter(text_lora_config(model, rank, alpha, dropout))
    # PEFT freezes everything but the adapter, and trains whole copies of the parts. Restore what was frozen.
    for part in _WHOLE_PARTS:
        for name, parameter in model.get_submodule(part).named_parameters():
            if "modules_to_save." in name:
                plain = name.removeprefix("modules_to_save.default.")
                parameter.requires_grad_(f"{part}.{plain}" in trained)


def train_adapter(model: "AtriModel | PeftModel") -> None:
    """Make a loaded adapter trainable again, together with the parts saved beside it and the logit scale.

    `AtriModel.from_pretrained(folder)` freezes an adapter for inference.

    Raises:
        ValueError: The model has no adapter.
    """
    if not has_adapter(model):
        raise ValueError("The model has no adapter. Add one to its text tower with `add_text_lora(model)`.")
    base = unwrap_peft_model(model)
    if base is model:
        model.set_adapter(model.active_adapters())
        model.logit_scale.requires_grad_(True)
    else:
        model.set_adapter(model.active_adapter)  # type: ignore[arg-type]


def merge_adapter(model: AtriModel) -> None:
    """Merge the adapter of a model into its weights, in place, so that it is a whole model as before the adapter.

    Raises:
        ValueError: The model has no adapter.
    """
    if not has_adapter(model):
        raise ValueError("The model has no adapter to merge.")
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    del model.peft_config
    model._hf_peft_config_loaded = False  # noqa: SLF001 - transformers would save an adapter


def has_adapter(model: nn.Module) -> bool:
    """Whether a module of `model` has an adapter of PEFT, active or not."""
    if not is_peft_available():
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


def check_adapter(model: "AtriModel | PeftModel", trains_text: bool = True) -> None:
    """Check that all trained weights are saved with the adapter, and that it can be loaded again.

    Args:
        model ([`AtriModel`] or `PeftModel`): Model with an adapter.
        trains_text (`bool`, *optional*, defaults to `True`): Whether the adapter is to be trained.

    Raises:
        ValueError: The adapter is frozen, a trained weight is not saved with it, or its base model has no name.
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
    mel_norm = getattr(unwrap_peft_model(model).audio_model, "mel_norm", None)
    if mel_norm is not None and not mel_norm.is_set:
        # PEFT keeps the original of a part that is trained beside an adapter.
        statistics = [name for name in names if name.endswith(_MEL_STATISTICS) and ".original_module." not in name]
        lost += [name for name in statistics if name not in saved]
    if lost:
        raise ValueError(
            f"{len(lost)} weights would be trained, but not saved with the adapter: {', '.join(lost[:3])}"
            f"{', ...' if len(lost) > 3 else ''}. Freeze them, or name their modules in `modules_to_save` of the "
            "adapter's configuration."
        )
    if not _active_config(model).base_model_name_or_path:
        raise ValueError(
            "A checkpoint of an adapter refers to its base model by name, but this model was built in memory and has "
            "no name. Save the model with `model.save_pretrained(folder)`, and load it with "
            "`AtriModel.from_pretrained(folder)` first."
        )


def check_folder(model: "AtriModel | PeftModel", folder: str) -> None:
    """Check that an output folder holds no files of another run that `from_pretrained` would mix with this run's.

    Raises:
        ValueError: The folder holds an adapter and the model has none, or it holds a model that is not the base model
            of the adapter.
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
    """Check that others can load an adapter that is to be pushed.

    Raises:
        ValueError: The base model is a local folder.
    """
    base = _active_config(model).base_model_name_or_path
    if not is_hub_id(base):
        raise ValueError(
            f"`push_to_hub` would push an adapter whose base model is not on the Hub ({base}), so others "
            "could not load it. Push the base model and load it by its Hub id; or leave out `push_to_hub` and give "
            "the Hub id at the end: `trainer.push_to_hub(finetuned_from=...)`, or `atri push --base_model ...`."
        )


def load_adapter_weights(model: "AtriModel | PeftModel", folder: str) -> None:
    """Load the weights that `save_pretrained` wrote into the model's adapter and the parts trained beside it.

    The parameters of the model may be sharded over processes, which all call this function.

    Raises:
        ValueError: The folder holds no adapter, or one with other weights.
    """
    from peft import set_peft_model_state_dict

    path = Path(folder) / ADAPTER_SAFE_WEIGHTS_NAME
    if not path.is_file():
        raise ValueError(f"{folder} holds no adapter ({ADAPTER_SAFE_WEIGHTS_NAME}), but the model has one.")
    saved, own = load_file(path), _adapter_state(model)
    convert_scalar_logit_scale(saved, _KEY_PREFIX)
    other = [name for name in own.keys() | saved.keys() if name not in saved or name not in own]
    other += [name for name in own.keys() & saved.keys() if saved[name].shape != own[name].shape]
    if other:
        raise ValueError(
            f"The adapter in {folder} does not fit the model's: {len(other)} weights differ in name or shape, e.g. "
            f"{min(other)}. Use the rank and the frozen parts that it was trained with."
        )
    loaded = {name: sharded_like(own[name], weight) for name, weight in saved.items()}
    if unwrap_peft_model(model) is model:
        plain = {name.removeprefix(_KEY_PREFIX): weight for name, weight in loaded.items()}
        set_peft_model_state_dict(model, plain, adapter_name=model.active_adapters()[0])
    else:
        set_peft_model_state_dict(model, loaded, adapter_name=model.active_adapter)


def adapter_facts(model: "AtriModel | PeftModel") -> Adapter | None:
    """Describe the adapter for results; None if there is none."""
    if not has_adapter(model):
        return None
    config = _active_config(model).to_dict()
    method = config["peft_type"]
    facts = {"method": str(getattr(method, "value", method))}
    names = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
    return facts | {ours: config[theirs] for ours, theirs in names.items() if config.get(theirs) is not None}


def _adapter_state(model: "AtriModel | PeftModel", state_dict: dict[str, Any] | None = None) -> dict[str, Any]:
    """Saved weights of an adapter, named as in its file. With `state_dict`, its values instead of the weights."""
    if unwrap_peft_model(model) is model:
        state = model.get_adapter_state_dict(state_dict=state_dict)
        return {f"{_KEY_PREFIX}{name}": value for name, value in state.items()}
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(model, state_dict, adapter_name=model.active_adapter)


def _active_config(model: "AtriModel | PeftModel") -> Any:
    name = model.active_adapters()[0] if unwrap_peft_model(model) is model else model.active_adapter
    return model.peft_config[name]


def _is_floating(module: nn.Module) -> bool:
    return all(parameter.is_floating_point() for parameter in module.parameters())


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of a module is trained."""
    return not any(parameter.requires_grad for parameter in module.parameters())
