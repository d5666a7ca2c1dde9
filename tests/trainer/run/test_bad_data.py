"""Training and evaluation on a data set with every kind of bad row, refused or worked around."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
import soxr
import torch

from modeling_atri import AtriFeatureExtractor
from modeling_atri.corpora.rows.bad_rows import BadRowError, read_bad_rows
from modeling_atri.corpora.rows.checks.row_checker import Problem
from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.trainer.data.batches import DrawnRows, EpochBatchSampler
from modeling_atri.trainer.data.collator import AtriDataCollator
from modeling_atri.trainer.data.draws import Draw, LanguageDraws, random_stream
from modeling_atri.trainer.data.feature_cache import FeatureCache
from modeling_atri.trainer.evaluation.retrieval import RetrievalEmbeddings, RetrievalSet, leave_out_unreadable
from modeling_atri.trainer.model.mel_statistics import set_mel_statistics
from tests.helpers import SCRIPTS
from tests.helpers.bad_data import (
    EXTRA,
    GOOD,
    LANGUAGES,
    MISNAMED,
    ODD,
    SEEN_AT_ONCE,
    SEEN_IN_TIME,
    write_bad_data,
    write_good_data,
)
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import assert_same_weights, losses, make_arguments, make_rows, make_trainer


pytestmark = pytest.mark.heavy


KEPT = {*GOOD, *ODD, *MISNAMED, *SEEN_IN_TIME}
AT_ONCE = Counter(SEEN_AT_ONCE.values()) + Counter(EXTRA)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bad_data(tmp_path_factory.mktemp("bad") / "data")


@pytest.fixture(scope="module")
def rows(folder):
    return load_rows(folder, languages=LANGUAGES, left_out=[])


def without(rows, names):
    return rows.select([index for index, name in enumerate(rows["audio_id"]) if name not in names])


def arguments(folder, **changes):
    return make_arguments(folder, **{"on_bad_row": "skip", "max_audio_seconds": 1.0} | changes)


def test_everything_seen_at_once_is_reported_at_once(folder):
    with pytest.raises(ValueError, match=f"{sum(AT_ONCE.values())} wrong rows") as error:
        load_rows(folder, languages=LANGUAGES)
    assert str(error.value).count("\n") == 21, "20 problems, and how many more"


def test_everything_seen_at_once_is_left_out(folder):
    left_out = []
    rows = load_rows(folder, languages=LANGUAGES, left_out=left_out)
    assert set(rows["audio_id"]) == KEPT
    assert Counter(row.kind for row in left_out) == AT_ONCE
    by_name = {row.audio_id: row.kind for row in left_out if row.kind not in EXTRA}
    assert by_name == SEEN_AT_ONCE


def test_training_goes_around_bad_rows(tmp_path, folder, caplog):
    """Weights finite, counts exact; the same with any number of workers, and on rows that were cleaned by hand."""
    runs = {}
    clean = write_good_data(tmp_path / "data", folder)
    for name, source, num_workers in (("0", folder, 0), ("1", folder, 1), ("2", folder, 2), ("clean", clean, 2)):
        left_out = []
        rows = load_rows(source, languages=LANGUAGES, left_out=left_out)
        # Two epochs and two steps in batches of 5: workers read more of the third than is trained on.
        options = {"per_device_train_batch_size": 5, "max_steps": 12, "dataloader_num_workers": num_workers}
        runs[name] = make_trainer(arguments(tmp_path / name, **options), rows)
        runs[name].left_out["train"] += left_out
        runs[name].train()
    for name, trainer in runs.items():
        assert all(math.isfinite(loss) for loss in losses(trainer))
        assert all(torch.isfinite(weight).all() for weight in trainer.model.state_dict().values())
        assert losses(trainer) == losses(runs["0"])
        assert_same_weights(trainer.model, runs["0"].model)
        listed = read_bad_rows(tmp_path / name / "train_left_out.jsonl")
        assert {row.audio_id: row.kind for row in listed if row.place is None} == SEEN_IN_TIME
        before = Counter() if name == "clean" else AT_ONCE
        assert trainer.training_facts()["left_out"] == before + Counter(SEEN_IN_TIME.values())
        assert len(listed) == before.total() + len(SEEN_IN_TIME)
    messages = [record.getMessage() for record in caplog.records if "training clips were left out" in record.msg]
    assert len(messages) == len(runs)
    assert messages[0].startswith("4 training clips were left out: 3 unreadable recordings (")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_stops_with_a_sentence_that_names_the_row(tmp_path, rows, num_workers):
    for name, sentence in {
        "silent.wav": "Row 'silent.wav': '{path}' is silent",
        "nan.wav": "Row 'nan.wav': Cannot use '{path}': it holds NaN or infinite samples",
        "huge.wav": "Row 'huge.wav': Cannot use '{path}': it has samples up to 1e+30",
        "cut.flac": "Row 'cut.flac': Cannot decode '{path}'",
    }.items():
        some = without(rows, set(SEEN_IN_TIME) - {name})
        path = next(row["audio"]["path"] for row in some if row["audio_id"] == name)
        trainer = make_trainer(arguments(tmp_path, on_bad_row="raise", dataloader_num_workers=num_workers), some)
        with pytest.raises(BadRowError) as error:
            trainer.train()
        assert str(error.value).startswith(sentence.format(path=path)), error.value
        assert str(error.value).endswith("with `on_bad_row='skip'` training goes around such clips.")
        assert "\n" not in str(error.value)


def test_what_can_be_used_is_trained_on(tmp_path, rows):
    """Odd recordings raise nothing, and no other clip stands in for them."""
    some = without(rows, set(SEEN_IN_TIME))
    for on_bad_row in ("raise", "skip"):
        trainer = make_trainer(arguments(tmp_path, on_bad_row=on_bad_row), some)
        items = [item for batch in trainer.get_train_dataloader() for item in batch["item_ids"].tolist()]
        assert sorted(items) == list(range(len(KEPT) - len(SEEN_IN_TIME)))


def drawn_batches(rows, batch_size, rank=0, world_size=1, epoch=1, **options):
    collator = AtriDataCollator(tiny_processor(), LanguageDraws("kcl", LANGUAGES), max_audio_seconds=1.0)
    drawn_rows = DrawnRows(rows, stand_ins=True, **options)
    sampler = EpochBatchSampler(len(rows), batch_size, 0, rank, world_size)
    sampler.set_epoch(epoch)
    return [(batch, collator([drawn_rows[draw] for draw in batch])) for batch in sampler]


def test_stand_ins_are_drawn_for_clip_and_epoch(rows):
    bad = {index: name for index, name in enumerate(rows["audio_id"]) if name in SEEN_IN_TIME}
    seen = set()
    for epoch in range(4):
        for batch, made in drawn_batches(rows, 8, epoch=epoch):
            assert len(made["item_ids"]) == len(batch)
            for draw, item in zip(batch, made["item_ids"].tolist(), strict=True):
                if draw.item not in bad:
                    assert item == draw.item
                    continue
                order = random_stream(0, 8, epoch, draw.item).permutation(len(rows)).tolist()
                assert item == next(other for other in order if other not in bad)
                seen.add((draw.item, item))
            assert {row.audio_id for row in made.get("left_out", [])} >= {bad[d.item] for d in batch if d.item in bad}
    assert len(seen) > len(bad), "another one in another epoch"


def test_ranks_train_on_the_clips_of_one_process(rows):
    alone = [made for _, made in drawn_batches(rows, 8)]
    ranks = [[made for _, made in drawn_batches(rows, 4, rank, 2)] for rank in (0, 1)]
    assert len(ranks[0]) == len(ranks[1]) == len(alone)
    for whole, *parts in zip(alone, *ranks, strict=True):
        for name in ("item_ids", "group_ids"):
            assert torch.equal(torch.cat([part[name] for part in parts]), whole[name])
        found = [row for part in parts for row in part.get("left_out", [])]
        assert found == whole.get("left_out", [])


def test_a_bad_clip_is_not_mixed_in():
    rows = make_rows(2, num_groups=1)
    rows[1]["audio"] = {"array": np.zeros(4000, dtype=np.float32), "sampling_rate": 16000}
    collator = AtriDataCollator(tiny_processor(), LanguageDraws("kcl", LANGUAGES))
    drawn_rows = DrawnRows(rows, mix_probability=1.0, stand_ins=True)
    plain = collator([rows[0]])
    for item in (0, 1):
        batch = collator([drawn_rows[Draw(0, 0, item)]])
        assert torch.equal(batch["input_features"], plain["input_features"])
        assert batch["item_ids"].tolist() == [0]
    assert [row.audio_id for row in batch["left_out"]] == ["clip 1"]


def silent_but(*good, num_rows=10):
    rows = make_rows(num_rows)
    for index in set(range(num_rows)) - set(good):
        rows[index]["audio"] = {"array": np.zeros(4000, dtype=np.float32), "sampling_rate": 16000}
    return rows


def test_copies_of_one_clip_are_no_batch():
    """Where stand-ins came to the same clip, another one is looked for."""
    collator = AtriDataCollator(tiny_processor(), LanguageDraws("kcl", LANGUAGES))
    for items in ((0, 1), (1, 2), (1, 2, 3, 4)):
        for epoch in range(4):
            drawn_rows = DrawnRows(silent_but(0, 7), stand_ins=True)
            batch = collator([drawn_rows[Draw(epoch, 0, item)] for item in items])
            assert set(batch["item_ids"].tolist()) == {0, 7}
        drawn_rows = DrawnRows(silent_but(7), stand_ins=True)
        with pytest.raises(BadRowError, match="Only one recording .* can be used, 'clip 7', .*: Row 'clip .* silent"):
            collator([drawn_rows[Draw(0, 0, item)] for item in items])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("good", "sentence"), [((), "No recording"), ((3,), "Only one recording")])
def test_too_few_can_be_read_to_stand_in(tmp_path, num_workers, good, sentence):
    trainer = make_trainer(arguments(tmp_path, dataloader_num_workers=num_workers), silent_but(*good), model=None)
    with pytest.raises(BadRowError) as error:
        trainer.train()
    assert str(error.value).startswith(f"{sentence} of the training data can be used")
    assert "\n" not in str(error.value)
    assert "on_bad_row" not in str(error.value), "it is set already"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_that_lack_a_caption(tmp_path, num_workers):
    """In a list of rows, which is checked as a data set is."""
    rows = make_rows(6)
    rows[2]["captions"]["fra_Latn"] = []
    options = {"dataloader_num_workers": num_workers, "objective": "kcl"}
    with pytest.raises(ValueError, match="1 wrong row, 1 problem:\n  row 2: there is no caption in .* fra_Latn$"):
        make_trainer(arguments(tmp_path, on_bad_row="raise", **options), rows).train()
    trainer = make_trainer(arguments(tmp_path, **options), rows)
    trainer.train()
    assert [row[:3] for row in trainer.bad_rows.rows()] == [("row 2", "clip 2", "empty caption")]


def test_nothing_can_be_read(tmp_path, rows):
    bad = without(rows, KEPT - set(SEEN_IN_TIME))
    trainer = make_trainer(arguments(tmp_path), bad)
    with pytest.raises(ValueError, match="No recording of the training data can be used; the first: Row '"):
        trainer.train()


def test_a_resumed_run_counts_on(tmp_path, rows):
    options = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2}
    whole = make_trainer(arguments(tmp_path, **options), rows)
    whole.train()
    listed = read_bad_rows(tmp_path / "train_left_out.jsonl")
    resumed = make_trainer(arguments(tmp_path, **options), rows)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert_same_weights(resumed.model, whole.model)
    assert read_bad_rows(tmp_path / "train_left_out.jsonl") == listed
    assert len(listed) == len(SEEN_IN_TIME)


def test_mel_statistics_are_those_of_the_clips_that_can_be_read(rows):
    cache = FeatureCache(tiny_processor().feature_extractor)
    mel_norm = tiny_model().audio_model.mel_norm

    def read(audio):
        return cache.excerpt(audio, 1.0, np.random.default_rng(0))

    def statistics(some, **options):
        mel_norm.set_statistics(torch.zeros(64), torch.ones(64))  # as of a model from scratch
        set_mel_statistics(mel_norm, some, read, 0, **options)
        return mel_norm.running_mean.clone(), mel_norm.running_var.clone()

    frames = torch.cat([read(row["audio"]) for row in without(rows, SEEN_IN_TIME)])
    mean, variance = statistics(rows, skip_bad=True)
    torch.testing.assert_close(mean, frames.mean(dim=0), rtol=1e-4, atol=0)
    torch.testing.assert_close(variance, frames.var(dim=0, correction=0), rtol=1e-3, atol=0)
    with pytest.raises(BadRowError, match="^Row '(silent.wav|nan.wav|huge.wav|cut.flac)': "):
        statistics(rows)
    with pytest.raises(ValueError, match="None of the 4 training clips that were chosen for the mel statistics"):
        statistics(without(rows, KEPT - set(SEEN_IN_TIME)), skip_bad=True)


def test_an_evaluation_leaves_bad_clips_and_their_captions_out(tmp_path, rows):
    trainer = make_trainer(arguments(tmp_path / "skip"), None, rows)
    figures = trainer.evaluate()
    results = json.loads((tmp_path / "skip" / "eval_atri_results.json").read_text())
    unreadable = set(SEEN_IN_TIME) - {"silent.wav"}  # silence has an embedding as good as any
    assert results["evaluated_on"]["left_out"] == {"unreadable recording": 3}
    assert results["evaluated_on"]["num_clips"] == len(KEPT) - 3
    assert results["evaluated_on"]["num_captions_per_language"] == 5 * (len(KEPT) - 3)
    assert {row.audio_id for row in read_bad_rows(tmp_path / "skip" / "eval_left_out.jsonl")} == unreadable
    clean = make_trainer(arguments(tmp_path / "raise", on_bad_row="raise"), None, without(rows, unreadable))
    expected = clean.evaluate()
    names = [name for name in expected if not name.endswith("runtime")]
    # Captions that the tiny tokenizer takes for the same tie up to rounding, which is that of the batches: two of 105
    # may fall on the other side of a cut.
    assert [figures[name] for name in names] == pytest.approx([expected[name] for name in names], rel=0.01, abs=0.02)
    with pytest.raises(ValueError, match="^Row '(nan.wav|huge.wav|cut.flac)': "):
        clean.evaluate(rows)


def test_ground_truth_without_a_clip():
    """Clips 0 and 2 share their captions; clip 1 cannot be read."""
    rows = make_rows(4, num_captions=2)
    for index, group in enumerate(["x", "y", "x", "z"]):
        rows[index]["group_id"] = group
    whole = RetrievalSet.from_rows(rows, LANGUAGES)
    assert whole.positives == [[0, 2], [0, 2], [1], [1], [0, 2], [0, 2], [3], [3]]
    text = {code: np.arange(8.0)[:, None] for code in LANGUAGES}
    embeddings = RetrievalEmbeddings(np.arange(4.0)[:, None], text, {1: Problem("short recording", "broken")})
    smaller_set, smaller, bad_rows = leave_out_unreadable(whole, embeddings)
    assert smaller_set.positives == [[0, 1], [0, 1], [0, 1], [0, 1], [2], [2]]
    assert smaller_set.captions == RetrievalSet.from_rows([rows[0], *rows[2:]], LANGUAGES).captions
    for clip, index in zip(smaller_set.audios, (0, 2, 3), strict=True):
        assert clip is rows[index]["audio"]
    assert smaller.audio[:, 0].tolist() == [0, 2, 3]
    assert all(part[:, 0].tolist() == [0, 1, 4, 5, 6, 7] for part in smaller.text.values())
    assert bad_rows == [(None, "clip 1", "short recording", "broken")]
    # Its partner gone, a clip keeps the captions that were written for it.
    broken = Problem("unreadable recording", "broken")
    smaller_set, _, _ = leave_out_unreadable(whole, dataclasses.replace(embeddings, unreadable={0: broken}))
    assert smaller_set.positives == [[0], [0], [1], [1], [2], [2]]
    with pytest.raises(ValueError, match="No clip of the set can be read; the first: broken"):
        leave_out_unreadable(whole, dataclasses.replace(embeddings, unreadable=dict.fromkeys(range(4), broken)))


def test_an_evaluation_tells_the_kinds_apart(tmp_path):
    rows = make_rows(5)
    rows[0]["audio"] = {"path": str(tmp_path / "gone.wav"), "bytes": None}
    rows[1]["audio"] = {"array": np.full(1_000, 0.1, dtype=np.float32), "sampling_rate": 16_000}
    rows[2]["audio"] = {"path": None, "bytes": b"no sound"}
    make_trainer(arguments(tmp_path), None, rows).evaluate()
    kinds = {row.audio_id: row.kind for row in read_bad_rows(tmp_path / "eval_left_out.jsonl")}
    assert kinds == {"clip 0": "missing recording", "clip 1": "short recording", "clip 2": "unreadable recording"}


def test_an_evaluation_counts_what_was_seen_at_once(tmp_path, folder):
    left_out = []
    rows = load_rows(folder, languages=LANGUAGES, left_out=left_out)
    trainer = make_trainer(arguments(tmp_path), None, {"dev": without(rows, SEEN_IN_TIME), "test": rows})
    trainer.left_out["eval_test"] += left_out
    trainer.evaluate()
    files = [tmp_path / f"eval_{name}_atri_results.json" for name in ("dev", "test")]
    dev, test = (json.loads(file.read_text())["evaluated_on"] for file in files)
    assert "left_out" not in dev
    assert test["left_out"] == AT_ONCE + Counter({"unreadable recording": 3})
    assert not (tmp_path / "eval_dev_left_out.jsonl").exists()
    assert len(read_bad_rows(tmp_path / "eval_test_left_out.jsonl")) == AT_ONCE.total() + 3


@pytest.mark.parametrize("name", [*ODD, *MISNAMED])
def test_features_of_odd_recordings(folder, name):
    """Against channels averaged and resampled by hand, whole."""
    extractor = tiny_processor().feature_extractor
    samples, rate = soundfile.read(folder / name, dtype="float64", always_2d=True)
    waveform = soxr.resample(samples.mean(axis=1), rate, 16_000, quality="HQ").astype(np.float32)
    expected = extractor.extract_clip(waveform)
    features = FeatureCache(extractor)(str(folder / name))
    assert torch.isfinite(features).all()
    # Above the floor of 8 kHz recordings in the upper bins, where only rounding is heard.
    loud = expected > expected.max() - 80
    torch.testing.assert_close(features[loud], expected[loud], rtol=0, atol=1e-2)


def test_silence():
    extractor = tiny_processor().feature_extractor
    faint = np.full(8_000, 1e-40, dtype=np.float32)
    click = faint.copy()
    click[4_000] = 1e-3
    for samples, expected in ((np.zeros(8_000, dtype=np.float32), True), (faint, True), (click, False)):
        features = extractor.extract_clip(samples)
        assert torch.isfinite(features).all()
        assert AtriFeatureExtractor().is_silent(features) == expected
    model = tiny_model()
    embeds = model.get_audio_features(input_features=extractor.extract_clip(faint)[None]).pooler_output
    assert torch.isfinite(embeds).all()


@pytest.mark.parametrize("with_cache", [False, True])
def test_a_long_clip_is_another_excerpt_each_epoch(tmp_path, folder, with_cache):
    cache = FeatureCache(tiny_processor().feature_extractor, tmp_path / "cache" if with_cache else None)
    path = str(folder / "long.flac")
    samples, _ = soundfile.read(path, dtype="float32")

    def excerpt(epoch):
        return cache.excerpt(path, 1.0, random_stream(0, 7, epoch, 3))

    starts = [int(random_stream(0, 7, epoch, 3).integers(len(samples) - 16_000 + 1)) for epoch in range(3)]
    assert len(set(starts)) == 3
    for epoch, start in enumerate(starts):
        assert torch.equal(excerpt(epoch), cache.feature_extractor.extract_clip(samples[start : start + 16_000]))
    assert torch.equal(excerpt(1), excerpt(1))
    assert torch.equal(cache.excerpt(path, 3.0, random_stream(0, 7)), cache(path))
    assert torch.equal(cache.excerpt(path, None, random_stream(0, 7)), cache(path))
    assert not with_cache or len(list((tmp_path / "cache").iterdir())) == 1, "of the whole clip alone"


def test_a_long_clip_with_a_silent_part_is_not_silent(tmp_path):
    samples = np.zeros(20 * 16_000, dtype=np.float32)
    samples[: 16_000 * 10] = np.random.default_rng(0).normal(scale=0.1, size=16_000 * 10)
    cache = FeatureCache(tiny_processor().feature_extractor)
    audio = {"array": samples, "sampling_rate": 16_000}
    for epoch in range(8):
        assert not cache.feature_extractor.is_silent(cache.excerpt(audio, 1.0, random_stream(0, 7, epoch, 0)))
    with pytest.raises(BadRowError, match="is silent"):
        cache.excerpt({"array": 0 * samples, "sampling_rate": 16_000}, 1.0, random_stream(0, 7))


def test_long_clips_are_counted_once(tmp_path, rows, caplog):
    make_trainer(arguments(tmp_path), rows)
    (record,) = [record for record in caplog.records if "max_audio_seconds" in record.msg]
    assert record.getMessage().startswith(
        "1 of 24 training clips are longer than 1 s (`max_audio_seconds`): each epoch uses a random part"
    )


@pytest.mark.parametrize("seconds", [None, float("inf")])
def test_long_clips_that_are_used_whole_are_counted(tmp_path, caplog, seconds):
    rows = make_rows(3, languages=LANGUAGES)
    rows[1]["audio"]["array"] = np.resize(rows[1]["audio"]["array"], 121 * 16_000)
    make_trainer(arguments(tmp_path, max_audio_seconds=seconds, languages=LANGUAGES), rows)
    (record,) = [record for record in caplog.records if "max_audio_seconds" in record.msg]
    assert record.getMessage().startswith(
        "1 of 3 training clips are longer than 120 s, and `max_audio_seconds` shortens none. A batch needs memory"
    )


@pytest.mark.slow
def test_an_hour_is_trained_on_in_parts_and_evaluated_whole_in_bounded_memory(tmp_path):
    """One hour of 8 kHz; memory as the process sees it, above what it had before."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "hour.wav"
    with soundfile.SoundFile(path, "w", 8_000, 1, subtype="PCM_16") as file:
        for second in range(3_600):
            file.write(np.random.default_rng(second).normal(scale=0.05, size=8_000).astype(np.float32))
    rows = make_rows(4)
    rows[2]["audio"] = {"path": str(path), "bytes": None}

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    trainer = make_trainer(make_arguments(tmp_path), rows, rows)
    make_trainer(make_arguments(tmp_path), make_rows(4), make_rows(4)).evaluate()
    before = peak()
    trainer.train()
    assert peak() - before < 100, "30 s are 2 MB as samples; an hour would be 230"
    before = peak()
    trainer.evaluate()
    # 230 MB of samples, twice while their blocks are joined, and 92 MB of features.
    assert peak() - before < 800
    assert all(torch.isfinite(weight).all() for weight in trainer.model.state_dict().values())


@pytest.mark.slow
def test_two_processes_go_around_bad_rows_together(tmp_path, folder, rows, repository_root):
    path = os.pathsep.join([str(repository_root), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    script = SCRIPTS / "bad_data_processes.py"
    command = [sys.executable, str(script), str(folder), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stderr[-8000:]
    alone = make_trainer(arguments(tmp_path / "alone", num_train_epochs=2), rows, rows)
    alone.train()
    figures = alone.evaluate()
    names = [name for name in figures if not name.endswith("runtime")]
    for rank in (0, 1):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=False)
        assert_same_weights(found["weights"], alone.model, tolerance=1e-4)
        assert found["left_out"] == Counter(SEEN_IN_TIME.values()), "what either of them met"
        values = [found["metrics"][name] for name in names]
        assert values == pytest.approx([figures[name] for name in names], rel=0.02, abs=2e-3)
    for name in ("train", "eval"):
        assert {row.audio_id for row in read_bad_rows(tmp_path / f"{name}_left_out.jsonl")} == {
            row.audio_id for row in read_bad_rows(tmp_path / "alone" / f"{name}_left_out.jsonl")
        }
    assert len(read_bad_rows(tmp_path / "train_left_out.jsonl")) == len(SEEN_IN_TIME), "each once"
