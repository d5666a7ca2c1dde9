"""`AtriTrainer`: what moves, what stays, what is logged, saved and refused."""

import json

import datasets
import numpy as np
import pytest
import soundfile
import torch

from modeling_atri import AtriModel, AtriProcessor
from modeling_atri.languages_atri import ATRI_LANGUAGES
from modeling_atri.trainer import AtriTrainer
from tests.helpers.tiny import tiny_config, tiny_model, tiny_processor
from tests.helpers.training import (
    LANGUAGES,
    assert_same_weights,
    losses,
    make_arguments,
    make_rows,
    make_trainer,
    train,
)


pytestmark = pytest.mark.heavy


def moved(before: dict, model: AtriModel) -> set[str]:
    return {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}


# Their gradient is zero by mathematics: a softmax over keys does not see a shift of all scores.
UNMOVABLE = ("k_proj.bias",)


@pytest.mark.parametrize("objective", ["kcl", "akcl", "cacl", "mlclap"])
def test_every_parameter_moves(tmp_path, objective):
    # Captions use a few of the vocabulary's rows, but the matrix moves as a whole tensor.
    model = tiny_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    trainer, _ = train(make_arguments(tmp_path, objective=objective, num_train_epochs=2), make_rows(8), model)
    assert trainer.state.global_step == 4
    expected = {name for name, _ in model.named_parameters() if not name.endswith(UNMOVABLE)}
    assert moved(before, model) & expected == expected
    assert moved(before, model) <= {name for name, _ in model.named_parameters()}, "buffers stay"
    assert all(np.isfinite(losses(trainer)))


@pytest.mark.parametrize("frozen", ["audio", "text"])
@pytest.mark.parametrize("objective", ["akcl", "cacl"])
def test_frozen_towers_stay(tmp_path, objective, frozen):
    model = tiny_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train(make_arguments(tmp_path, objective=objective, **{f"freeze_{frozen}": True}), make_rows(4), model)
    changed = moved(before, model)
    assert not any(name.startswith(f"{frozen}_model.") for name in changed)
    other = "text" if frozen == "audio" else "audio"
    assert {"learned_logit_scale.weight", "audio_projection.fc1.weight", "text_projection.fc2.weight"} <= changed
    assert any(name.startswith(f"{other}_model.") for name in changed)


def test_what_the_caller_froze_stays_frozen(tmp_path):
    model = tiny_model()
    embedding = model.text_model.get_input_embeddings().weight.requires_grad_(False)
    before = embedding.clone()
    train(make_arguments(tmp_path), make_rows(4), model)
    assert torch.equal(embedding, before)


# Training learns


@pytest.mark.parametrize("objective", ["kcl", "akcl", "cacl", "mlclap"])
def test_the_loss_falls(tmp_path, objective):
    args = make_arguments(
        tmp_path,
        objective=objective,
        num_train_epochs=12,
        optim="adamw_torch",
        learning_rate=2e-3,
        max_grad_norm=1.0,
        caption_choice="first",
        per_device_train_batch_size=8,
    )
    trainer, _ = train(args, make_rows(8))
    assert np.mean(losses(trainer)[-3:]) < 0.9 * np.mean(losses(trainer)[:3])


# Mel statistics


def fresh_model() -> AtriModel:
    torch.manual_seed(0)
    return AtriModel(tiny_config())


