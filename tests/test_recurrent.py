"""LSTM, GRU and plain recurrent layers: beside the oracle and PyTorch, at every size that the loops tell apart."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from compiling import outputs_of
from interpreter import run_graph

from fastconv.compile import compile_graph
from fastconv.errors import FastconvError
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.ops.recurrent import GATES, REVERSE
from fastconv.machine.cpu import kernels
from fastconv.machine.description import this_machine

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("lstm", {}),
    ("lstm", {"cells": True}),
    ("gru", {}),
    ("gru", {"linear_before_reset": False}),
    ("rnn", {}),
    ("rnn", {"nonlinearity": "relu"}),
]
Arrays = dict[str, np.ndarray]


def weights(
    rng: np.random.Generator, op: str, inputs: int, hidden: int, ways: int, dtype: Any = np.float32, bias: bool = True
) -> Arrays:
    """Draw the weights of a layer."""
    rows, result = GATES[op] * hidden, {}
    for way in ("", REVERSE)[:ways]:
        result[f"weight_ih{way}"] = (rng.standard_normal((rows, inputs)) / max(inputs, 1) ** 0.5).astype(dtype)
        result[f"weight_hh{way}"] = (rng.standard_normal((rows, hidden)) / hidden**0.5).astype(dtype)
        for role in ("bias_ih", "bias_hh") if bias else ():
            result[role + way] = rng.standard_normal(rows).astype(dtype)
    return result


def layer(op: str, shape: tuple[int, ...], attrs: dict[str, Any], arrays: Arrays, state: bool = False) -> Graph:
    """A network of one layer, which takes the state before the first step where it is to."""
    dtype = arrays["weight_ih"].dtype
    if not state:
        return Graph(shape, [Node("y", op, (INPUT,), attrs, arrays)], ("y",), dtype=dtype)
    wide = (2 if op == "lstm" else 1) * sum(len(a[0]) for role, a in arrays.items() if role.startswith("weight_hh"))
    inputs = {"x": shape, "state": (*shape[:-2], 1, wide)}
    return Graph(inputs, [Node("y", op, ("x", "state"), attrs, arrays)], ("y",), dtype=dtype)


def images(rng: np.random.Generator, graph: Graph, count: int) -> tuple[np.ndarray, ...]:
    return tuple(rng.standard_normal((count, *shape)).astype(graph.dtype) for shape in graph.inputs.values())


def given(x: tuple[np.ndarray, ...]) -> Any:
    """What a network of so many inputs takes."""
    return x if len(x) > 1 else x[0]


def check(graph: Graph, x: tuple[np.ndarray, ...]) -> None:
    """Compare with the oracle; bits do not depend on threads, on the batch or on the place in it."""
    (expected,) = run_graph(graph, given(x))
    tolerance = 1e-5 if graph.dtype == np.float32 else 1e-12
    (alone,) = outputs_of(compile_graph(graph, threads=1), given(x))
    np.testing.assert_allclose(alone, expected, rtol=0, atol=tolerance * max(1e-6, np.abs(expected).max()))
    program = compile_graph(graph, threads=2)
    np.testing.assert_array_equal(outputs_of(program, given(x))[0], alone)
    one = [outputs_of(program, given(tuple(each[i : i + 1] for each in x)))[0] for i in range(len(x[0]))]
    np.testing.assert_array_equal(np.concatenate(one), alone)


@pytest.mark.parametrize(("op", "attrs"), KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_equals_the_oracle(op: str, attrs: dict[str, Any], dtype: type) -> None:
    """Hidden features around the vector and the panel; one sequence and more than a tile; either direction; states."""
    width, rows, rng = kernels().VECTOR, kernels().MR, np.random.default_rng(0)
    sizes = (1, width - 1, width, width + 1, kernels().NR, 2 * kernels().NR * kernels().PANELS_AT_ONCE // 4 + 3)
    for i, (hidden, ways) in enumerate(product(sizes, (1, 2))):
        inputs, steps, lead = (1, 5, 16)[i % 3], (1, 2, 5)[i % 3], ((), (3,), (2, 2))[i % 3]
        arrays = weights(rng, op, inputs, hidden, ways, dtype, bias=i % 4 != 1)
        graph = layer(op, (*lead, steps, inputs), attrs, arrays, state=i % 2 == 1)
        check(graph, images(rng, graph, 4 if i % 3 else 2 * rows + 1))


@pytest.mark.parametrize("op", GATES)
def test_many_sequences_in_an_image(op: str) -> None:
    """More than a unit takes, as rows or columns of an image are."""
    rng = np.random.default_rng(1)
    graph = layer(op, (4 * kernels().MR + 3, 3, 4), {}, weights(rng, op, 4, 9, 2))
    check(graph, images(rng, graph, 3))


@pytest.mark.parametrize("op", GATES)
def test_nothing_goes_in(op: str) -> None:
    """Input features may be none, and images: the state goes on by itself."""
    rng = np.random.default_rng(2)
    graph = layer(op, (3, 0), {}, weights(rng, op, 0, 5, 2))
    check(graph, images(rng, graph, 2))
    empty = layer(op, (0, 3, 2), {}, weights(rng, op, 2, 5, 1))
    assert outputs_of(compile_graph(empty), np.zeros((2, 0, 3, 2), np.float32))[0].shape == (2, 0, 3, 5)
    assert outputs_of(compile_graph(graph), np.zeros((0, 3, 0), np.float32))[0].shape == (0, 3, 10)


@pytest.mark.parametrize(("op", "attrs"), KINDS)
def test_gates_saturate_and_nan_travels(op: str, attrs: dict[str, Any]) -> None:
    """Infinite and huge products close or open a gate; a NaN stays in its sequence, from its step on."""
    rng = np.random.default_rng(3)
    arrays = {role: np.abs(array) * 30 if role == "weight_ih" else array for role, array in
              weights(rng, op, 4, 11, 1).items()}  # fmt: skip
    graph = layer(op, (4, 4), attrs, arrays)
    x = rng.standard_normal((5, 4, 4)).astype(np.float32)
    x[0, 1], x[1, 2], x[2, 1] = 1e4, -1e4, np.nan
    if op != "rnn":
        x[3, 2], x[4, 1] = np.inf, -np.inf
    (expected,) = run_graph(graph, x)
    (y,) = outputs_of(compile_graph(graph, threads=1), x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    scale = np.nanmax(np.abs(expected), axis=(1, 2), keepdims=True)
    assert not (np.abs(y - expected) > 1e-5 * scale).any()
    assert not np.isnan(y[2, 0]).any()
    assert np.isnan(y[2, 1:, :11]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "attrs"), KINDS)
def test_infinite_states(op: str, attrs: dict[str, Any], dtype: type) -> None:
    """A gate that is closed makes NaN of what is infinite behind it, as 0 times that is."""
    rng = np.random.default_rng(5)
    graph = layer(op, (3, 2), attrs, weights(rng, op, 2, 9, 1, dtype), state=True)
    x, state = images(rng, graph, 4)
    state[np.arange(4), 0, [0, 1, -1, -2]] = np.inf, -np.inf, np.inf, -np.inf
    if op == "lstm":
        x[2:] *= 1e4  # closes some of the gates that forget
    (expected,) = run_graph(graph, (x, state))
    (y,) = outputs_of(compile_graph(graph, threads=1), (x, state))
    assert np.isnan(expected).any() == (op != "rnn" or "nonlinearity" in attrs)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5 if dtype == np.float32 else 1e-12)


def test_a_batch_goes_together() -> None:
    """Rows of the tile are images: however large an image is, some of them go through at once."""
    rng = np.random.default_rng(4)
    arrays = weights(rng, "lstm", 64, 64, 1)
    nodes = [
        Node("c", "conv2d", (INPUT,), {"padding": 1}, {"weight": np.ones((64, 1, 3, 3), np.float32) / 9}),
        Node("p", "amax", ("c",), {"dim": 2}),
        Node("t", "permute", ("p",), {"dims": (0, 2, 1)}),
        Node("y", "lstm", ("t",), {}, arrays),
    ]
    graph = Graph((1, 64, 30), nodes, ("y",))
    check(graph, images(rng, graph, 7))
    machine, image = this_machine().replace(l2_bytes=2**20, llc_bytes=2**26), 64 * 64 * 30 * 4
    assert compile_graph(graph, threads=1, machine=machine).workspace_bytes >= kernels().MR * image
    few = compile_graph(graph, threads=1, machine=machine.replace(llc_bytes=2**20))
    assert few.workspace_bytes < 2 * (image + 2**18)  # memory decides in the end


REFUSED = {
    "one axis": ((4,), {}, r"needs sequences of one step at least, \(\.\.\., T, I\), got shape \(4,\)"),
    "no step": ((0, 4), {}, r"needs sequences of one step at least"),
    "features": ((3, 5), {}, r"weight_ih must have the shape \(20, 5\), .* got \(20, 4\)"),
    "gates": ((3, 4), {"weight_hh": (19, 5)}, r"weight_hh must have the shape \(20, 5\), for 5 hidden features of 4"),
    "bias": ((3, 4), {"bias_hh": (5,)}, r"bias_hh must have 20 elements, got 5"),
    "half a direction": ((3, 4), {"weight_ih_reverse": (20, 4)}, r"needs the weight 'weight_hh_reverse' beside those"),
    "hidden of the other": (
        (3, 4),
        {"weight_ih_reverse": (24, 4), "weight_hh_reverse": (24, 6)},
        r"weight_ih_reverse must have the shape \(20, 4\)",
    ),
    "nothing hidden": ((3, 4), {"weight_ih": (0, 4), "weight_hh": (0, 0)}, r"for 0 hidden features"),
}


@pytest.mark.parametrize(("shape", "others", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(shape: tuple[int, ...], others: dict[str, tuple[int, ...]], message: str) -> None:
    arrays = weights(np.random.default_rng(0), "lstm", 4, 5, 1)
    arrays |= {role: np.zeros(size, np.float32) for role, size in others.items()}
    with pytest.raises(FastconvError, match=f"y: .*{message}"):
        Graph(shape, [Node("y", "lstm", (INPUT,), {}, arrays)], ("y",))


def test_a_state_of_another_shape_is_refused() -> None:
    arrays = weights(np.random.default_rng(0), "gru", 4, 5, 2)
    with pytest.raises(FastconvError, match=r"y: the state .* must have the shape \(1, 10\), got \(1, 5\)"):
        Graph({"x": (3, 4), "s": (1, 5)}, [Node("y", "gru", ("x", "s"), {}, arrays)], ("y",))


def test_weights_are_kept_in_a_file_and_counted(tmp_path: Any) -> None:
    from fastconv.model import Model, load

    rng = np.random.default_rng(5)
    graph = layer("lstm", (3, 4), {"cells": True}, weights(rng, "lstm", 4, 5, 2))
    assert graph.parameters == 2 * (20 * 4 + 20 * 5 + 2 * 20)
    assert graph.macs(graph.nodes[0]) == 3 * 2 * (20 * 4 + 20 * 5)
    model = Model(graph)
    assert model.summary().parameters == graph.parameters
    model.save(tmp_path / "net.npz")
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(load(tmp_path / "net.npz")(x), model(x))


# --- from PyTorch ------------------------------------------------------------------------------------------------


def sequences(**more: Any) -> Any:
    """A module around a recurrent layer, which returns all that it gives, the batch first."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self, inner: Any, time_first: bool) -> None:
            super().__init__()
            self.inner, self.time_first = inner, time_first

        def forward(self, x: Any) -> Any:
            y, last = self.inner(x.transpose(0, 1) if self.time_first else x)
            last = last if isinstance(last, tuple) else (last,)
            return (y.transpose(0, 1) if self.time_first else y, *(each.transpose(0, 1) for each in last))

    return Net(**more)


