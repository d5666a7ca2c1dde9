"""Audio encoders of transformers with random weights, small enough for tests, and their own feature extractors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    Data2VecAudioConfig,
    Data2VecAudioModel,
    GlmAsrEncoder,
    GlmAsrEncoderConfig,
    HubertConfig,
    HubertModel,
    PeAudioEncoder,
    PeAudioEncoderConfig,
    PeAudioFeatureExtractor,
    PreTrainedConfig,
    Qwen2AudioEncoder,
    Qwen2AudioEncoderConfig,
    SeamlessM4TFeatureExtractor,
    SEWConfig,
    SEWDConfig,
    SEWDModel,
    SEWModel,
    UniSpeechConfig,
    UniSpeechModel,
    UniSpeechSatConfig,
    UniSpeechSatModel,
    VoxtralEncoder,
    VoxtralEncoderConfig,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from modeling_atri import AtriConfig, AtriModel, AtriProcessor, AtriWindowFeatureExtractor, describe_windows
from tests.helpers.tiny import tiny_config, tiny_tokenizer


SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
WHISPER_SIZES = {"num_mel_bins": 20, "max_source_positions": 100}
WAVEFORM_SIZES = SIZES | {
    "conv_dim": (8, 8, 8),
    "conv_stride": (10, 8, 4),
    "conv_kernel": (10, 8, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


@dataclass(frozen=True)
class Tower:
    """A tiny encoder: its configuration, its original class, its extractor, and the pooling of the class."""

    config: Callable[[], PreTrainedConfig]
    model: Callable[[PreTrainedConfig], nn.Module]
    extractor: Callable[[], Any]
    window_seconds: float  # of the extractor, or that is set for a waveform
    sets_window: bool = False

    def feature_extractor(self) -> AtriWindowFeatureExtractor:
        return AtriWindowFeatureExtractor(self.extractor(), self.window_seconds if self.sets_window else None)


def clap_config(**overrides: Any) -> ClapAudioConfig:
    sizes: dict[str, Any] = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 4,
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "projection_dim": 12,
        "num_hidden_layers": 2,
    }
    return ClapAudioConfig(**sizes | overrides)


def whole_clap(audio_config: ClapAudioConfig) -> ClapModel:
    text = {
        "vocab_size": 30,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    return ClapModel(ClapConfig(text_config=text, audio_config=audio_config.to_dict(), projection_dim=12))


def waveform_tower(config_class: Any, model_class: Any, **overrides: Any) -> Tower:
    return Tower(
        lambda: config_class(**WAVEFORM_SIZES | overrides),
        model_class,
        Wav2Vec2FeatureExtractor,
        0.5,
        sets_window=True,
    )


def clap_extractor(truncation: str) -> ClapFeatureExtractor:
    return ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation=truncation)


def whisper_like_tower(config_class: Any, model_class: Any, **sizes: Any) -> Tower:
    return Tower(
        lambda: config_class(**sizes),
        model_class,
        lambda: WhisperFeatureExtractor(feature_size=20, chunk_length=2),
        2.0,
    )


TOWERS = {
    "clap": Tower(clap_config, whole_clap, lambda: clap_extractor("rand_trunc"), 2.0),
    "fused clap": Tower(
        lambda: clap_config(enable_fusion=True, fusion_type="aff_2d", patch_embed_input_channels=1),
        whole_clap,
        lambda: clap_extractor("fusion"),
        2.0,
    ),
    "ast": Tower(
        lambda: ASTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_length=100,
            num_mel_bins=32,
        ),
        ASTModel,
        lambda: ASTFeatureExtractor(num_mel_bins=32, max_length=100),
        (400 + 99 * 160) / 16_000,
    ),
    "whisper": Tower(
        lambda: WhisperConfig(
            d_model=16,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_layers=1,
            decoder_attention_heads=2,
            decoder_ffn_dim=8,
            **WHISPER_SIZES,
            vocab_size=30,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
            decoder_start_token_id=0,
        ),
        WhisperModel,
        lambda: WhisperFeatureExtractor(feature_size=20, chunk_length=2),
        2.0,
    ),
    "qwen2-audio": whisper_like_tower(
        Qwen2AudioEncoderConfig,
        Qwen2AudioEncoder,
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=24,
        **WHISPER_SIZES,
    ),
    "voxtral": whisper_like_tower(VoxtralEncoderConfig, VoxtralEncoder, **SIZES, **WHISPER_SIZES),
    "glmasr": whisper_like_tower(
        GlmAsrEncoderConfig,
        GlmAsrEncoder,
        num_key_value_heads=2,
        num_mel_bins=20,
        max_position_embeddings=100,
        **SIZES,
    ),
    "wav2vec2": waveform_tower(Wav2Vec2Config, Wav2Vec2Model),
    "wav2vec2 layer norm": waveform_tower(
        Wav2Vec2Config, Wav2Vec2Model, feat_extract_norm="layer", do_stable_layer_norm=True
    ),
    "wav2vec2-conformer": waveform_tower(Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel),
    "hubert": waveform_tower(HubertConfig, HubertModel),
    "wavlm": waveform_tower(WavLMConfig, WavLMModel),
    "data2vec-audio": waveform_tower(Data2VecAudioConfig, Data2VecAudioModel, conv_pos_kernel_size=3),
    "unispeech": waveform_tower(UniSpeechConfig, UniSpeechModel),
    "unispeech-sat": waveform_tower(UniSpeechSatConfig, UniSpeechSatModel),
    "sew": waveform_tower(SEWConfig, SEWModel),
    "sew-d": waveform_tower(SEWDConfig, SEWDModel),
    "wav2vec2-bert": Tower(
        lambda: Wav2Vec2BertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            feature_projection_input_dim=32,
        ),
        Wav2Vec2BertModel,
        lambda: SeamlessM4TFeatureExtractor(feature_size=16, num_mel_bins=16),
        1.0,
        sets_window=True,
    ),
    "pe-audio": Tower(
        lambda: PeAudioEncoderConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            head_dim=8,
            dac_config={
                "downsampling_ratios": [2, 4, 8, 10],
                "encoder_hidden_size": 4,
                "codebook_dim": 8,
                "hidden_size": 16,
            },
        ),
        PeAudioEncoder,
        lambda: PeAudioFeatureExtractor(hop_length=640),
        0.52,  # 39 frames of the codec
        sets_window=True,
    ),
}


def randomise(model: nn.Module) -> nn.Module:
    """Random statistics of batch normalisation and weights large enough that embeddings of clips differ."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(noise.square() + 0.5 if name.endswith("running_var") else value + 0.1 * noise)
    return model.eval()


def tower_config(tower: Tower) -> PreTrainedConfig:
    """The audio configuration, with the windows of the tiny extractor."""
    config = tower.config()
    describe_windows(config, tower.feature_extractor())
    return config


def tower_model(tower: Tower, **overrides: Any) -> AtriModel:
    text_config = tiny_config().text_config.to_dict()
    settings: dict[str, Any] = {"audio_config": tower_config(tower), "text_config": text_config, "projection_dim": 12}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomise(AtriModel(AtriConfig(**settings | overrides)))


def tower_processor(tower: Tower) -> AtriProcessor:
    return AtriProcessor(tower.feature_extractor(), tiny_tokenizer())


def sound(num_samples: int, seed: int = 0) -> np.ndarray:
    """Noise whose loudness changes, so that windows differ."""
    generator = np.random.default_rng(seed)
    envelope = 0.05 + np.abs(np.sin(np.linspace(0, 9, num_samples)))
    return (0.2 * envelope * generator.standard_normal(num_samples)).astype(np.float32)
