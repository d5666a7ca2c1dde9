"""Do one run of `consistency.py`: train, evaluate on dev, and add the run to the results file.

    python -m consistency_study.run CELL SEED DATA WORK RESULTS

RESULTS is the Parquet file that the run is added to. The model is saved to WORK/CELL-SEED.
"""

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from shared.processes import peak_memory
from torch import Tensor

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.hub_cards.environment import describe_environment
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments, load_rows
from modeling_atri.trainer.evaluation import RetrievalSet, retrieval_table
from modeling_atri.trainer.metrics import text_to_audio_ranks
from modeling_atri.trainer.scratch.model import ScratchArguments, caption_texts, model_from_scratch

from .grid import CELLS, TUNING_CELLS, Cell
from .losses import LOSSES
from .results import add_run, model_file


SETTINGS = Path(__file__).parents[1] / "consistency.yaml"


class OwnLossTrainer(AtriTrainer):
    """Trains with a loss of `losses.py`, `own_loss`."""

    def __init__(self, own_loss: Any, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.own_loss = own_loss

    def compute_loss_from_embeddings(
        self, audio_embeds: Tensor, text_embeds: Tensor, inputs: dict[str, Any]
    ) -> Tensor:
        """The loss of all languages together."""
        scale = self.atri_model.logit_scale.exp()
        return self.own_loss(audio_embeds, text_embeds, scale, inputs["group_ids"], self.state.global_step)


def main() -> None:
    """Run the command."""
    name, seed, data, work, results = sys.argv[1:]
    torch.set_num_threads(1)
    add_run(Path(results), train_and_measure((CELLS | TUNING_CELLS)[name], int(seed), Path(data), Path(work)))


def train_and_measure(cell: Cell, seed: int, data: Path, work: Path) -> dict[str, Any]:
    """Do the run of a cell and a seed, and return its row of the results."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    sizes = {key: settings.pop(key) for key in [*settings] if key in ScratchArguments.__dataclass_fields__}
    group = settings.pop("group_column")
    languages = list(ATRI_LANGUAGES)
    train, dev = (load_rows(data / part, languages=languages, group_column=group) for part in ("train", "dev"))
    of_run = {
        "objective": cell.objective,
        "max_steps": cell.steps,
        "seed": seed,
        "feature_cache_dir": str(work / "features"),
        "languages": languages,
    }
    args = AtriTrainingArguments(str(model_file(work, cell.name, seed).parent), **settings | of_run | cell.options)
    model, processor = make_model(cell, seed, train, ScratchArguments(**sizes), work)
    if cell.loss is None:
        trainer = AtriTrainer(model, args, processor, train_dataset=train)
    else:
        trainer = OwnLossTrainer(LOSSES[cell.loss], model, args, processor, train_dataset=train)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    cpu_start = time.process_time()
    trainer.train()
    cpu_seconds = time.process_time() - cpu_start
    trainer.save_model()
    dev_set = RetrievalSet.from_rows(dev, languages)
    embeddings = trainer.embed(dev_set)
    ranks = [text_to_audio_ranks(embeddings.audio, text, dev_set.positives) for text in embeddings.text.values()]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    squares = [(value.detach() - start[name]).square().sum().item() for name, value in model.named_parameters()]
    return {
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
        "peak_memory_mb": round(peak_memory() / 2**20),
        "environment": describe_environment(args.device),
        "doubled_ranks": (2 * np.stack(ranks)).astype(np.uint16),
    }


def make_model(
    cell: Cell, seed: int, train: Any, sizes: ScratchArguments, work: Path
) -> tuple[AtriModel, AtriProcessor]:
    """The model that a run begins with, and its processor."""
    if cell.begins_with is not None:
        folder = model_file(work, cell.begins_with, seed).parent
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
        "initializer_range": sizes.text_hidden_size**-0.5,  # BERT's 0.02 is meant for widths of 768 and more
    }
    torch.manual_seed(seed)
    return AtriModel(AtriConfig.from_dict(config)), processor


if __name__ == "__main__":
    main()
