"""Model: what it takes, what it gives back, and that neither threads nor copies change a bit."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import Model, ModelFormatError, ShapeError
from fastconv.errors import ArgumentError, DTypeError
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.preprocessing import Preprocessing
from fastconv.images import to_batch
from fastconv.outputs import Outputs

LABELS = ("ant", "bee", "cat", "dog", "eel")
RNG = np.random.default_rng(1)


def classifier(channels: int = 1, *last: Node, **more: Any) -> Graph:
    """conv - relu - pool - flatten - linear to 5 classes, on (channels, 12, 10), then `last`."""
    rng = np.random.default_rng(7)

    def weights(*shape: int) -> dict[str, np.ndarray]:
        return {
            "weight": rng.standard_normal(shape).astype(np.float32),
            "bias": rng.standard_normal(shape[0]).astype(np.float32),
        }

    nodes = (
        Node("conv", "conv2d", (INPUT,), {}, weights(4, channels, 3, 3)),
        Node("relu", "relu", ("conv",)),
        Node("pool", "max_pool2d", ("relu",), {"kernel_size": 2}),
        Node("flatten", "flatten", ("pool",)),
        Node("fc", "linear", ("flatten",), {}, weights(5, 80)),
        *last,
    )
    return Graph((channels, 12, 10), nodes, (nodes[-1].name,), **more)


def images(n: int, channels: int = 1) -> np.ndarray:
    return RNG.standard_normal((n, channels, 12, 10)).astype(np.float32)


def pictures(n: int, *channels: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, 12, 10, *channels), np.uint8)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(classifier(), threads=1)


def same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a, b, strict=True)


# --- calling --------------------------------------------------------------------------------------


def test_outputs_equal_pytorchs():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    graph, x = classifier(3), images(4, 3)
    roles = [graph.node(name).weights for name in ("conv", "fc")]
    conv, fc = ({role: torch.from_numpy(w) for role, w in weights.items()} for weights in roles)
    y = functional.max_pool2d(functional.relu(functional.conv2d(torch.from_numpy(x), **conv)), 2)
    expected = functional.linear(y.flatten(1), **fc).numpy()
    found = Model(graph)(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_one_image_has_no_batch_axis(model):
    x = images(3)
    batch = model(x)
    assert batch.shape == (3, 5)
    same(model(x[1]), batch[1])
    same(model(x[1:2]), batch[1:2])


@pytest.mark.parametrize(
    "dtype",
    ["f2", "f4", "f8", "g", ">f4", "i1", "u1", "i8", "u8", "?"],
)
def test_any_real_dtype_is_used_as_it_is(model, dtype):
    x = (100 * images(2)).clip(0, 100).astype(dtype)
    same(model(x), model(np.ascontiguousarray(x, np.float32)))
    same(model(x[0]), model(np.ascontiguousarray(x[0], np.float32)))


def unaligned(x: np.ndarray) -> np.ndarray:
    result = np.frombuffer(b"-" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    assert not result.flags.aligned
    return result


def read_only(x: np.ndarray) -> np.ndarray:
    result = x.copy()
    result.flags.writeable = False
    return result


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        lambda x: x[:, ::-1, ::-1, ::-1],
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        lambda x: x.view(type("Sub", (np.ndarray,), {})),
        unaligned,
        read_only,
        np.ndarray.tolist,
    ],
)
def test_any_memory_layout(model, layout):
    x = layout(images(3))
    expected = model(np.array(x, np.float32, order="C"))
    found = model(x)
    assert type(found) is np.ndarray
    same(found, expected)


def test_inputs_stay_and_outputs_are_fresh(model):
    x = images(2)
    before = x.copy()
    first = model(x)
    kept = first.copy()
    second = model(x)
    assert not np.shares_memory(first, second)
    model(images(2))
    first += 1
    same(second, kept)
    same(x, before)


def test_an_empty_batch(model):
    assert model(np.empty((0, 1, 12, 10), np.float32)).shape == (0, 5)
    assert model(np.empty((0, 1, 12, 10), np.int64)).shape == (0, 5)
    assert model.predict(np.empty((0, 12, 10), np.uint8)).shape == (0,)
    assert model.predict([]).dtype == np.int64
    assert model.predict_proba([]).shape == (0, 5)


def test_several_outputs_are_a_tuple():
    graph = classifier().replace(outputs=("fc", "pool", "fc"))
    model, x = Model(graph), images(2)
    assert model.output_shapes == ((5,), (4, 5, 4), (5,))
    found = model(x)
    assert type(found) is Outputs
    assert found.keys() == model.output_names == ("fc", "pool", "fc#2")
    assert [y.shape for y in found] == [(2, 5), (2, 4, 5, 4), (2, 5)]
    same(found[0], Model(classifier())(x))
    for one, batch in zip(model(x[0]), found, strict=True):
        same(one, batch[0])


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((12, 10), r"expand_dims\(x, -3\)"),
        ((7, 12, 10), r"expand_dims\(x, -3\)"),
        ((12, 10, 1), r"moveaxis\(x, -1, -3\)"),
        ((2, 12, 10, 1), r"moveaxis\(x, -1, -3\)"),
        ((2, 3, 12, 10), "need 1 channel"),
        ((2, 1, 12, 11), "resize.*input_shape"),
        ((1, 10, 12), "resize"),
        ((1, 1, 1, 12, 10), "resize"),
        ((), "resize"),
    ],
)
def test_a_wrong_shape_names_both_shapes_and_the_remedy(model, shape, remedy):
    with pytest.raises(ShapeError) as refusal:
        model(np.zeros(shape, np.float32))
    assert refusal.match(r"expects \(N, 1, 12, 10\) or \(1, 12, 10\), got ")
    assert str(shape) in str(refusal.value)
    assert refusal.match(remedy)


@pytest.mark.parametrize("x", [np.zeros((1, 12, 10), complex), None, "image", [["a"]]])
def test_what_is_not_real_is_refused(model, x):
    with pytest.raises(DTypeError, match="real numbers"):
        model(x)


# --- predict --------------------------------------------------------------------------------------


def test_predict_is_the_largest_output(model):
    x = images(6)
    expected = model(x).argmax(axis=1)
    found = model.predict(x)
    assert found.dtype == np.int64
    same(found, expected)
    one = model.predict(x[2])
    assert type(one) is int
    assert one == expected[2]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preprocessing", [False, True])
def test_one_picture_is_predicted_like_a_batch_of_scaled_floats(channels, preprocessing):
    mean, std = (0.2, 0.5, 0.3)[:channels], (0.3, 0.2, 0.1)[:channels]
    given = Preprocessing(mean=mean, std=std) if preprocessing else None
    model = Model(classifier(channels, preprocessing=given))
    shots = pictures(40, channels)
    scaled = shots.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    if preprocessing:
        axes = (1, channels, 1, 1)
        scaled = (scaled - np.float32(mean).reshape(axes)) / np.float32(std).reshape(axes)
    expected = model(scaled).argmax(axis=1)
    assert len(set(expected.tolist())) > 1
    assert [model.predict(shot) for shot in shots] == expected.tolist()
    same(model.predict(shots), expected)
    same(model.predict(list(shots)), expected)
    assert [model.predict(shot[::1, ::-1][:, ::-1]) for shot in shots] == expected.tolist()


def test_labels_are_given_for_one_and_for_many():
    model = Model(classifier(labels=LABELS))
    assert model.labels == LABELS
    shots = pictures(20)
    indices = Model(classifier()).predict(shots)
    found = model.predict(shots)
    assert found.shape == (20,)
    assert found.tolist() == [LABELS[i] for i in indices]
    assert [model.predict(shot) for shot in shots] == found.tolist()
    assert model.predict(shots[0].astype(np.float32) / 255) == found[0]
    assert type(model.predict(shots[0])) is str


def test_nan_is_the_largest_as_in_numpy_and_pytorch():
    nan = Node("nan", "leaky_relu", ("fc",), {"negative_slope": np.nan})
    model = Model(classifier(1, nan))  # negative outputs become NaN
    shots = pictures(20)
    outputs = model(shots[:, np.newaxis].astype(np.float32) / np.float32(255))
    assert np.isnan(outputs).any()
    expected = outputs.argmax(axis=1)
    same(model.predict(shots), expected)
    assert [model.predict(shot) for shot in shots] == expected.tolist()


def test_predict_proba_is_the_softmax(model):
    x = images(6)
    outputs = model(x).astype(np.float64)
    expected = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    found = model.predict_proba(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-37)  # atol: float32's normal range
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    same(model.predict_proba(x[3]), found[3])
    same(model.predict_proba(x).argmax(axis=1), model.predict(x))


def test_predict_proba_of_large_outputs_neither_overflows_nor_warns(model):
    found = model.predict_proba(1e6 * images(6))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "last",
    [
        (Node("probs", "softmax", ("fc",), {"dim": 1}),),
        (
            Node("probs", "softmax", ("fc",), {"dim": -1}),
            Node("drop", "dropout", ("probs",)),
            Node("view", "reshape", ("drop",), {"shape": (5,)}),
        ),
        (Node("log", "log_softmax", ("fc",), {"dim": 1}),),
    ],
)
def test_predict_proba_of_a_network_that_ends_in_softmax(model, last):
    x = images(6)
    found = Model(classifier(1, *last)).predict_proba(x)
    expected = model.predict_proba(x)
    # The network's own softmax is computed in float32, where exp flushes what is below its range.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("labels", [None, LABELS])
def test_predict_top_gives_the_best_classes_with_their_probabilities(labels):
    model, shots = Model(classifier(labels=labels)), pictures(7)
    shares = model.predict_proba(shots)
    found = model.predict(shots, top=3)
    for image, ranked, share in zip(shots, found, shares, strict=True):
        assert type(ranked) is list
        order = np.argsort(-share)[:3]
        assert ranked == [(int(i) if labels is None else labels[i], float(share[i])) for i in order]
        assert [type(part) for part in ranked[0]] == [int if labels is None else str, float]
        assert model.predict(image, top=3) == ranked
        assert model.predict(image, top=1) == ranked[:1]
        assert model.predict(image) == ranked[0][0]
        assert model.predict(image, top=np.int64(99)) == model.predict(image, top=5)
        assert len(model.predict(image, top=5)) == 5
    assert model.predict([], top=2) == []
    assert model.predict(list(shots), top=3) == found


def test_predict_top_orders_by_the_outputs_where_probabilities_are_equal():
    nodes = (Node("copy", "identity"),)
    model = Model(Graph((4,), nodes, ("copy",)))
    outputs = np.float32([[-1000, 5, -2000, 6000], [np.nan, 1, np.nan, np.inf], [1, 1, 1, 1]])
    found = model.predict(outputs, top=4)
    assert [[index for index, _ in ranked] for ranked in found] == [[3, 1, 0, 2], [0, 2, 3, 1], [0, 1, 2, 3]]
    assert [ranked[0][0] for ranked in found] == model.predict(outputs).tolist()
    assert [share for _, share in found[0]] == [1, 0, 0, 0]


@pytest.mark.parametrize("top", [0, -1, 1.5, "2", True, []])
def test_a_top_that_is_no_count_is_refused(model, top):
    with pytest.raises(ArgumentError, match="top must be the number of classes wanted, at least 1"):
        model.predict(pictures(1)[0], top=top)


@pytest.mark.parametrize(
    "before",
    [
        Preprocessing(resize_size=14, crop_size=(12, 10)),
        Preprocessing(scale=1),
        Preprocessing(resize_size=(12, 10)),
        Preprocessing(resize_size=10),
        Preprocessing(crop_size=(12, 10)),
    ],
    ids=repr,
)
def test_an_image_of_the_network_s_size_is_preprocessed_as_any_other(before):
    model = Model(classifier(3, preprocessing=before.replace(mean=(0.1, 0.2, 0.3))))
    for shot in pictures(20, 3):
        assert model.predict(shot) == model.predict([shot])[0] == model.predict(shot, top=1)[0][0]
        seen, _ = to_batch(shot, model.graph)
        assert model.predict(shot) == int(model(seen[0]).argmax())


def test_images_of_any_size_where_the_model_says_how():
    model = Model(classifier(3, preprocessing=Preprocessing(resize_size=14, crop_size=(12, 10))))
    shot = RNG.integers(0, 256, (40, 31, 3), np.uint8)
    assert model.predict(shot) == model.predict([shot, shot])[1]
    np.testing.assert_array_equal(model.predict_proba(shot), model.predict_proba(shot[np.newaxis])[0])


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_networks_without_classes_are_refused(method):
    several = Model(classifier().replace(outputs=("fc", "pool")))
    with pytest.raises(ShapeError, match=rf"{method}: the network has 2 outputs.*model\(x\)"):
        getattr(several, method)(pictures(1)[0])
    spatial = Model(classifier().replace(outputs=("pool",)))
    with pytest.raises(ShapeError, match=rf"{method}: .*\(classes,\).*\(4, 5, 4\).*model\(x\)"):
        getattr(spatial, method)(pictures(1)[0])


def test_what_is_no_image_is_refused(model):
    with pytest.raises(ShapeError, match="resize"):
        model.predict(np.zeros((11, 10), np.uint8))
    with pytest.raises(DTypeError, match="scale"):
        model.predict(np.zeros((12, 10), np.int64))


# --- keeping --------------------------------------------------------------------------------------


def test_saved_and_loaded(tmp_path):
    before = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    graph = classifier(3, labels=LABELS, preprocessing=before)
    model, path = Model(graph), tmp_path / "model.npz"
    model.save(path)
    x, shots = images(4, 3), pictures(4, 3)
    for given in (path, str(path)):
        loaded = fastconv.load(given)
        assert loaded.labels == LABELS
        assert loaded.preprocessing == before
        assert (loaded.input_shape, loaded.output_shapes) == ((3, 12, 10), ((5,),))
        same(loaded(x), model(x))
        same(loaded.predict(shots), model.predict(shots))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled(protocol):
    model = Model(classifier(labels=LABELS), threads=2)
    twin = pickle.loads(pickle.dumps(model, protocol))
    x = images(4)
    same(twin(x), model(x))
    assert (twin.labels, twin.threads) == (LABELS, 2)


def test_the_default_thread_count_is_that_of_the_process_that_unpickles():
    data = pickle.dumps(Model(classifier()))
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).threads)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=data, capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.strip() == b"1"


def test_a_copy_runs_the_same_program(model):
    for other in (copy.copy(model), copy.deepcopy({"model": model})["model"]):
        assert other is not model
        assert other._program is model._program


def test_nothing_can_be_set(model):
    for name in ("threads", "labels", "input_shape", "output_shapes", "graph", "new"):
        with pytest.raises(AttributeError):
            setattr(model, name, None)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_callers_get_the_same_bits(threads):
    model = Model(classifier(), threads=threads)
    x, shots = images(64), pictures(64)
    alone = Model(classifier(), threads=1)
    expected, classes = alone(x), alone.predict(shots)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            first, last = sorted(rng.integers(0, 65, 2))
            same(model(x[first:last]), expected[first:last])
            i = int(rng.integers(64))
            same(model(x[i]), expected[i])
            assert model.predict(shots[i]) == classes[i]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_a_thread_count_that_is_none_is_refused(threads):
    with pytest.raises(ArgumentError, match="threads"):
        Model(classifier(), threads=threads)


def test_the_thread_count_is_what_was_asked_for():
    assert Model(classifier(), threads=3).threads == 3
    assert Model(classifier()).threads >= 1


# --- load and from_torch --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net.pt", "NET.PTH"])
def test_other_formats_name_from_torch(name):
    with pytest.raises(ModelFormatError, match=rf"{name}: .*fastconv\.from_torch"):
        fastconv.load(name)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastconv.load(tmp_path / "missing.npz")


def test_lenet_is_loaded_for_its_size_only():
    lenet = Path(__file__).parent.parent / "models" / "lenet.npz"
    model = fastconv.load(lenet, threads=1)
    assert (model.input_shape, model.output_shapes) == ((1, 28, 28), ((10,),))
    assert fastconv.load(lenet, input_shape=(1, 28, 28)).input_shape == (1, 28, 28)
    with pytest.raises(fastconv.FastconvError, match="400"):
        fastconv.load(lenet, input_shape=(1, 32, 32))


def test_from_torch_takes_labels_preprocessing_and_threads():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(320, 5)).eval()
    model = fastconv.from_torch(net, (3, 12, 10), labels=LABELS, mean=(0.5,) * 3, std=(0.25,) * 3, threads=2)
    assert (model.labels, model.threads) == (LABELS, 2)
    shots = pictures(4, 3)
    x = torch.from_numpy((shots.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25).float()
    with torch.no_grad():
        expected = net(x).numpy()
    np.testing.assert_allclose(model(x.numpy()), expected, rtol=0, atol=1e-5 * abs(expected).max())
    assert model.predict(shots).tolist() == [LABELS[i] for i in expected.argmax(axis=1)]


# --- looking --------------------------------------------------------------------------------------


def test_repr(model):
    assert repr(model) == "<fastconv.Model (1, 12, 10) -> (5,), 445 parameters, threads=1>"
    assert model._repr_html_() == model.summary()._repr_html_()


def test_summary_and_profile_name_every_layer(model):
    names = {part for row in model.summary().rows for part in row.name.split(" + ")}
    assert names == {"conv", "relu", "pool", "flatten", "fc"}
    profile = model.profile(images(2).astype(np.float64), repeats=2)
    assert profile.batch == 2
    assert profile.seconds > 0
    assert len(model.profile(images(1)[0], repeats=1).rows) == len(profile.rows)
    with pytest.raises(ShapeError):
        model.profile(np.zeros((3, 3)))


# --- the package ----------------------------------------------------------------------------------


def test_import_loads_nothing_that_a_saved_model_does_not_need():
    code = (
        "import sys, fastconv\n"
        "known = ('torch', 'PIL', 'threadpoolctl', 'click', 'rich', 'fastconv.functional',\n"
        "         'fastconv.inspect', 'fastconv.images', 'fastconv.formats.npz')\n"
        "print([name for name in known if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_there():
    assert set(fastconv.__all__) <= set(dir(fastconv))
    for name in fastconv.__all__:
        assert getattr(fastconv, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fastconv.nothing
