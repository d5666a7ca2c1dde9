"""Runs of the objective `teach`: gradients of every way through a step, what stays as it is, resuming, and errors."""

import json

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modeling_atri import AtriModel
from modeling_atri.encode.encoding import encode_audio, encode_text
from modeling_atri.trainer import AtriTrainer
from modeling_atri.trainer.losses import teach_loss
from modeling_atri.trainer.teach.preparing import FOLDER
from modeling_atri.trainer.teach.teachers import model_teacher
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.towers import TOWERS, tower_model, tower_processor
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

CASES = {
    "captions": ({}, False),
    "akcl": ({}, True),
    "kcl": ({"teach_audio": "kcl", "distill_weight": 0.3}, True),
    "sounds that are not used": ({"teach_audio": "none"}, True),
    "drawn languages": ({"languages_per_step": 2}, True),
    "held": ({"hold_languages": ["fr"]}, True),
    "accumulation": ({"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}, True),
    "frozen text": ({"freeze_text": True}, False),
}


def rows_of(has_sounds: bool, **options) -> list[dict]:
    rows = make_rows(6, num_groups=3, **options)
    return rows if has_sounds else [{name: row[name] for name in row if name != "audio"} for row in rows]


def teach_arguments(folder, **options):
    return make_arguments(folder, objective="teach", **options)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_exact_step_and_the_step_in_chunks_equal_all_at_once(tmp_path, case):
    options, has_sounds = case
    rows, ways = rows_of(has_sounds), [{"exact_step": False}, {}, {"text_chunk_size": 3}]
    ways.append({"text_chunk_size": 3, "exact_step": False})
    found = [train(teach_arguments(tmp_path, **options, **way), rows) for way in ways]
    at_once, gradients = found[0]
    for trainer, recorder in found[1:]:
        assert losses(trainer) == pytest.approx(losses(at_once), rel=1e-5)
        assert len(recorder.steps) == len(gradients.steps) == trainer.state.global_step >= 2
        assert_same_gradients(recorder.steps[0], gradients.steps[0], tolerance=3e-6)


def test_equals_a_loop_over_captions(tmp_path):
    """With a batch of all rows, one caption at a time through the model, and the sums written out."""
    rows = rows_of(True)
    args = teach_arguments(tmp_path, per_device_train_batch_size=6, caption_choice="first", hold_languages=["ja"])
    trainer, recorder = train(args, rows)
    (batch,) = trainer.get_train_dataloader()
    model, processor = tiny_model(), tiny_processor()
    rows = [rows[item] for item in batch["item_ids"].tolist()]
    with torch.no_grad():
        audio = torch.from_numpy(encode_audio(model, processor, [row["audio"] for row in rows]))
        start = {code: [embed(model, row["captions"][code][0], code) for row in rows] for code in LANGUAGES}
    scale, groups = model.logit_scale.exp().detach(), [row["group_id"] for row in rows]
    loss = 0.0
    for code in LANGUAGES:
        text = [embed(model, row["captions"][code][0], code) for row in rows]
        targets = start["jpn_Jpan" if code == "jpn_Jpan" else "eng_Latn"]
        distance = sum(((one - other) ** 2).sum() for one, other in zip(text, targets, strict=True)) / len(rows)
        loss = loss + distance / 3 + pairs(audio, text, scale, groups) / 6 + pairs(targets, text, scale, groups) / 6
    loss.backward()
    assert losses(trainer) == pytest.approx([loss.item()], rel=1e-5)
    expected = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert_same_gradients(recorder.steps[0], expected, tolerance=5e-6)
    np.testing.assert_allclose(batch["teacher_embeds"], torch.stack(start["eng_Latn"]), atol=1e-6)


def embed(model: AtriModel, caption: str, language: str) -> torch.Tensor:
    return model(**tiny_processor()(text=[caption], language=language)).text_embeds[0]


def pairs(x, y, scale, groups) -> torch.Tensor:
    terms = []
    for queries, items in ((x, y), (y, x)):
        for i, query in enumerate(queries):
            scores = torch.stack([scale * (query * item).sum() for item in items])
            own = [j for j, group in enumerate(groups) if group == groups[i]]
            terms.append(scores.logsumexp(0) - scores[own].mean())
    return sum(terms) / len(terms)


# What stays as it is


def test_audio_embeddings_are_the_same_bits_before_and_after(tmp_path):
    rows, processor = rows_of(True), tiny_processor()
    model = tiny_model(patch_dropout=0.5, hidden_dropout=0.3)
    sounds = [row["audio"] for row in rows]
    before, weights = encode_audio(model, processor, sounds), {k: v.clone() for k, v in model.state_dict().items()}
    trainer, _ = train(
        teach_arguments(tmp_path, num_train_epochs=3, weight_decay=0.1, optim="adamw_torch"), rows, model
    )
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, weights[name])}
    assert moved == {"text_model", "text_projection"}
    assert np.array_equal(encode_audio(model, processor, sounds), before)
    trainer.save_model()
    again = AtriModel.from_pretrained(tmp_path)
    assert np.array_equal(encode_audio(again, processor, sounds), before)
    (clips,) = tmp_path.glob(f"{FOLDER}/clips.npy")
    np.testing.assert_allclose(np.load(clips), before, atol=1e-6)


