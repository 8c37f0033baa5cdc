"""torch.nn.functional on NumPy arrays."""

from .api import *  # noqa: F403
from .api import __all__, __doc__  # noqa: F401
