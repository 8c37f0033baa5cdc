"""Models whose image size may vary: the same answers as a model made for the size, and bounds on what is kept."""

from __future__ import annotations

import copy
import json
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interpreter import run_graph
from processes import run

import fastconv
from fastconv import Model, ShapeError, sizes
from fastconv.errors import ArgumentError, DTypeError, FastconvError, ModelFormatError
from fastconv.graph import Graph
from fastconv.graph.builder import GraphBuilder
from fastconv.graph.dynamic import compare
from fastconv.graph.preprocessing import Preprocessing
from fastconv.rewrite import optimize

LABELS = ("ant", "bee", "cat")

# Around the strides (8 in all), the vector width and the tile; smaller and larger than the nominal 16 x 18.
SHAPES = [(1, 1), (2, 3), (7, 9), (8, 8), (9, 7), (15, 17), (16, 17), (16, 16), (18, 16), (17, 31), (33, 15), (64, 33)]


def network(channels: int = 3, **more: Any) -> Graph:
    """Three strides of two (convolution, pooling, convolution), a residual, global pooling, three classes."""
    rng = np.random.default_rng(5)
    net = GraphBuilder((channels, 16, 18))

    def conv(x: str, outputs: int, inputs: int, kernel: int, **attrs: Any) -> str:
        weights = {
            "weight": rng.standard_normal((outputs, inputs, kernel, kernel)).astype(np.float32) / (kernel * inputs),
            "bias": rng.standard_normal(outputs).astype(np.float32),
        }
        return net.add("conv2d", x, weights=weights, padding=kernel // 2, **attrs)

    x = net.add("relu", conv("input", 8, channels, 3, stride=2))
    x = net.add("max_pool2d", x, kernel_size=3, stride=2, padding=1)
    x = net.add("add", conv(x, 8, 8, 3), x)
    x = conv(net.add("relu", x), 19, 8, 3, stride=2)
    net.flatten(net.add("adaptive_avg_pool2d", x, output_size=1))
    net.add("linear", weights={"weight": rng.standard_normal((3, 19)).astype(np.float32)})
    return net.graph(**{"dynamic": True, **more})


def images(count: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(shape)
    return rng.standard_normal((count, *shape)).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network()


@pytest.fixture
def model(graph: Graph) -> Model:
    return Model(graph, threads=1)


def same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a, b, strict=True)


# --- calling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_another_size_gives_what_a_model_of_that_size_gives(size: tuple[int, int], threads: int, graph: Graph) -> None:
    model = Model(graph, threads=threads)
    fixed = Model(graph.replace(input_shape=(3, *size), dynamic=False), threads=threads)
    x = images(5, 3, *size)
    y = model(x)
    same(y, fixed(x))
    (expected,) = run_graph(fixed.graph, x)
    assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()
    same(model(x[3]), y[3])
    same(model(x[:0]), y[:0])
    same(model(x.astype(np.float64)), y)
    same(model(np.asfortranarray(x)), y)
    same(model(x[1:3].tolist()), y[1:3])


def test_the_nominal_size_needs_no_other_program(model: Model) -> None:
    x = images(2, 3, 16, 18)
    same(model(x), Model(network(dynamic=False), threads=1)(x))
    model(x[0])
    model(x.astype(np.float64))
    model.predict(np.zeros((16, 18, 3), np.uint8))
    model.predict_proba(x)
    assert len(model._sizes) == 0


def test_several_outputs_of_any_size() -> None:
    net = GraphBuilder((2, 8, 8))
    pooled = net.add("max_pool2d", kernel_size=2)
    net.add("relu", pooled)
    graph = net.graph([pooled, net.last], dynamic=True)
    a, b = Model(graph)(images(3, 2, 11, 6))
    assert a.shape == b.shape == (3, 2, 5, 3)
    same(np.maximum(a, 0), b)


def test_the_nominal_shapes_stay(model: Model) -> None:
    model(images(1, 3, 40, 40))
    assert (model.input_shape, model.output_shapes, model.dynamic) == ((3, 16, 18), ((3,),), True)
    assert model.graph.input_shape == (3, 16, 18)


def test_profile_takes_other_sizes(model: Model) -> None:
    assert model.profile(images(2, 3, 30, 20), repeats=1).batch == 2
    assert len(model._sizes) == 1


# --- predicting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 18), (25, 30), (9, 40)])
def test_predict_takes_every_form_of_image(channels: int, size: tuple[int, int], tmp_path: Path) -> None:
    pil = pytest.importorskip("PIL.Image")
    model = Model(
        network(channels, labels=LABELS, preprocessing=Preprocessing(mean=[0.4] * channels, std=[0.3] * channels)),
        threads=1,
    )
    pixels = np.random.default_rng(1).integers(0, 256, (4, *size, channels), np.uint8)
    x = ((pixels.astype(np.float32) / np.float32(255)) - np.float32(0.4)) / np.float32(0.3)
    expected = [LABELS[i] for i in model(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).argmax(1)]
    floats = pixels.astype(np.float32) / np.float32(255)
    planes = floats.transpose(0, 3, 1, 2)

    assert list(model.predict(pixels)) == expected
    assert list(model.predict(floats)) == expected
    assert list(model.predict(planes)) == expected
    assert list(model.predict(list(pixels))) == expected
    picture = pil.fromarray(pixels[0, ..., 0] if channels == 1 else pixels[0])
    picture.save(tmp_path / "image.png")
    for one in (pixels[0], floats[0], planes[0], picture, tmp_path / "image.png", str(tmp_path / "image.png")):
        assert model.predict(one) == expected[0]
    assert list(model.predict([picture, picture])) == [expected[0]] * 2
    if channels == 1:
        assert list(model.predict(pixels[..., 0])) == expected
        assert model.predict(floats[0, ..., 0]) == expected[0]
        assert model.predict(floats[0, ..., 0].tolist()) == expected[0]
    same(model.predict_proba(pixels[0]), model.predict_proba(pixels)[0])


def test_an_image_of_the_nominal_size_is_never_ambiguous() -> None:
    net = GraphBuilder((3, 3, 18))
    net.add("relu")
    net.flatten(net.add("adaptive_avg_pool2d", output_size=1))
    model = Model(net.graph(dynamic=True))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 18, 3), np.uint8)
    same(model.predict_proba(pixels), Model(net.graph()).predict_proba(pixels))
    assert len(model._sizes) == 0


