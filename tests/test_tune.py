"""`Model.tune` and `fastconv tune`: which kernels are kept, where they apply, and that files keep them."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiling import batch_of
from networks import NETWORKS, Net

import fastconv
from fastconv import Model
from fastconv.compile import compile_graph, layers_of
from fastconv.compile.conv import candidates
from fastconv.errors import ArgumentError, UnsupportedOperatorError
from fastconv.formats import npz
from fastconv.graph import Graph
from fastconv.inspect import tune as tuning
from fastconv.machine.description import this_machine
from fastconv.rewrite import optimize


def network() -> Graph:
    """Two layers that Winograd's kernels are the fastest for, a pool between them, and a linear layer."""
    net = Net(16, 24, 24)
    for channels in (32, 48):
        net.conv(channels)
        net.relu()
        net.pool()
    net.add("flatten")
    net.linear(10)
    return net.graph()


NODES = tuple(layers_of(optimize(network())))


def kernels_of(model: Any) -> list[str]:
    """Return the labels of a model's convolutions."""
    program = model._program if isinstance(model, Model) else model
    return [step["label"] for step in program.steps if step["node"] in NODES]


@pytest.fixture
def _direct_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock say so, whatever it shows."""

    def by_node(program: Any, batches: Any) -> dict[str, float]:
        return {step["node"]: 1e-5 if step["label"].startswith("direct tile") else 1e-4 for step in program.steps}

    def timed(program: Any, batches: Any) -> float:
        return sum(by_node(program, batches).values())

    monkeypatch.setattr(tuning, "_by_node", by_node)
    monkeypatch.setattr(tuning, "_timed", timed)


def test_every_kernel_that_may_be_the_fastest_is_timed() -> None:
    model = Model(network(), threads=1)
    done: list[float] = []
    found = model.tune(seconds=0.05, progress=done.append)
    assert sum(done) == pytest.approx(1)
    assert min(done) >= 0
    assert {row.name for row in found.rows} == {*NODES}
    for row in found.rows:
        layer, chosen = layers_of(optimize(network()))[row.name]
        assert row.estimated == chosen.name
        assert row.seconds.keys() == {kernel.name for kernel in candidates(layer, this_machine(), likely=True)}
        assert min(row.seconds.values()) > 0
        assert row.kernel in row.seconds
    assert found.after <= found.before
    assert (found.batch, found.threads) == (1, 1)
    table = str(found)
    assert all(row.name in table and row.kernel in table for row in found.rows)


@pytest.mark.usefixtures("_direct_is_fastest")
def test_what_is_faster_is_kept(tmp_path: Path) -> None:
    graph = network()
    model = Model(graph, threads=1)
    x = batch_of(graph, 3)
    before = model(x)
    found = model.tune(x, seconds=0.01)
    assert found.kernels == dict.fromkeys(NODES, "direct")
    assert found.gain > 0
    assert all(label.startswith("direct tile") for label in kernels_of(model))
    after = model(x)
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())

    model.save(tmp_path / "tuned.npz")
    for again in (fastconv.load(tmp_path / "tuned.npz"), pickle.loads(pickle.dumps(model))):
        assert kernels_of(again) == kernels_of(model)
        assert again.graph.tuned == {this_machine().key: found.kernels}
        np.testing.assert_array_equal(again(x), after)
    other_size = fastconv.load(tmp_path / "tuned.npz", input_shape=(16, 25, 25))
    assert not other_size.graph.tuned


@pytest.mark.usefixtures("_direct_is_fastest")
def test_large_weights_that_stay_in_the_file_are_found_again(tmp_path: Path) -> None:
    net = Net(64, 12, 12)
    for _ in range(8):
        net.conv(64)
        net.relu()
    Model(net.graph()).save(tmp_path / "large.npz")
    model = fastconv.load(tmp_path / "large.npz", threads=1)
    assert model._stored is not None
    found = model.tune(seconds=0.01)
    assert found.kernels
    model.save(tmp_path / "large.npz")
    again = fastconv.load(tmp_path / "large.npz", threads=1)
    assert again.graph.tuned == {this_machine().key: found.kernels}
    x = batch_of(net.graph(), 1)
    np.testing.assert_array_equal(again(x), model(x))


def test_what_is_no_faster_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"direct": 0.99e-4}  # too little to tell

    def by_node(program: Any, batches: Any) -> dict[str, float]:
        return {step["node"]: times.get(step["label"].split()[0], 1e-4) for step in program.steps}

    monkeypatch.setattr(tuning, "_by_node", by_node)
    key = this_machine().key
    model = Model(network().replace(tuned={key: {NODES[0]: "direct"}, "another machine": {NODES[0]: "direct"}}))
    found = model.tune(seconds=0.01)
    assert not found.kernels
    assert found.gain == 0
    assert model.graph.tuned == {"another machine": {NODES[0]: "direct"}}  # found out again, and no longer so
    assert kernels_of(model) == kernels_of(Model(network()))


@pytest.mark.usefixtures("_direct_is_fastest")
def test_choices_that_are_slower_together_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_timed", lambda program, batches: 1.0 + ("direct" in kernels_of(program)[0]))
    model = Model(network(), threads=1)
    found = model.tune(seconds=0.01)
    assert (found.kernels, found.gain, model.graph.tuned) == ({}, 0, {})


def test_seconds_must_be_positive() -> None:
    for seconds in (0, -1, float("nan"), float("inf"), "5", None):
        with pytest.raises(ArgumentError, match="seconds must be positive"):
            Model(network()).tune(seconds=seconds)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_direct_is_fastest")
def test_a_copy_is_not_tuned_with_the_model() -> None:
    model = Model(network(), threads=1)
    other, before = copy.deepcopy(model), kernels_of(model)
    assert model.tune(seconds=0.01).kernels
    assert kernels_of(other) == before != kernels_of(model)
    assert not other.graph.tuned


def test_other_sizes_of_a_dynamic_model_are_refused() -> None:
    net = Net(16, 24, 24)
    net.conv(32)
    model = Model(net.graph().replace(dynamic=True), threads=1)
    with pytest.raises(fastconv.ShapeError, match=r"tune: is for images of the model's input_shape, \(16, 24, 24\)"):
        model.tune(np.zeros((2, 16, 30, 31), np.float32), seconds=0.01)


def test_a_network_without_convolutions() -> None:
    net = Net(7)
    net.linear(5)
    found = Model(net.graph()).tune(seconds=0.01)
    assert found.rows == ()
    assert "nothing to gain" in str(found)


# --- where choices apply --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices",
    [
        {"another processor": {NODES[0]: "direct"}},
        {this_machine().key: {"no such node": "direct"}},
        {this_machine().key: {NODES[0]: "no_such_kernel"}},
        {this_machine().key: {NODES[0]: "depthwise"}},  # which cannot do it
        {this_machine().key: {"linear0": "direct"}},
    ],
)
def test_what_does_not_apply_is_passed_over(choices: dict[str, dict[str, str]]) -> None:
    assert kernels_of(Model(network().replace(tuned=choices))) == kernels_of(Model(network()))


def test_an_algorithm_that_is_asked_for_comes_first() -> None:
    graph = optimize(network()).replace(tuned={this_machine().key: dict.fromkeys(NODES, "direct")})
    assert all("direct" in label for label in kernels_of(compile_graph(graph)))
    assert not any("direct" in label for label in kernels_of(compile_graph(graph, algorithm="winograd")))
    assert not any("direct" in label for label in kernels_of(compile_graph(graph, kernel="winograd_2x2")))


def test_one_layer_can_be_given_a_kernel() -> None:
    graph = optimize(NETWORKS["vgg"]())
    first, second, *others = layers_of(graph)

    def labels_of(program: Any) -> dict[str, str]:
        return {step["node"]: step["label"] for step in program.steps if step["kernel"].startswith("conv")}

    labels, as_ever = (
        labels_of(compile_graph(graph, kernels={second: "winograd_2x2", first: "direct"})),
        labels_of(compile_graph(graph)),
    )
    assert labels[first].startswith("direct tile")
    assert labels[second].startswith("Winograd F(2x2, 3x3)")
    assert all(labels[name] == as_ever[name] for name in others)


def test_kernels_that_are_asked_for_are_not_passed_over() -> None:
    graph = optimize(network())
    with pytest.raises(ArgumentError, match=r"kernels: 'conv9' is no convolution of the network; its convolutions are"):
        compile_graph(graph, kernels={"conv9": "direct"})
    with pytest.raises(ArgumentError, match="kernel: needs one of depthwise"):
        compile_graph(graph, kernels={NODES[0]: "magic"})
    with pytest.raises(UnsupportedOperatorError, match="kernel='depthwise' cannot do this convolution"):
        compile_graph(graph, kernels={NODES[0]: "depthwise"})


@pytest.mark.parametrize("wrong", [[1], {"a": 1}, {"a": {"b": 1}}, {"a": ["direct"]}, "direct"])
def test_files_must_map_names_to_names(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(fastconv.FastconvError, match="tuned"):
        network().replace(tuned=wrong)
    path = tmp_path / "model.npz"
    npz.save(network(), path)
    with np.load(path) as arrays:
        parts = dict(arrays)
    document = json.loads(parts["fastconv.json"].tobytes())
    parts["fastconv.json"] = np.frombuffer(json.dumps({**document, "tuned": wrong}).encode(), np.uint8)
    np.savez(path, **parts)
    with pytest.raises(fastconv.FastconvError, match="tuned"):
        fastconv.load(path)
