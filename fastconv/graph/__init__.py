"""Graph: a network as frozen, checked, portable data.

ops         what each operator takes, one file per family   attributes  one spelling for every attribute
checks      what a file may get wrong                       geometry    windows        padding   of an axis
remedy      the input size that would have fitted           builder     writes a Graph node by node
inputs      several of them, by name
dynamic     images of other sizes                           preprocessing   how an image becomes the input

A Graph is what every file format is read into and what compile starts from. Constructing one
normalises the attributes of its nodes, infers every shape, and finds all that a file can get wrong;
no kernel sees an unchecked size. Nodes carry the vocabulary of ``torch.nn.functional`` (see
``ops``) and weights in PyTorch's layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import FastconvError, ModelFormatError, ShapeError
from . import checks
from .attributes import shown
from .ops import OPS
from .ops.spec import FeatureMismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    import numpy as np
    import numpy.typing as npt

    from .ops.spec import Shape
    from .preprocessing import Preprocessing
    from .sizes import Size

__all__ = ["INPUT", "Graph", "Node", "array_id", "settle", "shapes_of_inputs"]

INPUT = "input"  # the name of a graph's one input, unless it has another

_NOTHING: Mapping[str, Any] = {}


def array_id(array: np.ndarray) -> tuple[int, Shape]:
    """Return what is equal for two weights of a Graph, which are C-contiguous, where they are one array."""
    return array.__array_interface__["data"][0], array.shape


class Frozen:
    """Base of what is set once; not a dataclass, which takes a millisecond of every start to make."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}; make another one with replace")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)


class Node(Frozen):
    """One operation; its one output carries the node's name.

    Attributes
    ----------
    name
        Unique in its graph: the module's path (``features.0``) or the op's name and a counter.
    op
        A key of :data:`fastconv.graph.ops.OPS`.
    inputs
        Names of inputs of the graph (``INPUT``, where it has one) or of earlier nodes.
    attrs
        As given; in a Graph every attribute is present and in its one spelling.
    weights
        Role -> array in PyTorch's layout, float32 or float64; C-contiguous in a Graph. An optional
        one that is absent is not a key.
    fused
        Names of the nodes that rewriting has absorbed into this one, in order, without its own.
    sizes
        Numbers in `attrs` that follow the size of the image, each a `.sizes.Size`; in a Graph that is dynamic alone.
    """

    __slots__ = ("attrs", "fused", "inputs", "name", "op", "sizes", "weights")

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    fused: tuple[str, ...]
    sizes: tuple[Size, ...]

    def __init__(
        self,
        name: str,
        op: str,
        inputs: tuple[str, ...] = (INPUT,),
        attrs: Mapping[str, Any] = _NOTHING,
        weights: Mapping[str, np.ndarray] = _NOTHING,
        fused: tuple[str, ...] = (),
        sizes: tuple[Size, ...] = (),
    ) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "op", op)
        put(self, "inputs", inputs)
        put(self, "attrs", attrs)
        put(self, "weights", weights)
        put(self, "fused", fused)
        put(self, "sizes", sizes)

    def __reduce__(self) -> tuple[Any, ...]:
        return Node, (self.name, self.op, self.inputs, self.attrs, self.weights, self.fused, self.sizes)

    def replace(self, **changes: Any) -> Node:
        """Return a copy with the fields in `changes` replaced."""
        return Node(**{**{name: getattr(self, name) for name in self.__slots__}, **changes})

    def __str__(self) -> str:
        defaults = OPS[self.op].attributes if self.op in OPS else {}
        attrs = [
            f"{key}={value!r}" for key, value in self.attrs.items() if key not in defaults or value != defaults[key][0]
        ]
        weights = [f"{role}: {_dims(array.shape)}" for role, array in self.weights.items()]
        names = " + ".join((*self.fused, self.name))
        return f"{names} = {self.op}({', '.join([*self.inputs, *attrs, *weights])})"

    def __repr__(self) -> str:
        return f"<Node {self}>"


