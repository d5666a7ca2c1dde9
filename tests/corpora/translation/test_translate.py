"""Captions of a data set into other languages: what is written, and what stops, faults and changes do to it."""

import json

import pytest
import torch
from filelock import FileLock

from modeling_atri.corpora.folders.dropping import drop_overlaps
from modeling_atri.corpora.folders.overlap import find_overlaps
from modeling_atri.corpora.folders.prepared import PreparedClip, read_clips
from modeling_atri.corpora.rows.bad_rows import BadRow
from modeling_atri.corpora.translation.journal import TranslationJournal
from modeling_atri.corpora.translation.models import Translation
from modeling_atri.corpora.translation.quality import RoundTripScorer
from modeling_atri.corpora.translation.translate import translate_captions
from modeling_atri.trainer import load_rows
from tests.helpers.local_hub import card_problems
from tests.helpers.translation import Dictionary, english_captions, nllb, write_data


pytestmark = pytest.mark.heavy


# Two clips with five captions, of which two are the same.
ROWS = [
    {"eng_Latn": ["a dog barks", "rain falls on a roof", "piano"]},
    {"eng_Latn": ["a dog barks", "a man speaks"]},
]
TABLE = {
    ("a dog barks", "fra_Latn"): "un chien aboie",
    ("rain falls on a roof", "fra_Latn"): "la pluie tombe sur un toit",
    ("piano", "fra_Latn"): "piano",
    ("a man speaks", "fra_Latn"): "un homme parle",
    ("a dog barks", "jpn_Jpan"): "犬が吠える",
    ("rain falls on a roof", "jpn_Jpan"): "雨が屋根に降る",
    ("piano", "jpn_Jpan"): "ピアノ",
    ("a man speaks", "jpn_Jpan"): "男が話す",
}


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", ROWS)


def read_lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def test_the_data_set_is_read_with_the_recordings_where_they_are(data, tmp_path):
    model = Dictionary(TABLE)
    summary = translate_captions(data, tmp_path / "deep" / "out", model, ["fr", "Japanese"], license="mit")
    rows = load_rows(tmp_path / "deep" / "out")
    assert list(rows[0]["captions"]) == ["eng_Latn", "fra_Latn", "jpn_Jpan"]
    for row, before in zip(rows, load_rows(data), strict=True):
        assert (row["audio_id"], row["group_id"]) == (before["audio_id"], before["group_id"])
        english = before["captions"]["eng_Latn"]
        assert row["captions"]["eng_Latn"] == english
        for language in ("fra_Latn", "jpn_Jpan"):
            assert row["captions"][language] == [TABLE[text, language] for text in english]
    assert read_lines(tmp_path / "deep" / "out" / "metadata.jsonl")[0]["file_name"] == "../../data/0.wav"
    assert (summary.num_clips, summary.num_captions, summary.num_translated) == (2, 5, 8)
    assert (summary.num_dropped_clips, summary.num_dropped_captions) == (0, 0)
    assert summary.num_flagged == {"fra_Latn": 0, "jpn_Jpan": 0}
    assert (tmp_path / "deep" / "out" / "flagged.jsonl").read_bytes() == b""


def test_each_text_is_translated_once(data, tmp_path):
    model = Dictionary(TABLE)
    translate_captions(data, tmp_path / "out", model, ["fr", "ja"], batch_size=2)
    assert model.batches == [
        (language, batch)
        for language in ("fra_Latn", "jpn_Jpan")
        for batch in (["rain falls on a roof", "a dog barks"], ["a man speaks", "piano"])
    ]
    lines = read_lines(tmp_path / "out" / "translations.jsonl")
    assert len({(line["language"], line["source_hash"]) for line in lines}) == len(lines) == 8
    assert {tuple(line["place"]) for line in lines} == {(1, 2), (2, 2)}
    assert all(line["model"] == "dictionary" and line["source_language"] == "eng_Latn" for line in lines)
    assert all("transformers" in line["with"] for line in lines)


