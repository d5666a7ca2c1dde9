"""The data distribution error: the paper's figures, and what the collator really puts into batches."""

from math import comb

import numpy as np
import pytest
import torch

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriDataCollator, losses
from modeling_atri.trainer.data.batches import DrawnRows, EpochBatchSampler
from modeling_atri.trainer.data.draws import LanguageDraws
from modeling_atri.trainer.diagnostics.distribution_error import (
    DistributionErrors,
    Sampling,
    caption_counts,
    closed_form_error,
    distribution_error,
    epoch_shares,
)
from modeling_atri.trainer.objectives import JOINT_OBJECTIVES
from tests.helpers.tiny import tiny_processor
from tests.helpers.training import LANGUAGES, make_arguments, make_rows
from tests.trainer.data.test_collator import caption_numbers


def counts_of(num_clips: int, num_languages: int = 8, num_captions: int = 1) -> np.ndarray:
    return np.full((num_clips, num_languages), num_captions)


@pytest.mark.parametrize(("objective", "languages"), [("kcl", 0.0), ("akcl", 0.0), ("cacl", 1.5), ("mlclap", 1.75)])
def test_the_figures_of_the_paper(objective, languages):
    counts = counts_of(50)
    shares = epoch_shares(Sampling(LanguageDraws(objective, ATRI_LANGUAGES), batch_size=8), counts, epoch=3)
    assert distribution_error(shares, counts) == pytest.approx((languages, languages), abs=1e-12)
    assert closed_form_error(objective, 8) == (languages, languages)


@pytest.mark.parametrize("num_captions", [1, 5])
@pytest.mark.parametrize("caption_choice", ["random", "first"])
@pytest.mark.parametrize(
    ("objective", "per_step"), [("kcl", None), ("kcl", 1), ("kcl", 3), ("akcl", 2), ("akcl", 5), ("cacl", None)]
)
def test_the_closed_form(objective, per_step, caption_choice, num_captions):
    counts = counts_of(30, 8, num_captions)
    sampling = Sampling(LanguageDraws(objective, ATRI_LANGUAGES, "fr", per_step, caption_choice), batch_size=7)
    expected = closed_form_error(objective, 8, per_step, num_captions)
    for epoch in range(3):
        found = distribution_error(epoch_shares(sampling, counts, epoch), counts)
        assert found == pytest.approx(expected, abs=1e-12)
    k = {"cacl": 2}.get(objective, per_step or 8)
    assert expected == pytest.approx((2 - k / 4, 2 - k / (4 * num_captions)))


def test_an_error_that_can_be_checked_by_hand():
    # Two languages; the first clip has one caption in each, the second two.
    counts = np.array([[1, 1], [2, 2]])
    shares = np.zeros((2, 2, 2))
    shares[0, 0, 0] = 1  # 1/4 too much of the first language, 1/4 too little of the second
    shares[1, :, 1] = 0.5  # 1/8 too much of the second captions, 1/8 too little of the first
    assert distribution_error(shares, counts) == (0.5, 0.5 + 0.5)
    # An epoch that leaves out the second clip: the first has all, at twice its share.
    shares[0, :, 0], shares[1] = 0.5, 0
    assert distribution_error(shares, counts) == (1.0, 1.0)


def test_a_clip_left_out_is_a_share_of_p_not_drawn():
    counts = counts_of(9)
    for objective, k in {"kcl": 8, "cacl": 2, "mlclap": 1}.items():
        shares = epoch_shares(Sampling(LanguageDraws(objective, ATRI_LANGUAGES), batch_size=4), counts, 0)
        assert distribution_error(shares, counts).languages == pytest.approx(2 * (1 - 8 / 9 * k / 8))


