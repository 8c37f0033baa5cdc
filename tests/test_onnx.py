"""ONNX files in the styles of the tools that write them, against ONNX Runtime."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, external_data_helper  # noqa: E402
from onnx_models import check, check_file, constant, ints, model, node, tensor, written  # noqa: E402

import fastconv  # noqa: E402
from fastconv.compile import compile_graph  # noqa: E402
from fastconv.errors import DTypeError, MissingExtraError, ModelFormatError, ShapeError, UnsupportedOperatorError  # noqa: E402
from fastconv.formats.onnx import load  # noqa: E402
from fastconv.formats.onnx.ops import FOLDS, FUNCTIONS  # noqa: E402

RNG = np.random.default_rng(1)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


W = tensor("w", random(4, 3, 3, 3))
B = tensor("b", random(4))


# One operator ------------------------------------------------------------------------------------

# name -> (nodes, constants, opset); the input is x, (N, 4, 9, 11)
ONE: dict[str, tuple[list[Any], list[Any], int]] = {
    "relu": ([node("Relu", ["x"], ["y"])], [], 7),
    "leaky_relu": ([node("LeakyRelu", ["x"], ["y"], alpha=0.3)], [], 7),
    "leaky_relu_default": ([node("LeakyRelu", ["x"], ["y"])], [], 16),
    "hard_sigmoid": ([node("HardSigmoid", ["x"], ["y"], alpha=0.3, beta=0.4)], [], 7),
    "clip_attributes": ([node("Clip", ["x"], ["y"], min=-0.5, max=0.7)], [], 7),
    "clip_max_only": ([node("Clip", ["x", "", "hi"], ["y"])], [tensor("hi", 0.3)], 13),
    "clip_inputs": ([node("Clip", ["x", "lo", "hi"], ["y"])], [tensor("lo", -0.5), tensor("hi", 0.7)], 11),
    "max_number": ([node("Max", ["x", "c"], ["y"])], [tensor("c", 0.0)], 8),
    "min_number": ([node("Min", ["c", "x"], ["y"])], [tensor("c", [0.1])], 13),
    "silu": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"], ["y"])], [], 13),
    "softmax_12_channels": ([node("Softmax", ["x"], ["y"], axis=1)], [], 11),
    "softmax_12_rows": ([node("Softmax", ["x"], ["y"], axis=-2)], [], 12),
    "softmax_13": ([node("Softmax", ["x"], ["y"], axis=1)], [], 13),
    "log_softmax": ([node("LogSoftmax", ["x"], ["y"], axis=2)], [], 13),
    "max_pool": ([node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 1, 1])], [], 7),
    "max_pool_uneven": ([node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[0, 2, 1, 0])], [], 12),
    "max_pool_wide": ([node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], pads=[2, 2, 2, 2])], [], 12),
    "max_pool_ceil": (
        [node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], [], 12
    ),
    "max_pool_dilated": ([node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], dilations=[2, 3])], [], 12),
    "max_pool_same": (
        [node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")], [], 12
    ),
    "average_pool": ([node("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], pads=[1, 0, 1, 0])], [], 7),
    "average_pool_counts": (
        [node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[0, 1, 2, 0], count_include_pad=1)], [], 11
    ),
    "average_pool_over_the_end": (
        [node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")], [], 11
    ),
    "global_average_pool": ([node("GlobalAveragePool", ["x"], ["y"])], [], 7),
    "global_max_pool": ([node("GlobalMaxPool", ["x"], ["y"])], [], 7),
    "reduce_mean": ([node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], [], 11),
    "reduce_mean_18": ([node("ReduceMean", ["x", "a"], ["y"])], [ints("a", -1, -2)], 18),
    "reduce_max": ([node("ReduceMax", ["x"], ["y"], axes=[-1, -2])], [], 13),
    **{
        f"{op}_{'_'.join(map(str, axes))}_{keep}": ([node(op, ["x"], ["y"], axes=axes, keepdims=keep)], [], 11)
        for op in (
            "ReduceMean", "ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
            "ReduceLogSumExp", "ReduceSumSquare",
        )
        for axes, keep in (([1], 1), ([-1], 0), ([1, 3], 0), ([1, 2, 3], 1), ([2, 3], 0))
    },
    "reduce_log_sum": ([node("Exp", ["x"], ["e"]), node("ReduceLogSum", ["e", "a"], ["y"])], [ints("a", 1)], 18),
    "reduce_sum_axes": ([node("ReduceSum", ["x", "a"], ["y"], keepdims=0)], [ints("a", -2, 1)], 13),
    "reduce_sum_of_none": ([node("ReduceSum", ["x"], ["y"], noop_with_empty_axes=1)], [], 13),
    "reduce_where_axes_moved": (
        [node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]), node("ReduceSum", ["t", "a"], ["y"], keepdims=0)],
        [ints("a", 2)], 13,
    ),
    "arg_max": ([node("ArgMax", ["x"], ["i"], axis=1), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)], [], 13),
    "arg_min": (
        [node("ArgMin", ["x"], ["i"], axis=-1, keepdims=0), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)], [], 13
    ),
    **{name.lower(): ([node(name, ["x"], ["y"])], [], 13) for name in ("Floor", "Ceil", "Round", "Sign", "Sin", "Cos")},
    "pow": ([node("Pow", ["x", "e"], ["y"])], [tensor("e", 4.0)], 13),
    "pow_of_a_constant": ([node("Pow", ["b", "x"], ["y"])], [tensor("b", [2.0])], 13),
    "pow_of_two": ([node("Abs", ["x"], ["a"]), node("Pow", ["a", "x"], ["y"])], [], 13),
    "pow_of_rows": ([node("Abs", ["x"], ["a"]), node("Pow", ["a", "e"], ["y"])], [tensor("e", random(11))], 13),
    "mod": ([node("Mod", ["x", "m"], ["y"], fmod=1)], [tensor("m", 0.7)], 13),
    "prelu": ([node("PRelu", ["x", "s"], ["y"])], [tensor("s", random(4, 1, 1))], 9),
    "prelu_of_one": ([node("PRelu", ["x", "s"], ["y"])], [tensor("s", [0.2])], 9),
    "prelu_of_rows": ([node("PRelu", ["x", "s"], ["y"])], [tensor("s", random(9, 1))], 16),
    "lrn": ([node("LRN", ["x"], ["y"], size=3, alpha=0.5, beta=0.6, bias=1.5)], [], 13),
    **{
        f"cumsum_{exclusive}_{reverse}_{axis}": (
            [node("CumSum", ["x", "a"], ["y"], exclusive=exclusive, reverse=reverse)], [ints("a", axis)], 14
        )
        for exclusive in (0, 1) for reverse in (0, 1) for axis in (1, 2, -1)
    },
    "gemm_of_a_computed_c": (
        [
            node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f"]), node("Relu", ["f"], ["c"]),
            node("Gemm", ["f", "g", "c"], ["y"], alpha=0.5, beta=-1.5),
        ],
        [tensor("g", random(4, 4))], 13,
    ),
    "gemm_of_a_computed_column": (
        [
            node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f"]),
            node("ReduceMax", ["f"], ["c"], axes=[1]), node("Gemm", ["f", "g", "c"], ["y"], beta=2.0),
        ],
        [tensor("g", random(4, 4))], 13,
    ),
    "thresholded_relu": ([node("ThresholdedRelu", ["x"], ["y"], alpha=0.3)], [], 10),
    "shrink_hard": ([node("Shrink", ["x"], ["y"], lambd=0.3)], [], 9),
    "shrink_soft": ([node("Shrink", ["x"], ["y"], lambd=0.3, bias=0.3)], [], 9),
    **{
        name.lower(): (
            [node(name, ["x", "c"], ["t"]), node("Cast", ["t"], ["y"], to=TensorProto.FLOAT)],
            [tensor("c", random(4, 1, 1))], 16,
        )
        for name in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
    },
    "equal": (
        [node("Equal", ["x", "r"], ["t"]), node("Cast", ["t"], ["y"], to=TensorProto.FLOAT)], [tensor("r", 0.0)], 13
    ),
    "compared_constant": (
        [node("Greater", ["c", "x"], ["t"]), node("Cast", ["t"], ["y"], to=TensorProto.FLOAT)],
        [tensor("c", random(1, 4, 1, 1))], 13,
    ),
    "logic": (
        [
            node("Greater", ["x", "c"], ["a"]), node("Less", ["x", "d"], ["b"]), node("And", ["a", "b"], ["e"]),
            node("Not", ["e"], ["f"]), node("Xor", ["f", "a"], ["g"]), node("Or", ["g", "b"], ["h"]),
            node("Where", ["h", "x", "c"], ["y"]),
        ],
        [tensor("c", -0.5), tensor("d", 0.5)], 13,
    ),
    "where_of_a_mask": (
        [node("Where", ["m", "x", "c"], ["y"])],
        [tensor("m", random(9, 11) > 0, np.bool_), tensor("c", -100.0)], 13,
    ),
    "where_of_two": (
        [node("Relu", ["x"], ["r"]), node("Greater", ["r", "c"], ["t"]), node("Where", ["t", "x", "r"], ["y"])],
        [tensor("c", 0.3)], 13,
    ),
    "is_nan": (
        [node("Sqrt", ["x"], ["s"]), node("IsNaN", ["s"], ["t"]), node("Where", ["t", "x", "s"], ["y"])], [], 13
    ),
    "expand_to_more": (
        [node("ReduceMax", ["x"], ["r"], axes=[2], keepdims=1), node("Expand", ["r", "s"], ["y"])],
        [ints("s", 1, 4, 3, 1)], 13,
    ),
    "tile": ([node("Tile", ["x", "t"], ["y"])], [ints("t", 1, 2, 1, 3)], 13),
    "gather_many": ([node("Gather", ["x", "i"], ["y"], axis=1)], [ints("i", 3, -4, 3, 0, 1)], 13),
    "gather_a_table": ([node("Gather", ["x", "i"], ["y"], axis=-1)], [tensor("i", [[0, 5], [-1, 2]], np.int64)], 13),
    "gather_of_images": (  # PyTorch's newer exporter writes as_strided like this
        [
            node("Shape", ["x"], ["n"], end=1), node("Squeeze", ["n"], ["m"]),
            node("Range", ["zero", "m", "one"], ["r"]),
            node("Mul", ["r", "step"], ["p"]), node("Reshape", ["p", "s"], ["q"]), node("Add", ["q", "i"], ["j"]),
            node("Reshape", ["x", "all"], ["f"]), node("Gather", ["f", "j"], ["y"]),
        ],
        [
            tensor("zero", 0, np.int64), tensor("one", 1, np.int64), ints("step", 396), ints("s", -1, 1, 1),
            tensor("i", [[7, 395, 0], [7, 1, 394]], np.int64), ints("all", -1),
        ], 17,
    ),
    "gather_nd_of_a_constant": (
        [node("GatherND", ["t", "i"], ["g"]), node("Relu", ["g"], ["r"]), node("Sigmoid", ["r"], ["s"]),
         node("Mul", ["x", "s"], ["y"])],
        [tensor("t", random(3, 5, 11)), tensor("i", [[[2, -1]], [[0, 3]], [[1, 1]], [[0, 0]]], np.int64)], 13,
    ),
    "attention": ([node("Attention", ["x", "x", "x"], ["y"])], [], 23),
    "attention_masked": (
        [node("Slice", ["x", "s", "e", "a"], ["k"]), node("Attention", ["x", "k", "k", "m"], ["y"], scale=0.7)],
        [ints("s", 1), ints("e", 8), ints("a", 2), tensor("m", random(4, 9, 7))], 23,
    ),
    "attention_causal": (
        [node("Attention", ["x", "x", "x", "m"], ["y"], is_causal=1)],
        [tensor("m", np.eye(9) + RNG.random((9, 9)) > 0.5, bool)], 23,
    ),
    "attention_of_rows": (
        [
            node("Reshape", ["x", "s"], ["r"]), node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
            node("Attention", ["t", "t", "t"], ["y"], q_num_heads=6, kv_num_heads=6),
        ],
        [ints("s", 0, 36, 11)], 23,
    ),
    "slice_backwards": (
        [node("Slice", ["x", "s", "e", "a", "b"], ["y"])],
        [ints("s", -1, 7), ints("e", -(2**62), 0), ints("a", 1, 2), ints("b", -1, -3)], 13,
    ),
    "cumsum": ([node("CumSum", ["x", "a"], ["y"])], [tensor("a", 2, np.int64)], 14),
    "cumsum_reversed": ([node("CumSum", ["x", "a"], ["y"], reverse=1)], [tensor("a", -3, np.int64)], 14),
    "top_k": ([node("TopK", ["x", "k"], ["y", "i"], axis=1)], [ints("k", 2)], 11),
    "top_k_smallest": (
        [node("TopK", ["x", "k"], ["v", "i"], largest=0), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)],
        [ints("k", 11)], 11,
    ),
    "arg_max_last": (
        [
            node("Floor", ["x"], ["f"]), node("ArgMax", ["f"], ["i"], axis=2, select_last_index=1),
            node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
        ],
        [], 13,
    ),
    "trilu_of_a_constant": (
        [node("Trilu", ["m"], ["t"], upper=0), node("MatMul", ["x", "t"], ["y"])], [tensor("m", random(11, 11))], 14
    ),
    "affine": (
        [node("Mul", ["c", "x"], ["m"]), node("Sub", ["m", "d"], ["s"]), node("Div", ["s", "e"], ["y"])],
        [tensor("c", random(1, 4, 1, 1)), tensor("d", random(4, 1, 1)), tensor("e", 3.0)],
        13,
    ),
    "reverse_sub": ([node("Sub", ["c", "x"], ["n"]), node("Neg", ["n"], ["y"])], [tensor("c", random(4, 1, 1))], 13),
    "sum": ([node("Relu", ["x"], ["r"]), node("Sum", ["x", "c", "r"], ["y"])], [tensor("c", 2.0)], 8),
    "add": ([node("Relu", ["x"], ["r"]), node("Add", ["x", "r"], ["y"])], [], 7),
    "concat": ([node("Relu", ["x"], ["r"]), node("Concat", ["x", "r"], ["y"], axis=-3)], [], 11),
    "pad_attributes": ([node("Pad", ["x"], ["y"], pads=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5)], [], 7),
    "pad_inputs": ([node("Pad", ["x", "p"], ["y"], mode="reflect")], [ints("p", 0, 0, 1, 2, 0, 0, 3, 0)], 13),
    "pad_edge": ([node("Pad", ["x", "p"], ["y"], mode="edge")], [ints("p", 0, 0, 1, 2, 0, 0, 3, 0)], 13),
    "pad_axes": (
        [node("Pad", ["x", "p", "v", "a"], ["y"])], [ints("p", 1, 2, 3, 4), tensor("v", 1.5), ints("a", -1, 1)], 18
    ),
    "slice_attributes": ([node("Slice", ["x"], ["y"], starts=[1, -5], ends=[3, 99], axes=[1, 3])], [], 7),
    "slice_inputs": (
        [node("Slice", ["x", "s", "e", "a"], ["y"])], [ints("s", 0, 2), ints("e", 2**62, -1), ints("a", 0, 2)], 13
    ),
    "split": ([node("Split", ["x"], ["a", "b"], axis=1), node("Add", ["a", "b"], ["y"])], [], 11),
    "split_uneven": ([node("Split", ["x", "s"], ["a", "y"], axis=1)], [ints("s", 1, 3)], 13),
    "split_18": ([node("Split", ["x"], ["a", "b", "y"], axis=2, num_outputs=3)], [], 18),
    "gather": ([node("Gather", ["x", "i"], ["y"], axis=2)], [tensor("i", -2, np.int64)], 13),
    "flatten": ([node("Flatten", ["x"], ["y"])], [], 9),
    "unsqueeze": ([node("Unsqueeze", ["x"], ["u"], axes=[1, -1]), node("Squeeze", ["u"], ["y"], axes=[1])], [], 11),
    "squeeze_all": ([node("GlobalMaxPool", ["x"], ["g"]), node("Squeeze", ["g"], ["y"])], [], 13),
    "expand": ([node("Expand", ["x", "s"], ["y"])], [ints("s", 1, 11)], 13),
    "dropout": ([node("Dropout", ["x"], ["y"])], [], 7),
    "dropout_12": ([node("Dropout", ["x", "r"], ["y"])], [tensor("r", 0.2)], 13),
    "identity": ([node("Identity", ["x"], ["y"])], [], 13),
    "cast": ([node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], [], 13),
    "batch_norm": (
        [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=0.01)],
        [tensor("s", random(4)), tensor("b", random(4)), tensor("m", random(4)), tensor("v", random(4) ** 2)],
        15,
    ),
    **{
        f"conv_transpose_{name}": (
            [node("ConvTranspose", ["x", "k", "b"], ["y"], group=2, **attrs)],
            [tensor("k", random(4, 3, 4, 3)), tensor("b", random(6))],
            11,
        )
        for name, attrs in {
            "plain": {},
            "strided": {"strides": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2], "kernel_shape": [4, 3]},
            "dilated": {"strides": [2, 1], "dilations": [1, 2]},
            "to_a_shape": {"strides": [2, 3], "output_shape": [17, 32]},
            "to_a_shape_upper": {"strides": [2, 3], "output_shape": [17, 32], "auto_pad": "SAME_UPPER"},
            "same_upper": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            "same_lower": {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
            "valid": {"strides": [2, 2], "auto_pad": "VALID"},
        }.items()
    },
    "depth_to_space": ([node("DepthToSpace", ["x"], ["y"], blocksize=2)], [], 11),
    "depth_to_space_crd": ([node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")], [], 11),
    "space_to_depth": ([node("SpaceToDepth", ["x"], ["y"], blocksize=1)], [], 13),
    "space_to_depth_3": (
        [node("Pad", ["x", "p"], ["z"]), node("SpaceToDepth", ["z"], ["y"], blocksize=3)],
        [ints("p", 0, 0, 0, 0, 0, 0, 0, 1)],
        13,
    ),
    **{
        f"resize_{mode}_{positions}": (
            [node("Resize", ["x", "", "s"], ["y"], mode=mode, coordinate_transformation_mode=positions, **more)],
            [tensor("s", [1, 1, 2.5, 0.7])],
            13,
        )
        for mode, positions, more in (
            ("nearest", "asymmetric", {"nearest_mode": "floor"}),
            ("linear", "half_pixel", {}),
            ("linear", "pytorch_half_pixel", {}),
            ("linear", "align_corners", {}),
            ("cubic", "half_pixel", {}),
            ("cubic", "align_corners", {}),
        )
    },
    "resize_to_sizes": (
        [node("Resize", ["x", "", "", "s"], ["y"], mode="linear", axes=[3, 2])],
        [ints("s", 5, 20)],
        18,
    ),
    **{
        f"grid_sample_{opset}_{mode}_{padding}_{align}": (
            [
                node("Conv", ["x", "g"], ["c"]),
                node("Transpose", ["c"], ["grid"], perm=[0, 2, 3, 1]),
                node("GridSample", ["x", "grid"], ["y"], mode=mode, padding_mode=padding, align_corners=align),
            ],
            [tensor("g", 0.4 * random(2, 4, 3, 2))], opset,
        )
        for opset, modes in ((16, ("bilinear", "bicubic")), (20, ("linear", "cubic")))
        for mode in modes
        for padding in ("zeros", "border", "reflection")
        for align in (0, 1)
    },
    **{
        f"grid_sample_of_a_constant_{mode}": (
            [
                node("Shape", ["x"], ["n"], start=0, end=1),
                node("Concat", ["n", "rest"], ["s"], axis=0),
                node("Expand", ["g", "s"], ["grid"]),
                node("GridSample", ["x", "grid"], ["y"], mode=mode),
            ],
            [tensor("g", random(1, 3, 5, 2)), ints("rest", 3, 5, 2)], 16,
        )
        for mode in ("bilinear", "nearest", "bicubic")
    },
    "resize_10": ([node("Resize", ["x", "s"], ["y"], mode="nearest")], [tensor("s", [1, 1, 2, 3])], 10),
    "upsample": ([node("Upsample", ["x", "s"], ["y"], mode="nearest")], [tensor("s", [1, 1, 2, 3])], 9),
    "conv_dilated": ([node("Conv", ["x", "k"], ["y"], dilations=[2, 1])], [tensor("k", random(5, 4, 3, 2))], 11),
    "conv_groups": (
        [node("Conv", ["x", "k", "b"], ["y"], group=2, strides=[2, 3], pads=[1, 0, 0, 2])],
        [tensor("k", random(6, 2, 3, 3)), tensor("b", random(6))],
        11,
    ),
    "conv_depthwise": ([node("Conv", ["x", "k"], ["y"], group=4)], [tensor("k", random(4, 1, 3, 3))], 11),
    "matmul": ([node("MatMul", ["x", "m"], ["y"])], [tensor("m", random(11, 5))], 9),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "constants", "opset"), ONE.values(), ids=ONE)
def test_one_operator(nodes: list[Any], constants: list[Any], opset: int, tmp_path: Path) -> None:
    shape = ("N", 4, 9, 11) if opset > 8 else (2, 4, 9, 11)
    check(model(nodes, shape, constants, opset=opset), tmp_path, 2, 4, 9, 11)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_auto_pad(auto_pad: str, stride: int, tmp_path: Path) -> None:
    conv = node("Conv", ["x", "w", "b"], ["y"], auto_pad=auto_pad, strides=[stride] * 2)
    check(model([conv], ("N", 3, 8, 9), [W, B]), tmp_path, 2, 3, 8, 9, ops="conv2d")


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 17, 18, 20, 21])
def test_opsets(opset: int, tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "m", "n"], ["y"], transB=1, alpha=0.5, beta=2.0),
    ]
    weights = [W, B, tensor("m", random(5, 36)), tensor("n", random(1, 5))]
    ops = "conv2d relu max_pool2d flatten linear"
    check(model(nodes, (2, 3, 8, 8), weights, opset=opset), tmp_path, 2, 3, 8, 8, ops=ops)


def test_signals(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 2], strides=[2]),
        node("MaxPool", ["c"], ["p"], kernel_shape=[2]),
        node("AveragePool", ["p"], ["a"], kernel_shape=[3], pads=[1, 1]),
        node("GlobalAveragePool", ["a"], ["y"]),
    ]
    check(model(nodes, ("N", 2, 33), [tensor("w", random(5, 2, 3))]), tmp_path, 3, 2, 33)
    nodes = [
        node("ConvTranspose", ["x", "w"], ["c"], pads=[1, 0], strides=[3], output_padding=[1]),
        node("Resize", ["c", "", "s"], ["r"], mode="linear"),
        node("GlobalMaxPool", ["r"], ["y"]),
    ]
    weights = [tensor("w", random(2, 5, 4)), tensor("s", [1, 1, 1.5])]
    check(model(nodes, ("N", 2, 11), weights), tmp_path, 3, 2, 11)


def test_same_padding_of_kernels_that_lie_apart(tmp_path: Path) -> None:
    """The output has a pixel for each stride, as ONNX says; ONNX Runtime gives (8 * 5 + 4, 10 * 4 + 3) pixels."""
    attrs: dict[str, Any]
    for attrs in ({"auto_pad": "SAME_UPPER"}, {"output_shape": [45, 44]}):
        conv = node("ConvTranspose", ["x", "k"], ["y"], strides=[5, 4], **attrs)
        proto = model([conv], ("N", 4, 9, 11), [tensor("k", random(4, 3, 4, 3))])
        graph = load(written(proto, tmp_path))
        assert graph.shapes[graph.outputs[0]] == (3, 45, 44)
        assert graph.nodes[0].attrs["output_padding"] == (1, 1)


@pytest.mark.parametrize(
    ("attrs", "scales"),
    [
        ({"mode": "nearest"}, [1, 1, 1.3, 2]),  # half-pixel positions, rounded down where they are between two
        ({"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}, [1, 1, 2, 2]),
        ({"mode": "cubic", "cubic_coeff_a": -0.5}, [1, 1, 2, 2]),
        ({"mode": "linear", "antialias": 1}, [1, 1, 2, 2]),
        ({"mode": "linear"}, [1, 2, 2, 2]),
        ({"mode": "linear"}, [2, 1, 2, 2]),
    ],
)
def test_resizing_that_is_refused(attrs: dict[str, Any], scales: list[float], tmp_path: Path) -> None:
    proto = model([node("Resize", ["x", "", "s"], ["y"], **attrs)], initializers=[tensor("s", scales)], opset=18)
    with pytest.raises(UnsupportedOperatorError, match="Resize"):
        load(written(proto, tmp_path))


def test_matrices(tmp_path: Path) -> None:
    nodes = [node("Gemm", ["x", "a"], ["g"]), node("Relu", ["g"], ["r"]), node("Gemm", ["r", "b", "g"], ["y"])]
    weights = [tensor("a", random(7, 5)), tensor("b", random(5, 5))]
    check(model(nodes, ("N", 7), weights), tmp_path, 3, 7, ops="linear relu linear add")


def test_two_nodes_with_one_weight_share_it(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "a"], ["g"]), node("MatMul", ["g", "a"], ["y"])]
    graph = check(model(nodes, ("N", 5), [tensor("a", random(5, 5))]), tmp_path, 3, 5)
    assert graph.nodes[0].weights["weight"] is graph.nodes[1].weights["weight"]


# How converters write things ---------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["N", 1, None])
def test_shapes_from_shapes(batch: str | int | None, tmp_path: Path) -> None:
    """``x.view(x.size(0), -1)``, as PyTorch's older exporter writes it."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        constant("zero", 0, np.int64),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        constant("axes", [0], np.int64),
        node("Unsqueeze", ["n", "axes"], ["u"]),
        constant("rest", [-1], np.int64),
        node("Concat", ["u", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    graph = check(model(nodes, (batch, 3, 8, 8)), tmp_path, 1 if batch == 1 else 3, 3, 8, 8, ops="flatten")
    assert graph.shapes[graph.outputs[0]] == (192,)


def test_arithmetic_on_shapes(tmp_path: Path) -> None:
    """Half of the channels, counted at run time, and the batch in a product."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["c"], axis=0),
        node("Div", ["c", "two"], ["h"]),
        node("Slice", ["s", "zero", "one"], ["n"]),
        node("Mul", ["n", "one"], ["m"]),
        node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        node("Floor", ["f"], ["g"]),
        node("Cast", ["g"], ["i"], to=TensorProto.INT64),
        node("Concat", ["i", "two", "h", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    constants = [ints("zero", 0), ints("one", 1), ints("two", 2), ints("rest", -1)]
    graph = check(model(nodes, ("N", 4, 3, 3), constants), tmp_path, 3, 4, 3, 3, ops="reshape")
    assert graph.shapes[graph.outputs[0]] == (2, 2, 9)


def test_weights_that_are_computed(tmp_path: Path) -> None:
    """Constants as nodes, identities of initializers, half precision, a transposed kernel (HWIO)."""
    nodes = [
        node("Identity", ["w"], ["v"]),
        node("Transpose", ["v"], ["oihw"], perm=[3, 2, 0, 1]),
        node("ConstantOfShape", ["four"], ["ones"], value=tensor("", [1.0])),
        node("Cast", ["half"], ["b"], to=TensorProto.FLOAT),
        node("Add", ["ones", "b"], ["bias"]),
        node("Conv", ["x", "oihw", "bias"], ["y"]),
    ]
    constants = [tensor("w", random(3, 3, 3, 4)), ints("four", 4), tensor("half", [1, 2, 3, 4], np.float16)]
    check(model(nodes, initializers=constants), tmp_path, 2, 3, 8, 8, ops="conv2d")


def test_padding_apart_from_the_convolution(tmp_path: Path) -> None:
    nodes = [node("Pad", ["x", "p"], ["z"]), node("Conv", ["z", "w", "b"], ["y"], strides=[2, 2])]
    path = written(model(nodes, initializers=[W, B, ints("p", 0, 0, 0, 0, 0, 0, 1, 1)]), tmp_path)
    check_file(path, random(2, 3, 8, 8))
    assert len(fastconv.load(path).summary().rows) == 1  # rewriting gives the padding to the convolution


def test_transposes_that_cancel(tmp_path: Path) -> None:
    """A channels-last network around channels-first operators."""
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Transpose", ["c"], ["t1"], perm=[0, 2, 3, 1]),
        node("Add", ["t1", "b"], ["a"]),
        node("Relu", ["a"], ["r"]),
        node("Concat", ["r", "a"], ["k"], axis=3),
        node("Pad", ["k", "p"], ["z"]),
        node("Softmax", ["z"], ["f"], axis=-1),
        node("Slice", ["f", "one", "nine", "last"], ["q"]),
        node("Transpose", ["q"], ["t2"], perm=[0, 3, 1, 2]),
        node("Conv", ["t2", "v"], ["d"]),
        node("Transpose", ["d"], ["t3"], perm=[0, 2, 3, 1]),
        node("ReduceMean", ["t3"], ["m"], axes=[1, 2], keepdims=1),
        node("Reshape", ["m", "flat"], ["y"]),
    ]
    constants = [
        W, B, tensor("v", random(2, 7, 3, 3)), ints("p", 0, 1, 0, 0, 0, 0, 2, 0), ints("flat", -1, 2),
        ints("one", 1), ints("nine", 9), ints("last", 3),
    ]  # fmt: skip
    ops = "conv2d batch_norm relu cat pad softmax slice conv2d adaptive_avg_pool2d flatten"
    check(model(nodes, initializers=constants), tmp_path, 2, 3, 8, 8, ops=ops)


def test_transposes_of_one_pixel(tmp_path: Path) -> None:
    nodes = [node("GlobalMaxPool", ["x"], ["g"]), node("Transpose", ["g"], ["y"], perm=[0, 2, 3, 1])]
    graph = check(model(nodes), tmp_path, 2, 3, 8, 8, ops="adaptive_max_pool2d permute")
    assert "permute" not in [step["label"] for step in compile_graph(graph).steps], "nothing moves"


def test_the_batch_may_move_and_come_back(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("Relu", ["t"], ["r"]),
        node("Transpose", ["r"], ["y"], perm=[1, 0, 2]),
    ]
    check(model(nodes, ("N", 5, 6)), tmp_path, 3, 5, 6, ops="relu")


def test_a_fixed_batch_takes_any(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), node("Reshape", ["c", "s"], ["y"])]
    path = written(model(nodes, (1, 3, 8, 8), [W, B, ints("s", 1, -1)]), tmp_path)
    x = random(5, 3, 8, 8)
    one_by_one = np.concatenate([check_one(path, image[np.newaxis]) for image in x])
    np.testing.assert_array_equal(fastconv.load(path)(x), one_by_one)


def check_one(path: Path, x: np.ndarray) -> Any:
    check_file(path, x)
    return fastconv.load(path)(x)


def test_several_outputs_keep_their_names(tmp_path: Path) -> None:
    nodes = [node("Relu", ["x"], ["r"], name="first"), node("Neg", ["r"], ["n"], name="second")]
    graph = check(model(nodes, outputs=["n", "r", "x"]), tmp_path, 2, 3, 8, 8)
    assert graph.output_names == ("n", "r", "x")
    assert graph.outputs == ("second", "first", "x")


def test_names_are_those_of_the_nodes(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["a"], name="act"),
        node("Neg", ["a"], ["b"], name="act"),
        node("Sigmoid", ["b"], ["c"]),
        node("Tanh", ["c"], ["d"], name="input"),
    ]
    graph = load(written(model(nodes), tmp_path))
    assert [item.name for item in graph.nodes] == ["act", "act#2", "c", "input#2"]


def test_nodes_that_nothing_reads_are_left_out(tmp_path: Path) -> None:
    nodes = [node("NonMaxSuppression", ["x", "x"], ["z"]), node("Relu", ["x"], ["y"])]
    assert [item.op for item in load(written(model(nodes), tmp_path)).nodes] == ["relu"]


def test_initializers_that_are_listed_as_inputs(tmp_path: Path) -> None:
    proto = model([node("Conv", ["x", "w", "b"], ["y"])], initializers=[W, B])
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", TensorProto.FLOAT, (4, 3, 3, 3)))
    check(proto, tmp_path, 2, 3, 8, 8)


def test_float64(tmp_path: Path) -> None:
    weight = tensor("w", random(5, 4), np.float64)
    path = written(model([node("MatMul", ["x", "w"], ["y"])], ("N", 5), [weight], dtype=TensorProto.DOUBLE), tmp_path)
    graph = check_file(path, RNG.standard_normal((2, 5)))
    assert graph.dtype == np.float64
    assert fastconv.load(path)(np.ones((1, 5))).dtype == np.float64


def test_float16_is_computed_as_float32(tmp_path: Path) -> None:
    weight = tensor("w", random(4, 3, 3, 3), np.float16)
    path = written(model([node("Conv", ["x", "w"], ["y"])], initializers=[weight], dtype=TensorProto.FLOAT16), tmp_path)
    (conv,) = load(path).nodes
    np.testing.assert_array_equal(conv.weights["weight"], onnx.numpy_helper.to_array(weight).astype(np.float32))


def test_bytes_become_numbers_by_a_cast(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "c"], ["y"]),
    ]
    path = written(model(nodes, initializers=[tensor("c", 1 / 255)], dtype=TensorProto.UINT8), tmp_path)
    check_file(path, RNG.integers(0, 256, (2, 3, 8, 8)).astype(np.uint8))
    path = written(model([node("Neg", ["x"], ["y"])], dtype=TensorProto.INT8), tmp_path)
    with pytest.raises(UnsupportedOperatorError, match="Neg of integers"):
        load(path)


# Sizes that are left open ------------------------------------------------------------------------


def test_open_sizes_are_given(tmp_path: Path) -> None:
    path = written(model([node("Conv", ["x", "w", "b"], ["y"])], ("N", 3, "H", "W"), [W, B]), tmp_path)
    check_file(path, random(2, 3, 8, 9), input_shape=(3, 8, 9))
    with pytest.raises(ShapeError, match=r"net.onnx: input 'x' has the shape \(\?, 3, \?, \?\); pass input_shape="):
        load(path)
    for wrong in [(4, 8, 9), (3, 8), (3, 8, 9, 1)]:
        with pytest.raises(ShapeError, match="does not fit"):
            load(path, wrong)


def test_a_shape_that_is_not_there_is_given(tmp_path: Path) -> None:
    path = written(model([node("Relu", ["x"], ["y"])], None), tmp_path)
    assert load(path, (3, 8, 8)).input_shape == (3, 8, 8)
    with pytest.raises(ShapeError, match="has no shape; pass input_shape="):
        load(path)


# Weights outside ---------------------------------------------------------------------------------


@pytest.mark.parametrize("one_file", [True, False])
def test_external_data(one_file: bool, tmp_path: Path) -> None:
    proto = model([node("Conv", ["x", "w", "b"], ["y"])], initializers=[W, B])
    path = tmp_path / "net.onnx"
    onnx.save(
        onnx.ModelProto.FromString(proto.SerializeToString()), path, save_as_external_data=True,
        all_tensors_to_one_file=one_file, location="weights.bin" if one_file else None, size_threshold=0,
    )  # fmt: skip
    stored = onnx.load(path, load_external_data=False).graph.initializer
    assert all(external_data_helper.uses_external_data(item) for item in stored)
    check_file(path, random(2, 3, 8, 8))


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [[-1, 191], [192, 384], [0, 0], [0, 193], [0, 192, 1]])
def test_places_of_other_images_are_refused(places: list[int], tmp_path: Path) -> None:
    """Of all images flattened each has to give its own, at the same places; (2, 3, 8, 8) has 192 an image."""
    nodes = [node("Reshape", ["x", "all"], ["f"]), node("Gather", ["f", "i"], ["y"])]
    constants = [ints("all", -1), tensor("i", np.reshape(places, (-1, 1)), np.int64)]
    path = written(model(nodes, (2, 3, 8, 8), constants), tmp_path)
    with pytest.raises(UnsupportedOperatorError, match="Gather along the batch"):
        load(path)


REFUSED = {
    "batch_in_a_reshape": ([node("Reshape", ["x", "s"], ["y"])], [ints("s", 1, -1)], "not the batch alone"),
    "flatten_all": ([node("Flatten", ["x"], ["y"], axis=0)], [], "output .y. of a tensor that has not the batch"),
    "batch_into_channels": ([node("Reshape", ["x", "s"], ["y"])], [ints("s", -1, 8)], "not the batch alone"),
    "scaled_by_the_batch": (
        [
            node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]),
            node("Cast", ["n"], ["f"], to=1), node("Div", ["x", "f"], ["y"]),
        ],
        [tensor("zero", 0, np.int64)],
        "Div with a number that depends on the size of the batch",
    ),
    "branch_on_the_batch": (
        [
            node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]),
            node("Less", ["n", "many"], ["l"]), node("Where", ["l", "a", "b"], ["c"]), node("Mul", ["x", "c"], ["y"]),
        ],
        [tensor("zero", 0, np.int64), tensor("many", 5000, np.int64), tensor("a", 1.0), tensor("b", 2.0)],
        "Mul with a number that depends on the size of the batch",
    ),
    "part_of_the_batch": (
        [node("Slice", ["x", "z", "e", "z"], ["y"])], [ints("z", 0), ints("e", 5000)], "Slice along the batch"
    ),
    "one_pixel_of_all_images": (
        [node("Reshape", ["x", "all"], ["f"]), node("Gather", ["f", "i"], ["y"])],
        [ints("all", -1), onnx.numpy_helper.from_array(np.array(3), "i")],
        "Gather along the batch",
    ),
    "softmax_of_the_batch": ([node("Softmax", ["x"], ["y"], axis=0)], [], "Softmax along the batch"),
    "concat_of_the_batch": ([node("Concat", ["x", "x"], ["y"], axis=0)], [], "Concat along the batch"),
    "batch_last": ([node("Transpose", ["x"], ["y"], perm=[1, 2, 3, 0])], [], "has not the batch alone as its first"),
    "quantised": (
        [node("QuantizeLinear", ["x", "s"], ["y"])], [tensor("s", 1.0)], r"QuantizeLinear \(quantised networks"
    ),
    "indices": (
        [node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2]), node("Cast", ["i"], ["y"], to=1)], [],
        "Cast that reads an output which is not computed",
    ),
    "matmul_that_broadcasts": (
        [node("Slice", ["x", "z", "o", "o"], ["p"]), node("MatMul", ["p", "x"], ["y"])], [ints("z", 0), ints("o", 1)],
        "MatMul of two tensors of other leading axes",
    ),
    "power_of_more_axes": (
        [node("Pow", ["x", "e"], ["y"])], [tensor("e", np.full((1,) * 5, 2.0))], "a tensor that has not the batch"
    ),
    "constant_for_each_image": (
        [node("Mul", ["x", "c"], ["y"])], [tensor("c", random(13, 1, 1, 1))], "Mul with a constant that differs between"
    ),
    "constant_output": ([node("Constant", [], ["y"], value=tensor("", 1.0))], [], "does not depend on the input"),
    "training": (
        [node("Dropout", ["x", "r", "t"], ["y"])], [tensor("r", 0.5), tensor("t", True, np.bool_)], "in training mode"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "constants", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(nodes: list[Any], constants: list[Any], message: str, tmp_path: Path) -> None:
    path = written(model(nodes, initializers=constants), tmp_path)
    with pytest.raises(UnsupportedOperatorError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_all_that_is_not_supported_is_named_at_once(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Magic", ["r"], ["m1"], domain="com.example", name="trick"),
        node("NonZero", ["m1"], ["z"], name="count"),
        node("Magic", ["r"], ["m2"], domain="com.example"),
        node("Cosh", ["z"], ["e"]),
        *(node("Det", ["e" if i == 0 else f"d{i - 1}"], [f"d{i}"]) for i in range(5)),
        node("Relu", ["d4"], ["q"]),
        node("Add", ["m2", "q"], ["y"]),
    ]
    with pytest.raises(UnsupportedOperatorError) as caught:
        load(written(model(nodes, domains={"com.example": 1}), tmp_path))
    message = str(caught.value)
    assert "com.example.Magic (2 nodes: 'trick', 'm2')" in message
    assert "NonZero (1 node: 'count')" in message
    assert "Cosh (1 node: 'e')" in message
    assert "Det (5 nodes: 'd0', 'd1', 'd2', ...)" in message
    assert "; nodes that depend on these and were not tried: 2;" in message


def test_what_comes_after_a_refusal_is_looked_at(tmp_path: Path) -> None:
    """Where an operator keeps the shape, those that read its result are named too, and only those that are wrong."""
    nodes = [
        node("LpNormalization", ["x"], ["e"]),
        node("Conv", ["e", "w", "b"], ["c"], name="conv"),
        node("MeanVarianceNormalization", ["c"], ["s"], name="plus"),
        node("Reshape", ["s", "t"], ["r"], name="view"),
        node("Einsum", ["r"], ["q"], equation="ij->ij", name="sum"),
        node("Reshape", ["q", "u"], ["y"], name="lost"),
    ]
    constants = [W, B, ints("t", 0, -1), ints("u", 1, -1)]
    with pytest.raises(UnsupportedOperatorError) as caught:
        load(written(model(nodes, initializers=constants), tmp_path))
    message = str(caught.value).split("not supported: ")[1]
    names = "LpNormalization (1 node: 'e'); MeanVarianceNormalization (1 node: 'plus'); Einsum 'ij->ij' of "
    names += "other than two operands (1 node: "
    assert message == f"{names}'sum'); nodes that depend on these and were not tried: 1; docs/onnx.md lists what is"


def test_weights_outside_may_be_computed_with(tmp_path: Path) -> None:
    """What is computed of them is in proportion to all files, not to the one that names them."""
    weight = tensor("w", np.zeros((2**12, 2**12)))
    nodes = [node("Transpose", ["w"], ["t"]), node("Neg", ["t"], ["n"]), node("MatMul", ["x", "n"], ["y"])]
    onnx.save(
        model(nodes, ("N", 2**12), [weight]), tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin"
    )
    assert load(tmp_path / "net.onnx").nodes[0].weights["weight"].shape == (2**12, 2**12)


def test_inputs(tmp_path: Path) -> None:
    with pytest.raises(DTypeError, match="elements of type INT64; needs FLOAT"):
        load(written(model([node("Relu", ["x"], ["y"])], dtype=TensorProto.INT64), tmp_path))
    with pytest.raises(ShapeError, match="without a batch in front"):
        load(written(model([node("Relu", ["x"], ["y"])], ()), tmp_path))


def test_the_package_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(model([node("Relu", ["x"], ["y"])]), tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r'net.onnx: .*pip install "fastconv\[onnx\]"'):
        fastconv.load(path)


# The tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["functions", "folds"])
def test_every_entry_takes_the_attributes_of_its_operator(table: str) -> None:
    """Of every version since opset 7; the names of inputs must not be taken for attributes."""
    import inspect

    newest = onnx.defs.onnx_opset_version()
    entries = FUNCTIONS if table == "functions" else {name: fold.compute for name, fold in FOLDS.items()}
    for name, function in entries.items():
        parameters = inspect.signature(function).parameters
        if any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
            continue
        for opset in range(7, newest + 1):
            try:
                schema = onnx.defs.get_schema(name, opset, "")
            except onnx.defs.SchemaError:
                continue
            missing = set(schema.attributes) - set(parameters)
            assert not missing, (name, opset)
            required = {k for k, p in parameters.items() if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
            given = {k for k, a in schema.attributes.items() if a.required or a.default_value.type}
            assert required <= given, (name, opset)


def test_the_documentation_names_every_operator() -> None:
    text = (Path(__file__).parents[1] / "docs" / "onnx.md").read_text(encoding="utf-8")
    assert not [name for name in FUNCTIONS if f"`{name}`" not in text and name not in ("Shape", "Size")]
    table = text.split("| family | operators |")[1].split("\n\n")[0]
    named = [name for name in re.findall(r"`([A-Z]\w+)`", table) if name not in FUNCTIONS]
    assert not named, "which the reader does not have"


NEWER: dict[str, tuple[list[Any], list[Any]]] = {
    "squeeze_excite": (
        [
            node("GlobalAveragePool", ["x"], ["g"]), node("Sigmoid", ["g"], ["s"]), node("Mul", ["x", "s"], ["m"]),
            node("HardSwish", ["m"], ["h"]), node("Sub", ["h", "x"], ["d"]), node("Div", ["d", "s"], ["y"]),
        ],
        [],
    ),
    "constants_that_broadcast": (
        [node("Mul", ["x", "row"], ["a"]), node("Add", ["plane", "a"], ["b"]), node("Max", ["b", "x", "row"], ["y"])],
        [tensor("row", random(8)), tensor("plane", random(1, 1, 8, 8))],
    ),
    "channels_last": (
        [
            node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]), node("Mul", ["t", "c"], ["a"]),
            node("LayerNormalization", ["a", "c", "c"], ["b"], axis=-1), node("Gelu", ["b"], ["g"]),
            node("Conv", ["g", "v"], ["y"]),
        ],
        [tensor("c", random(3)), tensor("v", random(2, 8, 1, 1))],
    ),
    "norms": (
        [
            node("InstanceNormalization", ["x", "c", "c"], ["a"]),
            node("GroupNormalization", ["a", "c", "c"], ["b"], num_groups=3), node("Mish", ["b"], ["y"]),
        ],
        [tensor("c", random(3))],
    ),
    "attention": (
        [
            node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]), node("MatMul", ["x", "t"], ["s"]),
            node("Softmax", ["s"], ["p"], axis=-1), node("MatMul", ["p", "x"], ["y"]),
        ],
        [],
    ),
    "products": (
        [
            node("MatMul", ["m", "x"], ["a"]), node("Transpose", ["a"], ["b"], perm=[2, 0, 1, 3]),
            node("Einsum", ["b", "x"], ["c"], equation="hnci,njiw->njhcw"),
            node("Einsum", ["c", "k"], ["y"], equation="njhcw,wk->njhkc"),
        ],
        [tensor("m", random(5, 8)), tensor("k", random(8, 3))],
    ),
    "shuffle": (
        [
            node("Slice", ["x", "zero", "end", "axes", "two"], ["a"]), node("Reshape", ["a", "five"], ["b"]),
            node("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3, 4]), node("Reshape", ["c", "four"], ["y"]),
        ],
        [ints("zero", 0), ints("end", 8), ints("axes", 2), ints("two", 2), ints("five", 0, 3, 2, 2, 8),
         ints("four", 0, 6, 2, 8)],
    ),
    "functions": (
        [
            node("Elu", ["x"], ["a"], alpha=0.5), node("Selu", ["a"], ["b"]), node("Softplus", ["b"], ["c"]),
            node("Pow", ["c", "half"], ["d"]), node("Erf", ["d"], ["e"]), node("Softsign", ["e"], ["f"]),
            node("Div", ["half", "c"], ["g"]), node("Celu", ["g"], ["h"], alpha=2.0), node("Add", ["f", "h"], ["y"]),
        ],
        [tensor("half", 0.5)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "constants"), NEWER.values(), ids=NEWER)
def test_operators_of_newer_networks(nodes: list[Any], constants: list[Any], tmp_path: Path) -> None:
    check(model(nodes, initializers=constants, opset=21), tmp_path, 2, 3, 8, 8)


def test_a_row_for_large_images_is_no_large_constant(tmp_path: Path) -> None:
    nodes = [node("Mul", ["x", "row"], ["y"])]
    load(written(model(nodes, ("N", 3, 3000, 3000), [tensor("row", random(3000))]), tmp_path))


def test_a_norm_of_groups_of_nothing_is_refused(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["x", "i"], ["g"], axis=1),
        node("GroupNormalization", ["g", "c", "c"], ["y"], num_groups=1),
    ]
    constants = [tensor("i", 0, np.int64), tensor("c", random(1))]
    with pytest.raises(ModelFormatError, match="cannot divide"):
        load(written(model(nodes, ("N", 5), constants, opset=21), tmp_path))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_lrn_of_an_even_size(size: int, tmp_path: Path) -> None:
    """As ONNX defines it; ONNX Runtime takes odd sizes only."""
    proto = model([node("LRN", ["x"], ["y"], size=size, alpha=0.5, beta=0.6, bias=1.5)], ("N", 5, 3, 3))
    x = random(2, 5, 3, 3)
    expected = np.empty_like(x)
    for c in range(5):
        around = x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
        expected[:, c] = x[:, c] / (1.5 + 0.5 / size * np.square(around).sum(1)) ** 0.6
    np.testing.assert_allclose(fastconv.load(written(proto, tmp_path))(x), expected, rtol=1e-5)


@pytest.mark.parametrize("op", ["Add", "Mul", "Sub"])
def test_a_constant_beyond_float32(op: str, tmp_path: Path) -> None:
    """A shift or a factor that would silently become infinite."""
    nodes = [
        node("Cast", ["big"], ["wide"], to=TensorProto.DOUBLE),
        node("Mul", ["wide", "wide"], ["c"]),
        node(op, ["x", "c"], ["y"]),
    ]
    path = written(model(nodes, initializers=[tensor("big", 1e30)]), tmp_path)
    with pytest.raises(ModelFormatError, match=f"y: {op} holds a finite number too large for float32"):
        fastconv.load(path)