def test_a_link_to_the_output_does_not_break_the_paths(data, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    translate_captions(data, tmp_path / "link", Dictionary(TABLE), ["fr"])
    assert len(load_rows(tmp_path / "link")) == len(load_rows(tmp_path / "a" / "b")) == 2


def test_other_languages_of_the_data_are_kept(tmp_path):
    captions = {"deu_Latn": ["ein Hund bellt", "Regen"], "eng_Latn": ["a dog barks", "piano"]}
    data = write_data(tmp_path / "data", [captions])
    model = Dictionary({**TABLE, ("piano", "fra_Latn"): ""})
    translate_captions(data, tmp_path / "out", model, ["fr"])
    (row,) = read_lines(tmp_path / "out" / "metadata.jsonl")
    assert list(row["captions"].items()) == [
        ("eng_Latn", ["a dog barks"]),
        ("deu_Latn", ["ein Hund bellt"]),
        ("fra_Latn", ["un chien aboie"]),
    ]


def add_columns(data, *columns: dict) -> None:
    """Give the rows of a data set further columns."""
    rows = read_lines(data / "metadata.jsonl")
    lines = [json.dumps(row | more) + "\n" for row, more in zip(rows, columns, strict=True)]
    (data / "metadata.jsonl").write_text("".join(lines))


COLUMNS = [
    {"source_ids": ["youtube:a"], "seconds": 0.25, "group_id": "dogs"},
    {"source_ids": ["freesound:1"], "seconds": 0.5, "tags": {"who": "犬\ud800"}},
]


def test_other_columns_are_carried_over(data, tmp_path):
    add_columns(data, *COLUMNS)
    translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"])
    rows = read_lines(tmp_path / "out" / "metadata.jsonl")
    assert [list(row)[:4] for row in rows] == [["file_name", "audio_id", "group_id", "captions"]] * 2
    assert all(row.items() >= columns.items() for row, columns in zip(rows, COLUMNS, strict=True))
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("`: as in the source") == 3 and "- `source_ids`: as in the source\n" in card
    shared = [PreparedClip(tmp_path, {"file_name": "x.wav", "source_ids": ["freesound:1"]})]
    (overlap,) = find_overlaps(read_clips(tmp_path / "out"), shared, by_sound=False).overlaps
    assert overlap.train.audio_id == "1"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_other_columns_are_those_of_the_same_row(data, tmp_path, name):
    """Of a file, where lines are empty or wrong."""
    add_columns(data, *COLUMNS)
    lines = (data / "metadata.jsonl").read_text().splitlines()
    wrong = json.dumps({"file_name": "none.wav", "captions": ROWS[0], "seconds": 9})
    lines = [lines[0], "[]", "" if name.endswith("l") else "0", wrong, lines[1]]
    (data / name).write_text("\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]")
    left_out = [BadRow("line 1", None, "wrong line", "of another set"), BadRow("item 0", None, "wrong line", "")]
    translate_captions(data / name, tmp_path / "out", Dictionary(TABLE), ["fr"], left_out=left_out)
    assert [row["seconds"] for row in read_lines(tmp_path / "out" / "metadata.jsonl")] == [0.25, 0.5]


@pytest.mark.parametrize("dropped_from", ["data", "out"])
def test_clips_of_the_test_data_do_not_come_back(data, tmp_path, dropped_from):
    add_columns(data, {"source_ids": ["youtube:a"]}, {"source_ids": ["freesound:1"]})
    out = tmp_path / "out"
    translate_captions(data, out, Dictionary(TABLE), ["fr"])
    shared = [PreparedClip(tmp_path, {"file_name": "x.wav", "source_ids": ["freesound:1"]})]
    drop_overlaps(find_overlaps(read_clips(tmp_path / dropped_from), shared, by_sound=False).overlaps)
    before = files(out)
    summary = translate_captions(data, out, Dictionary(TABLE), ["fr"])
    assert (summary.num_clips, summary.num_overlaps) == (1, int(dropped_from == "out"))
    assert [row["source_ids"] for row in read_lines(out / "metadata.jsonl")] == [["youtube:a"]]
    assert files(out).keys() == before.keys(), "nothing of the source is copied"
    assert dropped_from == "data" or files(out)["overlap.jsonl"] == before["overlap.jsonl"]


def test_no_clip_left_of_those_in_the_test_data_is_an_error(data, tmp_path):
    out = tmp_path / "out"
    translate_captions(data, out, Dictionary(TABLE), ["fr"])
    (out / "overlap.jsonl").write_bytes((out / "metadata.jsonl").read_bytes())
    with pytest.raises(ValueError, match="overlap.jsonl lists every clip of the data"):
        translate_captions(data, out, Dictionary(TABLE), ["fr"])


# What is flagged and left out


FAULTY = {
    **TABLE,
    ("a dog barks", "jpn_Jpan"): "a dog barks",
    ("rain falls on a roof", "fra_Latn"): Translation("la pluie tombe", ("cut off",)),
    ("a man speaks", "fra_Latn"): Translation("", ("source too long",)),
    ("piano", "fra_Latn"): "...",
}


def test_flagged_captions_are_listed_and_stay_but_for_those_that_are_not_there(data, tmp_path):
    table = FAULTY | {("piano", "fra_Latn"): "piano"}
    summary = translate_captions(data, tmp_path / "out", Dictionary(table), ["fr", "ja"])
    rows = load_rows(tmp_path / "out")
    assert [row["captions"]["eng_Latn"] for row in rows] == [ROWS[0]["eng_Latn"], ["a dog barks"]]
    assert rows[1]["captions"] == {
        "eng_Latn": ["a dog barks"],
        "fra_Latn": ["un chien aboie"],
        "jpn_Jpan": ["a dog barks"],
    }
    listed = read_lines(tmp_path / "out" / "flagged.jsonl")
    copied = {"caption": 0, "language": "jpn_Jpan", "source": "a dog barks", "text": "a dog barks"}
    copied |= {"flags": ["copied source", "wrong script"], "score": None, "is_dropped": False}
    short = {"caption": 1, "language": "fra_Latn", "source": "rain falls on a roof", "text": "la pluie tombe"}
    long = {"caption": 1, "language": "fra_Latn", "source": "a man speaks", "text": ""}
    assert listed == [
        {"audio_id": "0"} | copied,
        {"audio_id": "0"} | short | {"flags": ["cut off"], "score": None, "is_dropped": False},
        {"audio_id": "1"} | copied,
        {"audio_id": "1"} | long | {"flags": ["source too long", "empty"], "score": None, "is_dropped": True},
    ]
    assert summary.flags["jpn_Jpan"] == {"copied source": 2, "wrong script": 2}
    assert summary.num_flagged == {"fra_Latn": 2, "jpn_Jpan": 2}
    assert (summary.num_captions, summary.num_dropped_captions, summary.num_dropped_clips) == (4, 1, 0)


def test_dropped_in_one_language_dropped_in_all(data, tmp_path):
    model = Dictionary(FAULTY | {("piano", "fra_Latn"): "piano"})
    summary = translate_captions(data, tmp_path / "out", model, ["fr", "ja"], drop_flagged=True)
    (row,) = load_rows(tmp_path / "out")
    assert row["captions"] == {"eng_Latn": ["piano"], "fra_Latn": ["piano"], "jpn_Jpan": ["ピアノ"]}
    assert (summary.num_clips, summary.num_dropped_clips, summary.num_dropped_captions) == (1, 1, 4)
    assert all(line["is_dropped"] for line in read_lines(tmp_path / "out" / "flagged.jsonl"))
    # They are in the journal all the same: nothing is translated again to have them back.
    again = Dictionary(FAULTY)
    assert translate_captions(data, tmp_path / "out", again, ["fr", "ja"]).num_captions == 4
    assert again.batches == []


def test_nothing_left_is_an_error(data, tmp_path):
    with pytest.raises(ValueError, match="None of the 5 captions is left"):
        translate_captions(data, tmp_path / "out", Dictionary(FAULTY), ["fr", "ja"], drop_flagged=True)
    assert not (tmp_path / "out" / "metadata.jsonl").exists()


class Marks:
    """Scores by the translation; a scorer."""

    settings = {"method": "round_trip"}
    min_score = 0.5

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, sources, texts, source_language, language):
        assert all(texts)
        return [self.scores.get(text, 0.75) for text in texts]


