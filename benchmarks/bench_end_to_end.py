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
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from shared.options import ROUNDS, SEED, option_parser
from torch import Tensor
from training_step.random_data import make_trainer
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor, encode_audio, encode_text
from modeling_atri.corpora.soundscapes.scenes import make_soundscapes
from modeling_atri.trainer import AtriTrainer, AtriTrainingArguments
from modeling_atri.trainer.data.collator import AtriDataCollator
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


LANGUAGES = ("eng_Latn", "fra_Latn", "deu_Latn", "jpn_Jpan")
STEP_LANGUAGES = LANGUAGES[:2]
CED_TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layerdrop": 0.0}
HTSAT = {"patch_embeds_hidden_size": 48, "hidden_size": 384, "num_mel_bins": 64, "drop_path_rate": 0.0}
CAPTIONS_A_CLIP, AUDIO_BATCH, TEXT_BATCH = 5, 16, 64
SAMPLING_RATE, CLIP_S = 16_000, 10
TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4

Captions = Sequence[tuple[str, str]]  # caption and language
Ways = dict[str, Callable[[], Any]]


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


# Data and model


def write_clips(folder: Path, options) -> tuple[list[Path], Captions, list[dict[str, Any]]]:
    """Write generated scenes: their files, five captions of each in one language, and rows with all captions."""
    files, captions, rows = [], [], []
    scenes = make_soundscapes(max(options.clips, options.step_clips), options.seed, duration_s=CLIP_S)
    for number, (scene, language) in enumerate(zip(scenes, itertools.cycle(LANGUAGES))):
        of_language = {code: written_five_times(scene["captions"][code]) for code in LANGUAGES}
        rows.append({"audio_id": scene["audio_id"], "captions": of_language})
        if number < options.clips:
            files.append(folder / f"{number:03}.flac")
            soundfile.write(files[-1], scene["audio"]["array"], SAMPLING_RATE)
            captions += [(caption, language) for caption in of_language[language]]
    return files, captions, rows


def written_five_times(captions: Sequence[str]) -> list[str]:
    """Five captions of a clip, the first ones again if it has fewer."""
    return list(itertools.islice(itertools.cycle(captions), CAPTIONS_A_CLIP))


def save_model(folder: Path, rows: Sequence[dict[str, Any]], num_layers: int) -> None:
    """Save a model with random weights, and its processor."""
    texts = (caption for row in rows for code in LANGUAGES for caption in row["captions"][code])
    tokenizer = train_tokenizer(texts, LANGUAGES)
    text = {"vocab_size": len(tokenizer), "encoder_layers": num_layers, **NO_DROPOUT}
    model = AtriModel(AtriConfig(audio_config=CED_TINY, text_config=text))
    with torch.no_grad():
        for parameter in model.audio_model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    num_mel_bins = model.config.audio_config.num_mel_bins
    model.audio_model.mel_norm.set_statistics(torch.full((num_mel_bins,), -20.0), torch.full((num_mel_bins,), 225.0))
    model.save_pretrained(folder)
    AtriProcessor(AtriFeatureExtractor(), tokenizer).save_pretrained(folder)


def with_embeddings(rows: Sequence[dict[str, Any]], width: int) -> list[dict[str, Any]]:
    """Rows with random audio embeddings of length 1."""
    vectors = F.normalize(torch.randn(len(rows), width), dim=-1).numpy()
    return [row | {"audio_embedding": vector} for row, vector in zip(rows, vectors, strict=True)]


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Split items into batches."""
    return (items[start : start + size] for start in range(0, len(items), size))


def read(file: Path) -> np.ndarray:
    """The samples of a file."""
    return soundfile.read(file, dtype="float32")[0]


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


def tokens_of(processor: AtriProcessor, captions: Captions) -> dict[str, Tensor]:
    """Token ids and mask of captions."""
    texts, languages = zip(*captions, strict=True)
    return processor(text=list(texts), language=list(languages))


def sentence_transformers_ways(sentences: SentenceTransformer, files: list[Path], captions: Captions) -> Ways:
    """`SentenceTransformer.encode` of files and of captions, one call for each language."""
    places = {code: [place for place, (_, other) in enumerate(captions) if other == code] for code in LANGUAGES}

    def encode_captions() -> np.ndarray:
        found = np.empty((len(captions), sentences.get_embedding_dimension()), np.float32)
        for code, own in places.items():
            texts = [captions[place][0] for place in own]
            found[own] = sentences.encode(texts, batch_size=TEXT_BATCH, **in_language(code)) if own else 0
        return found

    return {
        "sentence_transformers_files": lambda: sentences.encode(list(map(str, files)), batch_size=AUDIO_BATCH),
        "sentence_transformers_captions": encode_captions,
    }


def in_language(code: str) -> dict[str, Any]:
    """Options with which sentence-transformers tokenizes captions of a language."""
    return {"processing_kwargs": {"text": {"language": code}}}


@torch.inference_mode()
def glap_embeddings(model: AtriModel, processor: AtriProcessor, files: list[Path], captions: Captions) -> np.ndarray:
    """Embeddings of clips, repeated for each caption, and of captions, as GLAP's evaluation loop makes them."""
    found = []
    for file, own in zip(files, batches(captions, CAPTIONS_A_CLIP), strict=True):
        inputs = processor(audio=[read(file)] * len(own), sampling_rate=SAMPLING_RATE)
        sounds = model.get_audio_features(**inputs).pooler_output
        found.append(torch.stack([sounds, model.get_text_features(**tokens_of(processor, own)).pooler_output]))
    return torch.cat(found, dim=1).numpy()


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


