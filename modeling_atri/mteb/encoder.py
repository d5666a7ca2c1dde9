"""ATRI as an encoder of MTEB, the benchmark of text, image and audio embeddings (extra `mteb`)."""

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

from ..encode.encoding import encode_audio, encode_text
from ..encode.fingerprints import model_fingerprint
from ..languages_atri import LANGUAGES, resolve_language
from ..modeling_atri import AtriModel
from ..processing_atri import AtriProcessor
from ..sources import is_hub_id, public_name


if TYPE_CHECKING:
    from mteb import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import PromptType

_BATCH_SIZE = 32  # mteb's own default
# MTEB's mark of sounds without language. What text comes with them, class labels above all, is English.
_NO_LANGUAGE, _LANGUAGE_OF_LABELS = "zxx-Zxxx", "eng_Latn"


class AtriMtebEncoder:
    """Follows the encoder protocol of mteb 2: `mteb.evaluate(AtriMtebEncoder(model, processor), tasks)`.

    Texts are read in the language that the task names for its subset. Recordings are decoded with soundfile, so
    torchcodec is not needed, and come at any rate and number of channels; clips below 0.15 s are padded with silence.
    What is both text and sound (`at2a` tasks) gets the normalised sum of its two embeddings, as mteb's other dual
    encoders give it.

    Args:
        model (`AtriModel`): on any device.
        processor (`AtriProcessor`): of the model.
        batch_size (`int`, *optional*): items a forward pass. Default: what `encode_kwargs` of `mteb.evaluate` says, 32
            if nothing.
        language (`str`, *optional*): language of every text, in any writing that [`resolve_language`] takes; needed
            for tasks that name several languages for one subset. Default: the language that the task names.

    Example:

    ```python
    >>> import mteb
    >>> from modeling_atri.mteb import AtriMtebEncoder

    >>> encoder = AtriMtebEncoder.from_pretrained("path/to/model")
    >>> results = mteb.evaluate(encoder, mteb.get_tasks(tasks=["ClothoT2ARetrieval.v2", "ESC50_Zeroshot"]))
    ```
    """

    def __init__(
        self, model: AtriModel, processor: AtriProcessor, batch_size: int | None = None, language: str | None = None
    ):
        self.model = model
        self.processor = processor
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
            model_name (`str` or `Path`): a folder, or a repository such as `"organisation/name"`.
            revision (`str`, *optional*): branch, tag or commit on the Hub.
            device (`str` or `torch.device`, *optional*): default: CUDA where there is one, else the CPU.
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
        """Embeddings of a task's texts, sounds, or both.

        Args:
            inputs (`DataLoader`): batches with the columns `text` (strings), `audio` (decoded or not), or both.
            task_metadata (`TaskMetadata`): of the task; names the languages.
            hf_split (`str`): not used.
            hf_subset (`str`): the subset of the task, which decides the language.
            prompt_type (`PromptType`, *optional*): not used: ATRI has no prompts.
            kwargs: mteb's `encode_kwargs`; used are `batch_size` and `show_progress_bar`.

        Returns:
            `np.ndarray` of shape `(n, projection_dim)`, float32, L2-normalised, in the order given.

        Raises:
            ValueError: neither texts nor sounds; texts of a language that is unknown, or not named; a `precision`
                other than float32.
        """
        if kwargs.get("precision", "float32") != "float32":
            raise ValueError(
                f"`precision` is {kwargs['precision']!r}, but ATRI's embeddings are float32; leave it out."
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
        """FLORES-200 code of a subset's texts; None where the tokenizer has no language codes."""
        if self.language is not None or not self.processor.uses_language_codes:
            return self.language if self.processor.uses_language_codes else None
        # Of parallel bitexts each side is a subset of its own, named by its language.
        named = task_metadata.hf_subsets_to_langscripts.get(hf_subset, [hf_subset])
        codes = sorted({flores_code(langscript) for langscript in named if langscript != _NO_LANGUAGE})
        if len(codes) > 1:
            raise ValueError(
                f"Task {task_metadata.name!r} names {len(codes)} languages for its subset {hf_subset!r} "
                f"({', '.join(codes)}) and does not say which text is in which. Say it yourself: "
                "AtriMtebEncoder(..., language='eng_Latn') for texts that are all in one."
            )
        return codes[0] if codes else _LANGUAGE_OF_LABELS

    def similarity(self, embeddings1: np.ndarray | Tensor, embeddings2: np.ndarray | Tensor) -> Tensor:
        """Cosine similarity of all pairs.

        Args:
            embeddings1, embeddings2: `(n, dim)` and `(m, dim)`, or `(dim,)` for a single one.

        Returns:
            `torch.Tensor` of shape `(n, m)`.
        """
        return _unit_rows(embeddings1) @ _unit_rows(embeddings2).T

    def similarity_pairwise(self, embeddings1: np.ndarray | Tensor, embeddings2: np.ndarray | Tensor) -> Tensor:
        """Cosine similarity of row i with row i: `(n, dim)` and `(n, dim)` to `(n,)`."""
        return (_unit_rows(embeddings1) * _unit_rows(embeddings2)).sum(dim=-1)

    @cached_property
    def mteb_model_meta(self) -> "ModelMeta":
        """What mteb records of the model; it caches results by name and revision.

        The name is that of the Hub repository, `local/` and the folder's name, or `local/atri` for a model that comes
        from neither. The revision is the Hub's commit, else a fingerprint of the weights and settings: a model that
        was trained further never gets the scores of its former self.

        Raises:
            ImportError: mteb is not installed.
        """
        try:
            from mteb.models import ModelMeta
            from mteb.models.model_meta import ScoringFunction
        except ImportError as error:
            raise ImportError("This needs mteb: pip install 'modeling_atri[mteb]'.") from error
        config, tokenizer = self.model.config, self.processor.tokenizer
        return ModelMeta.create_empty(
            {
                "name": _model_name(config.name_or_path),
                "revision": getattr(config, "_commit_hash", None) or model_fingerprint(self.model, self.processor),
                "languages": [code.replace("_", "-") for code in LANGUAGES if code in tokenizer.get_vocab()],
                "n_parameters": self.model.num_parameters(),
                "n_embedding_parameters": self.model.get_input_embeddings().weight.numel(),
                "max_tokens": min(self.processor.max_text_length, tokenizer.model_max_length),
                "embed_dim": config.projection_dim,
                "framework": ["PyTorch", "Transformers"],
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": False,
                "modalities": ["audio", "text"],
                "experiment_kwargs": None if self.language is None else {"language": self.language},
            }
        )


def flores_code(langscript: str) -> str:
    """FLORES-200 code of a language as MTEB writes it, ISO 639-3 and script: `cmn-Hant` -> `zho_Hant`.

    Raises:
        ValueError: a language or a script of it that FLORES-200 has not.
    """
    try:
        return resolve_language(langscript)
    except ValueError:
        language, _, script = langscript.partition("-")
        # The code of a macrolanguage, as in `ara-Arab`, stands for its standard member.
        code = f"{LANGUAGES[resolve_language(language)].iso_639_3}_{script}"
        if code not in LANGUAGES:
            raise
        return code


def _model_name(name_or_path: str) -> str:
    if is_hub_id(name_or_path):
        return name_or_path
    return f"local/{public_name(name_or_path or 'atri')}"


def _without_decoding(inputs: DataLoader) -> DataLoader:
    """The same batches, with recordings as files or bytes where `datasets` would decode them with torchcodec."""
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