def test_low_scores_are_flagged_by_a_limit_that_may_change(data, tmp_path):
    model = Dictionary({**TABLE, ("a man speaks", "fra_Latn"): ""})
    scorer = Marks({"piano": 0.123456, "un chien aboie": 0.5})
    summary = translate_captions(data, tmp_path / "out", model, ["fr"], scorer=scorer)
    assert summary.flags == {"fra_Latn": {"low score": 1, "empty": 1}}
    listed = read_lines(tmp_path / "out" / "flagged.jsonl")
    assert [(line["text"], line["flags"], line["score"]) for line in listed] == [
        ("piano", ["low score"], 0.1235),
        ("", ["empty"], None),
    ]
    again = Dictionary(TABLE)
    summary = translate_captions(data, tmp_path / "out", again, ["fr"], scorer=scorer, min_score=0.6)
    assert (again.batches, summary.flags) == ([], {"fra_Latn": {"low score": 3, "empty": 1}})
    assert "below 0.6 is a low score" in (tmp_path / "out" / "README.md").read_text()


def test_the_card(data, tmp_path):
    model = Dictionary(FAULTY, model="facebook/nllb-200-distilled-600M", revision="abc", decoding={"num_beams": 4})
    translate_captions(
        data,
        tmp_path / "out",
        model,
        ["fr", "ja"],
        license="cc-by-nc-4.0",
        source_license="cc-by-4.0",
    )
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card_problems(card) == []
    for part in (
        "license:\n- cc-by-4.0\n- cc-by-nc-4.0\n",
        "# data, translated",
        "- English (`eng_Latn`), the original",
        "](https://huggingface.co/facebook/nllb-200-distilled-600M), license `cc-by-nc-4.0`",
        "model: revision `abc`, weights `0`; decoding: num_beams 4",
        "of 10 translations 5 are flagged: copied source 2, cut off 1, empty 2, source too long 1, wrong script 2",
        "failed or was flagged: 2 captions, and 0 clips",
        "`cc-by-4.0` and `cc-by-nc-4.0`.",
    ):
        assert part in card, part
    (tmp_path / "out" / "README.md").write_text("mine")
    translate_captions(data, tmp_path / "out", model, ["fr", "ja"], license="cc-by-nc-4.0")
    assert (tmp_path / "out" / "README.md").read_text() == "mine"


