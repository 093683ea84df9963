"""Open the executor of a placement; Ray is imported only where it is chosen."""

from __future__ import annotations

from ..errors import OptionError
from .executor import Executor, Local
from .placement import Placement

RAY_HINT = "pip install 'adapterkit[ray]'"


def open_executor(placement: Placement) -> Executor:
    """Return the executor of a placement, to be used as a context manager.

    Raises `OptionError` where Ray is not installed.
    """
    if placement.on == "local":
        return Local()
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise OptionError(f"--on ray requires Ray: {RAY_HINT}") from error
    from .ray_executor import RayExecutor

    return RayExecutor(placement)