@pytest.mark.parametrize("shape", [(3, 500, 3), (2, 3, 50, 3), (3, 3, 3)])
def test_an_ambiguous_image_is_refused(shape: tuple[int, ...], model: Model) -> None:
    with pytest.raises(ShapeError, match="channels first and as channels last"):
        model.predict(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.zeros((40, 40), np.uint8), ShapeError),  # no channels
        (np.zeros((40, 40, 4), np.uint8), ShapeError),
        (np.zeros((40, 40, 3), np.int64), DTypeError),
        (np.zeros(40, np.uint8), ShapeError),
        ([np.zeros((40, 40, 3), np.uint8), np.zeros((41, 40, 3), np.uint8)], FastconvError),
        (np.zeros((0, 40, 3), np.uint8), FastconvError),
        (None, FastconvError),
    ],
)
def test_what_is_no_image_is_refused(value: Any, error: type[Exception], model: Model) -> None:
    with pytest.raises(error):
        model.predict(value)
    assert len(model._sizes) <= 1


def test_a_ragged_list_is_refused_as_by_a_fixed_model(model: Model) -> None:
    for each in (model, Model(network(dynamic=False))):
        with pytest.raises(ValueError, match=r"inhomogeneous|ragged|sequence"):
            each.predict([[[1.0, 2.0]], [[1.0]]])


