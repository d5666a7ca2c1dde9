"""The warning about captions of which the tokenizer knows nothing."""

import io
import logging

import datasets
import pytest
import soundfile

from modeling_atri.corpora.rows.load import check_rows
from modeling_atri.trainer.data.unknown_captions import sample_captions, warn_of_unknown_captions
from modeling_atri.trainer.evaluation.retrieval import RetrievalSet, embed_retrieval_set
from tests.helpers.tiny import tiny_model, tiny_processor
from tests.helpers.training import LANGUAGES, make_arguments, make_rows, make_trainer


HINDI = "कुत्ता भौंकता है"
ORDINARY = ["a dog ☃", "a dog", "2 ☃", "!?", "un chien 🐕 aboie"]


def warnings(caplog) -> list[str]:
    found = [record.getMessage() for record in caplog.records if "tokenizer knows nothing" in record.getMessage()]
    caplog.clear()
    return found


def test_one_warning_for_each_language(caplog):
    captions = {"eng_Latn": ORDINARY, "fra_Latn": [HINDI, "un chien", f"{HINDI} {HINDI}.", HINDI], "jpn_Jpan": [HINDI]}
    warn_of_unknown_captions(tiny_processor(), captions)
    french, japanese = warnings(caplog)
    assert french.startswith(
        f"The tokenizer knows nothing of 2 of 3 different captions in fra_Latn, such as {HINDI!r}: "
    )
    assert "1 of 1 different caption in jpn_Jpan" in japanese


def test_captions_of_no_tokens(caplog):
    processor = tiny_processor()
    processor.normalize_text = True  # strips signs
    warn_of_unknown_captions(processor, {"eng_Latn": ["a dog", "?!"]})
    assert "1 of 2 different captions in eng_Latn, such as '?!'" in warnings(caplog)[0]


def test_a_sample_is_looked_at(caplog):
    rows = [{"audio": b"", "audio_id": str(n), "captions": {"eng_Latn": [f"a {n}"]}} for n in range(3_000)]
    sample = sample_captions(rows, ["eng_Latn"])["eng_Latn"]
    assert (len(sample), sample[0], sample[-1]) == (1_000, "a 0", "a 2999")
    warn_of_unknown_captions(tiny_processor(), {"eng_Latn": [HINDI * n for n in range(1, 40)] * 50})
    assert "39 of 39" in warnings(caplog)[0]


@pytest.mark.parametrize("kind", [list, datasets.Dataset.from_list])
def test_the_trainer_warns_once(tmp_path, caplog, kind):
    caplog.set_level(logging.WARNING)
    rows = [
        {"audio": {"path": None, "bytes": sound_of(row)}, "audio_id": row["audio_id"], "captions": row["captions"]}
        for row in make_rows(4)
    ]
    strange = [row | {"captions": row["captions"] | {"fra_Latn": [HINDI + "।" * n for n in (1, 2)]}} for row in rows]
    trainer = make_trainer(make_arguments(tmp_path), kind(rows), kind(strange))
    (text,) = warnings(caplog)
    assert "2 of 10 different captions in fra_Latn" in text
    trainer.evaluate()
    assert warnings(caplog) == []
    trainer.evaluate(kind(strange))
    assert len(warnings(caplog)) == 1


def test_an_evaluation_warns(caplog):
    retrieval_set = RetrievalSet.from_rows(check_rows(make_rows(2), LANGUAGES), LANGUAGES)
    embed_retrieval_set(tiny_model(), tiny_processor(), retrieval_set)
    assert warnings(caplog) == []
    retrieval_set.captions["jpn_Jpan"][0] = HINDI
    embed_retrieval_set(tiny_model(), tiny_processor(), retrieval_set)
    assert len(warnings(caplog)) == 1


def sound_of(row: dict) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, row["audio"]["array"], 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()