class Graph(Frozen):
    """A checked network.

    Parameters
    ----------
    input_shape
        Of one image, without batch: (C, H, W), or (F,). Where there are several inputs, or one that is not to be called
        ``INPUT``: a mapping of their names to their shapes, in the order in which a model takes them. All have a batch
        of the same size.
    nodes
        In topological order. The Graph holds normalised copies; arrays are shared, never modified,
        and copied only where they are not C-contiguous.
    outputs
        Names of nodes; a name may repeat.
    labels
        One string per class, that is per index of the first output's first axis.
    preprocessing
        How `Model.predict` turns an image into the input; None where it is only scaled to 0..1.
    dtype
        float32 or float64; by default the weights', or float32 where there are none.
    dynamic
        Whether images of other sizes are taken as well: the axes of `input_shape` but the first are
        then those of a usual image. Refused where a node depends on them, and with several inputs.
    output_names
        One for each output, all different; by default those of `outputs`. Rewriting leaves them as they are.
    tuned
        Choices that were measured: a machine (`fastconv.machine.description.Machine.key`) -> node, as rewriting leaves
        it -> the kernel that was the fastest there. What does not apply is passed over.

    Attributes
    ----------
    inputs
        Name -> shape without batch of each input, in order.
    shapes
        Name -> inferred shape without batch, of the inputs and every node.

    Raises
    ------
    FastconvError
        Its subclass that fits. The message names the node, what it got, what it needs, the remedy.
    """

    inputs: Mapping[str, Shape]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...]
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    dtype: np.dtype[Any]
    dynamic: bool
    tuned: Mapping[str, Mapping[str, str]]
    shapes: Mapping[str, Shape]

    def __init__(
        self,
        input_shape: Sequence[int] | Mapping[str, Sequence[int]],
        nodes: Sequence[Node],
        outputs: Sequence[str],
        labels: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        dtype: npt.DTypeLike | None = None,
        dynamic: bool = False,
        output_names: Sequence[str] | None = None,
        tuned: Mapping[str, Mapping[str, str]] = _NOTHING,
    ) -> None:
        inputs = shapes_of_inputs(input_shape)
        known = None if dtype is None else checks.dtype("dtype", dtype)
        shapes = dict(inputs)
        settled: list[Node] = []
        for given in nodes:
            node, shapes[given.name], known = settle(given, shapes, known, settled)
            settled.append(node)
        names = checks.outputs(outputs, shapes, inputs)
        if dynamic:
            from .dynamic import check

            check(nodes, settled, inputs)
        elif any(node.sizes for node in settled):
            settled = [node.replace(sizes=()) for node in settled]
        fields = vars(self)
        fields["inputs"] = inputs
        fields["nodes"] = tuple(settled)
        fields["outputs"] = names
        fields["output_names"] = checks.output_names(output_names, names)
        fields["labels"] = None if labels is None else checks.labels(labels, shapes[names[0]])
        fields["preprocessing"] = None if preprocessing is None else checks.preprocessing(preprocessing, inputs)
        fields["dtype"] = known or checks.FLOAT32
        fields["dynamic"] = bool(dynamic)
        fields["tuned"] = checks.tuned(tuned) if tuned else _NOTHING
        fields["shapes"] = shapes

    def replace(self, **changes: Any) -> Graph:
        """Return a Graph with the fields in `changes` replaced, checked anew.

        `input_shape` may give other shapes to some of the inputs. Other `outputs` have names of their own again.
        """
        fields = {name: value for name, value in vars(self).items() if name not in ("inputs", "shapes")}
        if "outputs" in changes:
            del fields["output_names"]
        shapes = self.inputs
        if "input_shape" in changes:
            from .inputs import given_for

            shapes = {**shapes, **given_for(shapes, changes.pop("input_shape"))}
        return Graph(**{"input_shape": shapes, **fields, **changes})

    @property
    def input_shape(self) -> Shape:
        """The shape of one image, without batch, where the network has one input; else a `ShapeError`."""
        if len(self.inputs) == 1:
            (shape,) = self.inputs.values()
            return shape
        from .inputs import the_one

        return the_one(self.inputs)

    @property
    def mean(self) -> tuple[float, ...] | None:
        """What `preprocessing` subtracts from each channel, or None."""
        return None if self.preprocessing is None else self.preprocessing.mean

    @property
    def std(self) -> tuple[float, ...] | None:
        """What `preprocessing` divides each channel by, or None."""
        return None if self.preprocessing is None else self.preprocessing.std

    def node(self, name: str) -> Node:
        """Return the node of that name; KeyError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def consumers(self) -> dict[str, list[Node]]:
        """Return name -> the nodes that read it (once per use), for every input and node."""
        result: dict[str, list[Node]] = {name: [] for name in self.shapes}
        for node in self.nodes:
            for name in node.inputs:
                result[name].append(node)
        return result

    @property
    def parameters(self) -> int:
        """The number of trained values: weights and biases, an array shared by nodes once."""
        sizes = {
            array_id(array): array.size
            for node in self.nodes
            for role, array in node.weights.items()
            if role.startswith(("weight", "bias"))
        }
        return sum(sizes.values())

    def macs(self, node: Node) -> int:
        """Return the multiply-accumulates of a node for one image: of products with its weights."""
        return OPS[node.op].macs([self.shapes[name] for name in node.inputs], node.attrs, node.weights)

    def __str__(self) -> str:
        sizes = ", other sizes too" if self.dynamic else ""
        lines = [f"{name} -> {_dims(shape)} {self.dtype}{sizes}" for name, shape in self.inputs.items()]
        lines += [f"{node} -> {_dims(self.shapes[node.name])}" for node in self.nodes]
        lines.append(f"outputs: {', '.join(self.outputs)}; {self.parameters:,} parameters")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Graph {', '.join(map(_dims, self.inputs.values()))}, {len(self.nodes)} nodes>"


def _dims(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def shapes_of_inputs(value: Sequence[int] | Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """Return name -> shape of each input, checked; what has no name is the one input, `INPUT`."""
    if isinstance(value, Mapping):
        if value.keys() != {INPUT}:
            from .inputs import named

            return named(value)
        value = value[INPUT]
    return {INPUT: checks.input_shape(value)}


def settle(
    given: Node, shapes: Mapping[str, Shape], dtype: np.dtype[Any] | None, before: Sequence[Node]
) -> tuple[Node, Shape, np.dtype[Any] | None]:
    """Check a node against what comes before it.

    Returns the node normalised, its output's shape, and the graph's dtype as far as it is known.
    """
    name = given.name
    if not isinstance(name, str) or not name:
        raise ModelFormatError(f"a node's name must be a non-empty string, got {shown(name)}")
    try:
        if name in shapes:
            raise ModelFormatError("this name is taken already; give every node its own")
        spec = checks.spec_of(given.op)
        inputs = checks.inputs(given.inputs, given.op, spec, shapes)
        weights, dtype = checks.weights(given.weights, given.op, spec, dtype)
        attributes = checks.attributes(given.attrs, given.op, spec)
        sizes = given.sizes
        if sizes:
            from .sizes import applied, checked

            sizes = checked(sizes)
            attributes = checks.attributes(applied(sizes, attributes, shapes), given.op, spec)
        shape, attrs = spec.infer([shapes[source] for source in inputs], attributes, weights)
        checks.check_size(shape)
        fused = checks.names("fused", given.fused)
    except FeatureMismatchError as error:
        from .remedy import explain_features

        raise ShapeError(f"{name}: {explain_features(error, given, shapes, before)}") from None
    except FastconvError as error:
        raise type(error)(f"{name}: {error}") from None
    return Node(name, given.op, inputs, attrs, weights, fused, sizes), shape, dtype
