"""Changes of the training rows."""

import copy
import random

import pytest


TRIPLES = ("dog|only|", "rain|only|", "dog|then|rain")


def made_up_rows() -> list[dict]:
    """Forty scenes with five captions in three languages, each of which names its scene's triple."""
    rows = []
    for number in range(40):
        triple = TRIPLES[number % 3]
        captions = {
            language: [f"{language} {triple} {number} {caption}" for caption in range(5)]
            for language in ("eng_Latn", "cat_Latn", "jpn_Jpan")
        }
        rows.append({"file_name": f"{number}.ogg", "captions": captions, "triple": triple})
    return rows


@pytest.mark.parametrize(
    ("name", "language", "share"), [("noise10-ca", "cat_Latn", 0.1), ("noise50-ja", "jpn_Jpan", 0.5)]
)
def test_wrong_captions(name, language, share):
    from evidence_study.training_rows import CHANGES

    rows = made_up_rows()
    before = copy.deepcopy(rows)
    found = CHANGES[name](rows, random.Random(3))
    assert rows == before
    num_wrong = 0
    for row, changed in zip(rows, found, strict=True):
        for code in row["captions"].keys() - {language}:
            assert changed["captions"][code] == row["captions"][code]
        for number, (right, caption) in enumerate(
            zip(row["captions"][language], changed["captions"][language], strict=True)
        ):
            if caption != right:
                num_wrong += 1
                assert caption.startswith(language) and caption.endswith(f" {number}")
                assert f" {row['triple']} " not in caption
    assert num_wrong == share * 200
    assert CHANGES[name](rows, random.Random(3)) == found
    assert CHANGES[name](rows, random.Random(4)) != found


def test_few_captions():
    from evidence_study.training_rows import CHANGES

    rows = made_up_rows()
    found = CHANGES["few-ca"](rows, random.Random(0))
    kept = [row["captions"] == changed["captions"] for row, changed in zip(rows, found, strict=True)]
    assert sum(kept) == 4  # a tenth
    for row, changed, is_kept in zip(rows, found, kept, strict=True):
        if not is_kept:
            assert changed["captions"] == row["captions"] | {"cat_Latn": row["captions"]["eng_Latn"]}
    assert CHANGES["few-ca"](rows, random.Random(0)) == found != CHANGES["few-ca"](rows, random.Random(1))


def test_changes_have_the_shares_that_their_names_say():
    from evidence_study.training_rows import CHANGES

    names = {f"noise{percent}-{short}" for percent in (10, 30, 50) for short in ("ca", "ja")} | {"few-ca", "few-ja"}
    assert names <= CHANGES.keys()
    assert CHANGES["noise30-ja"].keywords == {"language": "jpn_Jpan", "share": 0.3}
