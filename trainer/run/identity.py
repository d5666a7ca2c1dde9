"""Identity of a run: its name, and the arguments and data that decide its outcome."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import datasets

from modeling_atri.corpora.rows.kept.arrow_digest import arrow_digest
from modeling_atri.corpora.rows.kept.facts import facts_of
from modeling_atri.corpora.rows.plain_rows import CheckedRows

from ..arguments import AtriTrainingArguments
from ..data.batches import without_audio
from ..data.streams.training_stream import TrainingStream, num_rows_of
from .manifest import read_manifest


logger = logging.getLogger(__name__)

_RUN_ARGUMENTS = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "optim", "max_grad_norm"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "num_train_epochs", "max_steps", "seed", "data_seed"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "dataloader_drop_last", "bf16", "fp16"),
)
_NOT_OF_THE_RUN = {
    *("output_dir", "resume_from_checkpoint", "feature_cache_dir", "feature_cache_max_gb", "text_cache_dir"),
    "teacher",  # another one is refused, by its fingerprint
    *("remove_unused_columns", "logging_nan_inf_filter"),
}
_COLUMNS = ["audio_id", "captions", "group_id"]


def run_facts(
    args: AtriTrainingArguments, rows: Sequence[dict] | TrainingStream, checkpoint: str | None
) -> dict[str, Any]:
    """Facts for the manifests of a run: its name `run`, which a resumed run keeps, its `arguments` and its `data`.

    A run on a stream also has the name of its `stream`.
    """
    before = read_manifest(Path(checkpoint)) if checkpoint else {}
    facts = {"run": before.get("run") or uuid4().hex, "arguments": run_arguments(args, num_rows_of(rows))}
    if isinstance(rows, TrainingStream):
        return facts | {"data": rows.digest(), "stream": rows.name}
    # Runs of earlier versions have a digest of another kind, which is slow to compute.
    if before.get("data") is not None and "data_digest" not in before and not _is_soundless(rows):
        return facts | {"data": _digest_by_row(rows)}
    return facts | {"data": data_digest(rows), "data_digest": "by column"}


def run_arguments(args: AtriTrainingArguments, num_clips: int | None) -> dict[str, Any]:
    """Arguments and number of clips that decide the outcome of training, as they are read back from JSON."""
    given = args.to_dict()
    own = [name for name in AtriTrainingArguments.__annotations__ if name not in _NOT_OF_THE_RUN]
    chosen = {name: given[name] for name in dict.fromkeys([*own, *_RUN_ARGUMENTS])}
    return json.loads(json.dumps(chosen | {"processes": args.world_size, "training clips": num_clips}))


def data_digest(rows: Sequence[dict]) -> str | None:
    """Digest of ids, captions and groups in their order; None if reading a row may decode its recording."""
    if not isinstance(rows, (list, tuple, datasets.Dataset, CheckedRows)):
        return None
    if not isinstance(rows, datasets.Dataset):
        texts = ({name: row.get(name) for name in _COLUMNS} for row in without_audio(rows))
        return arrow_digest(datasets.Dataset.from_list(list(texts)))
    facts = facts_of(rows)
    known = None if facts is None else facts.digest
    return known or arrow_digest(rows.with_format(None).select_columns(_COLUMNS))


def _is_soundless(rows: Sequence[dict]) -> bool:
    return isinstance(rows, datasets.Dataset) and "audio" not in rows.column_names


def _digest_by_row(rows: Sequence[dict]) -> str | None:
    """The digest that earlier versions made of rows with recordings."""
    if not isinstance(rows, (list, tuple, datasets.Dataset, CheckedRows)):
        return None
    digest = hashlib.blake2b(digest_size=16)
    for row in without_audio(rows):
        digest.update(json.dumps([row.get(name) for name in _COLUMNS], sort_keys=True, default=repr).encode())
    return digest.hexdigest()


def warn_of_other_run(checkpoint: str, facts: dict[str, Any]) -> None:
    """Warn if arguments or data differ from those of the run that is resumed."""
    manifest = read_manifest(Path(checkpoint))
    arguments, before = facts["arguments"], manifest.get("arguments", {})
    changed = sorted(
        f"{name} is {arguments[name]!r}, was {before[name]!r}"
        for name in arguments.keys() & before.keys()
        if arguments[name] != before[name]
    )
    if changed:
        _warn(checkpoint, f"other arguments: {'; '.join(changed)}")
    digests = (facts["data"], manifest.get("data"))
    if None not in digests and len(set(digests)) == 2:
        _warn(checkpoint, "other training data: ids, captions or groups of the clips, or their order, have changed")


def _warn(checkpoint: str, difference: str) -> None:
    logger.warning(
        "The run resumed from %s had %s. It goes on, but its outcome will differ from that of a run without a stop.",
        checkpoint,
        difference,
    )
