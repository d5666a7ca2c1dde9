"""Training on streams: draws, wrong rows, mel statistics, evaluation, and runs resumed without a difference."""

import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from modeling_atri import AtriModel
from modeling_atri.corpora.rows.bad_rows import read_bad_rows
from modeling_atri.corpora.streams import open_streams
from modeling_atri.trainer.checks.rows import checked_rows
from modeling_atri.trainer.data.batches import DrawnRows
from modeling_atri.trainer.data.draws import SHARD_ORDER, Draw, number_of, random_stream
from modeling_atri.trainer.run.divergence import TrainingDivergedError
from modeling_atri.trainer.run.manifest import MANIFEST_NAME
from tests.helpers.streams import bad, stream_of
from tests.helpers.tiny import tiny_config, tiny_model
from tests.helpers.training import assert_same_weights, make_arguments, make_rows, make_trainer


pytestmark = pytest.mark.heavy

ROWS = make_rows(11, num_groups=4)
SIZES = [4, 1, 6]
AUGMENTED = {"mix_probability": 0.5, "time_warp": 0.3, "gain_db": 6.0, "time_masks": 1, "time_mask_frames": 10}
EVERYTHING = {
    **{"objective": "akcl", "languages_per_step": 2, "optim": "adamw_torch", "learning_rate": 1e-3},
    **{"lr_scheduler_type": "linear", "patch_dropout": 0.3, "save_strategy": "steps", "save_steps": 1},
    **{"shuffle_buffer": 5, **AUGMENTED},
}


def trainer_on(folder, rows=None, model=None, eval_rows=None, callbacks=None, sizes=None, is_known=True, **options):
    stream = stream_of(ROWS if rows is None else rows, sizes or SIZES, is_known)
    return make_trainer(make_arguments(folder, **options), stream, eval_rows, model, callbacks=callbacks)


def assert_same_batch(one: dict, other: dict) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]


class Batches(TrainerCallback):
    """Keeps the batches that are trained on."""

    def __init__(self):
        self.trained: list[dict] = []

    def watch(self, trainer):
        prepare = trainer._prepare_inputs

        def watched(inputs):
            self.trained.append({name: value for name, value in inputs.items() if name != "left_out"})
            return prepare(inputs)

        trainer._prepare_inputs = watched
        return trainer


# Draws


@pytest.mark.parametrize("objective", ["akcl", "cacl", "mlclap"])
def test_a_batch_is_that_of_rows_in_memory(tmp_path, objective):
    """For the same rows at the same places. In memory, a row's item is its number, here that of its id."""
    options = {"objective": objective, "languages_per_step": 2 if objective == "akcl" else None, "shuffle_buffer": 11}
    trainer = trainer_on(tmp_path, **options, **AUGMENTED)
    batches = list(trainer.get_train_dataloader())
    number = {row["audio_id"]: index for index, row in enumerate(ROWS)}
    by_item = {number_of(row["audio_id"]): row for row in ROWS}
    collate = trainer.data_collator
    for step, batch in enumerate(batches):
        rows = [by_item[item] for item in batch["item_ids"].tolist()]
        drawn = [row | {"draw": Draw(0, step, number_of(row["audio_id"]))} for row in rows]
        for row, one in zip(rows, drawn, strict=True):
            # Which other recording is mixed in depends on the others of the block, whether one is does not.
            in_memory = DrawnRows(ROWS, 0.5, trainer.data_seed)[Draw(0, step, number[row["audio_id"]])]
            assert set(in_memory) - {"mix_with"} == set(one)
        plain = trainer_on(tmp_path, **options, **AUGMENTED | {"mix_probability": 0.0})
        same = list(plain.get_train_dataloader())[step]
        assert_same_batch(same, collate(drawn))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_make_the_same_batches(tmp_path, num_workers):
    def batches(workers: int) -> list[dict]:
        trainer = trainer_on(tmp_path, dataloader_num_workers=workers, shuffle_buffer=5, **AUGMENTED)
        return list(trainer.get_train_dataloader())

    for one, other in zip(batches(0), batches(num_workers), strict=True):
        assert_same_batch(one, other)


# Going on


def model_with_dropout():
    model = tiny_model(hidden_dropout=0.1)
    for module in model.text_model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.1
    return model


