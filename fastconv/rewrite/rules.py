"""Rewriting: pure Graph -> Graph rules that keep the outputs and spare the machine work.

    optimize = RULES applied in order, once each

A rule merges a producer and a consumer only where nobody else reads the producer and it is no
output of the graph. The merged node takes the consumer's name (so whoever reads it need not
change) and lists the producer's in ``fused``. Weights are never modified: a rule that changes them
makes new arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from ..graph import INPUT, Graph, Node
from ..graph.attributes import ACTIVATIONS, MAX_INTEGER
from ..graph.ops import OPS

__all__ = ["RULES", "optimize"]

_FUSING = tuple(op for op, spec in OPS.items() if "activation" in spec.attributes)
_WITH_RESIDUAL = ("conv2d", "linear")

Rule = Callable[[Graph], Graph]
# (graph, producer, consumer) -> the node that does the work of both, or None; its name is not used.
Merge = Callable[[Graph, Node, Node], Node | None]


def optimize(graph: Graph) -> Graph:
    """Return an equivalent graph with every rule of `RULES` applied.

    Outputs keep their order and values (up to rounding, where batch norm is folded) but may carry
    another node's name.
    """
    for rule in RULES:
        graph = rule(graph)
    return graph


# --- rules that remove nodes --------------------------------------------------------------------


def drop_unused(graph: Graph) -> Graph:
    """Remove the nodes that no output depends on."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return _with_nodes(graph, [node for node in graph.nodes if node.name in needed])


def drop_identities(graph: Graph) -> Graph:
    """Remove the nodes that return their input as it is: dropout, and pooling that pools nothing.

    One stays where it makes an output of its own: of the graph's input, or of a node that is an
    output already.
    """
    renamed: dict[str, str] = {}
    outputs = set(graph.outputs)
    kept = []
    for node in graph.nodes:
        source = renamed.get(node.inputs[0], node.inputs[0])
        is_output = node.name in outputs
        if not _is_identity(graph, node) or (is_output and (source == INPUT or source in outputs)):
            kept.append(_redirected(node, renamed))
            continue
        renamed[node.name] = source
        if is_output:
            outputs.add(source)
    return _renamed(graph, kept, renamed)


def _is_identity(graph: Graph, node: Node) -> bool:
    """Whether the node returns its input's elements in its input's shape."""
    if node.op in ("identity", "dropout"):
        return True
    if graph.shapes[node.name] != graph.shapes[node.inputs[0]] or len(node.inputs) > 1:
        return False
    if node.op in ("max_pool2d", "avg_pool2d"):
        window = node.attrs["kernel_size"], node.attrs["stride"], node.attrs["padding"]
        divisor = node.attrs.get("divisor_override")
        return window == ((1, 1), (1, 1), (0, 0)) and divisor in (None, 1)
    if node.op == "pad":
        return not any(node.attrs["padding"])
    return node.op in ("flatten", "reshape", "cat", "adaptive_avg_pool2d", "adaptive_max_pool2d")


# --- rules on weights ---------------------------------------------------------------------------


def fold_padding(graph: Graph) -> Graph:
    """Let a convolution do the zero padding before it."""
    return _merge(graph, _merge_padding)


def _merge_padding(graph: Graph, pad: Node, conv: Node) -> Node | None:
    if pad.op != "pad" or conv.op != "conv2d" or conv.inputs[0] != pad.name:
        return None
    widths = pad.attrs["padding"]
    if pad.attrs["mode"] != "constant" or pad.attrs["value"] != 0:
        return None
    if min(widths, default=0) < 0 or any(widths[4:]) or 0 in graph.shapes[pad.inputs[0]]:
        return None
    left, right, top, bottom = (*widths, 0, 0, 0, 0)[:4]
    own = conv.attrs["padding"]
    padding = tuple(a + b for a, b in zip(own, (top, bottom, left, right), strict=True))
    if max(padding) > MAX_INTEGER:
        return None
    return conv.replace(inputs=(pad.inputs[0], *conv.inputs[1:]), attrs={**conv.attrs, "padding": padding})


