"""The audio tower against the plain way to write it, and against the matrix products that it cannot do without.

CED-tiny takes `--clips` clips of ten seconds, in inference mode and in training (forward and backward); CED-base takes
`--base-clips`, in inference mode. Weights are random. These take turns in one process, on one thread, and are timed by
CPU time:

- `tiny`, `tiny_training`, `base`: `AtriAudioModel`;
- `tiny_plain`, `tiny_plain_training`: the same weights in plain torch, as CED was published: a convolution over
  patches, one linear layer for queries, keys and values, softmax attention spelled out;
- `tiny_floor`, `base_floor`: the tower's own matrix products at their own shapes, into memory that is there, and
  nothing else;
- `peak`: products of large square matrices.

Embeddings must equal those of plain torch to 1e-5, and gradients to 1e-5 of the largest entry, or the benchmark fails.
It prints one JSON line; `gflops` counts the matrix products alone, two operations a multiplication.
"""

from measuring import print_report, ratio, row, seconds_in_turns  # first: it keeps numpy and torch to one thread


# isort: split
import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_atri import AtriAudioConfig, AtriAudioModel


TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
NUM_FRAMES = 1001  # of ten seconds
PEAK_SIZE, NUM_PEAK_PRODUCTS = 2048, 4
TOLERANCE = 1e-5


def main() -> None:
    """Run the command."""
    options = parse_options()
    torch.manual_seed(options.seed)
    tiny, base = make_tower(**TINY), make_tower()
    plain = PlainTower(tiny).eval()
    clips = make_clips(options.clips)
    differences = {
        "embeddings": forward_difference(tiny, plain, clips),
        "gradients": gradient_difference(tiny, plain, clips[:4]),
    }
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
                "base": lambda: base(base_clips),
                "base_floor": make_products(base.config, options.base_clips),
                "peak": lambda: [torch.mm(left, right, out=out) for _ in range(NUM_PEAK_PRODUCTS)],
            },
            options.rounds,
        )
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
        make_rows(seconds, operations, options),
        seconds,
        gflops={way: round(count / min(seconds[way]) / 1e9, 1) for way, count in operations.items()},
        clips=options.clips,
        base_clips=options.base_clips,
        difference=differences,
        rounds=options.rounds,
        seed=options.seed,
    )


def parse_options() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Takes about a minute."
    )
    parser.add_argument("--clips", type=int, default=32, help="clips for CED-tiny (default: %(default)s)")
    parser.add_argument("--base-clips", type=int, default=4, help="clips for CED-base (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns that are timed (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and clips (default: %(default)s)")
    return parser.parse_args()


def make_rows(
    seconds: dict[str, list[float]], operations: dict[str, int], options: argparse.Namespace
) -> list[dict[str, object]]:
    """Rows of the table."""
    forward, training = f"CED-tiny, {options.clips} clips of 10 s", f"CED-tiny, training, {options.clips} clips"
    of_peak = ratio(seconds, "peak", "base") * operations["base"] / operations["peak"]
    plainly = "times faster than plain softmax attention"
    return [
        row(forward, plainly, ratio(seconds, "tiny_plain", "tiny"), ">= 1.4"),
        row(forward, "times its bare matrix products", ratio(seconds, "tiny", "tiny_floor"), "<= 1.3"),
        row(training, plainly, ratio(seconds, "tiny_plain_training", "tiny_training"), ">= 1.2"),
        row(f"CED-base, {options.base_clips} clips of 10 s", "of the peak of a matrix product", of_peak, ">= 0.7"),
    ]


def make_tower(**sizes: int) -> AtriAudioModel:
    """A tower of random weights, all of them, with mel statistics."""
    tower = AtriAudioModel(AtriAudioConfig(**sizes)).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    num_mel_bins = tower.config.num_mel_bins
    tower.mel_norm.set_statistics(torch.full((num_mel_bins,), -20.0), torch.full((num_mel_bins,), 225.0))
    return tower


def make_clips(number: int) -> Tensor:
    """Log-mel features of noise, in dB."""
    return -20 + 15 * torch.randn(number, NUM_FRAMES, 64)


