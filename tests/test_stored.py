"""Large weights stay in the file that a model was loaded from, and are read again where someone asks."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.errors import ModelFormatError
from fastconv.formats import npz
from fastconv.formats.npz.stored import Stored, without_values
from fastconv.graph import Graph
from fastconv.graph.builder import GraphBuilder
from fastconv.model import _KEPT_IN_MEMORY

CHANNELS = 256


def network(dynamic: bool = False) -> Graph:
    """Two convolutions that share their weights, and a linear layer: 3.6 MB."""
    rng = np.random.default_rng(5)

    def weight(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:], dtype=np.float32))

    shared = weight(CHANNELS, CHANNELS, 3, 3)
    build = GraphBuilder((CHANNELS, 6, 6))
    build.add("conv2d", padding=1, weights={"weight": shared})
    build.add("conv2d", padding=1, weights={"weight": shared})
    build.add("relu")
    build.add("adaptive_avg_pool2d", output_size=1)
    build.flatten(build.last)
    build.add("linear", weights={"weight": weight(1000, CHANNELS)})
    return build.graph(dynamic=dynamic)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    npz.save(network(), tmp_path / "net.npz")
    assert (tmp_path / "net.npz").stat().st_size > _KEPT_IN_MEMORY
    return tmp_path / "net.npz"


def held(model: fastconv.Model) -> int:
    """Bytes of the weights that a model keeps as its file has them."""
    arrays = [array for node in model._graph.nodes for array in node.weights.values()]
    return sum(array.nbytes for array in arrays if any(array.strides))


def same(one: Graph, other: Graph) -> bool:
    return str(one) == str(other) and all(
        np.array_equal(array, mine.weights[role])
        for mine, theirs in zip(one.nodes, other.nodes, strict=True)
        for role, array in theirs.weights.items()
    )


def test_the_weights_are_not_kept_and_come_back(path: Path, tmp_path: Path) -> None:
    model = fastconv.load(path)
    assert held(model) == 0
    assert held(fastconv.Model(network())) > _KEPT_IN_MEMORY
    assert same(model.graph, network())
    model.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()
    x = np.random.default_rng(0).random((2, CHANNELS, 6, 6), np.float32)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy(x), model(x))
    assert str(model.summary()) == str(fastconv.Model(network()).summary())
    assert repr(model) == repr(fastconv.Model(network()))
    assert model.profile(x, repeats=1).rows


def test_nothing_keeps_the_graph_that_was_compiled(path: Path) -> None:
    gc.collect()
    before = {id(found) for found in gc.get_objects() if isinstance(found, Graph)}
    model = fastconv.load(path)
    graphs = [found for found in gc.get_objects() if isinstance(found, Graph) and id(found) not in before]
    assert graphs == [model._graph]


def test_small_models_keep_theirs() -> None:
    lenet = Path(__file__).parent.parent / "models" / "lenet.npz"
    model = fastconv.load(lenet)
    assert model.graph is model.graph


def test_the_file_may_be_replaced_and_deleted(path: Path, tmp_path: Path) -> None:
    model = fastconv.load(path)
    model.save(path)  # over the file itself: it is renamed
    assert same(model.graph, network())
    path.unlink()
    assert same(model.graph, network())


@pytest.mark.parametrize("how", ["flipped", "shortened", "emptied"])
def test_a_file_that_was_written_to_is_told(path: Path, tmp_path: Path, how: str) -> None:
    model = fastconv.load(path)
    x = np.ones((CHANNELS, 6, 6), np.float32)
    want = model(x)
    with open(path, "r+b") as file:
        if how == "flipped":
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        else:
            file.truncate(path.stat().st_size // 2 if how == "shortened" else 0)
    np.testing.assert_array_equal(model(x), want)
    for ask in (lambda: model.graph, lambda: model.save(tmp_path / "copy.npz"), lambda: pickle.dumps(model)):
        with pytest.raises(ModelFormatError, match=r"net\.npz: .*written to after the model had been loaded"):
            ask()
    assert not (tmp_path / "copy.npz").exists()


def test_other_sizes(tmp_path: Path) -> None:
    npz.save(network(dynamic=True), tmp_path / "net.npz")
    model = fastconv.load(tmp_path / "net.npz")
    x = np.random.default_rng(0).random((CHANNELS, 9, 7), np.float32)
    np.testing.assert_array_equal(model(x), fastconv.Model(network().replace(input_shape=x.shape))(x))
    (kept,) = model._sizes._kept.values()
    assert held(kept.model) == 0
    assert kept.nbytes > 3 * _KEPT_IN_MEMORY


def test_files_are_closed(path: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("no /proc")
    before = len(list(folder.iterdir()))
    for _ in range(3):
        model = fastconv.load(path)
        assert len(list(folder.iterdir())) == before + 1
        del model
    path.write_bytes(path.read_bytes()[:-9] + b"         ")
    with pytest.raises(ModelFormatError):
        fastconv.load(path)
    gc.collect()
    assert len(list(folder.iterdir())) == before


def test_threads_and_forked_processes_read_at_once(path: Path) -> None:
    model = fastconv.load(path)
    wrong: list[Any] = []

    def read() -> None:
        for _ in range(5):
            if not same(model.graph, network()):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    child = os.fork()
    if child == 0:
        os._exit(0 if same(model.graph, network()) else 1)
    read()
    assert os.waitpid(child, 0)[1] == 0
    assert not wrong


def test_without_values_shares_what_is_shared(path: Path) -> None:
    graph = without_values(Stored(path, None, None, None)())
    assert graph.parameters == network().parameters
    assert all(np.isnan(array).all() for node in graph.nodes for array in node.weights.values())


def test_what_is_said_when_it_is_loaded_stays(path: Path, tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1000)]
    model = fastconv.load(path, labels=names, mean=[0.5] * CHANNELS, std=[2.0] * CHANNELS)
    assert held(model) == 0
    model.save(tmp_path / "again.npz")
    for other in (fastconv.load(tmp_path / "again.npz"), pickle.loads(pickle.dumps(model))):
        assert other.labels == tuple(names)
        assert other.preprocessing == model.preprocessing is not None
        assert same(other.graph, model.graph)
