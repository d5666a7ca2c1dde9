"""Batches of an epoch: the same on all processes, with any number of workers, and after a resume."""

from collections import Counter

import pytest
import torch

from modeling_atri.trainer.data.batches import DrawnRows, EpochBatchSampler
from modeling_atri.trainer.data.draws import Draw
from tests.helpers.statistics import assert_even
from tests.helpers.training import assert_same_weights, make_arguments, make_rows, make_trainer, tiny_model


pytestmark = pytest.mark.heavy


def epoch_of(sampler: EpochBatchSampler, epoch: int) -> list[list[Draw]]:
    sampler.set_epoch(epoch)
    return list(sampler)


def items_of(batches: list[list[Draw]]) -> list[int]:
    return [draw.item for batch in batches for draw in batch]


@pytest.mark.parametrize(("num_items", "sizes"), [(12, [4, 4, 4]), (11, [4, 4, 3]), (10, [4, 4, 2]), (3, [3])])
def test_each_clip_once_an_epoch(num_items, sizes):
    sampler = EpochBatchSampler(num_items, batch_size=4, seed=0)
    batches = epoch_of(sampler, 5)
    assert [len(batch) for batch in batches] == sizes
    assert len(sampler) == len(sizes)
    assert sorted(items_of(batches)) == list(range(num_items))
    assert all(draw[:2] == (5, step) for step, batch in enumerate(batches) for draw in batch)


def test_drop_last():
    sampler = EpochBatchSampler(11, batch_size=4, seed=0, drop_last=True)
    assert [len(batch) for batch in sampler] == [4, 4]
    assert len(EpochBatchSampler(12, batch_size=4, seed=0, drop_last=True)) == 3
    with pytest.raises(
        ValueError, match="3 training clips do not fill one step of 1 process x 4 clips with drop_last"
    ):
        EpochBatchSampler(3, batch_size=4, seed=0, drop_last=True)


def test_order_depends_on_seed_and_epoch_alone():
    sampler = EpochBatchSampler(50, batch_size=8, seed=3)
    first, second = epoch_of(sampler, 0), epoch_of(sampler, 1)
    assert items_of(first) != items_of(second)
    assert epoch_of(sampler, 0) == first
    assert epoch_of(EpochBatchSampler(50, batch_size=8, seed=3), 1) == second
    assert items_of(epoch_of(EpochBatchSampler(50, batch_size=8, seed=4), 0)) != items_of(first)
    # The batch size cuts the order and does not change it.
    assert items_of(epoch_of(EpochBatchSampler(50, batch_size=9, seed=3), 0)) == items_of(first)