def test_mel_statistics_are_set_once_from_training_clips(tmp_path):
    rows, processor = make_rows(6), tiny_processor()
    model = fresh_model()
    assert not model.audio_model.mel_norm.is_set
    trainer, _ = train(make_arguments(tmp_path), rows, model)
    frames = np.concatenate(
        [processor.feature_extractor.extract_clip(row["audio"]["array"]).double().numpy() for row in rows]
    )
    mel_norm = trainer.model.audio_model.mel_norm
    np.testing.assert_allclose(mel_norm.running_mean.numpy(), frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(mel_norm.running_var.numpy(), frames.var(axis=0), rtol=1e-5)
    assert mel_norm.weight.requires_grad

    # A second training, on other clips, keeps them.
    before = mel_norm.running_mean.clone()
    train(make_arguments(tmp_path), make_rows(6, seed=1), trainer.model)
    assert torch.equal(mel_norm.running_mean, before)


def test_mel_statistics_are_those_of_a_seeded_choice_of_many_clips(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_atri.trainer.model.mel_statistics._MEL_CLIPS", 5)
    rows = make_rows(20)

    def means(seed: int, augment: bool = False) -> torch.Tensor:
        args = make_arguments(tmp_path, max_steps=1, seed=seed, gain_db=20.0 if augment else 0.0)
        return train(args, rows, fresh_model())[0].model.audio_model.mel_norm.running_mean

    assert torch.equal(means(0), means(0, augment=True)), "of the clips as they are"
    assert not torch.equal(means(0), means(1))


def test_a_loaded_model_keeps_its_mel_statistics(tmp_path):
    model = tiny_model()
    before = {name: buffer.clone() for name, buffer in model.audio_model.mel_norm.named_buffers()}
    trainer, _ = train(make_arguments(tmp_path), make_rows(4), model)
    trainer.save_model(str(tmp_path / "saved"))
    for mel_norm in (model.audio_model.mel_norm, AtriModel.from_pretrained(tmp_path / "saved").audio_model.mel_norm):
        for name, buffer in mel_norm.named_buffers():
            assert torch.equal(buffer, before[name])


# Optimizer


def groups_by_name(trainer: AtriTrainer) -> dict[str, dict]:
    name_of = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    found = {name_of[id(parameter)]: group for group in groups for parameter in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups) == len(name_of)
    return found


def test_learning_rates_and_weight_decay_of_the_parts(tmp_path):
    args = make_arguments(
        tmp_path,
        learning_rate=1e-3,
        audio_learning_rate=2e-3,
        text_learning_rate=0.0,
        head_learning_rate=4e-3,
        weight_decay=0.1,
        optim="adamw_torch",
    )
    found = groups_by_name(make_trainer(args, make_rows(4)))
    rate_of = {
        "audio_model": 2e-3,
        "text_model": 0.0,
        "audio_projection": 4e-3,
        "text_projection": 4e-3,
        "learned_logit_scale": 4e-3,
    }
    for name, group in found.items():
        assert group["lr"] == rate_of[name.split(".")[0]], name
        plain = "bias" in name or "norm" in name or "logit_scale" in name
        assert group["weight_decay"] == (0.0 if plain else 0.1), name


def test_one_learning_rate_by_default(tmp_path):
    found = groups_by_name(make_trainer(make_arguments(tmp_path, learning_rate=1e-3), make_rows(4)))
    assert {group["lr"] for group in found.values()} == {1e-3}
    # A part's own rate, be it zero, moves that part alone.
    model = tiny_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train(make_arguments(tmp_path, text_learning_rate=0.0), make_rows(4), model)
    changed = moved(before, model)
    assert changed
    assert not any(name.startswith("text_model.") for name in changed)


def test_the_callers_optimizer_class_is_used(tmp_path):
    options = {"optimizer_cls_and_kwargs": (torch.optim.Adagrad, {"lr": 1e-2, "eps": 1e-6})}
    args = make_arguments(tmp_path, learning_rate=1e-3, head_learning_rate=5e-3)
    optimizer = make_trainer(args, make_rows(4), **options).create_optimizer()
    assert isinstance(optimizer, torch.optim.Adagrad)
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3, 5e-3}
    assert {group["eps"] for group in optimizer.param_groups} == {1e-6}


@pytest.mark.parametrize(("given", "expected"), [(None, 0.25), (0.5, 0.5), (0.0, 0.0)])
def test_patch_dropout_is_the_models_unless_said(tmp_path, given, expected):
    model = tiny_model(patch_dropout=0.25)
    make_trainer(make_arguments(tmp_path, patch_dropout=given), make_rows(4), model=model)
    assert model.config.audio_config.patch_dropout == expected
    assert model.audio_model.config.patch_dropout == expected


# Evaluation, logs and results


def test_evaluation_keys_and_results(tmp_path):
    rows = make_rows(6)
    facts = {"model": {"initialized_from": "scratch"}, "data": {"train": "noise/train", "eval": "noise/dev"}}
    trainer = make_trainer(
        make_arguments(tmp_path, seed=7, num_train_epochs=2), rows, make_rows(5, seed=1), facts=facts
    )
    trainer.train()
    metrics = trainer.evaluate()
    names = [
        f"{way}_{name}"
        for way in ("text_to_audio", "audio_to_text")
        for name in ("R@1", "R@5", "R@10", "mAP@10", "median_rank", "mean_rank")
    ]
    for language in (*LANGUAGES, "mean"):
        assert {f"eval_{language}_{name}" for name in names} <= set(metrics)
    consistency = {"eval_mrv", "eval_mean_rank_std", "eval_embedding_gap", "eval_embedding_distance"}
    assert consistency <= set(metrics)
    logged = [entry for entry in trainer.state.log_history if "eval_mrv" in entry]
    assert len(logged) == 1
    assert all(logged[0][name] == value for name, value in metrics.items())

    results = json.loads((tmp_path / "eval_atri_results.json").read_text(encoding="utf-8"))
    assert {f"eval_{name}": value for name, value in results["metrics"].items()} == {
        name: value for name, value in metrics.items() if name not in ("eval_runtime", "epoch")
    }
    assert results["data"] == facts["data"]
    assert results["evaluated_on"] == {
        "num_clips": 5,
        "num_captions_per_language": 10,
        "languages": LANGUAGES,
        "anchor_language": "eng_Latn",
    }
    assert results["model"]["initialized_from"] == "scratch"
    assert results["model"]["num_parameters"] == sum(parameter.numel() for parameter in tiny_model().parameters())
    training = results["training"]
    assert (training["objective"], training["anchor_language"], training["akcl_weight"]) == ("akcl", "eng_Latn", 0.5)
    assert (training["seed"], training["steps"], training["epochs"], training["batch_size"]) == (7, 4, 2.0, 4)
    assert (training["num_train_clips"], training["learning_rate"], training["precision"]) == (6, 0.05, "fp32")
    assert results["environment"]["versions"]["torch"] == torch.__version__
    assert results["environment"]["device"]["type"] == "cpu"


def test_initialisation_is_named(tmp_path):
    tiny_model().save_pretrained(tmp_path / "start")
    rows = make_rows(3)
    trainer = make_trainer(make_arguments(tmp_path), rows, rows, model=AtriModel.from_pretrained(tmp_path / "start"))
    trainer.evaluate()
    results = json.loads((tmp_path / "eval_atri_results.json").read_text(encoding="utf-8"))
    assert results["model"]["initialized_from"] == str(tmp_path / "start")
    assert results["training"]["steps"] == 0


def test_several_evaluation_sets(tmp_path):
    sets = {"near": make_rows(4), "far": make_rows(5, seed=1)}
    trainer = make_trainer(make_arguments(tmp_path, eval_strategy="epoch"), make_rows(4), sets)
    trainer.train()
    metrics = trainer.evaluate()
    alone = {
        name: make_trainer(trainer.args, None, rows, model=trainer.model).evaluate() for name, rows in sets.items()
    }
    for name, of_a_set in alone.items():
        for key, value in of_a_set.items():
            if "runtime" not in key and key != "epoch":
                assert metrics[key.replace("eval_", f"eval_{name}_", 1)] == value
        assert (tmp_path / f"eval_{name}_atri_results.json").is_file()
    given = trainer.evaluate({"other": sets["far"]}, metric_key_prefix="test")
    assert given["test_other_mrv"] == alone["far"]["eval_mrv"]
    # One of them by its name, as in transformers: under the prefix alone.
    assert trainer.evaluate("far")["eval_mrv"] == alone["far"]["eval_mrv"]
    assert trainer.evaluate("near", metric_key_prefix="test")["test_mrv"] == alone["near"]["eval_mrv"]
    with pytest.raises(ValueError, match="There is no evaluation set 'fra'; `eval_dataset` has near, far."):
        trainer.evaluate("fra")
    with pytest.raises(ValueError, match="There is no evaluation set 'near'; `eval_dataset` has no named sets."):
        make_trainer(trainer.args, None, sets["near"], model=trainer.model).evaluate("near")


def test_the_best_model_is_loaded_at_the_end(tmp_path):
    # The learning rate is so large that the last epoch is not the best.
    rows = make_rows(8)
    args = make_arguments(
        tmp_path,
        num_train_epochs=4,
        learning_rate=0.3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="mean_text_to_audio_mean_rank",
        greater_is_better=False,
    )
    trainer = make_trainer(args, rows, rows)
    trainer.train()
    ranks = [entry["eval_mean_text_to_audio_mean_rank"] for entry in trainer.state.log_history if "eval_mrv" in entry]
    assert len(ranks) == 4
    assert trainer.state.best_metric == min(ranks) < max(ranks)
    assert trainer.evaluate()["eval_mean_text_to_audio_mean_rank"] == min(ranks)
    best = AtriModel.from_pretrained(trainer.state.best_model_checkpoint)
    assert_same_weights(trainer.model, best)
    training = json.loads((tmp_path / "eval_atri_results.json").read_text(encoding="utf-8"))["training"]
    assert training["steps"] == 8
    assert training["best_step"] == 2 * (1 + ranks.index(min(ranks)))


def best_model_arguments(folder, **options):
    return make_arguments(folder, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, **options)


@pytest.mark.parametrize(
    ("options", "metric", "best"),
    [
        ({}, "mean_text_to_audio_R@1", max),
        ({"metric_for_best_model": "mrv"}, "mrv", min),
        ({"metric_for_best_model": "eval_dev_mean_rank_std"}, "dev_mean_rank_std", min),
    ],
)
def test_what_the_best_model_is_chosen_by(tmp_path, options, metric, best):
    rows = make_rows(6)
    args = best_model_arguments(tmp_path, num_train_epochs=3, learning_rate=0.3, **options)
    trainer = make_trainer(args, rows, {"dev": rows} if "dev" in metric else rows)
    trainer.train()
    values = [entry[f"eval_{metric}"] for entry in trainer.state.log_history if f"eval_{metric}" in entry]
    assert len(values) == 3
    assert trainer.state.best_metric == best(values)


@pytest.mark.parametrize(
    ("options", "sets", "message"),
    [
        (
            {},
            ["near", "far"],
            "'mean_text_to_audio_R@1' .* the sets near, far. Use another, .* far_mean_text_to_audio_R@1",
        ),
        ({"metric_for_best_model": "eval_fra_mrv"}, ["near", "far"], "'eval_fra_mrv' is no figure .* near, far"),
        (
            {"metric_for_best_model": "near_mrv"},
            None,
            "'near_mrv' is no figure .* one set without a name.* such as mrv",
        ),
    ],
)
def test_best_metric_of_no_set(tmp_path, options, sets, message):
    rows = make_rows(4)
    with pytest.raises(ValueError, match=message):
        make_trainer(best_model_arguments(tmp_path, **options), rows, dict.fromkeys(sets, rows) if sets else rows)


def test_a_checkpoint_is_a_model_and_its_processor(tmp_path):
    rows = make_rows(4)
    trainer = make_trainer(make_arguments(tmp_path, save_strategy="epoch"), rows)
    trainer.train()
    folder = tmp_path / "checkpoint-1"
    model, processor = AtriModel.from_pretrained(folder), AtriProcessor.from_pretrained(folder)
    assert_same_weights(model, trainer.model)
    text, language = rows[0]["captions"]["jpn_Jpan"][0], "ja"
    own = tiny_processor()(text=text, language=language)
    assert torch.equal(processor(text=text, language=language)["input_ids"], own["input_ids"])
    assert processor.feature_extractor.to_dict().keys() >= own.keys() - {"input_ids", "attention_mask"}


def test_evaluation_leaves_the_training_as_it_is(tmp_path):
    rows = make_rows(8)
    options = {"num_train_epochs": 2, "patch_dropout": 0.3}
    plain, _ = train(make_arguments(tmp_path, **options), rows)
    evaluated = make_trainer(make_arguments(tmp_path, eval_strategy="steps", eval_steps=1, **options), rows, rows[:3])
    evaluated.train()
    assert_same_weights(plain.model, evaluated.model)


# Data


def write_dataset(folder, rows: list[dict], **columns) -> datasets.Dataset:
    """The rows as a `datasets.Dataset` of sound files."""
    written = []
    for number, row in enumerate(rows):
        path = str(folder / f"{number}.wav")
        soundfile.write(path, row["audio"]["array"], 16000, subtype="FLOAT")
        written.append(row | {"audio": path} | {name: values[number] for name, values in columns.items()})
    return datasets.Dataset.from_list(written)


def test_group_column(tmp_path):
    rows = make_rows(6)
    scenes = [3, 1, 3, 2, 2, 3]
    dataset = write_dataset(tmp_path, rows, scene=scenes)
    args = make_arguments(tmp_path, group_column="scene", per_device_train_batch_size=6)
    trainer = make_trainer(args, dataset, dataset)
    (batch,) = trainer.get_train_dataloader()
    scene_of = torch.tensor(scenes)[batch["item_ids"]]
    same = batch["group_ids"][:, None] == batch["group_ids"][None, :]
    assert torch.equal(same, scene_of[:, None] == scene_of[None, :])

    # It is the same training and evaluation as with rows that say `group_id`.
    trainer.train()
    grouped = [row | {"group_id": str(scene)} for row, scene in zip(rows, scenes, strict=True)]
    expected = make_trainer(make_arguments(tmp_path, per_device_train_batch_size=6), grouped, grouped)
    expected.train()
    assert losses(trainer) == losses(expected)
    assert_same_weights(trainer.model, expected.model)
    figures, others = trainer.evaluate(), expected.evaluate()
    assert all(figures[name] == others[name] for name in figures if "runtime" not in name)
    named = make_trainer(args, None, {"dev": dataset}, model=trainer.model).evaluate()
    assert named["eval_dev_mrv"] == figures["eval_mrv"]
    assert (
        make_trainer(args, None, None, model=trainer.model).evaluate({"dev": dataset})["eval_dev_mrv"]
        == named["eval_dev_mrv"]
    )
    ungrouped, _ = train(make_arguments(tmp_path, per_device_train_batch_size=6), rows)
    assert losses(ungrouped) != losses(trainer)


def test_group_column_of_plain_rows(tmp_path):
    rows = [row | {"scene": number % 2} for number, row in enumerate(make_rows(4))]
    trainer = make_trainer(make_arguments(tmp_path, group_column="scene"), rows)
    assert [row["group_id"] for row in trainer.train_dataset] == ["0", "1", "0", "1"]


@pytest.mark.parametrize("kind", ["strings", "ISO codes", "generator", "no ids", "DatasetDict of one"])
def test_rows_of_every_kind_train_the_same_model(tmp_path, kind):
    rows = make_rows(4, num_captions=1)
    expected, _ = train(make_arguments(tmp_path), rows)
    iso = dict(zip(LANGUAGES, ("en", "French", "ja"), strict=True))
    captions = [row["captions"] for row in rows]
    given = {
        "strings": [row | {"captions": {code: text for code, (text,) in row["captions"].items()}} for row in rows],
        "ISO codes": [
            row | {"captions": {iso[code]: texts for code, texts in row["captions"].items()}} for row in rows
        ],
        "generator": (row for row in rows),
        "no ids": [{"audio": row["audio"], "captions": row["captions"]} for row in rows],
        "DatasetDict of one": datasets.DatasetDict(train=write_dataset(tmp_path, rows)),
    }[kind]
    trainer, _ = train(make_arguments(tmp_path), given)
    assert [row["captions"] for row in trainer.train_dataset] == captions
    assert_same_weights(trainer.model, expected.model, tolerance=1e-6)


def test_data_sets_of_several_splits(tmp_path):
    rows = write_dataset(tmp_path, make_rows(3))
    splits = datasets.DatasetDict(train=rows, dev=rows)
    with pytest.raises(ValueError, match=r"a DatasetDict of 2 sets \(train, dev\), .* such as `data\['train'\]`"):
        make_trainer(make_arguments(tmp_path), splits)
    assert list(make_trainer(make_arguments(tmp_path), None, splits).eval_dataset) == ["train", "dev"]
    with pytest.raises(ValueError, match="The number of rows of the data set is not known, so `num_train_epochs`"):
        make_trainer(make_arguments(tmp_path), rows.to_iterable_dataset())


@pytest.mark.parametrize("where", ["train", "eval", "one of several"])
def test_wrong_rows_are_reported_before_training(tmp_path, where):
    rows = make_rows(3)
    rows[1]["captions"] = rows[1]["captions"] | {"fra_Latn": [""]}
    rows[2]["captions"] = {"eng_Latn": ["a"], "fra_Latn": ["b"], "jpn_Jpan": None}
    wrong, right = write_dataset(tmp_path, rows), make_rows(3)
    sets = {"train": (wrong, None), "eval": (right, wrong), "one of several": (right, {"dev": wrong})}[where]
    with pytest.raises(ValueError) as error:
        make_trainer(make_arguments(tmp_path), *sets)
    assert "row 1: caption 0 in fra_Latn is empty" in str(error.value)
    assert "row 2: captions are missing in jpn_Jpan" in str(error.value)


def test_features_are_cached(tmp_path):
    rows = make_rows(5)
    cached = make_arguments(tmp_path, feature_cache_dir=str(tmp_path / "features"), num_train_epochs=2)
    trainer, _ = train(cached, rows)
    (index,) = (tmp_path / "features").glob("*/*.index")
    assert index.stat().st_size == 5 * 40
    plain, _ = train(make_arguments(tmp_path, num_train_epochs=2), rows)
    assert_same_weights(trainer.model, plain.model)


def test_seeds(tmp_path):
    def order(**seeds) -> list[int]:
        (batch,) = make_trainer(
            make_arguments(tmp_path, per_device_train_batch_size=20, **seeds), make_rows(20)
        ).get_train_dataloader()
        return batch["item_ids"].tolist()

    assert order(seed=1) == order(seed=1)
    assert order(seed=1) != order(seed=2)
    assert order(seed=1, data_seed=5) == order(seed=2, data_seed=5)


def test_a_model_trained_by_eight_languages(tmp_path):
    """All languages of the paper, three of them a step."""
    rows = make_rows(4, languages=ATRI_LANGUAGES)
    args = make_arguments(tmp_path, languages=list(ATRI_LANGUAGES), languages_per_step=3)
    trainer, recorder = train(args, rows)
    assert len(recorder.steps) == 1
    assert np.isfinite(losses(trainer)).all()


# What is refused


@pytest.mark.parametrize("name", ["compute_metrics", "compute_loss_func"])
def test_functions_without_effect_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"AtriTrainer takes no `{name}`: "):
        make_trainer(make_arguments(tmp_path), make_rows(4), **{name: lambda *given: {}})
    make_trainer(make_arguments(tmp_path), make_rows(4), **{name: None})


