"""A plain ``state_dict`` -> Graph: of a named architecture, or of the one family that is told from weights alone.

The architectures are in :mod:`.architectures`. What is told from weights alone is the LeNet family: blocks of
convolution (stride 1) · ReLU · 2x2 max-pooling, then linear layers with ReLU between them, in the order of the keys.
Nothing in the file says so; a network that has the same weights but, say, average pooling cannot be told apart, and
needs ``from_torch``.

What the file does not say is settled by these rules:

- The checkpoint wrappers ``state_dict`` and ``model_state_dict``, as the beginning of a key
  (``state_dict.conv1.weight``), are removed, and what is beside them (``epoch``) is not looked at.
  So are ``module.`` and ``_orig_mod.``, where every key begins with it.
- Layers come in the order of the keys. Of a file that keeps none (safetensors), convolutions come first, then linear
  layers, by the numbers in their names; names that differ in more than numbers must fit in one order only.
- Padding is 0 in every convolution, or ``(k - 1) / 2`` ("same") in every one.
- With `input_shape`, the one that gives the features of the first linear layer; if neither does,
  the only mixture of the two that does.
- Without, the input is square, and of the sizes that fit the smallest: the one at which pooling
  drops no row. Padding is 0, unless only "same" gives one of the usual sizes (`USUAL_SIZES`).

All else is refused, with the remedy. A wrong guess cannot pass unnoticed: it needs images of
another size.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product
from math import isqrt
from typing import TYPE_CHECKING

from ..errors import FastconvError, ModelFormatError, ShapeError
from ..graph import INPUT
from ..graph.attributes import integers
from ..graph.builder import GraphBuilder
from ..graph.geometry import windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    import numpy as np

    from ..graph import Graph

    class Header(Protocol):
        """What is known of an array before it is read."""

        @property
        def shape(self) -> tuple[int, ...]: ...

    class Source(Protocol):
        """A file of named arrays: `npz.archive.Archive`, `safetensors.SafetensorsFile`."""

        ordered: bool
        """Whether the names come in the order in which they were saved."""

        @property
        def names(self) -> Sequence[str]: ...

        def header(self, name: str, /) -> Header: ...

        def read_weight(self, name: str, /) -> np.ndarray: ...


LENET = "lenet"
"""The architecture that needs no name."""

USUAL_SIZES = frozenset({28, 32, 48, 64, 96, 128, 160, 192, 224, 256})

_WRAPPERS = ("state_dict", "model_state_dict")
_PREFIXES = ("_orig_mod.", "module.", "_orig_mod.")  # compiled, then made parallel, or the reverse
_MAX_MIXED = 8  # convolutions, for which 2**8 mixtures of padding are tried
_DEEP = 8  # convolutions, with a pooling behind each: this is rather a network of a known architecture

_NORMALISATION = ("running_mean", "running_var", "num_batches_tracked")

Shape = tuple[int, ...]
Pair = tuple[int, int]


class Layer:
    """A layer's path in the module, role -> name in the file, and the shape of its weight."""

    __slots__ = ("keys", "name", "shape")

    def __init__(self, name: str, keys: dict[str, str], shape: tuple[int, ...]) -> None:
        self.name = name
        self.keys = keys
        self.shape = shape


def read(
    source: Source,
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    architecture: str | None = None,
    dynamic: bool = False,
) -> Graph:
    """Build the network of a ``state_dict``.

    Parameters
    ----------
    source : Source
        One array per entry of the ``state_dict``, by its key.
    input_shape : sequence of int, optional
        (C, H, W) of one image.
    architecture : str, optional
        A key of `architectures.ARCHITECTURES`; by default the LeNet family.
    dynamic : bool
        Whether other sizes are taken too.

    Raises
    ------
    ArgumentError
        There is no such architecture.
    ModelFormatError
        The network is not of this family. The message names the key that shows it.
    ShapeError
        The input size cannot be told, `input_shape` does not fit, or the size cannot vary.
    """
    if isinstance(input_shape, Mapping):
        from ..graph.inputs import given_for

        input_shape = given_for((INPUT,), input_shape).get(INPUT)
    graph = _read(source, input_shape, architecture)
    return graph.replace(dynamic=True) if dynamic else graph


def _read(source: Source, input_shape: Sequence[int] | None, architecture: str | None) -> Graph:
    if architecture not in (None, LENET):
        from . import architectures

        return architectures.read(source, architecture, input_shape)
    try:
        return _lenet(source, input_shape, rather_named=architecture is None)
    except FastconvError:
        if architecture is None:
            _refuse_named(source)
        raise


