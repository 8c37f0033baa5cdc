"""rewrite: Graph -> Graph, with the same outputs and less work for the machine."""

from .rules import RULES, optimize

__all__ = ["RULES", "optimize"]
