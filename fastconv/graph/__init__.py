"""Graph: a network as frozen, checked, portable data.

attributes  one spelling for every attribute        checks  what a file may get wrong
ops         what each operator takes and gives      graph   Node and Graph, built of these
"""

from .graph import INPUT, Graph, Node

__all__ = ["INPUT", "Graph", "Node"]