@pytest.mark.parametrize("objective", JOINT_OBJECTIVES)
def test_weights_are_those_of_the_loss(objective, monkeypatch):
    """Each term A(audio, text_k) of the loss in turn is 1, all others 0."""
    num_drawn = {"kcl": 3, "akcl": 3, "cacl": 2, "mlclap": 1}[objective]
    audio, text = torch.full((2, 4), -1.0), torch.arange(num_drawn).float()[:, None, None].expand(-1, 2, 4)
    weights = []
    for k in range(num_drawn):

        def is_term(x, y, *args, k=k, **kwargs):
            return torch.tensor(float(x[0, 0] == -1 and y[0, 0] == k))

        monkeypatch.setattr(losses, "info_nce_loss", is_term)
        loss = {
            "kcl": lambda: losses.kcl_loss(audio, text, 1.0),
            "akcl": lambda: losses.akcl_loss(audio, text, 1.0, anchor=1, weight=0.3, num_languages=8),
            "cacl": lambda: losses.cacl_loss(audio, text[0], text[1], 1.0),
            "mlclap": lambda: losses.mlclap_loss(audio, text[0], 1.0),
        }[objective]()
        weights.append(loss.item())
    per_step = 3 if objective in ("kcl", "akcl") else None
    sampling = Sampling(LanguageDraws(objective, ATRI_LANGUAGES, "fr", per_step), {"akcl_weight": 0.3}, batch_size=2)
    counts = counts_of(2)
    shares = epoch_shares(sampling, counts, epoch=next(e for e in range(99) if anchor_is_second(sampling, counts, e)))
    for of_clip in shares[:, :, 0]:
        assert of_clip[of_clip > 0] == pytest.approx(np.array(weights) / sum(weights))


def anchor_is_second(sampling: Sampling, counts: np.ndarray, epoch: int) -> bool:
    """As in the loss above; only for akcl it matters."""
    drawn = epoch_shares(sampling, counts, epoch)[0, :, 0].nonzero()[0].tolist()
    return sampling.draws.objective != "akcl" or drawn[1] == ATRI_LANGUAGES.index("fra_Latn")


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"objective": "kcl", "languages_per_step": 2},
        {"objective": "akcl", "languages_per_step": 2, "anchor_language": "fra_Latn"},
        {"objective": "akcl", "caption_choice": "first"},
        {"objective": "cacl", "data_seed": 5},
        {"objective": "mlclap", "dataloader_drop_last": True},
        {"objective": "mlclap", "seed": 7},
    ],
)
def test_the_replay_is_what_the_collator_put_into_batches(options, world_size, tmp_path, monkeypatch):
    """Over two epochs of eleven clips, whose last step is uneven, on every rank."""
    rows, batch_size = make_rows(11, num_captions=3), 6 // world_size
    args = make_arguments(tmp_path, per_device_train_batch_size=batch_size, **options)
    monkeypatch.setattr(type(args), "world_size", world_size)
    sampling = Sampling.from_arguments(args)
    counts = caption_counts(rows, LANGUAGES)
    seed = 5 if "data_seed" in options else args.seed
    collator = AtriDataCollator(
        tiny_processor(),
        LanguageDraws(
            *(args.objective, LANGUAGES, args.anchor_language, args.languages_per_step, args.caption_choice), seed
        ),
    )
    for epoch in range(2):
        drawn: dict[int, set[tuple[str, int]]] = {}
        for rank in range(world_size):
            batches = EpochBatchSampler(11, batch_size, seed, rank, world_size, args.dataloader_drop_last)
            batches.set_epoch(epoch)
            for draws in batches:
                batch = collator([DrawnRows(rows)[draw] for draw in draws])
                for codes, numbers in zip(batch["languages"], caption_numbers(batch), strict=True):
                    for item, code, (clip, caption) in zip(batch["item_ids"].tolist(), codes, numbers, strict=True):
                        assert clip == item
                        drawn.setdefault(item, set()).add((code, caption))
        shares = epoch_shares(sampling, counts, epoch)
        replayed = {
            item: {(LANGUAGES[k], int(c)) for k, c in np.argwhere(of_clip)}
            for item, of_clip in enumerate(shares)
            if of_clip.any()
        }
        assert replayed == drawn
        assert shares.sum(axis=(1, 2))[list(drawn)] == pytest.approx(1)


