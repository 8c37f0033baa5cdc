"""What all tests share: the Hypothesis profiles and the peers that results are compared with."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from checks import Peer, oracle, torch_float64
from hypothesis import HealthCheck, settings

# No deadline: a machine that is busy is not a machine that is wrong.
settings.register_profile("ci", max_examples=400, derandomize=True, deadline=None, database=None)
settings.register_profile("long", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(params=["oracle", "torch"])
def peer(request: pytest.FixtureRequest) -> Peer:
    """Something that computes ``peer(op, *arrays, **attrs)`` in float64, right by assumption."""
    if request.param == "oracle":
        return oracle
    pytest.importorskip("torch")
    return torch_float64


# What the tests of whole networks find out -> the file that `--networks` names.

_networks: list[list[Any]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--networks", type=Path, help="a JSON file to which the errors of whole networks are added")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        _networks.extend(value for name, value in report.user_properties if name == "network")


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("networks")
    if path is None or not _networks or hasattr(session.config, "workerinput"):  # pytest-xdist's workers do not write
        return
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"networks": {}}
    stored["versions"] = {
        name: _version(name) for name in ("torch", "torchvision", "timm", "onnx", "onnxscript", "numpy")
    }
    for source, name, size, way, result in _networks:
        run = stored["networks"].setdefault(source, {}).setdefault(name, {})
        run |= {"size": size, way: result}
    path.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