@pytest.mark.parametrize(
    ("options", "checkpoints"),
    [
        ({"num_train_epochs": 3}, (2, 3, 4)),
        ({"num_train_epochs": 2, "dataloader_num_workers": 2}, (1, 3, 5)),
        pytest.param({"num_train_epochs": 2, "gradient_accumulation_steps": 2}, (1, 3), marks=pytest.mark.slow),
        pytest.param({"max_steps": 7, "is_known": False}, (2, 3, 4), marks=pytest.mark.slow),
        (
            {"max_steps": 7, "is_known": False, "dataloader_num_workers": 1, "dataloader_persistent_workers": True},
            (4,),
        ),
    ],
    ids=["epochs", "two workers", "accumulation", "unknown length", "persistent worker"],
)
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, options, checkpoints):
    """Bit by bit, with everything random: batches, losses, weights."""
    seen = Batches()
    whole = seen.watch(trainer_on(tmp_path / "whole", model=model_with_dropout(), **EVERYTHING | options))
    whole.train()
    for step in checkpoints:
        folder = tmp_path / "whole" / f"checkpoint-{step}"
        torch.manual_seed(123)
        again = Batches()
        resumed = again.watch(trainer_on(tmp_path / "resumed", model=model_with_dropout(), **EVERYTHING | options))
        for parameter in resumed.model.parameters():
            parameter.data.normal_()
        resumed.train(resume_from_checkpoint=str(folder))
        assert resumed.state.global_step == whole.state.global_step
        assert 0 < len(again.trained) < len(seen.trained)
        for one, other in zip(again.trained, seen.trained[-len(again.trained) :], strict=True):
            assert_same_batch(one, other)
        assert [entry.get("loss") for entry in resumed.state.log_history[:-1]] == [
            entry.get("loss") for entry in whole.state.log_history[:-1]
        ]
        assert_same_weights(resumed.model, whole.model)


def test_a_resumed_run_may_have_other_workers_and_reads_little_again(tmp_path):
    options = EVERYTHING | {"save_steps": 15, "num_train_epochs": 2, "mix_probability": 0.0}
    rows, sizes = make_rows(80), [10] * 8
    whole = trainer_on(tmp_path, rows, model_with_dropout(), sizes=sizes, **options)
    whole.train()
    resumed = trainer_on(tmp_path, rows, model_with_dropout(), sizes=sizes, **options, dataloader_num_workers=2)
    (shards,) = resumed.train_dataset.stream.sources
    shards.num_read = 0
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-30"))
    assert shards.num_read <= 10 * 4 + 5
    assert_same_weights(resumed.model, whole.model)


def test_another_stream_is_refused(tmp_path):
    options = EVERYTHING | {"max_steps": 2}
    trainer_on(tmp_path, **options).train()
    folder = str(tmp_path / "checkpoint-1")
    for changes, said in (
        ({"sizes": [5, 6]}, "its stream was another: it had other shards or files of other sizes, another"),
        ({"rows": make_rows(11), "sizes": SIZES}, "its stream was another"),
        ({"shuffle_buffer": 6}, "the shuffle_buffer was 5 and is 6 now. Resume the run as it was started"),
        ({"seed": 3}, "the seed of the data was 42 and is 3 now"),
    ):
        with pytest.raises(ValueError, match=f"{folder} has cannot be found again, because {said}"):
            trainer_on(tmp_path, **options | changes).train(folder)
    with pytest.raises(ValueError, match="shuffle_buffer. is for streams: the training rows are not streamed"):
        make_trainer(make_arguments(tmp_path, shuffle_buffer=4), ROWS)
    make_trainer(make_arguments(tmp_path / "rows", **options | {"shuffle_buffer": None}), ROWS).train()
    with pytest.raises(ValueError, match="does not say where to go on in the stream, because its run did not train"):
        trainer_on(tmp_path, **options).train(str(tmp_path / "rows" / "checkpoint-1"))
    place = tmp_path / "checkpoint-1" / "stream_place_0.json"
    place.rename(place.with_name("stream_place_1.json"))
    (tmp_path / "checkpoint-1" / MANIFEST_NAME).unlink()
    with pytest.raises(ValueError, match="because its file stream_place_0.json is missing"):
        trainer_on(tmp_path, **options).train(folder)


