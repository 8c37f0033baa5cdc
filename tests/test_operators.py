"""Every operator has all that belongs to one: oracle, draws, PyTorch's name both ways, documentation, its function."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import random_graphs
import reference
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from interpreter import run_graph

from fastconv import functional
from fastconv.errors import FastconvError
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.ops import FAMILIES, OPS
from fastconv.graph.ops.activation import ACTIVATIONS, Activation
from fastconv.graph.ops.spec import REQUIRED

FORMAT = Path(__file__).parent.parent / "docs" / "format.md"
CODE = re.compile(r"`([^`]+)`")


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """Return operator -> weights and attributes, as the table in docs/format.md names them."""
    table = FORMAT.read_text(encoding="utf-8").split("### Operations")[1].split("\n\n")
    rows = next(block for block in table if block.startswith("| op |")).splitlines()[2:]
    result = {}
    for row in rows:
        ops, _, weights, attrs = row.strip("|").split("|")
        named = [CODE.findall(part) for part in attrs.split(";")]  # each attribute, then its values
        entry = set(CODE.findall(weights)), {codes[0] for codes in named if codes}
        result.update(dict.fromkeys(CODE.findall(ops), entry))
    return result


@st.composite
def nodes(draw: st.DrawFn, op: str) -> Graph:
    """Draw a network of one node, which reads an image."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(5, 7)), draw(st.integers(5, 7)))
    rng = np.random.default_rng(0)
    node = random_graphs.draw_node(draw, op, op, INPUT, {INPUT: shape}, rng)
    try:
        return Graph(shape, (node,), (op,), dtype=np.float32)
    except FastconvError:
        return draw(nodes(op))


drawn = settings(max_examples=8, phases=[Phase.generate], derandomize=True, deadline=None, database=None)


@pytest.mark.parametrize("op", OPS)
def test_it_has_an_oracle_and_draws(op: str) -> None:
    assert callable(getattr(reference, op))
    assert op in random_graphs.OPS or op in random_graphs.JOINS
    assert op in random_graphs.DISCONTINUOUS or any(op in motif for motif in random_graphs.FOR_IMAGES)

    @drawn
    @given(nodes(op))
    def check(graph: Graph) -> None:
        before = dict(graph.nodes[0].attrs)
        (y,) = run_graph(graph, np.ones((2, *graph.input_shape)))  # compares the shape with the inferred one
        assert y.shape[0] == 2
        assert graph.nodes[0].attrs == before

    check()


@pytest.mark.parametrize("op", OPS)
def test_pytorch_has_it_both_ways(op: str) -> None:
    pytest.importorskip("torch")
    if op == "local_response_norm":
        pytest.skip("PyTorch exports a chain of other calls")
    from fastconv.formats.torch import from_torch, to_torch

    found: set[str] = set()

    @drawn
    @given(nodes(op))
    def convert(graph: Graph) -> None:
        if op in found:
            return
        back = from_torch(to_torch(graph), graph.input_shape)
        found.update(node.op for node in back.nodes)
        x = np.random.default_rng(1).standard_normal((2, *graph.input_shape))
        for actual, expected in zip(run_graph(back, x), run_graph(graph, x), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)

    convert()
    assert op in found


def test_the_format_documents_every_operator() -> None:
    rows = documented()
    assert set(rows) == set(OPS)
    for op, (weights, attrs) in rows.items():
        spec = OPS[op]
        assert weights == {*spec.required, *spec.optional}, op
        assert attrs == set(spec.attributes), op


def test_the_format_documents_every_fused_activation() -> None:
    text = FORMAT.read_text(encoding="utf-8")
    for row in ACTIVATIONS.values():
        assert re.search(rf'`\["{row.name}"(, [a-z]+){{{len(row.parameters)}}}\]`', text), row.name


@pytest.mark.parametrize("op", OPS)
def test_what_pytorch_has_as_a_function_is_one(op: str) -> None:
    torch = pytest.importorskip("torch")
    if op == "dropout":  # for training alone
        pytest.skip("does nothing in a trained network")
    if op in ("lstm", "gru"):
        pytest.skip("PyTorch's functions of these names are torch.nn.LSTM's and GRU's own, and not documented")
    if hasattr(torch.nn.functional, op) or hasattr(torch, op):
        assert hasattr(functional, op)


def test_every_family_has_what_the_table_says() -> None:
    for family, ops in (*FAMILIES.items(), ("activation", tuple(ACTIVATIONS))):
        assert tuple(import_module(f"fastconv.graph.ops.{family}").SPECS) == ops


def test_a_network_loads_no_family_but_its_own() -> None:
    code = (
        "import sys, fastconv; fastconv.load(sys.argv[1])\n"
        "print(*(name.rpartition('.')[2] for name in sys.modules if name.startswith('fastconv.graph.ops.')))"
    )
    lenet = Path(__file__).parent.parent / "models" / "lenet.npz"
    result = subprocess.run([sys.executable, "-c", code, lenet], check=True, capture_output=True, text=True)
    assert set(result.stdout.split()) == {"spec", "activation", "conv", "pool", "shape", "linear"}


@pytest.mark.parametrize("op", OPS)
def test_inference_changes_nothing_that_it_is_given(op: str) -> None:
    @drawn
    @given(nodes(op))
    def check(graph: Graph) -> None:
        node, spec = graph.nodes[0], OPS[op]
        attrs = {
            name: default if default is not REQUIRED else normalise(name, node.attrs[name])
            for name, (default, normalise) in spec.attributes.items()
        }
        before = dict(attrs)
        with contextlib.suppress(FastconvError):
            spec.infer([graph.shapes[name] for name in node.inputs], attrs, node.weights)
        assert attrs == before

    check()


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=lambda row: row.name)
def test_what_is_called_monotonic_is(row: Activation) -> None:
    """The larger of two values stays the larger one, infinities included."""
    x = np.array([-np.inf, -1e300, -3.0, -1.0, -1e-300, 0.0, 1e-300, 0.5, 1.0, 7.0, 1e300, np.inf])
    for parameters in ((), (0.01,), (0.0,), (-0.5,), (np.nan,), (np.inf,), (-1.0, 1.0), (0.0, 6.0)):
        if len(parameters) == len(row.parameters) and row.monotonic(*parameters):
            with np.errstate(all="ignore"):
                assert (np.diff(getattr(reference, row.name)(x, *parameters)[1:-1]) >= 0).all()
                y = getattr(reference, row.name)(x, *parameters)
            assert not np.isnan(y).any()
            assert y[0] == y.min()
            assert y[-1] == y.max()


def test_an_unknown_operator_is_refused_by_name() -> None:
    assert "conv2d" in OPS
    assert "conv9d" not in OPS
    with pytest.raises(KeyError, match="conv9d"):
        OPS["conv9d"]
    with pytest.raises(FastconvError, match=r"operator 'conv9d' is not supported; supported are conv2d, .*tanh"):
        Graph((3,), (Node("x", "conv9d"),), ("x",))
