import pytest

from modeling_atri.corpora.clips.source_ids import source_id


@pytest.mark.parametrize(
    "source, name, expected",
    [
        ("youtube", "abcdefghijk", "youtube:abcdefghijk"),
        ("YouTube", "Yabcdefghijk.wav", "youtube:abcdefghijk"),
        ("youtube", "abcdefghijk.flac", "youtube:abcdefghijk"),
        ("youtube", "Yabcdefghij", "youtube:Yabcdefghij"),  # the Y is the id's own
        ("youtube", "YYabcdefghij.wav", "youtube:Yabcdefghij"),
        ("youtube", "train/Y-bcdefghi_k_30_40.wav", "youtube:-bcdefghi_k"),
        ("youtube", "abcdefghijk_30000", "youtube:abcdefghijk"),
        ("youtube", "clip 3", "youtube:clip 3"),
        ("freesound", "80399", "freesound:80399"),
        ("freesound", "80399.WAV", "freesound:80399"),
        ("freesound", "80399__benboncan__radio-garble.wav", "freesound:80399"),
        ("bbc", "NHU05001.234.flac", "bbc:NHU05001.234"),
        ("clotho", "Rain.wav", "clotho:Rain.wav"),
    ],
)
def test_names_of_one_recording_are_one_id(source, name, expected):
    assert source_id(source, name) == expected
    assert source_id(*expected.split(":")) == expected
