"""compile: Graph + this machine -> Program."""

from .program import ALGORITHMS, compile_graph

__all__ = ["ALGORITHMS", "compile_graph"]