def test_there_is_nothing_to_predict(tmp_path):
    rows = make_rows(4)
    with pytest.raises(ValueError, match="no `predict`.* use `evaluate.*`encode_audio` and `encode_text`"):
        make_trainer(make_arguments(tmp_path), rows).predict(rows)


def test_a_language_that_the_tokenizer_lacks_is_refused(tmp_path):
    rows = [row | {"captions": row["captions"] | {"ita_Latn": ["un cane", "un gatto"]}} for row in make_rows(4)]
    languages = ["eng_Latn", "ita_Latn"]
    with pytest.raises(ValueError, match="The tokenizer has no code for 'ita_Latn'"):
        make_trainer(make_arguments(tmp_path, languages=languages), rows)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    processor = tiny_processor()
    rows = tiny_model().get_input_embeddings().num_embeddings
    processor.tokenizer.add_tokens([f"word{number}" for number in range(rows + 1 - len(processor.tokenizer))])
    with pytest.raises(ValueError, match=f"The tokenizer has {rows + 1} tokens, the model embeddings for only {rows}"):
        AtriTrainer(tiny_model(), make_arguments(tmp_path), processor, make_rows(4))


def test_steps_of_one_clip_are_refused(tmp_path):
    args = make_arguments(tmp_path, per_device_train_batch_size=1)
    with pytest.raises(ValueError, match="so a step needs at least two"):
        make_trainer(args, make_rows(4))
    assert make_trainer(args, None, make_rows(4)).evaluate()["eval_mrv"] >= 0  # evaluation compares whole sets


def test_a_last_single_clip_is_left_out(tmp_path):
    trainer, recorder = train(make_arguments(tmp_path), make_rows(5))
    assert trainer.state.global_step == len(recorder.steps) == 1
    assert all(loss > 0 for loss in losses(trainer))


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ValueError, match="Training needs a `train_dataset`"):
        make_trainer(make_arguments(tmp_path), None).train()
    with pytest.raises(ValueError, match="Evaluation needs an `eval_dataset`"):
        make_trainer(make_arguments(tmp_path), make_rows(4)).evaluate()
