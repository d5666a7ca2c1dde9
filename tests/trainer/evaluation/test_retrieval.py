"""The figures of an evaluation, against loops over one clip and one caption at a time in float64."""

import datasets
import numpy as np
import pytest
import torch

from modeling_atri.trainer.evaluation.retrieval import (
    RetrievalEmbeddings,
    RetrievalSet,
    embed_retrieval_set,
    retrieval_table,
)
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import LANGUAGES, make_arguments, make_rows, make_trainer


def naive_rank(similarities: np.ndarray, positives: list[int]) -> float:
    """1 + the negatives above the best positive + half of those that tie with it."""
    best = max(similarities[positive] for positive in positives)
    negatives = [value for item, value in enumerate(similarities) if item not in positives]
    above = sum(value > best + 1e-12 for value in negatives)
    return 1 + above + sum(abs(value - best) <= 1e-12 for value in negatives) / 2


def naive_average_precision(similarities: np.ndarray, positives: list[int]) -> float:
    order = sorted(range(len(similarities)), key=lambda item: -similarities[item])
    hits = [position for position, item in enumerate(order, start=1) if item in positives]
    return sum(i / position for i, position in enumerate(hits, start=1) if position <= 10) / len(positives)


def naive_table(audio: np.ndarray, text: dict[str, np.ndarray], groups: list, owner: list[int], anchor: str) -> dict:
    """`audio` (A, D), `text` (M, D) float64; `groups` of the clips; `owner`: the clip that each caption came with."""
    table, ranks_of = {}, {}
    num_captions, num_clips = len(owner), len(audio)
    clips_of = [[clip for clip in range(num_clips) if groups[clip] == groups[own]] for own in owner]
    captions_of = [[m for m in range(num_captions) if clip in clips_of[m]] for clip in range(num_clips)]
    for language, captions in text.items():
        ranks = np.array([naive_rank(audio @ captions[m], clips_of[m]) for m in range(num_captions)])
        ranks_of[language] = ranks
        back = np.array([naive_rank(captions @ audio[a], captions_of[a]) for a in range(num_clips)])
        precisions = [naive_average_precision(captions @ audio[a], captions_of[a]) for a in range(num_clips)]
        for prefix, values, precision in (
            ("text_to_audio", ranks, np.where(ranks <= 10, 1 / ranks, 0)),
            ("audio_to_text", back, precisions),
        ):
            figures = {f"R@{k}": np.mean(values <= k) for k in (1, 5, 10)}
            figures |= {"mAP@10": np.mean(precision), "mean_rank": np.mean(values)}
            figures["median_rank"] = np.floor(np.median(values - 1)) + 1
            table |= {f"{language}_{prefix}_{name}": value for name, value in figures.items()}
    for name in [key.removeprefix(f"{LANGUAGES[0]}_") for key in table if key.startswith(LANGUAGES[0])]:
        table[f"mean_{name}"] = np.mean([table[f"{language}_{name}"] for language in text])
    every_rank = np.array(list(ranks_of.values()))
    table["mrv"] = np.mean([np.mean((ranks - ranks.mean()) ** 2) for ranks in every_rank.T])
    table["mean_rank_std"] = np.mean([np.sqrt(np.mean((ranks - ranks.mean()) ** 2)) for ranks in every_rank.T])
    others = [captions for language, captions in text.items() if language != anchor]
    table["embedding_gap"] = np.mean([np.linalg.norm(text[anchor].mean(0) - other.mean(0)) for other in others])
    table["embedding_distance"] = np.mean(
        [np.mean([np.linalg.norm(a - b) for a, b in zip(text[anchor], other, strict=True)]) for other in others]
    )
    return table


def encode_one_by_one(model, processor, rows: list[dict]) -> tuple[np.ndarray, dict[str, np.ndarray], list[int]]:
    """Every clip and every caption through the model on its own."""
    model = model.double().eval()
    unit = torch.nn.functional.normalize
    with torch.no_grad():
        audio = []
        for row in rows:
            features = processor.feature_extractor.extract_clip(row["audio"]["array"])
            audio.append(unit(model(input_features=features[None].double()).audio_embeds)[0].numpy())
        text, owner = {language: [] for language in LANGUAGES}, []
        for clip, row in enumerate(rows):
            owner += [clip] * len(row["captions"][LANGUAGES[0]])
            for language in LANGUAGES:
                for caption in row["captions"][language]:
                    inputs = processor(text=caption, language=language)
                    text[language].append(unit(model(**inputs).text_embeds)[0].numpy())
    return np.array(audio), {language: np.array(embeds) for language, embeds in text.items()}, owner