@pytest.mark.heavy
def test_the_average_over_epochs():
    """ML-CLAP's over languages is that of counts drawn from a binomial, CACL's has a floor, KCL's is always 0."""
    counts = counts_of(800)
    so_far = {}
    for objective in ("mlclap", "cacl", "kcl"):
        errors = DistributionErrors(Sampling(LanguageDraws(objective, ATRI_LANGUAGES)), counts)
        found = [errors.of_epoch(epoch) for epoch in range(12)]
        so_far[objective] = [line["languages_so_far"] for line in found]
        assert found[0]["languages"] == pytest.approx(found[0]["languages_so_far"], abs=1e-12)
        assert {line["left_out"] for line in found} == {0}
    for epochs in (1, 2, 5, 12):
        chances = [comb(epochs, n) * 7 ** (epochs - n) / 8**epochs for n in range(epochs + 1)]
        expected = 8 * sum(chance * abs(n / epochs - 1 / 8) for n, chance in enumerate(chances))
        assert so_far["mlclap"][epochs - 1] == pytest.approx(expected, abs=0.02)
    assert all(0.75 - 1e-12 <= error < 1.6 for error in so_far["cacl"])
    assert so_far["cacl"][-1] < 0.85
    assert so_far["kcl"] == pytest.approx([0] * 12, abs=1e-12)


def test_epochs_that_were_not_asked_for_are_replayed():
    counts = counts_of(20, num_captions=3)
    sampling = Sampling(LanguageDraws("mlclap", ATRI_LANGUAGES), batch_size=8)
    step_by_step = DistributionErrors(sampling, counts)
    lines = [step_by_step.of_epoch(epoch) for epoch in range(4)]
    assert DistributionErrors(sampling, counts).of_epoch(3) == lines[3]
    # Of an epoch that was stopped after one of three batches twelve clips are missing.
    part = DistributionErrors(sampling, counts).of_epoch(0, max_steps=1)
    assert part["left_out"] == 12
    assert part["languages"] == pytest.approx(2 * (1 - 8 / 20 / 8))


def test_captions_that_differ_in_number():
    rows = make_rows(4, num_captions=3)
    rows[0]["captions"] = {language: texts[:1] for language, texts in rows[0]["captions"].items()}
    counts = caption_counts(rows, LANGUAGES)
    assert counts.tolist() == [[1] * 3, [3] * 3, [3] * 3, [3] * 3]
    shares = epoch_shares(Sampling(LanguageDraws("kcl", LANGUAGES), batch_size=4), counts, 0)
    # Three clips of four lack two captions of three.
    assert distribution_error(shares, counts) == pytest.approx((0, 3 / 4 * 2 * (1 - 1 / 3)), abs=1e-12)


def test_a_caption_that_is_no_list_is_one():
    rows = [{"captions": {"en": "a dog", "fr": ["un chien"]}}]
    assert caption_counts(rows, ["eng_Latn", "fra_Latn"]).tolist() == [[1, 1]]


def test_what_is_refused():
    with pytest.raises(ValueError, match="Row 'clip 0' has no caption in deu_Latn. Add it"):
        caption_counts(make_rows(2), ["eng_Latn", "deu_Latn"])
    with pytest.raises(ValueError, match="`akcl_weight` 0 the loss has no audio-text terms"):
        Sampling(LanguageDraws("akcl", LANGUAGES), {"akcl_weight": 0})
    counts = counts_of(2, 2)
    with pytest.raises(ValueError, match=r"`shares` must have shape .* got \(2, 2\) and \(2, 2\)"):
        distribution_error(np.ones((2, 2)), counts)
    with pytest.raises(ValueError, match="not all 0, .* got shares from 0.0 to 0.0"):
        distribution_error(np.zeros((2, 2, 1)), counts)
    with pytest.raises(ValueError, match="4 of them without a caption"):
        distribution_error(np.ones((2, 2, 2)), counts)