# Stops


# `share` is of the batch's bytes that were written.
@pytest.mark.parametrize(("stop_at", "share"), [(0, 0.0), (0, 0.4), (1, 1.0), (5, 0.4), (9, 1.0)])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch, stop_at, share):
    data = write_data(tmp_path / "data", english_captions(12))
    options = {"languages": ["fr", "ja"], "batch_size": 4, "license": "cc-by-nc-4.0"}

    def run(folder):
        model = nllb()
        return translate_captions(data, tmp_path / folder, model, scorer=RoundTripScorer(model), **options)

    class Stopped(BaseException):
        pass

    count = 0

    def append_or_stop(journal, batch):
        nonlocal count
        before = journal.path.stat().st_size if journal.path.exists() else 0
        append(journal, batch)
        if count == stop_at:
            content = journal.path.read_bytes()
            journal.path.write_bytes(content[: before + round(share * (len(content) - before))])
            raise Stopped
        count += 1

    append = TranslationJournal.append
    with monkeypatch.context() as patch:
        patch.setattr(TranslationJournal, "append", append_or_stop)
        with pytest.raises(Stopped):
            run("stopped")
    resumed = run("stopped")
    whole = run("whole")
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    sizes = [4, 4, 4, 4, 4, 2] * 2  # of the batches: 22 texts in two languages
    assert whole.num_translated == sum(sizes)
    assert resumed.num_translated == sum(sizes[stop_at + (share == 1.0) :])
    assert run("whole").num_translated == 0
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_two_at_once_are_refused(data, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        with pytest.raises(ValueError, match="Another process is translating into"):
            translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"])
    translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"])


def test_too_little_memory_is_said_and_smaller_batches_go_on(data, tmp_path):
    class Small(Dictionary):
        def translate(self, texts, source, target):
            if len(texts) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().translate(texts, source, target)

    with pytest.raises(
        ValueError, match="too little memory for a batch of 3 captions. Finished translations are kept"
    ):
        translate_captions(data, tmp_path / "out", Small(TABLE), ["fr"], batch_tokens=9)  # 5, then 3 + 2 + 1
    model = Small(TABLE)
    translate_captions(data, tmp_path / "out", model, ["fr"], batch_size=1)
    assert len(model.batches) == 3, "the first was kept"


# Changes


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"model": "other"}, "model was 'dictionary', is 'other'"),
        ({"revision": "abc"}, "revision was None, is 'abc'"),
        ({"fingerprint": "1"}, "fingerprint was '0', is '1'"),
        ({"decoding": {"num_beams": 2}}, "decoding was {}, is {'num_beams': 2}"),
    ],
)
def test_another_model_is_refused_or_translates_all_again(data, tmp_path, settings, message):
    out = tmp_path / "out"
    translate_captions(data, out, Dictionary(TABLE), ["fr"])
    before = files(out)
    other = Dictionary({("piano", "fra_Latn"): "un piano"}, **settings)
    with pytest.raises(ValueError, match="translations.jsonl holds 4 of these translations, made in another way") as e:
        translate_captions(data, out, other, ["fr"])
    assert message in str(e.value)
    assert files(out) == before
    assert translate_captions(data, out, other, ["fr"], retranslate=True).num_translated == 4
    assert load_rows(out)[0]["captions"]["fra_Latn"][2] == "un piano"
    assert files(out)["translations.jsonl"].startswith(before["translations.jsonl"]), "it is only added to"
    assert translate_captions(data, out, other, ["fr"]).num_translated == 0
    with pytest.raises(ValueError, match="made in another way"):
        translate_captions(data, out, Dictionary(TABLE), ["fr"])


