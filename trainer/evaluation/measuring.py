"""A trainer's model measured: its work shared by all processes, its figures kept with what made them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate.utils import gather_object

from modeling_atri.corpora.rows.bad_rows import LEFT_OUT_NAME, BadRow, write_bad_rows
from modeling_atri.hub_cards.environment import describe_environment, make_results

from ..publishing.facts import evaluation_facts, merge_facts, model_facts, training_facts
from .retrieval import RetrievalEmbeddings, RetrievalSet, embed_retrieval_set, leave_out_unreadable, retrieval_table


if TYPE_CHECKING:
    from ..trainer import AtriTrainer


def measure(
    trainer: "AtriTrainer", rows: Sequence[dict], prefix: str = "eval", left_out: Sequence[BadRow] = ()
) -> dict[str, Any]:
    """Figures of the model as it is now on rows, with the data, the training and the environment behind them.

    They are kept under `prefix` for [`current_results`]. What is left out of the set, beforehand (`left_out`) or, with
    `on_bad_row="skip"`, since its recording cannot be read, is counted in them, and listed in the output folder's
    `{prefix}_left_out.jsonl`.
    """
    retrieval_set = RetrievalSet.from_rows(rows, trainer.args.languages)
    embeddings = embed_on_all_processes(trainer, retrieval_set, skip_unreadable=trainer.args.on_bad_row == "skip")
    retrieval_set, embeddings, unreadable = leave_out_unreadable(retrieval_set, embeddings)
    for listener in trainer.embedding_listeners:
        listener(prefix, retrieval_set, embeddings)
    left_out = [*left_out, *unreadable]
    if trainer.is_world_process_zero():
        write_bad_rows(Path(trainer.args.output_dir) / f"{prefix}_{LEFT_OUT_NAME}", left_out)
    table = retrieval_table(embeddings, retrieval_set.positives, trainer.args.anchor_language)
    training = training_facts(trainer)
    facts = {
        "evaluated_on": evaluation_facts(retrieval_set, trainer.args.anchor_language, left_out),
        "model": model_facts(trainer.accelerator.unwrap_model(trainer.model)),
        "training": training,
        "environment": describe_environment(trainer.args.device),
    }
    results = make_results(table, **merge_facts(facts, trainer.facts))
    trainer.measured[prefix] = training, results
    return results


def current_results(trainer: "AtriTrainer") -> dict[str, Any] | None:
    """The first results of the model as it is now; None where it was trained on since it was measured."""
    now = training_facts(trainer)
    return next((results for training, results in trainer.measured.values() if training == now), None)


def embed_on_all_processes(
    trainer: "AtriTrainer", retrieval_set: RetrievalSet, skip_unreadable: bool = False
) -> RetrievalEmbeddings:
    """Embeddings of a set, the work shared by all processes; all get the whole."""
    rank, world_size = trainer.args.process_index, trainer.args.world_size
    own = embed_retrieval_set(
        trainer.atri_model,
        trainer.processor,
        retrieval_set,
        batch_size=trainer.args.per_device_eval_batch_size,
        read_features=trainer.feature_cache,
        progress=not trainer.args.disable_tqdm and trainer.is_world_process_zero(),
        part=(rank, world_size),
        skip_unreadable=skip_unreadable,
    )
    if world_size == 1:
        return own
    parts = gather_object([own])
    return RetrievalEmbeddings(
        audio=_interleave([part.audio for part in parts]),
        text={language: _interleave([part.text[language] for part in parts]) for language in own.text},
        unreadable={index: problem for part in parts for index, problem in part.unreadable.items()},
    )


def _interleave(parts: list[np.ndarray]) -> np.ndarray:
    """Undo `rows[rank::world_size]`."""
    whole = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
