"""Machine translation models of transformers behind one call: NLLB-200 and MADLAD-400."""

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from huggingface_hub import ModelCard
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from modeling_atri.encode.fingerprints import weights_fingerprint
from modeling_atri.hub_cards.results import as_list
from modeling_atri.languages_atri import LANGUAGES
from modeling_atri.sources import check_source, public_name

from .quality import CUT_OFF, SOURCE_TOO_LONG, UNKNOWN_TOKEN


# What published weights are licensed as, by what their names hold.
_LICENSES = (
    (re.compile(r"(?<![a-z])nllb(?![a-z])", re.IGNORECASE), "cc-by-nc-4.0"),
    (re.compile(r"(?<![a-z])madlad", re.IGNORECASE), "apache-2.0"),
)
_DTYPES = ("float32", "bfloat16", "float16")


class Translation(NamedTuple):
    """What a model made of a text.

    Args:
        text: the translation; empty where there is none.
        flags: what the model itself tells of it: `CUT_OFF` (it had not come to its end after `max_new_tokens`),
            `UNKNOWN_TOKEN` (source or translation hold characters that its vocabulary has not) or `SOURCE_TOO_LONG`.
    """

    text: str
    flags: tuple[str, ...] = ()


class TranslationModel(ABC):
    """A sequence-to-sequence model with its tokenizer, and how it is told the languages.

    Decoding is greedy or by beams, never drawn. What the model's own `generation_config` asks for beside its special
    tokens is not done, so that `settings` says all.

    Args:
        model (`PreTrainedModel`): put into eval mode.
        tokenizer (`PreTrainedTokenizerBase`): of the model.
        name (`str`): Hub id, or a name for people.
        revision (`str`, *optional*): commit on the Hub.
        num_beams (`int`, *optional*, defaults to 4): 1 is greedy.
        max_new_tokens (`int`, *optional*, defaults to 200): what is longer is cut off.

    Attributes:
        settings: what tells translations apart: model, revision, fingerprint of weights and tokenizer, decoding.

    Raises:
        ValueError: a number that is not above 0, or a tokenizer with tokens that the model does not know.
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
        num_rows = model.get_input_embeddings().num_embeddings
        if len(tokenizer) > num_rows:
            raise ValueError(
                f"The tokenizer of {name} has {len(tokenizer)} tokens, but the model knows {num_rows}: they do not "
                "belong together."
            )
        self.settings = {
            "model": name,
            "revision": revision,
            "fingerprint": weights_fingerprint(model, {"tokenizer": _tokenizer_state(tokenizer)}),
            "decoding": {
                "num_beams": num_beams,
                "max_new_tokens": max_new_tokens,
                "dtype": str(model.dtype).removeprefix("torch."),
            },
        }
        self._model, self._tokenizer = model.eval(), tokenizer
        start = model.generation_config.decoder_start_token_id
        self._generation_config = GenerationConfig(
            num_beams=num_beams,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            decoder_start_token_id=self._default_start() if start is None else start,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        # `generate` takes what is not given from here.
        model.generation_config = self._generation_config

    @property
    def device(self) -> torch.device:
        return self._model.device

    @abstractmethod
    def check_languages(self, languages: Sequence[str]) -> None:
        """Raise a ValueError that names the FLORES-200 codes which the model has no token for."""

    @abstractmethod
    def _default_start(self) -> int:
        """The decoder's first token, where the model does not say it."""

    @abstractmethod
    def _wrap(self, ids: list[int], source: str, target: str) -> list[int]:
        """The tokens of a text with those that go before and after it."""

    @abstractmethod
    def _max_source_tokens(self) -> int | None:
        """How many tokens a source may have, languages and end included; None for any number."""

    def _target_options(self, target: str) -> dict[str, Any]:
        """What `generate` is told of the language."""
        return {}

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The length of each text in tokens, without those of language and end."""
        return [len(ids) for ids in self._tokenize(texts)]

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translation]:
        """Translate texts as one batch.

        Args:
            texts (list of `str`): in one language.
            source, target (`str`): FLORES-200 codes, which `check_languages` has passed.

        Returns:
            list of `Translation`, one for each text. Source texts that are too long for the model are not cut: they
            get none.
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
        # Split, so that a caption which holds "</s>" or "fra_Latn" says that, and is no command to the model.
        if not texts:
            return []
        return self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True).input_ids

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
        return output[:, 1:].tolist()

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
    """NLLB-200: `source code, text, end` is read, and the target's code is forced to be the first token written."""

    def check_languages(self, languages: Sequence[str]) -> None:
        vocabulary = self._tokenizer.get_vocab()
        # An unknown code would silently become `<unk>`.
        _refuse_missing([code for code in languages if code not in vocabulary], self.settings["model"])

    def _default_start(self) -> int:
        return self._tokenizer.eos_token_id

    def _wrap(self, ids: list[int], source: str, target: str) -> list[int]:
        return [self._code(source), *ids, self._tokenizer.eos_token_id]

    def _max_source_tokens(self) -> int:
        return self._model.config.max_position_embeddings

    def _target_options(self, target: str) -> dict[str, Any]:
        return {"forced_bos_token_id": self._code(target)}

    def _code(self, language: str) -> int:
        return self._tokenizer.convert_tokens_to_ids(language)