def test_another_score_or_source_language_is_refused(data, tmp_path):
    translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"])
    with pytest.raises(ValueError, match="quality was None, is {'method': 'round_trip'}"):
        translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"], scorer=Marks({}))
    captions = [{"deu_Latn": row["eng_Latn"]} for row in ROWS]
    other = write_data(tmp_path / "other", captions)
    with pytest.raises(ValueError, match="source_language was 'eng_Latn', is 'deu_Latn'"):
        translate_captions(other, tmp_path / "out", Dictionary(TABLE), ["fr"], "de")


def test_new_captions_and_languages_are_translated_and_no_others(data, tmp_path):
    translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"])
    lines = (data / "metadata.jsonl").read_text().replace("a man speaks", "a woman speaks")
    (data / "metadata.jsonl").write_text(lines)
    model = Dictionary(TABLE)
    translate_captions(data, tmp_path / "out", model, ["fr"])
    assert model.batches == [("fra_Latn", ["a woman speaks"])]
    assert load_rows(tmp_path / "out")[1]["captions"]["fra_Latn"] == ["un chien aboie", "skaeps namow a"]
    model = Dictionary(TABLE)
    translate_captions(data, tmp_path / "out", model, ["ja", "fr"], batch_size=8)
    assert [language for language, _ in model.batches] == ["jpn_Jpan"]
    assert list(load_rows(tmp_path / "out")[0]["captions"]) == ["eng_Latn", "jpn_Jpan", "fra_Latn"]


@pytest.mark.parametrize("languages", [["fra_Latn", "jpn_Jpan"], ["jpn_Jpan", "fra_Latn"]])
def test_languages_that_are_there_stay_when_others_are_added(data, tmp_path, languages):
    out = tmp_path / "out"
    for added in languages:
        model = Dictionary(TABLE)
        summary = translate_captions(data, out, model, [added], drop_flagged=True)
        assert [language for language, _ in model.batches] == [added]
    assert list(summary.num_flagged) == languages
    translate_captions(data, tmp_path / "at_once", Dictionary(TABLE), languages, drop_flagged=True)
    assert files(out) == files(tmp_path / "at_once")
    translate_captions(data, out, Dictionary(TABLE), languages[:1], drop_flagged=True)
    assert files(out) == files(tmp_path / "at_once"), "in the same order"


