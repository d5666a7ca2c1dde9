"""Conversion of public state dicts (CED, SONAR, M2M100 and ML-CLAP) to the names of this package's models.

Sizes are inferred from the shapes. All functions raise a ValueError that lists the keys that are missing, unknown, or
of the wrong shape.
"""

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from transformers import M2M100Config

from ..configuration_atri import LOGIT_SCALE, AtriAudioConfig, AtriConfig
from ..text_model_atri import build_text_model


StateDict = Mapping[str, Tensor]

# Width -> number of attention heads of the published models: shapes do not depend on it.
CED_HEADS = {192: 3, 256: 4, 384: 6, 768: 12}  # tiny, mini, small, base: https://github.com/RicherMans/CED
SONAR_HEADS = {1024: 16}  # https://github.com/facebookresearch/SONAR

# The first rows of SONAR's embeddings are pad, unk, bos, eos, but NLLB tokenizers number them bos, pad, eos, unk. The
# row of NLLB token i is row _SONAR_ROW_OF_NLLB[i] of SONAR; all later rows agree.
_SONAR_ROW_OF_NLLB = (2, 0, 3, 1)

_CED_RENAMES = (
    (r"init_bn\.(?:1\.)?(weight|bias|running_mean|running_var)", r"mel_norm.\1"),
    (r"time_pos_embed", r"embeddings.time_positions"),
    (r"freq_pos_embed", r"embeddings.frequency_positions"),
    (r"patch_embed\.proj\.(weight|bias)", r"embeddings.patch_projection.\1"),
    (r"blocks\.(\d+)\.norm1\.(weight|bias)", r"layers.\1.attention_norm.\2"),
    (r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", r"layers.\1.attention.qkv.\2"),  # split afterwards
    (r"blocks\.(\d+)\.attn\.proj\.(weight|bias)", r"layers.\1.attention.out_proj.\2"),
    (r"blocks\.(\d+)\.norm2\.(weight|bias)", r"layers.\1.mlp_norm.\2"),
    (r"blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)", r"layers.\1.mlp.\2.\3"),
    (r"norm\.(weight|bias)", r"layer_norm.\1"),
)
# Tables that the feature extractor computes, an unused counter, and the classifier after the mean pooling.
_CED_UNUSED = re.compile(
    r"front_end\.0\.(spectrogram\.window|mel_scale\.fb)|init_bn\.(1\.)?num_batches_tracked|outputlayer\.[01]\.(weight|bias)"
)

_SONAR_RENAMES = (
    (r"encoder_frontend\.embed\.weight", r"embed_tokens.weight"),
    (r"encoder\.layers\.(\d+)\.self_attn\.([qkv]_proj)\.(weight|bias)", r"layers.\1.self_attn.\2.\3"),
    (r"encoder\.layers\.(\d+)\.self_attn\.output_proj\.(weight|bias)", r"layers.\1.self_attn.out_proj.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.(weight|bias)", r"layers.\1.self_attn_layer_norm.\2"),
    (r"encoder\.layers\.(\d+)\.ffn\.inner_proj\.(weight|bias)", r"layers.\1.fc1.\2"),
    (r"encoder\.layers\.(\d+)\.ffn\.output_proj\.(weight|bias)", r"layers.\1.fc2.\2"),
    (r"encoder\.layers\.(\d+)\.ffn_layer_norm\.(weight|bias)", r"layers.\1.final_layer_norm.\2"),
    (r"layer_norm\.(weight|bias)", r"layer_norm.\1"),
)

# Prefixes of an M2M100 encoder that transformers saved: none if it was saved alone (SONAR's port), otherwise as a part
# of another model or of a translation model (NLLB), in which encoder and decoder share the embeddings.
_M2M100_PREFIXES = ("encoder.", "model.encoder.")
_M2M100_EMBEDDINGS = ("shared.weight", "model.shared.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
# Sinusoids that the encoder computes, and the weights of the decoder.
_M2M100_UNUSED = re.compile(
    r"(model\.)?((encoder\.|decoder\.)?embed_positions\.weights|decoder\..+|shared\.weight)|lm_head\.weight|final_logits_bias"
)

_MLCLAP_HEAD_RENAMES = (
    (r"(audio|text)_proj\.0\.(weight|bias)", r"\1_projection.fc1.\2"),
    (r"(audio|text)_proj\.2\.(weight|bias)", r"\1_projection.fc2.\2"),
)


def convert_ced_state_dict(
    state_dict: StateDict, heads: int | None = None
) -> tuple[AtriAudioConfig, dict[str, Tensor]]:
    """Convert CED to the configuration and state dict of `AtriAudioModel`.

    The state dict is that of `AudioTransformer` (https://github.com/RicherMans/CED), or of `CedModel` or
    `CedForAudioClassification` (https://github.com/jimbozhang/hf_transformers_custom_model_ced). Without `heads`, the
    number of attention heads is that of the published model of this width.
    """
    if any(key.startswith("encoder.blocks.") for key in state_dict):  # CedForAudioClassification
        state_dict = {key.removeprefix("encoder."): value for key, value in state_dict.items()}
    used = {key: value for key, value in state_dict.items() if not _CED_UNUSED.fullmatch(key)}
    converted = _split_qkv(_rename(used, _CED_RENAMES, "CED"))
    config = _ced_config(converted, heads)
    _check_shapes(converted, _ced_shapes(config), "CED")
    return config, converted


def select_audio_state_dict(state_dict: StateDict, config: AtriAudioConfig) -> dict[str, Tensor]:
    """Select the weights of the audio tower in the state dict of a saved `AtriAudioModel` or `AtriModel`."""
    prefix = "audio_model."
    of_model = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    selected = of_model or dict(state_dict)
    _check_shapes(selected, _ced_shapes(config), "AtriAudioModel")
    return selected


def convert_sonar_state_dict(
    state_dict: StateDict, heads: int | None = None
) -> tuple[M2M100Config, dict[str, Tensor]]:
    """Convert SONAR's text encoder (https://github.com/facebookresearch/SONAR), in fairseq2's naming.

    Returns the configuration and state dict of `M2M100Encoder`, with the token ids of NLLB tokenizers. Without
    `heads`, the number of attention heads is that of the published model.
    """
    converted = _rename(state_dict, _SONAR_RENAMES, "SONAR")
    _require(converted, {"embed_tokens.weight": 2, "layers.0.fc1.weight": 2}, "SONAR")
    vocab_size, width = converted["embed_tokens.weight"].shape
    rows = torch.cat([torch.tensor(_SONAR_ROW_OF_NLLB), torch.arange(len(_SONAR_ROW_OF_NLLB), vocab_size)])
    converted["embed_tokens.weight"] = converted["embed_tokens.weight"][rows]
    defaults = AtriConfig.sub_configs_defaults["text_config"].init_kwargs
    sizes = {
        "vocab_size": vocab_size,
        "d_model": width,
        "encoder_layers": _num_layers(converted),
        "encoder_ffn_dim": len(converted["layers.0.fc1.weight"]),
        "encoder_attention_heads": _heads(width, heads, SONAR_HEADS, "SONAR"),
    }
    config = M2M100Config(**{**defaults, **sizes})
    _check_shapes(converted, _m2m100_shapes(config), "SONAR")
    return config, converted


def convert_m2m100_state_dict(state_dict: StateDict, config: M2M100Config) -> dict[str, Tensor]:
    """Extract the state dict of `M2M100Encoder` from that of a model that transformers saved.

    The model is an `M2M100Encoder`, has one as `encoder`, or is an `M2M100ForConditionalGeneration`.
    """
    prefixes = {prefix for prefix in _M2M100_PREFIXES if any(key.startswith(f"{prefix}layers.") for key in state_dict)}
    prefix = prefixes.pop() if prefixes else ""
    converted = {
        key.removeprefix(prefix): value for key, value in state_dict.items() if not _M2M100_UNUSED.fullmatch(key)
    }
    if "embed_tokens.weight" not in converted:
        if shared := [state_dict[key] for key in _M2M100_EMBEDDINGS if key in state_dict]:
            converted["embed_tokens.weight"] = shared[0]
    _check_shapes(converted, _m2m100_shapes(config), "M2M100")
    return converted


def convert_mlclap_state_dict(
    state_dict: StateDict, audio_heads: int | None = None, text_heads: int | None = None
) -> tuple[AtriConfig, dict[str, Tensor]]:
    """Convert `MLCLAP` (https://github.com/zyyan4/ml-clap) to the configuration and state dict of `AtriModel`.

    ML-CLAP divides by a learned temperature, and `logit_scale` is minus the logarithm of this temperature.
    """
    towers: dict[str, dict[str, Tensor]] = {"audio_encoder.model.": {}, "text_encoder.model.": {}, "": {}}
    for key, value in state_dict.items():
        prefix = next(prefix for prefix in towers if key.startswith(prefix))
        towers[prefix][key.removeprefix(prefix)] = value
    heads = towers[""]
    _require(heads, {"temperature": 0}, "ML-CLAP")
    temperature = float(heads.pop("temperature"))
    if not 0 < temperature < math.inf:
        raise ValueError(f"The ML-CLAP checkpoint has a temperature of {temperature}; it must be positive.")

    audio_config, audio = convert_ced_state_dict(towers["audio_encoder.model."], audio_heads)
    text_config, text = convert_sonar_state_dict(towers["text_encoder.model."], text_heads)
    converted = _rename(heads, _MLCLAP_HEAD_RENAMES, "ML-CLAP")
    _require(converted, {"audio_projection.fc2.weight": 2}, "ML-CLAP")
    config = AtriConfig(
        audio_config=audio_config,
        text_config=text_config,
        projection_dim=len(converted["audio_projection.fc2.weight"]),
        logit_scale_init_value=-math.log(temperature),
    )
    _check_shapes(converted, _head_shapes(config), "ML-CLAP")
    converted[LOGIT_SCALE] = torch.tensor([-math.log(temperature)])
    converted.update({f"audio_model.{key}": value for key, value in audio.items()})
    converted.update({f"text_model.{key}": value for key, value in text.items()})
    return config, converted


def _rename(state_dict: StateDict, renames: Iterable[tuple[str, str]], source: str) -> dict[str, Tensor]:
    converted, unknown = {}, []
    for key, value in state_dict.items():
        matches = [(match, name) for pattern, name in renames if (match := re.fullmatch(pattern, key))]
        if matches:
            match, name = matches[0]
            converted[match.expand(name)] = value
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(
            f"{len(unknown)} keys are not {source}'s: {shorten(unknown)}. Pass the state dict of the model alone, "
            "without optimizer state or a wrapper's prefix."
        )
    return converted


def _split_qkv(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Split stacked projections into those of query, key and value."""
    converted = {}
    for key, value in state_dict.items():
        if ".attention.qkv." not in key:
            converted[key] = value
            continue
        for name, part in zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True):
            converted[key.replace("qkv", name)] = part.clone()  # a view would keep and save the whole tensor
    return converted


def _ced_config(converted: dict[str, Tensor], heads: int | None) -> AtriAudioConfig:
    needed = ("embeddings.patch_projection.weight", "embeddings.time_positions", "embeddings.frequency_positions")
    _require(converted, dict.fromkeys(needed, 4) | {"layers.0.mlp.fc1.weight": 2}, "CED")
    width, _, patch_bins, patch_frames = converted["embeddings.patch_projection.weight"].shape
    rows = converted["embeddings.frequency_positions"].shape[2]
    columns = converted["embeddings.time_positions"].shape[3]
    # CED is defined with 1012 frames for 63 patches of 16 frames: four frames more than the patches cover.
    max_frames = 1012 if (columns, patch_frames) == (63, 16) else columns * patch_frames
    return AtriAudioConfig(
        num_mel_bins=rows * patch_bins,
        max_frames=max_frames,
        patch_size=[patch_bins, patch_frames],
        hidden_size=width,
        intermediate_size=len(converted["layers.0.mlp.fc1.weight"]),
        num_hidden_layers=_num_layers(converted),
        num_attention_heads=_heads(width, heads, CED_HEADS, "CED"),
    )


def _heads(width: int, heads: int | None, published: dict[int, int], source: str) -> int:
    if heads is not None:
        return heads
    if width not in published:
        raise ValueError(
            f"No published {source} model is {width} wide (known: {sorted(published)}), so its attention heads are "
            "unknown. Pass them as `heads` (`audio_heads`, `text_heads` for ML-CLAP)."
        )
    return published[width]


def _num_layers(state_dict: StateDict) -> int:
    return 1 + max(int(match[1]) for key in state_dict if (match := re.match(r"layers\.(\d+)\.", key)))


def _require(state_dict: StateDict, dimensions: dict[str, int], source: str) -> None:
    """Raise a ValueError unless all keys exist and have the given numbers of dimensions."""
    missing = [key for key in dimensions if key not in state_dict]
    if missing:
        raise ValueError(f"The {source} state dict lacks keys that give its sizes: {', '.join(missing)}.")
    wrong = [
        f"{key} is {tuple(state_dict[key].shape)}" for key, ndim in dimensions.items() if state_dict[key].ndim != ndim
    ]
    if wrong:
        raise ValueError(f"The {source} state dict has tensors with a wrong number of dimensions: {', '.join(wrong)}.")


def _layer(name: str, *weight_shape: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weight and the bias of a linear layer, a convolution or a norm."""
    return {f"{name}.weight": weight_shape, f"{name}.bias": weight_shape[:1]}


def _ced_shapes(config: AtriAudioConfig) -> dict[str, tuple[int, ...]]:
    bins, width, inner = config.num_mel_bins, config.hidden_size, config.intermediate_size
    rows, columns = config.patch_grid
    shapes: dict[str, tuple[int, ...]] = {
        "mel_norm.running_mean": (bins,),
        "mel_norm.running_var": (bins,),
        "embeddings.frequency_positions": (1, width, rows, 1),
        "embeddings.time_positions": (1, width, 1, columns),
    }
    shapes |= _layer("mel_norm", bins) | _layer("embeddings.patch_projection", width, 1, *config.patch_size)
    for i in range(config.num_hidden_layers):
        layer = f"layers.{i}"
        shapes |= _layer(f"{layer}.attention_norm", width) | _layer(f"{layer}.mlp_norm", width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _layer(f"{layer}.attention.{name}", width, width)
        shapes |= _layer(f"{layer}.mlp.fc1", inner, width) | _layer(f"{layer}.mlp.fc2", width, inner)
    return shapes | _layer("layer_norm", width)


def _m2m100_shapes(config: M2M100Config) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):  # takes no memory
        encoder = build_text_model(config)
    return {name: tuple(value.shape) for name, value in encoder.state_dict().items()}


def _head_shapes(config: AtriConfig) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, width in (("audio", config.audio_config.hidden_size), ("text", config.text_config.d_model)):
        shapes |= _layer(f"{name}_projection.fc1", config.projection_dim, width)
        shapes |= _layer(f"{name}_projection.fc2", config.projection_dim, config.projection_dim)
    return shapes


def _check_shapes(state_dict: StateDict, shapes: dict[str, tuple[int, ...]], source: str) -> None:
    """Raise a ValueError that lists all missing and unexpected keys and all wrong shapes, in this package's names."""
    problems = [f"missing {key}" for key in shapes if key not in state_dict]
    problems += [f"unexpected {key}" for key in state_dict if key not in shapes]
    problems += [
        f"{key} is {tuple(state_dict[key].shape)}, not {shape}"
        for key, shape in shapes.items()
        if key in state_dict and tuple(state_dict[key].shape) != shape
    ]
    if problems:
        raise ValueError(f"The {source} state dict does not fit together ({len(problems)} keys): {shorten(problems)}.")


def shorten(items: list[str], most: int = 12) -> str:
    """Join the first items and the number of the others."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
