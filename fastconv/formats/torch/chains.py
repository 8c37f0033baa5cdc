"""Chains of calls that torch.export writes for one function of PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LocalResponseNorm", "in_place", "local_response_norms"]

# What a divisor is made by, the last call first: of signals, and of what has more axes.
_DIVISORS = (
    ("pow.Tensor_Scalar", "add.Tensor", "mul.Tensor", "squeeze.dim", "avg_pool2d.default", "pad.default",
     "unsqueeze.default", "mul.Tensor"),
    ("pow.Tensor_Scalar", "add.Tensor", "mul.Tensor", "view.default", "squeeze.dim", "avg_pool3d.default",
     "pad.default", "view.default", "mul.Tensor"),
)  # fmt: skip


class LocalResponseNorm(NamedTuple):
    """A call of ``torch.nn.functional.local_response_norm``: its attributes, and the calls before its quotient."""

    attrs: dict[str, Any]
    before: list[torch.fx.Node]


def local_response_norms(calls: Iterable[torch.fx.Node]) -> dict[torch.fx.Node, LocalResponseNorm]:
    """Return quotient -> what it is the last call of: ``x / (k + alpha * mean of squares) ** beta``."""
    calls = list(calls)
    place = {call: index for index, call in enumerate(calls)}
    changes = [index for index, call in enumerate(calls) if in_place(str(call.target))]
    found = {call: _of_quotient(call) for call in calls if str(call.target) == "aten.div.Tensor"}
    return {
        call: norm
        for call, norm in found.items()
        if norm is not None and not any(place[norm.before[-1]] < index < place[call] for index in changes)
    }


def in_place(name: str) -> bool:
    """Tell whether a call of this name changes its first argument, as ``aten.add_.Tensor`` does."""
    packet = name.rpartition(".")[0]
    return packet.endswith("_") and not packet.endswith("__")


def _of_quotient(call: Any) -> LocalResponseNorm | None:
    x, last = call.args[:2]
    for names in _DIVISORS:
        before = _chain(last, names)
        if before and before[-1].args == (x, x) and not any(part.kwargs for part in before):
            power, plus, times, *_, pool, pad, _, _ = before
            attrs = {"size": pool.args[1][0], "alpha": times.args[1], "beta": power.args[1], "k": plus.args[1]}
            size, *others = pool.args[1]
            ones, widths = [1] * len(others), [0] * (2 * len(others))
            shape, padded = (tuple(part.meta["val"].shape) for part in (x, pad))
            form = [size, *ones], [1, *ones]
            if (
                all(isinstance(value, (int, float)) for value in attrs.values())
                and tuple(map(list, pool.args[1:])) == form
                and pad.args[1:] == ([*widths, size // 2, (size - 1) // 2],)
                and padded[:3] == (shape[0], 1, shape[1] + size - 1)
                and tuple(times.args[0].meta["val"].shape) == shape
            ):
                return LocalResponseNorm(attrs, before)
    return None


def _chain(call: Any, names: tuple[str, ...]) -> list[Any]:
    """Return calls of such names, each made of the next one, which nothing else reads; none where they are not."""
    result: list[Any] = []
    for name in names:
        if not isinstance(call, torch.fx.Node) or str(call.target) != f"aten.{name}" or len(call.users) != 1:
            return []
        result.append(call)
        call = call.args[0]
    return result
