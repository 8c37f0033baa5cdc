"""Nodes of a Graph as calls of the rules of `fastconv.grad`.

A node becomes a chain of `Call`s: mostly one, of the function of `fastconv.functional` that is called like its
operator. `STEPS` has the operators whose attributes are not that function's arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import functional
from ..errors import UnsupportedOperatorError
from ..functional.one_op import Array
from ..grad.rule import Backward, Rule
from ..grad.table import rule_of
from ..graph import Node

__all__ = ["Call", "backward", "calls_of", "forward"]

Attributes: TypeAlias = Mapping[str, Any]
Steps: TypeAlias = Sequence[tuple[str, Attributes]]  # functions in turn, and their arguments but the arrays

MOMENTUM = 0.1  # of a batch norm's running statistics: PyTorch's default


class Call(NamedTuple):
    """One call of a rule."""

    rule: Rule
    inputs: tuple[str, ...]  # its arguments that are values of the network, in the node's order
    weights: Mapping[str, str]  # its arguments that are the node's weights -> their role
    arguments: Attributes  # all others
    gathers: bool = False  # its one input is the sequence of all values


def _conv2d(attrs: Attributes) -> Steps:
    top, bottom, left, right = attrs["padding"]
    if (top, left) == (bottom, right):
        return (("conv2d", {**attrs, "padding": (top, left)}),)
    return ("pad", {"pad": (left, right, top, bottom)}), ("conv2d", {**attrs, "padding": 0})


def _conv_transpose2d(attrs: Attributes) -> Steps:
    top, bottom, left, right = attrs["padding"]
    if (top, left) == (bottom, right):
        return (("conv_transpose2d", {**attrs, "padding": (top, left)}),)
    return ("conv_transpose2d", {**attrs, "padding": 0}), ("pad", {"pad": (-left, -right, -top, -bottom)})


def _pad(attrs: Attributes) -> Steps:
    return (("pad", {"pad": attrs["padding"], "mode": attrs["mode"], "value": attrs["value"] or None}),)


def _slice(attrs: Attributes) -> Steps:
    index = np.arange(attrs["start"], attrs["end"], attrs["step"])
    return (("index_select", {"dim": attrs["dim"], "index": index}),)


def _prod(attrs: Attributes) -> Steps:
    """One axis after the other, from the last on."""
    return [("prod", {"dim": dim, "keepdim": attrs["keepdim"]}) for dim in reversed(attrs["dim"])]


def _interpolate(attrs: Attributes) -> Steps:
    mode = "bilinear" if attrs["mode"] == "linear" else attrs["mode"]  # the height stays
    return (("interpolate", {**attrs, "mode": mode, "align_corners": attrs["align_corners"] or None}),)


def _shuffled(function: str, factor: str) -> Callable[[Attributes], Steps]:
    def steps(attrs: Attributes) -> Steps:
        vertical, horizontal = attrs[factor]
        if vertical != horizontal:
            raise UnsupportedOperatorError(f"{function} has no gradient for factors that differ, {attrs[factor]}")
        return ((function, {factor: vertical}),)

    return steps


def _topk(attrs: Attributes) -> Steps:
    if attrs["indices"]:
        raise UnsupportedOperatorError("topk's indices have no gradient")
    return (("topk", {name: attrs[name] for name in ("k", "dim", "largest")}),)


STEPS: dict[str, Callable[[Attributes], Steps]] = {
    "batch_norm": lambda attrs: (("batch_norm", {**attrs, "momentum": MOMENTUM}),),
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "expand": lambda attrs: (("broadcast_to", {"shape": (-1, *attrs["shape"])}),),
    "identity": lambda attrs: (),
    "interpolate": _interpolate,
    "pad": _pad,
    "pixel_shuffle": _shuffled("pixel_shuffle", "upscale_factor"),
    "pixel_unshuffle": _shuffled("pixel_unshuffle", "downscale_factor"),
    "prod": _prod,
    "reshape": lambda attrs: (("reshape", {"shape": (-1, *attrs["shape"])}),),
    "slice": _slice,
    "topk": _topk,
}


def _dropout(input: Array, p: float, rng: np.random.Generator) -> tuple[Array, Backward]:
    scale = (rng.random(input.shape, np.float32) >= p) * np.float32(1 / (1 - p) if p < 1 else 0)
    return input * scale, lambda g, wanted: {"input": g * scale}


def _where(condition: Array, **others: Any) -> tuple[Array, Backward]:
    """Choose by numbers, as a Graph does, instead of bools."""
    rule = rule_of("where")
    assert rule is not None
    result: tuple[Array, Backward] = rule(condition=np.asarray(condition != 0), **others)
    return result


def calls_of(node: Node, training: bool, rng: np.random.Generator) -> tuple[Call, ...]:
    """Return what computes a node.

    Parameters
    ----------
    training
        Whether batch norm takes the batch's own statistics and moves the running ones, and dropout drops.
    rng
        What dropout draws from.

    Raises
    ------
    UnsupportedOperatorError
        It has no gradient.
    """
    attrs = dict(node.attrs)
    fused = [attrs.pop(name, None) for name in ("activation", "pool")]
    if any(fused) or (node.op in ("conv2d", "linear") and len(node.inputs) > 1):
        raise UnsupportedOperatorError(
            f"{node.name}: {node.op} has no gradient with what was fused into it; train the Graph as it was before "
            "it was rewritten, such as model.graph"
        )
    if node.op == "dropout":
        return (Call(_dropout, ("input",), {}, {"p": attrs["p"], "rng": rng}),) if training and attrs["p"] else ()
    if node.op == "batch_norm":
        attrs["training"] = training
    try:
        steps = STEPS[node.op](attrs) if node.op in STEPS else ((node.op, attrs),)
        return tuple([_call(node, *step) for step in steps])
    except UnsupportedOperatorError as error:
        raise UnsupportedOperatorError(
            f"{node.name}: {error}; freeze what has weights before it, Trainer(…, freeze=[…]), or leave it out"
        ) from None


def _call(node: Node, name: str, attrs: Attributes) -> Call:
    """Return the call of a function for a node, which has the node's arrays in the function's order."""
    rule = rule_of(name)
    if rule is None:
        raise UnsupportedOperatorError(f"{name} has no gradient")
    parameters = signature(getattr(functional, name)).parameters
    names = list(parameters)
    defaults = {key: item.default for key, item in parameters.items() if item.default is not Parameter.empty}
    # The second operand, "other" in a Graph, may have another name in PyTorch.
    weights = {(role if role in parameters else names[1]): role for role in node.weights if name == node.op}
    free = [key for key in names if key not in weights and key not in attrs]
    inputs = tuple(free[: len(node.inputs)])
    if name == "where":
        rule = _where
    if name == "cat":
        return Call(rule, ("tensors",), weights, {**defaults, **attrs}, gathers=True)
    return Call(rule, inputs, weights, {**defaults, **attrs})


def forward(
    calls: Sequence[Call], values: Sequence[Array], weights: Mapping[str, Array]
) -> tuple[Array, list[Backward]]:
    """Compute a node, and return how gradients go back through each of its calls."""
    pullbacks = []
    for call in calls:
        given = {"tensors": list(values)} if call.gathers else dict(zip(call.inputs, values, strict=True))
        arrays = {name: weights[role] for name, role in call.weights.items()}
        y, pullback = call.rule(**{**call.arguments, **arrays, **given})
        values = (y[0] if isinstance(y, tuple) else y,)
        pullbacks.append(pullback)
    return values[0], pullbacks


def backward(
    calls: Sequence[Call], pullbacks: Sequence[Backward], g: Array, wanted: Sequence[bool], roles: Collection[str]
) -> tuple[Sequence[Any], dict[str, Array]]:
    """Return the gradients by a node's inputs, of those that are wanted, and by its weights of these roles."""
    inputs: Sequence[Any] = (g,)
    of_weights: dict[str, Array] = {}
    for place in reversed(range(len(calls))):
        call = calls[place]
        asked = [True] * len(call.inputs) if place or (call.gathers and any(wanted)) else wanted
        names = {name for name, ask in zip(call.inputs, asked, strict=False) if ask}
        names |= {name for name, role in call.weights.items() if role in roles}
        found = pullbacks[place](np.require(inputs[0], requirements=["C", "A"]), names)
        of_weights |= {role: found[name] for name, role in call.weights.items() if role in roles}
        inputs = found.get("tensors", ()) if call.gathers else [found.get(name) for name in call.inputs]
    return inputs, of_weights