def test_the_statistics_of_a_clap_tower_stay_as_they_are(tmp_path):
    """Its BatchNorm would follow the batches in training mode, if sounds are run in a step by another collator."""
    model, processor = tower_model(TOWERS["clap"]), tower_processor(TOWERS["clap"])
    rows = rows_of(True)
    sounds = [row["audio"] for row in rows]
    before, weights = encode_audio(model, processor, sounds), {k: v.clone() for k, v in model.state_dict().items()}
    assert any(name.endswith("running_mean") for name in weights)
    trainer = AtriTrainer(model, teach_arguments(tmp_path, exact_step=False), processor, rows)
    own = trainer.data_collator

    def with_features(batch_rows: list) -> dict:
        batch = own(batch_rows)
        items = batch["item_ids"].tolist()
        features = [processor.feature_extractor.extract_clip(rows[item]["audio"]) for item in items]
        batch["input_features"], batch["input_features_mask"] = processor.feature_extractor.pad_features(features)
        del batch["audio_embeds"]
        return batch

    trainer.data_collator = with_features
    trainer.train()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])}
    assert {name.split(".")[0] for name in changed} == {"text_model", "text_projection"}
    assert np.array_equal(encode_audio(model, processor, sounds), before)


def test_the_languages_come_to_the_teacher(tmp_path):
    rows = rows_of(False)
    model, processor = tiny_model(), tiny_processor()
    english = [row["captions"]["eng_Latn"][0] for row in rows]
    teacher = encode_text(model, processor, english, "en")
    french = [row["captions"]["fra_Latn"][0] for row in rows]
    far = ((encode_text(model, processor, french, "fr") - teacher) ** 2).sum(1).mean()
    options = {"num_train_epochs": 12, "optim": "adamw_torch", "learning_rate": 1e-2}
    trainer, _ = train(teach_arguments(tmp_path, **options), rows, model)
    near = ((encode_text(model, processor, french, "fr") - teacher) ** 2).sum(1).mean()
    assert near < 0.3 * far
    facts = trainer.training_facts()
    assert facts["max_audio_seconds"] is None, "clips are embedded whole"
    assert facts["teacher"]["kind"] == "self"
    assert facts["teacher"]["num_captions"] == 12
    assert (facts["teach_audio"], facts["distill_weight"], facts["frozen"]) == ("none", 1.0, ["audio"])
    assert facts["anchor_language"] == "eng_Latn"


def test_a_text_cache_is_shared_with_the_teacher(tmp_path):
    """With a frozen text tower, each caption goes through it once: the teacher reads the states of the steps."""
    rows = rows_of(False)
    options = {"freeze_text": True, "num_train_epochs": 2}
    plain, _ = train(teach_arguments(tmp_path / "plain", **options), rows)
    cached, _ = train(teach_arguments(tmp_path / "cached", text_cache_dir=str(tmp_path / "states"), **options), rows)
    assert losses(cached) == pytest.approx(losses(plain), rel=1e-4, abs=1e-6)
    assert_same_weights(cached.model, plain.model, tolerance=1e-5)


