"""One run of `consistency.py`, in a process of its own: train, evaluate on dev, write figures and ranks.

    python benchmarks/consistency_run.py CELL SEED DATA WORK OUTPUT

It writes OUTPUT/CELL-SEED.json, the figures and what they cost, and OUTPUT/CELL-SEED.npz, the rank of every caption's
clip in every language; WORK/CELL-SEED holds the model.
"""

import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from consistency_grid import CELLS, TUNING_CELLS, Cell
from consistency_losses import LOSSES
from torch import Tensor

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.files import written_whole
from modeling_atri.hub_cards.environment import describe_environment
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows
from modeling_atri.trainer.evaluation import RetrievalSet, retrieval_table
from modeling_atri.trainer.evaluation.measuring import embed_on_all_processes
from modeling_atri.trainer.metrics import text_to_audio_ranks
from modeling_atri.trainer.scratch import ScratchArguments, caption_texts, model_from_scratch


SETTINGS = Path(__file__).parent / "consistency.yaml"


class OwnLossTrainer(AtriTrainer):
    """Trains with a loss of `consistency_losses.py`."""

    own_loss = None

    def compute_loss_from_embeddings(
        self, audio_embeds: Tensor, text_embeds: Tensor, inputs: dict[str, Any]
    ) -> Tensor:
        """The loss of `own_loss`, of all languages together."""
        scale = self.atri_model.logit_scale.exp()
        return self.own_loss(audio_embeds, text_embeds, scale, inputs["group_ids"], self.state.global_step)


def main() -> None:
    """Run the command."""
    name, seed, data, work, output = sys.argv[1:]
    torch.set_num_threads(1)
    train_and_measure((CELLS | TUNING_CELLS)[name], int(seed), Path(data), Path(work), Path(output))


def train_and_measure(cell: Cell, seed: int, data: Path, work: Path, output: Path) -> None:
    """Train the run of a cell and a seed, and write what came of it."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    sizes = {key: settings.pop(key) for key in [*settings] if key in ScratchArguments.__dataclass_fields__}
    group = settings.pop("group_column")
    languages = list(ATRI_LANGUAGES)
    train, dev = (load_rows(data / part, languages=languages, group_column=group) for part in ("train", "dev"))
    folder = work / f"{cell.name}-{seed}"
    args = AtriTrainingArguments(
        str(folder),
        **settings
        | {
            "objective": cell.objective,
            "max_steps": cell.steps,
            "seed": seed,
            "feature_cache_dir": str(work / "features"),
            "languages": languages,
        }
        | cell.options,
    )
    model, processor = make_model(cell, seed, train, ScratchArguments(**sizes), work)
    trainer_class = AtriTrainer if cell.loss is None else OwnLossTrainer
    trainer = trainer_class(model, args, processor, train_dataset=train)
    if cell.loss is not None:
        trainer.own_loss = LOSSES[cell.loss]
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    cpu_start = time.process_time()
    trainer.train()
    cpu_seconds = time.process_time() - cpu_start
    trainer.save_model()
    dev_set = RetrievalSet.from_rows(dev, languages)
    embeddings = embed_on_all_processes(trainer, dev_set)
    ranks = [text_to_audio_ranks(embeddings.audio, text, dev_set.positives) for text in embeddings.text.values()]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    squares = [(value.detach() - start[name]).square().sum().item() for name, value in model.named_parameters()]
    report = {
        "cell": cell.name,
        "seed": seed,
        "steps": cell.steps,
        "options": cell.options,
        "captions_a_clip": cell.steps * cell.captions_a_step,
        "num_parameters": model.num_parameters(),
        "metrics": retrieval_table(embeddings, dev_set.positives, "eng_Latn"),
        "last_loss": losses[-1],
        "distance_from_start": math.sqrt(sum(squares)),
        "cpu_seconds": round(cpu_seconds, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "environment": describe_environment(args.device),
    }
    output.mkdir(parents=True, exist_ok=True)
    # Ranks come in halves, where scores tie.
    np.savez_compressed(output / f"{cell.name}-{seed}.npz", doubled_ranks=(2 * np.stack(ranks)).astype(np.uint16))
    with written_whole(output / f"{cell.name}-{seed}.json") as file:  # last: the run is done where it exists
        file.write((json.dumps(report, indent=1) + "\n").encode())


def make_model(
    cell: Cell, seed: int, train: Any, sizes: ScratchArguments, work: Path
) -> tuple[AtriModel, AtriProcessor]:
    """The model that a run begins with."""
    if cell.begins_with is not None:
        folder = work / f"{cell.begins_with}-{seed}"
        return AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)
    model, processor = model_from_scratch(caption_texts(train, ATRI_LANGUAGES), ATRI_LANGUAGES, sizes, seed)
    if cell.text_encoder is None:
        return model, processor
    config = model.config.to_dict()
    config["text_config"] = {
        "model_type": cell.text_encoder,
        "vocab_size": len(processor.tokenizer),
        "hidden_size": sizes.text_hidden_size,
        "num_hidden_layers": sizes.text_layers,
        "num_attention_heads": sizes.text_heads,
        "intermediate_size": 4 * sizes.text_hidden_size,
        "hidden_dropout_prob": sizes.text_dropout,
        "attention_probs_dropout_prob": sizes.text_dropout,
        "pad_token_id": processor.tokenizer.pad_token_id,
        # BERT's own, 0.02, is meant for widths of 768 and more.
        "initializer_range": sizes.text_hidden_size**-0.5,
    }
    torch.manual_seed(seed)
    return AtriModel(AtriConfig.from_dict(config)), processor


if __name__ == "__main__":
    main()
