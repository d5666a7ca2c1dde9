"""Evaluation of moments: vectors whose moments are known, recordings by name, folder and index alike."""

import json

import numpy as np
import pytest

from modeling_atri.corpora.soundscapes.long_recordings import soundscape_source, write_long_recordings
from modeling_atri.search.moments import (
    MomentQuery,
    RecordingWindows,
    evaluate_moments,
    folder_recordings,
    index_recordings,
    read_moment_queries,
)
from modeling_atri.search.moments.recordings import named_recordings
from tests.helpers.tiny import tiny_model, tiny_processor


SPANS = [(2.0 * number, 2.0 * number + 4.0) for number in range(10)]


def query(vid: str, language: str, *windows: tuple[float, float]) -> MomentQuery:
    return MomentQuery("text", language, vid, windows, "q", "line 1")


def recording(vid: str, *heard: int) -> RecordingWindows:
    """Windows of which some have the first direction, the others the second."""
    vectors = np.zeros((len(SPANS), 3), dtype=np.float32)
    vectors[np.arange(len(SPANS)), [0 if number in heard else 1 for number in range(len(SPANS))]] = 1
    return RecordingWindows(vid, SPANS, vectors)


def test_figures_of_each_language_and_their_mean():
    text = np.array([[1, 0, 0]] * 4, dtype=np.float32)
    queries = [
        query("a", "eng_Latn", (8, 12)),  # what only windows 3 to 5 cover
        query("b", "eng_Latn", (0, 4)),  # elsewhere
        query("b", "fra_Latn", (14, 18)),  # what only windows 6 to 8 cover
        query("b", "fra_Latn", (12, 18)),  # in part: an IoU of 2/3
    ]
    figures = evaluate_moments(queries, text, iter([recording("b", 6, 7, 8), recording("a", 3, 4, 5)]))
    assert figures["eng_Latn_R1@0.5"] == 0.5 and figures["fra_Latn_R1@0.5"] == 1.0
    assert figures["fra_Latn_R1@0.7"] == 0.5
    assert figures["mean_R1@0.5"] == 0.75 and figures["mean_R1@0.7"] == 0.5
    assert figures["mean_mAP"] == pytest.approx((figures["eng_Latn_mAP"] + figures["fra_Latn_mAP"]) / 2)


def test_queries_of_recordings_that_are_not_given_are_left_out():
    text = np.array([[1, 0, 0]] * 2, dtype=np.float32)
    queries = [query("a", "eng_Latn", (8, 12)), query("gone", "fra_Latn", (0, 4))]
    figures = evaluate_moments(queries, text, [recording("a", 3, 4, 5)])
    assert figures["eng_Latn_R1@0.7"] == figures["mean_R1@0.7"] == 1 and "fra_Latn_R1@0.7" not in figures


@pytest.mark.parametrize(
    "recordings, message", [([], "no recording to evaluate on"), ([recording("z")], "in the recording 'z'")]
)
def test_recordings_and_queries_that_do_not_fit(recordings, message):
    with pytest.raises(ValueError, match=message):
        evaluate_moments([query("a", "eng_Latn", (8, 12))], np.ones((1, 3), dtype=np.float32), recordings)


PATHS = ["garden/dog.wav", "garden/birds.at.dawn.flac", "street/dog.wav", "street/été.ogg", "street/-0w.mp3"]


@pytest.mark.parametrize(
    "vid, path",
    [
        ("garden/dog.wav", "garden/dog.wav"),
        ("street/dog", "street/dog.wav"),
        ("birds.at.dawn", "garden/birds.at.dawn.flac"),
        ("birds.at.dawn.flac", "garden/birds.at.dawn.flac"),
        ("e\u0301te\u0301", "street/été.ogg"),  # in the Unicode form NFD
        ("-0w", "street/-0w.mp3"),
    ],
)
def test_recordings_are_found_by_name(vid, path):
    assert named_recordings([vid, vid], PATHS, "there") == {vid: path}


@pytest.mark.parametrize(
    "vids, message",
    [
        (["dog"], r"'dog' may be any of these in there: 'garden/dog.wav', 'street/dog.wav'. Give its path"),
        (["-0w", "cat", "cow"], "2 of 3 recordings are not in there: 'cat', 'cow'. A recording is found by its file"),
        (["birds.at"], "1 of 1 recordings"),
    ],
)
def test_names_that_fit_no_recording_or_several(vids, message):
    with pytest.raises(ValueError, match=message):
        named_recordings(vids, PATHS, "there")


def test_missing_recordings_can_be_left_out():
    failures: dict[str, str] = {}
    assert named_recordings(["cat", "-0w"], PATHS, "there", failures) == {"-0w": "street/-0w.mp3"}
    assert failures == {"cat": "it is not in there"}


@pytest.fixture(scope="module")
def long_recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    return write_long_recordings(folder, soundscape_source(), 2, min_duration_s=20, max_duration_s=30)


