"""What a frozen text tower makes of captions is computed once: same training, fewer forward passes."""

import multiprocessing
import tracemalloc

import numpy as np
import pytest
import torch

from modeling_atri import AtriModel
from modeling_atri.trainer.data.text_cache import TextCache
from modeling_atri.trainer.model.adapters import add_text_lora
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from tests.helpers.training import (
    LANGUAGES,
    assert_same_gradients,
    assert_same_weights,
    losses,
    make_arguments,
    make_rows,
    make_trainer,
    train,
)


pytestmark = pytest.mark.heavy


def model_with_dropout(seed: int = 0) -> AtriModel:
    """In training mode its text tower says something else every time."""
    config = tiny_config()
    config.text_config.dropout = 0.3
    torch.manual_seed(seed)
    model = AtriModel(config)
    model.audio_model.mel_norm.load_state_dict(tiny_model().audio_model.mel_norm.state_dict())
    return model


def encoded_captions(model: AtriModel) -> list[int]:
    """Captions of every forward pass of the text tower, filled as they are made."""
    counts = []
    model.text_model.register_forward_pre_hook(
        lambda module, args, kwargs: counts.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    return counts


def tokens(texts: list[str], languages: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = tiny_processor()(text=texts, language=languages)
    return batch["input_ids"], batch["attention_mask"]


# Training


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "kcl"},
        {"objective": "akcl", "gradient_accumulation_steps": 2},
        {"objective": "akcl", "exact_step": False},
        {"objective": "cacl"},
        {"objective": "mlclap"},
    ],
    ids=["kcl", "akcl", "akcl at once", "cacl", "mlclap"],
)
def test_training_is_the_same_as_without(tmp_path, options):
    rows = make_rows(8)
    args = {"freeze_text": True, "num_train_epochs": 3, **options}
    plain, gradients = train(make_arguments(tmp_path, **args), rows, model_with_dropout())
    args["text_cache_dir"] = str(tmp_path / "states")
    cached, cached_gradients = train(make_arguments(tmp_path, **args), rows, model_with_dropout())
    # Rounding of earlier steps is in the weights of later ones.
    assert losses(cached) == pytest.approx(losses(plain), rel=1e-5)
    for step, (ours, theirs) in enumerate(zip(cached_gradients.steps, gradients.steps, strict=True)):
        assert_same_gradients(ours, theirs, tolerance=3e-6 if step == 0 else 1e-4)
    assert "text_projection.fc1.weight" in cached_gradients.steps[0]
    assert not any(name.startswith("text_model.") for name in cached_gradients.steps[0])


def test_each_caption_is_encoded_once(tmp_path):
    rows = make_rows(6, num_captions=1)
    options = {"freeze_text": True, "num_train_epochs": 4, "text_cache_dir": str(tmp_path / "states")}
    model = tiny_model()
    counts = encoded_captions(model)
    trainer, _ = train(make_arguments(tmp_path, **options), rows, model)
    distinct = len(rows) * len(LANGUAGES)
    assert (trainer.state.global_step, sum(counts), max(counts)) == (8, distinct, 4)

    # A second run finds all of them on disk; a run without the cache encodes them in every epoch.
    for cache, expected in ((options["text_cache_dir"], 0), (None, 4 * distinct)):
        model = tiny_model()
        counts = encoded_captions(model)
        train(make_arguments(tmp_path, **options | {"text_cache_dir": cache}), rows, model)
        assert sum(counts) == expected


def test_a_frozen_text_tower_has_no_dropout(tmp_path):
    """Two seeds differ in nothing else here: what the frozen tower says may not depend on them."""
    options = {"caption_choice": "first", "objective": "kcl", "per_device_train_batch_size": 4, "max_steps": 1}
    first, second = (
        losses(train(make_arguments(tmp_path, freeze_text=True, seed=seed, **options), make_rows(4), model)[0])
        for seed, model in ((1, model_with_dropout()), (2, model_with_dropout()))
    )
    assert first == pytest.approx(second, rel=1e-5)
    noisy = losses(train(make_arguments(tmp_path, seed=1, **options), make_rows(4), model_with_dropout())[0])
    assert noisy != pytest.approx(first, rel=1e-4)


