"""`from_torch` of modules that take several tensors, and that return dicts and other structures of tensors."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional
nn = torch.nn

import fastconv  # noqa: E402
from fastconv.errors import ArgumentError, FastconvError, ModelFormatError, ShapeError  # noqa: E402
from fastconv.outputs import Outputs  # noqa: E402

IMAGE = (3, 9, 11)
PAIR = {"left": IMAGE, "right": IMAGE}


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Siamese(nn.Module):
    """Two images through one body, compared."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(8, 2)
        self.body[1].running_mean.normal_(0, 0.5)
        self.body[1].running_var.uniform_(0.5, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.head((self.body(left) - self.body(right)).abs().mean((2, 3)))


class Call(nn.Module):
    """A module of any function of the inputs left and right."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> Any:
        return self.function(left, right)


class One(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def batches(*shapes: tuple[int, ...], count: int = 3) -> list[torch.Tensor]:
    return [torch.randn(count, *shape) for shape in shapes]


def close(got: Any, want: torch.Tensor) -> None:
    assert got.shape == tuple(want.shape)
    assert np.abs(got - want.detach().numpy()).max() <= 1e-5 * max(1, want.abs().max())


# --- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("input_shape", [PAIR, (IMAGE, IMAGE), [list(IMAGE), IMAGE]])
def test_siamese(input_shape: Any) -> None:
    net = Siamese()
    model = fastconv.from_torch(net, input_shape)
    assert model.input_shapes == PAIR
    left, right = batches(IMAGE, IMAGE)
    want = net.eval()(left, right)
    assert want.abs().max() > 0.1
    close(model(left, right), want)
    close(model({"right": right.numpy(), "left": left.numpy()}), want)
    convolutions = [node.weights["weight"] for node in model.graph.nodes if node.op == "conv2d"]
    assert len(convolutions) == 2
    assert convolutions[0] is convolutions[1]


def test_names_of_inputs() -> None:
    net = Siamese()
    model = fastconv.from_torch(net, {"before": IMAGE, "after": IMAGE})
    left, right = batches(IMAGE, IMAGE)
    close(model({"after": right, "before": left}), net.eval()(left, right))
    with pytest.raises(ArgumentError, match=r"names 'right' where forward of Siamese takes 'left'.*: left, right"):
        fastconv.from_torch(net, {"right": IMAGE, "left": IMAGE})


def test_inputs_of_different_shapes() -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv2d(3, 6, 3), nn.Linear(4, 6)

        def forward(self, image: torch.Tensor, facts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return (self.conv(image) * self.scale(facts)[:, :, None, None]).relu() * mask

    net = Conditioned()
    shapes = {"image": IMAGE, "facts": (4,), "mask": (1, 7, 9)}
    arrays = batches(*shapes.values())
    close(fastconv.from_torch(net, shapes)(*arrays), net(*arrays))


def test_any_number_of_inputs() -> None:
    class Sum(nn.Module):
        def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
            return torch.cat([first, *others], 1) * 2

    model = fastconv.from_torch(Sum(), [IMAGE] * 3)
    assert list(model.input_shapes) == ["first", "others0", "others1"]
    arrays = batches(*[IMAGE] * 3)
    close(model(*arrays), Sum()(*arrays))


def test_an_input_that_is_not_read() -> None:
    left, right = batches(IMAGE, IMAGE)
    close(fastconv.from_torch(Call(lambda left, right: left.relu()), PAIR)(left, right), left.relu())
    with pytest.raises(FastconvError, match="inputs need batches of the same size"):
        fastconv.from_torch(Call(lambda left, right: left.relu()), PAIR)(left, right[:1])


@pytest.mark.parametrize(
    "function",
    [
        lambda left, right: left.add_(right).relu_(),  # in place, on an input
        lambda left, right: torch.cat([left, right, left.flatten(1).view_as(left)], 1),
        lambda left, right: (left * right).softmax(1) @ right.transpose(2, 3),
        lambda left, right: left + torch.arange(11.0) - torch.ones(len(left), 3, 9, 11) * right,
    ],
)
def test_functions_of_two(function: Callable[..., Any]) -> None:
    left, right = batches(IMAGE, IMAGE)
    close(fastconv.from_torch(Call(function), PAIR)(left, right), function(left.clone(), right.clone()))


def test_what_inputs_are_refused() -> None:
    net = Siamese()
    for given, error, message in (
        ({**PAIR, "more": IMAGE}, ArgumentError, "gives 3 inputs, forward of Siamese takes 2: left, right"),
        ((IMAGE, IMAGE, IMAGE), ArgumentError, "gives 3 inputs, forward of Siamese takes 2"),
        ({}, ModelFormatError, "no inputs"),
        ({"left": IMAGE, "right": 3}, ArgumentError, "input 'right' must be a tuple of ints, got 3"),
        ((IMAGE, 3), ArgumentError, "input 'right' must be a tuple of ints, got 3"),
        ({"left": IMAGE, "right": (3, -1, 2)}, ShapeError, "input 'right' must be the sizes"),
        (IMAGE, ArgumentError, r"Siamese cannot be called with one batch .*'right'.*\{name: shape, …\}"),
        ({"left": IMAGE, "right": (3, 4, 4)}, ShapeError, r"images of shape \(3, 9, 11\) and \(3, 4, 4\)"),
    ):
        with pytest.raises(error, match=message):
            fastconv.from_torch(net, given)
    with pytest.raises(ShapeError, match="dynamic=True is for networks of one input; this one has 2"):
        fastconv.from_torch(net, PAIR, dynamic=True)
    with pytest.raises(ArgumentError, match="mean, std and transforms are for networks of one input"):
        fastconv.from_torch(net, PAIR, mean=(0.5,) * 3)


def test_one_input_by_name() -> None:
    model = fastconv.from_torch(nn.Conv2d(3, 2, 3), {"pixels": IMAGE}, mean=(0.5,) * 3)
    assert model.input_shapes == {"pixels": IMAGE}
    assert model.preprocessing is not None
    with pytest.raises(ArgumentError, match="gives 2 inputs"):
        fastconv.from_torch(nn.Conv2d(3, 2, 3), (IMAGE, IMAGE))


# --- outputs --------------------------------------------------------------------------------------

Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Detection:
    boxes: Any
    scores: Any
    masks: Any = None


STRUCTURES: dict[str, tuple[Callable[[torch.Tensor], Any], list[str] | None]] = {
    "dict": (lambda x: {"out": x.relu(), "aux": x.tanh()}, ["out", "aux"]),
    "ordered": (lambda x: OrderedDict([("z", x.relu()), ("a", x.tanh())]), ["z", "a"]),
    "mapping": (lambda x: UserDict(out=x.relu(), aux=x.tanh()), ["out", "aux"]),
    "keys": (lambda x: {0: x.relu(), "pool": x.tanh()}, ["0", "pool"]),
    "nested": (lambda x: (x.relu(), (x.tanh(), [x.exp()])), ["0", "1.0", "1.1.0"]),
    "tree": (lambda x: {"p": [x.relu(), {"q": x.tanh()}], "r": x.exp()}, ["p.0", "p.1.q", "r"]),
    "dataclass": (lambda x: Detection(x.relu(), {"a": x.tanh()}), ["boxes", "scores.a"]),
    "namedtuple": (lambda x: Point(x.relu(), x.tanh()), ["x", "y"]),
    "none": (lambda x: (x.relu(), None, x.tanh()), ["0", "2"]),
    "same": (lambda x: {"one": (y := x.relu()), "two": y, "x": x}, ["one", "two", "x"]),
    "ambiguous": (lambda x: {"a.b": x.relu(), "a": {"b": x.tanh()}}, ["a.b", "a.b#2"]),
    "tuple": (lambda x: (x.relu(), x.tanh()), None),
    "list": (lambda x: [x.relu(), x.tanh()], None),
}


def leaves(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = list(vars(value).values())
    elif not isinstance(value, (list, tuple)):
        value = [] if value is None else list(value.values())
    return [leaf for item in value for leaf in leaves(item)]


@pytest.mark.parametrize(("function", "names"), STRUCTURES.values(), ids=STRUCTURES)
def test_structures(function: Callable[[torch.Tensor], Any], names: list[str] | None) -> None:
    net = One(function)
    hooks = dict(net._forward_hooks)
    model = fastconv.from_torch(net, IMAGE)
    assert net._forward_hooks == hooks, "the module is left as it was"
    (x,) = batches(IMAGE)
    got, want = model(x.numpy()), leaves(function(x))
    assert type(got) is Outputs
    assert list(got.keys()) == list(model.output_names) == (["relu", "tanh"] if names is None else names)
    assert len(got) == len(want)
    for name, array, tensor in zip(model.output_names, got, want, strict=True):
        close(array, tensor)
        assert got[name] is array


@pytest.mark.parametrize("function", [lambda x: {"out": x.relu()}, lambda x: Detection(x.relu(), None)])
def test_one_tensor_in_a_structure_is_one_array(function: Callable[[torch.Tensor], Any]) -> None:
    model = fastconv.from_torch(One(function), IMAGE)
    (x,) = batches(IMAGE)
    assert isinstance(model(x), np.ndarray)
    assert model.output_names in (("out",), ("boxes",))
    close(model(x), x.relu())


def test_a_structure_without_tensors() -> None:
    with pytest.raises(FastconvError, match="no outputs"):
        fastconv.from_torch(One(lambda x: {"out": None}), IMAGE)


def test_a_classifier_in_a_dict_predicts() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 7 * 9, 5))
    model = fastconv.from_torch(One(lambda x: {"logits": net(x)}), IMAGE, labels=list("abcde"))
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    logits = net(torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)[None])
    assert model.predict(image) == "abcde"[int(logits.argmax())]


def test_names_travel(tmp_path: Any) -> None:
    model = fastconv.from_torch(Call(lambda left, right: {"sum": left + right, "product": left * right}), PAIR)
    model.save(tmp_path / "net.npz")
    again = fastconv.load(tmp_path / "net.npz")
    left, right = batches(IMAGE, IMAGE)
    y = again({"left": left, "right": right})
    close(y["sum"], left + right)
    close(y["product"], left * right)


def test_dynamic_keeps_names() -> None:
    model = fastconv.from_torch(One(lambda x: {"out": x.relu(), "aux": x.tanh()}), IMAGE, dynamic=True)
    (x,) = batches((3, 5, 20))
    y = model(x.numpy())
    close(y["aux"], x.tanh())
    assert y.keys() == ("out", "aux")
