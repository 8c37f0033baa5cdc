"""A Hypothesis strategy that draws small networks: branches, joins, every operator, odd sizes.

Nodes are drawn loosely and kept where `Graph` accepts them, so that the space is the one that
models are loaded from, not one that the author of a kernel had in mind.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fastconv.errors import FastconvError
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.ops import FAMILIES
from fastconv.graph.ops.activation import ACTIVATIONS
from fastconv.graph.ops.arithmetic import WHERE
from fastconv.graph.ops.recurrent import GATES, REVERSE

Shape = tuple[int, ...]
Weights = dict[str, np.ndarray]
Drawn = tuple[dict[str, Any], dict[str, tuple[int, ...]]]

# Around the vector widths of every level and their double, a panel.
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33)
LARGEST = 30_000
"""Elements of an activation; keeps a deep drawing from growing without end."""

_small = st.integers(0, 2)
_pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


def _conv2d(draw: st.DrawFn, shape: Shape) -> Drawn:
    channels = shape[0] if shape else 1
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0] or [1]))
    if draw(st.booleans()):
        groups = 1
    out = draw(st.one_of(st.just(channels), st.sampled_from(CHANNELS)))  # equal: a residual fits
    out = groups * max(1, out // groups)
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (5, 5), (2, 2), (1, 3), (4, 1), (2, 5)]))
    attrs = {
        "stride": draw(st.one_of(st.just((1, 1)), _pair)),
        "dilation": draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2), (2, 3)])),
        "padding": draw(st.one_of(st.just("same"), st.integers(0, 2), st.tuples(_small, _small, _small, _small))),
        "groups": groups,
    }
    if attrs["padding"] == "same":
        attrs["stride"] = (1, 1)
    weights: dict[str, tuple[int, ...]] = {"weight": (out, max(1, channels // groups), *kernel)}
    if draw(st.booleans()):
        weights["bias"] = (out,)
    return attrs, weights


def _conv_transpose2d(draw: st.DrawFn, shape: Shape) -> Drawn:
    channels = shape[0] if shape else 1
    groups = draw(st.sampled_from([1, 1, 1, *(g for g in range(1, channels + 1) if channels % g == 0)]))
    out = max(1, draw(st.sampled_from(CHANNELS)) // groups)
    kernel = draw(st.sampled_from([(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (1, 3), (2, 5)]))
    stride, dilation = draw(_pair), draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3)]))
    most = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
    attrs = {
        "stride": stride,
        "dilation": dilation,
        "padding": draw(st.one_of(st.integers(0, 2), st.tuples(_small, _small, _small, _small))),
        "output_padding": (draw(st.integers(0, most[0])), draw(st.integers(0, most[1]))),
        "groups": groups,
    }
    weights: dict[str, tuple[int, ...]] = {"weight": (channels, out, *kernel)}
    if draw(st.booleans()):
        weights["bias"] = (out * groups,)
    return attrs, weights


def _linear(draw: st.DrawFn, shape: Shape) -> Drawn:
    out = draw(st.sampled_from(CHANNELS))
    weights: dict[str, tuple[int, ...]] = {"weight": (out, shape[-1])}
    if draw(st.booleans()):
        weights["bias"] = (out,)
    return {}, weights


def _max_pool2d(draw: st.DrawFn, shape: Shape) -> Drawn:
    attrs = _window(draw)
    attrs["dilation"] = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 2)]))
    return attrs, {}


def _avg_pool2d(draw: st.DrawFn, shape: Shape) -> Drawn:
    attrs = _window(draw)
    attrs["count_include_pad"] = draw(st.booleans())
    attrs["divisor_override"] = draw(st.sampled_from([None, None, 3]))
    return attrs, {}


def _window(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):  # the kind that is fused into a convolution
        return {"kernel_size": draw(st.sampled_from([2, 3, (2, 1), (1, 2), (2, 3)]))}
    return {
        "kernel_size": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "stride": draw(st.one_of(st.none(), _pair)),
        "padding": draw(st.one_of(st.just((0, 0)), st.sampled_from([(1, 1), (0, 1), (2, 1)]))),
        "ceil_mode": draw(st.booleans()),
    }


def _adaptive(draw: st.DrawFn, shape: Shape) -> Drawn:
    size = st.one_of(st.none(), st.integers(1, 5))
    return {"output_size": draw(st.tuples(size, size))}, {}


def _plain(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {}, {}


def _leaky_relu(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"negative_slope": draw(st.sampled_from([0.01, 0.5, 0.0, -0.5, 1.5]))}, {}


def _hardtanh(draw: st.DrawFn, shape: Shape) -> Drawn:
    low, high = draw(st.sampled_from([(-1.0, 1.0), (0.0, 6.0), (-0.5, 0.25), (0.5, 0.75)]))
    return {"min_val": low, "max_val": high}, {}


def _alpha(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"alpha": draw(st.sampled_from([1.0, 0.5, 1.5]))}, {}


def _softplus(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"beta": draw(st.sampled_from([1.0, 0.5, 2.0])), "threshold": draw(st.sampled_from([20.0, 3.0]))}, {}


def _gelu(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"approximate": draw(st.sampled_from(["none", "tanh"]))}, {}


def _softmax(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"dim": draw(st.integers(1, len(shape)))}, {}


def _batch_norm(draw: st.DrawFn, shape: Shape) -> Drawn:
    weights: dict[str, tuple[int, ...]] = {"running_mean": shape[:1], "running_var": shape[:1]}
    if draw(st.booleans()):
        weights |= {"weight": shape[:1], "bias": shape[:1]}
    return {}, weights


def _layer_norm(draw: st.DrawFn, shape: Shape) -> Drawn:
    normalized = shape[draw(st.integers(0, len(shape) - 1)) :]
    roles = draw(st.sampled_from([(), ("weight",), ("weight", "bias")]))
    return {"normalized_shape": normalized, "eps": 0.1}, dict.fromkeys(roles, normalized)


def _rms_norm(draw: st.DrawFn, shape: Shape) -> Drawn:
    attrs, weights = _layer_norm(draw, shape)
    return attrs, {role: size for role, size in weights.items() if role == "weight"}


def _group_norm(draw: st.DrawFn, shape: Shape) -> Drawn:
    groups = draw(st.sampled_from([g for g in range(1, shape[0] + 1) if shape[0] % g == 0]))
    roles = draw(st.sampled_from([(), ("weight",), ("weight", "bias")]))
    return {"num_groups": groups, "eps": 0.1}, dict.fromkeys(roles, shape[:1])


def _pad(draw: st.DrawFn, shape: Shape) -> Drawn:
    mode = draw(st.sampled_from(["constant", "constant", "reflect", "replicate", "circular"]))
    axes = draw(st.integers(1, len(shape)))
    widths = draw(st.lists(st.integers(-1, 3), min_size=2 * axes, max_size=2 * axes))
    value = draw(st.sampled_from([0.0, 0.0, 0.5, -2.0])) if mode == "constant" else 0.0
    return {"padding": tuple(widths), "mode": mode, "value": value}, {}


def _flatten(draw: st.DrawFn, shape: Shape) -> Drawn:
    start = draw(st.sampled_from([1, 1, 1, *range(1, len(shape) + 1)]))
    end = draw(st.sampled_from([-1, -1, -1, *range(start, len(shape) + 1)]))
    return {"start_dim": start, "end_dim": end}, {}


def _reshape(draw: st.DrawFn, shape: Shape) -> Drawn:
    rest, sizes = prod(shape), []
    for _ in range(draw(st.integers(0, 2))):
        size = draw(st.sampled_from([k for k in range(1, 65) if rest % k == 0]))
        sizes.append(size)
        rest //= size
    sizes.insert(draw(st.integers(0, len(sizes))), rest)
    return {"shape": tuple(sizes)}, {}


def _interpolate(draw: st.DrawFn, shape: Shape) -> Drawn:
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "linear", "bilinear", "bicubic"]))
    attrs: dict[str, Any] = {"mode": mode}
    if not mode.startswith("nearest"):
        attrs["align_corners"] = draw(st.booleans())
    if mode == "linear":
        attrs["size"] = (shape[1] if len(shape) > 1 else 1, draw(st.integers(1, 20)))
    elif draw(st.booleans()):
        attrs["size"] = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    else:
        attrs["scale_factor"] = draw(st.sampled_from([(2.0, 2.0), (1.5, 0.75), (3.0, 1.0), (0.6, 2.3)]))
    return attrs, {}


def _grid_sample(draw: st.DrawFn, shape: Shape) -> Drawn:
    attrs = {
        "mode": draw(st.sampled_from(["bilinear", "nearest", "bicubic"])),
        "padding_mode": draw(st.sampled_from(["zeros", "border", "reflection"])),
        "align_corners": draw(st.booleans()),
    }
    return attrs, {"grid": (draw(st.integers(1, 12)), draw(st.integers(1, 12)), 2)}


def _pixel_shuffle(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"upscale_factor": draw(st.sampled_from([1, 2, 3]))}, {}


def _pixel_unshuffle(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"downscale_factor": draw(st.sampled_from([1, 2, 3]))}, {}


def _channel_shuffle(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"groups": draw(st.sampled_from([g for g in range(1, shape[0] + 1) if shape[0] % g == 0]))}, {}


def _permute(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"dims": (0, *draw(st.permutations(range(1, len(shape) + 1))))}, {}


def _slice(draw: st.DrawFn, shape: Shape) -> Drawn:
    dim = draw(st.integers(1, len(shape)))
    start = draw(st.integers(0, shape[dim - 1] - 1))
    end = draw(st.one_of(st.none(), st.integers(start + 1, shape[dim - 1])))
    return {"dim": dim, "start": start, "end": end, "step": draw(st.integers(1, 3))}, {}


def _constant(draw: st.DrawFn, shape: Shape) -> Drawn:
    sizes = st.integers(1, 9)
    return {}, {"value": tuple(draw(st.lists(sizes, min_size=1, max_size=4)))}


def _pow(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"exponent": draw(st.sampled_from([2.0, 3.0, 1.0, 0.0, 4.0]))}, {}


def _threshold(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"threshold": draw(st.sampled_from([0.0, -0.5])), "value": draw(st.sampled_from([0.0, 3.0]))}, {}


def _lambd(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"lambd": draw(st.sampled_from([0.5, 0.0, 1.25]))}, {}


def _prelu(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {}, {"weight": draw(st.sampled_from([(1,), shape[:1]]))}


def _local_response_norm(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"size": draw(st.integers(1, 6)), "alpha": draw(st.sampled_from([1e-4, 0.5])), "beta": 0.75, "k": 2.0}, {}


def _dims(draw: st.DrawFn, shape: Shape) -> Drawn:
    axes = draw(st.lists(st.integers(1, len(shape)), min_size=1, max_size=len(shape), unique=True))
    return {"dim": tuple(axes), "keepdim": draw(st.booleans())}, {}


def _dim(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"dim": draw(st.integers(1, len(shape))), "keepdim": draw(st.booleans())}, {}


def _axis(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"dim": draw(st.integers(1, len(shape)))}, {}


def _topk(draw: st.DrawFn, shape: Shape) -> Drawn:
    dim = draw(st.integers(1, len(shape)))
    k = draw(st.integers(1, shape[dim - 1]))
    return {"dim": dim, "k": k, "largest": draw(st.booleans()), "indices": draw(st.booleans())}, {}


def _recurrent(op: str) -> Callable[[st.DrawFn, Shape], Drawn]:
    def draw_one(draw: st.DrawFn, shape: Shape) -> Drawn:
        hidden, rows = draw(st.sampled_from(CHANNELS)), GATES[op]
        weights: dict[str, tuple[int, ...]] = {}
        for way in ("", REVERSE)[: draw(st.integers(1, 2))]:
            weights[f"weight_ih{way}"] = (rows * hidden, shape[-1])
            weights[f"weight_hh{way}"] = (rows * hidden, hidden)
            for role in ("bias_ih", "bias_hh"):
                if draw(st.booleans()):
                    weights[role + way] = (rows * hidden,)
        if op == "rnn":
            return {"nonlinearity": draw(st.sampled_from(["tanh", "relu"]))}, weights
        return {"cells" if op == "lstm" else "linear_before_reset": draw(st.booleans())}, weights

    return draw_one


def _flip(draw: st.DrawFn, shape: Shape) -> Drawn:
    return {"dims": tuple(draw(st.lists(st.integers(1, len(shape)), min_size=1, unique=True)))}, {}


def _expand(draw: st.DrawFn, shape: Shape) -> Drawn:
    more = st.integers(2, 7)
    return {"shape": tuple(draw(more) if size == 1 else draw(st.sampled_from([-1, size])) for size in shape)}, {}


def _index_select(draw: st.DrawFn, shape: Shape) -> Drawn:
    dim = draw(st.integers(1, len(shape)))
    size = shape[dim - 1]
    return {"dim": dim, "index": tuple(draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=9)))}, {}


def _vector_norm(draw: st.DrawFn, shape: Shape) -> Drawn:
    attrs, _ = _dims(draw, shape)
    return {**attrs, "ord": draw(st.sampled_from([1.0, 2.0, float("inf")]))}, {}


def _variance(draw: st.DrawFn, shape: Shape) -> Drawn:
    attrs, _ = _dims(draw, shape)
    return {**attrs, "correction": draw(st.sampled_from([0.0, 1.0]))}, {}


OPS: dict[str, Callable[[st.DrawFn, Shape], Drawn]] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "linear": _linear,
    **{name: _plain for name, row in ACTIVATIONS.items() if not row.parameters},
    "leaky_relu": _leaky_relu,
    "hardtanh": _hardtanh,
    "gelu": _gelu,
    "elu": _alpha,
    "celu": _alpha,
    "softplus": _softplus,
    "pow": _pow,
    "threshold": _threshold,
    "hardshrink": _lambd,
    "softshrink": _lambd,
    "prelu": _prelu,
    "local_response_norm": _local_response_norm,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "pad": _pad,
    "flatten": _flatten,
    "reshape": _reshape,
    "interpolate": _interpolate,
    "grid_sample": _grid_sample,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "permute": _permute,
    "slice": _slice,
    **dict.fromkeys(("mean", "sum", "prod", "amax", "amin", "logsumexp"), _dims),
    "cumsum": _axis,
    "topk": _topk,
    **{op: _recurrent(op) for op in FAMILIES["recurrent"]},
    "flip": _flip,
    "expand": _expand,
    "index_select": _index_select,
    "argmax": _dim,
    "argmin": _dim,
    "vector_norm": _vector_norm,
    "var": _variance,
    "std": _variance,
    "constant": _constant,
    "identity": _plain,
    "dropout": _plain,
}
ARITHMETIC = tuple(op for op in FAMILIES["arithmetic"] if op not in ("where", "prelu"))
JOINS = ("matmul", "cat", "where", *ARITHMETIC)
"""Drawn with partners that are there already, in `draw_node`."""

# Of what they take there may be none, or a small error of it becomes a large one: not after just any node.
SENSITIVE = {
    ("tanh", "exp"): 1,
    ("softplus", "log"): 1,
    ("softplus", "sqrt"): 1,
    ("softplus", "rsqrt"): 1,
    ("softplus", "reciprocal"): 1,
    ("softplus", "float_power"): 1,
    ("tanh", "pow"): 1,
}
_SENSITIVE = {motif[-1] for motif in SENSITIVE}

# Functions with steps, over which rounding may move a value: they are drawn on the input alone (test_steps.py).
DISCONTINUOUS = {
    "argmax", "argmin", "topk", "floor", "ceil", "round", "trunc", "sign", "isnan", "logical_not", "threshold",
    "hardshrink", "fmod", "remainder", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or",
    "logical_xor", "where",
}  # fmt: skip
_APART = {"conv2d", "linear", *_SENSITIVE, *DISCONTINUOUS}

# What is drawn at once, and how often: mostly what networks are made of, and what is fused.
_Motifs = dict[tuple[str, ...], int]
FOR_IMAGES: _Motifs = {
    ("conv2d",): 6,
    ("conv2d", "relu"): 2,
    **{("conv2d", name): 1 for name in ACTIVATIONS if name != "relu" and name not in _APART},
    **SENSITIVE,
    ("conv2d", "max_pool2d"): 2,
    ("conv2d", "relu", "max_pool2d"): 2,
    ("conv2d", "avg_pool2d"): 1,
    ("conv2d", "batch_norm", "tanh", "avg_pool2d"): 1,
    ("conv2d", "batch_norm", "relu"): 2,
    ("conv2d", "batch_norm", "add", "relu"): 2,
    ("conv2d", "add"): 2,
    ("conv_transpose2d", "batch_norm", "relu"): 2,
    ("add",): 2,
    ("adaptive_avg_pool2d", "conv2d", "sigmoid", "mul"): 2,
    ("matmul", "tanh"): 2,
    ("sub",): 1,
    ("mul",): 1,
    ("div",): 1,
    ("maximum",): 1,
    ("minimum",): 1,
    ("cat",): 4,
    ("pad", "conv2d"): 1,
    ("flatten", "linear", "relu"): 2,
    ("linear",): 1,
    **{(op,): 1 for op in OPS if op not in _APART},
}
FOR_OTHERS: _Motifs = {
    ("linear", "relu"): 2,
    ("linear", "add", "sigmoid"): 1,
    ("linear", "batch_norm"): 1,
    ("add",): 1,
    ("sub",): 1,
    ("mul", "tanh"): 1,
    ("div",): 1,
    ("maximum",): 1,
    ("minimum",): 1,
    ("cat",): 2,
    ("reshape",): 2,
    ("reshape", "permute", "reshape"): 2,
    **SENSITIVE,
    ("linear",): 1,
    **{(op,): 1 for op in OPS if "pool" not in op and "conv" not in op and op not in _APART},
}


def _weighted(motifs: _Motifs) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sampled_from([motif for motif, weight in motifs.items() for _ in range(weight)])


_FOR_IMAGES, _FOR_OTHERS = _weighted(FOR_IMAGES), _weighted(FOR_OTHERS)


def weights_of(shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> Weights:
    """Return float32 weights that keep activations near one, batch norm's variances positive."""
    weights = {}
    for role, shape in shapes.items():
        values = rng.standard_normal(shape)
        if role.startswith("weight") and len(shape) > 1:
            values /= np.sqrt(max(1, prod(shape[1:])))
        elif role == "running_var":
            values = rng.uniform(0.5, 2.0, shape)
        weights[role] = values.astype(np.float32)
    return weights


