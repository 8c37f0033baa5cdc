"""The nodes of an ONNX file -> nodes of a Graph; see `fastconv.formats.onnx`.

Nodes that no output depends on are left out. A node whose inputs are all known is computed at once
(`ops.constants`); the others go to the functions of `ops`, which call back what stands here. What is
not supported is collected, and refused together at the end.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FastconvError, ModelFormatError, UnsupportedOperatorError
from ...graph.attributes import shown
from ...graph.builder import GraphBuilder
from .. import axes
from ..arrange import Arranger
from .file import opset_of
from .fold import fold
from .inputs import batch_of, inputs_of
from .missing import Missing
from .nodes import Call, Outline
from .ops import FOLDS, FUNCTIONS, INTEGERS, KEEP_SHAPE, MIXED, REASONS, SIZED
from .values import BATCHES, Sized, Unusable, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import ModelProto, TensorProto

    from ...graph import Graph, Node
    from .tensors import Tensors

FOLDED = 2**24
"""Elements that constants may be computed to, besides some for each byte of the file, and for each element outside."""

_TIMES = 8


class Reader:
    """Turns the nodes of a model into nodes of a Graph, one after the other.

    Attributes
    ----------
    builder : GraphBuilder
    dtype : numpy.dtype
        Of all weights.
    opset : int
        The version of ONNX's operators that the file is written in.
    batches : tuple of int
        The sizes of a batch for which everything is worked out: the file's own, or `BATCHES`.
    open : bool
        Whether the file leaves the size of its images open.
    """

    def __init__(
        self, model: ModelProto, tensors: Tensors, input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None
    ) -> None:
        self.opset = opset_of(model)
        self.outline = Outline(model.graph, self.opset)
        self._tensors = tensors
        self._values: dict[str, Any] = {}  # Value, ndarray, Sized, Unusable
        self._call: Call | None = None
        self._missing = Missing()
        self._made: dict[str, Node] = {}
        self._weights: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]] = {}
        self._left = FOLDED + _TIMES * tensors.nbytes // 4
        inputs = inputs_of(self.outline.inputs, input_shape)
        self.open = all(given.open for given in inputs.values())
        batch = batch_of(inputs.values())
        self.batches = BATCHES if batch is None else (batch,)
        self.dtype = max((given.dtype for given in inputs.values()), key=lambda dtype: dtype.itemsize)
        self.builder = GraphBuilder(
            {name: given.shape for name, given in inputs.items()}, dtype=self.dtype, naming=self._name
        )
        self._arranger = Arranger(self.builder, self.batches)
        for name, given in inputs.items():
            self._values[given.name] = Value(name, axes.identity(len(given.shape) + 1), given.floating)

    def read(self) -> Graph:
        """Read all nodes."""
        for name, tensor in self.outline.initializers():
            self._values[name] = self._tensors.initializer(name, tensor)
        self._left += _TIMES * self._tensors.outside
        for call in self.outline.calls():
            self._call = call
            self._values.update(zip(call.outputs, self._results(call), strict=False))
        self._call = None
        if self._missing:
            raise self._missing.error()
        outputs = [self._output(name) for name in self.outline.outputs]
        self._drop_unused(outputs)
        return self.builder.graph(outputs, output_names=self.outline.outputs)

    # --- for the entries of `ops` -----------------------------------------------------------------

    @property
    def outputs(self) -> int:
        """How many outputs the current node has."""
        return 0 if self._call is None else len(self._call.outputs)

    @property
    def used(self) -> set[int]:
        """Which outputs of the current node anything reads."""
        outputs = [] if self._call is None else self._call.outputs
        return {index for index, name in enumerate(outputs) if self.outline.is_read(name)}

    def emit(
        self, op: str, *inputs: Value, weights: Mapping[str, np.ndarray | None] | None = None, **attrs: Any
    ) -> Value:
        """Add a node whose inputs have the batch first and the other axes in ONNX's order."""
        return self.value(self._add(op, [self.plain(x).name for x in inputs], weights or {}, attrs))

    def along(
        self, op: str, *inputs: Value, weights: Mapping[str, np.ndarray | None] | None = None, **attrs: Any
    ) -> Value:
        """Add a node that leaves axes where they are, for inputs whose axes have one order."""
        return self.like(inputs[0], self._add(op, [x.name for x in inputs], weights or {}, attrs))

    def value(self, name: str) -> Value:
        """Return a node's output as ONNX sees it where nothing was transposed."""
        return Value(name, axes.identity(len(self.builder.shape(name)) + 1))

    def like(self, x: Value, name: str) -> Value:
        """Return a node's output whose axes have the order of those of `x`."""
        self.builder.shape(name)  # what is wrong with the node is said here
        return Value(name, x.axes, x.floating)

    def shape(self, x: Value, batch: int) -> tuple[int, ...]:
        """Return the shape that ONNX sees, for a batch of this size."""
        return axes.sizes(x.axes, self.builder.shape(x.name), batch)

    def sizes(self, x: Value) -> tuple[int, ...]:
        """Return the shape of one image of a value that is `plain`."""
        return self.builder.shape(x.name)

    def made(self, x: Value) -> Node | None:
        """Return the node that an operator of one node gave; for patterns of several operators."""
        return self._made.get(x.name)

    def axis(self, x: Value, axis: int) -> int:
        """Return the Graph's axis for one of ONNX's, which may be negative; the batch has 0, alone or among others."""
        rank = len(x.axes)
        if not -rank <= axis < rank:
            raise self.error(f"axis {axis} is none of {rank}")
        parts = x.axes[axis]
        return parts[0] if len(parts) == 1 else 0

    def axis_of_images(self, x: Value, axis: int) -> int:
        """Return the Graph's axis as `axis` does, of a node that cannot go along the batch."""
        dim = self.axis(x, axis)
        if dim == 0:
            raise self.unsupported("along the batch")
        return dim

    def arranged(self, x: Value) -> Value:
        """Return a value whose axes the Graph has in ONNX's order, but the batch first."""
        return Value(*self._arranger.arranged(x.name, x.axes), x.floating)

    def plain(self, x: Value) -> Value:
        """Return a value as the Graph has it: the batch is the first axis, and all are in ONNX's order."""
        try:
            name = self._arranger.plain(x.name, x.axes)
        except axes.MixedError:
            raise self.unsupported("of a tensor that has not the batch alone as its first axis") from None
        return Value(name, axes.identity(len(x.axes)), x.floating)

    def alike(self, *values: Value) -> list[Value]:
        """Return values whose axes lie alike on the Graph's, of as many axes: those with fewer get some in front."""
        with self._unmixed():
            places = self._arranger.alike(*((x.name, x.axes) for x in values))
        return [Value(*place, x.floating) for place, x in zip(places, values, strict=True)]

    def trailing(
        self, op: str, *inputs: Value, count: int, weights: Mapping[str, np.ndarray | None] | None = None, **attrs: Any
    ) -> Value:
        """Add a node that computes along the last `count` axes of its inputs, for each index of the others."""
        values = self.alike(*(self.arranged(x) for x in inputs))
        if any(self.axis(values[0], axis) == 0 for axis in range(-count, 0)):
            raise self.unsupported("along the batch")
        return self.along(op, *values, weights=weights, **attrs)

    def reshape(self, x: Value, shapes: Sequence[Sequence[int]]) -> Value:
        """Give a value another shape, which is named with the batch and for each of its sizes."""
        with self._unmixed():
            return Value(*self._arranger.reshaped(x.name, x.axes, shapes), x.floating)

    def constant(self, x: Value, array: np.ndarray) -> np.ndarray:
        """Return a constant that broadcasts with `x`, the same for all images, as it does with the Graph's value."""
        try:
            return self._arranger.constant(x.name, x.axes, array)
        except axes.MixedError:
            raise self.unsupported("with a constant that differs between images") from None

    def filled(self, constant: Any, like: Value) -> Value:
        """Return a constant as a value whose axes lie as those of `like`, with all its sizes."""
        images = []
        for batch, array in zip(self.batches, self.each(constant), strict=True):
            if array.ndim != len(like.axes):
                raise self.error("joins tensors of different numbers of axes")
            try:
                images.append(axes.constant(like.axes, self.builder.shape(like.name), batch, array))
            except axes.MixedError:
                raise self.unsupported("with a constant that differs between images") from None
        image = images[0]
        if any(not np.array_equal(image, other, equal_nan=True) for other in images[1:]):
            raise self.unsupported("with a constant that differs between images")
        self.charge(image.size)
        image = self.weight(image.reshape((1,) * (sum(map(len, like.axes)) - 1 - image.ndim) + image.shape))
        return self.like(like, self._add("constant", [like.name], {"value": image}, {}))

    @contextmanager
    def _unmixed(self) -> Iterator[None]:
        try:
            yield
        except axes.MixedError:
            raise self.unsupported("that mixes the images of a batch") from None

    def weight(self, array: Any, transposed: bool = False) -> np.ndarray:
        """Return a constant in the Graph's dtype; the same array for the same one."""
        if not isinstance(array, np.ndarray):
            raise self.unsupported("with weights that are computed from the input")
        if array.dtype.kind != "f":
            raise self.error(f"has weights of {array.dtype}")
        key = id(array), transposed
        if key not in self._weights:
            if array.dtype.itemsize > self.dtype.itemsize:
                self.check_range(array)
            converted = np.ascontiguousarray(array.T if transposed else array, self.dtype)
            self._weights[key] = converted, array  # which must live, or another could get its address
        return self._weights[key][0]

    def check_range(self, array: np.ndarray) -> None:
        """Refuse finite numbers that are infinite in the Graph's dtype."""
        with np.errstate(over="ignore"):
            converted = np.asarray(array, self.dtype)
        if not np.array_equal(np.isinf(array), np.isinf(converted)):
            raise self.error(f"holds a finite number too large for {self.dtype}")

    def each(self, constant: Any) -> list[np.ndarray]:
        """Return a constant for each size of the batch."""
        if isinstance(constant, Sized):
            return list(constant.arrays)
        if isinstance(constant, np.ndarray):
            return [constant] * len(self.batches)
        raise self.unsupported("with a shape that is computed from the pixels")

    def ints(self, what: str, value: Any) -> list[int]:
        """Return the integers of a constant of at most one axis, or of an attribute."""
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "iu" or value.ndim > 1:
                raise self.error(f"{what} must hold integers, got {value.dtype} of shape {value.shape}")
            return [int(item) for item in value.reshape(-1)]
        if isinstance(value, list):
            return value
        raise self.unsupported(f"with {what} computed from the input")

    def integer(self, what: str, value: Any) -> int:
        """Return the one integer of a constant."""
        values = self.ints(what, np.reshape(value, -1) if isinstance(value, np.ndarray) else value)
        if len(values) != 1:
            raise self.error(f"{what} must be one integer, got {len(values)}")
        return values[0]

    def number(self, what: str, value: Any) -> float:
        """Return the one number of a constant."""
        if not isinstance(value, np.ndarray):
            raise self.unsupported(f"with {what} computed from the input")
        if value.size != 1 or value.dtype.kind not in "fiub":
            raise self.error(f"{what} must be a number, got {value.dtype} of shape {value.shape}")
        return float(value.reshape(()))

    def tensor(self, tensor: TensorProto) -> np.ndarray:
        """Return the array that an attribute holds."""
        return self._tensors.read(tensor, "its tensor")

    def charge(self, elements: int) -> None:
        """Refuse constants that are out of proportion to the file, before they are made."""
        self._left -= max(elements, 1)
        if self._left < 0:
            raise self.error("computes constants out of all proportion to the file's size")

    def unsupported(self, what: str) -> UnsupportedOperatorError:
        """An error about the current node: `what` follows its operator's name."""
        return UnsupportedOperatorError(what)

    def error(self, what: str) -> ModelFormatError:
        """An error about a file that is wrong at the current node."""
        return ModelFormatError(what)

    # --- nodes ------------------------------------------------------------------------------------

    def _results(self, call: Call) -> Iterator[Any]:
        """Return what each output of a node is."""
        args = [None if name is None else self._values[name] for name in call.inputs]
        try:
            unusable = [arg for arg in args if isinstance(arg, Unusable)]
            if not call.known or not (call.op in FUNCTIONS or (call.op in FOLDS and not unusable)):
                raise self.unsupported(REASONS.get(call.op, ""))
            for arg in unusable:
                if arg.reason is None:  # it was said there
                    self._missing.untried += 1
                    return iter([arg] * len(call.outputs))
                raise self.unsupported(arg.reason)
            result = self._result(call, args)
        except UnsupportedOperatorError as error:
            self._missing.add(f"{call.op} {error}".strip(), call.name)
            return iter([self._stand_in(call, args)] * len(call.outputs))
        except FastconvError as error:
            if self._missing:  # it may come of what stands in for a result
                return iter([Unusable()] * len(call.outputs))
            raise self._at(call, error) from None
        results = list(result) if isinstance(result, tuple) else [result]
        results += [Unusable("that reads an output which is not computed")] * (len(call.outputs) - len(results))
        return iter(results)

    def _stand_in(self, call: Call, args: list[Any]) -> Value | Unusable:
        """Something of the shape of a result that is not computed, so that what comes after is looked at too."""
        values = [arg for arg in args if isinstance(arg, Value)]
        if not values or call.op not in KEEP_SHAPE:
            return Unusable()
        return max(values, key=lambda x: (len(x.axes), prod(self.builder.shape(x.name))))

    def _result(self, call: Call, args: list[Any]) -> Any:
        attrs = call.attributes()
        if not any(isinstance(arg, Value) for arg in args):
            return fold(self, call.op, args, attrs)
        if call.op not in FUNCTIONS:
            raise self.unsupported(REASONS.get(call.op, ""))
        if call.op not in SIZED and any(isinstance(arg, Sized) for arg in args):
            raise self.unsupported("with a number that depends on the size of the batch")
        if call.op not in MIXED and not isinstance(args[0], Value):
            raise self.unsupported("of a constant, with what is computed from the input")
        if call.op not in INTEGERS and any(isinstance(arg, Value) and not arg.floating for arg in args):
            raise self.unsupported("of integers")
        return FUNCTIONS[call.op](self, *args, **attrs)

    def _add(self, op: str, inputs: list[str], weights: Mapping[str, np.ndarray | None], attrs: dict[str, Any]) -> str:
        if op == "pad":  # it is compiled to a table of positions for each axis, some 25 bytes an entry
            self.charge(4 * sum(map(abs, attrs["padding"])))
        arrays = {role: array for role, array in weights.items() if array is not None}
        name = self.builder.add(op, *inputs, weights=arrays, **attrs)
        self._made[name] = self.builder.nodes[-1]
        return name

    def _name(self, op: str) -> str:
        return self._call.name if self._call is not None else op

    def _at(self, call: Call, error: FastconvError) -> FastconvError:
        """The error with its node in front; the Graph has put that there already."""
        message = str(error)
        known = message.startswith((f"{call.name}: ", f"{call.name}#"))
        return type(error)(message if known else f"{call.name}: {call.op} {message}")

    # --- the ends ---------------------------------------------------------------------------------

    def _output(self, name: str) -> str:
        """Return the node of an output."""
        value = self._values[name]
        if isinstance(value, Unusable):
            raise UnsupportedOperatorError(f"output {shown(name)} is not computed")
        if not isinstance(value, Value):
            raise UnsupportedOperatorError(f"output {shown(name)} does not depend on the input")
        try:
            source = self.plain(value).name
        except UnsupportedOperatorError as error:
            raise UnsupportedOperatorError(f"output {shown(name)} {error} is not supported") from None
        return self.builder.add("identity", source, name=name) if source in self.builder.inputs else source

    def _drop_unused(self, outputs: Sequence[str]) -> None:
        """Leave out nodes that served a pattern which became another node."""
        needed = set(outputs)
        for node in reversed(self.builder.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        self.builder.nodes = [node for node in self.builder.nodes if node.name in needed]
