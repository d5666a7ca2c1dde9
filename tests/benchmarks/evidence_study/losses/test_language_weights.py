"""KCL with another weight for one language, against sums of the package's own terms."""

import pytest
import torch
import torch.nn.functional as F

from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer.losses import kcl_loss


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_weighted_kcl(weight):
    from evidence_study.losses.language_weights import WeightedKcl

    torch.manual_seed(0)
    audio, *captions = F.normalize(torch.randn(1 + len(ATRI_LANGUAGES), 5, 7), dim=-1)
    text, scale, ids = torch.stack(captions), torch.tensor(9.0), torch.tensor([0, 1, 0, 2, 3])
    found = WeightedKcl(5, "cat_Latn", weight)(audio, text, scale, ids, 0)
    place = list(ATRI_LANGUAGES).index("cat_Latn")
    terms = [info_nce_loss(audio, one, scale, ids) for one in text]
    weak = terms.pop(place)
    torch.testing.assert_close(found, (sum(terms) + weight * weak) / (7 + weight))
    if weight == 1.0:
        torch.testing.assert_close(found, kcl_loss(audio, text, scale, ids))
