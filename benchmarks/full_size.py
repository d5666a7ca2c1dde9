"""Measure memory and time of teaching at real sizes, with random weights.

    python benchmarks/full_size.py step        # CLAP's large audio tower, SONAR's text tower with LoRA: one step
    python benchmarks/full_size.py archive     # a million stored embeddings: `atri train` with one step

`step` needs 5 GB of memory and 4 GB on the disk. It makes the audio tower of laion/larger_clap_general (68 M
parameters), which stays frozen, and SONAR's text tower (766 M), which is frozen except for an adapter. It trains them
with `teach` on captions in eight languages and stored embeddings of 512 numbers. The teacher is the model itself
before the first step.

`archive` writes a million random embeddings of 512 numbers, as `atri encode` does, and captions in two languages, to
the folder `--work` (3 GB, and 2 GB more when the embeddings are used for the first time). `atri train` runs twice,
because only the first run writes the file that is mapped into memory.

Each command prints one line of JSON. Those in `results/full_size.jsonl` were copied from it.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from shared.measuring import print_report
from shared.options import option_parser
from shared.processes import peak_memory, run_measured


WIDTH = 512
NOUNS = {"eng_Latn": ("dog", "car", "bird", "door"), "fra_Latn": ("chien", "voiture", "oiseau", "porte")}
TEMPLATES = {"eng_Latn": "the {} number {} can be heard", "fra_Latn": "on entend le son {} numéro {}"}
LARGE_CLAP = {
    "model_type": "clap_audio_model",
    "hidden_size": 1024,
    "patch_embeds_hidden_size": 128,
    "depths": [2, 2, 12, 2],
    "num_attention_heads": [4, 8, 16, 32],
}
PART = 50_000
MODEL_NAME, FINGERPRINT = "a model with random embeddings", "0" * 32


def main() -> None:
    """Run the command."""
    parser = option_parser(__doc__)
    parser.add_argument("what", choices=("step", "archive"))
    parser.add_argument("--work", type=Path, default=Path("runs/full_size"), help="folder for what is made")
    parser.add_argument("--clips", type=int, default=1_000_000, help="archive: embeddings (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="step: clips of a step (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="step: steps to measure (default: %(default)s)")
    options = parser.parse_args()
    if options.what == "step":
        print_report("full_size_step", **measure_step(options.work, options.batch_size, options.steps))
    else:
        print_report("full_size_archive", **measure_archive(options.work, options.clips))


def measure_step(work: Path, batch_size: int, num_steps: int) -> dict[str, Any]:
    """Memory and time of a step of `teach`, and the number of parameters."""
    import torch
    from transformers import ClapFeatureExtractor, TrainerCallback

    from modeling_atri import AtriConfig, AtriModel, AtriProcessor
    from modeling_atri.languages_atri import ATRI_LANGUAGES
    from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
    from modeling_atri.trainer.scratch.tokenizer import train_tokenizer
    from modeling_atri.window_features_atri import AtriWindowFeatureExtractor

    class Clock(TrainerCallback):
        """Notes the CPU time at the end of each step."""

        seconds: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.process_time())

    languages, rng = list(ATRI_LANGUAGES), np.random.default_rng(0)
    vectors = rng.normal(size=(2 * batch_size, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        {
            "audio_id": str(number),
            "audio_embedding": vector.tolist(),
            "captions": {
                code: [f"{code[:3]} a dog barks twice while rain number {number} falls"] for code in languages
            },
        }
        for number, vector in enumerate(vectors)
    ]
    folder = work / "large_model"  # an adapter needs a model that was saved
    if not folder.exists():
        torch.manual_seed(0)
        AtriModel(AtriConfig(audio_config=LARGE_CLAP, projection_dim=WIDTH)).save_pretrained(folder)
    model = AtriModel.from_pretrained(folder)
    captions = (caption for row in rows for of_row in row["captions"].values() for caption in of_row)
    tokenizer = train_tokenizer(captions, languages, vocab_size=1000)
    processor = AtriProcessor(AtriWindowFeatureExtractor(ClapFeatureExtractor()), tokenizer)
    args = AtriTrainingArguments(
        str(work / "step"),
        objective="teach",
        languages=languages,
        lora_rank=16,
        per_device_train_batch_size=batch_size,
        max_steps=num_steps + 1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    weights_mb = sum(value.numel() * value.element_size() for value in model.parameters()) / 1e6
    trainer = AtriTrainer(model, args, processor, train_dataset=rows, callbacks=[Clock()])
    trainer.train()
    return {
        "audio_parameters": sum(value.numel() for value in model.audio_model.parameters()),
        "text_parameters": sum(value.numel() for value in model.text_model.parameters()),
        "trained_parameters": sum(value.numel() for value in model.parameters() if value.requires_grad),
        "clips": batch_size,
        "languages": len(languages),
        "cpu_seconds_of_steps": np.diff(Clock.seconds).round(1).tolist(),
        "weights_mb": round(weights_mb),
        "peak_memory_mb": round(peak_memory() / 2**20),
    }


def measure_archive(work: Path, num_clips: int) -> dict[str, Any]:
    """Time and memory of `atri train` with one step on stored embeddings: of the first run, and of a later one."""
    archive, captions, model = work / "archive", work / "captions.jsonl", work / "model"
    if not captions.exists():
        write_archive(archive, num_clips)
        write_captions(captions, num_clips)
    if not model.exists():
        save_small_model(model, archive)
    command = [sys.executable, "-m", "modeling_atri.cli.main", "train", "--model", str(model)]
    command += ["--train_data", str(captions), "--audio_embeddings", str(archive), "--languages", *NOUNS]
    command += ["--objective", "akcl", "--output_dir", str(work / "trained")]
    command += ["--max_steps", "1", "--per_device_train_batch_size", "64", "--save_strategy", "no"]
    command += ["--report_to", "none", "--use_cpu", "true"]
    runs = []
    for _ in range(2):
        shutil.rmtree(work / "trained", ignore_errors=True)
        usage = run_measured(command, stdout=subprocess.DEVNULL)
        runs.append(
            {
                "wall_seconds": round(usage.wall_seconds, 1),
                "cpu_seconds": round(usage.cpu_seconds, 1),
                "peak_memory_mb": round(usage.peak_memory / 2**20),
            }
        )
    return {"clips": num_clips, "width": WIDTH, "first_run": runs[0], "later_run": runs[1]}


def write_archive(folder: Path, num_clips: int) -> None:
    """Write random embeddings of length 1 as `atri encode` writes those of a model."""
    from modeling_atri.embedding_store.store import Clip, EmbeddingStore

    rng = np.random.default_rng(0)
    with EmbeddingStore(folder, MODEL_NAME, FINGERPRINT, WIDTH) as store:
        for start in range(0, num_clips, PART):
            vectors = rng.standard_normal((min(PART, num_clips - start), WIDTH), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            store.add([Clip(clip_id(start + row), 1, 1, 10.0) for row in range(len(vectors))], vectors)


def write_captions(path: Path, num_clips: int) -> None:
    """Write one caption in each language for each clip."""
    from modeling_atri.files import write_json_lines

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(num_clips):
            yield {"audio_id": clip_id(number), "captions": {code: [caption(code, number)] for code in NOUNS}}

    write_json_lines(path, rows())


def save_small_model(folder: Path, archive: Path) -> None:
    """Save a small model for stored embeddings, with random weights."""
    from modeling_atri.corpora.rows.lookup import EmbeddingFacts
    from modeling_atri.embedding_store.facts import StoreFacts
    from modeling_atri.trainer.scratch.model import ScratchArguments, model_from_scratch

    captions = (caption(code, number) for code in NOUNS for number in range(1000))
    facts = EmbeddingFacts(str(archive), WIDTH, 1.0, 1.0, StoreFacts(MODEL_NAME, FINGERPRINT))
    model, processor = model_from_scratch(captions, list(NOUNS), ScratchArguments(), seed=0, embeddings=facts)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def caption(code: str, number: int) -> str:
    """The caption of a clip in a language."""
    return TEMPLATES[code].format(NOUNS[code][number % 4], number)


def clip_id(number: int) -> str:
    """The id of a clip, a path as `atri encode` makes it."""
    return f"{number // 1000:04d}/{number:07d}.flac"


if __name__ == "__main__":
    main()
