"""Model: check the input, run the program, name the class.

A Model is a Graph, which is what is saved and pickled, and the Program that was compiled from it on this machine. Both
are immutable, and threads may share them; only `Model.tune` gives a model others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import Call, trim_memory
from .compile import compile_graph
from .errors import ArgumentError, DTypeError, ModelFormatError, ShapeError
from .rewrite import optimize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    import torch

    from .formats.npz.stored import Stored
    from .graph import Graph
    from .graph.ops.spec import Shape
    from .graph.preprocessing import Preprocessing
    from .inspect.profile import Profile
    from .inspect.summary import Summary
    from .inspect.tune import Tuning
    from .outputs import Outputs
    from .sizes import Sizes

__all__ = ["Model", "from_torch", "load"]

_FROM_TORCH = "load the network in PyTorch and call fastconv.from_torch(module, input_shape)"
_PICKLED = (
    f"PyTorch's pickled files are not read; {_FROM_TORCH}, or save the state_dict with "
    "safetensors.torch.save_file and pass architecture="
)
_NOT_READ = {".pt": _PICKLED, ".pth": _PICKLED}

_READERS = (".onnx", ".safetensors")  # any other suffix is an .npz's

_KEPT_IN_MEMORY = 1 << 20
"""Bytes of a file whose weights are kept as they are, beside those that were packed."""


def load(
    path: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    threads: int | None = None,
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    dynamic: bool | None = None,
    labels: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transforms: Any = None,
) -> Model:
    """Load a model from an ``.npz``, ``.onnx`` or ``.safetensors`` file.

    Parameters
    ----------
    path
        fastconv's own ``.npz`` (`Model.save`), a file that ends in ``.onnx``, or a plain PyTorch ``state_dict``:
        ``.safetensors``, or ``.npz`` written by
        ``np.savez(path, **{k: v.numpy() for k, v in net.state_dict().items()})``.
    architecture
        The network whose weights a ``state_dict`` has, in torchvision's key names: ``"resnet18"``, ``"vgg16_bn"``,
        ``"mobilenet_v2"`` and others, which an unknown name lists; by default the LeNet family. Widths and the number
        of classes follow from the weights.
    threads
        The most threads that a call may use; by default the least of CPU affinity, cgroup quota and
        ``OMP_NUM_THREADS``.
    input_shape
        (C, H, W) of one image, where the file does not tell it or another size is wanted. By default (3, 224, 224) with
        an `architecture`. What an ``.onnx`` file fixes stays as it is. Where the network has several inputs: name ->
        shape, of those that need one.
    dynamic
        Whether images of other sizes than `input_shape` are taken too; by default as the file says, and not where it
        holds weights alone. A file of fastconv's own says so where it was converted with it, an ``.onnx`` file by
        leaving all sizes behind the channels open, if no node depends on them.
    labels, mean, std, transforms
        What `Model.predict` does with an image and calls the classes, as for `from_torch`: of a file that does not say
        it, an ``.onnx`` file or weights alone, or instead of what it says. ``transforms`` may also be a dict of
        fields, ``{"resize_size": 256, "crop_size": 224, "mean": [...], "std": [...]}``.

    Returns
    -------
    Model
        From an ``.npz`` of more than a megabyte, the file stays open as long as the model lives: `Model.graph`,
        `Model.save`, `Model.summary`, pickling and an image of another size read the weights again, which are not kept
        beside those that were packed. The file may be replaced or deleted meanwhile, but not written to.

    Raises
    ------
    OSError
        The file cannot be read.
    fastconv.FastconvError
        The file is not a model (`ModelFormatError`), has layers that are not supported
        (`UnsupportedOperatorError`), or ``input_shape`` does not fit it (`ShapeError`), nor do ``labels``, ``mean``,
        ``std`` or ``transforms`` (`errors.ArgumentError`). ``.onnx`` and ``.safetensors`` need the packages of these
        names (`errors.MissingExtraError`).
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix in _NOT_READ:
        raise ModelFormatError(f"{os.fspath(path)}: {_NOT_READ[suffix]}")
    stored, large = None, os.stat(path).st_size > _KEPT_IN_MEMORY
    if large and suffix not in _READERS:
        from .formats.npz.stored import Stored

        stored = Stored(path, input_shape, architecture, dynamic)
    graph = _read(path, suffix, architecture, input_shape, dynamic) if stored is None else stored()
    if not (labels is None and mean is None and std is None and transforms is None):
        from .formats.transforms import described

        graph = described(graph, labels, mean, std, transforms)
    model = Model(graph, threads=threads, stored=stored)
    if large:
        trim_memory()  # what reading and compiling took
    return model


