"""The base class of ATRI's pipelines: from inputs of any kind to embeddings."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel
from transformers.feature_extraction_utils import BatchFeature
from transformers.pipelines import Pipeline
from transformers.processing_utils import ProcessorMixin

from .audio_inputs_atri import is_recording, path_of
from .eval_mode_atri import in_eval_mode
from .languages_atri import one_language_each
from .long_sounds_atri import LongSound, embed_in_pieces
from .sound_files_atri import names_sound


Modality = Literal["audio", "text"]

_ROWS_AT_ONCE = 2**14  # of a long recording that go through the model: about 160 s of sound with CED
TEXT_BATCH_SIZE = 32  # for labels, texts to search, and texts to search with, unless the caller passes `batch_size`


class AtriPipeline(Pipeline):
    """What ATRI's pipelines share: the processor, and the way from one input to its embedding.

    Args:
        model (`AtriModel`): it is put into evaluation mode, and encodes in evaluation mode if it is trained later.
        processor (`AtriProcessor`): the processor of the model.
        kwargs: `device`, `batch_size`, `num_workers`, and defaults of the arguments of a call.
    """

    processor: Any  # an `AtriProcessor`

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, **kwargs):
        kwargs.pop("local_files_only", None)  # `pipeline()` passes it on with the rest
        super().__init__(model=model, processor=processor, **kwargs)
        # transformers takes the padding values of a batch from these two.
        self.tokenizer, self.feature_extractor = processor.tokenizer, processor.feature_extractor
        self.processor.limit_text_length(getattr(model, "max_text_tokens", None))
        self.model.eval()

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model and processor together with the code of both and of the pipelines."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def _encode(self, inputs: Any, language: str | Sequence[str] | None = None, **kwargs: Any) -> Any:
        """One embedding for one input, a list for a list, an iterator for a generator or data set."""
        inputs = as_list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        if language is not None and not isinstance(language, str):
            inputs = _with_languages(inputs, language)
        elif language is not None:
            kwargs["language"] = language
        # In a batch, long recordings are padded like others, and from another process, only features can come.
        batch_size, num_workers = kwargs.get("batch_size") or self._batch_size, kwargs.get("num_workers")
        kwargs["in_pieces"] = (batch_size or 1) == 1 and not (num_workers or self._num_workers)
        return Pipeline.__call__(self, inputs, **kwargs)

    def _encode_all(self, inputs: Any, modality: Modality, **kwargs: Any) -> np.ndarray:
        """Embeddings of many inputs, of shape `(n, projection_dim)`."""
        if modality == "text":
            kwargs.setdefault("batch_size", self._batch_size or TEXT_BATCH_SIZE)
        embeddings = self._encode(inputs, modality=modality, **kwargs)
        if isinstance(embeddings, np.ndarray):
            raise ValueError(f"`{modality}s` is a single one ({type(inputs).__name__}). Pass a list.")
        embeddings = list(embeddings)
        if not embeddings:
            raise ValueError(f"`{modality}s` is empty: pass at least one.")
        return np.stack(embeddings)

    def _sanitize_parameters(
        self,
        modality: Modality | None = None,
        language: str | None = None,
        sampling_rate: int | None = None,
        pad_short: bool | None = None,
        in_pieces: bool | None = None,
        **kwargs: Any,
    ) -> tuple[dict, dict, dict]:
        if kwargs:
            raise ValueError(f"{type(self).__name__} has no arguments {sorted(kwargs)}; its `__call__` lists them.")
        if modality not in (None, "audio", "text"):
            raise ValueError(f"`modality` must be 'audio' or 'text', got {modality!r}.")
        if language is not None:
            self.processor.language_id(language)  # so that an unknown language is an error at once
        given = {"modality": modality, "language": language, "sampling_rate": sampling_rate, "pad_short": pad_short}
        given["in_pieces"] = in_pieces
        return {key: value for key, value in given.items() if value is not None}, {}, {}

    def preprocess(
        self,
        item: Any,
        modality: Modality | None = None,
        language: str | None = None,
        sampling_rate: int | None = None,
        pad_short: bool = False,
        in_pieces: bool = False,
    ) -> BatchFeature | dict[str, LongSound]:
        modality, item, language = _resolve_item(item, modality, language)
        if modality == "text":
            return self.processor(text=[item], language=language)
        extractor = self.processor.feature_extractor
        if in_pieces and extractor.sampling_rate is not None:
            rate = extractor.sampling_rate if sampling_rate is None and not is_recording(item) else sampling_rate
            features = extractor.read_clip(item, pad_short, source_rate=rate)
            if isinstance(features, LongSound):
                return {"recording": features}
        else:
            features = extractor.extract_clip(item, pad_short, source_rate=sampling_rate)
        input_features, mask = extractor.pad_features([features])
        return BatchFeature({"input_features": input_features, "input_features_mask": mask})

    def _forward(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        if "recording" in inputs:
            with in_eval_mode(self.model):
                embedding = embed_in_pieces(self.model, self.feature_extractor, inputs["recording"], _ROWS_AT_ONCE)
            return {"embedding": embedding.float()}
        is_audio = "input_features" in inputs
        encode = self.model.get_audio_features if is_audio else self.model.get_text_features
        with in_eval_mode(self.model):
            return {"embedding": encode(**inputs).pooler_output.float()}

    def postprocess(self, outputs: Mapping[str, Tensor]) -> np.ndarray:
        return outputs["embedding"][0].numpy()


def _resolve_item(item: Any, modality: Modality | None, language: str | None) -> tuple[Modality, Any, str | None]:
    """The kind of an input, its sound or text, and the language of a text."""
    if isinstance(item, Mapping) and ("audio" in item or "text" in item):
        if modality is None and "audio" in item and "text" in item:
            raise ValueError("The input has `audio` and `text`: pass modality='audio' or modality='text'.")
        modality = modality or ("audio" if "audio" in item else "text")
        if modality not in item:
            raise ValueError(f"The input should have `{modality}`, but it has {sorted(item)}.")
        return modality, item[modality], item.get("language") or language
    if modality is None:
        modality = "text" if isinstance(item, str) and not names_sound(item) else "audio"
    return modality, item, language


def _with_languages(texts: Any, languages: Sequence[str]) -> list[dict[str, str]]:
    if not isinstance(texts, list):
        raise ValueError(
            f"{len(languages)} languages were given for a {type(texts).__name__}. Pass one language, or a list."
        )
    languages = one_language_each(languages, len(texts), "text")
    return [{"text": text, "language": name} for text, name in zip(texts, languages, strict=True)]


def as_list(items: Any) -> Any:
    """Turn a tuple or a column of a data set into a list, because transformers would take either for one input."""
    is_container = isinstance(items, Sequence) and not isinstance(items, (str, bytes, bytearray, list))
    return list(items) if is_container else items


def name_of(item: Any, modality: Modality) -> str | None:
    """How results refer to an input: by its text, or by its path if it has one."""
    if isinstance(item, Mapping) and modality in item:
        item = item[modality]
    return path_of(item)


def apply_to_embeddings(function: Callable[[np.ndarray], list], embeddings: np.ndarray | list | Iterable) -> Any:
    """Apply a function, from embeddings `(n, projection_dim)` to a list of n results, to the result of `_encode`."""
    if isinstance(embeddings, np.ndarray):
        return function(embeddings[None])[0]
    if isinstance(embeddings, list):
        return function(np.stack(embeddings)) if embeddings else []
    return (function(embedding[None])[0] for embedding in embeddings)
