"""`atri export`."""

import pytest

from modeling_atri import AtriProcessor
from modeling_atri.cli.main import main
from modeling_atri.encode.encoding import encode_text
from tests.helpers.tiny import CAPTIONS, tiny_model, tiny_processor


pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")


@pytest.fixture
def saved(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = capsys.readouterr().out
    for word in ("atri export runs/first exported/", "--int8", "audio.onnx", "text_embeds", "OnnxAtriModel"):
        assert word in shown


@pytest.mark.slow
def test_a_model_in_int8(saved, tmp_path, capsys):
    from modeling_atri.onnx import OnnxAtriModel

    out = tmp_path / "exported"
    assert main(["export", "--int8", str(saved), str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"{out}/audio.onnx: " in shown
    assert f"{out}/text.onnx: " in shown
    arguments = (AtriProcessor.from_pretrained(out), list(CAPTIONS.values()), list(CAPTIONS))
    exported, ours = (encode_text(item, *arguments) for item in (OnnxAtriModel.from_pretrained(out), tiny_model()))
    assert 1e-5 < 1 - (exported * ours).sum(axis=1).min() < 1e-2  # near, but in int8


def test_mistakes_are_told_before_anything_is_done(saved, tmp_path, capsys):
    for argv, message in (
        (["export"], "required: model, out"),
        (["export", str(saved)], "required: out"),
        (["export", str(saved), str(saved)], "not an empty folder"),
        (["export", str(tmp_path / "none"), str(tmp_path / "out")], "There is no folder"),
        (["export", str(saved), str(tmp_path / "out"), "--int4"], "'--int4' (did you mean '--int8'?)"),
    ):
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
