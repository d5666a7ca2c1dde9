"""Batches of a stream: each row once an epoch, on any number of processes, which end together, from any place on."""

import json
from collections import Counter

import pytest

from modeling_atri.corpora.streams.row_shards import RowStream
from modeling_atri.trainer.data.batches import EpochBatchSampler
from modeling_atri.trainer.data.draws import Draw, number_of
from modeling_atri.trainer.data.streams.batches import StreamBatches, StreamPlace
from tests.helpers.streams import MemoryShards, bad, facts_of, named, on_ranks, split, stream_of


def batches_of(stream, num_batches, batch_size=4, world_size=1, place=None, **options) -> list[list[list[dict]]]:
    """Batches of each process."""

    def task(rank, gather):
        sampler = StreamBatches(
            stream, num_batches, batch_size, 0, rank=rank, world_size=world_size, gather=gather, **options
        )
        if place is not None:
            sampler.go_on(StreamPlace.from_json(json.loads(json.dumps(place[rank]))), 0)
        return list(sampler)

    return on_ranks(world_size, task)


def ids(batches: list[list[dict]]) -> list[list[str]]:
    return [[row["audio_id"] for row in batch] for batch in batches]


def joined(names: list[list[str]]) -> list[str]:
    return [name for batch in names for name in batch]


def steps_in(num_rows: int, batch_size: int, world_size: int, **options) -> list[list[int]]:
    """Sizes of the batches of each process, as those of rows in memory."""
    samplers = [EpochBatchSampler(num_rows, batch_size, 0, rank, world_size, **options) for rank in range(world_size)]
    return [[len(batch) for batch in sampler] for sampler in samplers]


SIZES = [[23], [1, 22], [5, 0, 11, 2, 5], [1] * 23, [0, 0, 23], [10, 13], [2, 2, 2, 2, 2, 2, 2, 9], [8, 7, 8]]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("block_size", [1, 5, 1000])
def test_each_row_once_an_epoch_in_the_steps_of_rows_in_memory(sizes, world_size, block_size):
    rows = named(23)
    expected = steps_in(23, 4, world_size)
    stream = stream_of(rows, sizes)
    found = batches_of(stream, 3 * len(expected[0]), world_size=world_size, block_size=block_size)
    for epoch in range(3):
        part = slice(epoch * len(expected[0]), (epoch + 1) * len(expected[0]))
        # Who has a row less at the end may be another process.
        assert sorted(
            map(sorted, zip(*[[len(batch) for batch in batches[part]] for batches in found], strict=True))
        ) == (sorted(map(sorted, zip(*expected, strict=True))))
        counts = Counter(name for batches in found for batch in ids(batches[part]) for name in batch)
        assert set(counts.values()) == {1}
        assert 23 - len(counts) == 23 - sum(map(sum, expected)) < max(world_size, 2)
        for batches in found:
            for step, batch in enumerate(batches[part]):
                assert [row["draw"] for row in batch] == [
                    Draw(epoch, step, number_of(row["audio_id"])) for row in batch
                ]


@pytest.mark.parametrize("num_rows", [8, 9, 10, 11, 15, 16, 17])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_last_step_is_that_of_rows_in_memory(num_rows, world_size, drop_last):
    expected = steps_in(num_rows, 2, world_size, drop_last=drop_last)
    stream = stream_of(named(num_rows), [1, 2, num_rows - 3])
    found = batches_of(stream, 2 * len(expected[0]), 2, world_size, drop_last=drop_last, block_size=3)
    sizes = [sum(map(len, step)) for step in zip(*found, strict=True)]
    assert sizes == [sum(step) for step in zip(*expected, strict=True)] * 2


def test_a_stream_is_read_once_an_epoch():
    """But for what is left at the end, where all processes read what one has not read yet."""
    stream = stream_of(named(400), [10] * 40)
    (shards,) = stream.sources
    batches_of(stream, 100)
    assert (shards.num_read, shards.num_opened) == (400, 40)
    shards.num_read = 0
    batches_of(stream, 50, world_size=2, block_size=20)
    assert shards.num_read <= 420