@pytest.mark.parametrize("num_groups", [None, 4], ids=["", "groups"])
def test_evaluation_equals_a_naive_one(tmp_path, num_groups):
    rows = make_rows(13, num_captions=2, num_groups=num_groups)
    args = make_arguments(tmp_path, anchor_language="fra_Latn", per_device_eval_batch_size=4)
    metrics = make_trainer(args, rows, rows).evaluate()
    audio, text, owner = encode_one_by_one(tiny_model(), tiny_processor(), rows)
    groups = [row.get("group_id", row["audio_id"]) for row in rows]
    expected = naive_table(audio, text, groups, owner, anchor="fra_Latn")
    assert len(expected) == 4 * 12 + 4
    assert {key.removeprefix("eval_") for key in metrics} == {*expected, "runtime", "epoch"}
    for name, value in expected.items():
        exact = "embedding" not in name
        assert metrics[f"eval_{name}"] == pytest.approx(value, abs=1e-12 if exact else 1e-6), name


def test_retrieval_set_of_rows():
    rows = make_rows(3, num_captions=2)
    rows[0]["group_id"] = rows[2]["group_id"] = "dogs"
    found = RetrievalSet.from_rows(rows, ["jpn_Jpan", "eng_Latn"])
    assert list(found.audios) == [row["audio"] for row in rows]
    assert list(found.captions) == ["jpn_Jpan", "eng_Latn"]
    assert found.captions["jpn_Jpan"] == [caption for row in rows for caption in row["captions"]["jpn_Jpan"]]
    assert found.positives == [[0, 2], [0, 2], [1], [1], [0, 2], [0, 2]]


@pytest.mark.parametrize(("groups", "positives"), [([0, 0], [[0, 1], [0, 1]]), ([None, None], [[0], [1]])])
def test_groups_may_be_numbers_and_none_is_no_group(groups, positives):
    rows = [row | {"group_id": group} for row, group in zip(make_rows(2, num_captions=1), groups, strict=True)]
    assert RetrievalSet.from_rows(rows, LANGUAGES).positives == positives


def test_captions_in_other_forms():
    rows = [
        {"audio": b"1", "captions": {"en": "R&amp;B", "French": ("du R&B",)}},
        {"file_name": "2.wav", "caption": "a dog", "fr": "un chien"},
    ]
    found = RetrievalSet.from_rows(iter(rows), ["en", "fr"])
    assert found.captions == {"eng_Latn": ["R&B", "a dog"], "fra_Latn": ["du R&B", "un chien"]}
    assert (list(found.audios), found.positives, found.audio_ids) == ([b"1", "2.wav"], [[0], [1]], [0, 1])


def test_recordings_are_read_when_they_are_needed():
    class Rows(list):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    rows = Rows(make_rows(6))
    audios = RetrievalSet.from_rows(rows, LANGUAGES).audios
    assert (len(audios), rows.reads) == (6, 0)
    every_other = audios[1::2]
    assert (len(every_other), rows.reads) == (3, 0)
    assert every_other[1] is list(rows)[3]["audio"]
    assert [audio is row["audio"] for audio, row in zip(every_other, list(rows)[1::2], strict=True)] == [True] * 3


@pytest.mark.parametrize(
    "captions", [{"eng_Latn": ["a"]}, {"eng_Latn": ["a"], "fra_Latn": []}, {"eng_Latn": ["a"], "fra_Latn": ["b", "c"]}]
)
def test_rows_that_cannot_be_evaluated(captions):
    rows = [*make_rows(1), {"audio": b"", "audio_id": "odd one", "captions": captions}]
    with pytest.raises(ValueError, match="Row 'odd one' cannot be evaluated in all languages: it has .'eng_Latn': 1"):
        RetrievalSet.from_rows(rows, ["eng_Latn", "fra_Latn"])


