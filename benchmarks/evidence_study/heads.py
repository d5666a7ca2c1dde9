"""Runs that train heads alone: the sounds are embedded once, and the text encoder is frozen.

The steps need no tower, so they take a few milliseconds. Draws, losses, optimizer and schedule are those of
[`AtriTrainer`], which gives the same model in several times the time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.data.batches import EpochBatchSampler
from modeling_atri.trainer.data.draws import Draw, number_of
from modeling_atri.trainer.data.text_cache import TextCache
from modeling_atri.trainer.evaluation.retrieval import RetrievalEmbeddings


Caption = tuple[str, str]  # language and text

CAPTIONS_AT_ONCE = 512


@dataclass(frozen=True)
class States:
    """What the towers say of the scenes of a set.

    Args:
        audio: the stored embedding of each sound, `(scenes, width)`.
        text: the state of each distinct caption of a language, `(captions, hidden_size)`.
        places: for each scene, by language, the rows of its captions in `text`.
        groups: the number of each scene's group, `(scenes,)`.
    """

    audio: Tensor
    text: Tensor
    places: list[dict[str, list[int]]]
    groups: Tensor

    def captions(self, languages: Sequence[Sequence[str]], scenes: Sequence[int], numbers: Sequence[int]) -> Tensor:
        """States of a caption of each scene, `(languages, scenes, hidden_size)`.

        Args:
            languages: rows of the languages of the scenes' captions.
            scenes: numbers of the scenes.
            numbers: for each scene, the number of its caption.
        """
        return torch.stack(
            [
                self.text[
                    [
                        self.places[scene][language][number]
                        for scene, language, number in zip(scenes, row, numbers, strict=True)
                    ]
                ]
                for row in languages
            ]
        )


def states_of(rows: Any, encode: Callable[[list[Caption]], Tensor]) -> States:
    """The states of rows with stored embeddings, in the order of the rows.

    Args:
        rows: rows of `load_rows`.
        encode: gives the states of captions, `(captions, hidden_size)`.
    """
    numbers: dict[Caption, int] = {}

    def places_of(captions: dict[str, list[str]]) -> dict[str, list[int]]:
        return {
            language: [numbers.setdefault((language, caption), len(numbers)) for caption in captions[language]]
            for language in ATRI_LANGUAGES
        }

    light = rows.with_format(None)
    places = [places_of(captions) for captions in light["captions"]]
    audio = torch.from_numpy(np.stack([row["audio_embedding"] for row in rows]).astype(np.float32))
    groups = torch.tensor([number_of(str(group)) for group in light["group_id"]])
    return States(audio, encode([*numbers]), places, groups)


def encoded_captions(captions: list[Caption], model: AtriModel, processor: AtriProcessor, cache_folder: str) -> Tensor:
    """The states of captions by a model's frozen text tower, which are kept in a folder, `(captions, hidden_size)`."""
    cache = TextCache(model, cache_folder)
    blocks = []
    for start in range(0, len(captions), CAPTIONS_AT_ONCE):
        languages, texts = zip(*captions[start : start + CAPTIONS_AT_ONCE], strict=True)
        blocks.append(cache(**processor(text=texts, language=languages)))
    cache.close()
    return torch.cat(blocks)


@dataclass(frozen=True)
class HeadsRun:
    """A run that trains the heads of a model.

    Args:
        trainer: a trainer with the model, the arguments and the loss, which does not train itself.
        states: the states of its training rows, in their order.
    """

    trainer: AtriTrainer
    states: States

    @property
    def _model(self) -> AtriModel:
        return self.trainer.atri_model

    def train(self) -> float:
        """Train, and return the loss of the last step."""
        args = self.trainer.args
        self.trainer.create_optimizer_and_scheduler(args.max_steps)
        optimizer, scheduler = self.trainer.optimizer, self.trainer.lr_scheduler
        teacher = self._embed_text(self.states.text).detach() if args.objective == "teach" else None
        sampler = EpochBatchSampler(
            len(self.states.groups),
            args.per_device_train_batch_size,
            seed=args.seed,
            drop_last=args.dataloader_drop_last,
        )
        loss = torch.tensor(0.0)
        for step in range(args.max_steps):
            if step % len(sampler) == 0:
                sampler.set_epoch(step // len(sampler))
                batches = iter(sampler)
            loss = self._loss(next(batches), teacher)
            loss.backward()
            nn.utils.clip_grad_norm_(self._model.parameters(), args.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        return loss.item()

    def embeddings(self, states: States) -> RetrievalEmbeddings:
        """Embeddings of an evaluation set: its sounds, and all captions in each language."""
        with torch.no_grad():
            text = self._embed_text(states.text).numpy()
            audio = self._embed_audio(states.audio).numpy()
        rows = {
            language: np.array([place for of_scene in states.places for place in of_scene[language]])
            for language in ATRI_LANGUAGES
        }
        return RetrievalEmbeddings(audio, {language: text[of_language] for language, of_language in rows.items()})

    def _loss(self, draws: list[Draw], teacher: Tensor | None) -> Tensor:
        language_draws = self.trainer.args.language_draws
        scenes = [draw.item for draw in draws]
        languages = language_draws.languages_of(draws)
        places = [self.states.places[scene] for scene in scenes]
        numbers = [
            language_draws.caption_index(len(of_scene[language_draws.anchor]), draw)
            for of_scene, draw in zip(places, draws, strict=True)
        ]
        inputs: dict[str, Any] = {"group_ids": self.states.groups[scenes], "languages": languages}
        if teacher is not None:
            anchors = [of_scene[language_draws.anchor] for of_scene in places]
            inputs["teacher_embeds"] = teacher[
                [of_scene[number] for of_scene, number in zip(anchors, numbers, strict=True)]
            ]
        text = self._embed_text(self.states.captions(languages, scenes, numbers))
        return self.trainer.compute_loss_from_embeddings(self._embed_audio(self.states.audio[scenes]), text, inputs)

    def _embed_text(self, states: Tensor) -> Tensor:
        return F.normalize(self._model.text_projection(states), dim=-1)

    def _embed_audio(self, stored: Tensor) -> Tensor:
        """Stored embeddings as they are if a teacher made them, and through the head if the model has no tower."""
        if self.trainer.args.objective == "teach":
            return stored
        return F.normalize(self._model.audio_projection(stored), dim=-1)
