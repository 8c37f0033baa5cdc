"""ONNX's LSTM, GRU and RNN beside ONNX Runtime: directions, states, both kinds of GRU; what is refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx_models import check, check_file, ints, model, node, tensor, written

import fastconv
from fastconv.errors import FastconvError

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
T, FEATURES, HIDDEN = 5, 3, 4


def layer(
    op: str, direction: str = "forward", *, given: str = "", layout: int = 0, others: Any = (), **attrs: Any
) -> Any:
    """A network of one layer over (N, T, I), whose states are zeros, trained ("fixed") or made of the input."""
    rng, ways, rows = np.random.default_rng(0), 1 + (direction == "bidirectional"), GATES[op] * HIDDEN
    states = ["h0", "c0"][: 1 + (op == "LSTM")]
    names = ["x" if layout else "turned", "w", "r", "b", "", *(states if given else ())]
    sizes = {"w": (ways, rows, FEATURES), "r": (ways, rows, HIDDEN), "b": (ways, 2 * rows)}
    arrays = [tensor(name, rng.standard_normal(size)) for name, size in sizes.items()]
    nodes = [] if layout else [node("Transpose", ["x"], ["turned"], perm=(1, 0, 2))]
    for name in states if given else ():
        wide = (ways, HIDDEN) if layout else (ways, 1, HIDDEN)
        if given == "fixed":
            nodes += [node("Shape", ["x"], [f"{name}n"], start=0, end=1),
                      node("Concat", [f"{name}a", f"{name}n", f"{name}z"], [f"{name}s"], axis=0),
                      node("Expand", [f"{name}v", f"{name}s"], [name])]  # fmt: skip
            arrays += [tensor(f"{name}v", rng.standard_normal(wide)), ints(f"{name}a", ways), ints(f"{name}z", HIDDEN)]
        else:
            nodes += [node("ReduceMean", ["x"], [f"{name}m"], axes=[1], keepdims=0),
                      node("MatMul", [f"{name}m", f"{name}v"], [f"{name}p"]),
                      node("Reshape", [f"{name}p", f"{name}s"], [f"{name}q"]),
                      node("Transpose", [f"{name}q"], [name], perm=(1, 0, 2))]  # fmt: skip
            arrays += [tensor(f"{name}v", rng.standard_normal((FEATURES, ways * HIDDEN))),
                       ints(f"{name}s", -1, ways, HIDDEN)]  # fmt: skip
    results = ["y", "h", "c"][: 1 + len(states)]
    more = {"layout": layout} if layout else {}
    nodes.append(node(op, names, [f"{name}_" for name in results], hidden_size=HIDDEN, direction=direction,
                      **more, **attrs))  # fmt: skip
    order = (0, 1, 2, 3) if layout else (2, 0, 1, 3)
    for name in results:
        dims = order if name == "y" else (0, 1, 2) if layout else (1, 0, 2)
        nodes.append(node("Transpose", [f"{name}_"], [name], perm=dims))
    return model(nodes, ("N", T, FEATURES), arrays, outputs=results)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_it_equals_onnx_runtime(op: str, direction: str, tmp_path: Path) -> None:
    attrs: list[dict[str, Any]] = [{}]
    if op == "GRU":
        attrs = [{"linear_before_reset": value} for value in (0, 1)]
    if op == "RNN":
        attrs = [{"activations": [name] * (1 + (direction == "bidirectional"))} for name in ("Tanh", "Relu")]
    for more, given in product(attrs, ("", "fixed", "computed")):
        check(layer(op, direction, given=given, **more), tmp_path, 3, T, FEATURES)


@pytest.mark.parametrize("op", GATES)
def test_the_batch_may_come_first(op: str, tmp_path: Path) -> None:
    """Layout 1, which ONNX Runtime does not compute: the same as layout 0."""
    x = np.random.default_rng(1).standard_normal((3, T, FEATURES)).astype(np.float32)
    first = fastconv.load(written(layer(op, "bidirectional"), tmp_path), threads=1)(x)
    check_file(written(layer(op, "bidirectional", layout=1), tmp_path), x, tuple(first))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "clip": ("GRU", {"clip": 3.0}, "GRU with clip"),
    "activations": ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, "LSTM with the activations Sigmoid, Relu"),
    "an activation": ("RNN", {"activations": ["Affine"]}, "RNN with the activations Affine"),
    "coupled gates": ("LSTM", {"input_forget": 1}, "LSTM with input_forget"),
    "direction": ("LSTM", {"direction": "sideways"}, "LSTM has the direction 'sideways'"),
}


@pytest.mark.parametrize(("op", "attrs", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(op: str, attrs: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FastconvError, match=message):
        fastconv.load(written(layer(op, **attrs), tmp_path))


def bare(op: str, x: tuple[Any, ...] = ("N", T, FEATURES), **arrays: Any) -> Any:
    """One layer on a network's input, with other arrays."""
    rows = GATES[op] * HIDDEN
    known = {"w": np.ones((1, rows, FEATURES)), "r": np.ones((1, rows, HIDDEN)), "b": np.ones((1, 2 * rows)), **arrays}
    names = ("w", "r", "b", "lens", "h0", "c0", "p")
    given = [tensor(n, known[n], np.int32 if n == "lens" else np.float32) for n in names if n in known]
    call = node(op, ["x", *(n if n in known else "" for n in names)], ["y"], hidden_size=HIDDEN, layout=1)
    return model([call], x, given)


WRONG: dict[str, tuple[Any, str]] = {
    "peepholes": (bare("LSTM", p=np.ones((1, 3 * HIDDEN))), "LSTM with peepholes"),
    "lengths": (bare("LSTM", lens=[2, 5, 5]), "LSTM with sequence_lens other than 5"),
    "gates": (bare("LSTM", r=np.ones((1, 15, HIDDEN))), r"LSTM has R of shape \(1, 15, 4\), for 1 directions of 16"),
    "bias": (bare("LSTM", b=np.ones((1, 16))), r"LSTM has B of shape \(1, 16\)"),
    "features": (bare("LSTM", w=np.ones((1, 16, 2))), r"weight_ih must have the shape \(16, 3\)"),
    "axes": (bare("LSTM", ("N", FEATURES)), "LSTM needs sequences of three axes, got 2"),
    "state": (bare("LSTM", h0=np.ones((1, 2, 5))), r"LSTM has a state of shape \(1, 2, 5\)"),
}  # fmt: skip


@pytest.mark.parametrize(("proto", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(proto: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FastconvError, match=message):
        fastconv.load(written(proto, tmp_path))


def test_lengths_that_are_whole_and_peepholes_of_zero_change_nothing(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((2, T, FEATURES)).astype(np.float32)
    plain = fastconv.load(written(bare("LSTM"), tmp_path), threads=1)(x)
    more = bare("LSTM", ("N", T, FEATURES), lens=[T, T], p=np.zeros((1, 3 * HIDDEN)))
    np.testing.assert_array_equal(fastconv.load(written(more, tmp_path), threads=1)(x), plain)


def test_time_in_front_of_the_batch_is_refused(tmp_path: Path) -> None:
    weights = [tensor("w", np.ones((1, HIDDEN, FEATURES))), tensor("r", np.ones((1, HIDDEN, HIDDEN)))]
    proto = model([node("RNN", ["x", "w", "r"], ["y"])], ("T", 2, FEATURES), weights)
    with pytest.raises(FastconvError, match="RNN along the batch"):
        fastconv.load(written(proto, tmp_path))
