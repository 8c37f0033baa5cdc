"""Gradients of the functions of `fastconv.functional`: see `vjp`.

Also under the names of ``torch.nn.grad``: `conv1d_input`, `conv1d_weight`, `conv2d_input` and `conv2d_weight`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .conv import conv1d_input, conv1d_weight, conv2d_input, conv2d_weight
    from .pullback import vjp

_MODULES = {
    "conv1d_input": "conv",
    "conv1d_weight": "conv",
    "conv2d_input": "conv",
    "conv2d_weight": "conv",
    "vjp": "pullback",
}
__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "vjp"]


def __getattr__(name: str) -> Any:
    """Import a function's module at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