def _read(
    path: str | os.PathLike[str],
    suffix: str,
    architecture: str | None,
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None,
    dynamic: bool | None,
) -> Graph:
    """Read a file with the reader that its suffix tells."""
    if suffix == ".onnx":
        from .formats import onnx

        if architecture is not None:
            raise ArgumentError(f"architecture={architecture!r}: an .onnx file holds its network; leave it out")
        return onnx.load(path, input_shape, dynamic)
    if suffix == ".safetensors":
        from .formats import safetensors

        return safetensors.load(path, input_shape, architecture, dynamic)
    from .formats import npz

    return npz.load(path, input_shape, architecture, dynamic)


def from_torch(
    module: torch.nn.Module,
    input_shape: Sequence[int] | Mapping[str, Sequence[int]] | Sequence[Sequence[int]],
    *,
    labels: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transforms: Any = None,
    threads: int | None = None,
    dynamic: bool = False,
) -> Model:
    """Convert a PyTorch module, as it computes in ``eval()`` mode.

    Parameters
    ----------
    module : torch.nn.Module
        It returns a tensor, or several: in tuples, lists, dicts and dataclasses, nested or not. Those of dicts and
        dataclasses are outputs of the names that they have there, joined by dots.
    input_shape
        (C, H, W) of one image. Where ``forward`` takes several tensors: name -> shape, in the order of its parameters;
        or a sequence of shapes, for inputs of the parameters' names.
    labels
        A name per class, for `Model.predict`.
    mean, std
        Per channel, on pixels in 0..1 (torchvision's ``Normalize``); applied by `Model.predict`.
    transforms
        Instead of ``mean`` and ``std``: all that is done to an image before the network sees it, for `Model.predict` to
        do the same. torchvision's ``weights.transforms()`` of a classifier; a ``Compose`` of ``Resize``,
        ``CenterCrop``, conversions to a tensor and ``Normalize``; timm's
        ``timm.data.resolve_model_data_config(module)``; a dict of fields of a `Model.preprocessing`; or that of
        another model.
    threads
        As for `load`.
    dynamic
        Whether the model takes images of other sizes than `input_shape` too. The module is then read for some other
        sizes as well, and refused where they give another network, with the layer at fault.

    Returns
    -------
    Model

    Raises
    ------
    fastconv.ShapeError
        The module does not take images of `input_shape`, or its size cannot vary although `dynamic` is asked for.
    fastconv.UnsupportedOperatorError
        A layer is not supported; the message names it with its path in the module.
    fastconv.errors.ArgumentError
        ``labels``, ``mean`` or ``std`` do not fit the network, or a step of ``transforms`` is not supported; the
        message names it.
    fastconv.errors.MissingExtraError
        PyTorch is not installed. It is needed here only.
    """
    from .formats.torch import from_torch as read

    graph = read(module, input_shape, labels=labels, mean=mean, std=std, transforms=transforms, dynamic=dynamic)
    return Model(graph, threads=threads)


