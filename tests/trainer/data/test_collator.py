import re

import pytest
import torch

from modeling_atri.corpora.rows.bad_rows import BadRowError
from modeling_atri.trainer import AtriDataCollator
from modeling_atri.trainer.data.augmentation import Augmentation, mix
from modeling_atri.trainer.data.draws import AUGMENTATION, Draw, LanguageDraws, random_stream
from modeling_atri.trainer.data.feature_cache import FeatureCache
from tests.helpers.tiny import tiny_processor
from tests.helpers.training import LANGUAGES, make_rows


PROCESSOR = tiny_processor()


def drawn(rows: list[dict], epoch: int = 0, step: int = 0) -> list[dict]:
    return [row | {"draw": Draw(epoch, step, index)} for index, row in enumerate(rows)]


def read_tokens(batch: dict) -> list[list[tuple[str, str]]]:
    """Language code and text of every caption, K rows of N, as the tokens say."""
    tokenizer = PROCESSOR.tokenizer
    return [
        [
            (
                tokenizer.convert_ids_to_tokens(ids[0].item()),
                tokenizer.decode(ids[mask.bool()], skip_special_tokens=True),
            )
            for ids, mask in zip(captions, masks, strict=True)
        ]
        for captions, masks in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def caption_numbers(batch: dict) -> list[list[tuple[int, int]]]:
    """Clip and index of every caption, which end its text."""
    return [[tuple(map(int, re.findall(r"\d+", text)[-2:])) for _, text in row] for row in read_tokens(batch)]


@pytest.mark.parametrize(("objective", "num_languages"), [("kcl", 3), ("akcl", 3), ("cacl", 2), ("mlclap", 1)])
def test_a_batch_is_what_the_design_says(objective, num_languages):
    rows = make_rows(5)
    batch = AtriDataCollator(PROCESSOR, LanguageDraws(objective, LANGUAGES))(drawn(rows))
    assert list(batch) == [
        "input_features",
        "input_features_mask",
        "input_ids",
        "attention_mask",
        "item_ids",
        "group_ids",
        "languages",
    ]
    frames = [1 + len(row["audio"]["array"]) // 160 for row in rows]
    assert batch["input_features"].shape == (5, max(frames), 64)
    assert batch["input_features"].dtype == torch.float32
    assert batch["input_features_mask"].sum(dim=1).tolist() == frames
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["input_ids"].shape[:2] == (num_languages, 5)
    assert batch["item_ids"].tolist() == list(range(5))
    assert batch["group_ids"].dtype == torch.int64
    assert [len(row) for row in batch["languages"]] == [5] * num_languages
    for index, row in enumerate(rows):
        alone = PROCESSOR.feature_extractor.extract_clip(row["audio"]["array"])
        assert torch.equal(batch["input_features"][index, : frames[index]], alone)


@pytest.mark.parametrize("objective", ["kcl", "akcl", "cacl", "mlclap"])
def test_captions_are_in_the_languages_that_the_batch_names(objective):
    rows = make_rows(6)
    collator = AtriDataCollator(PROCESSOR, LanguageDraws(objective, LANGUAGES, anchor="fra_Latn"))
    seen = set()
    for epoch in range(6):
        batch = collator(drawn(rows, epoch))
        captions, numbers = read_tokens(batch), caption_numbers(batch)
        assert [[code for code, _ in row] for row in captions] == batch["languages"]
        for index in range(6):
            # One index a clip, in all its languages; and the text is that of this clip, index and language.
            (number,) = {row[index] for row in numbers}
            assert number[0] == index
            seen.add(number)
            for row, codes in zip(captions, batch["languages"], strict=True):
                expected = rows[index]["captions"][codes[index]][number[1]]
                own = PROCESSOR(text=expected, language=codes[index])["input_ids"]
                assert row[index][1] == PROCESSOR.tokenizer.decode(own[0], skip_special_tokens=True)
    assert seen == {(clip, index) for clip in range(6) for index in range(2)}


def test_languages_of_the_objectives():
    rows = make_rows(30)
    kcl = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(drawn(rows))["languages"]
    assert kcl == [[language] * 30 for language in LANGUAGES]
    anchor, other = AtriDataCollator(PROCESSOR, LanguageDraws("cacl", LANGUAGES, anchor="fr"))(drawn(rows))[
        "languages"
    ]
    assert set(anchor) == {"fra_Latn"}
    assert set(other) == {"eng_Latn", "jpn_Jpan"}
    (mlclap,) = AtriDataCollator(PROCESSOR, LanguageDraws("mlclap", LANGUAGES))(drawn(rows))["languages"]
    assert set(mlclap) == set(LANGUAGES)
    drawn_languages = set()
    for step in range(12):
        collator = AtriDataCollator(PROCESSOR, LanguageDraws("akcl", LANGUAGES, anchor="ja", per_step=2))
        codes = [row[0] for row in collator(drawn(rows[:2], step=step))["languages"]]
        assert len(codes) == 2
        assert "jpn_Jpan" in codes
        drawn_languages.update(codes)
    assert drawn_languages == set(LANGUAGES)


def test_first_caption():
    collator = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES, caption_choice="first"))
    for epoch in range(3):
        assert caption_numbers(collator(drawn(make_rows(4), epoch))) == [[(clip, 0) for clip in range(4)]] * 3


