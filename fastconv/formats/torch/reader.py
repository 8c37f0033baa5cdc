"""The calls of an exported program -> nodes; see :mod:`.export`.

Two things happen here so that the entries of :mod:`.ops` can stay simple:

- Calls whose arguments are all known (parameters, buffers, numbers) are made at once: weight
  normalisation, a transposed weight or a table built in ``forward`` arrive as finished arrays.
- In-place calls become plain ones. All names for the changed memory are moved on to the result; a
  view of it in another shape may not be used any more.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import UnsupportedOperatorError
from ...graph.builder import GraphBuilder
from .ops import FUNCTIONS
from .values import Unusable, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch.export import ExportedProgram


class Reader:
    """Turns the calls of an exported program into nodes, one after the other."""

    def __init__(self, program: ExportedProgram, root: str, inputs: Mapping[str, Sequence[int]], batch: int) -> None:
        self.builder = GraphBuilder(inputs, naming=self._path)
        self._inputs = dict(zip(program.graph_signature.user_inputs, inputs, strict=True))
        self._program = program
        self._root = root
        self._batch = batch
        self._values: dict[torch.fx.Node, Any] = {}  # Value, Tensor, tuple of them, None
        self._arrays: dict[tuple[Any, ...], tuple[np.ndarray, torch.Tensor]] = {}
        self._call: Any = None  # the fx.Node being read

    def read(self) -> tuple[str, ...]:
        """Read all calls; return the names of the outputs."""
        for call in self._program.graph.nodes:
            self._call = call
            if call.op == "placeholder":
                self._values[call] = self._placeholder(call)
            elif call.op == "get_attr":
                self._values[call] = operator.attrgetter(call.target)(self._program.graph_module)
            elif call.op == "call_function":
                self._values[call] = self._function(call)
        return self._outputs()

    # For the entries of `ops` -------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The batched shape of what the current call gives."""
        return tuple(self._result.shape)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The batched shapes of all that the current call gives."""
        return [tuple(value.shape) for value in self._call.meta["val"]]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of what the current call gives."""
        return self._result.dtype  # type: ignore[no-any-return]

    def emit(
        self,
        op: str,
        *inputs: Any,
        weights: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
        memory: object = None,
    ) -> Value:
        """Add a node; return its output.

        Parameters
        ----------
        op : str
            A key of ``OPS``.
        *inputs : Value
        weights : mapping of str to (Tensor or None), optional
        attrs : mapping, optional
        memory : object, optional
            That of the input, where the output is a view of it.
        """
        names = self._names_of(inputs)
        arrays = {role: self._array(role, tensor) for role, tensor in (weights or {}).items() if tensor is not None}
        return self._value(self.builder.add(op, *names, weights=arrays, **(attrs or {})), memory)

    def apply(self, recipe: Callable[..., str], x: Any, *args: Any, memory: object = None) -> Value:
        """Add the nodes of one of the builder's recipes, ``recipe(name of x, *args)``; return its output."""
        (name,) = self._names_of((x,))
        return self._value(recipe(name, *args), memory)

    def one_image(self, constant: torch.Tensor, rank: int) -> torch.Tensor:
        """Return a constant of `rank` batched axes for one image; refuse one that is not the same for all."""
        if constant.dim() < rank:
            return constant
        if constant.dim() > rank or not (len(constant) == 1 or bool((constant == constant[:1]).all())):
            raise self.unsupported("mixes the images of a batch, which is not supported")
        return constant[0]

    def _names_of(self, inputs: Sequence[Any]) -> list[str]:
        """The names of what the current call reads, which must give a batch of images."""
        if not all(isinstance(value, Value) for value in inputs):
            raise self.unsupported("of a constant is not supported")
        if not self.shape or self.shape[0] != self._batch:
            raise self.unsupported("mixes the images of a batch, which is not supported")
        return [x.name for x in inputs]

    def _value(self, name: str, memory: object) -> Value:
        return Value(name, (self._batch, *self.builder.shape(name)), memory)

    def unsupported(self, what: str) -> UnsupportedOperatorError:
        """An error about the current call: its name, its module, what is wrong, the remedy."""
        path, kind = self._module()
        where = f"{path} ({kind})" if path else f"forward of {kind}"
        return UnsupportedOperatorError(
            f"{where}: {self._call.target} {what}; use a layer that fastconv has, or convert the "
            "part of the network before it and leave the rest to PyTorch"
        )

    # Calls ---------------------------------------------------------------------------------------

    @property
    def _result(self) -> Any:
        value = self._call.meta["val"]
        return value[0] if isinstance(value, (tuple, list)) else value

    def _placeholder(self, call: Any) -> Any:
        program, signature = self._program, self._program.graph_signature
        if call.name in signature.inputs_to_parameters:
            return program.state_dict[signature.inputs_to_parameters[call.name]]
        if call.name in signature.inputs_to_buffers:
            target = signature.inputs_to_buffers[call.name]
            return program.state_dict.get(target, program.constants.get(target))
        if call.name in signature.inputs_to_lifted_tensor_constants:
            return program.constants[signature.inputs_to_lifted_tensor_constants[call.name]]
        return Value(self._inputs[call.name], tuple(call.meta["val"].shape))

    def _function(self, call: Any) -> Any:
        args = [self._resolve(arg) for arg in call.args]
        kwargs = {key: self._resolve(arg) for key, arg in call.kwargs.items()}
        if call.target is operator.getitem:
            value = args[0][args[1]]
            return Unusable("takes the indices of a pooling") if value is None else value
        name = str(call.target)
        if name.startswith("aten._assert"):  # what export knows about dtypes, not part of the network
            return None
        if not any(isinstance(value, Value) for value in _flat([args, kwargs])):
            return self._evaluate(call.target, args, kwargs)
        packet, _, overload = name.rpartition(".")
        in_place = packet.endswith("_") and not packet.endswith("__")
        function = FUNCTIONS.get(f"{packet[:-1]}.{overload}" if in_place else name)
        if function is None:
            raise self.unsupported("is not supported")
        result = function(self, *args, **kwargs)
        if in_place:
            self._replace(args[0], result)
        return result

    def _resolve(self, arg: Any) -> Any:
        """An argument of a call, with the values of the calls that it refers to."""
        if isinstance(arg, (list, tuple)):
            return [self._resolve(item) for item in arg]
        if not isinstance(arg, torch.fx.Node):
            return arg
        value = self._values[arg]
        if isinstance(value, Unusable):
            raise self.unsupported(f"{value.reason}, which is not supported")
        return value

    def _evaluate(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Make a call that involves no activation, such as a transposed or normalised weight."""
        if not isinstance(target, torch._ops.OpOverload):
            raise self.unsupported("is not supported")
        if torch.Tag.nondeterministic_seeded in target.tags:
            raise self.unsupported("is random")
        if target._schema.is_mutable and not str(target).startswith("aten.detach_."):
            raise self.unsupported("changes a parameter or a buffer in place")
        with torch.no_grad():
            return target(*args, **kwargs)

    def _replace(self, before: Value, after: Value) -> None:
        """Let every name for the memory of `before` mean `after`, which was computed in place."""
        after.memory = before.memory
        for call, value in self._values.items():
            if isinstance(value, Value) and value.memory is before.memory:
                reason = "uses a tensor that was changed in place through another shape of it"
                self._values[call] = after if value is before else Unusable(reason)

    def _outputs(self) -> tuple[str, ...]:
        signature = self._program.graph_signature
        calls = {call.name: call for call in self._program.graph.nodes}
        names: list[str] = []
        for output in signature.user_outputs:
            value = self._resolve(calls[output]) if output in calls else output
            if isinstance(value, torch.Tensor) and value.dim() and len(value) == self._batch:
                self._call = calls[output]
                image = self.one_image(value, value.dim())
                value = self.emit("constant", Value(self.builder.inputs[0], ()), weights={"value": image})
            if not isinstance(value, Value):
                raise UnsupportedOperatorError(
                    f"{self._root}: output {len(names)} does not depend on the input; return "
                    "only what is computed from the image"
                )
            if value.name in self.builder.inputs:
                self._call = calls[output]
                value = self.emit("identity", value)
            names.append(value.name)
        return tuple(names)

    def _array(self, role: str, tensor: Any) -> np.ndarray:
        """A float32 copy of a constant; the same array for the same tensor."""
        if not isinstance(tensor, torch.Tensor):
            raise self.unsupported(f"computes its {role} from the image")
        if not tensor.is_floating_point():
            raise self.unsupported(f"has a {role} of dtype {tensor.dtype}")
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if key not in self._arrays:
            array = np.array(tensor.detach().to("cpu", torch.float32).numpy(), order="C")
            self._arrays[key] = array, tensor  # which must live, or another could get its address
        return self._arrays[key][0]

    # Names ---------------------------------------------------------------------------------------

    def _module(self) -> tuple[str, str]:
        """Path and class of the innermost module that made the current call."""
        stack = list((self._call.meta.get("nn_module_stack") or {}).values())
        path, kind = stack[-1] if stack else ("", self._root)
        return path, kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"

    def _path(self, op: str) -> str:
        """A layer's own path; for a functional call, the path of its module and the op."""
        path, kind = self._module()
        if path and kind.startswith("torch.nn.modules.") and ".container." not in kind:
            return path
        return f"{path}.{op}" if path else op


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item)
    else:
        yield value
