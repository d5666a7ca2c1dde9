"""Compare the whole way from files to embeddings, and from captions to gradients, with other libraries.

The model has the audio tower CED-tiny and a text tower of SONAR's width with `--layers` of its 24 layers, with random
weights and without dropout. The clips are FLAC files of ten seconds at 16 kHz, and each has five captions. The
following ways take turns in one process on one thread, and their CPU time is measured:

- `files`, `captions`: `encode_audio` of the files, and `encode_text` of all captions.
- `gradients`, `gradients_chunked`: a step of the objective KCL with `--step-clips` clips, a caption in each of two
  languages and stored audio embeddings: tokens, text tower, loss, backward; also in chunks of half as many captions.
- `towers_*`: the floor. The same towers get ready tensors in batches as large as those of `files` and `captions`. For
  `towers_gradients`, the text tower gets ready tokens of one language after the other, and its backward pass starts
  from the known gradients of the embeddings, without the loss.
- `sentence_transformers_*`: `SentenceTransformer.encode` of the saved model, which has the same weights, with the same
  batch sizes, and one call for each language. `sentence_transformers_gradients` is its
  CachedMultipleNegativesRankingLoss with chunks of the same size on pairs of captions of the same clip.
- `clap_*`: ClapModel and ClapProcessor of transformers in batches in the order given. The text tower has the same
  width and depth, and the audio tower (HTSAT) about as many parameters and operations as CED-tiny. The gradients of
  `clap_gradients` come from the contrastive loss with the same stored audio embeddings.
- `glap`: what the evaluation loop of GLAP (`run.py evaluate` of xiaomi-research/dasheng-glap) does before the metrics:
  each clip is decoded once and paired with its five captions, and a batch is five pairs. So the audio tower gets each
  clip five times. The towers, features and tokens are ours, in float32, because only the loop is compared.

The embeddings of `files` and `captions` must equal those of the towers, of sentence-transformers and of GLAP's loop to
1e-5, and the gradients those of `towers_gradients` to 1e-4 in norm; otherwise the benchmark fails. It prints one JSON
line.
"""

from shared.measuring import medians, print_report, ratio, row, seconds_in_turns  # first: it sets one thread


# isort: split
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from end_to_end.clips import (
    AUDIO_BATCH,
    CAPTIONS_A_CLIP,
    SAMPLING_RATE,
    STEP_LANGUAGES,
    TEXT_BATCH,
    Captions,
    Ways,
    batches,
    read,
    save_model,
    tokens_of,
    with_embeddings,
    write_clips,
)
from end_to_end.others import Clap, cached_loss, glap_embeddings, sentence_transformers_ways
from sentence_transformers import SentenceTransformer
from shared.options import ROUNDS, SEED, option_parser
from training_step.random_data import make_trainer

from modeling_atri import AtriModel, AtriProcessor, encode_audio, encode_text
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.data.collator import AtriDataCollator


TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "three minutes",
        clips=(16, "clips of ten seconds, with five captions each"),
        step_clips=(24, "clips of a step"),
        layers=(2, "layers of the text tower"),
        rounds=(3, ROUNDS),
        seed=(0, SEED),
    ).parse_args()
    torch.manual_seed(options.seed)
    with tempfile.TemporaryDirectory() as name:
        files, captions, rows = write_clips(Path(name), options)
        save_model(Path(name) / "model", rows, options.layers)
        sentences = SentenceTransformer(str(Path(name) / "model"), device="cpu").eval()
        model, processor = sentences[0].model, AtriProcessor.from_pretrained(Path(name) / "model")
        clap = Clap(processor.tokenizer, model.config.text_config)
        encoding = {
            **encoding_ways(model, processor, files, captions),
            **sentence_transformers_ways(sentences, files, captions),
            **clap.encoding_ways(files, captions),
            "glap": lambda: glap_embeddings(model, processor, files, captions),
        }
        differences = {"embeddings": check_embeddings(encoding)}
        seconds = seconds_in_turns(encoding, options.rounds)
        rows = with_embeddings(rows[: options.step_clips], model.config.projection_dim)
        gradients = gradient_ways(model, processor, rows, Path(name), options)
        differences["gradients"] = check_gradients(model, gradients)
        gradients["sentence_transformers_gradients"] = cached_loss(sentences, rows, options.step_clips)
        gradients["clap_gradients"] = clap.step(rows)
        seconds |= seconds_in_turns(gradients, options.rounds)
    report(seconds, differences, clap.sizes(model), options)


def report(seconds: dict[str, list[float]], differences: dict[str, float], sizes: dict[str, int], options) -> None:
    """Print the line of JSON."""
    seconds["evaluation"] = [sum(both) for both in zip(seconds["files"], seconds["captions"], strict=True)]
    num_captions = {"captions": options.clips * CAPTIONS_A_CLIP, "gradients": options.step_clips * len(STEP_LANGUAGES)}
    per_second = {
        way: round(next((count for kind, count in num_captions.items() if kind in way), options.clips) / value, 1)
        for way, value in medians(seconds).items()
    }
    print_report(
        "end_to_end",
        rows=make_rows(seconds, options.clips),
        seconds=medians(seconds),
        clips_or_captions_a_second=per_second,
        times_claps_towers={
            way: round(ratio(seconds, f"clap_{way}", f"towers_clap_{way}"), 3) for way in ("files", "captions")
        },
        largest_differences=differences,
        parameters=sizes,
        **vars(options),
    )