def test_the_order_depends_on_seed_and_epoch_and_block():
    stream = stream_of(named(64), [16] * 4)
    (found,) = batches_of(stream, 32, block_size=16)
    names = ids(found)
    assert names[:16] != names[16:]
    assert sorted(joined(names[:16])) == sorted(joined(names[16:]))
    assert ids(batches_of(stream, 32, block_size=16)[0]) == names
    shard = [int(name.split()[1]) // 16 for name in joined(names[:16])]
    assert [len(set(shard[start : start + 16])) for start in range(0, 64, 16)] == [1] * 4, "shards one by one"
    assert shard != sorted(shard)
    other = StreamBatches(stream, 16, 4, 1, block_size=16)
    assert ids(list(other)) != names[:16]
    (whole,) = batches_of(stream, 16, block_size=64)
    assert len({int(name.split()[1]) // 16 for name in joined(ids(whole[:4]))}) > 1


@pytest.mark.parametrize("sizes", [[23], [5, 0, 11, 2, 5], [1] * 23], ids=str)
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("block_size", [3, 7, 1000])
def test_a_run_goes_on_from_every_batch(sizes, world_size, block_size):
    stream = stream_of(named(23), sizes)
    options = {"batch_size": 2, "world_size": world_size, "block_size": block_size}
    whole = batches_of(stream, 30, **options)

    def places(rank, gather):
        sampler = StreamBatches(
            stream, 30, 2, 0, rank=rank, world_size=world_size, block_size=block_size, gather=gather
        )
        found = []
        for _ in sampler:
            sampler.note_used(1)
            found.append(sampler.place.as_json())
        return found

    found = on_ranks(world_size, places)
    for used in (0, 3, 10, 11, 12, 20, 28):  # within, at and behind the end of an epoch, which has 11 or 12 steps
        place = [of_rank[used] for of_rank in found]
        rest = batches_of(stream, 29 - used, place=place, **options)
        assert rest == [batches[used + 1 :] for batches in whole]


def test_batches_that_were_used_are_not_read_again():
    stream = stream_of(named(1000), [10] * 100)
    (shards,) = stream.sources
    sampler = StreamBatches(stream, 250, 4, 0, block_size=20)
    iterator = iter(sampler)
    before = [next(iterator) for _ in range(200)]
    sampler.note_used(198)
    place, shards.num_read = sampler.place, 0
    again = StreamBatches(stream, 250, 4, 0, block_size=20)
    again.go_on(place, 198)
    found = list(again)
    assert found[:198] == [[]] * 198
    assert found[198:200] == before[198:]
    assert shards.num_read <= 200 + 2 * 20


def test_iterations_go_on_with_one_another():
    stream = stream_of(named(20), [7, 13])
    (whole,) = batches_of(stream, 15)
    sampler = StreamBatches(stream, 5, 4, 0)
    assert [batch for _ in range(3) for batch in sampler] == whole


def test_wrong_rows_have_their_places():
    rows = named(10)
    rows[3] = bad(3)
    (found,) = batches_of(stream_of(rows), 3)
    (wrong,) = [row for batch in found for row in batch if "problem" in row]
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert wrong["audio_id"] == "line 3, bad 3"
    assert wrong["problem"] == ("unreadable recording", "line 3, bad 3: it is no sound")


@pytest.mark.parametrize(
    "num_rows, world_size, said",
    [
        (0, 1, "0 training rows do not fill one step of 1 process x 4 rows. Use more rows"),
        (1, 1, "1 training row does not fill one step of 1 process x 4 rows. Use more rows"),
        (2, 3, "2 training rows do not fill one step of 3 processes x 4 rows. Use more rows or smaller"),
    ],
)
def test_too_few_rows(num_rows, world_size, said):
    with pytest.raises(ValueError, match=said):
        batches_of(stream_of(named(num_rows), is_known=False), 2, world_size=world_size)
    with pytest.raises(ValueError, match="at least two over all processes; got a batch size of 1 on 1 process"):
        StreamBatches(stream_of(named(9)), 2, 1, 0)


@pytest.mark.parametrize("told, warned", [(20, 0), (None, 0), (24, 1), (16, 1)])
def test_another_length_than_was_told_changes_nothing_but_is_said(caplog, told, warned):
    shards = MemoryShards(split(named(20), [12, 8]), facts_of(named(20)), told)
    (found,) = batches_of(RowStream((shards,)), 10)
    for epoch in (0, 1):
        assert len({name for batch in ids(found[5 * epoch : 5 * epoch + 5]) for name in batch}) == 20
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == warned
    assert all(f"memory has 20 rows, but it was said to have {told}." in one for one in said)


# Several sources


@pytest.mark.parametrize("world_size", [1, 2])
def test_sources_alternate_with_their_weights(world_size):
    sources = [
        MemoryShards(split(named(count, name), [count // 10] * 10), facts_of(named(1)), count, name)
        for name, count in (("many", 2000), ("few", 400))
    ]
    stream = RowStream(tuple(sources), (0.75, 0.25))
    found = batches_of(stream, 900 // world_size, world_size=world_size, block_size=50)
    epochs = [
        [row["audio_id"] for batches in found for batch in batches for row in batch if row["draw"].epoch == epoch]
        for epoch in (0, 1)
    ]
    assert all(max(Counter(names).values()) == 1 for names in epochs), "no row twice in an epoch"
    many, few = (sum(name.startswith(prefix) for name in epochs[0]) for prefix in ("many", "few"))
    assert few / (many + few) == pytest.approx(0.25, abs=0.04)
    assert few > 360, "an epoch ends where a source has no more rows"


# Recordings that are mixed


def test_recordings_to_mix_come_from_the_group_and_block():
    rows = [
        row | {"audio": f"{number}.wav", "group_id": f"group {number % 5}"} for number, row in enumerate(named(40))
    ]
    stream = stream_of(rows, [20, 20])
    options = {"mix_probability": 0.5, "block_size": 20}
    (found,) = batches_of(stream, 200, **options)
    assert batches_of(stream, 200, **options)[0] == found
    group_of = {row["audio"]: row["group_id"] for row in rows}
    mixed = 0
    for row in (row for batch in found for row in batch):
        if "mix_with" in row:
            mixed += 1
            assert row["mix_with"] != row["audio"]
            assert group_of[row["mix_with"]] == row["group_id"]
            assert int(row["mix_with"][:-4]) // 20 == int(row["audio"][:-4]) // 20
    assert mixed / 800 == pytest.approx(0.5, abs=0.07)
