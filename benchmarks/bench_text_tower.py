"""Compare the text tower, which does not pad, with padded batches in encoding and in training.

A tower of SONAR's width, with `--layers` of its 24 layers, a small vocabulary and random weights, encodes captions in
eight languages. `encode_text` is compared with the `M2M100Encoder` of transformers with the same weights, sdpa
attention and the mean over tokens, in inference mode. The following ways take turns in one process on one thread, and
their CPU time is measured:

- `padded`: batches of 32 in random order, padded to their longest caption. `ours` is `encode_text` on the same
  captions.
- `sorted`: captions sorted by their number of characters, as sentence-transformers does, in padded batches of 32.
  `ours_sorted` is `encode_text` on the same captions.
- `floor`: only the matrix products of the linear layers for the tokens of `ours`, with preallocated outputs.
- `training`, `training_padded`: forward and backward with dropout of the captions of 24 clips in one language, as in a
  step of the trainer.

The captions are random tokens, because only their lengths matter. The number of words is drawn from the 7,350 captions
of AudioCaps' validation and test sets. The characters of a word are those of parallel captions in eight languages (the
scenes of benchmarks/README.md), and the tokens of a word are a rough estimate for NLLB's tokenizer; both vary by 10 %
between captions. A corpus of 4,096 captions makes batches in either order. `--batches` of them are run, spread from
little padding to much padding so that they are padded about as much as all batches. The number of characters says
little about the number of tokens where languages mix, so sorted batches are still padded. The report also has the
share of padding of batches sorted by tokens, which have almost none.

Embeddings must equal those of padded batches to 1e-5, and gradients (without dropout) to 1e-4 in norm, because
rounding can move the input of a ReLU across zero. It prints one JSON line.
"""

from shared.measuring import medians, print_report, ratio, row, seconds_in_turns  # first: it sets one thread


# isort: split
import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from shared.options import ROUNDS, SEED, option_parser
from torch import Tensor
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from modeling_atri import AtriConfig, AtriModel
from modeling_atri.encode import encode_text


# The number of AudioCaps' captions with 0, 1, 2, ... words.
WORDS = [
    *(0, 0, 26, 278, 428, 545, 765, 814, 775, 700, 596, 440, 377, 292, 261, 187, 163, 145, 116, 101),
    *(83, 63, 52, 43, 28, 10, 14, 15, 5, 10, 7, 6, 3, 0, 1, 0, 0, 0, 0, 1),
]
# Tokens and characters for each word of the English caption.
LANGUAGES = {
    "eng_Latn": (1.2, 5.2),
    "fra_Latn": (1.6, 5.8),
    "deu_Latn": (1.6, 5.4),
    "spa_Latn": (1.5, 5.3),
    "nld_Latn": (1.6, 5.5),
    "cat_Latn": (1.5, 5.0),
    "jpn_Jpan": (1.4, 2.0),
    "zho_Hans": (1.2, 1.6),
}
CORPUS_SIZE, BATCH_SIZE, TRAINING_CLIPS = 4096, 32, 24
PADDING, VOCABULARY = 1, 5000
TOKENS_AT_ONCE = 512  # of the floor
TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "about a minute",
        layers=(2, "layers of the tower"),
        batches=(3, "batches of 32 captions in either order"),
        rounds=(3, ROUNDS),
        seed=(0, SEED),
    ).parse_args()
    torch.manual_seed(options.seed)
    generator = np.random.default_rng(options.seed)
    model = make_model(options.layers)
    padded = with_padding(model)
    corpus, num_characters = draw_corpus(generator, CORPUS_SIZE, list(LANGUAGES))
    orders = {"padded": np.arange(CORPUS_SIZE), "sorted": np.argsort(-num_characters, kind="stable")}
    in_order, by_length = (sample_batches(corpus, order, options.batches) for order in orders.values())
    training = pad(draw_corpus(generator, TRAINING_CLIPS, ["eng_Latn"])[0])
    differences = check(model, padded, in_order, training)

    num_tokens = sum(len(caption) for batch in in_order for caption in batch)
    with torch.inference_mode():
        seconds = seconds_in_turns(
            {
                "ours": lambda: encode(model, in_order),
                "padded": lambda: encode_batches(padded, in_order),
                "ours_sorted": lambda: encode(model, by_length),
                "sorted": lambda: encode_batches(padded, by_length),
                "floor": make_products(model, num_tokens),
            },
            options.rounds,
        )
    ways = {"training": model.train(), "training_padded": padded.train()}
    seconds |= seconds_in_turns({way: make_step(item, *training) for way, item in ways.items()}, options.rounds)
    print_report(
        "text_tower",
        rows=make_rows(seconds),
        seconds=medians(seconds),
        times_the_floor=round(ratio(seconds, "ours", "floor"), 3),
        captions=options.batches * BATCH_SIZE,
        share_of_padding={
            "padded": share_of_padding(in_order),
            "sorted": share_of_padding(by_length),
            "training": round(1 - training[1].float().mean().item(), 3),
        },
        share_of_padding_in_corpus={
            way: share_of_padding(make_batches(corpus, order))
            for way, order in {**orders, "sorted_by_tokens": np.argsort([len(caption) for caption in corpus])}.items()
        },
        largest_difference=differences,
        **vars(options),
    )