def test_an_adapter_learns_the_languages(tmp_path):
    pytest.importorskip("peft", reason="adapters need the extra `peft`")
    tiny_model().save_pretrained(tmp_path / "base")
    model = AtriModel.from_pretrained(tmp_path / "base")
    trainer, _ = train(teach_arguments(tmp_path / "run", lora_rank=2, num_train_epochs=4), rows_of(True), model)
    assert losses(trainer)[-1] < losses(trainer)[0]
    trained = {name.split(".")[0] for name, one in model.named_parameters() if one.requires_grad}
    assert trained == {"text_model", "text_projection"}
    trainer.save_model()
    again = AtriModel.from_pretrained(tmp_path / "run")
    captions = ["un chien"]
    expected = encode_text(model, tiny_processor(), captions, "fr")
    np.testing.assert_allclose(encode_text(again, tiny_processor(), captions, "fr"), expected, atol=1e-6)


# Resuming


@pytest.mark.parametrize("has_sounds", [True, False])
def test_a_resumed_run_is_the_same_and_reads_the_tables(tmp_path, monkeypatch, has_sounds):
    rows = rows_of(has_sounds)
    options = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 2, "hold_languages": ["fr"]}
    whole = make_trainer(teach_arguments(tmp_path, **options), rows)
    whole.train()
    # As the command line does: the model of the checkpoint, which is not the teacher any more.
    resumed = make_trainer(
        teach_arguments(tmp_path, **options), rows, model=AtriModel.from_pretrained(tmp_path / "checkpoint-2")
    )
    forbid_writing(monkeypatch)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert losses(resumed) == losses(whole)
    assert_same_weights(resumed.model, whole.model)


def test_a_new_run_embeds_other_sounds_of_the_same_ids(tmp_path):
    rows = rows_of(True)
    others = [row | {"audio": other["audio"]} for row, other in zip(rows, rows[::-1], strict=True)]
    tables = []
    for of_run in (rows, others):
        make_trainer(teach_arguments(tmp_path, max_steps=1), of_run).train()
        tables.append(np.load(tmp_path / FOLDER / "clips.npy"))
    np.testing.assert_allclose(tables[1], tables[0][::-1], atol=1e-6)


def test_a_resumed_run_needs_what_held_languages_were(tmp_path):
    """The model of the checkpoint cannot make it again."""
    options = {"save_strategy": "steps", "save_steps": 1, "hold_languages": ["fr"]}
    make_trainer(teach_arguments(tmp_path, **options), rows_of(False)).train()
    (tmp_path / FOLDER / "held_fra_Latn.npy").unlink()
    with pytest.raises(ValueError, match="held_fra_Latn.npy is missing or damaged. .* when the run started"):
        make_trainer(teach_arguments(tmp_path, **options), rows_of(False)).train(resume_from_checkpoint=True)


def forbid_writing(monkeypatch) -> None:
    def write(*_):
        raise AssertionError("a table is written again")

    monkeypatch.setattr("modeling_atri.trainer.teach.tables.write_table", write)
    monkeypatch.setattr("modeling_atri.trainer.teach.preparing.write_table", write)


def test_another_teacher_cannot_resume_a_run(tmp_path, caplog):
    rows, processor = rows_of(False), tiny_processor()
    options = {"save_strategy": "steps", "save_steps": 1}
    teachers = [model_teacher(tiny_model(seed), processor, "eng_Latn", name=f"teacher {seed}") for seed in (1, 2)]
    for teacher in teachers:
        trainer = make_trainer(teach_arguments(tmp_path / teacher.name, **options), rows, teacher=teacher)
        trainer.train()
    folder = tmp_path / "teacher 1"
    changed = teach_arguments(folder, teacher="teacher 2", seed=7, **options)
    with pytest.raises(ValueError, match="had another teacher than 'teacher 2' before .* .fingerprint .*, now "):
        make_trainer(changed, rows, teacher=teachers[1]).train(True)
    with pytest.raises(ValueError, match="Resume it with the same teacher"):
        make_trainer(teach_arguments(folder, **options), rows).train(resume_from_checkpoint=True)
    assert "It goes on" not in caplog.text
    again = teach_arguments(folder, teacher="teacher 1", seed=7, **options)  # the same under another name
    make_trainer(again, rows, teacher=teachers[0]).train(resume_from_checkpoint=True)
    assert "had other arguments: seed is 7, was 42. It goes on" in caplog.text


