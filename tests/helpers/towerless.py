"""Models without an audio tower, for sounds that were embedded before."""

from modeling_atri import AtriConfig, AtriEmbeddedAudioConfig, AtriEmbeddingExtractor, AtriModel, AtriProcessor
from tests.helpers.tiny import tiny_config, tiny_tokenizer
from tests.helpers.towers import randomise


SOURCE = "laion/clap-htsat-unfused"


def embedded_model(has_audio_head: bool = False, width: int = 12, **audio: str) -> AtriModel:
    """Embeddings of `width`; without a head they are the audio embeddings, with one it projects them to 12."""
    config = AtriConfig(
        audio_config=AtriEmbeddedAudioConfig(hidden_size=width, source=SOURCE, **audio),
        text_config=tiny_config().text_config.to_dict(),
        projection_dim=12,
        has_audio_head=has_audio_head,
    )
    return randomise(AtriModel(config))


def embedded_processor(width: int = 12) -> AtriProcessor:
    return AtriProcessor(AtriEmbeddingExtractor(width, source=SOURCE), tiny_tokenizer())
