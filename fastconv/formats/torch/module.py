"""Graph -> ``torch.nn.Module``: each node by the function of ``torch.nn.functional`` of its name.

For comparison, and for going on with a model in PyTorch; see
:func:`fastconv.formats.torch.to_torch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...graph import Graph, Node, array_id
from ...graph.ops import FAMILIES
from ...graph.ops.activation import ACTIVATIONS
from ...graph.ops.arithmetic import WHERE
from ...graph.ops.recurrent import ROLES, directions

Weights = Mapping[str, Tensor]


class GraphModule(torch.nn.Module):
    """Computes a Graph. Running statistics are buffers, all other weights parameters.

    Parameters
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        self._keys: dict[str, dict[str, str]] = {}  # node -> role -> key in the state_dict
        known: dict[tuple[int, tuple[int, ...]], str] = {}
        for node in graph.nodes:
            keys = self._keys[node.name] = {}
            for role, array in node.weights.items():
                identity = array_id(array)
                if identity not in known:
                    known[identity] = self._register(node, role)
                keys[role] = known[identity]
        self.eval()

    def _register(self, node: Node, role: str) -> str:
        key = f"{node.name}_{role}".replace(".", "_")
        while hasattr(self, key):
            key += "_"
        tensor = torch.tensor(node.weights[role])
        if role.startswith("running_"):
            self.register_buffer(key, tensor)
        else:
            self.register_parameter(key, torch.nn.Parameter(tensor))
        return key

    def extra_repr(self) -> str:
        """The graph, a node per line."""
        return str(self._graph)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the outputs for a batch of each input, (N, *shape), in order: a tensor, or a tuple of several."""
        values = dict(zip(self._graph.inputs, inputs, strict=True))
        for node in self._graph.nodes:
            weights = {role: getattr(self, key) for role, key in self._keys[node.name].items()}
            values[node.name] = _run(node, weights, *(values[name] for name in node.inputs))
        outputs = tuple(values[name] for name in self._graph.outputs)
        return outputs if len(outputs) > 1 else outputs[0]


def _run(node: Node, weights: Weights, x: Tensor, *others: Tensor) -> Tensor:
    """One node, with what may be fused into it: residual, activation, pooling."""
    attrs = dict(node.attrs)
    activation, pool = attrs.pop("activation", None), attrs.pop("pool", None)
    special = _SPECIAL.get(node.op)
    if special is not None:
        y = special(attrs, weights, x, *others)
    elif node.op in ACTIVATIONS:
        y = _activate(x, node.op, *attrs.values())
    else:
        y = getattr(F, node.op)(x, *others, **weights, **attrs)
    if activation is not None:
        y = _activate(y, *activation)
    if pool is not None:
        y = getattr(F, f"{pool[0]}_pool2d")(y, pool[1:3], pool[3:5])
    return y


def _activate(x: Tensor, name: str, *parameters: float) -> Tensor:
    called = ACTIVATIONS[name].torch
    if name == "gelu":  # its parameter is by keyword only
        return F.gelu(x, approximate=str(parameters[0]))
    y: Tensor = getattr(F if hasattr(F, called) else torch, called)(x, *parameters)
    return _as(x, y)


def _as(x: Tensor, y: Tensor) -> Tensor:
    """Truths, indices and powers as numbers of the network's type."""
    return y if y.dtype == x.dtype else y.to(x.dtype)


# The ops that are called otherwise in PyTorch: attributes, weights, inputs -> output.


def _conv2d(attrs: dict[str, Any], weights: Weights, x: Tensor, *residual: Tensor) -> Tensor:
    arguments: dict[str, Any] = {**attrs, **weights}
    top, bottom, left, right = arguments.pop("padding")
    if (top, left) == (bottom, right):
        arguments["padding"] = top, left
    else:
        x = F.pad(x, (left, right, top, bottom))
    y: Tensor = F.conv2d(x, **arguments)
    return y + residual[0] if residual else y


def _conv_transpose2d(attrs: dict[str, Any], weights: Weights, x: Tensor) -> Tensor:
    arguments: dict[str, Any] = {**attrs, **weights}
    top, bottom, left, right = arguments.pop("padding")
    if (top, left) == (bottom, right):
        return F.conv_transpose2d(x, padding=(top, left), **arguments)
    y = F.conv_transpose2d(x, **arguments)
    return y[..., top : y.shape[-2] - bottom, left : y.shape[-1] - right]


def _linear(attrs: dict[str, Any], weights: Weights, x: Tensor, *residual: Tensor) -> Tensor:
    y = F.linear(x, **weights)
    return y + residual[0] if residual else y


def _pad(attrs: dict[str, Any], weights: Weights, x: Tensor) -> Tensor:
    if attrs["mode"] == "constant":
        return F.pad(x, attrs["padding"], value=attrs["value"])
    return F.pad(x, attrs["padding"], attrs["mode"])


def _interpolate(attrs: dict[str, Any], weights: Weights, x: Tensor) -> Tensor:
    size = attrs["size"] if attrs["scale_factor"] is None else None
    align = None if attrs["mode"].startswith("nearest") else attrs["align_corners"]
    return F.interpolate(x, size, attrs["scale_factor"], attrs["mode"], align)


def _grid_sample(attrs: dict[str, Any], weights: Weights, x: Tensor, *grid: Tensor) -> Tensor:
    places = grid[0] if grid else weights["grid"].expand(len(x), -1, -1, -1)
    return F.grid_sample(x, places, **attrs)


def _slice(attrs: dict[str, Any], weights: Weights, x: Tensor) -> Tensor:
    kept = slice(attrs["start"], attrs["end"], attrs["step"])
    return x[(slice(None),) * attrs["dim"] + (kept,)]


