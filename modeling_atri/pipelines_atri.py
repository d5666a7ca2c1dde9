"""Pipelines: embeddings of sounds and captions, retrieval between them, and classification in any language.

The pipelines are registered with transformers when `modeling_atri` is imported. They are also saved with every model:
its configuration names them (`custom_pipelines`), and this file is copied beside the weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.zero_shot_audio_classification import ZeroShotAudioClassificationPipeline

from .languages_atri import language_name, one_language_each, resolve_language
from .pipeline_base_atri import TEXT_BATCH_SIZE, AtriPipeline, Modality, apply_to_embeddings, as_list, name_of
from .top_k_atri import best_matches, best_places, check_top_k, float32_rows


# The default sentence of transformers' own pipeline, in the eight languages of the paper
HYPOTHESIS_TEMPLATES = {
    "eng_Latn": "This is a sound of {}.",
    "fra_Latn": "C'est un son de {}.",
    "deu_Latn": "Das ist ein Geräusch von {}.",
    "spa_Latn": "Este es un sonido de {}.",
    "nld_Latn": "Dit is een geluid van {}.",
    "cat_Latn": "Aquest és un so de {}.",
    "jpn_Jpan": "これは{}の音です。",
    "zho_Hans": "这是{}的声音。",
}


class AtriAudioTextFeatureExtractionPipeline(AtriPipeline):
    """Embeddings of sounds and captions, ready for a dot product."""

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """
        Embed one input or many.

        Args:
            inputs: one input, or a list, a generator or a data set (`KeyDataset`) of inputs. An input is
                - a sound of at least 0.15 s, in any form that [`~audio_io.load_audio`] takes: path, URL,
                  `bytes` of a file, file object, dict, decoder, or waveform (numpy array or tensor);
                - a caption: a string. A string that looks like the name of a sound file (`dog.wav`) or a URL is taken
                  for a sound;
                - `{"audio": sound}` or `{"text": caption, "language": "fr"}`, which are never ambiguous.
            modality (`str`, *optional*): `"audio"` or `"text"`, the kind of all inputs, for ambiguous strings.
            language (`str` or list of `str`, *optional*): one language for all captions, or one per caption of a
                list. Default: `processor.default_language`, which is English for most models.
            sampling_rate (`int`, *optional*): sampling rate of waveforms, in hertz (Hz). Default: the model's.
            pad_short (`bool`, *optional*, defaults to `False`): zero-pad clips below 0.15 s instead of raising.
            return_tensors (`str` or `bool`, *optional*): `"np"` (default), or `"pt"` or `True` for tensors.
            batch_size (`int`, *optional*, defaults to 1): inputs per forward pass. Above 1, do not mix sounds with
                captions.

        Returns:
            For one input an array of shape `(projection_dim,)`, float32, L2-normalised; for a list a list of arrays;
            for a generator or data set an iterator. The batch size changes nothing beyond rounding (1e-6).

        Raises:
            ValueError: an input cannot be read, or a language or argument is unknown.
        """
        return self._encode(inputs, **kwargs)

    def _sanitize_parameters(self, return_tensors: str | bool | None = None, **kwargs: Any) -> tuple[dict, dict, dict]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        if return_tensors not in (None, False, True, "np", "pt"):
            raise ValueError(f"`return_tensors` must be 'np' or 'pt', got {return_tensors!r}.")
        if return_tensors is not None:
            postprocess["as_tensor"] = return_tensors in (True, "pt")
        return preprocess, forward, postprocess

    def postprocess(self, outputs: Mapping[str, Tensor], as_tensor: bool = False) -> np.ndarray | Tensor:
        return outputs["embedding"][0] if as_tensor else super().postprocess(outputs)


class AtriAudioTextRetrievalPipeline(AtriPipeline):
    """
    The sounds that match a text, or the texts that match a sound, best first.

    Args:
        top_k (`int`, *optional*, defaults to 10): results per query.
    """

    def __init__(self, *args: Any, top_k: int = 10, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.top_k = check_top_k(top_k)

    def encode_audio(self, audios: Any, **kwargs: Any) -> np.ndarray:
        """Embeddings of sounds, `(n, projection_dim)` float32; `kwargs` are those of a call, such as `batch_size`."""
        return self._encode_all(audios, "audio", **kwargs)

    def encode_text(self, texts: Any, language: str | Sequence[str] | None = None, **kwargs: Any) -> np.ndarray:
        """Embeddings of texts, `(n, projection_dim)` float32; `kwargs` are those of a call, such as `batch_size`."""
        return self._encode_all(texts, "text", language=language, **kwargs)

    def __call__(
        self,
        queries: Any,
        audios: Any = None,
        texts: Any = None,
        language: str | Sequence[str] | None = None,
        top_k: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Search `audios` with texts, or `texts` with sounds.

        Args:
            queries: texts to search `audios` with, or sounds to search `texts` with: one query, or a list, a generator
                or a data set of queries, or their embeddings of shape `(q, projection_dim)`. Sounds have the forms
                that [`AtriAudioTextFeatureExtractionPipeline`] takes.
            audios (*optional*): sounds to search: a list, generator or data set, or the embeddings that `encode_audio`
                returns, of shape `(n, projection_dim)`, L2-normalised, numpy (also mapped from a file) or torch, in
                any float type. They are read once for all queries of a list, and never copied as a whole.
            texts (*optional*): texts to search: a list, or the embeddings that `encode_text` returns.
            language (`str` or list of `str`, *optional*): language of the texts, be they queries or searched: one for
                all, or one per text. Default: `processor.default_language`, which is English for most models.
            top_k (`int`, *optional*): results per query, or all if there are fewer. Default: that of the pipeline, 10.
            kwargs: `batch_size`, `sampling_rate` and `pad_short`, see [`AtriAudioTextFeatureExtractionPipeline`].

        Returns:
            For one query a list of dicts, best first, equal scores in the order given: `index` (`int`), `score`
            (`float`, cosine similarity), and the match itself if it has a name: `audio` (its path as a string) or
            `text`. For a list of queries a list of such lists; for a generator or data set an iterator.

        Raises:
            ValueError: both or none of `audios` and `texts` are given, there is nothing to search, embeddings have
                another width, or hold NaN or infinity, a language is unknown, or an input cannot be read.
        """
        if (audios is None) == (texts is None):
            raise ValueError("Pass either `audios` (to search with texts) or `texts` (to search with sounds).")
        top_k = self.top_k if top_k is None else check_top_k(top_k)
        if texts is None:
            modality, candidates, query_modality, query_language = "audio", as_list(audios), "text", language
            embeddings = self._embeddings_of(candidates, modality, **kwargs)
        else:
            modality, candidates, query_modality, query_language = "text", as_list(texts), "audio", None
            embeddings = self._embeddings_of(candidates, modality, language=language, **kwargs)
        names = [name_of(item, modality) for item in candidates] if isinstance(candidates, list) else None

        def search(queries: np.ndarray) -> list[list[dict[str, Any]]]:
            return [
                [
                    {"index": index, "score": score} | ({modality: names[index]} if names and names[index] else {})
                    for index, score in best
                ]
                for best in best_matches(queries, embeddings, top_k)
            ]

        if _is_matrix(queries):
            return search(float32_rows(self._embeddings_of(queries, query_modality), slice(None)))
        if query_modality == "text":
            kwargs.setdefault("batch_size", self._batch_size or TEXT_BATCH_SIZE)
        return apply_to_embeddings(search, self._encode(queries, query_language, modality=query_modality, **kwargs))

    def _embeddings_of(self, items: Any, modality: Modality, **kwargs: Any) -> np.ndarray | Tensor:
        """`items` themselves if they are embeddings, otherwise their embeddings.

        Embeddings are not copied, and their numbers are not looked at: the search does both in passing.
        """
        if not _is_matrix(items):
            return self._encode_all(items, modality, **kwargs)
        width = self.model.config.projection_dim
        is_float = items.is_floating_point() if isinstance(items, Tensor) else np.issubdtype(items.dtype, np.floating)
        if items.shape[1] != width or len(items) == 0 or not is_float:
            raise ValueError(
                f"Embeddings must be floats of shape (n, {width}), n at least 1; got {items.dtype} of shape "
                f"{tuple(items.shape)}. Sounds go in as a list of waveforms."
            )
        return items


