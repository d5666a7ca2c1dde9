"""Dynamic int8 quantisation of an exported graph: weights in advance, activations row by row at run time.

`onnxruntime.quantization.quantize_dynamic` uses one scale for a whole batch of activations, so the embedding of a
caption would depend on the other captions of its batch. Here every row (a token or a patch) has its own scale: the
embedding of a clip is the same in every batch, and large values in one row do not cost other rows precision. Only
standard ONNX operators are used.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


# CPUs without VNNI add pairs of products (unsigned activation times signed weight) in 16 bits. Weights of at most 64
# keep every such sum below 2^15 (255 * 64 * 2 < 32768), so all CPUs compute the same embeddings.
_MAX_WEIGHT = 64
_MAX_ACTIVATION = 127
_ZERO_POINT = 128
_MAX_TABLE_ENTRY = 127  # table rows are looked up, not multiplied


def quantize_int8(model: ir.Model) -> int:
    """Quantise all products with constant matrices and all lookup tables of a graph, in place.

    A product `x @ w` becomes an integer product: `w` in int8 with one scale for each output channel, `x` in 8 bits
    with one scale for each row, both symmetric. A table (token embeddings, positions) is stored in int8 with one scale
    for each row. Norms, softmax, attention scores and biases stay in float32.

    Args:
        model (`onnx_ir.Model`): a float32 graph.

    Returns:
        the number of products and tables that were quantised.
    """
    rewriter = _Rewriter(model.graph)
    for node in list(model.graph):
        if node.op_type in ("MatMul", "Gemm"):
            rewriter.quantize_product(node)
        elif node.op_type == "Gather":
            rewriter.quantize_table(node)
    RemoveUnusedNodesPass()(model)
    return rewriter.count


class _Rewriter:
    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self.count = 0
        self._rows: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}  # query, key and value share one input
        self._constants: dict[str, ir.Value] = {}
        self._matrices: dict[str, tuple[ir.Value, ir.Value]] = {}

    def quantize_product(self, node: ir.Node) -> None:
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        if not _is_matrix(node.inputs[1]) or not _is_plain(attributes):
            return
        weight, weight_scale = self._quantized_weight(node.inputs[1], bool(attributes.get("transB")))
        tape = ir.tape.Tape()
        rows, row_scale = self._quantized_rows(tape, node.inputs[0])
        product = tape.op("MatMulInteger", [rows, weight, self._constant("zero_point", np.uint8(_ZERO_POINT))])
        result = tape.op("Cast", [product], {"to": ir.DataType.FLOAT})
        result = tape.op("Mul", [tape.op("Mul", [result, row_scale]), weight_scale])
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            result = tape.op("Add", [result, node.inputs[2]])
        self._replace(node, tape, result)

    def quantize_table(self, node: ir.Node) -> None:
        table, indices = node.inputs
        axis = node.attributes.get("axis")
        if not _is_matrix(table) or (axis is not None and axis.value != 0):
            return
        rows, scale = self._quantized(f"{table.name}_rows", table.const_value.numpy(), 1, _MAX_TABLE_ENTRY)
        tape = ir.tape.Tape()
        taken = tape.op("Cast", [tape.op("Gather", [rows, indices])], {"to": ir.DataType.FLOAT})
        self._replace(node, tape, tape.op("Mul", [taken, tape.op("Gather", [scale, indices])]))

    def _quantized_weight(self, value: ir.Value, transpose: bool) -> tuple[ir.Value, ir.Value]:
        """A weight in int8, `(inputs, outputs)`, and the scale of each output channel."""
        name = f"{value.name}{'_transposed' if transpose else ''}"
        matrix = value.const_value.numpy()
        return self._quantized(name, matrix.T if transpose else matrix, 0, _MAX_WEIGHT)

    def _quantized(self, name: str, matrix: np.ndarray, axis: int, max_integer: int) -> tuple[ir.Value, ir.Value]:
        """A matrix in int8 and its scales along `axis`; computed once for all nodes that use it."""
        if name not in self._matrices:
            largest = np.abs(matrix).max(axis=axis, keepdims=True)
            scale = np.where(largest > 0, largest, 1) / np.float32(max_integer)
            integers = np.ascontiguousarray(np.rint(matrix / scale), dtype=np.int8)
            self._matrices[name] = (
                self._initializer(f"{name}_int8", integers),
                self._initializer(f"{name}_scale", scale),
            )
        return self._matrices[name]

    def _quantized_rows(self, tape: ir.tape.Tape, value: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Activations as `128 + value / scale`, uint8, and the scale of each row, `(..., 1)`."""
        if value not in self._rows:
            last_axis = self._constant("last_axis", np.array([-1], dtype=np.int64))
            largest = tape.op("ReduceMax", [tape.op("Abs", [value]), last_axis], {"keepdims": 1})
            largest = tape.op("Max", [largest, self._constant("smallest", np.float32(1e-30))])  # for rows of zeros
            scale = tape.op("Div", [largest, self._constant("max_activation", np.float32(_MAX_ACTIVATION))])
            shifted = tape.op(
                "Add",
                [tape.op("Round", [tape.op("Div", [value, scale])]), self._constant("shift", np.float32(_ZERO_POINT))],
            )
            self._rows[value] = tape.op("Cast", [shifted], {"to": ir.DataType.UINT8}), scale
        return self._rows[value]

    def _replace(self, node: ir.Node, tape: ir.tape.Tape, result: ir.Value) -> None:
        ir.convenience.replace_nodes_and_values(self.graph, node, [node], tape.nodes, [node.outputs[0]], [result])
        self.count += 1

    def _constant(self, name: str, value: np.generic | np.ndarray) -> ir.Value:
        if name not in self._constants:
            self._constants[name] = self._initializer(f"int8_{name}", np.asarray(value))
        return self._constants[name]

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value


def _is_matrix(value: ir.Value | None) -> bool:
    """Whether a value is a constant float32 matrix."""
    tensor = None if value is None else value.const_value
    return tensor is not None and len(tensor.shape) == 2 and tensor.dtype.name == "FLOAT"


def _is_plain(attributes: Mapping[str, float]) -> bool:
    """Whether a Gemm computes `x @ w + b`, with `w` transposed or not."""
    return attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