# The plain way: no dropout, no padding, clips of one chunk.


class PlainTower(nn.Module):
    """CED in plain torch, with the weights of an `AtriAudioModel`."""

    def __init__(self, tower: AtriAudioModel):
        super().__init__()
        config, embeddings = tower.config, tower.embeddings
        self.norm = nn.BatchNorm1d(config.num_mel_bins)
        self.norm.load_state_dict(tower.mel_norm.state_dict(), strict=False)  # but the number of batches
        self.projection = nn.Conv2d(1, config.hidden_size, config.patch_size, stride=config.patch_size)
        self.projection.load_state_dict(embeddings.patch_projection.state_dict())
        self.frequency_positions = nn.Parameter(embeddings.frequency_positions.detach().clone())
        self.time_positions = nn.Parameter(embeddings.time_positions.detach().clone())
        self.blocks = nn.Sequential(*[PlainBlock(config, layer.state_dict()) for layer in tower.layers])
        self.last_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.last_norm.load_state_dict(tower.layer_norm.state_dict())

    def train(self, mode: bool = True) -> "PlainTower":
        """Its BatchNorm keeps its statistics, as ours."""
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, input_features: Tensor) -> Tensor:
        """`(clips, frames, mel bins)` to `(clips, hidden_size)`."""
        x = self.projection(self.norm(input_features.transpose(1, 2))[:, None])
        x = x + self.time_positions[..., : x.shape[-1]] + self.frequency_positions
        return self.last_norm(self.blocks(x.flatten(2).transpose(1, 2))).mean(1)


class PlainBlock(nn.Module):
    """Attention and feed-forward, each after a norm."""

    def __init__(self, config: AtriAudioConfig, weights: dict[str, Tensor]):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        names = {
            "norm1": "attention_norm",
            "out": "attention.out_proj",
            "norm2": "mlp_norm",
            "fc1": "mlp.fc1",
            "fc2": "mlp.fc2",
        }
        state = {f"{ours}.{kind}": weights[f"{name}.{kind}"] for ours, name in names.items() for kind in KINDS}
        for kind in KINDS:
            state[f"qkv.{kind}"] = torch.cat([weights[f"attention.{part}_proj.{kind}"] for part in "qkv"])
        self.load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        """`(clips, tokens, hidden_size)` to the same shape."""
        x = x + self.attend(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def attend(self, x: Tensor) -> Tensor:
        """Softmax attention."""
        clips, tokens, width = x.shape
        head_dim = width // self.num_heads
        query, key, value = self.qkv(x).view(clips, tokens, 3, self.num_heads, head_dim).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) * head_dim**-0.5).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(clips, tokens, width))


KINDS = ("weight", "bias")


def forward_difference(tower: AtriAudioModel, plain: PlainTower, clips: Tensor) -> float:
    """The largest difference between the two embeddings."""
    with torch.inference_mode():
        return (tower(clips).pooler_output - plain(clips)).abs().max().item()


def gradient_difference(tower: AtriAudioModel, plain: PlainTower, clips: Tensor) -> float:
    """The largest difference between the two gradients, of the largest entry of all."""
    cotangent = torch.randn(len(clips), tower.config.hidden_size)
    tower(clips).pooler_output.backward(cotangent)
    plain(clips).backward(cotangent)
    with torch.no_grad():  # a plain tower of our gradients has them under its own names
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
    """The tower's matrix products: how many, and of them batch, rows, inner and outer width."""
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
    """Multiplications and additions of the matrix products."""
    return sum(2 * number * batch * m * k * n for number, batch, m, k, n in shapes_of_products(config, clips))


def make_products(config: AtriAudioConfig, clips: int) -> Callable[[], None]:
    """Runs the products one after the other, into memory that is there."""
    operands = [
        (number, torch.randn(batch, m, k), torch.randn(batch, n, k).mT, torch.empty(batch, m, n))
        for number, batch, m, k, n in shapes_of_products(config, clips)
    ]

    def run() -> None:
        for number, left, right, out in operands:
            for _ in range(number):
                torch.bmm(left, right, out=out)

    return run


if __name__ == "__main__":
    main()
