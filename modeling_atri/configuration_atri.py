"""Configuration of the ATRI audio-text dual encoder."""

import copy
import math
from importlib import import_module
from os import PathLike
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME, auto_docstring

from .audio_encoders_atri import audio_part, audio_width
from .remote_towers_atri import UnloadedAudioConfig, code_of, load_audio_config, references_to, save_code_beside


PAPER_TEMPERATURE = 0.07  # tau of the softmax in ATRI (Yin et al., ACL 2025)

# Name of the logit scale in a state dict. In checkpoints of version 0.1 it is a scalar, named `logit_scale`.
LOGIT_SCALE = "learned_logit_scale.weight"

# Whether this file is a copy that came with a model from the Hub. Copies do not register their classes, because
# transformers would then load the next model with them, and ignore the code of that model.
IS_REMOTE_CODE = __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")

# Written into every saved configuration, so that `transformers.pipeline` finds these classes in the repository.
CUSTOM_PIPELINES = {
    task: {"impl": f"pipelines_atri.{name}", "pt": ["AutoModel"], "type": "multimodal"}
    for task, name in {
        "audio-text-feature-extraction": "AtriAudioTextFeatureExtractionPipeline",
        "audio-text-retrieval": "AtriAudioTextRetrievalPipeline",
        "zero-shot-audio-classification": "AtriZeroShotAudioClassificationPipeline",
    }.items()
}