@pytest.mark.parametrize("num_items", [64, 60, 59, 58])
@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batches_of_one_process(num_items, world_size):
    alone = list(EpochBatchSampler(num_items, batch_size=8, seed=0))
    ranks = [
        list(EpochBatchSampler(num_items, batch_size=8 // world_size, seed=0, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    if num_items % 8 < world_size and num_items % 8:  # not a clip for everyone: left out, as documented
        alone = alone[:-1]
    assert [[draw for part in parts for draw in part] for parts in zip(*ranks, strict=True)] == alone
    assert all(max(map(len, parts)) - min(map(len, parts)) <= 1 for parts in zip(*ranks, strict=True))


def test_too_few_clips_for_the_processes():
    with pytest.raises(ValueError, match="3 training clips do not fill one step of 4 processes x 2 clips. Use more"):
        EpochBatchSampler(3, batch_size=2, seed=0, rank=0, world_size=4)


def test_a_single_clip_is_no_step():
    batches = epoch_of(EpochBatchSampler(9, batch_size=4, seed=0), 3)
    assert [len(batch) for batch in batches] == [4, 4]
    # Another epoch leaves out another clip.
    left_out = {(set(range(9)) - set(items_of(epoch_of(EpochBatchSampler(9, 4, seed=0), e)))).pop() for e in range(9)}
    assert len(left_out) > 1
    # One clip on each of two processes is a step of two.
    ranks = [list(EpochBatchSampler(10, batch_size=4, seed=0, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [[len(batch) for batch in rank] for rank in ranks] == [[4, 1], [4, 1]]
    assert len(EpochBatchSampler(4, batch_size=1, seed=0, rank=0, world_size=2)) == 2
    with pytest.raises(ValueError, match="at least two over all processes; got a batch size of 1 on 1 process. Raise"):
        EpochBatchSampler(4, batch_size=1, seed=0)
    with pytest.raises(ValueError, match="1 training clip does not fill one step of 1 process x .* Use more clips\\."):
        EpochBatchSampler(1, batch_size=4, seed=0)
    with pytest.raises(
        ValueError, match="1 training row does not fill one step of 3 processes x 1 row. Use more rows"
    ):
        EpochBatchSampler(1, batch_size=1, seed=0, world_size=3, noun="row")


def test_rows_carry_their_draw():
    rows = DrawnRows([{"audio_id": "a"}, {"audio_id": "b"}])
    assert len(rows) == 2
    assert rows[Draw(0, 0, 1)] == {"audio_id": "b", "draw": Draw(0, 0, 1)}
    assert "draw" not in rows.rows[1]


def test_recordings_to_mix_come_from_the_group():
    rows = make_rows(60, num_groups=20)  # three of each
    rows[7]["group_id"] = "alone"
    drawn_rows = DrawnRows(rows, mix_probability=0.4, seed=1)
    item_of = {id(row["audio"]): item for item, row in enumerate(rows)}
    counts = Counter()
    for epoch in range(20):
        for item, row in enumerate(rows):
            drawn = drawn_rows[Draw(epoch, 0, item)]
            assert drawn["audio"] is row["audio"]
            if "mix_with" in drawn:
                other = item_of[id(drawn["mix_with"])]
                assert other != item
                assert rows[other]["group_id"] == row["group_id"]
                counts[other > item] += 1
            # The draw is that of the clip and epoch, whatever the step.
            assert drawn_rows[Draw(epoch, 5, item)].get("mix_with") is drawn.get("mix_with")
    assert "mix_with" not in drawn_rows[Draw(0, 0, 7)]
    assert sum(counts.values()) / (59 * 20) == pytest.approx(0.4, abs=0.05)
    assert_even(counts, 2)
    assert not any("mix_with" in DrawnRows(rows)[Draw(0, 0, item)] for item in range(60))


@pytest.mark.parametrize(("num_groups", "probability", "warned"), [(None, 0.3, 1), (4, 0.3, 0), (None, 0.0, 0)])
def test_mixing_without_groups_is_warned_of(caplog, num_groups, probability, warned):
    rows = DrawnRows(make_rows(5, num_groups=num_groups), probability)
    assert [rows[Draw(0, 0, item)]["audio_id"] for item in range(5)] == [f"clip {item}" for item in range(5)]
    assert [record.getMessage() for record in caplog.records] == [
        "mix_probability=0.3 has no effect: a clip is mixed with another of its group, but no two of the 5 clips "
        "share a `group_id`."
    ] * warned


# The same through the trainer: any number of workers, any layout, after a resume.

AUGMENTED = {
    "mix_probability": 0.5,
    "time_warp": 0.3,
    "mel_shift_bins": 2.0,
    "equalizer_db": 3.0,
    "gain_db": 6.0,
    "time_masks": 1,
    "time_mask_frames": 10,
    "frequency_masks": 1,
}


def assert_same_batches(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]


@pytest.mark.parametrize("objective", ["akcl", "cacl", "mlclap"])
def test_workers_make_the_same_batches(tmp_path, objective):
    def batches(num_workers: int, epoch: int) -> list[dict]:
        args = make_arguments(
            tmp_path,
            objective=objective,
            languages_per_step=2 if objective == "akcl" else None,
            dataloader_num_workers=num_workers,
            **AUGMENTED,
        )
        loader = make_trainer(args, make_rows(9, num_groups=4)).get_train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        return list(loader)

    assert_same_batches(batches(0, epoch=1), batches(2, epoch=1))


def test_ranks_make_the_rows_of_one_process(tmp_path):
    rows = make_rows(10, num_groups=4)
    args = make_arguments(tmp_path, objective="akcl", languages_per_step=2, per_device_train_batch_size=8, **AUGMENTED)
    trainer = make_trainer(args, rows)
    collate, drawn_rows = trainer.data_collator, DrawnRows(rows, args.mix_probability, args.seed)
    (alone, rest) = trainer.get_train_dataloader()
    ranks = [EpochBatchSampler(10, 4, args.seed, rank, world_size=2) for rank in (0, 1)]
    parts = [[collate([drawn_rows[draw] for draw in batch]) for batch in sampler] for sampler in ranks]
    for batch, shares in ((alone, [part[0] for part in parts]), (rest, [part[1] for part in parts])):
        for name in ("item_ids", "group_ids"):
            assert torch.equal(torch.cat([share[name] for share in shares]), batch[name])
        languages = [[row[0] for row in share["languages"]] for share in shares]
        assert languages[0] == languages[1] == [row[0] for row in batch["languages"]]
        start = 0
        for share in shares:  # padding apart, which depends on the longest of a batch
            count, frames, tokens = (
                len(share["item_ids"]),
                share["input_features"].shape[1],
                share["input_ids"].shape[2],
            )
            own = slice(start, start + count)
            assert torch.equal(share["input_features"], batch["input_features"][own, :frames])
            assert torch.equal(share["input_ids"], batch["input_ids"][:, own, :tokens])
            assert torch.equal(share["attention_mask"], batch["attention_mask"][:, own, :tokens])
            assert not batch["attention_mask"][:, own, tokens:].any()
            start += count


def model_with_dropout():
    model = tiny_model(hidden_dropout=0.1)
    for module in model.text_model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.1
    return model


@pytest.mark.parametrize(
    ("objective", "checkpoint", "accumulation"),
    [("akcl", 2, 1), ("akcl", 3, 1), ("cacl", 4, 1), ("kcl", 1, 2)],
    ids=["amid the first epoch", "between epochs", "amid the second epoch", "with accumulation"],
)
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, objective, checkpoint, accumulation):
    """Bit by bit, with everything random: order, captions, languages, augmentation, patch dropout, dropout."""
    rows = make_rows(11, num_groups=4)
    options = {
        "objective": objective,
        "languages_per_step": 2 if objective != "cacl" else None,
        "num_train_epochs": 2,
        "gradient_accumulation_steps": accumulation,
        "optim": "adamw_torch",
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "max_grad_norm": 1.0,
        "patch_dropout": 0.3,
        "save_strategy": "steps",
        "save_steps": 1,
        **AUGMENTED,
    }
    whole = make_trainer(make_arguments(tmp_path, **options), rows, model=model_with_dropout())
    whole.train()
    assert whole.state.global_step == (6 if accumulation == 1 else 4)

    torch.manual_seed(123)  # another process would stand somewhere else, and begin with other weights
    resumed = make_trainer(make_arguments(tmp_path, **options), rows, model=model_with_dropout())
    for parameter in resumed.model.parameters():
        parameter.data.normal_()
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint}"))
    assert resumed.state.global_step == whole.state.global_step
    assert_same_weights(resumed.model, whole.model)


def test_epochs_of_a_run_differ(tmp_path):
    args = make_arguments(tmp_path, objective="mlclap", num_train_epochs=3)
    trainer = make_trainer(args, make_rows(8))
    seen = []
    collate = trainer.data_collator

    def remember(rows: list[dict]) -> dict:
        seen.extend(row["draw"] for row in rows)
        return collate(rows)

    remember.seed = collate.seed
    trainer.data_collator = remember
    trainer.train()
    assert [draw.epoch for draw in seen] == [0] * 8 + [1] * 8 + [2] * 8
    orders = {tuple(draw.item for draw in seen[start : start + 8]) for start in (0, 8, 16)}
    assert len(orders) == 3
