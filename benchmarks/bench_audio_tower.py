"""Compare the audio tower with the same model in plain torch, and with its bare matrix products.

CED-tiny encodes `--clips` clips of ten seconds in inference mode, and trains on them (forward and backward); CED-base
encodes `--base-clips` clips in inference mode. Weights are random. The following ways take turns in one process on one
thread, and their CPU time is measured:

- `tiny`, `tiny_training`, `base`: `AtriAudioModel`.
- `tiny_plain`, `tiny_plain_training`: the same weights in plain torch, written as CED was published: a convolution
  over patches, one linear layer for queries, keys and values, and attention as explicit products and a softmax.
- `tiny_floor`, `base_floor`: only the matrix products of the tower, with the same shapes and preallocated outputs.
- `tiny_passes`: what plain layers have to do between the products: layer norms, biases, softmax, activation and sums,
  each as one pass of torch. The report has `times_products_and_passes`, the tower's time divided by that of
  `tiny_floor` and `tiny_passes` together.
- `peak`: products of large square matrices.

Embeddings must equal those of plain torch to 1e-5, and gradients to 1e-5 of the largest entry; otherwise the benchmark
fails. It prints one JSON line. `gflops` counts only the matrix products, with two operations for each multiplication.
"""

from shared.measuring import medians, print_report, ratio, row, seconds_in_turns  # first: it sets one thread


# isort: split
import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from shared.options import ROUNDS, SEED, option_parser
from torch import Tensor, nn

from modeling_atri import AtriAudioConfig, AtriAudioModel


TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
NUM_FRAMES = 1001  # of ten seconds
PEAK_SIZE, NUM_PEAK_PRODUCTS = 2048, 4
TOLERANCE = 1e-5


def main() -> None:
    """Run the command."""
    options = option_parser(
        __doc__,
        "about a minute",
        clips=(32, "clips for CED-tiny"),
        base_clips=(4, "clips for CED-base"),
        rounds=(5, ROUNDS),
        seed=(0, SEED),
    ).parse_args()
    torch.manual_seed(options.seed)
    tiny, base = make_tower(**TINY), make_tower()
    plain = PlainTower(tiny).eval()
    clips = make_clips(options.clips)
    with torch.inference_mode():
        difference = (tiny(clips).pooler_output - plain(clips)).abs().max().item()
    differences = {"embeddings": difference, "gradients": gradient_difference(tiny, plain, clips[:4])}
    if max(differences.values()) > TOLERANCE:
        raise SystemExit(f"Not the numbers of plain torch; the largest differences: {differences}")

    left, right, out = torch.randn(3, PEAK_SIZE, PEAK_SIZE)
    base_clips = make_clips(options.base_clips)
    with torch.inference_mode():
        seconds = seconds_in_turns(
            {
                "tiny": lambda: tiny(clips),
                "tiny_plain": lambda: plain(clips),
                "tiny_floor": make_products(tiny.config, options.clips),
                "tiny_passes": make_passes(tiny.config, options.clips),
                "base": lambda: base(base_clips),
                "base_floor": make_products(base.config, options.base_clips),
                "peak": lambda: [torch.mm(left, right, out=out) for _ in range(NUM_PEAK_PRODUCTS)],
            },
            options.rounds,
        )
    of_both = [sum(both) for both in zip(seconds["tiny_floor"], seconds["tiny_passes"], strict=True)]
    tiny.train(), plain.train()
    seconds |= seconds_in_turns(
        {
            "tiny_training": lambda: tiny(clips).pooler_output.sum().backward(),
            "tiny_plain_training": lambda: plain(clips).sum().backward(),
        },
        options.rounds,
    )
    operations = {
        "tiny": num_operations(tiny.config, options.clips),
        "base": num_operations(base.config, options.base_clips),
        "peak": NUM_PEAK_PRODUCTS * 2 * PEAK_SIZE**3,
    }
    print_report(
        "audio_tower",
        rows=make_rows(seconds, operations, options),
        seconds=medians(seconds),
        gflops={way: round(count / min(seconds[way]) / 1e9, 1) for way, count in operations.items()},
        times_products_and_passes=round(ratio(seconds | {"both": of_both}, "tiny", "both"), 3),
        difference=differences,
        **vars(options),
    )