class AtriZeroShotAudioClassificationPipeline(AtriPipeline, ZeroShotAudioClassificationPipeline):
    """
    Classification of sounds with labels in any language.

    This is transformers' pipeline of that name, with `language` and without ffmpeg. Each label is put into a sentence
    in its language, and the sentences are encoded once per call. Without `language` the scores equal those of
    transformers' own pipeline. With the package installed, pass this class to `transformers.pipeline` as
    `pipeline_class`, because the task alone selects transformers' own class, which ignores `language` and reads files
    with ffmpeg. Without the package, `trust_remote_code=True` selects this class.

    Args:
        candidate_labels, language, hypothesis_template, top_k: defaults of the arguments of a call.
    """

    def __init__(
        self,
        *args: Any,
        candidate_labels: Sequence[str] | None = None,
        language: str | Sequence[str] | None = None,
        hypothesis_template: str | None = None,
        top_k: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.candidate_labels = candidate_labels
        self.language = language
        self.hypothesis_template = hypothesis_template
        self.top_k = top_k

    def __call__(
        self,
        audios: Any,
        candidate_labels: Sequence[str] | None = None,
        language: str | Sequence[str] | None = None,
        hypothesis_template: str | None = None,
        top_k: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Score how well each label matches a sound.

        Args:
            audios: one sound, or a list, a generator or a data set of sounds in any form that
                [`~audio_io.load_audio`] takes. A string is a path or URL.
            candidate_labels (list of `str`): the labels.
            language (`str` or list of `str`, *optional*): one language for all labels, or one per label, as FLORES-200
                code (`fra_Latn`), ISO 639 code (`fr`) or English name. Default: `processor.default_language`, which
                is English for most models.
            hypothesis_template (`str`, *optional*): a sentence for all labels, with `{}` in place of the label; `"{}"`
                for the label alone. Default: the sentence in `HYPOTHESIS_TEMPLATES` for each label's language.
                Required for other languages.
            top_k (`int`, *optional*): labels to return, best first. Default: all.
            kwargs: `batch_size`, `sampling_rate` and `pad_short`, see [`AtriAudioTextFeatureExtractionPipeline`].

        Returns:
            For one sound a list of dicts, best first: `score` (`float`, softmax of `logits_per_audio` over all
            labels) and `label`. For a list of sounds a list of such lists; for a generator or data set an iterator.

        Raises:
            ValueError: there are no labels, a language is unknown or has no sentence, a sentence lacks `{}`, languages
                and labels differ in number, or a sound cannot be read.
        """
        labels = _checked_labels(self.candidate_labels if candidate_labels is None else candidate_labels)
        languages = self._languages(self.language if language is None else language, len(labels))
        template = self.hypothesis_template if hypothesis_template is None else hypothesis_template
        texts = [_fill_template(*pair, template) for pair in zip(labels, languages, strict=True)]
        top_k = self.top_k if top_k is None else top_k
        num_results = len(labels) if top_k is None else min(check_top_k(top_k), len(labels))
        label_embeds = torch.from_numpy(self._encode_all(texts, "text", language=languages))
        scale = self.model.logit_scale.detach().float().exp().cpu()

        def classify(embeddings: np.ndarray) -> list[list[dict[str, Any]]]:
            scores = (scale * (torch.from_numpy(embeddings) @ label_embeds.T)).softmax(dim=-1).numpy()
            return [
                [{"score": row[place].item(), "label": labels[place]} for place in best_places(row, num_results)]
                for row in scores
            ]

        return apply_to_embeddings(classify, self._encode(audios, modality="audio", **kwargs))

    def _languages(self, language: str | Sequence[str] | None, num_labels: int) -> list[str]:
        """A FLORES-200 code for each label."""
        if language is None:
            language = self.processor.default_language
        return [resolve_language(name) for name in one_language_each(language, num_labels, "label")]


def register_pipelines() -> None:
    """Register ATRI's own two tasks with `transformers.pipeline`. transformers' tasks stay as they are."""
    for task, pipeline_class in (
        ("audio-text-feature-extraction", AtriAudioTextFeatureExtractionPipeline),
        ("audio-text-retrieval", AtriAudioTextRetrievalPipeline),
    ):
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class=pipeline_class, pt_model=AutoModel, type="multimodal")


def _is_matrix(value: Any) -> bool:
    return isinstance(value, (np.ndarray, Tensor)) and value.ndim == 2


def _checked_labels(labels: Sequence[str] | None) -> list[str]:
    if labels is None or isinstance(labels, str) or len(labels) == 0:
        raise ValueError(f"`candidate_labels` must be a list of at least one label, got {labels!r}.")
    for label in labels:
        if not isinstance(label, str):
            raise ValueError(f"Every one of `candidate_labels` must be a string, but {label!r} is not.")
    return list(labels)


def _fill_template(label: str, language: str, template: str | None) -> str:
    if template is None:
        template = HYPOTHESIS_TEMPLATES.get(language)
        if template is None:
            raise ValueError(
                f"There is no sentence for labels in {language_name(language)} ({language}), only in "
                f"{', '.join(HYPOTHESIS_TEMPLATES)}. Pass `hypothesis_template`: a sentence in that language with "
                "{} where the label goes, or '{}' for the bare label."
            )
    if "{}" not in template:
        raise ValueError(f"`hypothesis_template` must have {{}} where the label goes, got {template!r}.")
    return template.replace("{}", label)


__all__ = [
    "HYPOTHESIS_TEMPLATES",
    "AtriAudioTextFeatureExtractionPipeline",
    "AtriAudioTextRetrievalPipeline",
    "AtriZeroShotAudioClassificationPipeline",
    "register_pipelines",
]