def make_rows(seconds: dict[str, list[float]]) -> list[dict[str, object]]:
    """Make the rows of the table."""
    encoded, trained = "captions in eight languages, encoded", "captions of one language, forward and backward"
    in_given_order = "times faster than padded batches of 32 in the order given"
    by_characters = "times faster than sentence-transformers' batches, sorted by length"
    in_training = "times faster than a padded batch of 24"
    return [
        row(encoded, in_given_order, ratio(seconds, "padded", "ours"), ">= 2.2"),
        row(encoded, by_characters, ratio(seconds, "sorted", "ours_sorted"), ">= 1.2"),
        row(trained, in_training, ratio(seconds, "training_padded", "training"), ">= 1"),
    ]


def make_model(num_layers: int) -> AtriModel:
    """Make a model with SONAR's text tower except for depth and vocabulary, and a tiny audio tower."""
    audio = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    text = {"vocab_size": VOCABULARY, "encoder_layers": num_layers}
    return AtriModel(AtriConfig(audio_config=audio, text_config=text)).eval()


def with_padding(model: AtriModel) -> AtriModel:
    """Copy a model, with the encoder of transformers as its text tower."""
    padded = copy.deepcopy(model)
    padded.text_model = M2M100Encoder._from_config(padded.config.text_config).eval()
    padded.text_model.load_state_dict(model.text_model.state_dict())
    return padded


# Captions