def test_a_path_that_is_not_there(model: Model, tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    with pytest.raises(FileNotFoundError):
        model.predict(tmp_path / "nothing.png")


def test_predict_refuses_sizes_that_give_other_classes() -> None:
    net = GraphBuilder((2, 8, 8))
    net.add("max_pool2d", kernel_size=8)
    net.flatten(net.last)
    model = Model(net.graph(dynamic=True))
    assert model(images(1, 2, 16, 24)).shape == (1, 12)
    model.predict(images(1, 2, 8, 15)[0])
    with pytest.raises(ShapeError, match=r"images of shape \(2, 16, 24\) give \(12,\) numbers, not the \(2,\)"):
        model.predict(images(1, 2, 16, 24)[0])


# --- predicting with preprocessing ----------------------------------------------------------------

NORMALISED = Preprocessing(scale=1 / 128, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
RESIZED = [
    NORMALISED.replace(resize_size=20, crop_size=(16, 18)),
    NORMALISED.replace(resize_size=(16, 18), interpolation="bicubic", antialias=False),
    Preprocessing(crop_size=(16, 18)),
]


@pytest.mark.parametrize("before", RESIZED, ids=str)
@pytest.mark.parametrize("size", [(16, 18), (33, 47), (9, 40), (5, 7)])
def test_what_resizes_or_crops_gives_the_nominal_size(
    before: Preprocessing, size: tuple[int, int], tmp_path: Path
) -> None:
    pil = pytest.importorskip("PIL.Image")
    model = Model(network(labels=LABELS, preprocessing=before), threads=1)
    fixed = Model(network(labels=LABELS, preprocessing=before, dynamic=False), threads=1)
    pixels = np.random.default_rng(2).integers(0, 256, (3, *size, 3), np.uint8)
    picture = pil.fromarray(pixels[0])
    picture.save(tmp_path / "image.png")
    odd = np.ascontiguousarray(pixels[0, 1:, 2:])  # a list may have several sizes
    for image in (pixels, pixels[0], picture, tmp_path / "image.png", [picture, odd]):
        same(model.predict_proba(image), fixed.predict_proba(image))
        same(model.predict(image), fixed.predict(image))
        assert model.predict(image, top=2) == fixed.predict(image, top=2)
    assert len(model._sizes) == 0
    if size != (16, 18):  # floats are not resized
        with pytest.raises(ShapeError, match="expects 16x18 pixels"):
            model.predict(pixels[0].astype(np.float32))


@pytest.mark.parametrize("before", [*RESIZED, NORMALISED], ids=str)
def test_calls_and_profiles_take_any_size_whatever_is_done_to_images(before: Preprocessing) -> None:
    model, plain = Model(network(preprocessing=before), threads=1), Model(network(), threads=1)
    for size in SHAPES:
        x = images(2, 3, *size)
        same(model(x), plain(x))
        same(model(x[0]), plain(x[0]))
    assert model.profile(images(1, 3, 30, 20), repeats=1).batch == 1
    kept = {other.model.preprocessing for other in model._sizes._kept.values()}
    assert kept == {None if before.changes_size else before}


def test_scale_mean_and_std_are_applied_at_any_size() -> None:
    model = Model(network(labels=LABELS, preprocessing=NORMALISED), threads=1)
    mean, std = (np.float32(values)[:, np.newaxis, np.newaxis] for values in (NORMALISED.mean, NORMALISED.std))
    for size in SHAPES:
        if 3 in size or 1 in size:  # to be read in two ways
            continue
        pixels = np.random.default_rng(3).integers(0, 256, (2, *size, 3), np.uint8)
        x = (pixels.transpose(0, 3, 1, 2) * np.float32(1 / 128) - mean) / std
        expected = model(np.ascontiguousarray(x))
        assert list(model.predict(pixels)) == [LABELS[i] for i in expected.argmax(1)]
        fixed = Model(model.graph.replace(input_shape=(3, *size), dynamic=False), threads=1)
        same(model.predict_proba(pixels), fixed.predict_proba(pixels))
        assert model.predict(pixels[0], top=3) == fixed.predict(pixels[0], top=3)


@pytest.mark.parametrize("before", [*RESIZED, NORMALISED], ids=str)
def test_sizes_and_preprocessing_are_kept_together(before: Preprocessing, tmp_path: Path) -> None:
    model = Model(network(labels=LABELS, preprocessing=before), threads=1)
    path = tmp_path / "model.npz"
    model.save(path)
    pixels, x = np.random.default_rng(4).integers(0, 256, (29, 41, 3), np.uint8), images(2, 3, 21, 33)
    for twin in (fastconv.load(path, threads=1), pickle.loads(pickle.dumps(model))):
        assert (twin.dynamic, twin.preprocessing, twin.labels) == (True, before, LABELS)
        same(twin(x), model(x))
        same(twin.predict_proba(pixels), model.predict_proba(pixels))
    one_size = fastconv.load(path, dynamic=False)
    assert (one_size.dynamic, one_size.preprocessing) == (False, before)


def test_a_dynamic_file_for_another_size_crops_to_that(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    path = tmp_path / "model.npz"
    Model(network(preprocessing=RESIZED[0])).save(path)
    model = fastconv.load(path, input_shape=(3, 32, 36))
    assert (model.dynamic, model.preprocessing) == (True, RESIZED[0].replace(resize_size=40, crop_size=(32, 36)))
    pixels = np.random.default_rng(4).integers(0, 256, (29, 41, 3), np.uint8)
    same(model.predict_proba(pixels), fastconv.load(path, input_shape=(3, 32, 36), dynamic=False).predict_proba(pixels))
    same(model(images(1, 3, 16, 18)), Model(network())(images(1, 3, 16, 18)))


def test_a_summary_tells_both() -> None:
    summary = Model(network(preprocessing=RESIZED[0])).summary()
    dynamic = "dynamic: images of other sizes are taken too"
    assert str(summary).startswith(f"images: {RESIZED[0]}\n{dynamic}\nlayer ")
    assert f"<caption>images: {RESIZED[0]}<br>{dynamic}</caption>" in summary._repr_html_()


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (16,), (16, 18), (4, 16, 18), (1, 4, 16, 18), (2, 40, 40, 3), (1, 1, 3, 9, 9)])
def test_other_ranks_and_channels_are_refused(shape: tuple[int, ...], model: Model) -> None:
    with pytest.raises(ShapeError, match=r"expects \(N, 3, H, W\) or \(3, H, W\), got .*3 channels"):
        model(np.zeros(shape, np.float32))


@pytest.mark.parametrize("dtype", ["c8", "U1", "O"])
def test_other_dtypes_are_refused(dtype: str, model: Model) -> None:
    with pytest.raises(DTypeError):
        model(np.zeros((1, 3, 30, 30), dtype))


def test_a_size_that_is_too_small_names_the_layer() -> None:
    net = GraphBuilder((1, 12, 12))
    net.add("conv2d", name="conv", weights={"weight": np.ones((2, 1, 5, 5), np.float32)})
    model = Model(net.graph(dynamic=True))
    for _ in range(2):
        with pytest.raises(ShapeError, match=r"images of shape \(1, 4, 40\): conv: "):
            model(images(1, 1, 4, 40))
    assert len(model._sizes) == 0
    assert model(images(1, 1, 5, 40)).shape == (1, 2, 1, 36)


def test_a_fixed_model_refuses_as_before() -> None:
    model = Model(network(dynamic=False))
    assert not model.dynamic
    with pytest.raises(ShapeError, match=r"expects \(N, 3, 16, 18\) .*resize the images, or load the model"):
        model(images(1, 3, 17, 18))
    with pytest.raises(ShapeError, match="nothing is resized silently"):
        model.predict(np.zeros((17, 18, 3), np.uint8))


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ([("flatten", {}), ("linear", {})], "linear: expects 64 features, the input has 256, where images have shape"),
        ([("reshape", {"shape": (1, 4, 16)})], r"reshape: cannot reshape \(1, 16, 16\)"),
        (
            [("reshape", {"shape": (1, -1)})],
            r"reshape depends on the image size: shape, \(1, 64\) or \(1, 256\)",
        ),
        ([("adaptive_avg_pool2d", {"output_size": (None, 1)})], r"depends on the image size: output_size, \(8, 1\) or"),
    ],
)
def test_a_node_that_depends_on_the_size_is_named(ops: list[tuple[str, dict[str, Any]]], message: str) -> None:
    net = GraphBuilder((1, 8, 8))
    for op, attrs in ops:
        net.add(op, weights={"weight": np.ones((2, 64), np.float32)} if op == "linear" else None, **attrs)
    assert net.graph().dynamic is False
    with pytest.raises(ShapeError, match=message) as caught:
        net.graph(dynamic=True)
    assert "leave out dynamic=True" in str(caught.value)