def test_groups():
    def group_ids(**groups) -> list[int]:
        rows = [row | {"group_id": groups[name]} for row, name in zip(make_rows(4), groups, strict=False)]
        return AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(drawn(rows))["group_ids"].tolist()

    first, second, third, fourth = group_ids(a="x", b="y", c="x", d="z")
    assert first == third
    assert len({first, second, fourth}) == 3
    assert min(first, second, fourth) >= 0
    # Numbers are groups as well, also 0; None is none.
    first, second, third, fourth = group_ids(a=0, b=0, c=None, d=None)
    assert first == second
    assert len({first, third, fourth}) == 3
    alone = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(drawn(make_rows(4)))["group_ids"]
    assert len(set(alone.tolist())) == 4
    # The number of a name is the same in every process and run.
    assert group_ids(a="x", b="y", c="x", d="z")[0] == 2697552496229297191


def test_augmentation_depends_on_seed_epoch_and_item():
    rows = make_rows(3)

    def features(epoch: int, order: tuple[int, ...] = (0, 1, 2), seed: int = 0, step: int = 0) -> list[torch.Tensor]:
        collator = AtriDataCollator(
            PROCESSOR, LanguageDraws("kcl", LANGUAGES, seed=seed), Augmentation(gain_db=6, time_masks=1)
        )
        batch = collator([drawn(rows, epoch, step)[index] for index in order])
        lengths = batch["input_features_mask"].sum(dim=1)
        return [clip[:length] for clip, length in zip(batch["input_features"], lengths, strict=True)]

    plain = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(drawn(rows))["input_features"]
    assert not torch.equal(features(0)[0], plain[0, : len(features(0)[0])])
    assert torch.equal(features(0)[1], features(0, order=(2, 1), step=5)[1])
    assert not torch.equal(features(0)[1], features(1)[1])
    assert not torch.equal(features(0)[1], features(0, seed=1)[1])


def test_a_recording_is_mixed_in():
    rows = drawn(make_rows(3))
    plain = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(rows)
    rows[1]["mix_with"] = rows[2]["audio"]
    mixed = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(rows)
    lengths = plain["input_features_mask"].sum(dim=1).tolist()
    clips = [clip[:length] for clip, length in zip(plain["input_features"], lengths, strict=True)]
    gain = random_stream(0, AUGMENTATION, 0, 1).uniform(-9.0, 3.0)
    assert torch.equal(mixed["input_features"][1, : lengths[1]], mix(clips[1], clips[2], gain))
    for name, value in plain.items():  # all else is the same
        if name == "input_features":
            value, other = value[[0, 2]], mixed[name][[0, 2]]
            assert torch.equal(value, other)
        else:
            assert torch.equal(value, mixed[name]) if isinstance(value, torch.Tensor) else value == mixed[name]


