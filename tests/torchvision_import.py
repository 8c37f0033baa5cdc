"""torchvision for tests: it may have been built with another PyTorch than the one installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest


def import_torchvision() -> Any:
    """Return the module; the test is skipped where it is missing.

    torchvision registers shape functions for operators of its compiled library, which does not load beside another
    PyTorch than the one it was built with; no test uses these.
    """
    torch = pytest.importorskip("torch")
    register_fake = torch.library.register_fake

    def tolerant(op: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function
        return register_fake(op, *args, **kwargs)

    torch.library.register_fake = tolerant
    try:
        return import_module("torchvision")
    except ImportError as error:
        pytest.skip(f"torchvision cannot be imported: {error}", allow_module_level=True)
    finally:
        torch.library.register_fake = register_fake


def import_transforms() -> Any:
    """Return torchvision.transforms, with its v2 loaded."""
    import_torchvision()
    import_module("torchvision.transforms.v2")
    return import_module("torchvision.transforms")
