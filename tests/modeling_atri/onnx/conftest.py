"""One export for all tests of this folder: tracing a model takes seconds, with every layer more."""

from pathlib import Path

import pytest

from modeling_atri import AtriModel
from modeling_atri.onnx import AUDIO_FILE, TEXT_FILE, OnnxAtriModel, export_onnx
from tests.helpers.tiny import tiny_model, tiny_processor


@pytest.fixture(scope="session")
def model() -> AtriModel:
    return tiny_model(num_hidden_layers=1)


@pytest.fixture(scope="session")
def processor():
    return tiny_processor()


@pytest.fixture(scope="session")
def exported(model, processor, tmp_path_factory) -> Path:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason="needs the extra `onnx`")
    folder = tmp_path_factory.mktemp("onnx") / "exported"
    export_onnx(model, processor, folder)
    return folder


@pytest.fixture(scope="session")
def onnx_model(exported) -> OnnxAtriModel:
    return OnnxAtriModel.from_pretrained(exported)


@pytest.fixture(scope="session")
def exported_int8(exported) -> Path:
    """What `export_onnx(int8=True)` writes, without tracing once more."""
    import onnx_ir as ir

    from modeling_atri.onnx.int8 import quantize_int8

    folder = exported.parent / "int8"
    folder.mkdir()
    (folder / "config.json").write_bytes((exported / "config.json").read_bytes())
    for name in (AUDIO_FILE, TEXT_FILE):
        graph = ir.load(exported / name)
        quantize_int8(graph)
        ir.save(graph, folder / name)
    return folder


@pytest.fixture(scope="session")
def int8_model(exported_int8) -> OnnxAtriModel:
    return OnnxAtriModel.from_pretrained(exported_int8)