def test_only_images_have_sizes_that_vary() -> None:
    net = GraphBuilder((8,))
    net.add("relu")
    with pytest.raises(ShapeError, match=r"dynamic=True is for images, \(C, H, W\); the input is \(8,\)"):
        net.graph(dynamic=True)


def test_two_readings_are_compared_node_by_node() -> None:
    def reading(size: int, **changes: Any) -> Graph:
        net = GraphBuilder((1, size, size))
        weight = changes.get("weight", np.array([[[[1.0]]], [[[np.nan]]]], np.float32))
        net.add("conv2d", weights={"weight": weight, **changes.get("more", {})}, stride=changes.get("stride", 1))
        net.add(changes.get("op", "relu"))
        return net.graph(changes.get("outputs"))

    first = reading(8)
    compare(first, reading(12))
    for changes, message in {
        "weight": "conv2d depends on the image size: weight differs",
        "more": "conv2d depends on the image size: bias differs",
        "stride": r"stride, \(1, 1\) or \(2, 2\), differs",
        "op": "relu depends on the image size: the node itself differs",
        "outputs": "the outputs are relu for images",
    }.items():
        value = {
            "weight": np.ones((2, 1, 1, 1), np.float32),
            "more": {"bias": np.ones(2, np.float32)},
            "stride": 2,
            "op": "sigmoid",
            "outputs": ["conv2d"],
        }[changes]
        with pytest.raises(ShapeError, match=message):
            compare(first, reading(12, **{changes: value}))


