"""Captions in any mix of languages and clips of any length, as one batch for `AtriModel`."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from os import PathLike
from typing import Any

import torch
from transformers import AutoProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import AudioKwargs, ProcessingKwargs, ProcessorMixin, Unpack
from transformers.utils import TensorType

from .audio_inputs_atri import AudioInput
from .clip_features_atri import as_columns
from .configuration_atri import IS_REMOTE_CODE, AtriConfig
from .languages_atri import ATRI_LANGUAGES, is_language_code, one_language_each, resolve_language
from .remote_towers_atri import trusting
from .text_tokens_atri import pad, tokenize


# The signs that ml-clap removes, https://github.com/zyyan4/ml-clap/blob/154393e/dataset.py (text_preprocess)
_SPACE_BEFORE_SIGN = re.compile(r'\s([，。！？：;、,.!?:"](?:\s|$))')
_SIGN = re.compile(r'[()，。！？：;、,.!?:|*"]')


def normalize_caption(caption: str) -> str:
    """Lower-case a caption and replace its punctuation by spaces, as in the training data of ML-CLAP.

    Double spaces are folded in one pass after each step. Longer runs of spaces can therefore survive, and a final full
    stop leaves a space, exactly as in the captions that the released models were trained on.
    """
    caption = _SPACE_BEFORE_SIGN.sub(r"\1", caption.lower()).replace("  ", " ")
    return _SIGN.sub(" ", caption).replace("  ", " ")


# transformers' processors also take arguments in one dict per kind of input, as sentence-transformers passes them.
_KINDS = ("common_kwargs", "text_kwargs", "audio_kwargs", "images_kwargs", "videos_kwargs")
_TEXT_ARGUMENTS = ("language", "padding", "max_length", "padding_side", "pad_to_multiple_of", "truncation")
_AUDIO_ARGUMENTS = ("sampling_rate", "pad_short")


class AtriAudioKwargs(AudioKwargs, total=False):
    r"""
    pad_short (`bool`, *optional*, defaults to `False`):
        Zero-pad clips below 0.15 s instead of raising.
    """

    pad_short: bool | None


class AtriProcessorKwargs(ProcessingKwargs, total=False):
    """Arguments of [`AtriProcessor`], by kind."""

    audio_kwargs: AtriAudioKwargs


class AtriProcessor(ProcessorMixin):
    r"""
    Feature extractor for audio and tokenizer for captions in one object.

    Every caption has its own language. NLLB tokenizers (SONAR's is one) mark it by a language code as the first token.
    Tokenizers without language codes (BERT's, XLM-R's) receive the captions alone, but the languages are checked
    nevertheless. A call neither changes the tokenizer nor depends on its last call, so that several threads can share
    a processor.

    Args:
        feature_extractor (`AtriFeatureExtractor`): turns sounds into log-mel spectrograms.
        tokenizer (`PreTrainedTokenizerBase`): the tokenizer of the text tower.
        normalize_text (`bool`, *optional*, defaults to `False`): lower-case captions and strip punctuation as ML-CLAP
            does. The conversion of ML-CLAP's checkpoints sets it.
        max_text_length (`int`, *optional*, defaults to 514): maximum number of tokens of a caption, including the
            language code and the end token. The default is SONAR's limit. `atri convert`, the Trainer, the pipelines
            and the ONNX export lower it to what the text tower takes, and the tokenizer's `model_max_length` to it.
    """

    valid_processor_kwargs = AtriProcessorKwargs

    def __init__(
        self, feature_extractor, tokenizer, normalize_text: bool = False, max_text_length: int = 514, **kwargs
    ):
        super().__init__(feature_extractor, tokenizer, **kwargs)
        if getattr(tokenizer, "legacy_behaviour", False):
            raise ValueError(
                "The tokenizer was made with legacy_behaviour=True, which puts the language code last; ATRI's text "
                "tower expects it first. Load it with legacy_behaviour=False."
            )
        self.normalize_text = normalize_text
        self.max_text_length = max_text_length
        self.limit_text_length(max_text_length)

    def limit_text_length(self, max_tokens: int | None) -> None:
        """Lower `max_text_length` to what a text tower takes, `model.max_text_tokens`. None changes nothing."""
        self.max_text_length = min(self.max_text_length, max_tokens or self.max_text_length)
        # Other libraries ask the tokenizer, as sentence-transformers does for its `max_seq_length`.
        self.tokenizer.model_max_length = min(self.tokenizer.model_max_length, self.max_text_length)

    @property
    def uses_language_codes(self) -> bool:
        """Whether the tokenizer marks a caption's language by a language code."""
        return isinstance(getattr(self.tokenizer, "src_lang", None), str)

    @property
    def default_language(self) -> str:
        """Language of captions without one: English, unless the tokenizer was made or loaded with another `src_lang`.

        It does not change if `src_lang` is set on the tokenizer later.
        """
        return self.tokenizer.init_kwargs.get("src_lang") or ATRI_LANGUAGES[0]

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: AudioInput | Sequence[AudioInput] | None = None,
        language: str | Sequence[str] | None = None,
        **kwargs: Unpack[AtriProcessorKwargs],
    ) -> BatchFeature:
        """
        Captions, clips, or both, as inputs of `AtriModel`.

        Args:
            text (`str` or list of `str`, *optional*): captions. Names of special tokens in them (`</s>`, `fra_Latn`)
                are read as text.
            audio (*optional*): one clip or a list of clips, in any form that [`~audio_io.load_audio`] takes:
                waveforms at the model's sampling rate, or paths, URLs, `bytes` of a file, file objects, dicts and
                decoders of a `datasets.Audio` column, which are resampled.
            language (`str` or list of `str`, *optional*): one language for all captions, or one per caption, as
                FLORES-200 code (`fra_Latn`), ISO 639 code (`fr`) or English name. Default: `default_language`, which
                is English unless the tokenizer was made for another language.
            sampling_rate (`int`, *optional*): sampling rate of the waveforms, in Hz. Files and dicts carry their own.
            padding (`bool` or `str`, *optional*, defaults to `True`): pad captions to the longest (`True`) or to
                `max_length` (`"max_length"`). Clips are padded to the longest. With `False`, captions must have equal
                numbers of tokens.
            pad_short (`bool`, *optional*, defaults to `False`): zero-pad clips below 0.15 s instead of raising.
            max_length (`int`, *optional*): maximum number of tokens of a caption. Longer captions are truncated before
                the end token. Default: `max_text_length`, or the tokenizer's `model_max_length` if that is smaller.
                More than `max_text_length` is an error.
            return_tensors (`str`, *optional*, defaults to `"pt"`): `"pt"` or `"np"`.
            kwargs: `padding_side` and `pad_to_multiple_of` of the tokenizer, or any of these arguments in one dict per
                kind: `text_kwargs` (which may hold one `language` for all captions), `audio_kwargs`, `common_kwargs`.
                A `padding` and a smaller `max_length` with which the tokenizer was created are its defaults.

        Returns:
            `BatchFeature` with, for `audio`, `input_features` of shape `(clips, frames, feature_size)`, float32, and
            `input_features_mask` of shape `(clips, frames)`, int64; for `text`, `input_ids` and `attention_mask` of
            shape `(captions, tokens)`, int64.

        Raises:
            ValueError: neither text nor audio is given, a language is unknown, languages and captions differ in
                number, a caption is no string, an argument is unknown or given twice, a clip cannot be read, or the
                feature extractor refuses it.
            ImportError: soundfile, which files need, or soxr, which other sampling rates need, is not installed.
        """
        text_kwargs, audio_kwargs, return_tensors = self._arguments(
            kwargs if language is None else kwargs | {"language": language}
        )
        if text is None and audio is None:
            raise ValueError("Neither `text` nor `audio` was given; pass at least one of them.")
        if text is None and language is not None:
            raise ValueError("`language` is the language of captions, but no `text` was given.")
        data = {}
        if audio is not None:
            data.update(self.feature_extractor(audio, **audio_kwargs, return_tensors=return_tensors))
        if text is not None:
            data.update(self._tokenize(text, return_tensors, **text_kwargs))
        return BatchFeature(data)

    def pad(
        self,
        features: Mapping[str, Sequence] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | TensorType = "pt",
    ) -> BatchFeature:
        """
        Stack single clips and captions that were processed before, as collators of transformers do.

        Args:
            features: dicts with `input_features` and `input_features_mask` of a clip, `input_ids` and `attention_mask`
                of a caption, or both, or one dict with lists of them. Other keys, such as `labels`, are only stacked.
            padding, max_length, padding_side, pad_to_multiple_of (*optional*): as in a call, for the captions. Clips
                are padded to the longest.
            return_tensors (`str`, *optional*, defaults to `"pt"`): `"pt"` or `"np"`.

        Returns:
            `BatchFeature` as of a call.

        Raises:
            ValueError: there are neither clips nor captions, a mask does not fit, or a caption is longer than
                `max_length`.
        """
        columns = as_columns(features)
        data: dict[str, Any] = {}
        clips = {name: columns.pop(name) for name in self.feature_extractor.model_input_names if name in columns}
        if clips:
            data.update(self.feature_extractor.pad(clips, return_tensors=return_tensors))
        if "input_ids" in columns:
            ids = [torch.as_tensor(row).flatten() for row in columns.pop("input_ids")]
            masks = columns.pop("attention_mask", map(torch.ones_like, ids))
            rows = [row[torch.as_tensor(mask).flatten().bool()].tolist() for row, mask in zip(ids, masks, strict=True)]
            limit = self._checked_max_length(max_length, True, pad_to_multiple_of)
            if max(map(len, rows)) > limit:
                raise ValueError(
                    f"A caption has {max(map(len, rows))} tokens, more than `max_length` ({limit}). Cut captions when "
                    "they are tokenized: `processor(text=..., max_length=...)`."
                )
            data.update(pad(rows, self.tokenizer, padding, limit, padding_side, pad_to_multiple_of))
        if not data:
            raise ValueError(f"There are no `input_features` and `input_ids` to pad, only {sorted(columns)}.")
        if "attention_mask" in columns:
            raise ValueError(
                "There is an `attention_mask` without `input_ids`. The mask of clips is `input_features_mask`."
            )
        return BatchFeature(data | columns, tensor_type=return_tensors)

    def _arguments(self, kwargs: dict) -> tuple[dict, dict, TensorType]:
        """Arguments for captions, arguments for clips, and the tensor type, from arguments given alone or by kind."""
        kinds = {kind: kwargs.get(kind) or {} for kind in _KINDS}
        flat = {name: value for name, value in kwargs.items() if name not in _KINDS}
        known = {*_TEXT_ARGUMENTS, *_AUDIO_ARGUMENTS, "return_tensors"}
        if unknown := {*flat, *(name for kind in kinds.values() for name in kind)} - known:
            raise ValueError(f"Unknown arguments {sorted(unknown)}; is it `language`, `audio` or `sampling_rate`?")
        for kind in ("text_kwargs", "audio_kwargs"):
            if twice := flat.keys() & kinds[kind].keys():
                raise ValueError(f"{sorted(twice)} came twice, alone and in `{kind}`. Pass each argument once.")
        if not isinstance(kinds["text_kwargs"].get("language"), (str, type(None))):
            # These come through libraries that reorder captions, as sentence-transformers does by length.
            raise ValueError(
                f"`language` in `text_kwargs` is {kinds['text_kwargs']['language']!r}, but must be one language for "
                "all captions. Encode the captions of each language in a separate call, or call the processor "
                "directly with `language=[...]`, one per caption."
            )
        flat = kinds["common_kwargs"] | flat
        text, audio = flat | kinds["text_kwargs"], flat | kinds["audio_kwargs"]
        return_tensors = text.get("return_tensors") or audio.get("return_tensors") or "pt"
        text = {name: text[name] for name in _TEXT_ARGUMENTS if name in text}
        audio = {name: audio[name] for name in _AUDIO_ARGUMENTS if name in audio}
        return text, audio, TensorType(return_tensors)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | PathLike, *args: Any, trust_remote_code: bool | None = None, **kwargs
    ) -> "AtriProcessor":
        """Same as in transformers. `trust_remote_code=True` also loads an extractor with code in the repository."""
        if not trust_remote_code:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        with trusting(pretrained_model_name_or_path, kwargs):
            return super().from_pretrained(pretrained_model_name_or_path, *args, trust_remote_code=True, **kwargs)

    def to_json_file(self, json_file_path: str | PathLike, *args: Any, **kwargs: Any) -> None:
        """Save as JSON, with the code of an extractor that came from a repository beside it."""
        super().to_json_file(json_file_path, *args, **kwargs)
        if hasattr(self.feature_extractor, "save_code_beside"):
            self.feature_extractor.save_code_beside(json_file_path)

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs) -> list[str]:
        files = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        vars(self).pop("auto_map", None)  # transformers leaves it behind, and saving must not change the processor
        return files

    def _tokenize(
        self,
        text: str | Sequence[str],
        return_tensors: TensorType,
        language: str | Sequence[str] | None = None,
        padding: bool | str | None = None,
        max_length: int | None = None,
        truncation: bool | str = True,
        padding_side: str | None = None,
        pad_to_multiple_of: int | None = None,
    ) -> dict:
        captions = as_list_of_captions(text)
        if padding is None:
            padding = self.tokenizer.init_kwargs.get("padding", True)
        max_length = self._checked_max_length(max_length, truncation, pad_to_multiple_of)
        language_ids = self._language_ids(language, len(captions))
        if self.normalize_text:
            captions = [normalize_caption(caption) for caption in captions]
        rows = tokenize(self.tokenizer, captions, max_length)
        if language_ids is not None:
            rows = [[code, *row[1:]] for code, row in zip(language_ids, rows, strict=True)]
        tokens = pad(rows, self.tokenizer, padding, max_length, padding_side, pad_to_multiple_of)
        if return_tensors is TensorType.NUMPY:
            return {key: value.numpy() for key, value in tokens.items()}
        return tokens

    def _checked_max_length(self, max_length: int | None, truncation: bool | str, multiple: int | None) -> int:
        """Maximum number of tokens of a caption."""
        if truncation not in (True, "longest_first", "only_first"):
            raise ValueError(
                f"`truncation` is {truncation!r}, but captions are always truncated to `max_length` tokens."
            )
        if max_length is None:
            max_length = min(self.max_text_length, self.tokenizer.model_max_length)
            max_length = min(max_length, self.tokenizer.init_kwargs.get("max_length") or max_length)
            max_length -= max_length % (multiple or 1)
        if max_length > self.max_text_length:
            raise ValueError(
                f"`max_length` is {max_length}, but captions have at most {self.max_text_length} tokens "
                "(`max_text_length` of the processor, the limit of the text tower). Lower it, or leave it out."
            )
        num_special_tokens = self.tokenizer.num_special_tokens_to_add()
        if max_length <= num_special_tokens:  # the tokenizer would not truncate at all, or leave no word
            raise ValueError(
                f"`max_length` is {max_length}, which leaves no token for the caption beside {num_special_tokens} "
                "special tokens. Please raise it."
            )
        return max_length

    def _language_ids(self, language: str | Sequence[str] | None, num_captions: int) -> list[int] | None:
        """Token ids of the captions' language codes; None if the tokenizer has none."""
        languages = one_language_each(self.default_language if language is None else language, num_captions, "caption")
        id_of: dict[str, Any] = {name: self.language_id(name) for name in set(languages)}
        return [id_of[name] for name in languages] if self.uses_language_codes else None

    def language_id(self, language: str) -> int | None:
        """Token id of a language's code; None if the tokenizer has no language codes.

        Raises:
            ValueError: the language is unknown, or this tokenizer was trained without it.
        """
        code = resolve_language(language)
        if not self.uses_language_codes:
            return None
        token_id = self.tokenizer.convert_tokens_to_ids(code)
        if token_id is None or token_id == self.tokenizer.unk_token_id:
            known = list(filter(is_language_code, self.tokenizer.all_special_tokens))
            near = get_close_matches(code, known, n=1, cutoff=0.85)
            raise ValueError(
                f"The tokenizer has no code for {language!r} ({code}). "
                f"{f'Did you mean {near[0]}? ' if near else ''}It has: {', '.join(known)}. Use one of these, or a "
                "model whose tokenizer was trained with that language."
            )
        return token_id

    @property
    def model_input_names(self) -> list[str]:
        return ["input_features", "input_features_mask", "input_ids", "attention_mask"]


def as_list_of_captions(text: str | Sequence[str]) -> list[str]:
    """One caption or several, as a list; a ValueError if there is none or one is not a string."""
    captions = [text] if isinstance(text, str) else list(text)
    if not captions:
        raise ValueError("No caption was given: `text` is an empty list.")
    for index, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise ValueError(f"Caption {index} is a {type(caption).__name__}, not a string: {caption!r}.")
    return captions


AtriProcessor.register_for_auto_class()
if not IS_REMOTE_CODE:
    AutoProcessor.register(AtriConfig, AtriProcessor, exist_ok=True)

__all__ = ["AtriProcessor"]