def test_a_file_that_was_edited_at_the_same_size_is_refused(tmp_path):
    options, folder = EVERYTHING | {"max_steps": 2}, tmp_path / "checkpoint-1"
    trainer = trainer_on(tmp_path, **options)
    trainer.train_dataset.stream.sources[0].times = "before"
    trainer.train()
    trainer = trainer_on(tmp_path, **options)
    trainer.train_dataset.stream.sources[0].times = "after"
    with pytest.raises(ValueError, match="its files have been changed since, although their sizes are the same"):
        trainer.train(str(folder))
    place = folder / "stream_place_0.json"
    content = json.loads(place.read_text())
    del content["times of the files"]  # as in checkpoints of earlier versions
    place.write_text(json.dumps(content))
    (folder / MANIFEST_NAME).unlink()
    trainer.train(str(folder))


def test_the_stream_is_named(tmp_path):
    trainer = trainer_on(tmp_path, **EVERYTHING | {"max_steps": 1}, eval_rows=ROWS)
    trainer.train()
    manifest = json.loads((tmp_path / "checkpoint-1" / MANIFEST_NAME).read_text())
    assert manifest["stream"] == "memory"
    assert manifest["data"] == trainer.train_dataset.digest()
    assert "stream_place_0.json" in manifest["files"]
    facts = trainer.results(evaluate=True)["training"]
    assert (facts["stream"], facts["num_train_clips"]) == ("memory", 11)
    unknown = trainer_on(tmp_path / "unknown", is_known=False, max_steps=1)
    unknown.train()
    assert unknown.results()["training"]["num_train_clips"] is None


# Rows that cannot be used


def spoiled() -> list:
    rows = [dict(row) for row in make_rows(12)]
    rows[2]["audio"] = {"path": None, "bytes": b"no sound"}
    rows[7] = bad(7)
    return rows


@pytest.mark.parametrize("num_workers", [0, 2])
def test_wrong_rows_are_replaced_and_noted_once(tmp_path, num_workers):
    options = {"on_bad_row": "skip", "num_train_epochs": 3, "dataloader_num_workers": num_workers}
    seen = Batches()
    trainer = seen.watch(trainer_on(tmp_path, spoiled(), sizes=[5, 7], shuffle_buffer=6, **options))
    trainer.train()
    assert trainer.state.global_step == 9
    assert [len(batch["item_ids"]) for batch in seen.trained] == [4] * 9
    right = {number_of(f"clip {number}") for number in range(12) if number not in (2, 7)}
    assert {item for batch in seen.trained for item in batch["item_ids"].tolist()} == right
    noted = read_bad_rows(tmp_path / "train_left_out.jsonl")
    assert sorted((row.place, row.audio_id) for row in noted) == [(None, "clip 2"), (None, "line 7, bad 7")]
    assert trainer.results()["training"]["left_out"] == {"unreadable recording": 2}


def test_wrong_rows_are_noted_when_they_are_used(tmp_path):
    """Not when they are read: the last batch is read, but not trained on."""
    trainer = trainer_on(tmp_path, spoiled(), sizes=[5, 7], on_bad_row="skip", max_steps=1, dataloader_num_workers=2)
    batches = [[row["audio_id"] for row in batch] for batch in trainer._epoch_batches()]
    trainer.train()
    noted = {row.audio_id for row in read_bad_rows(tmp_path / "train_left_out.jsonl")}
    assert noted == {"clip 2", "line 7, bad 7"} & set(batches[0])


def test_wrong_rows_end_a_run_that_does_not_skip_them(tmp_path):
    with pytest.raises(ValueError, match="1 of the first 12 rows of memory cannot be used; the first: line 7, bad 7:"):
        trainer_on(tmp_path, spoiled(), sizes=[5, 7])
    rows = spoiled()
    rows[7] = rows[6] | {"audio_id": "clip 7"}
    with pytest.raises(ValueError, match="Row 'clip 2': .*Mend it or leave it out"):
        trainer_on(tmp_path, rows, sizes=[5, 7]).train()
    with pytest.raises(ValueError, match="None of the first 5 rows of memory can be used; the first: line 0, bad 0"):
        trainer_on(
            tmp_path,
            [bad(number) for number in range(5)],
            sizes=[5],
            on_bad_row="skip",
        )