# Other forms of rows


def test_vectors_in_the_rows_are_a_teacher(tmp_path):
    """The model's own embeddings as a column give the same run as the model itself; one vector is for all captions."""
    rows = rows_of(False)
    model, processor = tiny_model(), tiny_processor()
    by_itself, _ = train(teach_arguments(tmp_path / "self"), rows)
    given = [
        row | {"teacher_embedding": encode_text(model, processor, row["captions"]["eng_Latn"], "en")} for row in rows
    ]
    lists = [{**row, "teacher_embedding": row["teacher_embedding"].tolist()} for row in given]
    for form in (given, datasets.Dataset.from_list(lists)):
        by_column, _ = train(teach_arguments(tmp_path / "column"), form)
        assert losses(by_column) == pytest.approx(losses(by_itself), rel=1e-5)
        assert by_column.training_facts()["teacher"]["kind"] == "column"
        assert by_column.training_facts()["teacher"]["num_captions"] == 12
    first = [row | {"teacher_embedding": row["teacher_embedding"][0]} for row in given]
    trainer, _ = train(teach_arguments(tmp_path / "first"), first)
    (batch, _) = trainer.get_train_dataloader()
    expected = [first[item]["teacher_embedding"] for item in batch["item_ids"].tolist()]
    np.testing.assert_array_equal(batch["teacher_embeds"], expected)


def test_embeddings_in_the_place_of_sounds(tmp_path):
    rows = rows_of(True)
    embeddings = encode_audio(tiny_model(), tiny_processor(), [row["audio"] for row in rows])
    by_sound, _ = train(teach_arguments(tmp_path / "sounds"), rows)
    stored = [row | {"audio_embedding": one} for row, one in zip(rows_of(False), embeddings, strict=True)]
    by_store, _ = train(teach_arguments(tmp_path / "stored"), stored)
    assert losses(by_store) == pytest.approx(losses(by_sound), rel=1e-5)
    assert by_store.training_facts()["teach_audio"] == "akcl"


def test_evaluation_in_a_run(tmp_path):
    trainer = make_trainer(teach_arguments(tmp_path, eval_strategy="epoch"), rows_of(False), rows_of(True))
    trainer.train()
    (figures,) = [entry for entry in trainer.state.log_history if "eval_mrv" in entry]
    assert 0 <= figures["eval_mean_text_to_audio_R@1"] <= 1
    written = json.loads((tmp_path / "eval_atri_results.json").read_text())
    assert written["training"]["teacher"]["name"] == "scratch"


