"""ONNX's own tests of operators: what loads is right, and the rest is refused by an error of ours."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_models import run_ort  # noqa: E402

import fastconv  # noqa: E402
from fastconv.errors import FastconvError  # noqa: E402
from fastconv.formats.onnx.ops import FUNCTIONS  # noqa: E402

# The least number of tests of an operator that load; fewer mean that a refusal is too wide.
LEAST = {
    "Abs": 1, "Add": 2, "AffineGrid": 2, "ArgMax": 11, "ArgMin": 11, "Attention": 17, "AveragePool": 10,
    "BatchNormalization": 2, "Cast": 12, "CastLike": 6, "Ceil": 2, "Celu": 2, "Clip": 9, "Concat": 6, "Conv": 6,
    "ConvTranspose": 10, "Cos": 2, "CumSum": 2, "DepthToSpace": 2, "Div": 3, "Dropout": 6, "Einsum": 1, "Elu": 3,
    "Equal": 4, "Erf": 1, "Exp": 2, "Expand": 1, "Flatten": 3, "Floor": 2, "Gather": 2, "Gelu": 4, "Gemm": 8,
    "GlobalAveragePool": 2, "GlobalMaxPool": 2, "Greater": 6, "GreaterOrEqual": 6, "GridSample": 14,
    "GroupNormalization": 2, "GRU": 1, "HardSigmoid": 2, "HardSwish": 1, "Identity": 3, "InstanceNormalization": 2,
    "IsNaN": 2, "LayerNormalization": 13, "LeakyRelu": 3, "Less": 6, "LessOrEqual": 6, "Log": 2, "LogSoftmax": 6,
    "LRN": 2, "LSTM": 1, "MatMul": 3, "Max": 6, "MaxPool": 14, "Min": 6, "Mish": 1, "Mod": 3, "Mul": 3, "Neg": 1,
    "Pad": 3, "Pow": 4, "PRelu": 1, "Reciprocal": 2, "ReduceL1": 7, "ReduceL2": 7, "ReduceLogSum": 3,
    "ReduceLogSumExp": 7, "ReduceMax": 6, "ReduceMean": 6, "ReduceMin": 6, "ReduceProd": 7, "ReduceSum": 10,
    "ReduceSumSquare": 7, "Relu": 1, "Reshape": 6, "Resize": 16, "RMSNormalization": 13, "RNN": 1, "Round": 1,
    "Selu": 1, "Shrink": 2, "Sigmoid": 2, "Sign": 1, "Sin": 2, "Slice": 5, "Softmax": 6, "Softplus": 2,
    "Softsign": 1, "SpaceToDepth": 4, "Split": 5, "Sqrt": 2, "Squeeze": 1, "Sub": 3, "Sum": 3, "Swish": 1, "Tanh": 2,
    "ThresholdedRelu": 3, "TopK": 3, "Transpose": 2, "Unsqueeze": 6, "Upsample": 1,
}  # fmt: skip

# ONNX's own results divide by the scaled length, 2.4 say, not by the length that comes out, 2; PyTorch, which writes
# such files, and ONNX Runtime take the latter: these are compared with ONNX Runtime.
OTHERWISE = {"test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"}


def array(value: Any) -> NDArray[Any] | None:
    """A tensor of a test, which some keep as messages; None where it is something else."""
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    result = np.asarray(value)
    return result if result.dtype.kind in "fiub" else None


def variants(case: Any) -> list[tuple[onnx.ModelProto, list[NDArray[Any]], list[Any]]]:
    """The model as networks use it, what to feed it, what it gives.

    With its first input left and the others as initializers, with all its inputs, and with its first output alone.
    """
    if not case.data_sets:
        return []
    given, expected = case.data_sets[0]
    arrays = [array(value) for value in given]
    known = [value for value in arrays if value is not None]
    if not known or len(known) != len(arrays):
        return []
    result = []
    for kept, outputs in {(1, len(expected)), (1, 1), (len(known), 1)}:
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        for info, value in list(zip(model.graph.input, known, strict=False))[kept:]:
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, info.name))
        del model.graph.input[kept:]
        del model.graph.output[outputs:]
        result.append((model, known[:kept], expected[:outputs]))
    return result


@pytest.mark.long
def test_nodes(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    path = tmp_path / "net.onnx"
    right: Counter[str] = Counter()
    wrong, otherwise = [], set()
    for case in cases:
        ops = {node.op_type for node in case.model.graph.node}
        loaded = False
        for model, inputs, expected in variants(case) if ops & FUNCTIONS.keys() else ():
            path.write_bytes(model.SerializeToString())
            try:
                net = fastconv.load(path, threads=1)
            except FastconvError:
                continue
            loaded = True
            if case.name in OTHERWISE:
                otherwise.add(case.name)
                expected = run_ort(path, *inputs)
            got = net(*inputs)
            for one, wanted in zip(got if isinstance(got, tuple) else (got,), map(array, expected), strict=True):
                assert wanted is not None
                if one.shape != wanted.shape or not np.allclose(one, wanted, case.rtol, case.atol, equal_nan=True):
                    wrong.append(case.name)
        right[ops.pop() if len(ops) == 1 else ""] += loaded
    assert not wrong
    assert otherwise == OTHERWISE
    assert not {op: right[op] for op, count in LEAST.items() if right[op] < count}
