"""LoRA on the text tower, inside an `AtriModel` and as a `PeftModel` around it: what is trained, saved and refused."""

import json
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from modeling_atri import AtriConfig, AtriModel, AtriProcessor
from modeling_atri.cli.main import main
from modeling_atri.corpora.soundscapes.scenes import write_soundscapes
from modeling_atri.trainer.model.adapters import add_text_lora, has_adapter, text_lora_config, train_adapter
from tests.helpers.local_hub import LocalHub
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from tests.helpers.training import (
    assert_same_gradients,
    assert_same_weights,
    losses,
    make_arguments,
    make_rows,
    make_trainer,
    train,
)


pytestmark = pytest.mark.heavy


peft = pytest.importorskip("peft", reason="adapters need the extra `peft`")

KINDS = ["inside", "around"]
ADAPTER, WEIGHTS = "adapter_model.safetensors", "model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The folder of the model that adapters are made on."""
    folder = tmp_path_factory.mktemp("base")
    tiny_model().save_pretrained(folder)
    return folder


def adapted(kind: str, base: Path, **options) -> tuple[torch.nn.Module, dict]:
    """A model for the trainer, and the arguments that give it an adapter where it has none yet."""
    model = AtriModel.from_pretrained(base)
    if kind == "inside":
        return model, {"lora_rank": 4, **options}
    torch.manual_seed(42)  # of the arguments, which the adapter inside is drawn with
    return peft.get_peft_model(model, text_lora_config(model, rank=4)), options


