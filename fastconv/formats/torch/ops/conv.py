"""Convolution."""

from __future__ import annotations

from .table import Functions, layer

__all__ = ["FUNCTIONS"]

FUNCTIONS = Functions()

FUNCTIONS("conv2d.default", "conv2d.padding")(
    layer("conv2d", ("weight", "bias"), ("stride", "padding", "dilation", "groups"))
)