def make_rows(
    seconds: dict[str, list[float]], operations: dict[str, int], options: argparse.Namespace
) -> list[dict[str, object]]:
    """Make the rows of the table."""
    forward, training = f"CED-tiny, {options.clips} clips of 10 s", f"CED-tiny, training, {options.clips} clips"
    of_peak = ratio(seconds, "peak", "base") * operations["base"] / operations["peak"]
    plain = "times faster than plain softmax attention"
    return [
        row(forward, plain, ratio(seconds, "tiny_plain", "tiny"), ">= 1.4"),
        row(forward, "times its bare matrix products", ratio(seconds, "tiny", "tiny_floor"), "<= 1.3"),
        row(training, plain, ratio(seconds, "tiny_plain_training", "tiny_training"), ">= 1.2"),
        row(f"CED-base, {options.base_clips} clips of 10 s", "of the peak of a matrix product", of_peak, ">= 0.7"),
    ]


def make_tower(**sizes: int) -> AtriAudioModel:
    """Make a tower whose weights are all random, with mel statistics."""
    tower = AtriAudioModel(AtriAudioConfig(**sizes)).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    num_mel_bins = tower.config.num_mel_bins
    tower.mel_norm.set_statistics(torch.full((num_mel_bins,), -20.0), torch.full((num_mel_bins,), 225.0))
    return tower


def make_clips(number: int) -> Tensor:
    """Make log-mel features of noise, in dB, `(clips, frames, mel bins)`."""
    return -20 + 15 * torch.randn(number, NUM_FRAMES, 64)


# Plain torch, without dropout and padding, for clips of one chunk


class PlainTower(nn.Module):
    """CED in plain torch, with the weights of an `AtriAudioModel`."""

    def __init__(self, tower: AtriAudioModel):
        super().__init__()
        config, embeddings = tower.config, tower.embeddings
        self.norm = nn.BatchNorm1d(config.num_mel_bins)
        self.norm.load_state_dict(tower.mel_norm.state_dict(), strict=False)  # all but the number of batches
        self.projection = nn.Conv2d(1, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.projection.load_state_dict(embeddings.patch_projection.state_dict())
        self.frequency_positions = nn.Parameter(embeddings.frequency_positions.detach().clone())
        self.time_positions = nn.Parameter(embeddings.time_positions.detach().clone())
        self.blocks = nn.Sequential(*[PlainBlock(config, layer.state_dict()) for layer in tower.layers])
        self.last_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.last_norm.load_state_dict(tower.layer_norm.state_dict())

    def train(self, mode: bool = True) -> "PlainTower":
        """Set the mode. BatchNorm keeps its statistics, as in `AtriAudioModel`."""
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, input_features: Tensor) -> Tensor:
        """Encode features `(clips, frames, mel bins)` as embeddings `(clips, hidden_size)`."""
        x = self.projection(self.norm(input_features.transpose(1, 2))[:, None])
        x = x + self.time_positions[..., : x.shape[-1]] + self.frequency_positions
        return self.last_norm(self.blocks(x.flatten(2).transpose(1, 2))).mean(1)


class PlainBlock(nn.Module):
    """A transformer block with a norm before attention and before the feed-forward layers."""

    def __init__(self, config: AtriAudioConfig, weights: dict[str, Tensor]):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        names = {"norm1": "attention_norm", "out": "attention.out_proj", "norm2": "mlp_norm"}
        names |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
        state = {}
        for kind in ("weight", "bias"):
            state |= {f"{ours}.{kind}": weights[f"{name}.{kind}"] for ours, name in names.items()}
            state[f"qkv.{kind}"] = torch.cat([weights[f"attention.{part}_proj.{kind}"] for part in "qkv"])
        self.load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        """Return hidden states of the same shape, `(clips, tokens, hidden_size)`."""
        x = x + self.attend(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def attend(self, x: Tensor) -> Tensor:
        """Self-attention."""
        clips, tokens, width = x.shape
        head_dim = width // self.num_heads
        query, key, value = self.qkv(x).view(clips, tokens, 3, self.num_heads, head_dim).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) * head_dim**-0.5).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(clips, tokens, width))