def test_a_shard_that_is_all_broken_is_gone_around(tmp_path):
    """Batches without a row that can be used take those that the run began with."""
    seed = next(seed for seed in range(9) if random_stream(seed, SHARD_ORDER, 0, 0).permutation(2)[0] == 0)
    rows = make_rows(200, num_captions=1)
    for row in rows[120:]:
        row["audio"] = {"path": None, "bytes": b"no sound"}
    trainer = trainer_on(tmp_path, rows, sizes=[120, 80], on_bad_row="skip", shuffle_buffer=4, data_seed=seed)
    trainer.train()
    assert trainer.state.global_step == 50
    assert len(read_bad_rows(tmp_path / "train_left_out.jsonl")) == 80


def test_a_loss_that_is_no_number_names_its_clips(tmp_path):
    trainer = trainer_on(tmp_path, max_steps=3)
    batch = [row["audio_id"] for row in list(trainer._epoch_batches())[1]]
    hook = trainer.atri_model.audio_projection.register_forward_hook
    hook(lambda *call: call[-1] * float("nan") if trainer.state.global_step == 1 else None)
    with pytest.raises(TrainingDivergedError) as raised:
        trainer.train()
    assert f"Its batch held the clips {', '.join(map(repr, batch))}. " in str(raised.value)


# Mel statistics, options, evaluation