@st.composite
def graphs(draw: st.DrawFn, max_motifs: int = 6, max_inputs: int = 1) -> Graph:
    """Draw a float32 network; mostly of images, with one to three outputs, and one input unless more are asked for."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs: dict[str, Shape] = {INPUT: _input_shape(draw)}
    if max_inputs > 1:
        for index in range(draw(st.integers(2, max_inputs)) - 1):
            # Mostly of the first one's shape, so that both can be joined.
            inputs[f"in{index}"] = draw(st.sampled_from([*inputs.values()] * 2 + [_input_shape(draw)]))
    nodes: list[Node] = []
    shapes = dict(inputs)
    for _ in range(draw(st.sampled_from(range(1, max_motifs + 1)))):
        names = [name for name, its in shapes.items() if its]
        source = draw(st.sampled_from([*names, *names[-3:], *names[-1:]]))  # late ones more often
        for op in draw(_FOR_IMAGES if len(shapes[source]) == 3 else _FOR_OTHERS):
            node = draw_node(draw, f"{op}_{len(nodes)}", op, source, shapes, rng)
            try:
                graph = Graph(inputs, (*nodes, node), (node.name,))
            except FastconvError:
                break  # PyTorch refuses it, too
            if not 0 < prod(graph.shapes[node.name]) <= LARGEST:
                break
            nodes.append(node)
            shapes[node.name] = graph.shapes[node.name]
            source = node.name
    if not nodes:
        nodes.append(Node("relu", "relu", (INPUT,), {}, {}))
    names = [node.name for node in nodes]
    others = draw(st.lists(st.sampled_from(names), max_size=2))
    return Graph(inputs, tuple(nodes), (names[-1], *others))


def _input_shape(draw: st.DrawFn) -> Shape:
    channels, size = draw(st.sampled_from(CHANNELS)), st.integers(1, 17)
    kind = draw(st.sampled_from(["image"] * 8 + ["vector", "sequence"]))
    if kind == "image":
        return (channels, draw(size), draw(size))
    return (draw(size), channels) if kind == "sequence" else (channels,)


def _broadcasts(first: Shape, second: Shape) -> bool:
    return len(first) == len(second) and all(a == b or 1 in (a, b) for a, b in zip(first, second, strict=True))


def _where(draw: st.DrawFn, name: str, source: str, shapes: dict[str, Shape], rng: np.random.Generator) -> Node:
    """Draw a choice, of which any two of three may be constants."""
    roles = draw(st.lists(st.sampled_from(WHERE), unique=True, max_size=2))
    constants = {}
    for role in roles:
        sizes = [draw(st.sampled_from([1, size])) for size in shapes[source]][draw(st.integers(0, 1)) :]
        values = rng.standard_normal(sizes)
        constants[role] = np.asarray(values > 0 if role == "condition" else values, np.float32)
    partners = [other for other, its in shapes.items() if its == shapes[source]]
    more = [draw(st.sampled_from(partners)) for _ in range(2 - len(constants))]
    return Node(name, "where", (source, *more), {}, constants)


def draw_node(
    draw: st.DrawFn,
    name: str,
    op: str,
    source: str,
    shapes: dict[str, Shape],
    rng: np.random.Generator,
) -> Node:
    """Draw a node of this operator on `source`, with weights and, for a join, partners."""
    shape = shapes[source]
    if op == "matmul":
        partners = [other for other, its in shapes.items() if len(its) == len(shape) and its[-2:-1] == shape[-1:]]
        return Node(name, op, (source, draw(st.sampled_from(partners or [source]))), {}, {})
    if op == "where":
        return _where(draw, name, source, shapes, rng)
    if op in ARITHMETIC:
        if op in ("div", "float_power", "fmod", "remainder") or draw(
            st.booleans()
        ):  # a constant that broadcasts, and by which one can divide
            sizes = [draw(st.sampled_from([1, size])) for size in shape][draw(st.integers(0, len(shape))) :]
            other = rng.uniform(0.5, 2, sizes) * (rng.choice([-1, 1], sizes) if op != "float_power" else 1)
            return Node(name, op, (source,), {}, {"other": np.asarray(other, np.float32)})
        partners = [other for other, its in shapes.items() if its == shape or _broadcasts(shape, its)]
        return Node(name, op, (source, draw(st.sampled_from(partners))), {}, {})
    if op == "cat":
        dim = draw(st.sampled_from([1, *range(1, len(shape) + 1)]))
        rest = shape[: dim - 1] + shape[dim:]
        partners = [
            other for other, its in shapes.items() if len(its) == len(shape) and its[: dim - 1] + its[dim:] == rest
        ]
        more = draw(st.lists(st.sampled_from(partners), min_size=1, max_size=2))
        return Node(name, op, (source, *more), {"dim": dim}, {})
    attrs, weights = OPS[op](draw, shape)
    return Node(name, op, (source,), attrs, weights_of(weights, rng))
