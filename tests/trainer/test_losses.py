import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_atri.loss_atri import Shard, info_nce_loss
from modeling_atri.trainer.losses import (
    akcl_loss,
    akcl_weights,
    cacl_loss,
    kcl_loss,
    mlclap_loss,
    ranking_divergence,
    teach_loss,
)


def embeddings(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1).requires_grad_()


# The public implementations' numbers


class Golden:
    """Values and gradients of the public loss functions in float64; ours takes languages first and scale = 1 / tau."""

    def __init__(self, folder: Path):
        self.values = json.loads((folder / "losses.json").read_text(encoding="utf-8"))["values"]
        arrays = np.load(folder / "losses.npz")
        self.arrays = {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
        self.audio = self.arrays["audio"].double().requires_grad_()
        self.text = self.arrays["text"].double().requires_grad_()  # (N, K, D)
        self.tau = self.arrays["tau"].clone().requires_grad_()

    @property
    def scale(self) -> Tensor:
        return 1 / self.tau

    def in_language(self, name: str) -> Tensor:
        """Each item's caption in the language drawn for it, (N, D)."""
        return self.text[torch.arange(len(self.text)), self.arrays[f"{name}_lang"]]

    def check(self, loss: Tensor, value: str, gradients: str) -> None:
        assert loss.item() == pytest.approx(self.values[value], abs=1e-6)
        found = torch.autograd.grad(loss, (self.audio, self.text, self.tau))
        for name, gradient in zip(("audio", "text", "tau"), found, strict=True):
            torch.testing.assert_close(gradient, self.arrays[f"{gradients}_grad_{name}"], atol=1e-6, rtol=0)


@pytest.fixture
def golden(shared_dir) -> Golden:
    return Golden(shared_dir / "reference")


def test_kcl_equals_the_reference(golden):
    loss = kcl_loss(golden.audio, golden.text.transpose(0, 1), golden.scale)
    golden.check(loss, "kcl", "kcl")
    assert abs(loss.item() - golden.values["wrong_joint_softmax_kcl"]) > 1


def test_kcl_of_each_language_equals_the_reference(golden):
    for k, expected in enumerate(golden.values["kcl_per_language_atc"]):
        loss = kcl_loss(golden.audio, golden.text[:, k][None], golden.scale)
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_kcl_through_normalisation_equals_the_reference(golden):
    audio, text = (golden.arrays[f"raw_{name}"].double().requires_grad_() for name in ("audio", "text"))
    loss = kcl_loss(F.normalize(audio, dim=-1), F.normalize(text, dim=-1).transpose(0, 1), golden.scale)
    assert loss.item() == pytest.approx(golden.values["kcl_from_raw"], abs=1e-6)
    for name, gradient in zip(("audio", "text"), torch.autograd.grad(loss, (audio, text)), strict=True):
        torch.testing.assert_close(gradient, golden.arrays[f"kcl_raw_grad_{name}"], atol=1e-6, rtol=0)


def test_cacl_equals_the_reference(golden):
    golden.check(cacl_loss(golden.audio, golden.text[:, 0], golden.in_language("cacl"), golden.scale), "cacl", "cacl")


def test_mlclap_equals_the_reference(golden):
    golden.check(mlclap_loss(golden.audio, golden.in_language("mlclap"), golden.scale), "mlclap", "mlclap")


def test_mlclap_with_regularization_equals_the_reference(golden):
    loss = mlclap_loss(golden.audio, golden.in_language("mlclap"), golden.scale, embed_regularization=True)
    golden.check(loss, "mlclap_with_embed_reg", "mlclapreg")


def test_soft_positives_equal_the_reference(golden):
    loss = mlclap_loss(golden.audio, golden.in_language("mlclap"), golden.scale, golden.arrays["dup_idx"])
    assert loss.item() == pytest.approx(golden.values["mlclap_with_duplicate_idx"], abs=1e-6)


def test_mlclap_equals_the_public_model_on_a_batch(shared_dir):
    folder = shared_dir / "reference"
    meta = json.loads((folder / "mlclap_meta.json").read_text(encoding="utf-8"))
    arrays = np.load(folder / "mlclap_io.npz")
    audio, text = (torch.from_numpy(arrays[name]) for name in ("audio_embeds_zero_padded_batch", "text_embeds"))
    scale = 1 / meta["temperature"]
    assert mlclap_loss(audio, text, scale).item() == pytest.approx(meta["loss_no_reg"], abs=1e-5)
    with_regularization = mlclap_loss(audio, text, scale, embed_regularization=True).item()
    assert with_regularization == pytest.approx(meta["loss_with_reg"], abs=1e-5)
    ids = torch.tensor([0, 0, 2, 3, 4, 5])
    assert mlclap_loss(audio, text, scale, ids).item() == pytest.approx(meta["loss_no_reg_idx0_equals_idx1"], abs=1e-5)


# Plain formulas


def plain_pair(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """Symmetric InfoNCE item by item."""
    terms = []
    for i in range(len(x)):
        for row, columns in ((x[i], y), (y[i], x)):
            scores = torch.stack([scale * (row * column).sum() for column in columns])
            terms.append(scores.logsumexp(0) - scores[i])
    return torch.stack(terms).sum() / (2 * len(x))


def plain_akcl(audio: Tensor, text: Tensor, scale: float, anchor: int, weight: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for k in range(len(text)):
        total = total + weight / len(text) * plain_pair(audio, text[k], scale)
        if k != anchor:
            total = total + (1 - weight) / (len(text) - 1) * plain_pair(text[anchor], text[k], scale)
    return total


def assert_equal_with_gradients(loss: Tensor, expected: Tensor, leaves: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=0)
    found, wanted = (torch.autograd.grad(value, leaves, allow_unused=True) for value in (loss, expected))
    for gradient, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("anchor, weight", [(0, 0.5), (2, 0.5), (1, 0.2), (0, 1.0), (2, 0.0)])
def test_akcl_equals_the_plain_formula(anchor, weight):
    audio, text = embeddings(4, 5), embeddings(3, 4, 5)
    loss = akcl_loss(audio, text, 6.0, anchor=anchor, weight=weight)
    assert_equal_with_gradients(loss, plain_akcl(audio, text, 6.0, anchor, weight), (audio, text))


@pytest.mark.parametrize("audio_term", ["akcl", "kcl", "none"])
@pytest.mark.parametrize("of_languages", [False, True], ids=["one teacher", "a teacher of each language"])
def test_teaching_equals_the_plain_formula(audio_term, of_languages):
    audio, text, scale = embeddings(5, 4), embeddings(3, 5, 4), torch.tensor(3.0, dtype=torch.float64)
    teacher = embeddings(3, 5, 4).detach() if of_languages else embeddings(5, 4).detach()
    expected = torch.zeros((), dtype=torch.float64)
    for k in range(3):
        own = teacher[k] if of_languages else teacher
        for n in range(5):
            expected = expected + 0.7 * sum((text[k, n, d] - own[n, d]) ** 2 for d in range(4)) / 15
        if audio_term == "kcl":
            expected = expected + plain_pair(audio, text[k], 3.0) / 3
        if audio_term == "akcl":
            expected = expected + (plain_pair(audio, text[k], 3.0) + plain_pair(own, text[k], 3.0)) / 6
    loss = teach_loss(audio, text, teacher, scale, distill_weight=0.7, audio_term=audio_term)
    leaves = (text,) if audio_term == "none" else (audio, text)
    assert_equal_with_gradients(loss, expected, leaves)


def test_teaching_without_sounds_is_distillation():
    text, teacher = embeddings(2, 5, 4), embeddings(5, 4).detach()
    loss = teach_loss(None, text, teacher, 10.0, audio_term="none")
    torch.testing.assert_close(loss, (2 - 2 * (text * teacher).sum(-1)).mean())  # of unit vectors
    with pytest.raises(ValueError, match=r"shape \(5, 4\), or with one set for each language \(2, 5, 4\)"):
        teach_loss(None, text, teacher[1:], 10.0, audio_term="none")
    with pytest.raises(ValueError, match="must be 'akcl', 'kcl' or 'none'; got 'cacl'"):
        teach_loss(None, text, teacher, 10.0, audio_term="cacl")
    for audio_term in ("akcl", "kcl"):
        with pytest.raises(ValueError, match=f"'{audio_term}' compares captions with sounds, but the batch has none"):
            teach_loss(None, text, teacher, 10.0, audio_term=audio_term)


def test_akcl_takes_ids_in_every_term():
    audio, text, ids = embeddings(4, 5), embeddings(2, 4, 5), torch.tensor([0, 1, 0, 2])
    terms = [info_nce_loss(audio, text[0], 6.0, ids), info_nce_loss(audio, text[1], 6.0, ids)]
    expected = 0.25 * terms[0] + 0.25 * terms[1] + 0.5 * info_nce_loss(text[0], text[1], 6.0, ids)
    assert_equal_with_gradients(akcl_loss(audio, text, 6.0, ids), expected, (audio, text))


def test_akcl_of_weight_one_is_kcl():
    audio, text = embeddings(4, 5), embeddings(3, 4, 5)
    assert_equal_with_gradients(akcl_loss(audio, text, 6.0, weight=1.0), kcl_loss(audio, text, 6.0), (audio, text))


@pytest.mark.parametrize("ids", [None, torch.tensor([3, 3, 1, 0])])
def test_cacl_and_kcl_are_means_of_pairs(ids):
    audio, text = embeddings(4, 5), embeddings(3, 4, 5)

    def pair(x: Tensor, y: Tensor) -> Tensor:
        return info_nce_loss(x, y, 6.0, ids)

    mean = (pair(audio, text[0]) + pair(audio, text[1]) + pair(audio, text[2])) / 3
    assert_equal_with_gradients(kcl_loss(audio, text, 6.0, ids), mean, (audio, text))
    mean = (pair(audio, text[0]) + pair(audio, text[1]) + pair(text[0], text[1])) / 3
    assert_equal_with_gradients(cacl_loss(audio, text[0], text[1], 6.0, ids), mean, (audio, text))
    one_language = kcl_loss(audio, text[:1], 6.0, ids)
    assert_equal_with_gradients(mlclap_loss(audio, text[0], 6.0, ids), one_language, (audio, text))


# Draws of languages


@pytest.mark.parametrize("num_drawn", [2, 3, 4, 5])
@pytest.mark.parametrize("anchor, weight", [(0, 0.5), (3, 0.3)])
def test_akcl_over_all_draws_is_the_whole_loss(num_drawn, anchor, weight):
    audio, text = embeddings(4, 5), embeddings(5, 4, 5)
    others = [k for k in range(5) if k != anchor]
    losses = []
    for drawn in itertools.combinations(others, num_drawn - 1):
        rows = sorted((anchor, *drawn))
        losses.append(akcl_loss(audio, text[rows], 6.0, None, rows.index(anchor), weight, num_languages=5))
    assert len(losses) == math.comb(4, num_drawn - 1)
    whole = akcl_loss(audio, text, 6.0, anchor=anchor, weight=weight)
    assert_equal_with_gradients(torch.stack(losses).mean(), whole, (audio, text))


@pytest.mark.parametrize("num_drawn", [1, 2, 4])
def test_kcl_over_all_draws_is_the_whole_loss(num_drawn):
    audio, text = embeddings(4, 5), embeddings(4, 4, 5)
    losses = [kcl_loss(audio, text[list(drawn)], 6.0) for drawn in itertools.combinations(range(4), num_drawn)]
    assert_equal_with_gradients(torch.stack(losses).mean(), kcl_loss(audio, text, 6.0), (audio, text))


def test_akcl_weights_known_by_hand():
    assert akcl_weights(4, anchor=1) == [(0.125, 1 / 6), (0.125, 0.0), (0.125, 1 / 6), (0.125, 1 / 6)]
    # 2 of 8: each other language stands in one draw of seven.
    assert akcl_weights(2, anchor=0, num_languages=8) == [(0.5 / 8, 0.0), (0.5 * 7 / 8, 0.5)]


def test_ranking_divergence_is_that_of_the_entropies():
    audio, text = embeddings(4, 5), embeddings(3, 4, 5)
    expected = []
    for caption in range(4):
        p = [(7.0 * audio @ language[caption]).softmax(0) for language in text]
        entropies = [-(one * one.log()).sum() for one in (*p, sum(p) / 3)]
        expected.append(entropies[3] - sum(entropies[:3]) / 3)
    assert_equal_with_gradients(ranking_divergence(audio, text, 7.0), torch.stack(expected).mean(), (audio, text))


def test_ranking_divergence_known_by_hand():
    clips = torch.eye(2)
    same = clips.expand(3, 2, 2)
    assert ranking_divergence(clips, same, 5.0).item() == pytest.approx(0, abs=1e-6)
    # Two languages that are sure of different clips: log 2, the most there can be.
    opposed = torch.stack([clips, clips.flip(0)])
    assert ranking_divergence(clips, opposed, 100.0).item() == pytest.approx(math.log(2))
    # Half precision is too coarse for the scale, and an autocast must not bring it in.
    with torch.autocast("cpu", torch.bfloat16):
        found = ranking_divergence(clips.bfloat16(), opposed.bfloat16(), torch.tensor(100.0))
    assert (found.dtype, found.item()) == (torch.float32, pytest.approx(math.log(2)))


# Several processes


@pytest.mark.parametrize("counts", [(2, 2), (3, 1)])
@pytest.mark.parametrize("objective", ["kcl", "cacl", "mlclap", "akcl", "rankings", "teach"])
def test_mean_over_processes_is_the_whole_batch(objective, counts):
    audio, text, ids = embeddings(4, 5), embeddings(3, 4, 5), torch.tensor([0, 1, 1, 2])
    teacher = embeddings(4, 5).detach()

    def loss_of(audio: Tensor, text: Tensor, ids: Tensor, shard: Shard | None) -> Tensor:
        if objective == "kcl":
            return kcl_loss(audio, text, 6.0, ids, shard)
        if objective == "cacl":
            return cacl_loss(audio, text[0], text[1], 6.0, ids, shard)
        if objective == "mlclap":
            return mlclap_loss(audio, text[0], 6.0, ids, embed_regularization=True, shard=shard)
        if objective == "rankings":
            return ranking_divergence(audio, text, 6.0, shard)
        if objective == "teach":
            own = teacher if shard is None else teacher[shard.offset : shard.offset + len(audio)]
            return teach_loss(audio, text, own, 6.0, ids, 0.7, shard=shard)
        return akcl_loss(audio, text, 6.0, ids, anchor=1, shard=shard)

    whole = {"audio": audio, "ids": ids, "teacher": teacher, "counted rows": teacher[:, :1]} | {
        f"text {k}": text[k] for k in range(3)
    }
    losses = []
    for rank, count in enumerate(counts):
        rows = slice(sum(counts[:rank]), sum(counts[:rank]) + count)

        def gather(local: Tensor, rows: slice = rows) -> Tensor:
            # The tensor whose rows these are, found by value.
            return next(t for t in whole.values() if t[rows].shape == local.shape and torch.equal(t[rows], local))

        shard = Shard(gather, rows.start, len(counts))
        losses.append(loss_of(audio[rows], text[:, rows], ids[rows], shard))
    assert_equal_with_gradients(torch.stack(losses).mean(), loss_of(audio, text, ids, None), (audio, text))


# Errors


@pytest.mark.parametrize(
    "loss, text_shape, message",
    [
        (kcl_loss, (3, 4), r"\(K, N, D\) with K >= 1"),
        (kcl_loss, (0, 3, 4), r"\(K, N, D\) with K >= 1"),
        (kcl_loss, (2, 4, 4), r"have the same shape \(N, D\)"),
        (akcl_loss, (1, 3, 4), r"\(K, N, D\) with K >= 2"),
        (akcl_loss, (2, 3, 5), r"have the same shape \(N, D\)"),
        (ranking_divergence, (1, 3, 4), r"\(K, N, D\) with K >= 2"),
        (ranking_divergence, (2, 4, 4), r"have the same shape \(N, D\)"),
        (mlclap_loss, (2, 3, 4), r"have the same shape \(N, D\)"),
    ],
)
def test_shapes_that_do_not_fit(loss, text_shape, message):
    with pytest.raises(ValueError, match=message):
        loss(torch.ones(3, 4), torch.ones(text_shape), 1.0)


@pytest.mark.parametrize("loss", [kcl_loss, akcl_loss, mlclap_loss])
def test_what_is_no_tensor_is_refused(loss):
    audio, text = torch.eye(3), torch.eye(3) if loss is mlclap_loss else torch.eye(3).expand(2, 3, 3)
    for given in ((audio.numpy(), text), (audio, text.numpy()), (audio, list(text))):
        with pytest.raises(ValueError, match="torch tensor"):
            loss(*given, 1.0)
    with pytest.raises(ValueError, match="`ids` must be a tensor of integers"):
        loss(audio, text, 1.0, [1, 1, 2])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_drawn": 1, "anchor": 0}, "2 <= drawn languages"),
        ({"num_drawn": 3, "anchor": 0, "num_languages": 2}, "got 3 of 2"),
        ({"num_drawn": 3, "anchor": 3}, "0 to 2; got 3"),
        ({"num_drawn": 3, "anchor": -1}, "0 to 2; got -1"),
        ({"num_drawn": 3, "anchor": 0, "weight": 1.5}, r"`weight` must be in \[0, 1\]; got 1.5"),
        ({"num_drawn": 3, "anchor": 0, "weight": float("nan")}, r"`weight` must be in \[0, 1\]; got nan"),
    ],
)
def test_akcl_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        akcl_weights(**arguments)