class Model(Call):
    """A network, ready to run on this machine. Made by `load` and `from_torch`.

    Made with ``dynamic=True``, it takes images of other sizes than its `input_shape` too. For each it is
    compiled when the first image of that size comes; the sizes used last are kept.

    Safe to call from many threads at once; releases the GIL; picklable.

    Parameters
    ----------
    graph
        The network.
    threads
        As for `load`.
    stored
        Where the network can be read again: its weights are not kept then, but for those that were packed.
    """

    __slots__ = ("__weakref__", "_graph", "_look_up", "_one", "_program", "_sizes", "_stored", "_threads")

    def __init__(self, graph: Graph, *, threads: int | None = None, stored: Stored | None = None) -> None:
        self._graph = graph  # with `stored`, its weights have shapes alone: see `graph`
        self._stored = stored
        self._threads = threads  # as asked for: a pickled None means the default over there
        self._collect = _collector(graph.output_names) if len(graph.outputs) > 1 else None
        before = graph.preprocessing
        self._compile(graph)
        # The name and the shape of the input where it is one, and all images have that size.
        self._one = next(iter(graph.inputs.items())) if len(graph.inputs) == 1 and not graph.dynamic else None
        self._sizes: Sizes | None = None
        if graph.dynamic:
            from .sizes import Sizes

            # What resizes or crops gives the nominal size only: at others it has nothing to do.
            kept = None if _changes_size(graph) else before
            again = stored.again if stored is not None else lambda: graph
            labels = graph.labels
            self._sizes = Sizes(
                graph.input_shape,
                lambda shape: Model(
                    again().replace(input_shape=shape, labels=labels, preprocessing=kept, dynamic=False, tuned={}),
                    threads=threads,
                    stored=stored,  # and never asked: nobody else sees this model
                ),
            )
        if stored is not None:
            self._graph = _without_values(graph)

    def _compile(self, graph: Graph) -> None:
        """Make the program, and what calls it."""
        self._program = compile_graph(optimize(graph), threads=self._threads)
        self._run = self._program.run
        # The program takes one uint8 image of its size without a copy, and scales it to 0..1.
        before = graph.preprocessing
        as_it_is = before is None or (before.factor is None and before.keeps(graph.input_shape))
        self._look_up = self._program.predict if as_it_is else _nothing

    # --- running ----------------------------------------------------------------------------------

    def predict(self, img: Any, *, top: int | None = None) -> Any:
        """Return the class of an image, or an array of classes for a batch.

        Parameters
        ----------
        img
            A PIL image; a path, where Pillow is installed; uint8 HxW, HxWxC or CxHxW; float HxW or CxHxW; a batch of
            those arrays (N first); or a list of any of them. uint8 is scaled to 0..1 and the model's mean and std are
            applied. Where the model says how (`preprocessing`), PIL images, files and uint8 of any size are resized
            and cropped to the network's size, which floats must have. Where it does not, nothing is resized: all must
            have that size, or any one size if the model is dynamic. A float array of the model's `input_shape` is one
            image. A file's EXIF orientation is not applied.
        top
            How many classes to return, best first and with their probabilities; all, if there are fewer.

        Returns
        -------
        int or str, or an ndarray of int64 or str for a batch
            The label where the model has labels, otherwise the class's index.
        list of (int or str, float), or a list of such lists for a batch
            With ``top``: classes, best first, each with its probability (as of `predict_proba`).

        Raises
        ------
        fastconv.ShapeError
            The image does not fit the network, could be read in two ways, or the network does not
            give one number per class.
        fastconv.errors.DTypeError
            The scale of the pixels is unknown, e.g. int64.
        fastconv.errors.MissingExtraError
            Pillow is not installed, and needed to open or to resize the image.
        fastconv.errors.ArgumentError
            ``top`` is not a positive int.
        """
        if top is not None:
            from .classes import best

            outputs, single = self._outputs_of(img, "predict")
            found = best(outputs, self._graph, top)
            return found[0] if single else found
        labels = self._graph.labels
        index = self._look_up(img)  # None for all but one uint8 array
        if index is not None:
            return index if labels is None else labels[index]
        outputs, single = self._outputs_of(img, "predict")
        classes = outputs.argmax(axis=1)
        if single:
            return int(classes[0]) if labels is None else labels[classes[0]]
        return classes if labels is None else np.array(labels)[classes]

    def predict_proba(self, img: Any) -> npt.NDArray[np.float32]:
        """Return the probability of each class: the softmax of the outputs.

        The outputs of a network that itself ends in softmax are returned as they are.

        Parameters
        ----------
        img
            As for `predict`.

        Returns
        -------
        ndarray, float32, (classes,), or (N, classes) for a batch
            Rows sum to 1.
        """
        from .classes import probabilities

        outputs, single = self._outputs_of(img, "predict_proba")
        shares = probabilities(outputs, self._graph)
        return shares[0] if single else shares

    def _run_any(self, *given: Any) -> Any:
        """Run what is not yet the batch that the program takes, is of another size, or comes in several arguments."""
        if self._one is not None and type(given[0]) is np.ndarray and len(given) == 1:  # usual, and a microsecond less
            batch, single = self._as_batch(*self._one, given[0])
            outputs = self._run(batch)
            if self._collect is None:
                return outputs[0] if single else outputs
            return self._collect([out[0] for out in outputs] if single else outputs)
        arrays = self._in_order(given)
        other = self._of_other_size(arrays)
        if other is not None:
            return other(*arrays)
        batches, single = self._as_batches(arrays)
        outputs = self._program.run_all(batches)
        if self._collect is None:
            return outputs[0] if single else outputs
        return self._collect([out[0] for out in outputs] if single else outputs)

    def _in_order(self, given: tuple[Any, ...]) -> Sequence[Any]:
        """Return what was given for each input, in their order."""
        inputs = self._graph.inputs
        if len(given) == len(inputs) and not isinstance(given[0], Mapping):
            return given
        from .inputs import in_order

        return in_order(given, inputs)

    def _of_other_size(self, arrays: Sequence[Any]) -> Model | None:
        """Return the model for images of another size, where there is one; None where the program is right."""
        return None if self._sizes is None else self._sizes.for_array(np.asarray(arrays[0]))

    def _as_batches(self, arrays: Sequence[Any]) -> tuple[tuple[np.ndarray, ...], bool]:
        """Return the arrays as the batches that the program takes, and whether they were one image each."""
        inputs = self._graph.inputs
        read = [self._as_batch(name, shape, x) for (name, shape), x in zip(inputs.items(), arrays, strict=True)]
        batches, single = zip(*read, strict=True)
        if len(batches) == 1:
            return batches, single[0]
        from .inputs import of_one_batch

        return batches, of_one_batch(inputs, batches, single)

    def _as_batch(self, name: str, shape: Shape, x: Any) -> tuple[np.ndarray, bool]:
        """Return what was given for one input as its batch, and whether it was one image."""
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise DTypeError(
                f"{name}: expects real numbers, got dtype {array.dtype}; convert it with np.asarray(x, np.float32)"
            )
        single = array.shape == shape
        if not single and (array.ndim == 0 or array.shape[1:] != shape):
            raise _wrong_shape(name, array.shape, shape, self.dynamic)
        batch = np.require(array[np.newaxis] if single else array, self._graph.dtype, ["C", "A", "E"])
        return batch, single

    def _outputs_of(self, img: Any, method: str) -> tuple[np.ndarray, bool]:
        """Return the outputs (N, classes) for images, and whether it was one image."""
        if len(self._graph.inputs) > 1:
            from .graph.inputs import listed

            raise ShapeError(
                f"{method}: the network has {len(self._graph.inputs)} inputs, {listed(self._graph.inputs)}; call model "
                "on a dict of arrays by name, or on one array for each"
            )
        if len(self._graph.outputs) > 1:
            raise ShapeError(
                f"{method}: the network has {len(self._graph.outputs)} outputs; call model(x), "
                "which returns all of them"
            )
        (shape,) = self.output_shapes
        if len(shape) != 1 or not shape[0]:
            raise ShapeError(
                f"{method}: expects a network with one number per class, (classes,), this one "
                f"gives {shape} for an image; call model(x)"
            )
        if self._sizes is not None and not _changes_size(self._graph):
            other = self._sizes.for_images(img, method)
            if other is not None:
                if other.output_shapes != self.output_shapes:
                    raise ShapeError(
                        f"{method}: images of shape {other.input_shape} give {other.output_shapes[0]} numbers, not the "
                        f"{shape} that are classes; call model(x)"
                    )
                return other._outputs_of(img, method)
        from .images import to_batch

        batch, single = to_batch(img, self._graph)
        return self._run(batch), single

    # --- inspecting -------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The network as it was loaded, before any rewriting; large weights are read from the file again."""
        graph = self._graph
        if self._stored is None:
            return graph
        return self._stored.again().replace(labels=graph.labels, preprocessing=graph.preprocessing, tuned=graph.tuned)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W), without batch; a `ShapeError` where there are several inputs."""
        return self._graph.input_shape

    @property
    def input_shapes(self) -> Mapping[str, Shape]:
        """Name -> shape of one image, without batch, of each input; the one input there usually is is ``"input"``."""
        return dict(self._graph.inputs)

    @property
    def dynamic(self) -> bool:
        """Whether images of other sizes than `input_shape` are taken too."""
        return self._graph.dynamic

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each output for one image, without batch."""
        return tuple(self._graph.shapes[name] for name in self._graph.outputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The name of each output: its key in PyTorch's dict, that in the ONNX file, or the layer's."""
        return self._graph.output_names

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The name of each class, or None."""
        return self._graph.labels

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How `predict` resizes, crops, scales and normalises an image; None where it only scales uint8 to 0..1."""
        return self._graph.preprocessing

    @property
    def threads(self) -> int:
        """The most threads that a call uses."""
        threads: int = self._program.threads
        return threads

    def summary(self) -> Summary:
        """Return the layers as a table: shapes, parameters, MACs, receptive field, kernel."""
        from .inspect.summary import summarize

        graph = self.graph
        return summarize(graph, optimize(graph), self._program.steps)

    def profile(self, x: Any, *others: npt.ArrayLike, repeats: int = 10) -> Profile:
        """Time each layer of the network on ``x``.

        Parameters
        ----------
        x : (N, C, H, W) or (C, H, W)
            As for calling the model: with several inputs, a dict or one argument each.
        repeats
            A layer's time is the median of so many runs, after one to warm up.

        Returns
        -------
        Profile
        """
        from .inspect.profile import profile

        arrays = self._in_order((x, *others))
        other = self._of_other_size(arrays)
        if other is not None:
            return other.profile(*arrays, repeats=repeats)
        batches, _ = self._as_batches(arrays)
        graph = self.graph
        return profile(graph, optimize(graph), self._program, batches, repeats)

    def tune(
        self,
        x: Any = None,
        *others: npt.ArrayLike,
        seconds: float = 10.0,
        progress: Callable[[float], None] | None = None,
    ) -> Tuning:
        """Measure which kernel is the fastest for each convolution on this machine, and keep that.

        Kernels are chosen by estimate, which is usually right. This times each one that a layer allows, in its place in
        the network, and keeps what makes the network faster: in this model at once, and in what `save` writes, so that
        every process that loads the file on a processor of this kind, at this instruction-set level, makes the same
        choice and computes the same bits. On other machines the file's model is as it was. The outputs may change by
        rounding. Do it while nothing else runs.

        Parameters
        ----------
        x : (N, C, H, W) or (C, H, W), optional
            What to measure with, as for calling the model; by default one image of random numbers.
        seconds
            To measure for; more where a network is too large for a few rounds in this time.
        progress
            Called with the shares of the work as they are done, 1 together.

        Returns
        -------
        Tuning
            Each layer's kernels and times, and what the network gained. Where that is nothing, no choice is kept.
        Transposed convolutions are not among them.

        Raises
        ------
        fastconv.ShapeError
            ``x`` does not fit the network; a network that takes images of several sizes is tuned for `input_shape`.
        fastconv.errors.ArgumentError
            ``seconds`` is not positive.
        """
        from .inspect.tune import tune

        if x is None:
            random = np.random.default_rng(0)
            arrays: Sequence[Any] = [random.standard_normal((1, *shape)) for shape in self._graph.inputs.values()]
        else:
            arrays = self._in_order((x, *others))
        if self.dynamic and np.shape(arrays[0])[-len(self.input_shape) :] != self.input_shape:
            raise ShapeError(
                f"tune: is for images of the model's input_shape, {self.input_shape}, got {np.shape(arrays[0])}; load "
                "the model with another input_shape"
            )
        batches, _ = self._as_batches(arrays)
        graph = self.graph
        result = tune(optimize(graph), self.threads, batches, seconds, progress)
        tuned = {**graph.tuned, result.machine: result.kernels}
        if not result.kernels:
            del tuned[result.machine]
        if tuned != graph.tuned:
            graph = graph.replace(tuned=tuned)
            self._compile(graph)
            self._graph = graph if self._stored is None else _without_values(graph)
        return result

    def __repr__(self) -> str:
        outputs = ", ".join(map(str, self.output_shapes))
        inputs = self._graph.inputs
        named = ", ".join(str(shape) if len(inputs) == 1 else f"{name} {shape}" for name, shape in inputs.items())
        return (
            f"<fastconv.Model {named}{', other sizes too,' if self.dynamic else ''} -> {outputs}, "
            f"{self._graph.parameters:,} parameters, threads={self.threads}>"
        )

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    # --- keeping ----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole model, labels and preprocessing included, as ``.npz`` for `load`.

        Written atomically: ``path`` holds either what it held before or the whole new file.
        """
        from .formats import npz

        npz.save(self.graph, path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.graph, self._threads)

    def __copy__(self) -> Model:
        """Return a model of its own, which `tune` changes alone; what both run is shared."""
        other = Model.__new__(Model)
        for name in (*self.__slots__[1:], "_run", "_collect"):
            setattr(other, name, getattr(self, name))
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self.__copy__()


def _rebuild(graph: Graph, threads: int | None) -> Model:
    """Compile an unpickled model for this machine."""
    return Model(graph, threads=threads)


def _without_values(graph: Graph) -> Graph:
    """Return a graph whose weights have their shapes alone."""
    from .formats.npz.stored import without_values

    return without_values(graph)


def _changes_size(graph: Graph) -> bool:
    """Tell whether images are resized or cropped, and so have the network's size whatever they had before."""
    return graph.preprocessing is not None and graph.preprocessing.changes_size


def _nothing(img: Any) -> None:
    """Stand for `Program.predict` where images are changed before the program sees them."""


def _collector(names: tuple[str, ...]) -> Callable[[Sequence[np.ndarray]], Outputs]:
    """Return what gives several outputs their names."""
    from .outputs import Outputs

    return lambda arrays: Outputs(arrays, names)


def _wrong_shape(name: str, got: Shape, shape: Shape, dynamic: bool) -> ShapeError:
    """Name the shape that an input needs, and how to get there from the one it got."""
    remedy = "resize the images, or load the model with another input_shape"
    if dynamic:
        sizes = ", ".join(("H", "W") if len(shape) == 3 else (f"S{axis}" for axis in range(1, len(shape))))
        fitting = f"({shape[0]}, {sizes})"
        remedy = f"the images need {shape[0]} channels, as the first axis behind the batch"
        return ShapeError(f"{name}: expects (N, {fitting[1:]} or {fitting}, got {got}; {remedy}")
    if len(shape) == 3:
        channels_last = (*shape[1:], shape[0])
        if got == shape[1:] or (len(got) == 3 and got[1:] == shape[1:]):
            remedy = (
                "add the channel axis: np.expand_dims(x, -3)"
                if shape[0] == 1
                else f"the images need {shape[0]} channels"
            )
        elif channels_last in (got, got[1:]):
            remedy = "put the channels first: np.moveaxis(x, -1, -3)"
        elif got[-2:] == shape[1:] and len(got) in (3, 4):
            remedy = f"the images need {shape[0]} channels"
    batch = ", ".join(("N", *map(str, shape)))
    return ShapeError(f"{name}: expects ({batch}) or {shape}, got {got}; {remedy}")