def test_sounds_that_cannot_be_read(tmp_path):
    """They are replaced and listed, as in any other run; or the run ends before the first step."""
    rows = rows_of(True)
    rows[2]["audio"] = {"array": np.zeros(4000, np.float32), "sampling_rate": 16000}
    with pytest.raises(ValueError, match="Row 'clip 2'.* silent"):
        make_trainer(teach_arguments(tmp_path), rows).train()
    trainer = make_trainer(teach_arguments(tmp_path, on_bad_row="skip", num_train_epochs=2), rows)
    trainer.train()
    (left_out,) = (json.loads(line) for line in (tmp_path / "train_left_out.jsonl").read_text().splitlines())
    assert (left_out["audio_id"], left_out["kind"]) == ("clip 2", "silent recording")


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "kcl", "teacher": "x"}, "`teacher` belongs to teach; the objective is kcl"),
        ({"objective": "akcl", "distill_weight": 2.0}, "`distill_weight` belongs to teach"),
        ({"objective": "akcl", "teach_audio": "kcl"}, "`teach_audio` belongs to teach"),
        ({"objective": "akcl", "hold_languages": ["fr"]}, "`hold_languages` belongs to teach"),
        ({"gain_db": 3.0}, "embeds every clip once, as a whole: leave out the augmentation"),
        ({"mix_probability": 0.5}, "leave out `mix_probability`"),
        ({"ranking_weight": 0.5}, "belongs to kcl and akcl; the objective is teach"),
        ({"distill_weight": 0, "teach_audio": "none"}, "there is no loss. Change one of them"),
        ({"teach_audio": "mlclap"}, "`teach_audio` must be 'akcl', 'kcl' or 'none'; got 'mlclap'"),
        ({"hold_languages": ["en"]}, "has eng_Latn, but only .* can be held: fra_Latn, jpn_Jpan"),
        ({"hold_languages": ["de"]}, "has deu_Latn, but .* Their captions are needed"),
    ],
)
def test_arguments_that_do_not_fit(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_arguments(tmp_path, **{"objective": "teach"} | options)


def test_rows_that_do_not_fit(tmp_path):
    rows = rows_of(False)
    unit = np.eye(12, dtype=np.float32)

    def run(vectors: list, rows: list = rows, **options) -> None:  # they are refused before the run begins
        given = [row | {"teacher_embedding": vector} for row, vector in zip(rows, vectors, strict=True)]
        make_trainer(teach_arguments(tmp_path, **options), given)

    with pytest.raises(ValueError, match="column `teacher_embedding` is not normalised: .* 'clip 1' has the length 2"):
        run([unit[0], 2 * unit[1], *unit[2:6]])
    with pytest.raises(ValueError, match="has NaN or inf in the embedding of 'clip 2'"):
        run([unit[0], unit[1], np.nan * unit[2], *unit[3:6]])
    with pytest.raises(ValueError, match="of row 'clip 0' has 11 numbers, but the model's embeddings have 12"):
        run([*np.eye(11)[:6]])
    with pytest.raises(ValueError, match="of row 'clip 0' has 3 vectors for 2 captions"):
        run([unit[:3]] * 6)
    with pytest.raises(ValueError, match="Row 'clip 5' has no `teacher_embedding`"):
        run([*unit[:5], None])
    with pytest.raises(ValueError, match="Row 'clip 0' has no `teacher_embedding`"):
        run([None, *unit[:5]], rows_of(True))
    with pytest.raises(ValueError, match="and a `teacher` is named too"):
        run([*unit[:6]], teacher="somebody/model")
    french = [row | {"captions": {"fra_Latn": row["captions"]["fra_Latn"]}} for row in rows]
    with pytest.raises(ValueError, match="captions are missing in eng_Latn"):
        make_trainer(teach_arguments(tmp_path, languages=["en", "fr"]), french)
    with pytest.raises(ValueError, match="row 0: it names no recording, but other rows do; give recordings to all"):
        make_trainer(teach_arguments(tmp_path), [*rows[:1], *rows_of(True)[1:]])
    with pytest.raises(ValueError, match="in the anchor language eng_Latn, but `languages` has only fra_Latn"):
        make_trainer(teach_arguments(tmp_path, languages=["fr"]), rows).train()
    with pytest.raises(ValueError, match="the training rows have no sounds. Add sounds"):
        make_trainer(teach_arguments(tmp_path, distill_weight=0), rows).train()
    teacher = model_teacher(tiny_model(), tiny_processor(), "en", name="small")
    wide = AtriModel(tiny_model().config.__class__.from_dict(tiny_model().config.to_dict() | {"projection_dim": 16}))
    with pytest.raises(ValueError, match="'small' have 12 numbers, but those of the model have 16"):
        make_trainer(teach_arguments(tmp_path), rows, model=wide, teacher=teacher).train()


def test_the_anchor_need_not_be_taught_with_vectors_in_the_rows(tmp_path):
    unit = np.eye(12, dtype=np.float32)
    rows = [row | {"teacher_embedding": unit[place]} for place, row in enumerate(rows_of(False))]
    trainer, _ = train(teach_arguments(tmp_path, languages=["fr"]), rows)
    model = tiny_model()
    (batch, _) = trainer.get_train_dataloader()
    text = model(input_ids=batch["input_ids"][0], attention_mask=batch["attention_mask"][0]).text_embeds
    expected = teach_loss(None, text[None], batch["teacher_embeds"], 1.0, audio_term="none")
    assert losses(trainer)[0] == pytest.approx(expected.item(), rel=1e-5)
    assert expected.item() == pytest.approx((2 - 2 * F.cosine_similarity(text, batch["teacher_embeds"])).mean().item())