def test_features_come_from_the_cache(tmp_path, monkeypatch):
    rows = make_rows(3)
    collator = AtriDataCollator(
        PROCESSOR, LanguageDraws("kcl", LANGUAGES), feature_cache=FeatureCache(PROCESSOR.feature_extractor, tmp_path)
    )
    plain = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(drawn(rows))["input_features"]
    assert torch.equal(collator(drawn(rows))["input_features"], plain)
    assert len(list(tmp_path.glob("*/*.arrow"))) == 1
    monkeypatch.setattr(FeatureCache, "_extract", None)
    assert torch.equal(collator(drawn(rows))["input_features"], plain)


def test_captions_and_languages_in_other_forms():
    rows = make_rows(3, num_captions=1)
    collator = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))
    expected = collator(rows)
    iso = dict(zip(LANGUAGES, ("en", "French", "ja"), strict=True))
    others = [
        {
            "audio": row["audio"],
            "captions": {iso[code]: text.replace("a", "&#97;") for code, (text,) in row["captions"].items()},
        }
        for row in rows
    ]
    found = collator(others)
    for name in ("input_ids", "attention_mask", "input_features", "item_ids"):
        assert torch.equal(found[name], expected[name]), name
    assert len(set(found["group_ids"].tolist())) == 3, "rows without an id are not positives of one another"
    with pytest.raises(BadRowError, match="Row 1 has no `audio`"):
        collator([others[0], {"captions": {"en": "x"}}])


def test_missing_captions():
    rows = make_rows(2)
    rows[1]["captions"] = {"eng_Latn": ["a dog", "a cat"], "fra_Latn": []}
    with pytest.raises(BadRowError, match="Row 'clip 1' has no caption in fra_Latn, jpn_Jpan: add it") as error:
        AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(drawn(rows))
    assert error.value.kind == "missing language"
    # An objective that does not draw the language does not need it.
    AtriDataCollator(PROCESSOR, LanguageDraws("kcl", ["en"]))(drawn(rows))


def test_a_clip_that_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "broken.wav"
    file.write_bytes(b"no sound")
    rows = [row | {"audio": {"path": str(file), "bytes": None}} for row in make_rows(1)]
    with pytest.raises(ValueError, match="^Row 'clip 0': .*broken.wav"):
        AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(drawn(rows))


def test_a_clip_to_mix_in_that_cannot_be_read_is_named():
    rows = make_rows(2)
    rows[1]["mix_with"] = {"path": None, "bytes": b"no sound"}
    with pytest.raises(ValueError, match="^The clip mixed into row 'clip 1': Cannot decode the given 8 bytes"):
        AtriDataCollator(PROCESSOR, LanguageDraws("kcl", LANGUAGES))(drawn(rows))


def test_without_draws_rows_count_from_zero():
    rows = make_rows(3)
    collator = AtriDataCollator(PROCESSOR, LanguageDraws("mlclap", LANGUAGES))
    assert collator(rows)["languages"] == collator(drawn(rows))["languages"]


def test_left_padding_tokenizers_keep_their_languages():
    processor = tiny_processor()
    processor.tokenizer.padding_side = "left"
    batch = AtriDataCollator(processor, LanguageDraws("kcl", LANGUAGES))(drawn(make_rows(4)))
    first = batch["attention_mask"].argmax(dim=2, keepdim=True)
    codes = batch["input_ids"].gather(2, first).squeeze(2)
    assert codes.tolist() == [[processor.language_id(language)] * 4 for language in LANGUAGES]
