"""ONNX files for tests, built by hand, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from interpreter import run_graph
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

import fastconv
from fastconv.formats import onnx as reader
from fastconv.graph import Graph

OPSET = 17

node = helper.make_node
Shape = Sequence[int | str | None]


def tensor(name: str, value: ArrayLike, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def ints(name: str, *values: int) -> TensorProto:
    return tensor(name, values, np.int64)


def constant(name: str, value: ArrayLike, dtype: Any = np.float32) -> onnx.NodeProto:
    """A node that gives a constant, as most converters write them."""
    return node("Constant", [], [name], value=tensor("", value, dtype))


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Shape | None = ("N", 3, 8, 8),
    initializers: Sequence[TensorProto] = (),
    *,
    outputs: Sequence[str] | None = None,
    opset: int = OPSET,
    dtype: int = TensorProto.FLOAT,
    input: str = "x",
    others: Mapping[str, Shape | None] | None = None,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of these nodes; its output is that of the last one. `others`: inputs behind the first."""
    names = [nodes[-1].output[0]] if outputs is None else outputs
    out = TensorProto.DOUBLE if dtype == TensorProto.DOUBLE else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, dtype, s) for name, s in {input: shape, **(others or {})}.items()],
        [helper.make_tensor_value_info(name, out, None) for name in names],
        initializers,
    )
    imports = [helper.make_opsetid(*item) for item in {"": opset, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 21 else 10)


def written(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def run_ort(path: Path, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """The outputs of ONNX Runtime, which is not to optimise anything."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    results: list[NDArray[Any]] = session.run(
        None, {given.name: array for given, array in zip(session.get_inputs(), arrays, strict=True)}
    )
    return results


def check_file(
    path: Path,
    x: NDArray[Any] | tuple[NDArray[Any], ...],
    expected: Sequence[NDArray[Any]] | None = None,
    **options: Any,
) -> Graph:
    """Load a file; compare the engine and the interpreter with ONNX Runtime, or what else is expected.

    The engine to 1e-4 of the largest output, the interpreter, which computes in float64, too: what it is
    compared with does not.
    """
    arrays = x if isinstance(x, tuple) else (x,)
    expected = run_ort(path, *arrays) if expected is None else expected
    graph = reader.load(path, **options)
    net = fastconv.load(path, threads=1, **options)
    got = net(*arrays)
    results = got if isinstance(got, tuple) else (got,)
    for actual in (results, run_graph(graph, x)):
        assert len(actual) == len(expected)
        for one, want in zip(actual, expected, strict=True):
            assert one.shape == want.shape
            error = np.abs(one - want).max(initial=0)
            assert error <= 1e-4 * max(np.abs(want).max(initial=0), 1e-6)
    return graph


def check(proto: onnx.ModelProto, folder: Path, *shape: int, ops: str | None = None, **options: Any) -> Graph:
    """Write a model and compare it on random images of this shape, with the batch."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    graph = check_file(written(proto, folder), x, **options)
    if ops is not None:
        assert " ".join(item.op for item in graph.nodes) == ops
    return graph
