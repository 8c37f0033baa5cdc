"""Optimizers: torch.optim's, as data. What an optimizer remembers of a parameter belongs to the `Trainer`."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, fields
from math import isfinite, sqrt
from typing import Any, TypeAlias

import numpy as np

from ..errors import ArgumentError

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Optimizer"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
State: TypeAlias = MutableMapping[str, Array]


@dataclass(frozen=True)
class Optimizer:
    """Base of the optimizers: a learning rate, and whether the numbers make sense."""

    lr: float

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if field.name == "betas" else (value,)
            if not all(isinstance(number, (int, float)) and isfinite(number) and number >= 0 for number in numbers):
                raise ArgumentError(f"{name}: {field.name} must not be negative, nor infinite or NaN, got {value!r}")

    def update(self, parameter: Array, gradient: Array, state: State, factor: float) -> None:
        """Change a parameter, in place.

        ``state`` is what is remembered of it, at first empty; ``factor`` multiplies the learning rate.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, as ``torch.optim.SGD`` with dampening 0."""

    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ArgumentError("SGD: nesterov needs momentum; pass momentum=0.9")

    def update(self, parameter: Array, gradient: Array, state: State, factor: float) -> None:
        """See `Optimizer.update`."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        if self.momentum:
            if "momentum" in state:
                velocity = state["momentum"]
                velocity *= self.momentum
                velocity += gradient
            else:
                velocity = state["momentum"] = gradient.copy()
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        parameter -= self.lr * factor * gradient


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, as ``torch.optim.Adam``."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # a file has a list
        super().__post_init__()
        if len(self.betas) != 2 or max(self.betas) >= 1:
            raise ArgumentError(f"{type(self).__name__}: betas must be two numbers below 1, got {self.betas}")

    def update(self, parameter: Array, gradient: Array, state: State, factor: float) -> None:
        """See `Optimizer.update`."""
        if self.weight_decay:
            gradient = self._decayed(parameter, gradient, self.lr * factor)
        if not state:
            state.update(step=np.zeros((), np.int64), mean=np.zeros_like(parameter), square=np.zeros_like(parameter))
        state["step"] += 1
        step, mean, square = int(state["step"]), state["mean"], state["square"]
        first, second = self.betas
        mean += (1 - first) * (gradient - mean)
        square *= second
        square += (1 - second) * gradient * gradient
        root = np.sqrt(square)
        root /= sqrt(1 - second**step)
        root += self.eps
        parameter -= self.lr * factor / (1 - first**step) * (mean / root)

    def _decayed(self, parameter: Array, gradient: Array, rate: float) -> Array:
        """Return the gradient with the weight's decay."""
        result: Array = gradient + self.weight_decay * parameter
        return result


@dataclass(frozen=True)
class AdamW(Adam):
    """Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, as ``torch.optim.AdamW``."""

    weight_decay: float = 1e-2

    def _decayed(self, parameter: Array, gradient: Array, rate: float) -> Array:
        """Let the weight decay by itself."""
        parameter *= 1 - rate * self.weight_decay
        return gradient


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.__name__: kind for kind in (SGD, Adam, AdamW)}
