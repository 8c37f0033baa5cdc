"""Plan: the layers of an architecture before it has weights; and a plan with its weights -> Graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import ModelFormatError, ShapeError
from ...graph import INPUT
from ...graph.attributes import integers
from ...graph.builder import GraphBuilder
from ..state_dict import unwrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...graph import Graph
    from ..state_dict import Source

__all__ = ["Plan", "build", "relevant"]

SIDE = 224
"""Height and width of the images that these networks were trained on."""

_ROLES = {
    "conv2d": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "batch_norm": ("running_mean", "running_var", "weight", "bias"),
}
_IGNORED = "num_batches_tracked"  # counts training steps
_OUT = "out"  # in a needed shape: any size

Shape = tuple[int, ...]


class Layer(NamedTuple):
    """One node to be.

    Attributes
    ----------
    name, op, inputs, attrs
        As in a `Node`.
    roles
        Its weights; the keys are ``<name>.<role>``.
    kernel
        Height and width of a convolution.
    grouped
        A convolution whose groups follow from its weight.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: dict[str, Any]
    roles: tuple[str, ...] = ()
    kernel: int = 0
    grouped: bool = False


class Plan:
    """Layers in order. Each method adds one and returns its name, for those that read it.

    A name is the module's path in torchvision; the second use of one module is ``relu#2``.
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def keys(self) -> list[str]:
        """Return the keys of all weights, in order."""
        return [f"{layer.name}.{role}" for layer in self.layers for role in layer.roles]

    def conv(
        self,
        name: str,
        x: str,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
        grouped: bool = False,
    ) -> str:
        """Add a convolution; its padding is (kernel - 1) / 2 unless given."""
        attrs = {"stride": stride, "padding": kernel // 2 if padding is None else padding}
        roles = _ROLES["conv2d"] if bias else ("weight",)
        self.layers.append(Layer(name, "conv2d", (x,), attrs, roles, kernel, grouped))
        return name

    def node(self, name: str, op: str, *inputs: str, **attrs: Any) -> str:
        """Add a layer of any other op, with the weights of that op."""
        self.layers.append(Layer(name, op, inputs, attrs, _ROLES.get(op, ())))
        return name

    def residual(self, name: str, x: str, y: str) -> str:
        """Add x to y where both have one shape; elsewhere the result is y, as in MobileNetV2."""
        self.layers.append(Layer(name, "residual", (x, y), {}))
        return name


def relevant(keys: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of what a network computes with."""
    return {key: name for key, name in keys.items() if key.rpartition(".")[2] != _IGNORED}


def build(plan: Plan, source: Source, architecture: str, input_shape: Sequence[int] | None) -> Graph:
    """Return the network of a plan with the weights of `source`; see `read` in this package."""
    weights = _Weights(plan, source, architecture)
    image = weights.image() if input_shape is None else integers("input_shape", input_shape)
    if len(image) != 3:
        raise ShapeError(f"{architecture} takes images; input_shape must be (C, H, W), got {image}")
    builder = GraphBuilder(image)
    names = {INPUT: INPUT}  # of a layer -> of the node that gives its result
    for layer in plan.layers:
        inputs = [names[name] for name in layer.inputs]
        if layer.op == "residual":
            equal = builder.shape(inputs[0]) == builder.shape(inputs[1])
            names[layer.name] = builder.add("add", *inputs, name=layer.name) if equal else inputs[1]
            continue
        attrs = dict(layer.attrs)
        arrays = {}
        if layer.roles:
            shape = builder.shape(inputs[0])
            if layer.grouped:
                attrs["groups"] = weights.groups(layer, shape)
            arrays = weights.of(layer, shape, attrs.get("groups", 1))
        names[layer.name] = builder.add(layer.op, *inputs, name=layer.name, weights=arrays, **attrs)
    return builder.graph()


class _Weights:
    """The weights of a plan's layers, each checked against what its place in the network needs."""

    def __init__(self, plan: Plan, source: Source, architecture: str) -> None:
        self._plan = plan
        self._source = source
        self._architecture = architecture
        self._keys = relevant(unwrap(source.names))
        self._check_keys()

    def image(self) -> Shape:
        """Return the shape of one image, with as many channels as the first layer takes."""
        first = self._shape(f"{self._plan.layers[0].name}.weight")
        return (first[1] if len(first) == 4 else 3, SIDE, SIDE)

    def groups(self, layer: Layer, shape: Shape) -> int:
        """Return the groups of a convolution that reads `shape`."""
        key = f"{layer.name}.weight"
        given = self._shape(key)
        if len(given) != 4 or not given[1] or shape[0] % given[1]:
            raise self._misfit(key, (_OUT, f"a divisor of {shape[0]}", layer.kernel, layer.kernel))
        return shape[0] // given[1]

    def of(self, layer: Layer, shape: Shape, groups: int) -> dict[str, Any]:
        """Return the weights of a layer that reads `shape`, by role."""
        key = f"{layer.name}.weight"
        needs: tuple[object, ...] = (shape[0],)
        if layer.op == "conv2d":
            needs = (_OUT, shape[0] // groups, layer.kernel, layer.kernel)
        elif layer.op == "linear":
            needs = (_OUT, shape[0])
        self._check(key, needs)
        outputs = self._shape(key)[0]
        arrays = {}
        for role in layer.roles:
            if role != "weight":
                self._check(f"{layer.name}.{role}", (outputs,))
            arrays[role] = self._source.read_weight(self._keys[f"{layer.name}.{role}"])
        return arrays

    def _shape(self, key: str) -> Shape:
        return self._source.header(self._keys[key]).shape

    def _check(self, key: str, needs: tuple[object, ...]) -> None:
        given = self._shape(key)
        fits = len(given) == len(needs) and all(
            size == need or (need is _OUT and size > 0) for size, need in zip(given, needs, strict=True)
        )
        if not fits:
            raise self._misfit(key, needs)

    def _misfit(self, key: str, needs: tuple[object, ...]) -> ShapeError:
        needed = ", ".join(map(str, needs)) + ("," if len(needs) == 1 else "")
        remedy = "check architecture= and input_shape="
        return ShapeError(
            f"{key}: {self._architecture} needs shape ({needed}) here, the file has {self._shape(key)}; {remedy}"
        )

    def _check_keys(self) -> None:
        """Refuse weights that are not those of the plan, with all keys at fault."""
        needed = dict.fromkeys(self._plan.keys())
        faults = {
            "missing": [key for key in needed if key not in self._keys],
            "unexpected": [key for key in self._keys if key not in needed],
        }
        found = [f"{what}: {', '.join(keys)}" for what, keys in faults.items() if keys]
        if not found:
            return
        from . import matching

        others = " or ".join(map(repr, matching(self._keys)))
        remedy = f"pass architecture={others}" if others else "convert the network with fastconv.from_torch"
        raise ModelFormatError(f"these are not the weights of {self._architecture}; {'; '.join(found)}; {remedy}")
