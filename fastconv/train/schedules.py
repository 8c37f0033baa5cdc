"""Schedules of the learning rate: functions of a step's number, from 0 on, that return a factor."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import TypeAlias

from ..errors import ArgumentError

__all__ = ["Schedule", "cosine", "step_decay", "warmup"]

Schedule: TypeAlias = Callable[[int], float]


def _checked(name: str, steps: int) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ArgumentError(f"{name} must be a number of steps, 1 or more, got {steps!r}")
    return steps


def cosine(steps: int, final: float = 0.0) -> Schedule:
    """Fall from 1 to ``final`` in `steps` steps, along half a cosine, and stay there."""
    _checked("cosine: steps", steps)
    return lambda step: final + (1 - final) * (1 + cos(pi * min(step / steps, 1))) / 2


def step_decay(every: int, gamma: float = 0.1) -> Schedule:
    """Multiply by ``gamma`` after each `every` steps."""
    _checked("step_decay: every", every)
    return lambda step: gamma ** (step // every)


def warmup(steps: int, then: Schedule = lambda step: 1.0) -> Schedule:
    """Rise linearly, ``1 / steps`` in the first step and 1 in the last of `steps`; `then` follows, counted from 0."""
    _checked("warmup: steps", steps)
    return lambda step: (step + 1) / steps if step < steps else then(step - steps)