class MadladModel(TranslationModel):
    """MADLAD-400, a T5: `<2xx> text, end` is read, xx the ISO code of the target; it is not told the source."""

    # What MADLAD calls languages for which FLORES-200 names one member, or an older code.
    _OTHER_NAMES = {
        "dik_Latn": ("din",),
        "heb_Hebr": ("iw",),
        "jav_Latn": ("jw",),
        "nob_Latn": ("no",),
        "tgl_Latn": ("fil",),
        "zho_Hans": ("zh",),
    }

    def check_languages(self, languages: Sequence[str]) -> None:
        _refuse_missing([code for code in languages if self._token(code) is None], self.settings["model"])

    def _default_start(self) -> int:
        return self._tokenizer.pad_token_id

    def _wrap(self, ids: list[int], source: str, target: str) -> list[int]:
        prefix = self._tokenizer(self._token(target), add_special_tokens=False).input_ids
        return [*prefix, *ids, self._tokenizer.eos_token_id]

    def _max_source_tokens(self) -> None:
        return None  # positions are relative

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        # They are pieces of the vocabulary, and would be found in spite of the splitting: `<2fr>` inside a caption
        # would be an order to translate into French, and `</s>` its end.
        return super()._tokenize([re.sub(r"<(?=\S)", "< ", text) for text in texts])

    def _token(self, language: str) -> str | None:
        """The `<2xx>` of a FLORES-200 code; None if there is none in the vocabulary."""
        code = LANGUAGES[language]
        scripts = [other.script for other in LANGUAGES.values() if other.iso_639_3 == code.iso_639_3]
        names = [f"{iso}_{code.script}" for iso in (code.iso_639_1, code.iso_639_3) if iso]
        if len(scripts) == 1:  # else a code without a script says too little
            names += filter(None, [code.iso_639_1, code.iso_639_3])
        names += self._OTHER_NAMES.get(language, ())
        vocabulary = self._tokenizer.get_vocab()
        return next((f"<2{name}>" for name in names if f"<2{name}>" in vocabulary), None)


_MODELS = {"m2m_100": NllbModel, "t5": MadladModel}
_SUPPORTED = "NLLB-200 (facebook/nllb-200-distilled-600M, ...) and MADLAD-400 (google/madlad400-3b-mt, ...)"


def load_translation_model(
    name_or_path: str | os.PathLike,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    num_beams: int = 4,
    max_new_tokens: int = 200,
) -> TranslationModel:
    """A translation model from a folder or the Hub.

    Args:
        name_or_path (`str` or `Path`): folder or Hub id of NLLB-200 or MADLAD-400, or what was fine-tuned from them.
        revision (`str`, *optional*): branch, tag or commit on the Hub.
        device, dtype (`str`, *optional*): where, and in what, to compute.
        num_beams, max_new_tokens: see `TranslationModel`.

    Raises:
        ValueError: no such folder, another kind of model, or another dtype.
        OSError: there is no such Hub repository, or it cannot be reached.
    """
    name_or_path = check_source(name_or_path)
    if dtype not in _DTYPES:
        raise ValueError(f"`dtype` must be one of {', '.join(_DTYPES)}, got {dtype!r}.")
    config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    if config.model_type not in _MODELS:
        raise ValueError(f"{name_or_path} is of type {config.model_type!r}; supported are {_SUPPORTED}.")
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


def translation_license(name_or_path: str | os.PathLike, given: str | None = None, revision: str | None = None) -> str:
    """The licence of a translation model: that of NLLB or MADLAD by its name, else what its model card says.

    Args:
        name_or_path (`str` or `Path`): folder or Hub id.
        given (`str`, *optional*): the licence of a model for which there is none to be found.
        revision (`str`, *optional*): of the Hub.

    Raises:
        ValueError: it is not known and none was given, or another was given than is known; no such folder.
    """
    name = public_name(check_source(name_or_path))
    known = next((licence for pattern, licence in _LICENSES if pattern.search(name)), None)
    found = [known] if known else read_licenses(name_or_path, revision)
    known = found[0] if len(found) == 1 else None
    if known is None and given is None:
        raise ValueError(
            f"The licence of {name} is not known: it has no model card that says it. Pass it as --license, such as "
            "cc-by-4.0; it goes into the card of the captions."
        )
    if None not in (known, given) and known != given:
        raise ValueError(f"The licence {given!r} was given, but {name} is {known}. Leave it out, or give {known!r}.")
    return known or given


def read_licenses(name_or_path: str | os.PathLike, revision: str | None = None) -> list[str]:
    """The licences in the metadata of the README.md of a folder or Hub repository; none if it does not say."""
    path = cached_file(
        os.fspath(name_or_path),
        "README.md",
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return []
    found = as_list(ModelCard.load(path, ignore_metadata_errors=True).data.license)
    return [name for name in found if name not in ("other", "unknown")]


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What turns text into tokens, but for the source language, which is set for every text."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return {part: state[part] for part in ("normalizer", "pre_tokenizer", "model", "decoder", "added_tokens")}


def _refuse_missing(missing: list[str], name: str) -> None:
    if missing:
        languages = ", ".join(f"{code} ({LANGUAGES[code].name})" for code in missing)
        raise ValueError(f"{name} has no token for {languages}. Leave them out, or name a model that knows them.")


__all__ = ["TranslationModel", "load_translation_model", "read_licenses", "translation_license"]