def test_bfloat16_training_reads_float32_states(tmp_path):
    rows = make_rows(4)
    options = {"freeze_text": True, "objective": "kcl", "text_cache_dir": str(tmp_path / "states")}
    train(make_arguments(tmp_path, bf16=True, **options), rows)
    cache = TextCache(tiny_model(), tmp_path / "states")
    row = rows[0]["captions"]["fra_Latn"][0]
    ids, mask = tokens([row, rows[0]["captions"]["fra_Latn"][1]], ["fr", "fr"])
    cached, num_known = cache(ids, mask), len(cache)
    with torch.no_grad():
        expected = tiny_model()(input_ids=ids, attention_mask=mask).text_model_output.pooler_output
    assert cache.num_computed == 1  # the epoch drew the other one of these two
    assert num_known == len(rows) * len(LANGUAGES) + 1
    torch.testing.assert_close(cached, expected, rtol=0, atol=1e-5)


# The cache itself


def test_states_are_those_of_the_tower(tmp_path):
    model = model_with_dropout().train()
    model.text_model.train()
    texts = ["a dog barks", "un chien aboie", "犬", "a dog barks", "a dog barks"]
    ids, mask = tokens(texts, ["en", "fr", "ja", "en", "fr"])
    cache = TextCache(model, tmp_path)
    found = cache(ids, mask, batch_size=2)
    assert (cache.num_computed, len(cache)) == (4, 4), "the same words in two languages are two captions"
    assert model.text_model.training
    model.eval()
    for row in range(len(texts)):  # alone, without padding
        used = mask[row].bool()
        with torch.no_grad():
            alone = model(input_ids=ids[row : row + 1, used]).text_model_output.pooler_output
        torch.testing.assert_close(found[row : row + 1], alone, rtol=0, atol=1e-6)
    assert found.dtype == torch.float32
    assert not found.requires_grad

    # In other company, padded otherwise, and in another process's hands, they are found again.
    cache.flush()
    again = TextCache(model, tmp_path)
    padded = torch.nn.functional.pad(ids, (0, 3), value=1), torch.nn.functional.pad(mask, (0, 3))
    assert torch.equal(again(*padded), found)
    assert again.num_computed == 0


def test_other_weights_have_other_states(tmp_path):
    ids, mask = tokens(["a dog barks"], ["en"])
    first, second = tiny_model(), tiny_model()
    with torch.no_grad():
        second.text_model.layers[0].fc1.bias[0] += 1e-3
    states = []
    for model in (first, second, first):
        cache = TextCache(model, tmp_path)
        states.append(cache(ids, mask))
        cache.flush()
    assert not torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
    assert cache.num_computed == 0
    # What is trained beside the tower does not matter.
    with torch.no_grad():
        first.text_projection.fc1.weight.add_(1.0)
    assert len(TextCache(first, tmp_path)) == 1


