"""Graph <-> `.npz`: fastconv's own files, and plain PyTorch `state_dict` files (read only)."""

from .model import load, save

__all__ = ["load", "save"]