def fold_batch_norm(graph: Graph) -> Graph:
    """Scale and shift the weights of a convolution or linear layer instead of its output.

    Where the folded weights would not be finite (a variance of zero with eps=0), nothing is folded.
    """
    return _merge(graph, _merge_batch_norm)


def _merge_batch_norm(graph: Graph, producer: Node, norm: Node) -> Node | None:
    if norm.op != "batch_norm" or not _is_bare(producer, *_WITH_RESIDUAL):
        return None
    if len(producer.inputs) == 2:
        return None
    shape, weight = graph.shapes[norm.name], producer.weights["weight"]
    if (producer.op == "linear" and len(shape) != 1) or shape[0] != weight.shape[0]:
        return None  # the norm's channels are not the layer's outputs
    roles = {role: array.astype(np.float64) for role, array in norm.weights.items()}
    # y = (w x + b - mean) scale + shift  =  (w scale) x + ((b - mean) scale + shift)
    with np.errstate(all="ignore"):
        scale = 1 / np.sqrt(roles["running_var"] + norm.attrs["eps"])
        if "weight" in roles:
            scale = scale * roles["weight"]
        bias = producer.weights.get("bias", np.zeros(len(scale))).astype(np.float64)
        bias = (bias - roles["running_mean"]) * scale + roles.get("bias", 0.0)
        columns = scale.reshape(-1, *[1] * (weight.ndim - 1))
        folded = {
            "weight": (weight.astype(np.float64) * columns).astype(weight.dtype),
            "bias": bias.astype(weight.dtype),
        }
    if not all(np.isfinite(array).all() for array in folded.values()):
        return None
    return producer.replace(attrs={**producer.attrs, "activation": norm.attrs["activation"]}, weights=folded)


# --- rules that fuse epilogues ------------------------------------------------------------------

# Cheap enough to be computed before a max-pool, on more elements, to save a pass of their own.
_CHEAP_MONOTONE = ("relu", "leaky_relu", "hardtanh")


def hoist_activation(graph: Graph) -> Graph:
    """Exchange max-pool -> activation for activation -> max-pool, so that a producer can fuse both.

    A maximum commutes with a non-decreasing function as long as every window has a pixel in it.
    """
    uses = _uses(graph)
    nodes = {node.name: node for node in graph.nodes}
    exchanged: dict[str, Node] = {}  # name -> the node that takes its place
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        pool = nodes.get(node.inputs[0])
        if pool is None or not _can_exchange(pool, node) or uses[pool.name] != 1:
            continue
        producer = nodes.get(pool.inputs[0])
        if producer is None or uses[producer.name] != 1 or not _is_bare(producer, *_FUSING):
            continue
        exchanged[pool.name] = node.replace(inputs=pool.inputs)
        exchanged[node.name] = pool.replace(inputs=(node.name,))
        renamed[node.name] = pool.name
    kept = [exchanged.get(node.name, _redirected(node, renamed)) for node in graph.nodes]
    return _renamed(graph, kept, renamed)


def _can_exchange(pool: Node, activation: Node) -> bool:
    if pool.op != "max_pool2d" or activation.op not in _CHEAP_MONOTONE:
        return False
    # A dilated window may lie in the padding altogether; its maximum is -inf, not a pixel.
    slope = activation.attrs.get("negative_slope", 1.0)
    return bool(pool.attrs["dilation"] == (1, 1) and 0 < slope < np.inf)


def fuse_residual(graph: Graph) -> Graph:
    """Let a convolution or linear layer add the other operand of an addition to its output.

    Where both operands could, the later one does.
    """
    return _merge(graph, _merge_residual)


def _merge_residual(graph: Graph, producer: Node, add: Node) -> Node | None:
    if add.op != "add" or not _is_bare(producer, *_WITH_RESIDUAL) or len(producer.inputs) == 2:
        return None
    first, second = add.inputs
    other = second if first == producer.name else first
    return producer.replace(
        inputs=(producer.inputs[0], other),
        attrs={**producer.attrs, "activation": add.attrs["activation"]},
    )