def test_mel_statistics_are_those_of_the_first_clips(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_atri.trainer.model.mel_statistics._MEL_CLIPS", 4)
    model = AtriModel(tiny_config())
    assert not model.audio_model.mel_norm.is_set
    trainer = trainer_on(tmp_path, model=model)
    trainer.set_mel_statistics()
    first = [row["audio_id"] for row in trainer.train_dataset.first(4)]
    (order,) = {tuple(row["audio_id"] for row in trainer.train_dataset.first(4)) for _ in range(3)}
    assert list(order) == first
    by_id = {row["audio_id"]: row for row in ROWS}
    features = torch.cat([trainer.feature_cache(by_id[name]["audio"]) for name in first])
    torch.testing.assert_close(model.audio_model.mel_norm.running_mean, features.mean(0), rtol=1e-5, atol=1e-4)


def test_what_a_stream_does_not_allow_is_refused(tmp_path):
    for options, said in (
        ({"is_known": False}, "number of rows of memory is not known, so `num_train_epochs` cannot"),
        ({"dataloader_in_order": False, "dataloader_num_workers": 1}, "`dataloader_in_order=False` trains on batches"),
        ({"objective": "teach"}, "teach cannot train on this stream, .* the teacher embeds all captions: add its"),
        ({"languages": ["eng_Latn", "deu_Latn"]}, "opened for captions in eng_Latn, .* needs deu_Latn too"),
        ({"per_device_train_batch_size": 1}, "at least two over all processes"),
    ):
        with pytest.raises(ValueError, match=said):
            trainer_on(tmp_path, **options)
    with pytest.raises(
        ValueError, match="Evaluation compares all clips .* number of rows of this stream is not known"
    ):
        trainer_on(tmp_path, eval_rows=stream_of(ROWS, SIZES, is_known=False))


@pytest.mark.parametrize("embedded", [False, True])
def test_the_evaluation_of_a_stream_is_that_of_its_rows(tmp_path, embedded):
    rows = make_rows(9, num_groups=4)
    for number, row in enumerate(rows):
        row["audio"] = encoded(row["audio"])
        if embedded:
            vector = np.random.default_rng(number).normal(size=12).astype(np.float32)
            row["audio_embedding"] = vector / np.linalg.norm(vector)
            del row["audio"]
    options = {"freeze_audio": True, "freeze_audio_head": True} if embedded else {}
    trainer = make_trainer(
        make_arguments(tmp_path, **options), None, {"rows": rows, "stream": stream_of(rows, [2, 7])}
    )
    figures = trainer.evaluate()
    plain = {name: value for name, value in figures.items() if "runtime" not in name}
    for name, value in plain.items():
        assert value == plain[name.replace("eval_rows", "eval_stream")]
    assert len(plain) > 20


@pytest.mark.parametrize("name", ["train", "eval"])
def test_groups_come_from_the_column_that_the_stream_was_opened_with(tmp_path, name):
    captions = {"en": "a dog", "fr": "un chien", "ja": "犬"}
    rows = [
        {"audio_id": f"{number}", "label": f"group {number % 2}", "audio_embedding": [1.0, number], **captions}
        for number in range(4)
    ]
    args = make_arguments(tmp_path, group_column="label")
    stream = open_streams([datasets.Dataset.from_list(rows)], group_column="label")
    found = checked_rows(stream, args, name, {})
    found = found.sample if name == "train" else found
    assert {row["audio_id"]: row["group_id"] for row in found} == {row["audio_id"]: row["label"] for row in rows}
    with pytest.raises(ValueError, match="`group_column` is 'label', but the stream was opened with None. Open it"):
        checked_rows(open_streams([datasets.Dataset.from_list(rows)]), args, name, {})


def encoded(sound: dict) -> dict:
    import io

    import soundfile

    file = io.BytesIO()
    soundfile.write(file, sound["array"], sound["sampling_rate"], format="WAV", subtype="FLOAT")
    return {"path": None, "bytes": file.getvalue()}


def test_wrong_rows_of_an_evaluation_are_left_out(tmp_path):
    rows = [
        row if row is None or isinstance(row, tuple) else row | {"audio": encoded(row["audio"])}
        for row in make_rows(6)
    ]
    stream = stream_of([*rows, bad(6)], [7])
    with pytest.raises(
        ValueError, match="memory: 1 of 7 rows is left out: .* The first: line 6, bad 6: it is no sound"
    ):
        trainer_on(tmp_path, eval_rows=stream)
    trainer = trainer_on(tmp_path, eval_rows=stream, on_bad_row="skip")
    assert trainer.left_out["eval"] == [bad(6)]
    assert len(trainer.eval_dataset) == 6


def test_a_streamed_data_set_is_opened(tmp_path):
    rows = [row | {"audio": encoded(row["audio"])} for row in make_rows(8)]
    plain = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    trainer = make_trainer(make_arguments(tmp_path, max_steps=3), plain.to_iterable_dataset(num_shards=2))
    trainer.train()
    assert trainer.state.global_step == 3
    assert shutil.disk_usage(tmp_path).free > 0
    assert Path(trainer.args.output_dir).is_dir()


# The objective `teach`


@pytest.mark.parametrize("has_sounds", [False, True])
def test_a_teacher_in_the_rows_teaches_as_in_memory(tmp_path, has_sounds):
    """Vectors and embeddings of the rows reach the loss as they do for rows in memory."""
    rows, rng = make_rows(11), np.random.default_rng(0)
    for row in rows:
        del row["audio"]
        row["teacher_embedding"] = unit(rng.normal(size=(2, 12)))
        if has_sounds:
            row["audio_embedding"] = unit(rng.normal(size=(1, 12)))[0]
    options = {"objective": "teach", "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    seen = Batches()
    trainer = seen.watch(trainer_on(tmp_path, rows, **options))
    trainer.train()
    by_item = {number_of(row["audio_id"]): row for row in rows}
    for batch in seen.trained:
        assert ("audio_embeds" in batch) == has_sounds
        for place, item in enumerate(batch["item_ids"].tolist()):
            vectors = by_item[item]["teacher_embedding"]
            drawn = [np.allclose(batch["teacher_embeds"][place], vector, atol=1e-6) for vector in vectors]
            assert any(drawn)
            if has_sounds:
                assert np.allclose(batch["audio_embeds"][place], by_item[item]["audio_embedding"], atol=1e-6)
    teacher = trainer.training_facts()["teacher"]
    assert (teacher["kind"], teacher["width"]) == ("column", 12)
    resumed = trainer_on(tmp_path, rows, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same_weights(resumed.model, trainer.model)
    with pytest.raises(ValueError, match="the captions in `hold_languages` are embedded: leave it out"):
        trainer_on(tmp_path, rows, **options, hold_languages=["fra_Latn"])


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
