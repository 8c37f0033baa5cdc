"""`Trainer`: steps and epochs of gradient descent on a Graph's weights."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .. import functional as F
from ..compile import compile_graph
from ..errors import ArgumentError, DTypeError, ShapeError
from ..grad import vjp
from ..graph import Graph, Node, array_id
from ..graph.attributes import positive, shown
from ..rewrite import optimize
from .ops import Call, backward, calls_of, forward
from .optimizers import Adam, Optimizer

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

    from ..model import Model
    from .schedules import Schedule

__all__ = ["Epoch", "Evaluation", "Progress", "Trainer"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Loss: TypeAlias = Callable[[Array, Array], "tuple[Any, Array]"]
Images: TypeAlias = "npt.ArrayLike | Mapping[str, npt.ArrayLike]"

IGNORED = -100  # the class of what has none: PyTorch's ignore_index
_ADAM = Adam()


class Evaluation(NamedTuple):
    """The mean loss of images, and the share of those whose class is found; None where targets are no classes."""

    loss: float
    accuracy: float | None


class Epoch(NamedTuple):
    """What an epoch of `Trainer.fit` came to. Where training has diverged, losses are NaN."""

    epoch: int  # from 1 on, counted over all calls
    loss: float  # the mean over its images
    losses: tuple[float, ...]  # of each step
    validation: Evaluation | None
    seconds: float


class Progress(NamedTuple):
    """Where `Trainer.fit` is, after a step."""

    epoch: int
    epochs: int
    step: int  # of the epoch, from 1 on
    steps: int
    loss: float


class _Layer(NamedTuple):
    """A node that is computed in training."""

    node: Node
    calls: tuple[Call, ...]
    wanted: tuple[bool, ...]  # whether gradients by its inputs are
    roles: frozenset[str]  # of the weights that are trained


class Trainer:
    """Trains a network, on copies of its weights.

    Parameters
    ----------
    model : Graph or Model
        Of one output and float32. Weights and biases are trained, other constants are not.
    loss : {"cross_entropy", "mse"} or callable
        ``(output, target) -> (loss, gradient of the loss by the output)``.
    optimizer : Optimizer
        `SGD`, `Adam` or `AdamW`.
    schedule : callable, optional
        ``step -> factor`` of the learning rate; steps count from 0.
    freeze : sequence of str
        As for `freeze`.
    seed : int
        Of dropout, and of the order of images in `fit`.

    Attributes
    ----------
    steps, epochs : int
        How many were made.

    Raises
    ------
    UnsupportedOperatorError
        A node behind the first that is trained has no gradient; the message names it.
    ArgumentError, DTypeError
        The network has several outputs, or is float64.
    """

    def __init__(
        self,
        model: Graph | Model,
        loss: Literal["cross_entropy", "mse"] | Loss = "cross_entropy",
        optimizer: Optimizer = _ADAM,
        *,
        schedule: Schedule | None = None,
        freeze: Sequence[str] | frozenset[str] = (),
        seed: int = 0,
    ) -> None:
        graph = model if isinstance(model, Graph) else model.graph
        if len(graph.outputs) != 1:
            raise ArgumentError(
                f"Trainer: the network has {len(graph.outputs)} outputs, {', '.join(graph.output_names)}; train one: "
                f"Trainer(graph.replace(outputs=[{graph.outputs[0]!r}]))"
            )
        if graph.dtype != np.float32:
            raise DTypeError(f"Trainer: the network is {graph.dtype}, float32 is trained; convert its weights")
        if not callable(loss) and loss not in _LOSSES:
            raise ArgumentError(f"Trainer: loss must be {' or '.join(_LOSSES)} or a callable, got {shown(loss)}")
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"Trainer: optimizer must be SGD(…), Adam(…) or AdamW(…), got {shown(optimizer)}")
        self.loss, self.optimizer, self.schedule = loss, optimizer, schedule
        self.steps = self.epochs = 0
        self.rng = np.random.default_rng(seed)
        self.state: dict[str, dict[str, Array]] = {}  # parameter -> what the optimizer remembers of it
        self._graph = graph
        self._weights, self.parameters = _copied(graph)
        self._frozen: frozenset[str] = frozenset()
        # A checkpoint has names, no patterns.
        self._plan(freeze if isinstance(freeze, frozenset) else self._matching("freeze", freeze))

    # --- what is trained --------------------------------------------------------------------------

    def freeze(self, *patterns: str) -> None:
        """Train these no more: nodes (``"features.*"``) or weights (``"*.bias"``).

        A frozen node computes as in inference: batch norm keeps its statistics, dropout drops nothing. What comes
        before all that is trained runs as a compiled network.
        """
        self._plan(self._frozen | self._matching("freeze", patterns))

    def unfreeze(self, *patterns: str) -> None:
        """Train these again."""
        self._plan(self._frozen - self._matching("unfreeze", patterns))

    @property
    def frozen(self) -> tuple[str, ...]:
        """The nodes and weights that are frozen."""
        return tuple(sorted(self._frozen))

    def _matching(self, function: str, patterns: Sequence[str]) -> frozenset[str]:
        """Return the nodes, and their weights, and the weights that patterns name."""
        found: set[str] = set()
        for pattern in patterns:
            matched: set[str] = set()
            for node in self._graph.nodes:
                own = {f"{node.name}.{role}" for role in node.weights}
                matched |= {node.name, *own} if fnmatchcase(node.name, pattern) else set()
                matched |= {name for name in own if fnmatchcase(name, pattern)}
            if not matched:
                names = ", ".join([node.name for node in self._graph.nodes if node.weights])
                raise ArgumentError(f"{function}: {shown(pattern)} names no node or weight of {names}")
            found |= matched
        return frozenset(found)

    def _plan(self, frozen: frozenset[str]) -> None:
        """Settle what is computed in a step when these are frozen."""
        graph = self._graph
        trained = {
            id(array)
            for node in graph.nodes
            for role, array in self._weights[node.name].items()
            if f"{node.name}.{role}" not in frozen and _is_parameter(role)
        }
        active: set[str] = set()  # what changes from step to step for the same images
        needed: set[str] = set()  # whose gradients lead to a weight that is trained
        layers, fixed, read = [], [], list(graph.outputs)
        for node in _live(graph):
            weights = self._weights[node.name]
            roles = frozenset(role for role, array in weights.items() if id(array) in trained and _is_parameter(role))
            moves = node.op in ("batch_norm", "dropout") and node.name not in frozen
            if node.op == "constant" or not (roles or moves or active.intersection(node.inputs)):
                inputs = node.inputs if node.op != "constant" else (next(iter(graph.inputs)),)  # any says how many
                fixed.append(node.replace(inputs=inputs, weights=weights))
                continue
            active.add(node.name)
            if roles or needed.intersection(node.inputs):
                needed.add(node.name)
            wanted = tuple([name in needed for name in node.inputs])
            layers.append(_Layer(node, calls_of(node, node.name not in frozen, self.rng), wanted, roles))
            read += node.inputs
        kept = [node.name for node in fixed if node.name in read]
        self._before = _compiled(graph.replace(nodes=fixed, outputs=kept, **_BARE)) if kept else None
        self._kept, self._layers, self._frozen = kept, layers, frozen

    # --- training ---------------------------------------------------------------------------------

    def step(self, x: Images, y: npt.ArrayLike) -> float:
        """Make one step, and return the loss before it.

        Parameters
        ----------
        x : (N, *input_shape), float
            As the model takes it; for several inputs a mapping of their names to such arrays.
        y
            The targets: for ``"cross_entropy"`` classes (N,), -100 for none, or probabilities (N, C); for ``"mse"`` of
            the output's shape.
        """
        return self._step(self._images(x), np.asarray(y))

    def _step(self, images: tuple[Array, ...], y: Array) -> float:
        if not any(layer.roles for layer in self._layers):
            raise ArgumentError("Trainer: nothing is trained, all weights are frozen; call unfreeze")
        with np.errstate(all="ignore"):  # as in PyTorch, infinity and NaN go on
            values = dict(zip(self._graph.inputs, images, strict=True))
            if self._before is not None:
                values |= zip(self._kept, self._before(images), strict=True)
            pullbacks = []
            for node, calls, _, _ in self._layers:
                given = [values[name] for name in node.inputs]
                values[node.name], pullback = forward(calls, given, self._weights[node.name])
                pullbacks.append(pullback)
            loss, gradient = self._loss_of(values[self._graph.outputs[0]], y)
            values.clear()
            factor = 1.0 if self.schedule is None else float(self.schedule(self.steps))
            for name, found in self._gradients(pullbacks, gradient).items():
                self.optimizer.update(self.parameters[name], found, self.state.setdefault(name, {}), factor)
        self.steps += 1
        return loss

    def _gradients(self, pullbacks: list[Any], gradient: Array) -> dict[str, Array]:
        """Return the gradient by each parameter, from the last layer to the first."""
        sums: dict[str, Array] = {self._graph.outputs[0]: gradient}  # of values, as far as their readers are known
        found: dict[str, Array] = {}
        names = {id(array): name for name, array in self.parameters.items()}
        for node, calls, wanted, roles in reversed(self._layers):
            pullback = pullbacks.pop()
            g = sums.pop(node.name, None)
            if g is None or not (roles or any(wanted)):
                continue
            of_inputs, of_weights = backward(calls, pullback, g, wanted, roles)
            pairs = zip(node.inputs, wanted, of_inputs, strict=False)
            _add(sums, [(name, part) for name, want, part in pairs if want and part is not None])
            weights = self._weights[node.name]
            _add(found, [(names[id(weights[role])], part) for role, part in of_weights.items()])
        return found

    def _loss_of(self, output: Array, y: Array) -> tuple[float, Array]:
        """Return the loss, and its gradient by the output."""
        if callable(self.loss):
            loss, gradient = self.loss(output, y)
            gradient = np.asarray(gradient, output.dtype)
            if gradient.shape != output.shape:
                raise ShapeError(f"loss: the gradient must be like the output, {output.shape}, got {gradient.shape}")
            return float(loss), gradient
        if self.loss == "mse" or y.dtype.kind == "f":
            y = y.astype(output.dtype, copy=False)
            if y.shape != output.shape:
                raise ShapeError(f"{self.loss}: y must have the output's shape {output.shape}, got {y.shape}")
        loss, pullback = vjp(_LOSSES[self.loss], output, y)
        return float(loss), pullback(wrt="input")[0]

    def _images(self, x: Images) -> tuple[Array, ...]:
        """Check images."""
        inputs = self._graph.inputs
        given = x if isinstance(x, Mapping) else {next(iter(inputs)): x}
        if given.keys() != inputs.keys():
            raise ArgumentError(f"x must be a mapping of {', '.join(inputs)} to arrays, got {shown(sorted(given))}")
        arrays = [np.asarray(given[name]) for name in inputs]
        for (name, shape), array in zip(inputs.items(), arrays, strict=True):
            if array.dtype.kind != "f":
                raise DTypeError(f"{name} is {array.dtype}; convert pixels with x.astype(np.float32) / 255")
            if array.shape != (len(arrays[0]) if arrays[0].ndim else 0, *shape) or not array.size:
                raise ShapeError(f"{name} must be (N, {', '.join(map(str, shape))}), N > 0, got shape {array.shape}")
        return tuple([np.ascontiguousarray(array, np.float32) for array in arrays])

    def fit(
        self,
        x: Images,
        y: npt.ArrayLike,
        epochs: int,
        batch_size: int = 64,
        validation: tuple[Images, npt.ArrayLike] | None = None,
        progress: bool | Callable[[Progress], Any] | None = None,
        seed: int | None = None,
    ) -> list[Epoch]:
        """Go through images several times, in another order each time.

        Parameters
        ----------
        x, y
            As for `step`.
        epochs, batch_size : int
            The last batch of an epoch has what is left.
        validation : (x, y), optional
            Evaluated after each epoch.
        progress : bool or callable, optional
            Called with a `Progress` after each step; True shows a bar on stderr.
        seed : int, optional
            Of dropout and the order from here on; by default they go on as they were.

        Returns
        -------
        list of Epoch
            One for each.
        """
        images, targets = self._images(x), np.asarray(y)
        count = len(images[0])
        if targets.shape[:1] != (count,):
            raise ShapeError(f"y must have a target for each of {count} images, got shape {targets.shape}")
        epochs, batch_size = positive("epochs", epochs), positive("batch_size", batch_size)
        if seed is not None:
            self.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        report = _bar if progress is True else progress or None
        history = []
        for epoch in range(1, epochs + 1):
            start, losses, total = time.perf_counter(), [], 0.0
            order = self.rng.permutation(count)
            batches = [order[at : at + batch_size] for at in range(0, count, batch_size)]
            for number, batch in enumerate(batches, 1):
                losses.append(self._step(tuple([array[batch] for array in images]), targets[batch]))
                total += losses[-1] * len(batch)
                if report is not None:
                    report(Progress(epoch, epochs, number, len(batches), losses[-1]))
            seconds = time.perf_counter() - start
            self.epochs += 1
            evaluation = None if validation is None else self.evaluate(*validation)
            history.append(Epoch(self.epochs, total / count, tuple(losses), evaluation, seconds))
        return history

    def evaluate(self, x: Images, y: npt.ArrayLike, batch_size: int = 256) -> Evaluation:
        """Return the mean loss, and the share of classes found, in inference."""
        images, targets = self._images(x), np.asarray(y)
        count = len(images[0])
        if targets.shape[:1] != (count,):
            raise ShapeError(f"y must have a target for each of {count} images, got shape {targets.shape}")
        run = _compiled(self._with(self._weights))
        total, right, counted = 0.0, 0, 0
        for start in range(0, count, positive("batch_size", batch_size)):
            batch = slice(start, start + batch_size)
            (output,) = run(tuple([array[batch] for array in images]))
            total += self._loss_of(output, targets[batch])[0] * len(output)
            if self.loss == "cross_entropy" and targets.dtype.kind in "iu":
                right += np.count_nonzero(output.argmax(1) == targets[batch])
                counted += np.count_nonzero(targets[batch] != IGNORED)
        return Evaluation(total / count, right / counted if counted else None)

    # --- what has been trained --------------------------------------------------------------------

    def graph(self) -> Graph:
        """Return the network with the weights of now, its labels and its preprocessing."""
        arrays = [array for weights in self._weights.values() for array in weights.values()]
        copies = {id(array): array.copy() for array in arrays}
        return self._with(
            {
                name: {role: copies[id(array)] for role, array in weights.items()}
                for name, weights in self._weights.items()
            }
        )

    def _with(self, weights: Mapping[str, Mapping[str, Array]]) -> Graph:
        return self._graph.replace(nodes=[node.replace(weights=weights[node.name]) for node in self._graph.nodes])

    def model(self, threads: int | None = None) -> Model:
        """Return `graph` as a model, ready to run and to be saved."""
        from ..model import Model

        return Model(self.graph(), threads=threads)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that `load` needs to go on as if nothing had happened, atomically: an ``.npz``, nothing pickled."""
        from .checkpoint import save

        save(self, path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, loss: Loss | None = None, schedule: Schedule | None = None
    ) -> Trainer:
        """Return a trainer as it was saved.

        A file holds no functions: a `loss` that was a callable, and a `schedule`, are given again.

        Raises
        ------
        ModelFormatError
            The file is damaged, or no checkpoint.
        ArgumentError
            It was saved with a callable that is not given.
        """
        from .checkpoint import load

        return load(path, loss, schedule)


