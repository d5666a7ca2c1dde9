"""What a batch holds whatever its rows, objective, languages, order and place in the training are."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_atri.trainer import AtriDataCollator
from modeling_atri.trainer.data.draws import Draw, LanguageDraws
from tests.helpers.properties import property_settings
from tests.helpers.tiny import CAPTIONS, tiny_processor


pytestmark = pytest.mark.heavy


PROCESSOR = tiny_processor()
LANGUAGES = list(CAPTIONS)[:4]
NUM_ROWS, NUM_CAPTIONS = 5, 3
KEYS = ["input_features", "input_features_mask", "input_ids", "attention_mask", "item_ids", "group_ids", "languages"]


def make_rows() -> list[dict[str, Any]]:
    """Clips of several lengths; every caption is one of its own, of a length of its own, and says where it belongs."""
    rng = np.random.default_rng(0)
    return [
        {
            "audio": {"array": rng.normal(size=2400 + 700 * number).astype(np.float32), "sampling_rate": 16_000},
            "audio_id": f"clip {number}",
            "captions": {
                code: [
                    f"{CAPTIONS[code]} " * (1 + (number + index) % 2) + f"{number} {index}"
                    for index in range(NUM_CAPTIONS)
                ]
                for code in LANGUAGES
            },
            "group_id": f"group {number // 2}",
        }
        for number in range(NUM_ROWS)
    ]


ROWS = make_rows()
FEATURES = [PROCESSOR.feature_extractor.extract_clip(row["audio"]["array"]) for row in ROWS]


def tokens_of(text: str, language: str) -> tuple[int, ...]:
    return tuple(PROCESSOR(text=text, language=language)["input_ids"][0].tolist())


# Where the tokens of every caption come from, alone in a batch: row, index and language.
PLACES = {
    tokens_of(text, code): (number, index, code)
    for number, row in enumerate(ROWS)
    for code, texts in row["captions"].items()
    for index, text in enumerate(texts)
}
assert len(PLACES) == NUM_ROWS * NUM_CAPTIONS * len(LANGUAGES)

items = st.lists(st.integers(0, NUM_ROWS - 1), min_size=1, max_size=NUM_ROWS, unique=True)


@st.composite
def collators(draw: st.DrawFn, **fixed: Any) -> AtriDataCollator:
    """Of any objective, with languages and anchor that it allows."""
    objective = draw(st.sampled_from(["kcl", "akcl", "cacl", "mlclap"]))
    least = 2 if objective in ("akcl", "cacl") else 1
    languages = draw(st.lists(st.sampled_from(LANGUAGES), min_size=least, max_size=len(LANGUAGES), unique=True))
    options = {"anchor": draw(st.sampled_from(languages)), "seed": draw(st.integers(0, 9))}
    if objective in ("kcl", "akcl"):
        options["per_step"] = draw(st.integers(least, len(languages)) | st.none())
    return AtriDataCollator(PROCESSOR, LanguageDraws(objective, languages, **options | fixed))


def drawn(numbers: list[int], epoch: int = 0, step: int = 0) -> list[dict[str, Any]]:
    return [ROWS[number] | {"draw": Draw(epoch, step, number)} for number in numbers]


def places(batch: dict[str, Any]) -> list[list[tuple[int, int, str]]]:
    """Row, index and language of every caption, K rows of N, as its tokens say; fails where they are no caption's."""
    return [
        [PLACES[tuple(ids[mask.bool()].tolist())] for ids, mask in zip(*pair, strict=True)]
        for pair in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


@property_settings(60)
@given(collators(), items, st.integers(0, 5), st.integers(0, 5))
def test_a_batch_has_its_shapes_and_every_row_its_own(
    collator: AtriDataCollator, numbers: list[int], epoch: int, step: int
) -> None:
    batch = collator(drawn(numbers, epoch, step))
    assert list(batch) == KEYS
    per_step = collator.draws.per_step or len(collator.draws.languages)
    num_rows = {"cacl": 2, "mlclap": 1}.get(collator.draws.objective, per_step)
    for name in ("input_ids", "attention_mask"):
        assert batch[name].shape[:2] == (num_rows, len(numbers))
        assert batch[name].dtype == torch.int64
        assert batch[name].is_contiguous()
    assert [len(row) for row in batch["languages"]] == [len(numbers)] * num_rows
    assert batch["item_ids"].tolist() == numbers
    frames = [len(FEATURES[number]) for number in numbers]
    assert batch["input_features"].shape == (len(numbers), max(frames), 64)
    for place, number in enumerate(numbers):
        assert torch.equal(batch["input_features"][place, : frames[place]], FEATURES[number])
        assert not batch["input_features"][place, frames[place] :].any()
        assert batch["input_features_mask"][place].tolist() == [1] * frames[place] + [0] * (
            max(frames) - frames[place]
        )
    same_group = batch["group_ids"][:, None] == batch["group_ids"]
    groups = torch.tensor(numbers) // 2
    assert torch.equal(same_group, groups[:, None] == groups)


@property_settings(60)
@given(collators(), items, st.integers(0, 5), st.integers(0, 5))
def test_every_caption_is_its_rows_in_its_language_and_of_one_index(
    collator: AtriDataCollator, numbers: list[int], epoch: int, step: int
) -> None:
    batch = collator(drawn(numbers, epoch, step))
    found = places(batch)
    assert [[code for _, _, code in row] for row in found] == batch["languages"]
    for place, number in enumerate(numbers):
        column = [row[place] for row in found]
        assert {row for row, _, _ in column} == {number}
        assert len({index for _, index, _ in column}) == 1
        codes = [code for _, _, code in column]
        assert len(set(codes)) == len(codes)
        assert set(codes) <= set(collator.draws.languages)
        if collator.draws.objective == "cacl":
            assert codes[0] == collator.draws.anchor
        if collator.draws.objective == "akcl":
            assert collator.draws.anchor in codes
    # Padding follows a caption, is not attended to, and no column is padding alone.
    lengths = batch["attention_mask"].sum(dim=2, keepdim=True)
    width = batch["attention_mask"].shape[2]
    assert torch.equal(batch["attention_mask"], (torch.arange(width) < lengths).long())
    assert lengths.max() == width
    assert (batch["input_ids"][batch["attention_mask"] == 0] == PROCESSOR.tokenizer.pad_token_id).all()


@property_settings(60)
@given(collators(), items, st.integers(0, 5), st.integers(0, 5), st.data())
def test_what_is_drawn_for_a_row_does_not_depend_on_the_batch(
    collator: AtriDataCollator, numbers: list[int], epoch: int, step: int, data: st.DataObject
) -> None:
    together = places(collator(drawn(numbers, epoch, step)))
    for place, number in enumerate(numbers):
        (alone,) = zip(*places(collator(drawn([number], epoch, step))), strict=True)
        assert list(alone) == [row[place] for row in together]
    # Nor does it depend on where in the epoch the row stands: of a step are only the languages of kcl and akcl.
    other_step = data.draw(st.integers(0, 100))
    moved = places(collator(drawn(numbers[::-1], epoch, other_step)))
    assert [index for _, index, _ in moved[0][::-1]] == [index for _, index, _ in together[0]]
    if collator.draws.per_step is None:
        assert [row[::-1] for row in moved] == together


@property_settings(10)
@given(collators(caption_choice="first"), items, st.integers(0, 5))
def test_the_first_caption_is_taken_where_asked_for(
    collator: AtriDataCollator, numbers: list[int], epoch: int
) -> None:
    assert {index for row in places(collator(drawn(numbers, epoch))) for _, index, _ in row} == {0}


@property_settings(10)
@given(collators(), st.integers(0, 2**31))
def test_every_caption_and_language_has_its_turn(collator: AtriDataCollator, first_epoch: int) -> None:
    epochs = range(first_epoch, first_epoch + 40)
    seen = {place for epoch in epochs for row in places(collator(drawn([0], epoch, epoch))) for place in row}
    assert {index for _, index, _ in seen} == set(range(NUM_CAPTIONS))
    assert {code for _, _, code in seen} == set(collator.draws.languages)


texts = st.text(min_size=1, max_size=30).filter(str.strip)
tricky = st.sampled_from(
    ["</s>", "<unk> a dog", "fra_Latn", "eng_Latn un chien", "<pad>", "a\nb\tc", "▁", "ｄｏｇ", "\u200b a"]
)


@property_settings(25)
@given(st.lists(st.tuples(texts | tricky, texts | tricky), min_size=1, max_size=4))
def test_any_text_is_the_same_alone_and_in_a_batch(pairs: list[tuple[str, str]]) -> None:
    languages = ["eng_Latn", "fra_Latn"]
    rows = [
        ROWS[number] | {"captions": {code: [text] for code, text in zip(languages, pair, strict=True)}}
        for number, pair in enumerate(pairs)
    ]
    batch = AtriDataCollator(PROCESSOR, LanguageDraws("kcl", languages))(rows)
    specials = set(PROCESSOR.tokenizer.all_special_ids)
    for k, code in enumerate(languages):
        for number, pair in enumerate(pairs):
            ids = tuple(batch["input_ids"][k, number][batch["attention_mask"][k, number].bool()].tolist())
            assert ids == tokens_of(pair[k], code)
            assert ids[0] == PROCESSOR.language_id(code)
            assert ids[-1] == PROCESSOR.tokenizer.eos_token_id
            assert not specials & set(ids[1:-1]) - {PROCESSOR.tokenizer.unk_token_id}  # no text is a command


@property_settings(20)
@given(collators(), items, st.data())
def test_a_row_without_a_caption_it_needs_is_named(
    collator: AtriDataCollator, numbers: list[int], data: st.DataObject
) -> None:
    broken, language = data.draw(st.sampled_from(numbers)), data.draw(st.sampled_from(collator.draws.languages))
    rows = drawn(numbers)
    place = numbers.index(broken)
    rows[place] = rows[place] | {"captions": rows[place]["captions"] | {language: []}}
    column = [row[place] for row in collator(drawn(numbers))["languages"]]
    if language in column:
        with pytest.raises(ValueError, match=f"^Row 'clip {broken}' has no caption in {language}"):
            collator(rows)
    else:  # the objective did not draw it
        assert list(collator(rows)) == KEYS
