"""Every error that fastconv raises on purpose: one hierarchy, one base.

Each class is also the built-in exception that a caller would expect, so that ``except ValueError``
keeps working. A message names the layer, what it got, what it needs, and the remedy.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "DTypeError",
    "FastconvError",
    "MissingExtraError",
    "ModelFormatError",
    "ShapeError",
    "UnsupportedOperatorError",
]


class FastconvError(Exception):
    """Base of every error that fastconv raises on purpose."""


class ModelFormatError(FastconvError, ValueError):
    """A model is not what it claims to be: a damaged file, a missing weight, a loose end."""


class ShapeError(FastconvError, ValueError):
    """An array has a shape that the layer or the model cannot take."""


class ArgumentError(FastconvError, ValueError):
    """An argument or an attribute has a value that is not allowed."""


class DTypeError(FastconvError, TypeError):
    """An array has an element type that is not computed with."""


class UnsupportedOperatorError(FastconvError, NotImplementedError):
    """A layer, or a combination of its attributes, that fastconv does not compute."""


class MissingExtraError(FastconvError, ImportError):
    """An optional dependency is not installed; the message says which ``pip install`` adds it."""
