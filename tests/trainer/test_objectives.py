"""The table of objectives: its entries agree with the losses, and a new objective is one entry and one loss."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from modeling_atri.loss_atri import info_nce_loss
from modeling_atri.trainer.diagnostics import DiagnosticsCallback
from modeling_atri.trainer.diagnostics.callback import DIAGNOSTICS_NAME, read_diagnostics
from modeling_atri.trainer.losses import akcl_loss, cacl_loss, kcl_loss, mlclap_loss, ranking_divergence
from modeling_atri.trainer.objectives import OBJECTIVES, LossInputs, Objective, find_objective, objective_loss
from tests.helpers.training import (
    LANGUAGES,
    assert_same_gradients,
    assert_same_weights,
    losses,
    make_arguments,
    make_rows,
    make_trainer,
    tiny_model,
    train,
)


ROWS = make_rows(8, num_captions=2)


def embeddings(num_languages: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    audio, *text = F.normalize(torch.randn(1 + num_languages, 5, 8), dim=-1)
    return audio, torch.stack(text)


def inputs_of(options: dict, anchor: int | None, num_languages: int) -> LossInputs:
    return LossInputs(10.0, torch.tensor([0, 1, 2, 0, 3]), None, anchor, num_languages, options)


def test_the_losses_are_those_of_the_paper():
    ids = torch.tensor([0, 1, 2, 0, 3])
    audio, text = embeddings(3)
    found = {
        "kcl": objective_loss("kcl", audio, text, inputs_of({}, None, 3)),
        "akcl": objective_loss("akcl", audio, text, inputs_of({"akcl_weight": 0.3}, 1, 8)),
        "cacl": objective_loss("cacl", audio, text[:2], inputs_of({}, 0, 3)),
        "mlclap": objective_loss("mlclap", audio, text[:1], inputs_of({"embed_regularization": True}, None, 3)),
    }
    assert found == {
        "kcl": kcl_loss(audio, text, 10.0, ids),
        "akcl": akcl_loss(audio, text, 10.0, ids, anchor=1, weight=0.3, num_languages=8),
        "cacl": cacl_loss(audio, text[0], text[1], 10.0, ids),
        "mlclap": mlclap_loss(audio, text[0], 10.0, ids, embed_regularization=True),
    }
    with_rankings = objective_loss("kcl", audio, text, inputs_of({}, None, 3), ranking_weight=2.0)
    torch.testing.assert_close(with_rankings, found["kcl"] + 2 * ranking_divergence(audio, text, 10.0))


@pytest.mark.parametrize("name", [name for name, one in OBJECTIVES.items() if one.pair_weights])
def test_weights_of_pairs_add_up_to_the_loss(name):
    objective, ids = OBJECTIVES[name], torch.tensor([0, 1, 2, 0, 3])
    audio, text = embeddings(3)
    anchor, options = (1 if objective.has_anchor else None), {"akcl_weight": 0.3}
    options |= {"distill_weight": 0.0, "teach_audio": "akcl"}
    teacher = text[2].roll(1, 0) if objective.has_teacher else None
    total = torch.zeros(())
    for k, (audio_weight, anchor_weight) in enumerate(objective.weigh(3, anchor, 8, options)):
        total = total + audio_weight * info_nce_loss(audio, text[k], 10.0, ids)
        if anchor is not None and k != anchor:
            total = total + anchor_weight * info_nce_loss(text[anchor], text[k], 10.0, ids)
        if teacher is not None:
            total = total + anchor_weight * info_nce_loss(teacher, text[k], 10.0, ids)
    inputs = replace(inputs_of(options, anchor, 8), teacher=teacher)
    torch.testing.assert_close(total, objective_loss(name, audio, text, inputs))


def test_an_objective_that_is_not_in_the_table():
    with pytest.raises(ValueError, match="Unknown objective 'clap'; choose one of kcl, akcl, cacl, mlclap, teach."):
        find_objective("clap")


# A fifth objective: the anchor with every clip, and every other language with the anchor's captions.


def star_weights(num_drawn, anchor, num_languages, options):
    return [(1.0, 0.0) if k == anchor else (0.0, options["akcl_weight"]) for k in range(num_drawn)]


def star_loss(audio, text, inputs):
    loss = info_nce_loss(audio, text[inputs.anchor], inputs.scale, inputs.ids, inputs.shard)
    for k, captions in enumerate(text):
        if k != inputs.anchor:
            pair = info_nce_loss(text[inputs.anchor], captions, inputs.scale, inputs.ids, inputs.shard)
            loss = loss + inputs.options["akcl_weight"] * pair
    return loss


STAR = Objective(
    name="star",
    title="STAR",
    summary="each clip with the anchor, and the anchor with every other language",
    loss=star_loss,
    draws_per_clip=False,
    has_anchor=True,
    pair_weights=star_weights,
    options=("akcl_weight",),
)
# The same loss of the anchor and one other language that is drawn for each clip; it needs all embeddings together.
RAY = Objective(
    name="ray",
    title="RAY",
    summary="each clip with the anchor, and the anchor with one other language",
    loss=star_loss,
    draws_per_clip=True,
    has_anchor=True,
    options=("akcl_weight",),
)


@pytest.fixture(params=[STAR, RAY], ids=lambda objective: objective.name)
def fifth(request, monkeypatch) -> str:
    monkeypatch.setitem(OBJECTIVES, request.param.name, request.param)
    return request.param.name


def test_a_fifth_objective_trains_and_is_diagnosed(fifth, tmp_path):
    args = make_arguments(tmp_path, objective=fifth, anchor_language="fr", akcl_weight=0.25)
    trainer = make_trainer(args, ROWS, ROWS[:3])
    trainer.add_callback(DiagnosticsCallback(trainer))
    trainer.train()
    trainer.evaluate()
    assert trainer.state.global_step == 2
    assert len(losses(trainer)) == 2
    changed = [
        not torch.equal(one, other)
        for one, other in zip(trainer.model.parameters(), tiny_model().parameters(), strict=True)
    ]
    assert sum(changed) > len(changed) / 2
    distribution, alignment = read_diagnostics(tmp_path / DIAGNOSTICS_NAME)
    expected = {"star": 2 * (1 - 1 / 3), "ray": 2 * (1 - 2 / 3)}  # one and two of three languages meet the audio
    assert distribution["languages"] == pytest.approx(expected[fifth])
    assert set(alignment["pulls"]) == {"mlclap", "cacl", "kcl"} | ({fifth} - {"star"})


@pytest.mark.parametrize(
    "options", [{}, {"languages_per_step": 2}, {"audio_chunk_size": 2, "text_chunk_size": 3}, {"ranking_weight": 0.5}]
)
def test_a_fifth_objective_goes_language_by_language(options, tmp_path, monkeypatch):
    """The gradients of both steps are those with all languages together."""
    monkeypatch.setitem(OBJECTIVES, "star", STAR)
    exact, together = (
        train(make_arguments(tmp_path, objective="star", exact_step=exact_step, **options), ROWS)
        for exact_step in (True, False)
    )
    assert len(exact[1].steps) == len(together[1].steps) == 2
    for first, second in zip(exact[1].steps, together[1].steps, strict=True):
        assert_same_gradients(first, second, 1e-4)


def test_a_fifth_objective_has_the_checks_of_the_others(fifth, tmp_path):
    with pytest.raises(ValueError, match="anchor language eng_Latn is not among the languages"):
        make_arguments(tmp_path, objective=fifth, languages=LANGUAGES[1:])
    with pytest.raises(ValueError, match=f"belongs to mlclap; the objective is {fifth}"):
        make_arguments(tmp_path, objective=fifth, embed_regularization=True)
    if fifth == "ray":
        with pytest.raises(
            ValueError, match="is for kcl, akcl and teach; ray draws two languages a clip by definition"
        ):
            make_arguments(tmp_path, objective=fifth, languages_per_step=2)


def test_a_fifth_objective_that_is_akcl_trains_as_akcl(tmp_path, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "twin", OBJECTIVES["akcl"])
    options = {"languages_per_step": 2, "akcl_weight": 0.3}
    first, second = (train(make_arguments(tmp_path, objective=name, **options), ROWS) for name in ("akcl", "twin"))
    assert losses(first[0]) == losses(second[0])
    assert_same_weights(first[0].model, second[0].model)
