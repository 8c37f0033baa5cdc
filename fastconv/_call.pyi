from collections.abc import Callable
from typing import Any

import numpy.typing as npt

class Call:
    """What calls ``_run``, and for what that does not take ``_run_any``, which the subclass has."""

    _run: Callable[[Any], Any]
    def __call__(self, x: npt.ArrayLike) -> Any: ...
