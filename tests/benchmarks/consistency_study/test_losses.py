"""Losses that are compared with the objectives, against sums of the package's own terms."""

import pytest
import torch
import torch.nn.functional as F

from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer.losses import akcl_loss, cacl_loss, kcl_loss


@pytest.fixture
def batch() -> dict:
    torch.manual_seed(0)
    views = F.normalize(torch.randn(9, 5, 7), dim=-1)
    return {"audio": views[0], "text": views[1:], "scale": torch.tensor(9.0), "ids": torch.tensor([0, 1, 0, 2, 3])}


def test_rotating_anchor(batch):
    from consistency_study.losses import rotating_anchor

    for step, anchor in ((0, 0), (3, 3), (11, 3)):
        assert torch.equal(rotating_anchor(**batch, step=step), akcl_loss(*batch.values(), anchor=anchor))


def test_all_pairs_are_the_mean_over_anchors(batch):
    from consistency_study.losses import all_pairs

    anchored = torch.stack([akcl_loss(*batch.values(), anchor=anchor, weight=0.0) for anchor in range(8)]).mean()
    torch.testing.assert_close(all_pairs(**batch, step=0), (kcl_loss(*batch.values()) + anchored) / 2)


def test_weighted_languages(batch):
    from consistency_study.losses import weighted_languages

    terms = [info_nce_loss(batch["audio"], text, batch["scale"], batch["ids"]) for text in batch["text"]]
    expected = (sum(terms[:6]) + 2 * terms[6] + 2 * terms[7]) / 10  # Japanese and Chinese are the last two
    torch.testing.assert_close(weighted_languages(**batch, step=0), expected)


def test_anchored_thirds_are_cacl_on_average(batch):
    from consistency_study.losses import anchored_thirds

    audio, (anchor, *others), scale, ids = batch.values()
    pairs = [cacl_loss(audio, anchor, other, scale, ids) for other in others]
    torch.testing.assert_close(anchored_thirds(**batch, step=0), torch.stack(pairs).mean())


def test_akcl_of_drawn_clips_is_akcl_on_average(batch):
    from consistency_study.losses import akcl_of_drawn_clips

    # Where all clips draw the same language, the mean over the languages is AKCL of all languages.
    estimates = [akcl_of_drawn_clips(**batch | {"text": batch["text"][[0, other]]}, step=0) for other in range(1, 8)]
    torch.testing.assert_close(torch.stack(estimates).mean(), akcl_loss(*batch.values()))