def make_rows(seconds: dict[str, list[float]], num_clips: int) -> list[dict[str, object]]:
    """Make the rows of the table."""
    encode, cached = "sentence-transformers' `encode`", "sentence-transformers' cached loss, in chunks"
    clap = "transformers' CLAP of the same size"
    rows = []
    for way, theirs, ours, work in (
        ("files", encode, "files", f"{num_clips} FLAC files of 10 s to embeddings"),
        ("captions", encode, "captions", "captions in four languages to embeddings"),
        ("gradients", cached, "gradients_chunked", "captions in two languages to gradients"),
    ):
        rows += [
            row(work, "times the towers alone, with ready tensors", ratio(seconds, way, f"towers_{way}"), "<= 1.15"),
            row(work, f"times faster than {theirs}", ratio(seconds, f"sentence_transformers_{way}", ours), ">= 1"),
            row(work, f"times faster than {clap}", ratio(seconds, f"clap_{way}", way), ">= 1"),
        ]
    work = f"{num_clips} clips with five captions each to embeddings"
    return [*rows, row(work, "times faster than GLAP's evaluation loop", ratio(seconds, "glap", "evaluation"), ">= 1")]


# To embeddings


def encoding_ways(model: AtriModel, processor: AtriProcessor, files: list[Path], captions: Captions) -> Ways:
    """`files`, `captions`, and the towers with ready tensors; the captions of a batch have similar lengths."""
    sounds = [
        processor(audio=[read(file) for file in part], sampling_rate=SAMPLING_RATE)
        for part in batches(files, AUDIO_BATCH)
    ]
    lengths = [int(tokens_of(processor, [caption])["attention_mask"].sum()) for caption in captions]
    order = np.argsort(lengths, kind="stable")
    tokens = [tokens_of(processor, [captions[place] for place in part]) for part in batches(order, TEXT_BATCH)]

    @torch.inference_mode()
    def towers_captions() -> np.ndarray:
        by_length = torch.cat([model.get_text_features(**batch).pooler_output for batch in tokens])
        return by_length[np.argsort(order)].numpy()

    @torch.inference_mode()
    def towers_files() -> np.ndarray:
        return torch.cat([model.get_audio_features(**batch).pooler_output for batch in sounds]).numpy()

    return {
        "files": lambda: encode_audio(model, processor, files, batch_size=AUDIO_BATCH, num_workers=0),
        "towers_files": towers_files,
        "captions": lambda: encode_text(model, processor, captions, batch_size=TEXT_BATCH),
        "towers_captions": towers_captions,
    }


def check_embeddings(ways: Ways) -> float:
    """The largest difference of our embeddings from the others. End the run if it is above the tolerance."""
    files, captions = ways["files"](), ways["captions"]()
    of_glap = ways["glap"]()
    pairs = [
        *((files, ways[f"{way}_files"]()) for way in ("towers", "sentence_transformers")),
        *((captions, ways[f"{way}_captions"]()) for way in ("towers", "sentence_transformers")),
        (np.repeat(files, CAPTIONS_A_CLIP, axis=0), of_glap[0]),
        (captions, of_glap[1]),
    ]
    difference = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
    if not difference <= TOLERANCE:
        raise SystemExit(f"Not the embeddings of the towers; the largest difference is {difference:.1e}.")
    return difference


# To gradients


def gradient_ways(model: AtriModel, processor: AtriProcessor, rows: list[dict], folder: Path, options) -> Ways:
    """Steps of `AtriTrainer`, and the text tower with ready tokens."""

    def make_step(**chunks: int) -> tuple[AtriTrainer, Callable[[], None]]:
        args = AtriTrainingArguments(
            str(folder / "run"),
            objective="kcl",
            languages=list(STEP_LANGUAGES),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            seed=options.seed,
            **chunks,
        )
        trainer = make_trainer(model, args)

        def step() -> None:
            model.zero_grad()
            collator = AtriDataCollator(processor, args.language_draws)  # a new one, because it remembers tokens
            trainer.training_step(model, collator(rows))

        return trainer, step

    trainer, step = make_step()
    half = max(1, options.step_clips // 2)
    _, chunked = make_step(audio_chunk_size=half, text_chunk_size=half)
    return {
        "gradients": step,
        "gradients_chunked": chunked,
        "towers_gradients": towers_step(trainer, AtriDataCollator(processor, trainer.args.language_draws)(rows)),
    }


def towers_step(trainer: AtriTrainer, batch: dict[str, Any]) -> Callable[[], None]:
    """The text tower's forward and backward, from the gradients that the loss has for its embeddings."""
    model = trainer.atri_model.train()
    tokens = [
        {"input_ids": ids[:, mask.any(dim=0)], "attention_mask": mask[:, mask.any(dim=0)]}
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    with torch.no_grad():
        embeddings = torch.stack([model.get_text_features(**one).pooler_output for one in tokens])
    embeddings.requires_grad_()
    trainer.compute_loss_from_embeddings(batch["audio_embeds"], embeddings, batch).backward()

    def run() -> None:
        model.zero_grad()
        for one, gradient in zip(tokens, embeddings.grad, strict=True):
            model.get_text_features(**one).pooler_output.backward(gradient)

    return run


def check_gradients(model: AtriModel, ways: Ways) -> float:
    """The largest difference of gradients in norm. End the run if it is above the tolerance."""
    found = {}
    for way, run in ways.items():
        run()
        found[way] = torch.cat([weight.grad.flatten() for weight in model.text_model.parameters()])
    expected = found.pop("towers_gradients")
    difference = max(float((one - expected).norm() / expected.norm()) for one in found.values())
    if not difference <= GRADIENT_TOLERANCE:
        raise SystemExit(f"Not the gradients of the towers; the largest difference in norm is {difference:.1e}.")
    return difference


if __name__ == "__main__":
    main()