@auto_docstring(
    checkpoint="mispeech/ced-base", custom_intro="Configuration of an [`AtriAudioModel`]. The defaults are CED-Base."
)
@strict
class AtriAudioConfig(PreTrainedConfig):
    r"""
    num_mel_bins (`int`, *optional*, defaults to 64):
        Number of mel bins of the log-mel spectrogram.
    max_frames (`int`, *optional*, defaults to 1012):
        Number of frames (10 ms each) that the encoder processes at once. Longer clips are cut into chunks of this
        length, whose embeddings are averaged.
    patch_size (`list[int]`, *optional*, defaults to `[16, 16]`):
        Numbers of mel bins and frames of a patch. Patches do not overlap. Frames after the last whole patch are left
        out.
    drop_path_rate (`float`, *optional*, defaults to 0.0):
        Probability that the last block is skipped for a clip in training (stochastic depth). It grows linearly from 0
        at the first block.
    patch_dropout (`float`, *optional*, defaults to 0.0):
        Share of the patches of a clip that are left out in training. They are drawn for each clip and step.

    Example:

    ```python
    >>> from modeling_atri import AtriAudioConfig, AtriAudioModel

    >>> # CED-Tiny (the defaults are CED-Base)
    >>> configuration = AtriAudioConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768)
    >>> model = AtriAudioModel(configuration)
    ```"""

    model_type = "atri_audio_model"
    base_config_key = "audio_config"

    num_mel_bins: int = 64
    max_frames: int = 1012
    patch_size: list[int] | tuple[int, ...] = (16, 16)
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    hidden_dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    drop_path_rate: float | int = 0.0
    patch_dropout: float | int = 0.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.patch_size = [int(size) for size in self.patch_size]  # JSON has no tuples
        if len(self.patch_size) != 2 or min(self.patch_size) < 1:
            raise ValueError(f"`patch_size` must be two positive numbers (mel bins, frames), got {self.patch_size}.")
        if self.num_mel_bins % self.patch_size[0]:
            raise ValueError(
                f"`num_mel_bins` ({self.num_mel_bins}) must be a multiple of the patch height `patch_size[0]` "
                f"({self.patch_size[0]})."
            )
        if self.max_frames < self.patch_size[1]:
            raise ValueError(
                f"`max_frames` ({self.max_frames}) must hold at least one patch of {self.patch_size[1]} frames."
            )
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be a multiple of `num_attention_heads` "
                f"({self.num_attention_heads})."
            )
        for name in ("patch_dropout", "drop_path_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be in [0, 1), got {getattr(self, name)}.")

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows (frequency) and columns (time) of the patches of a full chunk; (4, 63) for CED."""
        return self.num_mel_bins // self.patch_size[0], self.max_frames // self.patch_size[1]


@auto_docstring(
    checkpoint="mispeech/ced-base",
    custom_intro="Configuration of an [`AtriEmbeddedAudioModel`], which takes stored embeddings of sounds instead of "
    "the sounds themselves.",
)
@strict
class AtriEmbeddedAudioConfig(PreTrainedConfig):
    r"""
    hidden_size (`int`, *optional*, defaults to 512):
        Width of the stored embeddings.
    source (`str`, *optional*):
        Name of the model that made them, for people.
    fingerprint (`str`, *optional*):
        Fingerprint of that model, see [`~encode.audio_fingerprint`].
    normalized (`bool`, *optional*):
        Whether the embeddings have length 1. If the model has an audio head, other embeddings are refused; without
        one, the model normalises them. Default: not known, and not checked.
    """

    model_type = "atri_embedded_audio"
    base_config_key = "audio_config"

    hidden_size: int = 512
    source: str | None = None
    fingerprint: str | None = None
    normalized: bool | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.hidden_size < 1:
            raise ValueError(f"`hidden_size` must be at least 1, got {self.hidden_size}.")


# The audio towers of this package by `model_type`. All others are audio encoders of transformers.
OWN_AUDIO_CONFIGS = {config.model_type: config for config in (AtriAudioConfig, AtriEmbeddedAudioConfig)}


@auto_docstring(
    checkpoint="mispeech/ced-base",
    custom_intro="Configuration of an [`AtriModel`]. The defaults are CED-Base and SONAR's text encoder.",
)
@strict
class AtriConfig(PreTrainedConfig):
    r"""
    audio_config (`PreTrainedConfig` or `dict`, *optional*):
        Configuration of the audio tower: an `AtriAudioConfig` (CED), that of any audio encoder of transformers (CLAP,
        AST, Whisper, wav2vec2, ...), or an `AtriEmbeddedAudioConfig` for stored embeddings.
        Defaults to CED-Base.
    text_config (`PreTrainedConfig` or `dict`, *optional*):
        Configuration of the text tower: any encoder that `AutoConfig` knows. Defaults to the SONAR text encoder, an
        M2M100 encoder with 24 layers.
    projection_dim (`int`, *optional*, defaults to 1024):
        Width of the shared embedding space.
    has_audio_head (`bool`, *optional*, defaults to `True`):
        Whether a projection follows the audio tower. Without it, the tower's output, L2-normalised, is the embedding
        of a clip, and `projection_dim` must be the tower's width.
    logit_scale_init_value (`float`, *optional*, defaults to 2.6593):
        Initial value of the learnable `logit_scale`, in log space: log(1 / 0.07).

    Example:

    ```python
    >>> from modeling_atri import AtriConfig, AtriModel

    >>> # The paper's model: CED-Base and SONAR sizes
    >>> configuration = AtriConfig()

    >>> # Another text encoder: any configuration that AutoConfig knows
    >>> configuration = AtriConfig(text_config={"model_type": "xlm-roberta", "num_hidden_layers": 6})
    >>> model = AtriModel(configuration)
    ```"""

    model_type = "atri"
    sub_configs_defaults = {
        "audio_config": AtriAudioConfig,
        "text_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="m2m_100",
            # SONAR's text encoder ("basic" in models/sonar_text/builder.py of sonar-space 0.2.1), in NLLB's token ids.
            init_kwargs={
                "vocab_size": 256206,
                "d_model": 1024,
                "encoder_layers": 24,
                "encoder_attention_heads": 16,
                "encoder_ffn_dim": 8192,
                "activation_function": "relu",
                "scale_embedding": True,
                "max_position_embeddings": 514,
                "encoder_layerdrop": 0.0,
                "dropout": 0.1,
                "attention_dropout": 0.1,
                "activation_dropout": 0.1,
                "bos_token_id": 0,
                "pad_token_id": 1,
                "eos_token_id": 2,
            },
        ),
    }

    audio_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    projection_dim: int = 1024
    has_audio_head: bool = True
    logit_scale_init_value: float | int = math.log(1 / PAPER_TEMPERATURE)
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        if isinstance(self.audio_config, dict):
            self.audio_config = _audio_config_of(self.audio_config)
        if self.audio_config is not None:
            self.audio_config = audio_part(self.audio_config)
        if isinstance(self.text_config, dict) and self.text_config.get("model_type", "m2m_100") == "m2m_100":
            self.text_config = {**self.sub_configs_defaults["text_config"].init_kwargs, **self.text_config}
        if not IS_REMOTE_CODE:
            # For the tasks in a configuration, transformers requires trust_remote_code=True. The installed package
            # registers its own pipelines, so its tasks are left out here.
            others = kwargs.pop("custom_pipelines", {}).items()
            kwargs["custom_pipelines"] = {task: info for task, info in others if task not in CUSTOM_PIPELINES}
        super().__post_init__(**kwargs)
        if self.projection_dim < 1:
            raise ValueError(f"`projection_dim` must be at least 1, got {self.projection_dim}.")
        is_loaded = self.audio_config.model_type != UnloadedAudioConfig.model_type
        if is_loaded and not self.has_audio_head and self.projection_dim != audio_width(self.audio_config):
            raise ValueError(
                f"Without an audio head, `projection_dim` ({self.projection_dim}) must be the width of the audio "
                f"tower ({audio_width(self.audio_config)})."
            )

    def to_json_file(self, json_file_path: str | PathLike, use_diff: bool = True) -> None:
        """Save as JSON, with the code of an audio encoder that came from a repository beside it."""
        audio_config: Any = self.audio_config
        if code := code_of_audio(audio_config):
            audio_config.auto_map = references_to(code)
            save_code_beside(json_file_path, code)
        super().to_json_file(json_file_path, use_diff)

    def to_dict(self) -> dict[str, Any]:
        output = super().to_dict()
        # A copy, because transformers writes classes into this dict when it loads a pipeline.
        output["custom_pipelines"] = output.get("custom_pipelines", {}) | copy.deepcopy(CUSTOM_PIPELINES)
        return output


def code_of_audio(config: PreTrainedConfig) -> dict[str, type]:
    """The classes of an audio encoder that came from a repository, by auto class; none for other audio towers."""
    return {} if config.model_type in OWN_AUDIO_CONFIGS else code_of([type(config), _model_class(config)])


def _audio_config_of(values: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of an audio tower from its saved values; without a `model_type`, it is CED's."""
    model_type = values.get("model_type", AtriAudioConfig.model_type)
    if model_type in OWN_AUDIO_CONFIGS:
        return OWN_AUDIO_CONFIGS[model_type](**values)
    if model_type not in CONFIG_MAPPING and "AutoConfig" in values.get("auto_map", {}):
        return load_audio_config(values)
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"`audio_config` is of type {model_type!r}, which transformers does not have. Use an audio encoder of "
            "transformers, or load the repository that defines this type with `trust_remote_code=True`."
        )
    return CONFIG_MAPPING[model_type](**values)


def _model_class(config: PreTrainedConfig) -> type | None:
    """The model class that `AutoModel` builds from a configuration; None if there is none."""
    return import_module("transformers.models.auto.modeling_auto").MODEL_MAPPING.get(type(config), None)


AtriAudioConfig.register_for_auto_class()
AtriEmbeddedAudioConfig.register_for_auto_class()
AtriConfig.register_for_auto_class()
if not IS_REMOTE_CODE:
    for own_type, own_config in OWN_AUDIO_CONFIGS.items():
        AutoConfig.register(own_type, own_config, exist_ok=True)
    AutoConfig.register("atri", AtriConfig, exist_ok=True)

__all__ = ["AtriAudioConfig", "AtriConfig", "AtriEmbeddedAudioConfig"]