@pytest.mark.heavy
def test_a_folder_and_its_index_have_the_same_windows(long_recordings, tmp_path):
    pytest.importorskip("lancedb")
    from modeling_atri.search import SoundIndex

    model, processor = tiny_model(), tiny_processor()
    vids = [query.vid for query in read_moment_queries(long_recordings)]
    index = SoundIndex.open(tmp_path / "index", model, processor, window_s=4.0, hop_s=2.0)
    index.add(long_recordings.parent)
    of_index = index_recordings(index, vids)
    of_folder = folder_recordings(model, processor, long_recordings.parent, vids, window_s=4.0)
    assert (of_index.window_s, of_index.hop_s) == (of_folder.window_s, of_folder.hop_s) == (4.0, 2.0)
    both = list(zip(of_index.recordings, of_folder.recordings, strict=True))
    assert len(both) == 2
    for first, second in both:
        assert first.vid == second.vid and np.allclose(first.spans, second.spans)
        assert np.abs(first.vectors - second.vectors).max() < 1e-5


@pytest.mark.heavy
def test_unreadable_recordings_are_an_error_or_left_out(long_recordings, tmp_path):
    for name in ("recording_s0_0000.flac", "recording_s0_0001.flac"):
        (tmp_path / name).write_bytes((long_recordings.parent / name).read_bytes())
    (tmp_path / "recording_s0_0001.flac").write_bytes(b"no sound")
    model, processor = tiny_model(), tiny_processor()
    vids = [query.vid for query in read_moment_queries(long_recordings)]
    with pytest.raises(ValueError, match=r"recording_s0_0001\.flac"):
        list(folder_recordings(model, processor, tmp_path, vids, window_s=4.0).recordings)
    source = folder_recordings(model, processor, tmp_path, [*vids, "gone"], window_s=4.0, skip=True)
    assert [found.vid for found in source.recordings] == ["recording_s0_0000"]
    assert source.failures.keys() == {"recording_s0_0001", "gone"}


@pytest.mark.heavy
def test_the_command_prints_and_writes_what_was_measured(long_recordings, tmp_path, capsys):
    from modeling_atri.cli.main import main
    from modeling_atri.hub_cards import make_model_card

    model_folder, output = tmp_path / "model", tmp_path / "results.json"
    tiny_model().save_pretrained(model_folder)
    tiny_processor().save_pretrained(model_folder)
    output.write_text(json.dumps({"metrics": {"mrv": 1.0}}), encoding="utf-8")
    words = ["evaluate", "--model", str(model_folder), "--data", str(long_recordings.parent)]
    main(
        [
            *words,
            "--moments",
            str(long_recordings),
            "--window_s",
            "4",
            "--languages",
            "ja",
            "en",
            "--output",
            str(output),
        ]
    )
    results = json.loads(output.read_text(encoding="utf-8"))
    moments = results["moments"]
    assert results["metrics"] == {"mrv": 1.0}  # of an earlier evaluation
    assert moments["languages"] == ["eng_Latn", "jpn_Jpan"] and moments["num_recordings"] == 2
    assert (moments["window_s"], moments["hop_s"], moments["queries"]) == (4.0, 2.0, "moments.jsonl")
    queries = [query for query in read_moment_queries(long_recordings) if query.language in moments["languages"]]
    assert moments["num_queries"] == len(queries)
    from modeling_atri import encode_text

    model, processor = tiny_model(), tiny_processor()
    vectors = encode_text(model, processor, [(query.text, query.language) for query in queries])
    source = folder_recordings(
        model, processor, long_recordings.parent, [query.vid for query in queries], window_s=4.0
    )
    expected = evaluate_moments(queries, vectors, source.recordings)
    assert moments["metrics"] == pytest.approx(expected)
    printed = capsys.readouterr().out
    row = "  ".join(f"{100 * expected[f'mean_{name}']:.1f}" for name in ("R1@0.5", "R1@0.7"))
    assert "Moments in 2 recordings" in printed and row.split()[0] in printed
    card = str(make_model_card({"moments": moments}, "model"))
    assert "## Moments" in card and f"| mean | {100 * expected['mean_R1@0.5']:.1f} |" in card
    assert main([*words, "--moments", str(long_recordings), "--output", str(output)]) == 0  # the same model again
    output.write_text(json.dumps({"metrics": {}, "model": {"name": "another"}}), encoding="utf-8")
    assert main([*words, "--moments", str(long_recordings), "--output", str(output)]) == 2
    assert "holds results of another model, 'another'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--moments", "q.jsonl", "--split", "dev"], "--split cannot be used with --moments"),
        (["--window_s", "4"], "are options of --moments, which is missing"),
        (["--moments", "q.jsonl"], "There is no file 'q.jsonl'"),
    ],
)
def test_options_that_do_not_go_together(words, message):
    from modeling_atri.cli.commands.evaluate import main

    with pytest.raises(ValueError, match=message):
        main(["--model", "m", "--data", "d", *words])
