"""docs/operators.md is what the tables say, and the tables say what the readers do."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from fastconv.graph.builder import GraphBuilder
from fastconv.graph.ops import OPS

DOCS = Path(__file__).resolve().parents[1] / "docs"

PLUMBING = {"permute", "reshape", "flatten", "constant", "identity"}
"""What a reader adds between calls, where axes must be in order."""


@pytest.fixture(scope="module")
def operators() -> Any:
    """docs/operators.py; the test is skipped where the readers' packages are missing."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    sys.path.insert(0, str(DOCS))
    try:
        import operators
    finally:
        sys.path.remove(str(DOCS))
    return operators


def test_the_page_is_not_stale(operators: Any) -> None:
    assert (DOCS / "operators.md").read_text(encoding="utf-8") == operators.page(), "run `make docs`"


def test_what_the_page_says_of_networks_is_of_those_that_are_run() -> None:
    from zoo_lists import CLASSIFIERS, DETECTORS, FAMILIES, REFUSED, SEGMENTATION

    networks = json.loads((DOCS / "networks.json").read_text(encoding="utf-8"))["networks"]
    assert set(networks["torchvision"]) <= set(CLASSIFIERS)
    assert set(networks.get("torchvision: segmentation", ())) <= set(SEGMENTATION)
    assert set(networks.get("torchvision: detection", ())) <= set(DETECTORS)
    assert set(networks.get("timm", ())) <= {name for name, *_ in FAMILIES.values()}
    for name, run in networks.get("timm", {}).items():
        assert REFUSED.get(name) == (run["pytorch"] if isinstance(run["pytorch"], str) else None)


def test_every_operator_of_the_graph_is_found_in_pytorch(operators: Any) -> None:
    aten = operators.readings(operators.torch_ops.FUNCTIONS, operators.torch_ops._FAMILIES, "aten.")
    assert set(aten) == set(OPS) - {"local_response_norm", "constant"}  # which come as chains, and as no calls


def test_every_entry_of_a_format_becomes_an_operator(operators: Any) -> None:
    for functions, families, prefix, known in (
        (operators.torch_ops.FUNCTIONS, operators.torch_ops._FAMILIES, "aten.", set()),
        (operators.onnx_ops.FUNCTIONS, operators.onnx_ops._FAMILIES, "", {"Shape", "Size"}),  # computed at loading
    ):
        found = {name for names in operators.readings(functions, families, prefix).values() for name in names}
        assert found == {name.removeprefix(prefix) for name in functions} - known


def test_every_operator_that_computes_has_a_kernel(operators: Any) -> None:
    assert [op for op in OPS if not operators.kernels(op)] == ["flatten", "reshape", "identity", "dropout"]


@pytest.mark.parametrize("name", ["vit", "swin", "maxvit", "mobilenet_v3_small", "shufflenet_v2_x0_5", "lenet"])
def test_what_calls_become_stands_in_their_rows(operators: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is found in the source; here it is compared with what a reader does with real networks."""
    import torch
    from torchvision_nets import ATTENTION, attention, models

    from fastconv.formats.torch import from_torch
    from fastconv.formats.torch.reader import Reader

    aten = operators.readings(operators.torch_ops.FUNCTIONS, operators.torch_ops._FAMILIES, "aten.")
    seen: dict[str, set[str]] = defaultdict(set)
    readers: list[Any] = []
    make, add = Reader.__init__, GraphBuilder.add

    def remembered(self: Any, *args: Any) -> None:
        make(self, *args)
        readers.append(self)

    def recorded(self: GraphBuilder, op: str, /, *args: Any, **kwargs: Any) -> str:
        call = readers[-1]._call if readers else None
        if call is not None and call.op == "call_function":
            seen[op].add(str(call.target).removeprefix("aten."))
        return add(self, op, *args, **kwargs)

    monkeypatch.setattr(Reader, "__init__", remembered)
    monkeypatch.setattr(GraphBuilder, "add", recorded)
    if name in ATTENTION:
        from_torch(attention(name), (3, 32, 32))
    elif name == "lenet":
        net = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten())
        from_torch(net.eval(), (1, 28, 28))
    else:
        from_torch(models().get_model(name, weights=None).eval(), (3, 64, 64))
    assert seen
    for op in set(seen) - PLUMBING:
        calls = {call.replace("_.", ".") if not call.startswith("_") else call for call in seen[op]}
        assert calls <= set(aten[op]), op