def _arithmetic(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda attrs, weights, x, *other: _as(x, function(x, *(other or (weights["other"],))))


def _where(attrs: dict[str, Any], weights: Weights, *inputs: Tensor) -> Tensor:
    given = iter(inputs)
    condition, x, y = (weights[role] if role in weights else next(given) for role in WHERE)
    return torch.where(condition != 0, x, y)


def _reduction(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda attrs, _, x: _as(x, function(x, **attrs))


def _prod(attrs: dict[str, Any], weights: Weights, x: Tensor) -> Tensor:
    for dim in reversed(attrs["dim"]):  # PyTorch's takes one axis
        x = x.prod(dim, keepdim=attrs["keepdim"])
    return x


def _recurrent(op: str) -> Callable[..., Tensor]:
    states = 2 if op == "lstm" else 1

    def compute(attrs: dict[str, Any], weights: Weights, x: Tensor, *before: Tensor) -> Tensor:
        """All leading axes are one in PyTorch, where a state is (directions, N, H)."""
        ways, hidden = directions(weights), weights["weight_hh"].shape[1]
        none = x.new_zeros(weights["weight_hh"].shape[0])
        params = [weights.get(role + way, none) for way in ways for role in ROLES]
        y = x.flatten(0, -3)
        state = before[0] if before else x.new_zeros(states * len(ways) * hidden).expand(len(y), -1)
        hx = state.reshape(len(y), states, len(ways), hidden).permute(1, 2, 0, 3).contiguous().unbind(0)
        if attrs.get("cells") or not attrs.get("linear_before_reset", True):
            y = _by_steps(op, attrs, y, hx, params)
        else:
            name = f"rnn_{attrs['nonlinearity']}" if op == "rnn" else op
            given = list(hx) if states > 1 else hx[0]
            y = getattr(torch, name)(y, given, params, True, 1, 0.0, False, len(ways) > 1, True)[0]
        return y.reshape(*x.shape[:-1], -1)

    return compute


def _by_steps(op: str, attrs: dict[str, Any], x: Tensor, hx: tuple[Tensor, ...], params: Sequence[Tensor]) -> Tensor:
    """What PyTorch's functions for sequences do not give: the cells of all steps, GRUs that reset first."""
    found: list[list[Tensor]] = [[] for _ in hx]
    for way in range(len(params) // 4):
        own, state = params[4 * way : 4 * way + 4], tuple(each[way] for each in hx)
        steps: list[tuple[Tensor, ...]] = []
        for now in x.unbind(1)[:: -1 if way else 1]:
            state = torch.lstm_cell(now, state, *own) if op == "lstm" else (_reset_first(now, state[0], *own),)
            steps.append(state)
        for results, each in zip(found, zip(*steps[:: -1 if way else 1], strict=True), strict=True):
            results.append(torch.stack(each, 1))
    return torch.cat([result for results in found for result in results], -1)


def _reset_first(
    x: Tensor, h: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> Tensor:
    """A step of a GRU whose reset gate comes before the product."""
    x_r, x_z, x_n = F.linear(x, weight_ih, bias_ih).chunk(3, -1)
    size = h.shape[-1]
    h_r, h_z = F.linear(h, weight_hh[: 2 * size], bias_hh[: 2 * size]).chunk(2, -1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + F.linear(r * h, weight_hh[2 * size :], bias_hh[2 * size :]))
    return n + z * (h - n)


_SPECIAL: dict[str, Callable[..., Tensor]] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "linear": _linear,
    "pad": _pad,
    "flatten": lambda attrs, _, x: x.flatten(attrs["start_dim"], attrs["end_dim"]),
    "reshape": lambda attrs, _, x: x.reshape(len(x), *attrs["shape"]),
    "matmul": lambda attrs, _, x, other: x @ other,
    "interpolate": _interpolate,
    "grid_sample": _grid_sample,
    "pixel_shuffle": lambda attrs, _, x: F.pixel_shuffle(x, attrs["upscale_factor"][0]),
    "pixel_unshuffle": lambda attrs, _, x: F.pixel_unshuffle(x, attrs["downscale_factor"][0]),
    "permute": lambda attrs, _, x: x.permute(attrs["dims"]),
    "slice": _slice,
    "constant": lambda attrs, weights, x: weights["value"].expand(len(x), *weights["value"].shape),
    "identity": lambda attrs, _, x: x,
    "dropout": lambda attrs, _, x: F.dropout(x, attrs["p"], training=False),
    **{op: _reduction(getattr(torch, op)) for op in FAMILIES["reduce"] if op not in ("prod", "vector_norm")},
    "prod": _prod,
    "vector_norm": _reduction(torch.linalg.vector_norm),
    **{op: _arithmetic(getattr(torch, op)) for op in FAMILIES["arithmetic"] if op != "where"},
    "where": _where,
    "prelu": lambda attrs, weights, x: F.prelu(x, weights["weight"]),
    "flip": lambda attrs, _, x: x.flip(attrs["dims"]),
    "expand": lambda attrs, _, x: x.expand(-1, *attrs["shape"]),
    "index_select": lambda attrs, _, x: x.index_select(
        attrs["dim"], torch.tensor(attrs["index"], dtype=torch.int64, device=x.device)
    ),
    "cumsum": lambda attrs, _, x: x.cumsum(attrs["dim"]),
    "topk": lambda attrs, _, x: _as(x, x.topk(attrs["k"], attrs["dim"], attrs["largest"])[int(attrs["indices"])]),
    **{op: _recurrent(op) for op in FAMILIES["recurrent"]},
    "cat": lambda attrs, _, *tensors: torch.cat(tensors, attrs["dim"]),
}
