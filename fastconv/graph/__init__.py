"""Graph: a network as frozen, checked, portable data.

ops         what each operator takes, one file per family   attributes  one spelling for every attribute
checks      what a file may get wrong                       geometry    windows and padding
graph       Node and Graph, built of these                  builder     writes a Graph node by node
"""

from .graph import INPUT, Graph, Node

__all__ = ["INPUT", "Graph", "Node"]