def _refuse_named(source: Source) -> None:
    """Refuse weights whose keys are those of a known architecture."""
    from .architectures import matching

    names = matching(source.names)
    if names:
        raise ModelFormatError(
            f"these are weights alone, with the keys of {' or '.join(names)}; "
            f"pass architecture={' or '.join(map(repr, names))}"
        )


def _lenet(source: Source, input_shape: Sequence[int] | None, rather_named: bool) -> Graph:
    """Recognise a LeNet; `rather_named`: not where the keys are those of a known architecture."""
    layers = _layers(source)
    convs = [layer for layer in layers if len(layer.shape) == 4]
    linears = [layer for layer in layers if len(layer.shape) == 2]
    if rather_named and len(convs) >= _DEEP:
        _refuse_named(source)
    if not source.ordered:
        from .order import in_order

        for part in (convs, linears):
            part[:] = in_order(part)
        layers = [*convs, *linears]
    _check_chain(layers, convs, linears)
    if input_shape is None:
        shape, paddings = _guess_input(convs, linears[0])
    else:
        shape = integers("input_shape", input_shape)
        paddings = _fit_padding(convs, linears[0], shape)
    return _graph(source, shape, convs, paddings, linears)


def refusal(what: str) -> ModelFormatError:
    from .architectures import ARCHITECTURES

    return ModelFormatError(
        f"{what}. A plain state_dict does not say how its layers are connected, so only "
        "blocks of convolution, ReLU and 2x2 max-pooling followed by linear layers are recognised; "
        f"pass architecture= for one of {', '.join(ARCHITECTURES)}; "
        "save any other network from PyTorch with fastconv.from_torch(net, input_shape).save(path)"
    )


# The keys ----------------------------------------------------------------------------------------


def unwrap(names: Iterable[str]) -> dict[str, str]:
    """Return key without wrapper and prefix -> name in the file."""
    keys = {name: name for name in names}
    wrapped = {
        (wrapper, mark): {key[len(wrapper) + 1 :]: name for key, name in keys.items() if key.startswith(wrapper + mark)}
        for wrapper in _WRAPPERS
        for mark in "./"
    }
    found = [inner for inner in wrapped.values() if inner]
    if len(found) > 1:
        raise refusal("there is more than one state_dict in the file")
    keys = found[0] if found else keys
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in keys):
            keys = {key[len(prefix) :]: name for key, name in keys.items()}
    return keys


def _layers(source: Source) -> list[Layer]:
    """Group the keys by layer, in order; refuse what is neither convolution nor linear."""
    keys = unwrap(source.names)
    if not keys:
        raise refusal("there are no weights in the file")
    for name in keys.values():
        source.header(name)  # refuses what is pickled or damaged, with its own remedy
    grouped: dict[str, dict[str, str]] = {}
    for key, name in keys.items():
        layer, _, role = key.rpartition(".")
        if role not in ("weight", "bias"):
            what = "is of a batch normalisation" if role in _NORMALISATION else "is unknown"
            raise refusal(f"the entry {key!r} {what}")
        grouped.setdefault(layer, {})[role] = name
    layers = []
    for layer, roles in grouped.items():
        if "weight" not in roles:
            raise refusal(f"{layer!r} has a bias and no weight")
        shape = source.header(roles["weight"]).shape
        if len(shape) not in (2, 4) or 0 in shape:
            raise refusal(f"the weight of {layer!r} has shape {shape}")
        layers.append(Layer(layer or "layer", roles, shape))
    return layers


def _check_chain(layers: Sequence[Layer], convs: Sequence[Layer], linears: Sequence[Layer]) -> None:
    """Convolutions, then linear layers, each of which takes what the one before it gives."""
    if not convs:
        raise refusal("there is no convolution")
    if not linears:
        raise refusal(
            "there is no linear layer to end with, and without one the padding of the convolutions is unknown"
        )
    if layers != [*convs, *linears]:
        raise refusal(f"the convolution {convs[-1].name!r} comes after a linear layer")
    for before, layer in (*pairwise(convs), *pairwise(linears)):
        if layer.shape[1] != before.shape[0]:
            raise refusal(
                f"{layer.name!r} takes {layer.shape[1]} channels, {before.name!r} before it gives {before.shape[0]}"
            )
    if linears[0].shape[1] % convs[-1].shape[0]:
        raise refusal(
            f"{linears[0].name!r} takes {linears[0].shape[1]} features, not a multiple of the "
            f"{convs[-1].shape[0]} channels of {convs[-1].name!r}"
        )


