"""Quantised graphs: products and tables against a computation by hand, and embeddings against those of the model."""

import numpy as np
import pytest

from modeling_atri.onnx import AUDIO_FILE, TEXT_FILE
from tests.helpers.onnx_inputs import captions, clips, embeddings


pytestmark = pytest.mark.heavy


def by_hand(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`x @ weight` as the quantised graph should compute it, one row and one column at a time."""
    result = np.empty((len(x), weight.shape[1]))
    for i, row in enumerate(x):
        row_scale = np.abs(row).max() / 127
        for j, column in enumerate(weight.T):
            column_scale = np.abs(column).max() / 64
            integers = np.rint(row / row_scale) @ np.rint(column / column_scale)
            result[i, j] = integers * row_scale * column_scale
    return result


def run_quantized(nodes: list, initializers: dict[str, np.ndarray], **inputs: np.ndarray) -> np.ndarray:
    """The result `y` of nodes after quantisation."""
    helper = pytest.importorskip("onnx.helper", reason="needs the extra `onnx`")
    import onnx_ir as ir
    import onnxruntime
    from onnx import numpy_helper

    from modeling_atri.onnx.int8 import quantize_int8

    ends = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim)
        for name, value in inputs.items()
    ]
    output = helper.make_tensor_value_info("y", 1, None)
    tensors = [numpy_helper.from_array(value, name) for name, value in initializers.items()]
    graph = helper.make_graph(nodes, "g", ends, [output], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    model = ir.from_proto(proto)
    assert quantize_int8(model) == len(nodes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return session.run(None, inputs)[0]


def test_products_by_hand():
    helper = pytest.importorskip("onnx.helper", reason="needs the extra `onnx`")
    x = np.random.randn(5, 8).astype(np.float32) * np.float32([[1], [100], [1e-3], [1], [0]])
    weight, bias = np.random.randn(8, 3).astype(np.float32), np.random.randn(3).astype(np.float32)
    weight[:, 1] *= 50
    expected = by_hand(np.where(x == 0, 1e-38, x), weight)
    product = run_quantized([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, x=x[None])
    np.testing.assert_allclose(product[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(product[0, 4], 0)  # a row of zeros
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    product = run_quantized([gemm], {"w": weight.T.copy(), "b": bias}, x=x)
    np.testing.assert_allclose(product, expected + bias, rtol=1e-5, atol=1e-6)


def test_tables_by_hand():
    helper = pytest.importorskip("onnx.helper", reason="needs the extra `onnx`")
    table = np.random.randn(6, 4).astype(np.float32)
    table[2], table[3] = 0, 1000 * table[3]
    ids = np.array([[3, 2], [5, 3]])
    taken = run_quantized([helper.make_node("Gather", ["t", "x"], ["y"])], {"t": table}, x=ids)
    scale = np.abs(table).max(axis=1, keepdims=True) / 127
    expected = np.rint(table / np.where(scale > 0, scale, 1)) * scale
    np.testing.assert_allclose(taken, expected[ids], rtol=1e-6)


def test_int8_embeddings_are_near_and_files_small(model, int8_model, exported, exported_int8, processor):
    import onnx

    for inputs in (clips([300, 1500]), captions(processor)):
        ours, quantized = embeddings(model, inputs), embeddings(int8_model, inputs)
        np.testing.assert_allclose(np.linalg.norm(quantized, axis=1), 1, atol=1e-5)
        assert (ours * quantized).sum(axis=1).min() > 0.995
        assert np.abs(ours - quantized).max() > 1e-4
    for name in (AUDIO_FILE, TEXT_FILE):
        graph = onnx.load(exported_int8 / name).graph
        kept = [item.dims for item in graph.initializer if item.data_type == 1 and len(item.dims) == 2]
        assert all(1 in dims for dims in kept)  # of matrices only scales are left in float32
        assert (exported_int8 / name).stat().st_size < 0.75 * (exported / name).stat().st_size


def test_sums_of_two_products_fit_16_bits(exported_int8):
    """CPUs without VNNI saturate there, and would give other embeddings."""
    import onnx

    for name, num_layers in ((AUDIO_FILE, 1), (TEXT_FILE, 2)):
        graph = onnx.load(exported_int8 / name).graph
        tensors = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        products = [node for node in graph.node if node.op_type == "MatMulInteger"]
        assert len(products) >= num_layers * 6 + 2
        for node in products:
            assert 2 * 255 * np.abs(tensors[node.input[1]].astype(int)).max() < 2**15


def test_int8_captions_do_not_see_their_neighbours(int8_model, processor):
    loud = captions(processor)
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in loud.items()}
        length = int(alone["attention_mask"].sum())
        alone = {name: value[:, :length] for name, value in alone.items()}
        np.testing.assert_allclose(embeddings(int8_model, alone), embeddings(int8_model, loud)[[row]], atol=1e-4)
