"""fastconv runs a convolutional network that was trained in PyTorch on a CPU, without a framework.

    import fastconv
    model = fastconv.load("models/lenet.npz")
    model.predict(img)          # 7

`load` reads a file, `from_torch` converts a live module; both give a `Model`. `functional` has
torch.nn.functional's operators on NumPy arrays, `grad` their gradients. Every error raised on
purpose is a `FastconvError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import FastconvError, ModelFormatError, ShapeError, UnsupportedOperatorError
from .model import Model, from_torch, load

if TYPE_CHECKING:
    from . import functional, grad
    from .machine.cpu import show_config

__version__ = "0.1.0"

__all__ = [
    "FastconvError",
    "Model",
    "ModelFormatError",
    "ShapeError",
    "UnsupportedOperatorError",
    "__version__",
    "from_torch",
    "functional",
    "grad",
    "load",
    "show_config",
]


def __getattr__(name: str) -> Any:
    """Import at first use what running a saved model does not need."""
    if name in ("functional", "grad"):
        import importlib

        return importlib.import_module(f".{name}", __name__)
    if name == "show_config":
        from .machine.cpu import show_config

        return show_config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