def test_memory_is_bounded_by_files(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("modeling_atri.trainer.data.text_cache._ROWS_A_FILE", 3)
    caplog.set_level("INFO")
    cache = TextCache(tiny_model(), tmp_path)
    for number in range(7):
        cache(*tokens([f"dog {number}"], ["en"]))
    assert len(list(cache.folder.iterdir())) == 2
    cache.close()
    cache.flush()  # nothing new: nothing written
    assert "The text tower encoded 7 captions" in caplog.text
    files = list(cache.folder.iterdir())
    assert len(files) == 3
    assert len(cache) == cache.num_computed == 7
    width = tiny_model().config.text_config.hidden_size
    parts = [np.load(path)[0] for path in files]
    assert sum(len(part["keys"]) for part in parts) == 7
    assert all(part.nbytes == len(part["keys"]) * (16 + 4 * width) for part in parts)
    assert all(part["keys"].flags.contiguous for part in parts), "reading the keys would read the states too"


def test_many_captions_take_little_memory(tmp_path):
    """The states stay on disk; what is in memory is where they are."""
    cache = TextCache(tiny_model(), tmp_path)
    width = tiny_model().config.text_config.hidden_size
    keys = [number.to_bytes(16, "big") for number in range(20_000)]
    for start in range(0, len(keys), 5000):
        cache._new = {key: np.full(width, start, np.float32) for key in keys[start : start + 5000]}
        cache.flush()
    del cache
    tracemalloc.start()
    again = TextCache(tiny_model(), tmp_path)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(again) == 20_000
    assert used / len(again) < 250
    again._new = {b"new": np.full(width, -1, np.float32)}
    asked = [keys[5000], b"new", keys[0], keys[-1], keys[4999], keys[0]]
    assert again._states_of(asked)[:, 0].tolist() == [5000, -1, 0, 15_000, 0, 0]


def test_a_full_disk_stops_no_training(tmp_path, monkeypatch, caplog):
    def write(path):
        raise OSError(28, "No space left on device", str(path))

    rows, options = make_rows(6), {"freeze_text": True, "num_train_epochs": 2}
    plain, _ = train(make_arguments(tmp_path, **options), rows)
    monkeypatch.setattr("modeling_atri.trainer.data.text_cache.written_whole", write)
    monkeypatch.setattr("modeling_atri.trainer.data.text_cache._ROWS_A_FILE", 5)
    cached, _ = train(make_arguments(tmp_path, text_cache_dir=str(tmp_path / "states"), **options), rows)
    assert losses(cached) == pytest.approx(losses(plain), rel=1e-5)
    assert "captions cannot be kept and will be encoded again: [Errno 28] No space left" in caplog.text


def test_damaged_files_are_made_again(tmp_path, caplog):
    ids, mask = tokens(["a dog barks", "rain"], ["en", "en"])
    cache = TextCache(tiny_model(), tmp_path)
    expected = cache(ids, mask)
    cache.flush()
    (file,) = cache.folder.iterdir()
    content = file.read_bytes()
    for damage in (b"", content[:20], content[:-5], b"junk" * 100):
        file.write_bytes(damage)
        again = TextCache(tiny_model(), tmp_path)
        assert torch.equal(again(ids, mask), expected)
        assert again.num_computed == 2
        assert "cannot be read" in caplog.text
        caplog.clear()
    for other in (np.zeros((2, 3)), np.zeros(1, [("keys", "V16", (2,)), ("states", "<f4", (2, 3))])):
        np.save(file, other)
        again = TextCache(tiny_model(), tmp_path)
        assert torch.equal(again(ids, mask), expected)
        assert again.num_computed == 2


def write_some(folder: str, numbers: range) -> None:
    torch.set_num_threads(1)
    cache = TextCache(tiny_model(), folder)
    for number in numbers:
        cache(*tokens([f"dog {number}"], ["en"]))
        cache.flush()


def test_several_processes_share_a_folder(tmp_path):
    """Two write at once, half of it the same captions; a third finds all, as one alone makes them."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_some, args=(str(tmp_path), range(k * 5, k * 5 + 10))) for k in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    cache = TextCache(tiny_model(), tmp_path)
    batch = tokens([f"dog {number}" for number in range(15)], ["en"] * 15)
    found = cache(*batch)
    assert (cache.num_computed, len(cache)) == (0, 15)
    torch.testing.assert_close(found, TextCache(tiny_model(), tmp_path / "alone")(*batch), rtol=0, atol=1e-6)


def test_states_from_elsewhere(tmp_path):
    model = tiny_model()
    ids, mask = tokens(["one", "two words"], ["eng_Latn", "fra_Latn"])
    states = torch.arange(32.0).view(2, 16)
    cache = TextCache(model, tmp_path)
    cache.put(ids, mask, states)
    torch.testing.assert_close(cache(ids.flip(0), mask.flip(0)), states.flip(0), rtol=0, atol=0)
    cache.put(ids, mask, -states)  # they are known
    cache.close()
    again = TextCache(model, tmp_path)
    torch.testing.assert_close(again(ids, mask), states, rtol=0, atol=0)
    assert (len(again), cache.num_computed, again.num_computed) == (2, 0, 0)
    with pytest.raises(ValueError, match=r"\(2, 16\); got the shape \(2, 15\)\."):
        cache.put(ids, mask, states[:, 1:])
    with pytest.raises(ValueError, match="with NaN or inf"):
        cache.put(ids, mask, states / 0)


def test_what_another_process_wrote_is_seen_after_a_flush(tmp_path):
    first, second = (TextCache(tiny_model(), tmp_path) for _ in range(2))
    batch = tokens(["a dog barks"], ["en"])
    first(*batch)
    first.flush()
    second.flush()
    second(*batch)
    assert second.num_computed == 0


# What is refused


def test_only_a_frozen_tower_without_adapter_is_cached(tmp_path):
    rows, options = make_rows(4), {"text_cache_dir": str(tmp_path / "states")}
    with pytest.raises(ValueError, match="but it is trained .embed_tokens.weight, ..... Set `freeze_text`"):
        make_trainer(make_arguments(tmp_path, **options), rows)
    partly = tiny_model()
    partly.text_model.requires_grad_(False)
    partly.text_model.layer_norm.bias.requires_grad_(True)
    with pytest.raises(ValueError, match="but it is trained .layer_norm.bias.. Set"):
        make_trainer(make_arguments(tmp_path, **options), rows, model=partly)
    partly.text_model.requires_grad_(False)  # by the caller, without the argument
    make_trainer(make_arguments(tmp_path, **options), rows, model=partly)

    pytest.importorskip("peft", reason="adapters need the extra `peft`")
    tiny_model().save_pretrained(tmp_path / "base")
    adapted = AtriModel.from_pretrained(tmp_path / "base")
    add_text_lora(adapted)
    with pytest.raises(ValueError, match="but it has an adapter. Set `freeze_text` and use a model without"):
        make_trainer(make_arguments(tmp_path, freeze_text=True, **options), rows, model=adapted)


# The model's side


def test_the_model_takes_states_in_place_of_captions():
    model = tiny_model()
    ids, mask = tokens(["a dog barks", "rain"], ["en", "en"])
    features = torch.randn(2, 64, 64) * 10 - 20
    plain = model(input_features=features, input_ids=ids, attention_mask=mask, return_loss=True)
    states = plain.text_model_output.pooler_output.detach()
    found = model(input_features=features, text_pooler_output=states, return_loss=True)
    for name in ("loss", "logits_per_audio", "logits_per_text", "audio_embeds", "text_embeds"):
        assert torch.equal(found[name], plain[name]), name
    assert found.text_model_output is None
    assert torch.equal(model(text_pooler_output=states).text_embeds, plain.text_embeds)
    with pytest.raises(ValueError, match="`input_ids` or as `text_pooler_output`, not both"):
        model(input_ids=ids, text_pooler_output=states)
    with pytest.raises(ValueError, match="2 clips and 1 captions"):
        model(input_features=features, text_pooler_output=states[:1], return_loss=True)


def test_the_cache_survives_resuming(tmp_path):
    rows = make_rows(8)
    options = {"freeze_text": True, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2}
    options["text_cache_dir"] = str(tmp_path / "states")
    whole = make_trainer(make_arguments(tmp_path, **options), rows)
    whole.train()
    resumed = make_trainer(make_arguments(tmp_path, **options), rows)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same_weights(resumed.model, whole.model, tolerance=1e-6)
