"""Teach an eighth language to a model that knows seven, and measure how far the embeddings of the others move.

A small text tower is trained from scratch on seven languages, with the captions of the ESC-10 scenes. Then it learns
Japanese, once with English and Japanese captions alone, and once with the six other languages held (`hold_languages`).
"Found" is the share of held-back captions whose nearest neighbour among the English captions has the same meaning. The
English embeddings are those from before Japanese was added.

    python benchmarks/further_language.py --data $ATRI_SCENES
"""

import copy
import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
from shared.options import option_parser
from shared.scenes import check_scenes, read_scenes

from modeling_atri import AtriModel, AtriProcessor, encode_text
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.scratch import ScratchArguments, model_from_scratch


ANCHOR, NEW = "eng_Latn", "jpn_Jpan"
OTHERS = [code for code in ATRI_LANGUAGES if code not in (ANCHOR, NEW)]


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__, "about two CPU minutes")
    parser.add_argument("--data", type=Path, help="folder with train/ and dev/")
    options = parser.parse_args()
    check_scenes(parser, options.data)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    train, dev = read_captions(options.data / "train", 600), read_captions(options.data / "dev", 190)
    texts = [text for row in train for code in ATRI_LANGUAGES for text in row["captions"][code]]
    model, processor = model_from_scratch(texts, list(ATRI_LANGUAGES), ScratchArguments(), 0)
    teach(model, processor, train, [ANCHOR, *OTHERS], max_steps=300, learning_rate=2e-3)
    before = embed(model, processor, dev)
    print(json.dumps({"run": "before", **compare(before, before)}), flush=True)
    for name, languages, held in (
        ("English and Japanese alone", [ANCHOR, NEW], None),
        ("the six others held", list(ATRI_LANGUAGES), OTHERS),
    ):
        taught = copy.deepcopy(model)
        teach(taught, processor, train, languages, max_steps=150, learning_rate=1e-3, hold_languages=held)
        print(json.dumps({"run": name, **compare(embed(taught, processor, dev), before)}), flush=True)


def read_captions(folder: Path, most: int) -> list[dict]:
    """The first rows of a folder, without their sounds."""
    rows = read_scenes(folder / "metadata.jsonl")[:most]
    return [{"audio_id": str(number), "captions": row["captions"]} for number, row in enumerate(rows)]


def teach(model: AtriModel, processor: AtriProcessor, rows: list[dict], languages: list[str], **options) -> None:
    """Teach the model from itself."""
    with tempfile.TemporaryDirectory() as folder:
        args = AtriTrainingArguments(
            folder,
            objective="teach",
            languages=languages,
            per_device_train_batch_size=32,
            warmup_steps=20,
            lr_scheduler_type="cosine",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        AtriTrainer(model, args, processor, rows).train()
    model.eval()


def embed(model: AtriModel, processor: AtriProcessor, rows: list[dict]) -> dict[str, np.ndarray]:
    """Embeddings of the first caption of each row in each language."""
    return {
        code: encode_text(model, processor, [row["captions"][code][0] for row in rows], code)
        for code in ATRI_LANGUAGES
    }


def compare(after: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> dict[str, float]:
    """The share of captions that are found, and the mean cosine of the six other languages to their old embeddings."""
    found = {
        code: float(((values @ before[ANCHOR].T).argmax(axis=1) == np.arange(len(values))).mean())
        for code, values in after.items()
    }
    cosines = [float((after[code] * before[code]).sum(axis=1).mean()) for code in OTHERS]
    return {
        "others_found": round(float(np.mean([found[code] for code in OTHERS])), 3),
        "others_cosine": round(float(np.mean(cosines)), 4),
        "new_found": round(found[NEW], 3),
    }


if __name__ == "__main__":
    main()
