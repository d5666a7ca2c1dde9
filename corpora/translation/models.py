"""Translation models of transformers with one interface: NLLB-200 and MADLAD-400."""

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from modeling_atri.encode.fingerprints import weights_fingerprint
from modeling_atri.languages_atri import LANGUAGES, find_language, language_name
from modeling_atri.pretrained.checkpoints import naming_source
from modeling_atri.sources import check_source, public_name

from .quality import CUT_OFF, SOURCE_TOO_LONG, UNKNOWN_TOKEN


_DTYPES = ("float32", "bfloat16", "float16")


class Translation(NamedTuple):
    """A model's translation of a text.

    Args:
        text: The translation; empty if there is none.
        flags: Faults that the model itself shows: `CUT_OFF` (not finished after `max_new_tokens`), `UNKNOWN_TOKEN`
            (characters of source or translation are not in the vocabulary) or `SOURCE_TOO_LONG`.
    """

    text: str
    flags: tuple[str, ...] = ()


class TranslationModel(ABC):
    """A sequence-to-sequence model with its tokenizer. Subclasses know how the languages are given to it.

    Decoding is greedy or a beam search, never sampling. Of the model's own `generation_config`, only special tokens
    are used, so that `settings` is complete.

    Args:
        model (`PreTrainedModel`): The model. It is put into eval mode.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        name (`str`): Hub id, or another name for people.
        revision (`str`, *optional*): Commit on the Hub.
        num_beams (`int`, *optional*, defaults to 4): Number of beams; 1 is greedy.
        max_new_tokens (`int`, *optional*, defaults to 200): Longer translations are cut off.

    Attributes:
        settings: What must be equal for equal translations: model, revision, fingerprint of weights and tokenizer,
            decoding.

    Raises:
        ValueError: if a number is not above 0, or the tokenizer has more tokens than the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        revision: str | None = None,
        num_beams: int = 4,
        max_new_tokens: int = 200,
    ):
        for option, value in {"num_beams": num_beams, "max_new_tokens": max_new_tokens}.items():
            if value < 1:
                raise ValueError(f"`{option}` must be at least 1, got {value}.")
        self._model, self._tokenizer = cast(Any, model), cast(Any, tokenizer)  # transformers' types are incomplete
        num_tokens: int = self._model.get_input_embeddings().num_embeddings
        if len(tokenizer) > num_tokens:
            raise ValueError(
                f"The tokenizer of {name} has {len(tokenizer)} tokens, but the model has {num_tokens}: they do not "
                "belong together."
            )
        self.settings: dict[str, Any] = {
            "model": name,
            "revision": revision,
            "fingerprint": weights_fingerprint(model, {"tokenizer": _tokenizer_state(tokenizer)}),
            "decoding": {
                "num_beams": num_beams,
                "max_new_tokens": max_new_tokens,
                "dtype": str(model.dtype).removeprefix("torch."),
            },
        }
        self._model.eval()
        start = self._model.generation_config.decoder_start_token_id
        # `generate` takes all options from here. Those of the checkpoint are not in `settings` and must not count.
        self._model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            num_beams=num_beams,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            decoder_start_token_id=self._default_start() if start is None else start,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    @property
    def device(self) -> torch.device:
        device: torch.device = self._model.device
        return device

    def check_languages(self, languages: Sequence[str]) -> None:
        """Raise a ValueError that names the FLORES-200 codes that the model has no token for."""
        if missing := [f"{code} ({language_name(code)})" for code in languages if self._token(code) is None]:
            raise ValueError(
                f"{self.settings['model']} has no token for {', '.join(missing)}. Leave them out, or name a model "
                "that knows them."
            )

    @abstractmethod
    def _token(self, language: str) -> str | None:
        """The token of a FLORES-200 code; None if the vocabulary has none."""

    @abstractmethod
    def _default_start(self) -> int:
        """The decoder's first token, if the model does not define it."""

    @abstractmethod
    def _wrap(self, ids: list[int], source: str, target: str) -> list[int]:
        """Add the tokens of languages and end to the tokens of a text."""

    @abstractmethod
    def _max_source_tokens(self) -> int | None:
        """Largest number of tokens of a source, with languages and end; None for any number."""

    def _target_options(self, target: str) -> dict[str, Any]:
        """Options of `generate` that choose the target language."""
        return {}

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, without those of languages and end."""
        return [len(ids) for ids in self._tokenize(texts)]

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        """Translate texts as one batch.

        Args:
            texts (list of `str`): Texts in one language.
            source, target (`str`): FLORES-200 codes that `check_languages` accepts.

        Returns:
            list of `Translation`: One for each text. Texts that are too long for the model are not cut: their
            translation is empty.
        """
        tokens = self._tokenize(texts)
        wrapped = [self._wrap(ids, source, target) for ids in tokens]
        limit = self._max_source_tokens()
        fit = [index for index, ids in enumerate(wrapped) if limit is None or len(ids) <= limit]
        translations = [Translation("", (SOURCE_TOO_LONG,))] * len(texts)
        if not fit:
            return translations
        generated = self._generate([wrapped[index] for index in fit], target)
        for index, ids in zip(fit, generated, strict=True):
            translations[index] = self._read(ids, self._tokenizer.unk_token_id in tokens[index])
        return translations

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        # Special tokens are split, so that "</s>" or "fra_Latn" in a caption is text and not a command to the model.
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True
        ).input_ids
        return ids

    @torch.inference_mode()
    def _generate(self, sources: list[list[int]], target: str) -> list[list[int]]:
        """Token ids of the translations, without the decoder's first token."""
        width = max(map(len, sources))
        input_ids = torch.full((len(sources), width), self._tokenizer.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for row, ids in enumerate(sources):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            attention_mask[row, : len(ids)] = 1
        output = self._model.generate(
            input_ids=input_ids.to(self.device),
            attention_mask=attention_mask.to(self.device),
            **self._target_options(target),
        )
        generated: list[list[int]] = output[:, 1:].tolist()
        return generated

    def _read(self, ids: list[int], source_has_unknown: bool) -> Translation:
        tokenizer = self._tokenizer
        is_cut_off = tokenizer.eos_token_id not in ids
        if not is_cut_off:
            ids = ids[: ids.index(tokenizer.eos_token_id)]
        flags = [CUT_OFF] if is_cut_off else []
        if source_has_unknown or tokenizer.unk_token_id in ids:
            flags.append(UNKNOWN_TOKEN)
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Translation(" ".join(text.split()), tuple(flags))


class NllbModel(TranslationModel):
    """NLLB-200: the input is `source code, text, end`, and the first output token is set to the target's code."""

    def _token(self, language: str) -> str | None:
        return language if language in self._tokenizer.get_vocab() else None

    def _default_start(self) -> int:
        return int(self._tokenizer.eos_token_id)

    def _wrap(self, ids: list[int], source: str, target: str) -> list[int]:
        return [self._code(source), *ids, self._tokenizer.eos_token_id]

    def _max_source_tokens(self) -> int:
        return int(self._model.config.max_position_embeddings)

    def _target_options(self, target: str) -> dict[str, Any]:
        return {"forced_bos_token_id": self._code(target)}

    def _code(self, language: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(language))


class MadladModel(TranslationModel):
    """MADLAD-400, a T5: the input is `<2xx> text, end`, where xx is the ISO code of the target language."""

    # MADLAD's codes of languages whose FLORES-200 code names a member of the language, or a newer code.
    _OTHER_NAMES = {
        "dik_Latn": ("din",),
        "heb_Hebr": ("iw",),
        "jav_Latn": ("jw",),
        "nob_Latn": ("no",),
        "tgl_Latn": ("fil",),
        "zho_Hans": ("zh",),
    }

    def _default_start(self) -> int:
        return int(self._tokenizer.pad_token_id)

    def _wrap(self, ids: list[int], source: str, target: str) -> list[int]:
        prefix = self._tokenizer(self._token(target), add_special_tokens=False).input_ids
        return [*prefix, *ids, self._tokenizer.eos_token_id]

    def _max_source_tokens(self) -> None:
        return None  # positions are relative

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        # These tokens are pieces of the vocabulary and are found in spite of the splitting: `<2fr>` in a caption would
        # be a command to translate into French, and `</s>` would end it.
        return super()._tokenize([re.sub(r"<(?=\S)", "< ", text) for text in texts])

    def _token(self, language: str) -> str | None:
        code = find_language(language)
        scripts = {code.script, *(one.script for one in LANGUAGES.values() if one.iso_639_3 == code.iso_639_3)}
        names = [f"{iso}_{code.script}" for iso in (code.iso_639_1, code.iso_639_3) if iso]
        if len(scripts) == 1:  # otherwise, a code without a script is ambiguous
            names += filter(None, [code.iso_639_1, code.iso_639_3])
        names += self._OTHER_NAMES.get(language, ())
        vocabulary = self._tokenizer.get_vocab()
        return next((f"<2{name}>" for name in names if f"<2{name}>" in vocabulary), None)


_MODELS = {"m2m_100": NllbModel, "t5": MadladModel}
_SUPPORTED = "NLLB-200 (facebook/nllb-200-distilled-600M, ...) and MADLAD-400 (google/madlad400-3b-mt, ...)"


def load_translation_model(
    name_or_path: str | os.PathLike[str],
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    num_beams: int = 4,
    max_new_tokens: int = 200,
) -> TranslationModel:
    """Load a translation model from a folder or the Hub.

    Args:
        name_or_path (`str` or `Path`): Folder or Hub id of NLLB-200 or MADLAD-400, or of a model fine-tuned from them.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        device (`str`, *optional*, defaults to `"cpu"`): Device to compute on.
        dtype (`str`, *optional*, defaults to `"float32"`): Dtype of the weights: float32, bfloat16 or float16.
        num_beams, max_new_tokens: See `TranslationModel`.

    Raises:
        ValueError: if there is no such folder, the model is of another kind, or the dtype is another.
        OSError: if there is no such Hub repository, or it cannot be reached.
    """
    name_or_path = check_source(name_or_path)
    if dtype not in _DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(_DTYPES)}, got {dtype!r}.")
    with naming_source(name_or_path):
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    if config.model_type not in _MODELS:
        raise ValueError(f"{name_or_path} is of type {config.model_type!r}; supported are {_SUPPORTED}.")
    with naming_source(name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
        model = AutoModelForSeq2SeqLM.from_pretrained(name_or_path, revision=revision, dtype=getattr(torch, dtype))
    return _MODELS[config.model_type](
        model.to(device),
        tokenizer,
        name=public_name(name_or_path),
        revision=getattr(model.config, "_commit_hash", None),
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
    )


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer's state that turns text into tokens. The source language is not part of it: it is set per text."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return {part: state[part] for part in ("normalizer", "pre_tokenizer", "model", "decoder", "added_tokens")}
