"""What a model finds for the queries: ranks of the right scenes, and the scene that ranks first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from teaching_study.use_text import UseTextConfig

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.encode import encode_text
from modeling_atri.search.questions import Question
from modeling_atri.trainer.data.text_cache import TextCache
from modeling_atri.trainer.metrics import text_to_audio_ranks

from .rules import FORMS, Query, scene_triples


CAPTIONS = "captions"  # the scenes' own captions, to compare with
TYPED, ALONE, SUBTRACTED = "typed", "alone", "subtracted"
Vectors = dict[str, np.ndarray]  # by language: (texts, width)


@dataclass(frozen=True)
class Answers:
    """What is found for all texts of a form.

    Args:
        form: a key of `FORMS`, or `CAPTIONS`.
        way: `TYPED`; or, for the form `without`, `ALONE`, which asks for the sound without saying what is to be
            absent, or `SUBTRACTED`, as `SoundIndex.search` does with the argument `without`.
        ranks: array `(languages, texts)` of the rank of the best right scene among all that are wrong.
        first: array `(languages, texts)` of the place of the scene that ranks first.
        r_precision: of the first R scenes, the share that is right, where R is the number of right scenes; the mean
            over texts and languages.
    """

    form: str
    way: str
    ranks: np.ndarray
    first: np.ndarray
    r_precision: float


def in_order(scenes: Sequence[dict[str, Any]], queries: Sequence[Query]) -> list[dict[str, Any]]:
    """The scenes in the order of `scene_triples`, in which the answers count them."""
    places = {triple: place for place, triple in enumerate(scene_triples(queries))}
    return sorted(scenes, key=lambda scene: places[scene["triple"]])


def ask(
    model: AtriModel,
    processor: AtriProcessor,
    sounds: np.ndarray,
    scenes: Sequence[Mapping[str, Any]],
    queries: Sequence[Query],
    states: Path,
) -> list[Answers]:
    """Ask a model all queries and all captions of the scenes.

    Args:
        model, processor: the model.
        sounds: array `(scenes, width)`, the embeddings of the scenes.
        scenes: lines of the scenes' metadata, one for each of `scene_triples`, in that order.
        queries: the queries.
        states: folder in which the states of captions of a frozen pretrained text encoder are kept.
    """
    triples = [scene["triple"] for scene in scenes]
    if triples != scene_triples(queries):
        raise ValueError("The scenes must be all of one sound or two, once each, in the order of `scene_triples`.")
    texts = {CAPTIONS: _captions(scenes)} | {form: _texts(queries, form) for form in FORMS}
    vectors = {form: _embed(model, processor, of_form, states) for form, of_form in texts.items()}
    right = {CAPTIONS: [[row] for row, scene in enumerate(scenes) for _ in next(iter(scene["captions"].values()))]}
    right |= {form: _right(queries, form, triples) for form in FORMS}
    found = [_answers(form, TYPED, of_form, right[form], sounds) for form, of_form in vectors.items()]
    for way, of_way in _without(queries, vectors["word"]).items():
        found.append(_answers("without", way, of_way, right["without"], sounds))
    return found


def _captions(scenes: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    return {code: [text for scene in scenes for text in scene["captions"][code]] for code in scenes[0]["captions"]}


def _texts(queries: Sequence[Query], form: str) -> dict[str, list[str]]:
    """All wordings of the queries of a form, by language."""
    of_form = [query for query in queries if query.form == form]
    return {code: [text for query in of_form for text in query.texts[code]] for code in of_form[0].texts}


def _right(queries: Sequence[Query], form: str, triples: Sequence[str]) -> list[list[int]]:
    """The rows of the right scenes of each text."""
    rows = []
    for query in queries:
        if query.form == form:
            fitting = [row for row, triple in enumerate(triples) if query.fits(triple)]
            rows += [fitting] * len(next(iter(query.texts.values())))
    return rows


def _embed(model: AtriModel, processor: AtriProcessor, texts: Mapping[str, list[str]], states: Path) -> Vectors:
    if not isinstance(model.config.text_config, UseTextConfig):
        return {code: encode_text(model, processor, of_language, code) for code, of_language in texts.items()}
    cache = TextCache(model, states)  # the states are the same for all models with this encoder
    vectors = {}
    for code, of_language in texts.items():
        pooled = cache(**processor(text=of_language))
        vectors[code] = model(text_pooler_output=pooled).text_embeds.detach().numpy()
    cache.close()
    return vectors


def _without(queries: Sequence[Query], words: Vectors) -> dict[str, Vectors]:
    """Vectors of the queries without a sound that are made of the bare nouns, each way by language."""
    of_words = [query for query in queries if query.form == "word"]
    per_word = len(next(iter(of_words[0].texts.values())))
    places = {query.has[0]: number * per_word for number, query in enumerate(of_words)}
    pairs = [(places[query.has[0]], places[query.lacks[0]]) for query in queries if query.form == "without"]
    return {
        ALONE: {code: np.stack([nouns[a] for a, _ in pairs]) for code, nouns in words.items()},
        SUBTRACTED: {
            code: np.stack([Question(nouns[a], absent=nouns[b]).direction[0] for a, b in pairs])
            for code, nouns in words.items()
        },
    }


def _answers(form: str, way: str, vectors: Vectors, right: list[list[int]], sounds: np.ndarray) -> Answers:
    scores = np.stack([of_language @ sounds.T for of_language in vectors.values()])  # (languages, texts, scenes)
    order = np.argsort(-scores, axis=2, kind="stable")
    is_right = np.zeros(scores.shape[1:], dtype=bool)
    for row, places in zip(is_right, right, strict=True):
        row[places] = True
    ranked = np.take_along_axis(is_right[None], order, axis=2)
    num_right = is_right.sum(axis=1)
    among_first = ranked & (np.arange(scores.shape[2]) < num_right[:, None])
    ranks = [text_to_audio_ranks(sounds, of_language, right) for of_language in vectors.values()]
    precision = float((among_first.sum(axis=2) / num_right).mean())
    return Answers(form, way, np.stack(ranks), order[:, :, 0], precision)