_LOSSES: dict[str, Callable[..., Array]] = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}
_BARE: dict[str, Any] = {"labels": None, "preprocessing": None, "dynamic": False, "output_names": None}


def _is_parameter(role: str) -> bool:
    return role.startswith(("weight", "bias"))


def _copied(graph: Graph) -> tuple[dict[str, dict[str, Array]], dict[str, Array]]:
    """Return copies of all weights, by node and role, and those that can be trained, by the name of the first node.

    An array that nodes share in one role stays shared.
    """
    copies: dict[Any, Array] = {}
    weights: dict[str, dict[str, Array]] = {}
    parameters: dict[str, Array] = {}
    for node in graph.nodes:
        weights[node.name] = {}
        for role, array in node.weights.items():
            key = role, array_id(array)
            if key not in copies:
                copies[key] = array.copy()
                if _is_parameter(role):
                    parameters[f"{node.name}.{role}"] = copies[key]
            weights[node.name][role] = copies[key]
    return weights, parameters


def _live(graph: Graph) -> list[Node]:
    """Return the nodes that the output depends on."""
    live = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in live:
            live.update(node.inputs)
    return [node for node in graph.nodes if node.name in live]


def _compiled(graph: Graph) -> Callable[[tuple[Array, ...]], tuple[Array, ...]]:
    """Return what computes a network's outputs."""
    run = compile_graph(optimize(graph)).run_all

    def outputs(images: tuple[Array, ...]) -> tuple[Array, ...]:
        result = run(images)
        return result if isinstance(result, tuple) else (result,)

    return outputs


def _add(sums: dict[str, Array], parts: Sequence[tuple[str, Array]]) -> None:
    for name, part in parts:
        sums[name] = sums[name] + part if name in sums else part


def _bar(at: Progress) -> None:
    """Show a bar on stderr, which ends in a line for each epoch."""
    width = 24
    done = width * at.step // at.steps
    text = (
        f"\repoch {at.epoch}/{at.epochs} [{'#' * done}{'.' * (width - done)}] {at.step}/{at.steps} loss {at.loss:.4f} "
    )
    print(text, end="\n" if at.step == at.steps else "", file=sys.stderr, flush=True)
