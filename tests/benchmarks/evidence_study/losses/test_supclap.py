"""SupCLAP's support vectors and losses, against the formula of their derivative and slow references."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer.losses import akcl_loss, cacl_loss, kcl_loss


LANGUAGES, CLIPS, WIDTH = 3, 5, 7
GROUPS = [0, 1, 0, 2, 3]
SCALE = 6.0


@pytest.fixture
def views() -> Tensor:
    torch.manual_seed(0)
    return F.normalize(torch.randn(1 + LANGUAGES, CLIPS, WIDTH, dtype=torch.float64), dim=-1)


def slow_infonce(rows: Tensor, columns: Tensor, groups: list[int]) -> float:
    """The mean over the rows of -log of their share of the positives, one number at a time."""
    total = 0.0
    for i in range(len(rows)):
        scores = [SCALE * float(rows[i] @ columns[j]) for j in range(len(columns))]
        log_sum = math.log(sum(math.exp(score) for score in scores))
        positives = [j for j in range(len(columns)) if groups[j] == groups[i]]
        total += sum(log_sum - scores[j] for j in positives) / len(positives)
    return total / len(rows)


def slow_svr(audio: Tensor, text: Tensor, radii: Tensor, groups: list[int], is_renormalised: bool) -> float:
    """S(a, t) of one language. `radii` are those of the captions and those of the clips."""
    both = []
    for (x, y), of_side in zip(((text, audio), (audio, text)), radii, strict=True):
        support = []
        for i in range(len(x)):
            way = y[i] - x[i]
            moved = x[i] + of_side[i] * way / math.sqrt(float(way @ way))
            support.append(moved / math.sqrt(float(moved @ moved)) if is_renormalised else moved)
        both.append(slow_infonce(torch.stack(support), y, groups))
    return sum(both) / 2


@pytest.mark.parametrize("radius", [0.0, 0.4, 2.0])
def test_derivative_of_a_support_vector(views, radius):
    from evidence_study.losses.supclap import support_vectors

    audio, caption = views[0, 0], views[1, 0]
    distance = (audio - caption).norm()
    unit = (audio - caption) / distance
    along, identity = torch.outer(unit, unit), torch.eye(WIDTH, dtype=torch.float64)
    expected = (1 - radius / distance) * (identity - along) + along
    fixed = torch.tensor(radius, dtype=torch.float64)
    found = torch.autograd.functional.jacobian(lambda t: support_vectors(t, audio, fixed), caption)
    torch.testing.assert_close(found, expected)


def test_the_push_across_the_pull_is_gone_at_the_distance_of_the_pair(views):
    from evidence_study.losses.supclap import support_vectors

    audio, caption = views[0, 0], views[1, 0].clone().requires_grad_()
    distance = (audio - caption).detach().norm()
    pushed = support_vectors(caption, audio, distance) @ views[0, 1]  # towards the clip of a negative
    (gradient,) = torch.autograd.grad(pushed, caption)
    unit = ((audio - caption) / distance).detach()
    torch.testing.assert_close(gradient, (gradient @ unit) * unit)


@pytest.mark.parametrize("objective", ["cacl", "kcl", "akcl"])
@pytest.mark.parametrize("reading", ["plain", "radius0.5", "renormalised"])
def test_static_loss_against_a_slow_reference(views, objective, reading):
    from evidence_study.losses.supclap import READINGS, SUPCLAP_LOSSES, StaticRadius

    audio, text = views[0], views[1 : 3 if objective == "cacl" else None]
    loss = SUPCLAP_LOSSES[f"{objective}-static-{reading}"](CLIPS).double()
    assert isinstance(loss.radius, StaticRadius)
    assert loss.radius.radius.item() == READINGS[reading].get("initial_radius", 0.0)
    torch.nn.init.constant_(loss.radius.radius, 0.3)
    ids = torch.tensor(GROUPS)
    objectives = {
        "cacl": (lambda: cacl_loss(audio, text[0], text[1], SCALE, ids), [1 / 3, 1 / 3]),
        "kcl": (lambda: kcl_loss(audio, text, SCALE, ids), [1 / 3, 1 / 3, 1 / 3]),
        "akcl": (lambda: akcl_loss(audio, text, SCALE, ids), [1 / 6, 1 / 6, 1 / 6]),
    }
    own, weights = objectives[objective]
    radii = torch.full((2, CLIPS), loss.radius.radius.item(), dtype=torch.float64)
    terms = [slow_svr(audio, captions, radii, GROUPS, reading == "renormalised") for captions in text]
    expected = own().item() + sum(weight * term for weight, term in zip(weights, terms, strict=True))
    found = loss(audio, text, torch.tensor(SCALE), ids, 0)
    assert found.item() == pytest.approx(expected, rel=1e-9)
    found.backward()
    assert loss.radius.radius.grad.item() < 0  # a larger radius makes the support vectors easier to tell apart


def test_without_a_radius_the_term_is_that_of_the_objective(views):
    from evidence_study.losses.supclap import SUPCLAP_LOSSES

    audio, text = views[0], views[1:]
    loss = SUPCLAP_LOSSES["kcl-static-plain"](CLIPS).double()
    without_groups = loss.terms(audio, text, torch.tensor(SCALE), None)
    torch.testing.assert_close(without_groups, torch.stack([info_nce_loss(audio, one, SCALE) for one in text]))


def test_the_dynamic_radius_starts_at_its_initial_value(views):
    from evidence_study.losses.supclap import SUPCLAP_LOSSES

    inputs = (views[0], views[1:], torch.tensor(SCALE), torch.tensor(GROUPS), 0)
    for reading in ("plain", "radius0.5"):
        static, dynamic = (SUPCLAP_LOSSES[f"kcl-{way}-{reading}"](CLIPS).double() for way in ("static", "dynamic"))
        dynamic.radius.constraint_weight = 0.0
        torch.testing.assert_close(dynamic(*inputs), static(*inputs))


@pytest.mark.parametrize("is_sorted", [False, True])
def test_dynamic_loss_against_a_slow_reference(views, is_sorted):
    from evidence_study.losses.supclap import DynamicRadius, SupClapLoss

    audio, text = views[0], views[1:]
    radius = DynamicRadius(CLIPS, is_sorted=is_sorted).double()
    torch.nn.init.normal_(radius.layers[-1].weight, std=20.0)
    with torch.no_grad():  # some radii are too large, and some below 0
        radius.layers[-1].bias -= radius(text @ audio.T).median()
    first, _, second, _, third = radius.layers
    expected, smallest, largest_excess = kcl_loss(audio, text, SCALE, torch.tensor(GROUPS)).item(), 1.0, -1.0
    for captions in text:
        radii = torch.zeros(2, CLIPS, dtype=torch.float64)
        constraint = 0.0
        for side, (x, y) in enumerate(((captions, audio), (audio, captions))):
            for i in range(CLIPS):
                row = [float(x[i] @ y[j]) for j in range(CLIPS)]
                if is_sorted:
                    row = [row[i], *sorted((row[j] for j in range(CLIPS) if j != i), reverse=True)]
                hidden = (first.weight @ torch.tensor(row, dtype=torch.float64) + first.bias).clamp(min=0)
                hidden = (second.weight @ hidden + second.bias).clamp(min=0)
                radii[side, i] = value = (third.weight @ hidden + third.bias).item()
                distance = (x[i] - y[i]).norm().item()
                constraint += (max(value - distance, 0) + max(-value, 0)) / CLIPS / 2
                smallest, largest_excess = min(smallest, value), max(largest_excess, value - distance)
        term = slow_svr(audio, captions, radii, GROUPS, is_renormalised=False) + 0.01 * constraint
        expected += term / LANGUAGES
    assert smallest < 0 < largest_excess
    loss = SupClapLoss("kcl", radius)
    found = loss(audio, text, torch.tensor(SCALE), torch.tensor(GROUPS), 0)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_no_gradient_flows_from_a_dynamic_radius_to_the_embeddings(views):
    from evidence_study.losses.supclap import DynamicRadius, SupClapLoss

    audio, text = views[0].clone().requires_grad_(), views[1:]
    loss = SupClapLoss("kcl", DynamicRadius(CLIPS).double())
    torch.nn.init.normal_(loss.radius.layers[-1].weight)
    radius = loss.radius((audio @ text.mT).detach())
    assert radius.requires_grad and not torch.autograd.grad(radius.sum(), audio, allow_unused=True)[0]
    loss(audio, text, torch.tensor(SCALE), None, 0).backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())
