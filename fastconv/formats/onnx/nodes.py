"""The graph of an ONNX file before anything is made of it: who gives what, and each node as a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ModelFormatError, UnsupportedOperatorError
from ...graph.attributes import shown
from .file import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto
    from onnx.defs import OpSchema

__all__ = ["Call", "Outline"]

MANY = 2**31 - 1
"""The most inputs of an operator that takes any number."""


class Call:
    """A node, checked against ONNX's own description of its operator.

    Attributes
    ----------
    name : str
        Its own, or that of its first output.
    op : str
        With its domain in front where that is not ONNX's.
    known : bool
        Whether ONNX has such an operator in the file's opset.
    inputs : list of (str or None)
        None for one that is left out.
    outputs : list of str
        Of one that is left out the name is empty.
    """

    def __init__(self, node: NodeProto, opset: int) -> None:
        import onnx

        domain = text("a domain", node.domain)
        kind = text("an operator", node.op_type)
        self.outputs = [text("an output", name) for name in node.output]
        self.name = text("a node's name", node.name) or next(filter(None, self.outputs), "") or kind or "a node"
        self.op = kind if domain in ("", "ai.onnx") else f"{domain}.{kind}"
        self.inputs = [text(f"an input of {self.name}", name) or None for name in node.input]
        self._node = node
        self._schema = None
        if domain in ("", "ai.onnx"):
            try:
                self._schema = onnx.defs.get_schema(kind, opset, "")
            except onnx.defs.SchemaError:
                self._schema = None
        self.known = self._schema is not None and not self._schema.deprecated

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that are given or have a default; refuse a node that its operator is not like."""
        from onnx import AttributeProto

        schema = self._schema
        assert schema is not None
        self._check_counts(schema)
        result: dict[str, Any] = {}
        for key, known in schema.attributes.items():
            if known.default_value.type:
                result[key] = self._value(key, known.default_value)
        given = set()
        for attribute in self._node.attribute:
            key = text(f"an attribute of {self.name}", attribute.name)
            if key not in schema.attributes:
                raise self._error(f"has the attribute {shown(key)}, which is none of {self.op}")
            if key in given:
                raise self._error(f"has the attribute {shown(key)} twice")
            given.add(key)
            wanted = str(schema.attributes[key].type).rpartition(".")[2]
            if AttributeProto.AttributeType.Name(attribute.type) != wanted or attribute.ref_attr_name:
                raise self._error(f"the attribute {key!r} must be of type {wanted}")
            result[key] = self._value(key, attribute)
        for key, known in schema.attributes.items():
            if known.required and key not in given:
                raise self._error(f"needs the attribute {key!r}")
        return result

    def _check_counts(self, schema: OpSchema) -> None:
        least, most, count = schema.min_input, schema.max_input, len(self.inputs)
        if not least <= count <= most:
            raise self._error(f"takes {least} to {most} inputs, has {count}")
        needed = count if most >= MANY else least
        if None in self.inputs[:needed]:
            raise self._error(f"needs its first {needed} inputs, one is left out")
        if len(self.outputs) > schema.max_output:
            raise self._error(f"gives at most {schema.max_output} outputs, has {len(self.outputs)}")

    def _value(self, key: str, attribute: AttributeProto) -> Any:
        reader = _ATTRIBUTES.get(attribute.type)
        if reader is None:
            raise UnsupportedOperatorError(f"with the attribute {key}")
        try:
            return reader(attribute)
        except UnicodeDecodeError:
            raise self._error(f"the attribute {shown(key)} is no text") from None

    def _error(self, what: str) -> ModelFormatError:
        return ModelFormatError(what)


# Number of an attribute's type -> its value; tensors are read when they are needed.
_ATTRIBUTES: dict[int, Callable[[AttributeProto], Any]] = {
    1: lambda a: a.f,
    2: lambda a: a.i,
    3: lambda a: a.s.decode("utf-8"),
    4: lambda a: a.t,
    6: lambda a: list(a.floats),
    7: lambda a: list(a.ints),
    8: lambda a: [item.decode("utf-8") for item in a.strings],
}


class Outline:
    """The nodes that the outputs depend on, and where each tensor comes from.

    Constructing one refuses a graph that is not in order: every name is given once, before it is read.
    Subgraphs are not entered; the operators that have some are refused when they are read.

    Attributes
    ----------
    inputs : list of ValueInfoProto
        Those that are no initializers.
    outputs : list of str
    """

    def __init__(self, graph: GraphProto, opset: int) -> None:
        self._initializers = {text("an initializer", tensor.name): tensor for tensor in graph.initializer}
        if len(self._initializers) != len(graph.initializer):
            raise ModelFormatError("two initializers have the same name")
        self.inputs = self._real_inputs(graph)
        self.outputs = [text("an output", info.name) for info in graph.output]
        known = {*self._initializers, *(text("an input", info.name) for info in self.inputs)}
        self._sparse = {text("an initializer", tensor.values.name) for tensor in graph.sparse_initializer}
        if self._sparse:
            raise UnsupportedOperatorError(f"initializer {shown(min(self._sparse))} is sparse, which is not supported")
        self._calls = [Call(node, opset) for node in graph.node]
        for call in self._calls:
            for name in call.inputs:
                if name is not None and name not in known:
                    raise ModelFormatError(
                        f"{call.name}: {call.op} reads {shown(name)}, which no input, initializer or earlier node gives"
                    )
            for name in filter(None, call.outputs):
                if name in known:
                    raise ModelFormatError(f"{call.name}: {call.op} gives {shown(name)}, which is there already")
                known.add(name)
        if not self.outputs:
            raise ModelFormatError("the graph has no outputs")
        if len(set(self.outputs)) != len(self.outputs):
            raise ModelFormatError("two outputs have the same name")
        for name in self.outputs:
            if name not in known:
                raise ModelFormatError(f"output {shown(name)} is given by no node")
        self._needed = self._find_needed()

    def initializers(self) -> Iterator[tuple[str, TensorProto]]:
        """Every initializer that is needed."""
        return ((name, tensor) for name, tensor in self._initializers.items() if name in self._needed)

    def is_read(self, name: str) -> bool:
        """Tell whether a tensor is an output, or goes into a node that is needed."""
        return name in self._needed

    def calls(self) -> Iterator[Call]:
        """Every node that is needed, in order."""
        for call in self._calls:
            if not self._needed.isdisjoint(filter(None, call.outputs)):
                yield call

    def _real_inputs(self, graph: GraphProto) -> list[ValueInfoProto]:
        inputs: dict[str, ValueInfoProto] = {}
        for info in graph.input:
            name = text("an input", info.name)
            if name in inputs:
                raise ModelFormatError(f"two inputs have the name {shown(name)}")
            if name not in self._initializers:
                inputs[name] = info
        if not inputs:
            raise UnsupportedOperatorError("the network has no input")
        return list(inputs.values())

    def _find_needed(self) -> set[str]:
        needed = set(self.outputs)
        for call in reversed(self._calls):
            if not needed.isdisjoint(filter(None, call.outputs)):
                needed.update(name for name in call.inputs if name is not None)
        return needed