def embeddings(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of a clip of one second and two captions, in eval mode."""
    features = torch.randn(1, 100, 64, generator=torch.Generator().manual_seed(0)) * 10 - 20
    inputs = tiny_processor()(text=["A dog barks while rain falls.", "犬"], language=["en", "ja"])
    training = model.training
    model.eval()
    with torch.no_grad():
        outputs = model(input_features=features, **inputs)
    model.train(training)
    return {"audio": outputs.audio_embeds, "text": outputs.text_embeds, "logits": outputs.logits_per_audio}


def assert_same_embeddings(first: torch.nn.Module, second: torch.nn.Module, tolerance: float) -> None:
    ours, theirs = embeddings(first), embeddings(second)
    for name, value in ours.items():
        scale = 1.0 if name != "logits" else float(value.abs().max())
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=tolerance * scale)


def plain_name(name: str) -> str:
    """A parameter's name in the model without adapter."""
    return (
        name.removeprefix("base_model.model.")
        .replace(".base_layer.", ".")
        .replace(".modules_to_save.default.", ".")
        .replace(".original_module.", ".")
    )


# The adapter


def test_a_new_adapter_changes_nothing(base):
    plain = AtriModel.from_pretrained(base)
    inside = AtriModel.from_pretrained(base)
    add_text_lora(inside, rank=4)
    around, _ = adapted("around", base)
    for model in (inside, around):
        assert has_adapter(model)
        assert_same_embeddings(model, plain, tolerance=1e-6)
    assert not has_adapter(plain)


def test_every_linear_layer_of_the_text_tower_is_adapted_and_nothing_else(base):
    model = AtriModel.from_pretrained(base)
    add_text_lora(model, rank=4)
    found = {name.rpartition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    layers = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2"]
    assert found == {f"text_model.layers.{number}.{layer}" for number in range(2) for layer in layers}
    assert model.peft_config["default"].lora_alpha == 8


def test_another_text_encoder():
    config = tiny_config().to_dict()
    config["text_config"] = {
        "model_type": "bert",
        "vocab_size": 600,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    model = AtriModel(AtriConfig(**config))
    add_text_lora(model)
    found = {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    attention = [f"attention.self.{name}" for name in ("query", "key", "value")] + ["attention.output.dense"]
    layers = [*attention, "intermediate.dense", "output.dense"]
    assert found == {f"text_model.encoder.layer.0.{layer}" for layer in layers}


def test_what_is_frozen_stays_frozen(base):
    model = AtriModel.from_pretrained(base)
    model.audio_model.requires_grad_(False)
    model.text_projection.fc1.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    add_text_lora(model, rank=4)
    trained = {plain_name(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    heads = {name for name in trained if "lora_" not in name}
    assert heads == {f"audio_projection.{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias")} | {
        "text_projection.fc2.weight",
        "text_projection.fc2.bias",
    }
    assert model.peft_config["default"].modules_to_save == ["audio_projection", "text_projection"]


# Training


@pytest.mark.parametrize("objective", ["kcl", "akcl", "cacl", "mlclap"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_adapter_and_heads_move(tmp_path, base, kind, objective):
    model, options = adapted(kind, base)
    trainer, _ = train(
        make_arguments(tmp_path, objective=objective, num_train_epochs=2, **options), make_rows(4), model
    )
    assert trainer.state.global_step == 2
    start, moved = AtriModel.from_pretrained(base).state_dict(), set()
    for name, weight in model.state_dict().items():
        if ".lora_" in name:
            continue
        if not torch.equal(weight, start[plain_name(name)]):
            assert ".original_module." not in name
            moved.add(plain_name(name))
    assert not any(name.startswith("text_model.") for name in moved)
    heads = {"audio_projection.fc1.weight", "text_projection.fc2.weight", "audio_model.layers.0.mlp.fc1.weight"}
    assert heads | {"learned_logit_scale.weight"} <= moved
    for name, weight in model.state_dict().items():
        if ".lora_B." in name and "k_proj" not in name:
            assert weight.abs().max() > 0, f"{name} never moved"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options", [{"objective": "kcl"}, {"objective": "akcl", "gradient_accumulation_steps": 2}], ids=["kcl", "akcl"]
)
def test_the_exact_step_has_the_same_gradient(tmp_path, base, kind, options):
    rows, found = make_rows(6), {}
    for exact_step in (True, False):
        model, adapter = adapted(kind, base)
        args = make_arguments(tmp_path, exact_step=exact_step, max_steps=2, **options, **adapter)
        found[exact_step] = train(args, rows, model)
    (exact, ours), (at_once, theirs) = found[True], found[False]
    # Rounding of the first step is in the weights of the second.
    assert losses(exact) == pytest.approx(losses(at_once), rel=1e-5)
    for step in range(2):
        assert_same_gradients(ours.steps[step], theirs.steps[step], tolerance=3e-6 if step == 0 else 1e-4)
    assert sum(".lora_A." in name for name in ours.steps[0]) == 12


def test_both_kinds_train_alike(tmp_path, base):
    found = {}
    for kind in KINDS:
        model, options = adapted(kind, base)
        model.logit_scale.requires_grad_(False)
        trainer, recorder = train(make_arguments(tmp_path, num_train_epochs=2, **options), make_rows(6), model)
        steps = [{plain_name(name): gradient for name, gradient in step.items()} for step in recorder.steps]
        found[kind] = trainer, steps
    assert losses(found["inside"][0]) == pytest.approx(losses(found["around"][0]), rel=1e-6)
    for ours, theirs in zip(found["inside"][1], found["around"][1], strict=True):
        assert_same_gradients(ours, theirs, tolerance=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_learning_rates_of_the_parts(tmp_path, base, kind):
    model, options = adapted(kind, base)
    rates = {"audio_learning_rate": 2e-3, "text_learning_rate": 3e-3, "head_learning_rate": 4e-3}
    args = make_arguments(tmp_path, weight_decay=0.1, optim="adamw_torch", **rates, **options)
    trainer = make_trainer(args, make_rows(4), model=model)
    name_of = {parameter: plain_name(name) for name, parameter in trainer.model.named_parameters()}
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    groups = trainer.create_optimizer().param_groups
    assert sum(len(group["params"]) for group in groups) == len(trained)
    for group in groups:
        for name in (name_of[parameter] for parameter in group["params"]):
            part = name.split("_")[0] if name.split(".")[0].endswith("_model") else "head"
            assert group["lr"] == rates[f"{part}_learning_rate"], name
            plain = "bias" in name or "norm" in name or "logit_scale" in name
            assert group["weight_decay"] == (0.0 if plain else 0.1), name


def test_patch_dropout_and_activation_checkpointing(tmp_path, base):
    plain, _ = train(make_arguments(tmp_path, lora_rank=4), make_rows(4), AtriModel.from_pretrained(base))
    args = make_arguments(tmp_path, lora_rank=4, activation_checkpointing=True)
    checkpointed, _ = train(args, make_rows(4), AtriModel.from_pretrained(base))
    assert_same_weights(plain.model, checkpointed.model, tolerance=1e-6)
    for kind in KINDS:
        model, options = adapted(kind, base)
        trainer = make_trainer(make_arguments(tmp_path, patch_dropout=0.5, **options), make_rows(4), model=model)
        assert trainer.atri_model.audio_model.config.patch_dropout == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_and_facts(tmp_path, base, kind):
    model, options = adapted(kind, base)
    rows = make_rows(5)
    trainer = make_trainer(make_arguments(tmp_path, **options), rows, rows, model=model)
    figures = trainer.evaluate()
    plain = make_trainer(make_arguments(tmp_path / "plain"), None, rows, model=AtriModel.from_pretrained(base))
    expected = plain.evaluate()
    assert all(figures[name] == pytest.approx(expected[name], abs=1e-5) for name in figures if "runtime" not in name)
    facts, without = (
        json.loads((folder / "eval_atri_results.json").read_text())["model"]
        for folder in (tmp_path, tmp_path / "plain")
    )
    # 2 layers of 4 projections 16 x 16 and two layers 16 x 32, at rank 4.
    num_lora = 2 * (4 * 4 * (16 + 16) + 2 * 4 * (16 + 32))
    assert facts["adapter"] == {"method": "LORA", "rank": 4, "alpha": 8, "dropout": 0.0}
    assert facts["num_parameters"] == without["num_parameters"] + num_lora
    text = sum(parameter.numel() for parameter in plain.model.text_model.parameters())
    assert facts["num_trained_parameters"] == facts["num_parameters"] - text
    assert facts["initialized_from"] == str(base)


# Saving and loading


@pytest.fixture(scope="module", params=KINDS)
def run(request, base, tmp_path_factory):
    """A trained model and the folder it was saved to."""
    model, options = adapted(request.param, base)
    folder = tmp_path_factory.mktemp("run")
    args = make_arguments(folder, num_train_epochs=3, learning_rate=0.2, **options)
    trainer, _ = train(args, make_rows(6), model)
    trainer.save_model(str(folder / "saved"))
    return trainer, folder / "saved"


def test_what_is_saved_is_the_adapter_and_what_was_trained(run, base):
    trainer, folder = run
    assert not (folder / WEIGHTS).exists()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    saved = load_file(folder / ADAPTER)
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    expected = {
        name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".").replace(".default.", ".")
        for name in trained
    }
    assert expected <= {name.removeprefix("base_model.model.") for name in saved}
    assert not any("text_model" in name and ".lora_" not in name for name in saved)


def test_loading_gives_the_same_model(run, base):
    trainer, folder = run
    trained = trainer.model
    inside = AtriModel.from_pretrained(folder)
    around = peft.PeftModel.from_pretrained(AtriModel.from_pretrained(base), folder)
    for model in (inside, around):
        assert_same_embeddings(model, trained, tolerance=1e-6)
        assert torch.equal(model.logit_scale, trained.logit_scale)
    plain = embeddings(AtriModel.from_pretrained(base))
    assert (embeddings(trained)["text"] - plain["text"]).abs().max() > 1e-3, "trained nothing"

    text = "A dog barks."
    processor = AtriProcessor.from_pretrained(folder)
    assert (
        processor(text=text, language="fr")["input_ids"].tolist()
        == tiny_processor()(text=text, language="fr")["input_ids"].tolist()
    )


def test_merged_it_is_a_plain_model(run, base, tmp_path):
    trainer, folder = run
    around = peft.PeftModel.from_pretrained(AtriModel.from_pretrained(base), folder)
    around.merge_and_unload().save_pretrained(tmp_path)
    assert (tmp_path / WEIGHTS).exists()
    assert not (tmp_path / ADAPTER).exists()
    merged = AtriModel.from_pretrained(tmp_path)
    assert not has_adapter(merged)
    assert merged.state_dict().keys() == AtriModel.from_pretrained(base).state_dict().keys()
    assert_same_embeddings(merged, trainer.model, tolerance=1e-5)


def test_saved_again_nothing_is_lost(run, tmp_path):
    _, folder = run
    model = AtriModel.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    first, second = load_file(folder / ADAPTER), load_file(tmp_path / ADAPTER)
    assert first.keys() == second.keys()
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_training_equals_uninterrupted(tmp_path, base, kind):
    rows = make_rows(8)
    options = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2, "optim": "adamw_torch"}
    model, adapter = adapted(kind, base, **options)
    whole = make_trainer(make_arguments(tmp_path, **adapter), rows, model=model)
    whole.train()
    model, adapter = adapted(kind, base, **options)
    resumed = make_trainer(make_arguments(tmp_path, **adapter), rows, model=model)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == whole.state.global_step == 4
    assert losses(resumed) == losses(whole)
    assert_same_weights(resumed.model, whole.model)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_model_is_loaded_at_the_end(tmp_path, base, kind):
    rows = make_rows(8)
    best = {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "mean_text_to_audio_mean_rank",
    }
    model, options = adapted(kind, base, num_train_epochs=4, learning_rate=0.5, **best)
    trainer = make_trainer(make_arguments(tmp_path, **options), rows, rows, model=model)
    trainer.train()
    ranks = [entry["eval_mean_text_to_audio_mean_rank"] for entry in trainer.state.log_history if "eval_mrv" in entry]
    assert min(ranks) < ranks[-1], "the last is the best: the test shows nothing"
    assert trainer.evaluate()["eval_mean_text_to_audio_mean_rank"] == min(ranks)
    assert_same_embeddings(
        AtriModel.from_pretrained(trainer.state.best_model_checkpoint), trainer.model, tolerance=1e-6
    )


def test_a_loaded_adapter_is_trained_further(tmp_path, base):
    first, _ = train(make_arguments(tmp_path, lora_rank=4), make_rows(4), AtriModel.from_pretrained(base))
    first.save_model(str(tmp_path / "first"))
    model = AtriModel.from_pretrained(tmp_path / "first")
    with pytest.raises(
        ValueError, match="The adapter is frozen, as `from_pretrained` leaves it. Call .*train_adapter"
    ):
        make_trainer(make_arguments(tmp_path), make_rows(4), model=model)
    assert make_trainer(make_arguments(tmp_path), None, make_rows(4), model=model).evaluate()["eval_mrv"] >= 0
    train_adapter(model)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        name for name, parameter in first.model.named_parameters() if parameter.requires_grad
    }
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    second, _ = train(make_arguments(tmp_path), make_rows(4, seed=1), model)
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert {
        "learned_logit_scale.modules_to_save.default.weight",
        "text_model.layers.0.fc1.lora_A.default.weight",
    } <= moved
    second.save_model(str(tmp_path / "second"))
    assert_same_embeddings(AtriModel.from_pretrained(tmp_path / "second"), model, tolerance=1e-6)


def test_mel_statistics_are_saved_with_the_adapter(tmp_path):
    torch.manual_seed(0)
    AtriModel(tiny_config()).save_pretrained(tmp_path / "fresh")
    model = AtriModel.from_pretrained(tmp_path / "fresh")
    trainer, _ = train(make_arguments(tmp_path, lora_rank=2), make_rows(4), model)
    trainer.save_model(str(tmp_path / "saved"))
    for name, value in trainer.model.audio_model.mel_norm.named_buffers():
        assert torch.equal(getattr(AtriModel.from_pretrained(tmp_path / "saved").audio_model.mel_norm, name), value)
    assert trainer.model.audio_model.mel_norm.is_set

    # With the audio tower outside the adapter they could not be.
    model = AtriModel.from_pretrained(tmp_path / "fresh")
    with pytest.raises(ValueError, match="2 weights would be trained, but not saved .*mel_norm.running_mean"):
        make_trainer(make_arguments(tmp_path, lora_rank=2, freeze_audio=True), make_rows(4), model=model)


def test_pushed_it_loads_by_its_name(tmp_path, monkeypatch):
    """Base and adapter, each from the Hub."""
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        tiny_model().push_to_hub("tester/base")
        model = AtriModel.from_pretrained("tester/base", cache_dir=tmp_path / "cache")
        args = make_arguments(tmp_path / "out", lora_rank=4, hub_model_id="tester/adapter")
        trainer, _ = train(args, make_rows(4), model)
        trainer.push_to_hub()
        files = hub.repos["models/tester/adapter"].files()
        assert {ADAPTER, "adapter_config.json", "processor_config.json", "README.md"} <= files.keys()
        assert not {WEIGHTS, "config.json", "training_args.bin"} & files.keys()
        assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "tester/base"
        loaded = AtriModel.from_pretrained("tester/adapter", cache_dir=tmp_path / "cache")
        assert_same_embeddings(loaded, trainer.model, tolerance=1e-6)
        assert torch.equal(loaded.logit_scale, trainer.model.logit_scale)


# What is refused


def test_a_push_on_a_local_base_is_refused_before_training(tmp_path, base, monkeypatch):
    with LocalHub() as hub:
        hub.connect(monkeypatch)
        args = make_arguments(tmp_path, lora_rank=4, push_to_hub=True, hub_model_id="tester/adapter")
        with pytest.raises(ValueError, match=r"not on the Hub .*trainer.push_to_hub\(finetuned_from="):
            make_trainer(args, make_rows(4), model=AtriModel.from_pretrained(base))
        assert hub.repos == {}
        trainer = make_trainer(
            make_arguments(tmp_path, lora_rank=4, hub_model_id="tester/adapter"),
            make_rows(4),
            model=AtriModel.from_pretrained(base),
        )
        trainer.push_to_hub(finetuned_from="tester/base")
        files = hub.repos["models/tester/adapter"].files()
        assert not any(str(base).encode() in content for content in files.values())
        assert ModelCard(files["README.md"].decode()).data.base_model == ["tester/base"]


def test_peft_leaves_the_card_alone(tmp_path, base):
    """A `PeftModel` saves itself with a card of its own, and would write into one that is there."""
    model, options = adapted("around", base)
    trainer = make_trainer(make_arguments(tmp_path, **options), make_rows(4), model=model)
    trainer.save_model()
    assert not (tmp_path / "README.md").exists()
    for _ in range(2):
        trainer.create_model_card()
        text = (tmp_path / "README.md").read_text()
        trainer.save_model()
        assert (tmp_path / "README.md").read_text() == text
        assert "- adapter: method LORA, rank 4" in text
    (tmp_path / "README.md").write_text("# Mine")
    trainer.save_model()
    assert (tmp_path / "README.md").read_text() == "# Mine"


def test_weights_that_would_be_lost_are_refused(tmp_path, base):
    model = AtriModel.from_pretrained(base)
    config = text_lora_config(model, rank=4)
    config.modules_to_save.remove("learned_logit_scale")
    model = peft.get_peft_model(model, config)
    model.logit_scale.requires_grad_(True)
    with pytest.raises(ValueError, match="1 weights would be trained, but not saved with the adapter: .*logit_scale"):
        make_trainer(make_arguments(tmp_path), make_rows(4), model=model)
    model, _ = adapted("inside", base)
    add_text_lora(model)
    model.get_input_embeddings().requires_grad_(True)
    with pytest.raises(
        ValueError, match="not saved with the adapter: text_model.embed_tokens.weight. Freeze them, or"
    ):
        make_trainer(make_arguments(tmp_path), make_rows(4), model=model)


def test_a_base_without_a_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="this model was built in memory and has no name. Save the model"):
        make_trainer(make_arguments(tmp_path, lora_rank=4), make_rows(4))


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_adapter_is_refused(tmp_path, base, kind):
    model, _ = adapted(kind, base)
    if kind == "inside":
        add_text_lora(model)
    with pytest.raises(ValueError, match="The model has an adapter already.*leave out `lora_rank`"):
        make_trainer(make_arguments(tmp_path, lora_rank=4), make_rows(4), model=model)


def test_checkpoints_of_another_make_are_refused(tmp_path, base):
    rows = make_rows(4)
    args = make_arguments(tmp_path, lora_rank=4, save_strategy="epoch")
    make_trainer(args, rows, model=AtriModel.from_pretrained(base)).train()
    for options in ({"lora_rank": 2}, {"lora_rank": 4, "freeze_audio": True}):
        trainer = make_trainer(make_arguments(tmp_path, **options), rows, model=AtriModel.from_pretrained(base))
        with pytest.raises(ValueError, match="does not fit the model's: .* weights differ in name or shape"):
            trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    trainer = make_trainer(make_arguments(tmp_path, lora_rank=4), rows, model=AtriModel.from_pretrained(base))
    with pytest.raises(ValueError, match="holds no adapter .adapter_model.safetensors., but the model has one"):
        trainer._load_from_checkpoint(str(base))


def test_without_an_adapter_there_is_none_to_train():
    with pytest.raises(ValueError, match="The model has no adapter. Add one to its text tower with `add_text_lora"):
        train_adapter(tiny_model())


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'modeling_atri\[peft\]'"):
        text_lora_config(tiny_model())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rank": 0}, "`lora_rank` must be a whole number >= 1, or None; got 0"),
        ({"lora_rank": 1.5}, "`lora_rank` must be a whole number >= 1, or None; got 1.5"),
        ({"lora_rank": 4, "lora_alpha": 0}, "`lora_alpha` must be a finite number > 0, or None; got 0"),
        ({"lora_rank": 4, "lora_dropout": 1.0}, "`lora_dropout` must be a number in [0, 1); got 1.0"),
        ({"lora_alpha": 4.0}, "`lora_alpha` and `lora_dropout` configure an adapter: set `lora_rank` too"),
        ({"lora_rank": 4, "freeze_text": True}, "leave out `freeze_text`"),
        ({"lora_rank": 4, "text_cache_dir": "states"}, "leave out `text_cache_dir`"),
    ],
)
def test_wrong_values(tmp_path, options, message):
    with pytest.raises(ValueError) as error:
        make_arguments(tmp_path, **options)
    assert message in str(error.value)


def test_files_of_two_runs_are_not_mixed(tmp_path, base):
    """In one folder, `from_pretrained` would put one run's adapter on the other's model."""
    rows = make_rows(4)
    tiny_model(seed=1).save_pretrained(tmp_path / "whole")
    args = make_arguments(tmp_path / "whole", lora_rank=4)
    with pytest.raises(ValueError, match="whole holds a whole model from another run"):
        make_trainer(args, rows, model=AtriModel.from_pretrained(base))
    trainer = make_trainer(args, rows, model=AtriModel.from_pretrained(tmp_path / "whole"))
    trainer.save_model()  # beside its own base
    assert has_adapter(AtriModel.from_pretrained(tmp_path / "whole"))
    with pytest.raises(ValueError, match="whole holds an adapter from another run"):
        make_trainer(make_arguments(tmp_path / "whole"), rows)


# The command line


def test_train_evaluate_and_train_on(tmp_path, base, capsys):
    write_soundscapes(tmp_path / "clips", 6, seed=0, split="train", duration_s=3.0)
    tiny_processor().save_pretrained(base)
    options = {"train_data": str(tmp_path / "clips"), "eval_data": str(tmp_path / "clips"), "languages": ["en", "fr"]}
    options |= {"max_steps": 1, "per_device_train_batch_size": 4, "use_cpu": True, "disable_tqdm": True}
    (tmp_path / "run.json").write_text(json.dumps(options))
    run = ["train", "--config", str(tmp_path / "run.json")]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main([*run, "--model", str(base), "--lora_rank", "4", "--output_dir", first]) == 0
    results = json.loads((tmp_path / "first" / "atri_results.json").read_text())
    assert results["training"]["text_learning_rate"] == 1e-4
    assert results["training"]["learning_rate"] == 5e-6
    assert results["model"]["adapter"]["rank"] == 4
    assert not (tmp_path / "first" / WEIGHTS).exists()

    output = tmp_path / "figures.json"
    data = ["--data", str(tmp_path / "clips"), "--languages", "en", "fr"]
    assert main(["evaluate", "--model", first, *data, "--output", str(output)]) == 0
    assert json.loads(output.read_text())["metrics"] == pytest.approx(results["metrics"], abs=1e-6)

    assert main([*run, "--model", first, "--output_dir", second, "--learning_rate", "0.1"]) == 0
    before, after = load_file(tmp_path / "first" / ADAPTER), load_file(tmp_path / "second" / ADAPTER)
    assert before.keys() == after.keys()
    moved = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert any(".lora_A." in name for name in moved)
    assert "base_model.model.learned_logit_scale.weight" in moved

    capsys.readouterr()
    assert main([*run, "--lora_rank", "4", "--output_dir", str(tmp_path / "third")]) == 2
    assert "was built in memory and has no name" in capsys.readouterr().err
    assert main([*run, "--model", first, "--lora_rank", "4", "--output_dir", str(tmp_path / "third")]) == 2
    assert "The model has an adapter already" in capsys.readouterr().err


# At full size


def test_the_paper_s_model_with_an_adapter_of_rank_16():
    with torch.device("meta"):
        model = AtriModel(AtriConfig())
        add_text_lora(model, rank=16)
    lora = sum(parameter.numel() for name, parameter in model.named_parameters() if ".lora_" in name)
    width, inner, layers = 1024, 8192, 24
    assert lora == layers * 16 * (4 * (width + width) + 2 * (width + inner)) == 10_223_616
    tower = sum(parameter.numel() for parameter in model.text_model.parameters()) - lora
    assert round(tower / 1e6) == 766