def compare(net: Any, shape: tuple[int, ...], count: int = 3) -> Graph:
    """Compare a module with what it is read as, and with what that is written back as."""
    import torch

    import fastconv
    from fastconv.formats.torch import from_torch, to_torch

    torch.manual_seed(0)
    graph = from_torch(net.eval(), shape)
    x = torch.randn(count, *shape)
    with torch.no_grad():
        expected, back = net(x), to_torch(graph)(x)
    results = fastconv.Model(graph, threads=1)(x.numpy())
    for got, again, want in zip(*(r if isinstance(r, tuple) else (r,) for r in (results, back, expected)), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * float(want.abs().max()))
        np.testing.assert_allclose(again, want, rtol=0, atol=1e-5 * float(want.abs().max()))
    return graph


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize(
    "more", [{}, {"num_layers": 3, "bidirectional": True, "dropout": 0.5}, {"bias": False}], ids=["", "deep", "bare"]
)
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_layers_of_pytorch(name: str, more: dict[str, Any], time_first: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    inner = getattr(torch.nn, name)(6, 5, batch_first=not time_first, **more)
    graph = compare(sequences(inner=inner, time_first=time_first), (7, 6))
    assert sum(node.op == name.lower() for node in graph.nodes) == more.get("num_layers", 1)


def test_cells_are_computed_where_they_are_read_alone() -> None:
    torch = pytest.importorskip("torch")

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = torch.nn.LSTM(6, 5, batch_first=True), torch.nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            _, (hidden, _) = self.lstm(x)
            return self.head(hidden[-1])

    graph = compare(Last(), (7, 6))
    (node,) = (node for node in graph.nodes if node.op == "lstm")
    assert not node.attrs["cells"]


def test_states_that_are_given() -> None:
    """Trained ones, the same for all images, and ones that are computed from the image."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(6, 5, 2, bidirectional=True, batch_first=True)
            self.rnn = torch.nn.RNN(10, 4, nonlinearity="relu", batch_first=True)
            self.hidden, self.cells = torch.nn.Parameter(torch.randn(4, 1, 5)), torch.nn.Linear(6, 20)

        def forward(self, x: Any) -> Any:
            n = len(x)
            h = self.hidden.expand(-1, n, -1).contiguous()
            c = self.cells(x[:, 0]).reshape(n, 4, 5).transpose(0, 1).contiguous()
            y, (h, c) = self.lstm(x, (h, c))
            again, _ = self.lstm(x, (h, c))
            z, _ = self.rnn(again, self.hidden[:1, :, :4].expand(-1, n, -1).contiguous())
            return y, h.transpose(0, 1), c.transpose(0, 1), z

    compare(Net(), (7, 6))


def test_rows_and_columns_of_an_image() -> None:
    """The batch shares an axis with the rows, then with the columns, as in timm's sequencer."""
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = torch.nn.GRU(6, 5, bidirectional=True, batch_first=True)
            self.columns = torch.nn.LSTM(6, 5, bidirectional=True, batch_first=True)
            self.state = torch.nn.Parameter(torch.randn(2, 1, 5))

        def forward(self, x: Any) -> Any:
            n, h, w, c = x.shape
            state = self.state.expand(-1, n * h, -1).contiguous()
            across = self.rows(x.reshape(-1, w, c), state)[0].reshape(n, h, w, -1)
            down = self.columns(x.permute(0, 2, 1, 3).reshape(-1, h, c))[0].reshape(n, w, h, -1)
            return torch.cat([across, down.permute(0, 2, 1, 3)], -1)

    compare(Net(), (4, 7, 6))


def test_cells_of_pytorch() -> None:
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.LSTMCell(6, 5), torch.nn.GRUCell(5, 4)
            self.c, self.d = torch.nn.RNNCell(4, 3), torch.nn.RNNCell(3, 3, False, "relu")

        def forward(self, x: Any) -> Any:
            h, c = self.a(x)
            h, c = self.a(x, (h, c))
            y = self.b(h, self.b(h))
            return h, c, y, self.d(self.c(y))

    compare(Net(), (6,))


def test_what_is_not_read_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    from fastconv.formats.torch import from_torch

    with pytest.raises(FastconvError, match=r"LSTM: aten\.lstm\.input with proj_size is not supported"):
        from_torch(torch.nn.LSTM(6, 5, proj_size=3), (7, 6))
    with pytest.raises(FastconvError, match=r"aten\.gru\.input mixes the images of a batch"):
        from_torch(torch.nn.GRU(6, 5), (6,))  # whose first axis is time


def test_a_text_reader() -> None:
    """A CRNN (Shi et al., 2015), small: convolutions, two recurrent layers over the columns, a row of classes each."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class CRNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cnn = nn.Sequential(
                nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(8, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d((2, 1)),
                nn.Conv2d(16, 32, (4, 1)), nn.ReLU(),
            )  # fmt: skip
            self.rnn = nn.LSTM(32, 24, num_layers=2, bidirectional=True)
            self.head = nn.Linear(48, 11)

        def forward(self, x: Any) -> Any:
            columns = self.cnn(x).squeeze(2).permute(2, 0, 1)
            y, _ = self.rnn(columns)
            return self.head(y).log_softmax(-1).permute(1, 0, 2)

    torch.manual_seed(0)
    graph = compare(CRNN(), (1, 16, 52), 8)
    assert graph.shapes[graph.outputs[0]] == (26, 11)