# Input size and padding --------------------------------------------------------------------------


def _guess_input(convs: Sequence[Layer], linear: Layer) -> tuple[Shape, list[Pair]]:
    """The shape of one square image, and each convolution's padding, from the weights alone."""
    channels, area = convs[0].shape[1], linear.shape[1] // convs[-1].shape[0]
    side = isqrt(area)
    zero, same = [(0, 0)] * len(convs), [_same(conv) for conv in convs]
    height, width = _smallest(side, convs, zero)
    if side * side != area or height != width:
        raise ShapeError(
            f"{linear.name}: expects {linear.shape[1]} features, which no square image gives; pass "
            f"input_shape=({channels}, height, width)"
        )
    height_same, width_same = _smallest(side, convs, same)
    if height not in USUAL_SIZES and height_same in USUAL_SIZES and height_same == width_same:
        return (channels, height_same, width_same), same
    return (channels, height, width), zero


def _fit_padding(convs: Sequence[Layer], linear: Layer, shape: Shape) -> list[Pair]:
    """The padding of each convolution that makes an image of `shape` fit the first linear layer."""
    channels, features = convs[0].shape[1], linear.shape[1]
    if len(shape) != 3 or shape[0] != channels:
        raise ShapeError(
            f"{convs[0].name}: expects {channels} channels, input_shape is {shape}; "
            f"pass input_shape=({channels}, height, width)"
        )
    zero, same = [(0, 0)] * len(convs), [_same(conv) for conv in convs]
    for paddings in (zero, same):
        if _features(shape, convs, paddings) == features:
            return paddings
    if len(convs) <= _MAX_MIXED:
        mixtures = {tuple(mixture) for mixture in product(*zip(zero, same, strict=True))}
        fitting = [m for m in mixtures if _features(shape, convs, m) == features]
        if len(fitting) == 1:
            return list(fitting[0])
        if fitting:
            raise refusal(f"more than one padding fits input_shape={shape}")
    raise ShapeError(
        f"{linear.name}: expects {features} features, the flattened input has "
        f"{_features(shape, convs, zero)}; pass input_shape={_guess_input(convs, linear)[0]}"
    )


def _same(conv: Layer) -> Pair:
    """The padding that keeps the size; an even kernel has none that is the same on both sides."""
    height, width = conv.shape[2:]
    return (height // 2, width // 2) if height % 2 and width % 2 else (0, 0)


def _features(shape: Shape, convs: Sequence[Layer], paddings: Iterable[Pair]) -> int:
    """How many values an image of `shape` is when it reaches the first linear layer."""
    height, width = shape[1:]
    for conv, (vertical, horizontal) in zip(convs, paddings, strict=True):
        height = max(0, windows(windows(height, conv.shape[2], 1, vertical, vertical), 2, 2))
        width = max(0, windows(windows(width, conv.shape[3], 1, horizontal, horizontal), 2, 2))
    return convs[-1].shape[0] * height * width


def _smallest(side: int, convs: Sequence[Layer], paddings: Sequence[Pair]) -> Pair:
    """The smallest image that is `side` high and wide when it reaches the first linear layer."""
    height = width = side
    for conv, (vertical, horizontal) in zip(reversed(convs), reversed(paddings), strict=True):
        height = 2 * height + conv.shape[2] - 1 - 2 * vertical
        width = 2 * width + conv.shape[3] - 1 - 2 * horizontal
    return height, width


# The graph ---------------------------------------------------------------------------------------


def _graph(
    source: Source, shape: Shape, convs: Sequence[Layer], paddings: Sequence[Pair], linears: Sequence[Layer]
) -> Graph:
    builder = GraphBuilder(shape)

    def add(layer: Layer, op: str, **attrs: object) -> None:
        weights = {role: source.read_weight(key) for role, key in layer.keys.items()}
        builder.add(op, name=layer.name, weights=weights, **attrs)

    for conv, padding in zip(convs, paddings, strict=True):
        add(conv, "conv2d", padding=padding)
        builder.add("relu", name=f"{conv.name}.relu")
        builder.add("max_pool2d", name=f"{conv.name}.pool", kernel_size=2)
    builder.add("flatten")
    for linear in linears:
        add(linear, "linear")
        if linear is not linears[-1]:
            builder.add("relu", name=f"{linear.name}.relu")
    return builder.graph()