def draw_corpus(
    generator: np.random.Generator, size: int, languages: list[str]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw captions: the token ids and the number of characters of each."""
    num_words = generator.choice(len(WORDS), size, p=np.array(WORDS) / sum(WORDS))
    rates = np.array([LANGUAGES[language] for language in languages])[generator.integers(len(languages), size=size)]
    counts = np.rint(num_words[:, None] * rates * np.exp(generator.normal(0, 0.1, (size, 2)))).astype(int)
    num_tokens = counts[:, 0] + 2  # language code and end
    return [generator.integers(4, VOCABULARY, length) for length in num_tokens], counts[:, 1]


def make_batches(corpus: list[np.ndarray], order: np.ndarray) -> list[list[np.ndarray]]:
    """Split a corpus into batches."""
    return [[corpus[index] for index in rows] for rows in order.reshape(-1, BATCH_SIZE)]


def sample_batches(corpus: list[np.ndarray], order: np.ndarray, count: int) -> list[list[np.ndarray]]:
    """Sort the batches by their share of padding, split them into `count` equal parts, and take the middle of each."""
    batches = sorted(make_batches(corpus, order), key=lambda batch: share_of_padding([batch]))
    middles = (np.arange(count) + 0.5) * len(batches) / count
    return [batches[int(middle)] for middle in middles]


def pad(captions: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pad captions: their token ids and mask, `(captions, tokens)`."""
    input_ids = torch.full((len(captions), max(map(len, captions))), PADDING)
    for line, caption in zip(input_ids, captions, strict=True):
        line[: len(caption)] = torch.from_numpy(caption)
    return input_ids, (input_ids != PADDING).long()


def share_of_padding(batches: list[list[np.ndarray]]) -> float:
    """The share of padded batches that is padding."""
    lengths = np.array([[len(caption) for caption in batch] for batch in batches])
    return round(1 - lengths.sum() / (lengths.max(axis=1) * BATCH_SIZE).sum(), 3)


# Ways


class Tokens:
    """Replaces a processor. A "text" is the number of a caption whose tokens are known."""

    def __init__(self, captions: list[np.ndarray]):
        self.captions = captions

    def __call__(self, text: list[str], language: None) -> dict[str, Tensor]:
        input_ids, mask = pad([self.captions[int(number)] for number in text])
        return {"input_ids": input_ids, "attention_mask": mask}


def encode(model: AtriModel, batches: list[list[np.ndarray]]) -> np.ndarray:
    """Embed the captions of batches by `encode_text`."""
    captions = [caption for batch in batches for caption in batch]
    return encode_text(model, Tokens(captions), map(str, range(len(captions))))


def encode_batches(model: AtriModel, batches: list[list[np.ndarray]]) -> np.ndarray:
    """Embed padded batches one by one."""
    return np.concatenate([model.get_text_features(*pad(batch)).pooler_output.numpy() for batch in batches])


def make_products(model: AtriModel, num_tokens: int) -> Callable[[], None]:
    """Make a function that computes the products of the tower's linear layers, some tokens at a time."""
    weights = [part.weight for part in model.text_model.layers.modules() if isinstance(part, torch.nn.Linear)]
    inputs = {width: torch.randn(TOKENS_AT_ONCE, width) for weight in weights for width in weight.shape}
    outputs = {width: torch.empty(TOKENS_AT_ONCE, width) for width in inputs}

    def run() -> None:
        for start in range(0, num_tokens, TOKENS_AT_ONCE):
            count = min(TOKENS_AT_ONCE, num_tokens - start)
            for weight in weights:
                out_width, in_width = weight.shape
                torch.mm(inputs[in_width][:count], weight.T, out=outputs[out_width][:count])

    return run


def make_step(model: AtriModel, input_ids: Tensor, mask: Tensor) -> Callable[[], None]:
    """Make a function that runs forward and backward of a loss of all entries of the embeddings."""
    target = F.normalize(torch.randn(len(input_ids), model.config.projection_dim), dim=-1)

    def run() -> None:
        model.zero_grad()
        (model.get_text_features(input_ids, mask).pooler_output * target).sum().backward()

    return run


def check(
    model: AtriModel, padded: AtriModel, batches: list[list[np.ndarray]], training: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """The largest difference of embeddings, and of gradients in norm. End the run if they are above the tolerances."""
    with torch.inference_mode():
        embeddings = np.abs(encode(model, batches) - encode_batches(padded, batches)).max()
    gradients = []
    for item in (model, padded):
        torch.manual_seed(0)
        make_step(item, *training)()
        gradients.append(torch.cat([weight.grad.flatten() for weight in item.text_model.parameters()]))
    ours, theirs = gradients
    differences = {
        "embeddings": float(embeddings),
        "gradients": ((ours - theirs).norm() / theirs.norm()).item(),
    }
    if differences["embeddings"] > TOLERANCE or differences["gradients"] > GRADIENT_TOLERANCE:
        raise SystemExit(f"Not the numbers of padded batches; the largest differences: {differences}")
    return differences


if __name__ == "__main__":
    main()