# --- what is kept ---------------------------------------------------------------------------------


def test_the_sizes_used_last_are_kept(model: Model) -> None:
    compiled = []
    make = model._sizes._make
    model._sizes._make = lambda shape: compiled.append(shape[1]) or make(shape)
    for height in (*range(20, 20 + sizes.KEPT), 20, 99, 20, 21):
        model(images(1, 3, height, 20))
    # The first was used again before the ninth came, so the second went.
    assert compiled == [*range(20, 20 + sizes.KEPT), 99, 21]
    assert len(model._sizes) == sizes.KEPT
    model(images(1, 3, 16, 18))
    assert len(compiled) == sizes.KEPT + 2


def test_fewer_are_kept_where_they_take_much_memory(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model(images(1, 3, 20, 20))
    (kept,) = model._sizes._kept.values()
    assert kept.nbytes >= kept.model._program.workspace_bytes + 4 * model.graph.parameters
    monkeypatch.setattr(sizes, "KEPT_BYTES", 2 * kept.nbytes + 100_000)
    for width in range(21, 27):
        model(images(1, 3, 20, width))
        assert 1 <= len(model._sizes) <= 4
        assert (3, 20, width) in model._sizes._kept
    monkeypatch.setattr(sizes, "KEPT_BYTES", 0)
    model(images(1, 3, 50, 50))
    assert list(model._sizes._kept) == [(3, 50, 50)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads memory in Linux's /proc")
def test_memory_stays_flat() -> None:
    code = """
import os, sys
import numpy as np
from fastconv.model import Model
from test_dynamic import network

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

model = Model(network(), threads=1)
def calls(count):
    for k in range(count):
        model(np.zeros((1, 3, 40 + k % 30, 40 + k % 7), np.float32))

calls(420)
before = resident()
calls(840)
print(resident() - before)
"""
    growth = int(run("-c", code, PYTHONPATH=str(Path(__file__).parent)))
    assert growth < 8 * 1024 * 1024  # 840 programs take over 100 MiB


# --- threads --------------------------------------------------------------------------------------


def test_threads_use_many_sizes_at_once(graph: Graph) -> None:
    shapes = [(height, width) for height in (9, 16, 17, 24) for width in (8, 15, 18, 33)]  # twice as many as are kept
    inputs = [images(1 + k % 3, 3, *shape) for k, shape in enumerate(shapes)]
    expected = [Model(graph.replace(input_shape=x.shape[1:], dynamic=False), threads=1)(x) for x in inputs]
    model = Model(graph, threads=2)

    def call(index: int) -> bool:
        order = np.random.default_rng(index).permutation(len(inputs))
        return all(np.array_equal(model(inputs[k]), expected[k]) for k in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(16)))
    assert len(model._sizes) <= sizes.KEPT


def test_one_size_is_compiled_once_for_all_threads(graph: Graph) -> None:
    model = Model(graph, threads=1)
    compiled: list[tuple[int, ...]] = []
    make = model._sizes._make
    model._sizes._make = lambda shape: compiled.append(shape) or make(shape)
    barrier = threading.Barrier(8)

    def call(_: int) -> np.ndarray:
        barrier.wait()
        return model(images(1, 3, 50, 50))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, range(8)))
    assert compiled == [(3, 50, 50)]
    for result in results:
        same(result, results[0])


