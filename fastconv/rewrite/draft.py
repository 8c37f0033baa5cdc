"""Draft: the nodes of a Graph while rules work on them."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import TYPE_CHECKING, TypeAlias

from ..graph import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..graph import Graph

__all__ = ["Draft", "Merge", "has_free_epilogue"]


class Draft:
    """Nodes that rules replace and remove; nothing is checked before `graph`.

    Attributes
    ----------
    nodes : dict of str to Node
        By name, in topological order, with settled attributes.
    inputs : tuple of str
    outputs : tuple of str
    shapes : dict of str to tuple of int
        Of the inputs and every node, as in Graph. A rule that moves a node sets its shape.
    """

    __slots__ = ("_origin", "inputs", "nodes", "outputs", "shapes")

    def __init__(self, graph: Graph) -> None:
        self._origin = graph
        # Their attributes are those for the nominal size; what they follow otherwise, a rule may remove.
        self.nodes = {node.name: node.replace(sizes=()) if node.sizes else node for node in graph.nodes}
        self.inputs = tuple(graph.inputs)
        self.outputs = graph.outputs
        self.shapes = dict(graph.shapes)

    def graph(self) -> Graph:
        """Check the result: the Graph of these nodes, the one it began with if no rule changed anything.

        It is for images of the nominal size alone: a rule may use all shapes.
        """
        origin, nodes = self._origin, tuple(self.nodes.values())
        unchanged = len(nodes) == len(origin.nodes) and all(map(is_, nodes, origin.nodes))
        if unchanged:
            return origin
        return origin.replace(nodes=nodes, outputs=self.outputs, output_names=origin.output_names, dynamic=False)

    def uses(self) -> dict[str, int]:
        """Return name -> how often it is read, being an output included; what is never read is no key."""
        result: dict[str, int] = {}
        for names in (self.outputs, *(node.inputs for node in self.nodes.values())):
            for name in names:
                result[name] = result.get(name, 0) + 1
        return result

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Let all nodes and the outputs read the new name of each renamed value."""
        for name, node in self.nodes.items():
            if any(source in renamed for source in node.inputs):
                inputs = tuple(renamed.get(source, source) for source in node.inputs)
                self.nodes[name] = node.replace(inputs=inputs)
        self.outputs = tuple(renamed.get(name, name) for name in self.outputs)

    def merge(self, merge: Merge) -> None:
        """Replace producer and consumer wherever `merge` gives one node for both, in one walk.

        Only where nobody else reads the producer and it is no output. The merged node stands at the
        consumer's place with the consumer's name (so whoever reads it need not change), lists the
        producer's in ``fused``, and may merge again with the next one.
        """
        uses = self.uses()
        kept: dict[str, Node] = {}
        place = {name: i for i, name in enumerate(self.nodes)}
        for name, node in self.nodes.items():
            for source in sorted(set(node.inputs) & kept.keys(), key=place.__getitem__, reverse=True):
                producer = kept[source]
                merged = merge(self, producer, node) if uses[source] == 1 else None
                if merged is not None:
                    del kept[source]
                    node = merged.replace(name=name, fused=(*producer.fused, source, *node.fused))
                    break
            kept[name] = node
        self.nodes = kept


# (draft, producer, consumer) -> the node that does the work of both, or None; its name is not used.
Merge: TypeAlias = Callable[[Draft, Node, Node], Node | None]


def has_free_epilogue(node: Node) -> bool:
    """Whether the node can apply an activation, and nothing is applied to its result yet."""
    attrs = node.attrs
    return "activation" in attrs and attrs["activation"] is None and attrs.get("pool") is None
