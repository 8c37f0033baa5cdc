"""What all tests share: the Hypothesis profiles and the peers that results are compared with."""

from __future__ import annotations

import os

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