def test_known_sizes_run_while_another_is_compiled(graph: Graph) -> None:
    model = Model(graph, threads=1)
    known = images(1, 3, 30, 30)
    model(known)
    make = model._sizes._make
    begun, proceed = threading.Event(), threading.Event()

    def slowly(shape: tuple[int, ...]) -> Model:
        begun.set()
        assert proceed.wait(60)
        return make(shape)

    model._sizes._make = slowly
    worker = threading.Thread(target=model, args=(images(1, 3, 31, 31),))
    worker.start()
    assert begun.wait(60)
    model(known)
    model(images(1, 3, 16, 18))
    assert worker.is_alive()
    proceed.set()
    worker.join(60)
    assert (3, 31, 31) in model._sizes._kept


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_process_that_was_compiling_can_compile() -> None:
    code = """
import os, threading
import numpy as np
from fastconv.model import Model
from test_dynamic import network

model = Model(network(), threads=1)
model(np.zeros((1, 3, 30, 30), np.float32))
make, begun, proceed = model._sizes._make, threading.Event(), threading.Event()

def slowly(shape):
    begun.set()
    proceed.wait(60)
    return make(shape)

model._sizes._make = slowly
worker = threading.Thread(target=model, args=(np.zeros((1, 3, 31, 31), np.float32),))
worker.start()
begun.wait(60)
child = os.fork()
if not child:
    model._sizes._make = make
    model(np.zeros((1, 3, 32, 32), np.float32))
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
proceed.set()
worker.join()
"""
    assert run("-c", code, PYTHONPATH=str(Path(__file__).parent)) == "7\n"


# --- keeping and showing --------------------------------------------------------------------------


def test_copies_and_files_keep_it(model: Model, tmp_path: Path) -> None:
    x = images(2, 3, 21, 35)
    expected = model(x)
    path = tmp_path / "net.npz"
    model.save(path)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), fastconv.load(path, threads=1)):
        assert other.dynamic
        same(other(x), expected)
    fixed = fastconv.load(path, dynamic=False)
    assert not fixed.dynamic
    with pytest.raises(ShapeError):
        fixed(x)
    other = fastconv.load(path, input_shape=(3, 21, 35), threads=1)
    assert (other.dynamic, other.input_shape) == (True, (3, 21, 35))
    same(other(x), expected)


def test_a_file_for_one_size_is_not_made_dynamic(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    Model(network(dynamic=False)).save(path)
    with np.load(path) as arrays:
        assert "dynamic" not in json.loads(arrays["fastconv.json"].tobytes())
    assert not fastconv.load(path).dynamic
    assert not fastconv.load(path, dynamic=False).dynamic
    with pytest.raises(ArgumentError, match=r"net\.npz: dynamic=True: the network was saved for one image size"):
        fastconv.load(path, dynamic=True)


@pytest.mark.parametrize("value", [1, "true", None, [True]])
def test_the_field_in_the_file_is_true_or_false(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    Model(network()).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    document = json.loads(arrays["fastconv.json"].tobytes())
    assert document["dynamic"] is True
    document["dynamic"] = value
    arrays["fastconv.json"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(ModelFormatError, match="dynamic must be true or false"):
        fastconv.load(path)


def test_a_file_that_claims_it_wrongly_is_refused(tmp_path: Path) -> None:
    net = GraphBuilder((1, 4, 8))
    net.add("reshape", shape=(1, 8, 4))  # would take an image of 8 x 4 pixels as well, and misread it
    path = tmp_path / "net.npz"
    Model(net.graph()).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    document = json.loads(arrays["fastconv.json"].tobytes()) | {"dynamic": True}
    np.savez(path, **{**arrays, "fastconv.json": np.frombuffer(json.dumps(document).encode(), np.uint8)})
    with pytest.raises(ShapeError, match="reshape: cannot reshape"):
        fastconv.load(path)


def test_a_lenet_has_one_size() -> None:
    path = Path(__file__).resolve().parents[1] / "models" / "lenet.npz"
    assert not fastconv.load(path).dynamic
    with pytest.raises(ShapeError, match="fc1: expects 256 features"):
        fastconv.load(path, dynamic=True)


def test_it_is_shown(model: Model) -> None:
    fixed = Model(network(dynamic=False), threads=1)
    assert repr(model).startswith("<fastconv.Model (3, 16, 18), other sizes too, -> (3,), ")
    assert str(model.graph).startswith("input -> 3x16x18 float32, other sizes too\n")
    assert str(model.summary()).splitlines()[1:] == str(fixed.summary()).splitlines()
    assert str(model.summary()).startswith("dynamic: images of other sizes are taken too\n")
    assert "<caption>dynamic: images of other sizes are taken too</caption>" in model.summary()._repr_html_()
    assert "other sizes" not in f"{fixed!r}{fixed.graph}{fixed.summary()}{fixed._repr_html_()}"
    assert not optimize(model.graph).dynamic  # rewriting may use the shapes