def gradient_difference(tower: AtriAudioModel, plain: PlainTower, clips: Tensor) -> float:
    """The largest difference between the gradients of the two models, divided by the largest entry."""
    cotangent = torch.randn(len(clips), tower.config.hidden_size)
    tower(clips).pooler_output.backward(cotangent)
    plain(clips).backward(cotangent)
    with torch.no_grad():  # a plain tower made of our gradients has them under its own parameter names
        for parameter in tower.parameters():
            parameter.data, parameter.grad = parameter.grad, parameter.data
        expected = PlainTower(tower)
        for parameter in tower.parameters():
            parameter.data, parameter.grad = parameter.grad, None
    pairs = [(given.grad, ours) for given, ours in zip(plain.parameters(), expected.parameters(), strict=True)]
    largest = max(gradient.abs().max() for gradient, _ in pairs)
    return (max((gradient - ours).abs().max() for gradient, ours in pairs) / largest).item()


# The floor


def shapes_of_products(config: AtriAudioConfig, clips: int) -> list[tuple[int, int, int, int, int]]:
    """The matrix products of the tower: their number, batch size, rows, inner width and outer width."""
    rows, _ = config.patch_grid
    tokens = rows * (NUM_FRAMES // config.patch_size[1])
    layers, heads, width = config.num_hidden_layers, config.num_attention_heads, config.hidden_size
    head_dim = width // heads
    return [
        (1, 1, clips * tokens, config.patch_size[0] * config.patch_size[1], width),
        (4 * layers, 1, clips * tokens, width, width),
        (layers, clips * heads, tokens, head_dim, tokens),
        (layers, clips * heads, tokens, tokens, head_dim),
        (layers, 1, clips * tokens, width, config.intermediate_size),
        (layers, 1, clips * tokens, config.intermediate_size, width),
    ]


def num_operations(config: AtriAudioConfig, clips: int) -> int:
    """The number of multiplications and additions of the matrix products."""
    return sum(2 * number * batch * m * k * n for number, batch, m, k, n in shapes_of_products(config, clips))


def make_products(config: AtriAudioConfig, clips: int) -> Callable[[], None]:
    """Make a function that computes the products one after the other, into preallocated outputs."""
    operands = [
        (number, torch.randn(batch, m, k), torch.randn(batch, n, k).mT, torch.empty(batch, m, n))
        for number, batch, m, k, n in shapes_of_products(config, clips)
    ]

    def run() -> None:
        for number, left, right, out in operands:
            for _ in range(number):
                torch.bmm(left, right, out=out)

    return run


def make_passes(config: AtriAudioConfig, clips: int) -> Callable[[], None]:
    """Make a function that runs the passes between the products, into preallocated outputs."""
    rows, _ = config.patch_grid
    tokens, width, wide = rows * (NUM_FRAMES // config.patch_size[1]), config.hidden_size, config.intermediate_size
    states, sums = torch.randn(2, clips * tokens, width)
    hidden, activated = torch.randn(2, clips * tokens, wide)
    scores, weights = torch.randn(2, clips * config.num_attention_heads, tokens, tokens)
    bias, wide_bias = torch.randn(width), torch.randn(wide)

    def run() -> None:
        for _ in range(config.num_hidden_layers):
            for _ in range(2):
                torch.layer_norm(states, (width,), bias, bias)
                torch.add(states, sums, out=sums)
            for _ in range(5):
                sums.copy_(bias)
            hidden.copy_(wide_bias)
            torch.softmax(scores, dim=-1, out=weights)
            torch.ops.aten.gelu.out(hidden, out=activated)

    return run


if __name__ == "__main__":
    main()
