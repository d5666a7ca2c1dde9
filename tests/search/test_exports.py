"""Hits as JSON, as playlists, and as cut sounds."""

import datetime
import json

import numpy as np
import pytest
import soundfile

from modeling_atri.search.exports import clock_time, cut_sounds, hits_as_json, write_playlist
from modeling_atri.search.hits import Hit


RATE = 22050


def hit(path: str, start_s: float, end_s: float, duration_s: float, folder: str = "/sounds", **metadata) -> Hit:
    return Hit(path, start_s, end_s, 0.5, metadata, duration_s, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four seconds of stereo, of mono, and a name that is not plain."""
    folder = tmp_path_factory.mktemp("sounds")
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4 * RATE, 2))
    soundfile.write(folder / "stereo.wav", samples, RATE, subtype="PCM_24")
    soundfile.write(folder / "mono.flac", samples[:, 0], RATE)
    soundfile.write(folder / "犬 #1.wav", samples[:, 0], RATE)
    return folder


def test_json_has_the_facts_and_every_hit():
    found = hit("a/犬.wav", 0.0, 2.0, 4.0, licence="cc0", day=datetime.date(2026, 11, 28), tags=None)
    text = hits_as_json([found], query="犬")
    assert "犬" in text
    assert json.loads(text) == {
        "query": "犬",
        "hits": [
            {
                "rank": 1,
                "path": "a/犬.wav",
                "file": "/sounds/a/犬.wav",
                "start_s": 0.0,
                "end_s": 2.0,
                "duration_s": 4.0,
                "score": 0.5,
                "metadata": {"licence": "cc0", "day": "2026-11-28", "tags": None},
            }
        ],
    }


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (59.99, "0:59"), (65.2, "1:05"), (3600, "1:00:00"), (7384, "2:03:04")]
)
def test_times_are_written_as_players_do(seconds, text):
    assert clock_time(seconds) == text


def test_a_playlist_starts_at_the_moment(tmp_path):
    path = tmp_path / "lists" / "found.m3u"
    write_playlist([hit("a.wav", 12.5, 22.5, 60.0), hit("é/犬.wav", 0.0, 60.0, 60.0)], path)
    assert path.read_text(encoding="utf-8").splitlines() == [
        "#EXTM3U",
        "#EXTENC:UTF-8",
        "#EXTINF:10,a.wav 0:12-0:22 (0.50)",
        "#EXTVLCOPT:start-time=12.500",
        "#EXTVLCOPT:stop-time=22.500",
        "/sounds/a.wav",
        "#EXTINF:60,é/犬.wav 0:00-1:00 (0.50)",
        "/sounds/é/犬.wav",
    ]


def test_a_relative_playlist_names_sounds_from_its_folder(tmp_path):
    sounds = tmp_path / "sounds"
    write_playlist([hit("a/b.wav", 0.0, 1.0, 1.0, str(sounds))], tmp_path / "lists" / "x.m3u", relative=True)
    assert (tmp_path / "lists" / "x.m3u").read_text().splitlines()[-1] == "../sounds/a/b.wav"


@pytest.mark.parametrize("name", ["new\nline.wav", "space ", "tab\t", "a\rb.wav"])
def test_a_path_that_a_playlist_cannot_hold_is_a_url(tmp_path, name):
    from urllib.parse import unquote

    write_playlist([hit(name, 0.0, 1.0, 1.0)], tmp_path / "x.m3u")
    lines = (tmp_path / "x.m3u").read_bytes().decode().split("\n")
    assert len(lines) == 5 and unquote(lines[3]) == f"file:///sounds/{name}"


def test_a_playlist_replaces_only_playlists(tmp_path):
    path = tmp_path / "x.m3u"
    for _ in range(2):
        write_playlist([hit("a.wav", 0.0, 1.0, 1.0)], path)
    path.write_text("my notes")
    with pytest.raises(ValueError, match="exists and is no playlist"):
        write_playlist([], path)
    assert path.read_text() == "my notes"


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_parts_are_cut_at_the_own_rate_of_their_recording(folder, tmp_path, audio_format):
    hits = [hit("stereo.wav", 1.0, 2.5, 4.0, str(folder)), hit("mono.flac", 0.0, 4.0, 4.0, str(folder))]
    cuts = cut_sounds(hits, tmp_path / "cut", audio_format)
    assert [path.name for path in cuts.written] == [f"01_stereo_0m01s.{audio_format}", f"02_mono.{audio_format}"]
    assert not cuts.failures
    for path, source, part in zip(
        cuts.written, ("stereo.wav", "mono.flac"), (slice(RATE, round(2.5 * RATE)), slice(None)), strict=True
    ):
        samples, rate = soundfile.read(path, always_2d=True)
        np.testing.assert_allclose(samples, soundfile.read(folder / source, always_2d=True)[0][part], atol=1e-6)
        assert rate == RATE
    assert soundfile.info(cuts.written[0]).subtype == "PCM_24"
    assert soundfile.info(cuts.written[1]).subtype == "PCM_16"


def test_names_are_those_that_every_system_takes(folder, tmp_path):
    cuts = cut_sounds([hit("犬 #1.wav", 1.0, 2.0, 4.0, str(folder))] * 2, tmp_path)
    assert [path.name for path in cuts.written] == ["01_犬 #1_0m01s.wav", "02_犬 #1_0m01s.wav"]
    odd = 'a<b>:"c|d?e*f.wav'
    (tmp_path / odd).write_bytes((folder / "mono.flac").read_bytes())
    long = "x" * 200 + ".flac"
    (tmp_path / long).write_bytes((folder / "mono.flac").read_bytes())
    cuts = cut_sounds([hit(name, 0.0, 1.0, 1.0, str(tmp_path)) for name in (odd, long)], tmp_path / "odd")
    assert [path.name for path in cuts.written] == ["01_a_b_c_d_e_f.wav", f"02_{'x' * 60}.wav"]


def test_files_that_are_there_are_not_replaced(folder, tmp_path):
    hits = [hit("mono.flac", 0.0, 1.0, 4.0, str(folder)), hit("stereo.wav", 0.0, 1.0, 4.0, str(folder))]
    (tmp_path / "02_stereo_0m00s.wav").write_bytes(b"mine")
    with pytest.raises(ValueError, match="1 file already.*02_stereo_0m00s.wav"):
        cut_sounds(hits, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["02_stereo_0m00s.wav"]
    assert (tmp_path / "02_stereo_0m00s.wav").read_bytes() == b"mine"


def test_what_cannot_be_cut_is_reported_and_the_rest_is_cut(folder, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    hits = [
        hit("gone.wav", 0.0, 1.0, 4.0, str(folder)),
        hit("broken.wav", 0.0, 1.0, 4.0, str(tmp_path)),
        hit("mono.flac", 9.0, 10.0, 10.0, str(folder)),  # shorter than when it was indexed
        hit("a.wav", 0.0, 1.0, 4.0, "s3://bucket/sounds"),
        hit("id-of-an-embedding", 0.0, 1.0, 4.0, ""),
        hit("mono.flac", 1.0, 2.0, 4.0, str(folder)),
    ]
    cuts = cut_sounds(hits, tmp_path / "cut")
    assert [path.name for path in cuts.written] == ["06_mono_0m01s.wav"]
    assert list((tmp_path / "cut").iterdir()) == cuts.written
    reasons = list(cuts.failures.values())
    assert "gone.wav" in reasons[0] and "broken.wav" in reasons[1] and "ends before 9.0 s" in reasons[2]
    assert "not on this machine" in reasons[3] and "not on this machine" in reasons[4]


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'wav' or 'flac', got 'mp3'"):
        cut_sounds([], tmp_path, "mp3")