def first_captions(rows: list[dict]) -> dict[str, list[str]]:
    """The first caption of each row in the languages of a step."""
    return {code: [row["captions"][code][0] for row in rows] for code in STEP_LANGUAGES}


def cached_loss(sentences: SentenceTransformer, rows: list[dict], num_clips: int) -> Callable[[], None]:
    """A step of sentence-transformers' cached loss, which pairs the captions of a clip."""
    loss = CachedMultipleNegativesRankingLoss(sentences, mini_batch_size=max(1, num_clips // 2))
    captions = first_captions(rows)

    def run() -> None:
        sentences.train()
        sentences.zero_grad()
        features = [sentences.preprocess(texts, **in_language(code)) for code, texts in captions.items()]
        loss(features, None).backward()

    return run


class Clap:
    """CLAP of transformers with random weights, towers of our sizes, and its processor.

    Args:
        tokenizer: our tokenizer.
        text: configuration of our text tower.
    """

    def __init__(self, tokenizer: Any, text: Any):
        of_text = {
            "vocab_size": text.vocab_size,
            "hidden_size": text.d_model,
            "num_hidden_layers": text.encoder_layers,
            "num_attention_heads": text.encoder_attention_heads,
            "intermediate_size": text.encoder_ffn_dim,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
        self.model = ClapModel(ClapConfig(audio_config=HTSAT, text_config=of_text, projection_dim=text.d_model)).eval()
        extractor = ClapFeatureExtractor(
            sampling_rate=SAMPLING_RATE, hop_length=160, frequency_max=8000, truncation="rand_trunc"
        )
        self.processor = ClapProcessor(extractor, tokenizer)

    def encoding_ways(self, files: list[Path], captions: Captions) -> Ways:
        """Files and captions to embeddings, and its towers with ready tensors."""
        sounds = [self.sounds(part) for part in batches(files, AUDIO_BATCH)]
        texts = [text for text, _ in captions]
        tokens = [self.tokens(part) for part in batches(texts, TEXT_BATCH)]

        @torch.inference_mode()
        def run(encode: Callable, made: Iterator[dict[str, Tensor]]) -> Tensor:
            return torch.cat([encode(**batch).pooler_output for batch in made])

        audio, text = self.model.get_audio_features, self.model.get_text_features
        return {
            "clap_files": lambda: run(audio, map(self.sounds, batches(files, AUDIO_BATCH))),
            "clap_captions": lambda: run(text, map(self.tokens, batches(texts, TEXT_BATCH))),
            "towers_clap_files": lambda: run(audio, sounds),
            "towers_clap_captions": lambda: run(text, tokens),
        }

    def sounds(self, files: Sequence[Path]) -> dict[str, Tensor]:
        """Features of files."""
        audio = [read(file) for file in files]
        return self.processor(audio=audio, sampling_rate=SAMPLING_RATE, return_tensors="pt")

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids and mask of captions."""
        return self.processor(text=list(texts), padding=True, return_tensors="pt")

    def step(self, rows: list[dict]) -> Callable[[], None]:
        """Tokens, text tower, contrastive loss and backward of a step."""
        captions = first_captions(rows)
        sounds = torch.from_numpy(np.stack([row["audio_embedding"] for row in rows]))
        labels = torch.arange(len(rows))

        def run() -> None:
            self.model.train().zero_grad()
            for texts in captions.values():
                embeddings = F.normalize(self.model.get_text_features(**self.tokens(texts)).pooler_output, dim=-1)
                scores = sounds @ embeddings.T * self.model.logit_scale_t.exp()
                loss = F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)
                (loss / 2 / len(captions)).backward()

        return run

    def sizes(self, ours: AtriModel) -> dict[str, int]:
        """Parameters of the towers of both models."""
        towers = {
            "audio": ours.audio_model,
            "text": ours.text_model,
            "clap_audio": self.model.audio_model,
            "clap_text": self.model.text_model,
        }
        return {name: sum(parameter.numel() for parameter in tower.parameters()) for name, tower in towers.items()}


if __name__ == "__main__":
    main()