def test_languages_stay_that_the_journal_has_whole_and_no_others(data, tmp_path):
    """A run that was stopped in the second of two languages, and never wrote a data set."""
    translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr", "ja"], batch_size=3)
    (tmp_path / "out" / "metadata.jsonl").unlink()
    journal = tmp_path / "out" / "translations.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:7]))
    translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["de"])
    assert list(load_rows(tmp_path / "out")[0]["captions"]) == ["eng_Latn", "fra_Latn", "deu_Latn"]


@pytest.mark.parametrize("changed", ["captions", "model"])
def test_languages_that_would_be_lost_are_refused(data, tmp_path, changed):
    out, model, options = tmp_path / "out", Dictionary(TABLE), {}
    translate_captions(data, out, model, ["fr", "ja"])
    if changed == "model":
        model, options = Dictionary(TABLE, fingerprint="1"), {"retranslate": True}
    else:
        lines = (data / "metadata.jsonl").read_text().replace("a man speaks", "a woman speaks")
        (data / "metadata.jsonl").write_text(lines)
    before, model.batches = files(out), []
    with pytest.raises(ValueError, match="They would be lost: name them too") as error:
        translate_captions(data, out, model, ["de"], **options)
    lacking = 1 if changed == "captions" else 4
    assert f"fra_Latn (French; {lacking} captions), jpn_Jpan (Japanese; {lacking} captions)" in str(error.value)
    assert "(fra_Latn jpn_Jpan deu_Latn)" in str(error.value)
    assert files(out) == before and model.batches == []
    translate_captions(data, out, model, ["fr", "ja", "de"], **options)
    assert list(load_rows(out)[0]["captions"]) == ["eng_Latn", "fra_Latn", "jpn_Jpan", "deu_Latn"]


def test_a_language_that_the_source_has_got_since_is_the_sources(data, tmp_path):
    translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"])
    for number, row in enumerate(rows := read_lines(data / "metadata.jsonl")):
        row["captions"]["fra_Latn"] = [f"{number} {text}" for text in row["captions"]["eng_Latn"]]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["ja"])
    assert load_rows(tmp_path / "out")[1]["captions"]["fra_Latn"] == ["1 a dog barks", "1 a man speaks"]


# Mistakes


@pytest.mark.parametrize(
    "options, message",
    [
        ({"languages": ["fr", "fra"]}, "at least one language and none twice"),
        ({"languages": []}, "at least one language and none twice"),
        ({"languages": ["klingon"]}, "Unknown language 'klingon'"),
        ({"languages": ["en"]}, "has captions in eng_Latn (English) already"),
        ({"source": "de"}, "has no captions in deu_Latn; it has eng_Latn"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"batch_tokens": 0}, "`batch_tokens` must be at least 1, got 0"),
        ({"min_score": 0.5}, "no scorer was given"),
        ({"data": "nowhere"}, "There is no folder or file"),
        ({"output": "data"}, "cannot be written to the same folder"),
        ({"output": "file"}, "is a file"),
        ({"output": "others"}, "holds another data set"),
    ],
)
def test_mistakes(data, tmp_path, options, message):
    (tmp_path / "file").touch()
    write_data(tmp_path / "others", ROWS)
    arguments = {"data": "data", "output": "out", "model": Dictionary(TABLE), "languages": ["fr"]} | options
    arguments |= {name: tmp_path / arguments[name] for name in ("data", "output")}
    with pytest.raises(ValueError) as error:
        translate_captions(**arguments)
    assert message in str(error.value)
    assert arguments["model"].batches == []


def test_a_language_that_the_model_lacks_is_an_error_before_anything_is_made(data, tmp_path):
    with pytest.raises(ValueError, match="has no token for ita_Latn"):
        translate_captions(data, tmp_path / "out", nllb(), ["fr", "it"])
    assert not (tmp_path / "out").exists()


def test_bad_rows_are_left_out_if_asked(data, tmp_path):
    (data / "1.wav").write_bytes(b"broken")
    with pytest.raises(ValueError, match="line 2"):
        translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"])
    left_out: list[BadRow] = []
    summary = translate_captions(data, tmp_path / "out", Dictionary(TABLE), ["fr"], left_out=left_out)
    assert (summary.num_clips, [row.place for row in left_out]) == (1, ["line 2"])
