"""A run over what the last finished run left does no work, and any change is noticed."""

import json
import os

import pytest

from modeling_atri.corpora.rows.load import load_rows
from modeling_atri.corpora.translation import translate
from modeling_atri.corpora.translation.finished import FINISHED_NAME
from modeling_atri.corpora.translation.quality import RoundTripScorer
from modeling_atri.corpora.translation.translate import translate_captions
from tests.helpers.translation import Dictionary, write_data


ROWS = [{"eng_Latn": ["a dog barks", "rain falls"]}, {"eng_Latn": ["a dog barks", "a man speaks", "piano"]}]
MODEL = Dictionary({("piano", "fra_Latn"): "", ("rain falls", "deu_Latn"): "rain falls"})


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", ROWS)


@pytest.fixture
def run(data, tmp_path):
    def call(languages=("fra_Latn", "deu_Latn"), model=MODEL, **options):
        options = {"scorer": RoundTripScorer(model), "license": "mit"} | options
        return translate_captions(data, tmp_path / "out", model, languages, **options)

    return call


def visible(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def figures(summary) -> dict:
    return vars(summary) | {"seconds": None, "num_translated": None}


@pytest.fixture
def reads(monkeypatch):
    """The number of times that rows are read."""
    calls, load = [], translate.load_rows
    monkeypatch.setattr(translate, "load_rows", lambda *args, **options: calls.append(1) or load(*args, **options))
    return calls


def test_nothing_new_reads_no_row(run, reads, tmp_path):
    first = run()
    before = visible(tmp_path / "out")
    again = run()
    assert len(reads) == 1
    assert figures(again) == figures(first)
    assert type(again.flags["fra_Latn"]) is type(first.flags["fra_Latn"])
    assert (first.num_translated, again.num_translated) == (8, 0)
    assert again.num_dropped_captions == 1
    assert visible(tmp_path / "out") == before


def _touch(path) -> None:
    os.utime(path, ns=(1, os.stat(path).st_mtime_ns + 1000))


def _append(path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda data, out: _touch(data / "0.wav"),
        lambda data, out: _append(data / "metadata.jsonl", "\n"),
        lambda data, out: _append(out / "metadata.jsonl", "{}\n"),
        lambda data, out: (out / "README.md").unlink(),
        lambda data, out: (out / "flagged.jsonl").unlink(),
        lambda data, out: _append(out / "translations.jsonl", '{"language": "fra_L'),  # as after a kill
        lambda data, out: _append(out / FINISHED_NAME, "x"),
        lambda data, out: (out / FINISHED_NAME).write_text("[]"),
        lambda data, out: (out / FINISHED_NAME).unlink(),
    ],
)
def test_a_change_is_noticed_and_repaired(run, reads, data, tmp_path, change):
    run()
    before = visible(tmp_path / "out")
    change(data, tmp_path / "out")
    assert run().num_translated == 0
    assert len(reads) == 2
    assert visible(tmp_path / "out") == before
    run()
    assert len(reads) == 2, "the record is valid again"


@pytest.mark.parametrize(
    "options",
    [{"min_score": 0.9}, {"drop_flagged": True}, {"license": "cc-by-4.0"}, {"source_license": "mit"}],
    ids=str,
)
def test_another_option_makes_the_output_anew(run, reads, tmp_path, options):
    run()
    run(**options)
    found = visible(tmp_path / "out")
    (tmp_path / "out" / FINISHED_NAME).unlink()
    run(**options)
    assert len(reads) == 3
    assert visible(tmp_path / "out") == found


def test_other_languages_are_translated(run, reads, tmp_path):
    run(["fra_Latn"])
    assert run().num_translated == 4
    assert len(reads) == 2


def test_another_model_is_refused_as_before(run):
    run()
    with pytest.raises(ValueError, match="made in another way"):
        run(model=Dictionary(fingerprint="1"))


def test_a_recording_that_is_gone_is_an_error(run, data):
    run()
    (data / "1.wav").unlink()
    with pytest.raises(ValueError, match=r"1\.wav"):
        run()


def test_rows_that_change_during_the_run_are_read_again(run, reads, data, tmp_path, monkeypatch):
    write = translate.write_translated

    def change(*args) -> None:
        write(*args)
        rows = (data / "metadata.jsonl").read_text()
        (data / "metadata.jsonl").write_text(rows.replace("a man speaks", "a man sings"))

    with monkeypatch.context() as patch:
        patch.setattr(translate, "write_translated", change)
        run()
    assert run().num_translated == 2


def test_bad_rows_are_checked_each_time(run, reads, data):
    """A recording that is missing may come back."""
    content = (data / "1.wav").read_bytes()
    (data / "1.wav").unlink()
    for _ in range(2):
        left_out = []
        assert run(left_out=left_out).num_clips == 1
        assert len(left_out) == 1
    (data / "1.wav").write_bytes(content)
    assert run(left_out=[]).num_clips == 2
    assert len(reads) == 3


def test_lines_of_the_journal_share_how_they_were_made(run, tmp_path):
    run()
    entries = translate.TranslationJournal(tmp_path / "out").read()
    lines = [json.loads(line) for line in (tmp_path / "out" / "translations.jsonl").read_text().splitlines()]
    assert len({id(entry.made) for entry in entries.values()}) == 1
    for line in lines:
        entry = entries[line["language"], line["source_hash"]]
        assert entry.as_line() == {
            name: tuple(v) if name == "flags" else v for name, v in line.items() if name != "place"
        }


def test_recordings_that_are_fetched_keep_their_url(run, data, reads, tmp_path):
    url = "https://example.org/a.wav"
    (data / "metadata.jsonl").write_text(json.dumps({"audio": url, "captions": ROWS[0]}) + "\n")
    first = run()
    written = load_rows(tmp_path / "out")
    assert [row["audio"]["path"] for row in written] == [url]
    assert figures(run()) == figures(first)
    assert len(reads) == 1
