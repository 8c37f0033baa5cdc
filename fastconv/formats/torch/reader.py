"""The calls of an exported program -> nodes; see :mod:`.export`.

Two things happen here so that the entries of :mod:`.ops` can stay simple:

- Calls whose arguments are all known (parameters, buffers, numbers) are made at once: weight
  normalisation, a transposed weight or a table built in ``forward`` arrive as finished arrays.
- In-place calls become plain ones. All names for the changed memory are moved on to the result, which is
  written into what it is a view of; other views of it may not be used any more.
"""

from __future__ import annotations

import operator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import UnsupportedOperatorError
from ...graph.builder import GraphBuilder
from .. import axes
from ..arrange import Arranger
from .chains import in_place, local_response_norms
from .ops import FUNCTIONS, INTEGERS
from .ops.norm import local_response_norm
from .values import Unusable, Value, overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch.export import ExportedProgram


_FILLING = {
    f"aten.{call}.default" for call in ("new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like")
}
"""Calls that give a constant: of their first argument they take only the shape and the dtype."""


class Reader:
    """Turns the calls of an exported program into nodes, one after the other."""

    def __init__(self, program: ExportedProgram, root: str, inputs: Mapping[str, Sequence[int]], batch: int) -> None:
        self.builder = GraphBuilder(inputs, naming=self._path)
        self._inputs = dict(zip(program.graph_signature.user_inputs, inputs, strict=True))
        self._program = program
        self._root = root
        self._batch = batch
        self._arranger = Arranger(self.builder, [batch])
        self._values: dict[torch.fx.Node, Any] = {}  # Value, Tensor, tuple of them, None
        self._arrays: dict[tuple[Any, ...], tuple[np.ndarray, torch.Tensor]] = {}
        given = (*program.state_dict.values(), *program.constants.values())
        self._given = {tensor.untyped_storage().data_ptr() for tensor in given if isinstance(tensor, torch.Tensor)}
        self._norms = local_response_norms(program.graph.nodes)
        self._merged = {call for norm in self._norms.values() for call in norm.before}
        self._call: Any = None  # the fx.Node being read

    def read(self) -> tuple[str, ...]:
        """Read all calls; return the names of the outputs."""
        for call in self._program.graph.nodes:
            self._call = call
            if call.op == "placeholder":
                self._values[call] = self._placeholder(call)
            else:
                self._read_call(call, self._program.graph_module)
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
    def used(self) -> set[int]:
        """Which of the results of the current call, a tuple, anything reads."""
        return {user.args[1] for user in self._call.users if user.target is operator.getitem and user.users}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of what the current call gives."""
        return self._result.dtype  # type: ignore[no-any-return]

    def dtype_of(self, place: int, name: str) -> torch.dtype:
        """The dtype of a tensor that the current call takes."""
        given = self._call.args[place] if place < len(self._call.args) else self._call.kwargs[name]
        return given.meta["val"].dtype  # type: ignore[no-any-return]

    def emit(
        self,
        op: str,
        *inputs: Any,
        weights: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
        memory: object = None,
    ) -> Value:
        """Add a node whose inputs have the batch first, and the other axes as PyTorch has them; return its output.

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
        names = [self.plain(x).name for x in inputs]
        name = self._add(op, names, weights or {}, attrs or {})
        return self.value(name, axes.identity(1 + len(self.builder.shape(name))), memory)

    def along(
        self,
        op: str,
        *inputs: Any,
        weights: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
        memory: object = None,
    ) -> Value:
        """Add a node that leaves axes where they are; `inputs` have the same axes, which `attrs` name as the Graph."""
        first = self.checked(inputs[0])
        name = self._add(op, [self.checked(x).name for x in inputs], weights or {}, attrs or {})
        return self.value(name, first.axes, memory)

    def trailing(
        self,
        op: str,
        *inputs: Any,
        count: int,
        weights: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> Value:
        """Add a node that computes along the last `count` axes of its inputs, for each index of the others."""
        inputs = self.alike(*(self.arranged(x) for x in inputs))
        for axis in range(-count, 0):
            self.axis(inputs[0], axis)
        return self.along(op, *inputs, weights=weights, attrs=attrs)

    def spatial(self, op: str, x: Any, *, count: int, attrs: Mapping[str, Any] | None = None) -> Value:
        """Add a node that computes along the last `count` axes of an image, for each channel alone.

        All axes before are channels then, also those that share one with the batch, as windows do.
        """
        x = self.arranged(x)
        for axis in range(-count, 0):
            self.axis(x, axis)
        shape = self.builder.shape(x.name)
        lead = len(shape) - count
        flat = x.name if lead == 1 else self.builder.reshape(x.name, (prod(shape[:lead]), *shape[lead:]))
        name = self._add(op, [flat], {}, attrs or {})
        return self.value(self.builder.reshape(name, (*shape[:lead], *self.builder.shape(name)[1:])), x.axes)

    def apply(self, recipe: Callable[..., str], x: Any, *args: Any) -> Value:
        """Add the nodes of one of the builder's recipes, ``recipe(name of x, *args)``; return its output."""
        name = recipe(self.plain(x).name, *args)
        return self.value(name, axes.identity(1 + len(self.builder.shape(name))))

    def value(self, name: str, its_axes: axes.Axes, memory: object = None) -> Value:
        """Return what the network's tensor is that lies so on a node's output."""
        return Value(name, its_axes, axes.sizes(its_axes, self.builder.shape(name), self._batch), memory)

    def checked(self, x: Any) -> Value:
        """Return a value; refuse a constant."""
        if not isinstance(x, Value):
            raise self.unsupported("of a constant is not supported")
        return x

    def axis(self, x: Value, dim: int) -> int:
        """Return the Graph's axis for one of PyTorch's, which may be negative."""
        parts = x.axes[dim]
        if len(parts) != 1 or parts == (0,):
            raise self.mixed()
        return parts[0]

    def sizes(self, x: Value, dim: int) -> list[int]:
        """Return the sizes of the Graph's axes, and of the batch, that one of PyTorch's is made of, outermost first."""
        own = (self._batch, *self.builder.shape(x.name))
        return [own[part] for part in x.axes[dim]]

    def arranged(self, x: Any) -> Value:
        """Return a value whose axes the Graph has in PyTorch's order, but the batch first."""
        known = self.checked(x)
        return Value(*self._arranger.arranged(known.name, known.axes), known.shape, known.memory)

    def alike(self, *values: Any) -> tuple[Value, ...]:
        """Return values whose axes lie alike on the Graph's, of as many axes: those with fewer get some in front."""
        known = [self.checked(x) for x in values]
        with self._unmixed():
            places = self._arranger.alike(*((x.name, x.axes) for x in known))
        return tuple(self.value(*place, x.memory) for place, x in zip(places, known, strict=True))

    def plain(self, x: Any) -> Value:
        """Return a value as the Graph has it: the batch is the first axis, and all are in PyTorch's order."""
        known = self.checked(x)
        with self._unmixed():
            name = self._arranger.plain(known.name, known.axes)
        return Value(name, axes.identity(len(known.axes)), known.shape, known.memory)

    def reshape(self, x: Any, shape: Sequence[int]) -> Value:
        """Return a view of a value under another shape, batched."""
        known, target = self.checked(x), tuple(shape)
        if known.shape == target:
            return known
        with self._unmixed():
            return Value(*self._arranger.reshaped(known.name, known.axes, [target]), target, known.memory)

    def constant(self, x: Value, tensor: torch.Tensor) -> torch.Tensor:
        """Return a constant that broadcasts with `x`, the same for all images, as it does with the Graph's value."""
        with self._unmixed():
            return torch.as_tensor(self._arranger.constant(x.name, x.axes, tensor.detach().cpu().numpy()))

    @contextmanager
    def _unmixed(self) -> Iterator[None]:
        try:
            yield
        except axes.MixedError:
            raise self.mixed() from None

    def filled(self, tensor: torch.Tensor, like: Value | None = None) -> Value:
        """Return a constant as a value whose axes lie as those of `like`, or as the Graph has them."""
        its_axes, shape = axes.identity(tensor.dim()), tuple(tensor.shape[1:])
        if like is not None:
            its_axes, shape = like.axes, self.builder.shape(like.name)
        with self._unmixed():
            image = axes.constant(its_axes, shape, self._batch, tensor.detach().cpu().numpy())
        rank = len([part for parts in its_axes for part in parts if part])
        image = image.reshape((1,) * (rank - image.ndim) + image.shape)
        source = self.builder.inputs[0] if like is None else like.name
        return self.value(self._add("constant", [source], {"value": torch.as_tensor(image)}, {}), its_axes)

    def _add(self, op: str, names: Sequence[str], weights: Mapping[str, Any], attrs: Mapping[str, Any]) -> str:
        arrays = {role: self._array(role, tensor) for role, tensor in weights.items() if tensor is not None}
        return self.builder.add(op, *names, weights=arrays, **attrs)

    def mixed(self) -> UnsupportedOperatorError:
        """An error about the current call: it takes images of a batch together, or some of them."""
        return self.unsupported("mixes the images of a batch, which is not supported")

    def check_truth(self) -> None:
        """Refuse an operation on the bits of integers."""
        if self.dtype != torch.bool:
            raise self.unsupported(f"of {self.dtype} is not supported")

    def unsupported(self, what: str) -> UnsupportedOperatorError:
        """An error about the current call: its name, its module, what is wrong, the remedy."""
        path, kind = self._module()
        where = f"{path} ({kind})" if path else f"forward of {kind}"
        return UnsupportedOperatorError(
            f"{where}: {self._call.target} {what}; use a layer that fastconv has, or convert the "
            "part of the network before it and leave the rest to PyTorch"
        )

    # Calls ---------------------------------------------------------------------------------------

    def _read_call(self, call: Any, module: torch.nn.Module) -> None:
        if call in self._merged:
            return
        if call.op == "get_attr":
            self._values[call] = operator.attrgetter(call.target)(module)
        elif call in self._norms:
            x, attrs = self._resolve(call.args[0]), self._norms[call].attrs
            self._values[call] = local_response_norm(self, x, attrs)
        elif call.op == "call_function":
            self._values[call] = self._function(call)

    def _autocast(
        self, device: str, dtype: Any, enabled: bool, cache: Any, module: torch.fx.GraphModule, *given: Any
    ) -> Any:
        """Read what stands under ``torch.autocast`` as a part of the network; it may not change the type."""
        if enabled and device == "cpu":
            raise self.unsupported(f"to {dtype} is not supported")
        outer, values = self._call, iter(given)
        for call in module.graph.nodes:
            self._call = call
            if call.op == "placeholder":
                self._values[call] = next(values)
            else:
                self._read_call(call, module)
        results = [self._resolve(value) for value in call.args[0]]
        self._call = outer
        return results

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
        if not isinstance(call.meta.get("val"), torch.Tensor):  # a generator of random numbers, say
            return Unusable("takes an object that is no tensor")
        shape = tuple(call.meta["val"].shape)
        return Value(self._inputs[call.name], axes.identity(len(shape)), shape)

    def _function(self, call: Any) -> Any:
        args = [self._resolve(arg) for arg in call.args]
        kwargs = {key: self._resolve(arg) for key, arg in call.kwargs.items()}
        if call.target is operator.getitem:
            value = args[0][args[1]]
            return Unusable("takes the indices of a pooling") if value is None else value
        name = str(call.target)
        if name == "wrap_with_autocast":
            return self._autocast(*args, **kwargs)
        if name.startswith("aten._assert"):  # what export knows about dtypes, not part of the network
            return None
        if name in _FILLING:
            like = call.args[0].meta["val"]
            args[0] = torch.empty((), dtype=like.dtype).expand(like.shape)
        if not any(isinstance(value, Value) for value in _flat([args, kwargs])):
            return self._evaluate(call.target, args, kwargs)
        changes = in_place(name)
        if changes:
            packet, _, overload = name.rpartition(".")
            name = f"{packet[:-1]}.{overload}"
        function = FUNCTIONS.get(name)
        if function is None:
            raise self.unsupported("is not supported")
        if name not in INTEGERS and not self.dtype.is_floating_point:
            raise self.unsupported(f"that gives {self.dtype} is not supported")
        if changes and isinstance(args[0], torch.Tensor) and args[0].untyped_storage().data_ptr() in self._given:
            raise self.unsupported("changes a parameter or a buffer in place")
        result = function(self, *args, **kwargs)
        return self._replace(args[0], result) if changes else result

    def _resolve(self, arg: Any) -> Any:
        """An argument of a call, with the values of the calls that it refers to."""
        if isinstance(arg, (list, tuple)):
            return [self._resolve(item) for item in arg]
        if not isinstance(arg, torch.fx.Node):
            return arg
        value = self._values[arg]
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, Unusable) and (part is value or self._call.target is not operator.getitem):
                raise self.unsupported(f"{part.reason}, which is not supported")
        return value

    def _evaluate(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Make a call that involves no activation, such as a transposed or normalised weight."""
        if not isinstance(target, torch._ops.OpOverload):
            raise self.unsupported("is not supported")
        named = dict(zip((argument.name for argument in target._schema.arguments), args, strict=False)) | kwargs
        if torch.Tag.nondeterministic_seeded in target.tags and named.get("train") is not False:
            raise self.unsupported("is random")
        changed = [
            args[i] if i < len(args) else kwargs[argument.name]
            for i, argument in enumerate(target._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        given = any(tensor.untyped_storage().data_ptr() in self._given for tensor in changed)
        if given and not str(target).startswith("aten.detach_."):
            raise self.unsupported("changes a parameter or a buffer in place")
        for tensor in changed:
            self._forget(tensor)
        with torch.no_grad():
            return target(*args, **kwargs)

    def _forget(self, tensor: torch.Tensor) -> None:
        """Keep no array of a constant that is changed in place: it stands for the numbers from before."""
        memory = tensor.untyped_storage()
        first = memory.data_ptr()
        behind = first + memory.nbytes()
        self._arrays = {key: row for key, row in self._arrays.items() if not first <= row[1].data_ptr() < behind}

    def _replace(self, before: Any, result: Value) -> Value:
        """Let every name for the memory of `before`, a value or a constant, mean what was computed in place; return it.

        What `before` is a view of gets its elements.
        """
        memory = before.memory if isinstance(before, Value) else None
        after = Value(result.name, result.axes, result.shape, memory)
        replaced = {id(before): after}
        view = before if isinstance(before, Value) else None
        while view is not None:
            new, within, view = replaced[id(view)], view.within, None
            if within is not None:
                outer, write = within
                try:
                    written = write(outer, new)
                except UnsupportedOperatorError:  # and who reads it is refused
                    break
                replaced[id(outer)] = Value(written.name, written.axes, written.shape, outer.memory)
                new.within = replaced[id(outer)], write
                view = outer
        changed = Unusable("uses a tensor that was changed in place through another view of it")

        def current(value: Any) -> Any:
            if isinstance(value, (tuple, list)):
                return type(value)(current(item) for item in value)
            if id(value) in replaced:
                return replaced[id(value)]
            if isinstance(value, Value) and isinstance(before, Value):
                if overlap(value.memory, before.memory):
                    return changed
                inner = value  # beside it, perhaps in what is another value now
                while inner.within is not None:
                    outer, write = inner.within
                    inner.within = replaced.get(id(outer), outer), write
                    inner = outer
                return value
            if isinstance(value, torch.Tensor) and isinstance(before, torch.Tensor):
                same = value.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()
                return changed if same else value
            return value

        for call, value in self._values.items():
            self._values[call] = current(value)
        return after

    def _outputs(self) -> tuple[str, ...]:
        signature = self._program.graph_signature
        calls = {call.name: call for call in self._program.graph.nodes}
        names: list[str] = []
        for output in signature.user_outputs:
            value = self._resolve(calls[output]) if output in calls else output
            if isinstance(value, torch.Tensor) and value.dim() and len(value) == self._batch:
                self._call = calls[output]
                value = self.filled(value)
            if not isinstance(value, Value):
                raise UnsupportedOperatorError(
                    f"{self._root}: output {len(names)} does not depend on the input; return "
                    "only what is computed from the image"
                )
            self._call = calls.get(output, self._call)
            name = self.plain(value).name
            names.append(self.builder.add("identity", name) if name in self.builder.inputs else name)
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
