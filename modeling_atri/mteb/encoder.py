"""An encoder for MTEB 2 that embeds texts and sounds with an ATRI model."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Audio
from torch import Tensor
from torch.utils.data import DataLoader

# Names of the package, which register all of its classes, so that a saved processor loads without remote code.
from modeling_atri import AtriEmbeddedAudioConfig, AtriModel, AtriProcessor

from ..encode.encoding import encode_audio, encode_text
from ..encode.fingerprints import model_fingerprint
from ..languages_atri import is_language_code, resolve_language
from ..sources import is_hub_id, public_name


if TYPE_CHECKING:
    from mteb import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import PromptType

_BATCH_SIZE = 32  # default of mteb
# MTEB's code for sounds without language. Texts in such tasks, mostly class labels, are English.
_NO_LANGUAGE, _LANGUAGE_OF_LABELS = "zxx-Zxxx", "eng_Latn"


class AtriMtebEncoder:
    """An encoder that follows the protocol of mteb 2, for `mteb.evaluate(AtriMtebEncoder(model, processor), tasks)`.

    The language of texts is that of the task's subset. Recordings can have any sampling rate and number of channels,
    and are decoded with soundfile, so torchcodec is not needed. Clips below 0.15 s are padded with silence. Items with
    both text and sound (`at2a` tasks) get the normalised sum of their two embeddings, as in the other dual encoders of
    mteb.

    Args:
        model (`AtriModel`): on any device.
        processor (`AtriProcessor`): processor of the model.
        batch_size (`int`, *optional*): number of items in a forward pass. Default: the value in `encode_kwargs` of
            `mteb.evaluate`, otherwise 32.
        language (`str`, *optional*): language of all texts, as a code or name that [`resolve_language`] accepts. It is
            needed for tasks with several languages in one subset. Default: the language that the task names.
    """

    def __init__(
        self, model: AtriModel, processor: AtriProcessor, batch_size: int | None = None, language: str | None = None
    ):
        self.model = model
        self.processor = processor
        processor.limit_text_length(model.max_text_tokens)
        self.batch_size = batch_size
        self.language = None if language is None else resolve_language(language)

    @classmethod
    def from_pretrained(
        cls,
        model_name: str | Path,
        revision: str | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        language: str | None = None,
    ) -> "AtriMtebEncoder":
        """Load model and processor from a folder or the Hub.

        Args:
            model_name (`str` or `Path`): folder or Hub id (`"owner/name"`).
            revision (`str`, *optional*): branch, tag or commit on the Hub.
            device (`str` or `torch.device`, *optional*): default: CUDA if available, else the CPU.
            batch_size, language: see the class.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = AtriModel.from_pretrained(model_name, revision=revision).to(device)
        processor = AtriProcessor.from_pretrained(model_name, revision=revision)
        return cls(model, processor, batch_size, language)

    def encode(
        self,
        inputs: DataLoader,
        *,
        task_metadata: "TaskMetadata",
        hf_split: str,
        hf_subset: str,
        prompt_type: "PromptType | None" = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Embed the texts, the sounds, or both, of a task.

        Args:
            inputs (`DataLoader`): batches with the column `text` (strings), `audio` (decoded or not), or both.
            task_metadata, hf_subset: they determine the language of texts.
            hf_split, prompt_type: ignored, because ATRI has no prompts.
            kwargs: `encode_kwargs` of mteb, of which `batch_size` and `show_progress_bar` are used.

        Returns:
            `np.ndarray` of shape `(n, projection_dim)`, float32, L2-normalised, in the order of the inputs.

        Raises:
            ValueError: there is neither text nor sound, the language of the texts is unknown or ambiguous, or
                `precision` is not float32.
        """
        if kwargs.get("precision", "float32") != "float32":
            raise ValueError(
                f"`precision` is {kwargs['precision']!r}, but ATRI's embeddings are float32. Leave it out."
            )
        columns = inputs.dataset.features
        options = {
            "batch_size": self.batch_size or kwargs.get("batch_size", _BATCH_SIZE),
            "progress": kwargs.get("show_progress_bar", False),
        }
        inputs = _without_decoding(inputs)
        parts = []
        if "text" in columns:
            language = self._language(task_metadata, hf_subset)
            parts.append(encode_text(self.model, self.processor, [*_items(inputs, "text")], language, **options))
        if "audio" in columns:
            parts.append(encode_audio(self.model, self.processor, _items(inputs, "audio"), pad_short=True, **options))
        if not parts:
            raise ValueError(
                f"Task {task_metadata.name!r} gives the columns {sorted(columns)}; ATRI encodes `text` and `audio`."
            )
        if len(parts) == 1:
            return parts[0]
        return F.normalize(torch.from_numpy(parts[0] + parts[1]), dim=-1).numpy()

    def _language(self, task_metadata: "TaskMetadata", hf_subset: str) -> str | None:
        """Code of the language of a subset's texts, or None if the tokenizer has no language codes."""
        if not self.processor.uses_language_codes:
            return None
        if self.language is not None:
            return self.language
        # In tasks with parallel texts, each side is a subset of its own that is named after its language.
        named = task_metadata.hf_subsets_to_langscripts.get(hf_subset, [hf_subset])
        codes = sorted({resolve_language(langscript) for langscript in named if langscript != _NO_LANGUAGE})
        if len(codes) > 1:
            raise ValueError(
                f"Task {task_metadata.name!r} names {len(codes)} languages for its subset {hf_subset!r} "
                f"({', '.join(codes)}), so the language of a text is not known. If all texts are in one language, "
                "pass it, as in AtriMtebEncoder(..., language='eng_Latn')."
            )
        return codes[0] if codes else _LANGUAGE_OF_LABELS

    def similarity(self, embeddings1: np.ndarray | Tensor, embeddings2: np.ndarray | Tensor) -> Tensor:
        """Cosine similarities `(n, m)` of all pairs of embeddings `(n, dim)` and `(m, dim)`, or `(dim,)` for one."""
        return _unit_rows(embeddings1) @ _unit_rows(embeddings2).T

    def similarity_pairwise(self, embeddings1: np.ndarray | Tensor, embeddings2: np.ndarray | Tensor) -> Tensor:
        """Cosine similarities `(n,)` of the rows of `(n, dim)` with the same rows of `(n, dim)`."""
        return (_unit_rows(embeddings1) * _unit_rows(embeddings2)).sum(dim=-1)

    @cached_property
    def mteb_model_meta(self) -> "ModelMeta":
        """The metadata that mteb records with results. Results are cached by its name and revision.

        The name is the Hub id, `local/` and the name of the folder, or `local/atri` for a model that was not loaded.
        The revision is the commit on the Hub, or else a fingerprint of weights and settings, so that a model that is
        trained further does not get its earlier scores.

        Raises:
            ImportError: mteb is not installed.
        """
        try:
            from mteb.models import ModelMeta
        except ImportError as error:
            raise ImportError("`AtriMtebEncoder` needs mteb: pip install 'modeling_atri[mteb]'") from error
        name = self.model.config.name_or_path or ""
        # Filled in and checked; a copy of an empty object would not be checked.
        return ModelMeta(
            **ModelMeta.create_empty().model_dump()
            | facts_of_model(self.model, self.processor)
            | {
                "name": name if is_hub_id(name) else f"local/{public_name(name or 'atri')}",
                "revision": getattr(self.model.config, "_commit_hash", None)
                or model_fingerprint(self.model, self.processor),
                "experiment_kwargs": None if self.language is None else {"language": self.language},
            }
        )


def facts_of_model(model: AtriModel, processor: AtriProcessor) -> dict[str, Any]:
    """The fields of mteb's `ModelMeta` that follow from a model, whose weights are not read, and its processor."""
    config, tokenizer = model.config, processor.tokenizer
    has_no_tower = isinstance(config.audio_config, AtriEmbeddedAudioConfig)
    languages = filter(is_language_code, sorted(tokenizer.get_vocab()))
    token_embeddings = getattr(model.get_input_embeddings(), "weight", None)  # some towers have none
    return {
        "languages": [code.replace("_", "-") for code in languages],
        "n_parameters": model.num_parameters(),
        "n_embedding_parameters": None if token_embeddings is None else token_embeddings.numel(),
        "max_tokens": min(processor.max_text_length, tokenizer.model_max_length),
        "embed_dim": config.projection_dim,
        "framework": ["PyTorch", "Transformers", "safetensors"],
        "similarity_fn_name": "cosine",
        "use_instructions": False,
        "modalities": ["text"] if has_no_tower else ["audio", "text"],
    }


def _without_decoding(inputs: DataLoader) -> DataLoader:
    """The same batches with encoded recordings (files or bytes), so that `datasets` does not need torchcodec."""
    if not isinstance(inputs.dataset.features.get("audio"), Audio):
        return inputs
    return DataLoader(
        inputs.dataset.cast_column("audio", Audio(decode=False)),
        batch_size=inputs.batch_size,
        collate_fn=inputs.collate_fn,
        num_workers=inputs.num_workers,
    )


def _items(inputs: DataLoader, column: str) -> Iterator[Any]:
    for batch in inputs:
        yield from batch[column]


def _unit_rows(embeddings: np.ndarray | Tensor) -> Tensor:
    return F.normalize(torch.atleast_2d(torch.as_tensor(embeddings, dtype=torch.float32)), dim=-1)