def fuse_activation(graph: Graph) -> Graph:
    """Apply an activation as the epilogue of the node that makes its input."""
    return _merge(graph, _merge_activation)


def _merge_activation(graph: Graph, producer: Node, node: Node) -> Node | None:
    if node.op not in ACTIVATIONS or not _is_bare(producer, *_FUSING):
        return None
    activation = (node.op, *node.attrs.values())  # its parameters, in the table's order
    return producer.replace(attrs={**producer.attrs, "activation": activation})


def fuse_pool(graph: Graph) -> Graph:
    """Pool a convolution's output as it is computed, where the windows do not overlap."""
    return _merge(graph, _merge_pool)


def _merge_pool(graph: Graph, conv: Node, pool: Node) -> Node | None:
    if pool.op not in ("max_pool2d", "avg_pool2d") or conv.op != "conv2d":
        return None
    if conv.attrs["pool"] is not None or len(conv.inputs) == 2:
        return None
    attrs = pool.attrs
    (kh, kw), (sh, sw) = attrs["kernel_size"], attrs["stride"]
    plain = (
        attrs["padding"] == (0, 0)
        and attrs.get("dilation", (1, 1)) == (1, 1)
        and attrs.get("divisor_override") in (None, kh * kw)
        and kh <= sh
        and kw <= sw
    )
    _, height, width = graph.shapes[conv.name]
    floor = (height - kh) // sh + 1, (width - kw) // sw + 1
    if not plain or graph.shapes[pool.name][1:] != floor:  # ceil_mode adds an overhanging window
        return None
    kind = "max" if pool.op == "max_pool2d" else "avg"
    return conv.replace(attrs={**conv.attrs, "pool": (kind, kh, kw, sh, sw)})


RULES: tuple[Rule, ...] = (
    drop_unused,
    drop_identities,
    fold_padding,
    fold_batch_norm,
    hoist_activation,
    fuse_residual,
    fuse_activation,
    fuse_pool,
)


# --- shared by the rules ------------------------------------------------------------------------


def _is_bare(node: Node, *ops: str) -> bool:
    """Whether the node is one of `ops` and nothing is applied to its result yet."""
    return node.op in ops and node.attrs["activation"] is None and node.attrs.get("pool") is None


def _uses(graph: Graph) -> Counter[str]:
    """Return name -> how often it is read, being an output included."""
    return Counter([*graph.outputs, *(name for node in graph.nodes for name in node.inputs)])


def _merge(graph: Graph, merge: Merge) -> Graph:
    """Walk the graph once and replace producer and consumer wherever `merge` gives one for both.

    A merged node stands at the consumer's place with the consumer's name, and may merge again with
    the next one.
    """
    uses = _uses(graph)
    kept: dict[str, Node] = {}
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        for source in sorted(set(node.inputs) & place.keys(), key=place.__getitem__, reverse=True):
            producer = kept[source]
            merged = merge(graph, producer, node) if uses[source] == 1 else None
            if merged is not None:
                del kept[source]
                names = (*producer.fused, producer.name, *node.fused)
                kept[node.name] = merged.replace(name=node.name, fused=names)
                break
        else:
            kept[node.name] = node
    return _with_nodes(graph, list(kept.values()))


def _with_nodes(graph: Graph, nodes: list[Node]) -> Graph:
    """Return the graph with other nodes; the graph itself where nothing was removed."""
    return graph if len(nodes) == len(graph.nodes) else graph.replace(nodes=tuple(nodes))


def _redirected(node: Node, renamed: dict[str, str]) -> Node:
    """Return the node reading the new name of each renamed input."""
    return node.replace(inputs=tuple(renamed.get(name, name) for name in node.inputs))


def _renamed(graph: Graph, nodes: list[Node], renamed: dict[str, str]) -> Graph:
    """Return the graph with other nodes and its outputs renamed; the graph itself if none is."""
    if not renamed:
        return graph
    outputs = tuple(renamed.get(name, name) for name in graph.outputs)
    return graph.replace(nodes=tuple(nodes), outputs=outputs)
