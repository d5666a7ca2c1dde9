"""Streams of `datasets.IterableDataset`s of every make."""

import json

import datasets
import pytest
import torch

from modeling_atri.corpora.rows.bad_rows import MISSING_LANGUAGE, MISSING_RECORDING, UNREADABLE_RECORDING, BadRow
from modeling_atri.corpora.streams import open_stream
from tests.helpers import sources


def generate(shards):
    for shard in shards:
        for row in range(90):
            yield {"audio_id": f"{shard}-{row}", "caption": "a dog", "audio_embedding": [1.0, float(row)]}


def generated(**options):
    return datasets.IterableDataset.from_generator(generate, gen_kwargs={"shards": [0, 1, 2]}, **options)


def map_style(count=270):
    rows = {"audio_id": [str(row) for row in range(count)], "audio_embedding": [[1.0, 2.0]] * count}
    return datasets.Dataset.from_dict(rows | {"caption": ["rain"] * count})


def repeat(rows):
    return {"audio_id": [f"{name}!" for name in rows["audio_id"]]}


MAKES = {
    "generator": generated,
    "map": lambda: generated().map(repeat, batched=True, batch_size=7),
    "filter": lambda: generated().filter(lambda row: not row["audio_id"].endswith("3")),
    "of a data set": lambda: map_style().to_iterable_dataset(num_shards=3),
    "torch": lambda: map_style().to_iterable_dataset(num_shards=3).with_format("torch"),
    "shuffled": lambda: generated().shuffle(seed=1, buffer_size=20),
    "taken": lambda: generated().take(100).skip(5),
    "interleaved": lambda: datasets.interleave_datasets(
        [generated(), map_style().to_iterable_dataset(num_shards=2)], probabilities=[0.3, 0.7], seed=0
    ),
    "joined": lambda: datasets.concatenate_datasets([generated(), map_style().to_iterable_dataset()]),
}


def names(rows):
    return [row["audio_id"] for row in rows]


@pytest.mark.parametrize("make", MAKES)
def test_readers_of_all_shards_give_all_rows_and_go_on(make):
    wanted = names(MAKES[make]())
    shards = open_stream(MAKES[make]())
    found = []
    for shard in range(shards.num_shards):
        reader, states, rows = shards.open(shard), [], []
        for row in reader:
            rows.append(row["audio_id"])
            states.append(json.dumps(reader.state()))
        for number in (0, 30, 63, 64, len(rows) - 1):
            if number < len(rows):
                assert names(shards.open(shard, json.loads(states[number]))) == rows[number + 1 :]
        found += rows
    assert len(set(found)) == len(found)
    if make == "taken":  # `datasets` counts in each shard
        assert len(found) == len(wanted)
    elif make != "interleaved":  # each shard draws its own order
        assert sorted(found) == sorted(wanted)


def test_rows_shuffled_in_a_small_buffer_are_found_again():
    for seed in range(10):  # the next row alone is often the same
        stream = datasets.IterableDataset.from_generator(
            lambda: ({"audio_id": str(number), "caption": "a dog", "audio_embedding": [1.0]} for number in range(70))
        )
        shards = open_stream(stream.shuffle(seed=seed, buffer_size=2))
        reader = shards.open(0)
        rows = [next(reader)["audio_id"] for _ in range(66)]
        state = reader.state()
        assert names(shards.open(0, state)) == names(reader)
        assert len(set(rows)) == 66


class OfWorker(torch.utils.data.IterableDataset):
    def __init__(self, shards):
        self.shards = shards

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        yield from names(self.shards.open(worker.id))


@pytest.mark.heavy
def test_a_worker_of_a_data_loader_reads_any_shard():
    loader = torch.utils.data.DataLoader(OfWorker(open_stream(generated())), batch_size=None, num_workers=2)
    assert sorted(loader) == sorted(f"{shard}-{row}" for shard in (0, 1) for row in range(90))


def test_recordings_are_not_decoded_and_wrong_rows_have_their_place():
    rows = [
        {"audio": {"bytes": sources.sound("dog"), "path": "dog.flac"}, "en": "a dog", "fr": "un chien"},
        {"audio": {"bytes": b"no sound", "path": "rain.flac"}, "en": "rain", "fr": "pluie"},
        {"audio": None, "en": "a bell", "fr": "une cloche"},
        {"audio": {"bytes": sources.sound("dog"), "path": "d.flac"}, "en": "a dog", "fr": None},
    ]
    typed = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    for stream in (
        typed.to_iterable_dataset(),
        datasets.IterableDataset.from_generator(lambda: iter(rows)),
        datasets.IterableDataset.from_generator(lambda: iter(rows), features=typed.features),
    ):
        right, *wrong = open_stream(stream).open(0)
        assert right == {
            "audio": {"bytes": sources.sound("dog"), "path": "dog.flac"},
            "audio_id": "dog",
            "captions": {"eng_Latn": ["a dog"], "fra_Latn": ["un chien"]},
            "group_id": "dog",
        }
        kinds = [UNREADABLE_RECORDING, MISSING_RECORDING, MISSING_LANGUAGE]
        assert [(row.place, row.kind) for row in wrong] == list(zip(["row 1", "row 2", "row 3"], kinds, strict=True))


def test_samples_become_files(tmp_path):
    row = {"audio": {"array": [0.25, -0.5] * 2_000, "sampling_rate": 16_000}, "text": "noise"}
    (found,) = open_stream(datasets.IterableDataset.from_generator(lambda: iter([row]))).open(0)
    assert found["audio"]["bytes"].startswith(b"RIFF") and found["audio"]["path"] is None


def test_an_error_of_the_content_is_a_wrong_row_and_others_are_raised():
    def rows(error):
        yield {"caption": "a dog", "audio_embedding": [1.0, 2.0]}
        raise error

    def stream(error):
        return open_stream(datasets.IterableDataset.from_generator(rows, gen_kwargs={"error": error}))

    *_, last = stream(ValueError("a broken file")).open(0)
    assert isinstance(last, BadRow) and "the rest cannot be read: a broken file" in last.reason
    for error in (ConnectionError("gone"), OSError(5, "Input/output error"), KeyError("a mistake")):
        with pytest.raises(type(error)):
            list(stream(error).open(0))
