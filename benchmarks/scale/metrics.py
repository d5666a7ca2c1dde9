"""Measure the retrieval metrics of 20,000 clips and 100,000 captions of 1024 dimensions.

CPU seconds on one thread. The two halves of the bare product run before and after our computation.

- `times_bare_product`: `retrieval_metrics`, both directions together, divided by the float32 product of all scores.
- `extra_memory_mb`: what it adds to the peak memory of the process, which holds the embeddings.
- `mrv_of_8_languages_ratio`: `multilingual_metrics` of eight languages, which adds the consistency figures, divided
  by eight calls of `retrieval_metrics`; an eighth of the clips and captions.
- `large_groups_cpu_seconds`: 2,000 clips in five classes of 400, five captions each. A caption fits 400 clips.

The embeddings are random and L2-normalised. Captions lie around their clip so that recall is like that of a trained
model. `bench_metrics.py` compares the figures with those of other implementations. It prints one JSON line.
"""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.measuring import cpu_seconds, print_scale_report  # first: it sets one thread


# isort: split
import numpy as np
import torch
from shared.options import SEED, option_parser
from shared.processes import peak_memory

from modeling_atri.trainer.metrics import multilingual_metrics, retrieval_metrics


CLIPS, CAPTIONS, DIM, NOISE = 20_000, 5, 1024, 10
LANGUAGES, CLASSES, CLIPS_OF_CLASSES = 8, 5, 2000
TILE = (512, 2048)  # with which the product is fastest
BARS = {
    "times_bare_product": 1.5,
    "extra_memory_mb": 200,
    "mrv_of_8_languages_ratio": 1.1,
    "large_groups_cpu_seconds": 4.5,
}


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__, "two minutes", part=(1.0, "part of the 20,000 clips and their captions"), seed=(0, SEED)
    ).parse_args()
    clips = max(100, int(CLIPS * options.part))
    generator = np.random.default_rng(options.seed)
    audio, (text,), positives = make_embeddings(generator, clips, 1)
    before = peak_memory()
    half = len(text) // 2
    product = cpu_seconds(lambda: bare_product(text[:half], audio))
    ours = cpu_seconds(lambda: retrieval_metrics(audio, text, positives))
    extra = (peak_memory() - before) // 2**20
    product += cpu_seconds(lambda: bare_product(text[half:], audio))
    size = {"clips": clips, "captions": len(positives), "dim": DIM}
    figures = {
        "times_bare_product": round(ours / product, 2),
        "cpu_seconds": round(ours, 1),
        "bare_product_cpu_seconds": round(product, 1),
        "extra_memory_mb": extra,
    }
    figures |= languages_together(generator, clips // 8) | large_groups(generator, options.part)
    print_scale_report("metrics", figures, BARS, size)


def make_embeddings(
    generator: np.random.Generator, clips: int, languages: int
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Embeddings of clips and of their captions in some languages, and the clip of each caption."""
    audio = generator.standard_normal((clips, DIM), dtype=np.float32)
    positives = np.repeat(np.arange(clips), CAPTIONS)
    texts = []
    for _ in range(languages):
        texts.append(generator.standard_normal((len(positives), DIM), dtype=np.float32))
        for start in range(0, len(positives), 1000):  # in parts, so that memory for it does not hide what we measure
            texts[-1][start : start + 1000] *= NOISE
            texts[-1][start : start + 1000] += audio[positives[start : start + 1000]]
    for rows in (audio, *texts):
        for start in range(0, len(rows), 1000):
            part = rows[start : start + 1000]
            part /= np.linalg.norm(part, axis=1, keepdims=True)
    return audio, texts, positives


def bare_product(text: np.ndarray, audio: np.ndarray) -> None:
    """Compute all scores and keep none."""
    captions, clips, memory = torch.from_numpy(text), torch.from_numpy(audio), torch.empty(TILE)
    for rows in captions.split(TILE[0]):
        for columns in clips.split(TILE[1]):
            torch.mm(rows, columns.T, out=memory.flatten()[: len(rows) * len(columns)].view(len(rows), len(columns)))


def languages_together(generator: np.random.Generator, clips: int) -> dict[str, float]:
    """Measure eight languages in one call and in eight."""
    audio, texts, positives = make_embeddings(generator, max(20, clips), LANGUAGES)
    named = {f"language {number}": text for number, text in enumerate(texts)}
    apart = cpu_seconds(lambda: [retrieval_metrics(audio, text, positives) for text in texts])
    together = cpu_seconds(lambda: multilingual_metrics(audio, named, positives))
    return {"mrv_of_8_languages_ratio": round(together / apart, 2)}


def large_groups(generator: np.random.Generator, part: float) -> dict[str, float]:
    """Measure captions that fit all clips of a class."""
    clips = max(CLASSES, int(CLIPS_OF_CLASSES * min(1, 4 * part)))
    audio, (text,), own = make_embeddings(generator, clips, 1)
    members = [np.flatnonzero(np.arange(clips) % CLASSES == name) for name in range(CLASSES)]
    positives = [members[clip % CLASSES] for clip in own]
    return {"large_groups_cpu_seconds": round(cpu_seconds(lambda: retrieval_metrics(audio, text, positives)), 2)}


if __name__ == "__main__":
    main()
