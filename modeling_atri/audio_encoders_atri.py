"""Width, windows and input of the audio encoders of transformers, from their configurations."""

from dataclasses import dataclass

from transformers.configuration_utils import PreTrainedConfig


# Longest window of an encoder that takes waveforms of any length, in seconds. The memory of attention grows with the
# square of the length, so a limit is needed. Whisper's windows have this length.
WINDOW_SECONDS = 30

_WAVEFORM_TYPES = (
    "data2vec-audio",
    "hubert",
    "sew",
    "sew-d",
    "unispeech",
    "unispeech-sat",
    "wav2vec2",
    "wav2vec2-conformer",
    "wavlm",
)
# `audioflamingo3_encoder` is left out, because it masks the silence that fills up a window, and so needs a mask.
_WHISPER_TYPES = ("glmasr_encoder", "qwen2_audio_encoder", "voxtral_encoder", "whisper")
AUDIO_ENCODER_TYPES = (
    "audio-spectrogram-transformer",
    "clap_audio_model",
    "pe_audio_encoder",
    "wav2vec2-bert",
    *_WHISPER_TYPES,
    *_WAVEFORM_TYPES,
)

# Axes of an encoder's input, from the rows and columns of a window: b = batch, t = rows, f = columns, 1 = one.
INPUT_LAYOUTS = ("btf", "bft", "b1tf", "b1ft", "bt", "b1t")


@dataclass(frozen=True)
class EncoderWindows:
    """The windows of sound that an encoder takes as input.

    Attributes:
        layout: axes of the encoder's input, one of `INPUT_LAYOUTS`.
        frames: rows of a full window: frames of a spectrogram, or samples of a waveform.
        is_fixed: whether every window has exactly `frames` rows. Otherwise, windows may be shorter.
        step: windows that are not fixed are filled up to a multiple of this number of rows.
    """

    layout: str
    frames: int
    is_fixed: bool
    step: int = 1

    def rows(self, covered: int) -> int:
        """Number of rows that the encoder gets, if the sound covers `covered` rows of a window."""
        return self.frames if self.is_fixed else -(-covered // self.step) * self.step


def audio_part(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of the audio encoder of a larger model, such as `ClapConfig`; others are returned as is."""
    part = getattr(config, "audio_config", None)
    if not isinstance(part, PreTrainedConfig) or config.model_type in AUDIO_ENCODER_TYPES:
        return config
    return audio_part(part)  # PE-AV contains a model of sounds and texts


def audio_width(config: PreTrainedConfig) -> int:
    """Width of an audio tower's embeddings.

    Raises:
        ValueError: the configuration does not contain the width.
    """
    names = ["hidden_size", "d_model", "embed_dim"]
    if getattr(config, "add_adapter", False):  # of wav2vec2 and its relatives
        names.insert(0, "output_hidden_size")
    nested = getattr(config, "encoder_kwargs", None) or {}  # Dasheng keeps the settings of its encoder there
    for name in names:
        width = getattr(config, name, nested.get(name))
        if isinstance(width, int):
            return width
    raise ValueError(
        f"`audio_config` is of type {config.model_type!r} and has no `hidden_size`, the width of the encoder's last "
        "hidden states. Set it: `config.hidden_size = ...`."
    )


def encoder_windows(config: PreTrainedConfig) -> EncoderWindows:
    """The windows that the encoder of a configuration takes.

    `window_frames`, `input_layout` and `has_fixed_windows` of the configuration override the values of its model type.
    They are needed for model types that are not listed here, such as those with code in a repository.

    Raises:
        ValueError: the type is unknown and one of these is missing, or a value is not allowed.
    """
    known = _known_windows(config)
    layout = getattr(config, "input_layout", known and known.layout)
    frames = getattr(config, "window_frames", known and known.frames)
    is_fixed = getattr(config, "has_fixed_windows", known.is_fixed if known else False)
    if layout is None or frames is None:
        raise ValueError(
            f"`audio_config` is of type {config.model_type!r}, whose input is not known. Set `window_frames` (rows of "
            f"a window), `input_layout` (one of {', '.join(INPUT_LAYOUTS)}) and, if all windows have this length, "
            "`has_fixed_windows=True` in it, for example with `describe_windows(config, feature_extractor)`."
        )
    if layout not in INPUT_LAYOUTS or not isinstance(frames, int) or frames < 1:
        raise ValueError(
            f"`window_frames` must be a positive number and `input_layout` one of {', '.join(INPUT_LAYOUTS)}; "
            f"`audio_config` has {frames!r} and {layout!r}."
        )
    return EncoderWindows(layout, frames, is_fixed, known.step if known else 1)


def _known_windows(config: PreTrainedConfig) -> EncoderWindows | None:
    kind = config.model_type
    if kind == "clap_audio_model":
        return EncoderWindows(
            "b1tf", 1001, is_fixed=True
        )  # 10 s in steps of 10 ms, as in the training of all CLAP models
    if kind == "audio-spectrogram-transformer":
        return EncoderWindows("btf", config.max_length, is_fixed=True)
    if kind in _WHISPER_TYPES:
        states = config.max_position_embeddings if kind == "glmasr_encoder" else config.max_source_positions
        return EncoderWindows("bft", 2 * states, is_fixed=True)  # a convolution halves the number of frames
    if kind in _WAVEFORM_TYPES:
        return EncoderWindows("bt", WINDOW_SECONDS * 16_000, is_fixed=False)
    if kind == "wav2vec2-bert":
        return EncoderWindows("btf", WINDOW_SECONDS * 50 - 1, is_fixed=False)  # two frames of 25 ms, every 20 ms
    if kind == "pe_audio_encoder":
        step = config.dac_config.hop_length  # samples of one frame of the codec
        return EncoderWindows("b1t", WINDOW_SECONDS * 48_000 // step * step, is_fixed=False, step=step)
    return None


__all__ = [
    "AUDIO_ENCODER_TYPES",
    "INPUT_LAYOUTS",
    "WINDOW_SECONDS",
    "EncoderWindows",
    "audio_part",
    "audio_width",
    "encoder_windows",
]
