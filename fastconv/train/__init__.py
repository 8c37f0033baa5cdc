"""Training a Graph: see `Trainer`; and `Network`, which describes one without PyTorch.

trainer      steps, epochs, freezing, checkpoints     ops          nodes as calls of rules of `fastconv.grad`
optimizers   SGD, Adam, AdamW                         checkpoint   what a file holds
schedules    factors of the learning rate             network      a line per layer, initialised as PyTorch does
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .network import Network
    from .optimizers import SGD, Adam, AdamW
    from .schedules import cosine, step_decay, warmup
    from .trainer import Epoch, Evaluation, Progress, Trainer

_MODULES = {
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "Epoch": "trainer",
    "Evaluation": "trainer",
    "Network": "network",
    "Progress": "trainer",
    "SGD": "optimizers",
    "Trainer": "trainer",
    "cosine": "schedules",
    "step_decay": "schedules",
    "warmup": "schedules",
}
__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Epoch",
    "Evaluation",
    "Network",
    "Progress",
    "Trainer",
    "cosine",
    "step_decay",
    "warmup",
]


def __getattr__(name: str) -> Any:
    """Import a name's module at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
