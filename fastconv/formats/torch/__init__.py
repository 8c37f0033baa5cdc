"""`torch.nn.Module` <-> Graph. PyTorch is imported when a function is called, not here."""

from .export import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]
