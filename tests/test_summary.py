"""The tables: counts and receptive fields against PyTorch and by measurement, and how they look."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from fastconv.graph import INPUT, Graph, Node
from fastconv.inspect.profile import LayerProfile, Profile
from fastconv.inspect.summary import LayerSummary, Summary, summarize
from fastconv.model import Model
from fastconv.rewrite import optimize

RNG = np.random.default_rng(0)


def conv(name: str, source: str, o: int, i: int, k: int, **attrs: Any) -> Node:
    weights = {"weight": RNG.standard_normal((o, i, k, k)).astype(np.float32)}
    if attrs.pop("bias", True):
        weights["bias"] = np.zeros(o, np.float32)
    return Node(name, "conv2d", (source,), attrs, weights)


def linear(name: str, source: str, o: int, i: int) -> Node:
    weights = {"weight": np.ones((o, i), np.float32), "bias": np.zeros(o, np.float32)}
    return Node(name, "linear", (source,), {}, weights)


def norm(name: str, source: str, c: int) -> Node:
    roles = ("running_mean", "running_var", "weight", "bias")
    return Node(name, "batch_norm", (source,), {}, {r: np.ones(c, np.float32) for r in roles})


def lenet() -> Graph:
    pool = {"kernel_size": 2}
    nodes = (
        conv("conv1", INPUT, 6, 1, 5),
        Node("relu1", "relu", ("conv1",)),
        Node("pool1", "max_pool2d", ("relu1",), pool),
        conv("conv2", "pool1", 16, 6, 5),
        Node("relu2", "relu", ("conv2",)),
        Node("pool2", "max_pool2d", ("relu2",), pool),
        Node("flatten", "flatten", ("pool2",)),
        Node("drop", "dropout", ("flatten",)),
        linear("fc1", "drop", 120, 256),
        Node("relu3", "relu", ("fc1",)),
        linear("fc2", "relu3", 84, 120),
        linear("fc3", "fc2", 10, 84),
    )
    return Graph((1, 28, 28), nodes, ("fc3",))


def fields(*nodes: Node, shape: tuple[int, ...] = (2, 32, 32)) -> dict[str, Any]:
    graph = Graph(shape, nodes, (nodes[-1].name,))
    return {row.name: row.receptive_field for row in summarize(graph, graph, ()).rows}


def test_lenet():
    summary = Model(lenet(), threads=1).summary()
    assert summary.parameters == 44_426
    assert summary.macs == 281_640
    by_name = {row.name: row for row in summary.rows}
    first = by_name["conv1 + relu1 + pool1"]
    assert first.kernel
    assert first == LayerSummary(
        name="conv1 + relu1 + pool1",
        op="conv2d + relu + max_pool2d",
        input_shape=(1, 28, 28),
        output_shape=(6, 12, 12),
        parameters=6 * 25 + 6,
        macs=24 * 24 * 6 * 25,
        receptive_field=(6, 6),
        kernel=first.kernel,
    )
    assert by_name["conv2 + relu2 + pool2"].receptive_field == (16, 16)
    assert by_name["flatten"].macs == by_name["flatten"].parameters == 0
    assert by_name["fc1 + relu3"].receptive_field == (28, 28)
    assert by_name["fc3"].parameters == 850
    assert "drop" not in by_name  # it does not run


def test_a_folded_batch_norm_counts_as_it_was_trained():
    nodes = (
        conv("conv", INPUT, 4, 2, 3, bias=False),
        norm("bn", "conv", 4),
        Node("relu", "relu", ("bn",)),
    )
    graph = Graph((2, 8, 8), nodes, ("relu",))
    (row,) = Model(graph, threads=1).summary().rows
    assert row.name == "conv + bn + relu"
    assert row.parameters == graph.parameters == 4 * 2 * 9 + 4 + 4


def test_a_module_used_twice_counts_once():
    first = conv("a", INPUT, 2, 2, 3, padding=1)
    graph = Graph((2, 8, 8), (first, first.replace(name="b", inputs=("a",))), ("b",))
    rows = summarize(graph, graph, ()).rows
    assert [row.parameters for row in rows] == [2 * 2 * 9 + 2, 0]
    assert rows[0].macs == rows[1].macs > 0


def test_parameters_and_macs_add_up_over_any_rewriting():
    graph = lenet()
    plain, fused = summarize(graph, graph, ()), summarize(graph, optimize(graph), ())
    assert len(plain.rows) > len(fused.rows)
    assert (plain.parameters, plain.macs) == (fused.parameters, fused.macs)
    assert plain.parameters == graph.parameters


def test_kernels_are_those_of_the_steps():
    graph = lenet()
    steps = [
        {"node": INPUT, "label": "copy"},
        {"node": "conv1", "label": "border"},
        {"node": "conv1", "label": "tile"},
        {"node": "conv1", "label": "border"},
    ]
    rows = summarize(graph, graph, steps).rows
    assert rows[0].kernel == "border, tile"
    assert {row.kernel for row in rows[1:]} == {""}


# --- receptive fields -----------------------------------------------------------------------------


def test_receptive_fields_of_windows():
    found = fields(
        conv("conv", INPUT, 2, 2, 3, dilation=(2, 1), stride=(1, 2)),  # 5x3, a step of 1x2
        Node("relu", "relu", ("conv",)),
        Node("pool", "avg_pool2d", ("relu",), {"kernel_size": (2, 3), "stride": 2}),  # + 1x2 steps
        conv("last", "pool", 2, 2, 3, padding=1),  # + 2 steps of 2x4
    )
    assert found == {"conv": (5, 3), "relu": (5, 3), "pool": (6, 7), "last": (10, 15)}


def test_receptive_field_of_a_sum_is_the_widest():
    found = fields(
        conv("wide", INPUT, 2, 2, 5, padding=2),
        conv("narrow", INPUT, 2, 2, 1),
        Node("sum", "add", ("narrow", "wide")),
        Node("cat", "cat", ("sum", "narrow")),
    )
    assert found["sum"] == found["cat"] == (5, 5)


def test_pooling_to_one_pixel_sees_the_whole_image():
    found = fields(
        conv("conv", INPUT, 2, 2, 3, stride=2, padding=1),
        Node("pool", "adaptive_avg_pool2d", ("conv",), {"output_size": 1}),
        Node("flatten", "flatten", ("pool",)),
        linear("fc", "flatten", 3, 2),
    )
    assert found["pool"] == found["fc"] == (3 + 15 * 2, 3 + 15 * 2)


def test_features_have_no_receptive_field():
    assert fields(linear("fc", INPUT, 3, 4), shape=(4,)) == {"fc": None}


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 3])
def test_receptive_fields_are_what_a_pixel_really_depends_on(kernel, stride, dilation):
    nodes = (
        conv("a", INPUT, 1, 1, kernel, stride=stride, dilation=dilation),
        Node("b", "max_pool2d", ("a",), {"kernel_size": 2, "stride": (1, 2)}),
        conv("c", "b", 1, 1, 2, dilation=dilation),
    )
    graph = Graph((1, 40, 40), nodes, ("c",))
    model = Model(graph, threads=1)
    image = RNG.standard_normal((1, 40, 40)).astype(np.float32)
    _, height, width = model.output_shapes[0]
    pixel = (0, height // 2, width // 2)
    changed = []
    for y in range(40):
        for x in range(40):
            noisy = image.copy()
            noisy[0, y, x] = np.nan
            if np.isnan(model(noisy)[pixel]):
                changed.append((y, x))
    (top, left), (bottom, right) = np.min(changed, axis=0), np.max(changed, axis=0)
    extent = (int(bottom - top) + 1, int(right - left) + 1)
    assert model.summary().rows[-1].receptive_field == extent


# --- profile --------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_profile_times_every_layer_that_computes(threads):
    model = Model(lenet(), threads=threads)
    images = RNG.standard_normal((3, 1, 28, 28)).astype(np.float32)
    profile = model.profile(images, repeats=3)
    computing = [row.name for row in model.summary().rows if row.macs]
    assert [row.name for row in profile.rows if row.gflops] == computing
    assert all(row.seconds >= 0 for row in profile.rows)
    assert sum(row.share for row in profile.rows) == pytest.approx(1)
    assert profile.seconds == pytest.approx(sum(row.seconds for row in profile.rows))
    first = next(row for row in profile.rows if row.name.startswith("conv1"))
    assert first.gflops == pytest.approx(2 * 3 * 86_400 / first.seconds / 1e9)
    assert "total: 3 images" in str(profile)


class _Program:
    """A program whose steps take the times that a test sets."""

    threads = 1
    steps = (
        {"node": INPUT, "label": "to channels last"},
        {"node": "conv1", "label": "border"},
        {"node": "conv1", "label": "tile"},
    )

    def run_all(self, batches: tuple[np.ndarray, ...]) -> None:
        pass

    def profile(self, batches: tuple[np.ndarray, ...], repeats: int) -> list[float]:
        return [1e-6, 1e-6, 2e-6]


def test_steps_of_a_layer_are_one_row():
    from fastconv.inspect.profile import profile

    graph = lenet()
    result = profile(graph, graph, _Program(), (np.zeros((2, 1, 28, 28), np.float32),), 1)
    assert result.rows == (
        LayerProfile(INPUT, "", "to channels last", 1e-6, 0.0, pytest.approx(0.25)),
        LayerProfile("conv1", "conv2d", "border, tile", pytest.approx(3e-6), pytest.approx(115.2), 0.75),
    )


# --- looks ----------------------------------------------------------------------------------------

LAYERS = (
    LayerSummary("a<b>", "conv2d", (1, 28, 28), (6, 12, 12), 1_234_567, 999_499, (6, 6), "direct"),
    LayerSummary("fc", "linear", (256,), (10,), 850, 1_814_073_344, None, ""),
    LayerSummary("s", "relu", (10,), (10,), 0, 840, None, "relu"),
)


def test_text_is_aligned():
    assert str(Summary(LAYERS)).splitlines() == [
        "layer  op        input   output  parameters    MACs  field  kernel",
        "------------------------------------------------------------------",
        "a<b>   conv2d  1x28x28  6x12x12   1,234,567   999 k    6x6  direct",
        "fc     linear      256       10         850  1.81 G         -",
        "s      relu         10       10           0     840         relu",
        "------------------------------------------------------------------",
        "total                             1,235,417  1.82 G",
    ]
    assert repr(Summary(LAYERS)) == str(Summary(LAYERS))
    assert str(Summary(LAYERS)).isascii()  # any terminal can show it


def test_profile_text():
    rows = (
        LayerProfile("conv", "conv2d", "tile", 1.25e-3, 98.76, 0.9),
        LayerProfile(INPUT, "", "copy", 1e-7, 0.0, 0.1),
    )
    assert str(Profile(rows, 1, 2)).splitlines() == [
        "layer                      op      kernel  time (us)  GFLOP/s   share",
        "---------------------------------------------------------------------",
        "conv                       conv2d  tile      1,250.0     98.8  90.0 %",
        "input                              copy          0.1        -  10.0 %",
        "---------------------------------------------------------------------",
        "total: 1 image, 2 threads                    1,250.1",
    ]


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (9_994, "9.99 k"),
        (99_949, "99.9 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (4_089_184_256, "4.09 G"),
        (9_996, "10.0 k"),
        (10**16, "1.00e+04 T"),
    ],
)
def test_counts_have_three_digits(count, shown):
    row = LayerSummary("x", "conv2d", (1,), (1,), 0, count, None, "")
    assert shown in str(Summary((row,))).splitlines()[2]


class _Cells(HTMLParser):
    """Collects the text of every cell, and checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_html_has_the_same_cells_escaped():
    html = Summary(LAYERS)._repr_html_()
    assert "a&lt;b&gt;" in html
    parser = _Cells()
    parser.feed(html)
    assert not parser.open
    assert [row[0] for row in parser.rows] == ["layer", "a<b>", "fc", "s", "total"]
    assert parser.rows[1] == [
        "a<b>", "conv2d", "1x28x28", "6x12x12", "1,234,567", "999 k", "6x6", "direct",
    ]  # fmt: skip
