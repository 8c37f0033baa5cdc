"""``torch.nn.Module`` -> Graph through :mod:`torch.export`, and back for comparison.

The module is exported for a batch of an unusual size. What comes out is a flat list of ATen calls
with the path of the module that made each. :mod:`.reader` walks along it, and
:mod:`.ops` has one entry for each call that is understood.

PyTorch is imported inside functions only: nothing else in fastconv needs it.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

from ...errors import (
    ArgumentError,
    FastconvError,
    MissingExtraError,
    ShapeError,
    UnsupportedOperatorError,
)
from ...graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from torch.export import ExportedProgram

    from ...graph.ops.spec import Shape
    from .arguments import Returned

BATCH = 61
"""Images in the example batch: an unusual number, so that what depends on it shows."""


def from_torch(
    module: torch.nn.Module,
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | Sequence[Sequence[int]],
    *,
    labels: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transforms: Any = None,
    dynamic: bool = False,
) -> Graph:
    """Convert `module`, as it computes in ``eval()`` mode.

    The module is left as it was: its device, its dtype and the training flag of each submodule. Its
    weights are copied, to float32.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one batch of images or several; gives a tensor, or tuples, lists, mappings and dataclasses of them, one
        in another.
    input_shape : sequence of int, mapping of str to sequence of int, or sequence of those
        (C, H, W) of one image, or (F,). Where ``forward`` takes several tensors: name -> shape, in the order of its
        parameters; or a sequence of shapes, for inputs of the parameters' names.
    labels : sequence of str, optional
        A name per class.
    mean, std : sequence of float, optional
        Per channel, on pixels in 0..1.
    transforms : optional
        Instead of `mean` and `std`: see :func:`fastconv.formats.transforms.preprocessing_of`.
    dynamic : bool
        Whether images of other sizes are taken too.

    Returns
    -------
    Graph
        Its nodes have the paths of the modules, ``features.0``; a module that is used again appears
        as ``relu#2`` with the same arrays.

    Raises
    ------
    UnsupportedOperatorError
        A layer is not supported (its ATen name, class and path are given), or the module cannot be
        exported: its control flow depends on the data.
    ShapeError
        The module does not take images of `input_shape`, or its size cannot vary.
    ArgumentError
        `module` is no module with such inputs, labels, mean or std do not fit it, or a step of
        `transforms` is not supported.
    MissingExtraError
        PyTorch is not installed.
    """
    module = _unwrap(module)
    from .arguments import inputs_of

    inputs = inputs_of(module, input_shape)
    if dynamic:
        from ...graph.dynamic import check_one, compare_readings

        check_one(inputs)
    if labels is not None:
        from ..transforms import class_names

        labels = class_names(labels)
    preprocessing = None
    if not (mean is None and std is None and transforms is None):  # checked before the export, which takes seconds
        from ..transforms import preprocessing_from

        preprocessing = preprocessing_from(mean, std, transforms, inputs)
    graph = _read(module, inputs)
    if dynamic:
        graph = compare_readings(
            graph, lambda shape: _read(module, dict.fromkeys(inputs, shape)), type(module).__name__
        )
    return graph.replace(labels=labels, preprocessing=preprocessing)


def _read(module: torch.nn.Module, inputs: Mapping[str, Shape]) -> Graph:
    """Convert a module for images of these shapes, without what is known of the images and the classes."""
    from .arguments import Returned

    returned = Returned()
    program = _export(module, inputs, returned)
    from .reader import Reader

    reader = Reader(program, type(module).__name__, inputs, BATCH)
    outputs = reader.read()
    return reader.builder.graph(outputs, output_names=returned.names)


def to_torch(graph: Graph) -> torch.nn.Module:
    """A module that computes `graph` with ``torch.nn.functional``, in ``eval()`` mode.

    Its parameters and buffers are copies, named ``<node>.<role>`` with ``_`` for each dot of the
    node's name; arrays that nodes share are one parameter. It returns a tensor, or a tuple of
    several.
    """
    _import_torch()
    from .module import GraphModule

    return GraphModule(graph)


def _import_torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError(
            "PyTorch is not installed; it is needed to convert modules: pip install torch"
        ) from None
    return torch


# Exporting ---------------------------------------------------------------------------------------


def _unwrap(module: Any) -> torch.nn.Module:
    """The module itself, without the wrappers that compile it or run it in parallel."""
    torch = _import_torch()
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(
            f"module must be a torch.nn.Module, got {type(module).__name__}; load a state_dict into its module first"
        )
    module = getattr(module, "_orig_mod", module)
    if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        module = module.module
    if isinstance(module, torch.jit.ScriptModule):
        raise ArgumentError("module is TorchScript, which cannot be exported; pass the original")
    if any(isinstance(p, torch.nn.parameter.UninitializedParameter) for p in module.parameters()):
        raise ArgumentError("module has lazy layers without weights; call it on an image first")
    return module  # type: ignore[no-any-return]


def _export(module: torch.nn.Module, inputs: Mapping[str, Shape], returned: Returned) -> ExportedProgram:
    import torch
    from torch.export import export

    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    examples = []
    for shape in inputs.values():
        try:
            examples.append(torch.zeros(BATCH, *shape, dtype=like.dtype, device=like.device))
        except RuntimeError as error:  # too large
            raise ShapeError(f"input_shape {shape} is impossible: {_first_line(error)}") from None
    with _evaluating(module), torch.no_grad():
        handle = module.register_forward_hook(returned.hook)
        try:
            with _quiet():
                return export(module, tuple(examples), strict=False)
        except FastconvError:
            raise
        except Exception as error:
            raise _explain(module, inputs, examples, error) from error
        finally:
            handle.remove()


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put every submodule into evaluation mode, and back into its own."""
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, flag in training:
            part.training = flag


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what export tells of itself; where it fails, `_explain` says more than its log."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch._subclasses.fake_tensor")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _explain(
    module: torch.nn.Module, inputs: Mapping[str, Shape], examples: Sequence[torch.Tensor], error: Exception
) -> FastconvError:
    """Tell a module that fails by itself from one that only cannot be exported."""
    name, count = type(module).__name__, len(inputs)
    try:
        module(*examples)
    except TypeError as own:
        given = "one batch of images" if count == 1 else f"{count} batches"
        return ArgumentError(
            f"{name} cannot be called with {given} ({_first_line(own)}); give input_shape a shape for each tensor that "
            "forward takes, {name: shape, …}, or wrap it in a module whose forward takes tensors alone"
        )
    except Exception as own:
        shapes = " and ".join(map(str, inputs.values()))
        return ShapeError(
            f"{name} fails on a batch of {BATCH} images of shape {shapes}: "
            f"{_first_line(own)}; pass the input_shape it was made for, without the batch axis"
        )
    return UnsupportedOperatorError(
        f"{name} runs but torch.export cannot trace it: {_first_line(error)}; make its control "
        "flow independent of the data and of the batch size"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip() if lines else 'no message'}"