def test_parts_of_the_work_are_the_whole():
    model, processor = tiny_model(), tiny_processor()
    retrieval_set = RetrievalSet.from_rows(make_rows(5), LANGUAGES)
    whole = embed_retrieval_set(model, processor, retrieval_set, read_features=read_features(processor))
    for world_size in (2, 7):
        for rank in range(world_size):
            part = embed_retrieval_set(
                model, processor, retrieval_set, 2, read_features(processor), part=(rank, world_size)
            )
            np.testing.assert_allclose(part.audio, whole.audio[rank::world_size], atol=1e-6)
            for language, text in whole.text.items():
                np.testing.assert_allclose(part.text[language], text[rank::world_size], atol=1e-6)
                assert part.text[language].shape[1] == 12


def test_languages_are_checked_before_anything_is_encoded():
    def read(audio):
        raise AssertionError(f"{audio} was read")

    retrieval_set = RetrievalSet.from_rows(make_rows(2, languages=["eng_Latn"]), ["eng_Latn"])
    retrieval_set.captions["swh_Latn"] = retrieval_set.captions["eng_Latn"]
    with pytest.raises(ValueError, match="The tokenizer has no code for 'swh_Latn'"):
        embed_retrieval_set(tiny_model(), tiny_processor(), retrieval_set, read_features=read)


@pytest.mark.parametrize("part", [(0, 1), (1, 2)])
def test_the_row_of_a_clip_that_cannot_be_read_is_named(part):
    rows = make_rows(4)
    rows[3]["audio"] = {"path": None, "bytes": b"no sound"}
    retrieval_set = RetrievalSet.from_rows(rows, LANGUAGES)
    with pytest.raises(ValueError, match="^Row 'clip 3': Cannot decode the clip: it is a text and not a sound"):
        embed_retrieval_set(tiny_model(), tiny_processor(), retrieval_set, part=part)


def test_captions_of_a_dataset_are_laid_out_without_its_recordings(monkeypatch):
    rows = [{**row, "audio": {"path": None, "bytes": b"1"}} for row in make_rows(3)]
    dataset = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    read, take = [], datasets.Dataset.__getitem__
    monkeypatch.setattr(
        datasets.Dataset, "__getitem__", lambda self, key: read.append(self.column_names) or take(self, key)
    )
    found = RetrievalSet.from_rows(dataset, LANGUAGES)
    assert read and all("audio" not in columns for columns in read)
    captions = {language: list(texts) for language, texts in found.captions.items()}
    assert captions == RetrievalSet.from_rows(rows, LANGUAGES).captions
    assert found.audio_ids == ["clip 0", "clip 1", "clip 2"]
    assert found.audios[1]["bytes"] == b"1"


def read_features(processor):
    return lambda audio: processor.feature_extractor.extract_clip(audio["array"])


def unit_rows(rng: np.random.Generator, count: int) -> np.ndarray:
    values = rng.normal(size=(count, 8))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_anchor_of_the_table():
    rng = np.random.default_rng(0)
    embeddings = RetrievalEmbeddings(unit_rows(rng, 4), {language: unit_rows(rng, 4) for language in LANGUAGES})
    positives = [[0], [1], [2], [3]]
    by_anchor = {anchor: retrieval_table(embeddings, positives, anchor) for anchor in LANGUAGES}
    assert len({table["embedding_distance"] for table in by_anchor.values()}) == 3
    assert retrieval_table(embeddings, positives) == by_anchor["eng_Latn"]
    assert retrieval_table(embeddings, positives, "ita_Latn") == by_anchor["eng_Latn"]


def test_one_language_has_nothing_to_be_consistent_with():
    rng = np.random.default_rng(0)
    table = retrieval_table(RetrievalEmbeddings(unit_rows(rng, 3), {"fra_Latn": unit_rows(rng, 3)}), [[0], [1], [2]])
    assert len(table) == 24
    assert not {"mrv", "embedding_gap"} & set(table)
    assert table["mean_text_to_audio_mean_rank"] == table["fra_Latn_text_to_audio_mean_rank"]
