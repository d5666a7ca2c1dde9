"""Angles to the mean text direction, on embeddings whose angles are known."""

import math

import numpy as np
import pytest
import torch

from modeling_atri.trainer.diagnostics.alignment_error import alignment_error, objective_pulls, summarize_alignment


def at(*degrees: float) -> np.ndarray:
    """Unit vectors of the plane, `(n, 2)`."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_angles_in_the_plane():
    # Texts at 0 and 60 degrees: the mean points to 30. Then at 10 and 10.
    text = np.stack([at(0, 10), at(60, 10)])
    error = alignment_error(at(45, 190), text)
    assert error.audio == pytest.approx([15, 180])
    assert error.text[:, 0] == pytest.approx([30, 30])
    assert error.text[:, 1].tolist() == [0, 0]


def test_lengths_do_not_count():
    text = np.stack([at(0, 10), at(60, 10)])
    scaled = alignment_error(torch.tensor(at(45, 190) * 7), torch.tensor(text * np.array([3.0, 0.1])[:, None, None]))
    assert scaled.audio == pytest.approx(alignment_error(at(45, 190), text).audio)


def test_small_angles_are_exact():
    text = np.stack([at(0.0)] * 3)
    assert alignment_error(at(1e-9), text).audio == pytest.approx([1e-9], rel=1e-6)
    assert alignment_error(at(0.0), text).audio.tolist() == [0.0]


def test_three_languages_against_the_definition():
    rng = np.random.default_rng(0)
    audio, text = rng.normal(size=(5, 6)), rng.normal(size=(3, 5, 6))
    error = alignment_error(audio, text)
    for i in range(5):
        mean = sum(text[k, i] / np.linalg.norm(text[k, i]) for k in range(3)) / 3
        for vector, found in ((audio[i], error.audio[i]), *((text[k, i], error.text[k, i]) for k in range(3))):
            cosine = vector @ mean / np.linalg.norm(vector) / np.linalg.norm(mean)
            assert found == pytest.approx(math.degrees(math.acos(cosine)))


def test_what_objectives_pull_to():
    # Texts at -60, 0 and 60 degrees: the mean points to 0.
    text = np.stack([at(-60), at(0), at(60)])
    pulls = objective_pulls(text, anchor=0)
    assert pulls["mlclap"] == pytest.approx((60 + 0 + 60) / 3)
    assert pulls["cacl"] == pytest.approx((30 + 0) / 2)  # of -60 with 0, and with 60
    assert pulls["kcl"] == 0
    assert objective_pulls(text).keys() == {"mlclap", "kcl"}
    assert objective_pulls(text[:1], anchor=0) == {"mlclap": 0, "kcl": 0}


def test_a_summary():
    text = {"eng_Latn": at(0, 0, 10), "fra_Latn": at(60, 0, 10)}
    summary = summarize_alignment(at(30, 20), text, owners=[0, 0, 1], anchor="eng_Latn")
    assert summary["num_captions"] == 3
    # The second caption of the first clip points to 0, which is 30 degrees from it.
    assert summary["audio"]["mean"] == pytest.approx((0 + 30 + 10) / 3)
    assert summary["audio"]["q50"] == pytest.approx(10)
    assert summary["text"]["fra_Latn"]["mean"] == pytest.approx(10)
    assert summary["text"]["fra_Latn"]["q95"] == pytest.approx(27)
    assert summary["pulls"] == pytest.approx({"mlclap": 10, "cacl": 0, "kcl": 0})
    assert "cacl" not in summarize_alignment(at(30, 20), text, [0, 0, 1], anchor="jpn_Jpan")["pulls"]


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"shapes \(N, D\) .* got \(2, 2\) and \(1, 3, 2\)"):
        alignment_error(at(0, 1), at(0, 1, 2)[None])
    with pytest.raises(ValueError, match=r"The text embedding at \(0, 1\) has norm 0.0"):
        alignment_error(at(0, 1), np.stack([at(0, 1) * [[1], [0]]]))
    with pytest.raises(ValueError, match=r"The audio embedding at \(1,\) has norm nan"):
        alignment_error(at(0, math.nan), at(0, 1)[None])
    with pytest.raises(ValueError, match="caption 1 add up to zero over the 2 languages"):
        alignment_error(at(0, 1), np.stack([at(0, 1), at(0, 181)]))
