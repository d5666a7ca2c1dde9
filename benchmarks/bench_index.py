"""Compare the indexing of sound files with bare `encode_audio` of the same files.

The model has the audio tower CED-tiny with random weights and 1024 dimensions. The following ways take turns in one
process, and their CPU time, that of all threads together, is measured. Decoding and the model have the same threads
and batch size in all of them:

- `index`: a new `SoundIndex` on disk, to which a folder of clips of ten seconds is added: search of the folder,
  decoding, features, model, digests, rows and commits. A clip of ten seconds is one window.
- `encode`: `encode_audio` of the same files, which keeps the embeddings in memory. This is the floor.
- `index_long`, `index_long_half`, `encode_long`: the same for long recordings, with windows that follow each other and
  with windows that overlap by half, which are twice as many. What the whole recording and its windows have in common
  is encoded once, so the floor of `index_long_half` is twice the time of `encode_long`.

The embeddings of whole files in the index must equal those of `encode_audio` to 1e-5; otherwise the benchmark fails.
It prints one JSON line.
"""

from shared.measuring import medians, print_report, ratio, row, seconds_in_turns  # first: it sets one thread


# isort: split
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from shared.options import ROUNDS, SEED, option_parser

from modeling_atri import AtriConfig, AtriFeatureExtractor, AtriModel, AtriProcessor, encode_audio
from modeling_atri.search import SoundIndex
from modeling_atri.trainer.scratch.tokenizer import train_tokenizer


TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
TEXT = {"vocab_size": 600, "d_model": 32, "encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 2}
WINDOW_S = 10.12  # of CED
NUM_WORKERS = 1  # threads that decode
SAMPLING_RATE = 16_000  # Hz
TOLERANCE = 1e-5


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "three minutes",
        clips=(64, "clips of ten seconds"),
        recordings=(3, "long recordings"),
        minutes=(3.0, "length of a long recording"),
        rounds=(3, ROUNDS),
        seed=(0, SEED),
    ).parse_args()
    model, processor = make_model(options.seed)
    generator = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = write_sounds(folder / "clips", options.clips, 10, generator)
        recordings = write_sounds(folder / "recordings", options.recordings, 60 * options.minutes, generator)

        def index(sounds: Path, hop_s: float | None = None) -> SoundIndex:
            path = Path(tempfile.mkdtemp(dir=folder)) / "index"
            made = SoundIndex.open(path, model, processor, hop_s=hop_s)
            made.add(sounds, num_workers=NUM_WORKERS)
            return made

        def encode(files: list[Path]) -> np.ndarray:
            return encode_audio(model, processor, files, num_workers=NUM_WORKERS)

        ways: dict[str, Callable[[], object]] = {
            "index": lambda: index(folder / "clips"),
            "encode": lambda: encode(clips),
            "index_long": lambda: index(folder / "recordings", WINDOW_S),
            "index_long_half": lambda: index(folder / "recordings"),
            "encode_long": lambda: encode(recordings),
        }
        differences = {
            "clips": largest_difference(index(folder / "clips"), clips, encode(clips)),
            "recordings": largest_difference(index(folder / "recordings"), recordings, encode(recordings)),
        }
        if not max(differences.values()) <= TOLERANCE:
            raise SystemExit(f"Not the embeddings of `encode_audio`; the largest differences: {differences}")
        seconds = seconds_in_turns(ways, options.rounds)
    long = f"indexing recordings of {options.minutes:g} min"
    rows = [
        row(
            f"indexing {options.clips} clips of 10 s",
            "times `encode_audio` of the files",
            ratio(seconds, "index", "encode"),
            "<= 1.1",
        ),
        row(
            f"{long}, windows of 10.12 s side by side",
            "times `encode_audio` of the files",
            ratio(seconds, "index_long", "encode_long"),
            "<= 1.2",
        ),
        row(
            f"{long}, windows with half overlap",
            "times `encode_audio` of the files",
            ratio(seconds, "index_long_half", "encode_long"),
            "<= 2.2",
        ),
    ]
    print_report(
        "index",
        rows=rows,
        seconds=medians(seconds),
        largest_differences=differences,
        decoding_threads=NUM_WORKERS,
        **vars(options),
    )


def make_model(seed: int) -> tuple[AtriModel, AtriProcessor]:
    """Make a model with CED-tiny and a very small text tower, with random weights, and its processor."""
    torch.manual_seed(seed)
    model = AtriModel(AtriConfig(audio_config=TINY, text_config=TEXT)).eval()
    with torch.no_grad():
        for parameter in model.audio_model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    num_mel_bins = model.config.audio_config.num_mel_bins
    model.audio_model.mel_norm.set_statistics(torch.full((num_mel_bins,), -20.0), torch.full((num_mel_bins,), 225.0))
    tokenizer = train_tokenizer(["A dog barks while rain falls."] * 3, vocab_size=TEXT["vocab_size"])
    return model, AtriProcessor(AtriFeatureExtractor(), tokenizer)


def write_sounds(folder: Path, number: int, seconds: float, generator: np.random.Generator) -> list[Path]:
    """Write FLAC files of noise whose loudness changes, in the order in which an index takes them."""
    folder.mkdir()
    files = [folder / f"{index:03}.flac" for index in range(number)]
    for file in files:
        noise = generator.standard_normal(round(seconds * SAMPLING_RATE))
        soundfile.write(file, 0.1 * noise * np.abs(np.sin(np.linspace(0, seconds, len(noise)))), SAMPLING_RATE)
    return files


def largest_difference(index: SoundIndex, files: list[Path], expected: np.ndarray) -> float:
    """The largest difference of the embeddings of whole files in an index from those that are expected."""
    rows = index.tables.rows("kind != 'window'", ["path", "vector"])
    found = dict(zip(rows["path"].to_pylist(), rows["vector"].to_pylist(), strict=True))
    return float(np.abs(np.array([found[file.name] for file in files]) - expected).max())


if __name__ == "__main__":
    main()
