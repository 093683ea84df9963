"""Open the executor of a placement; Ray and multiprocessing are imported only where they are chosen."""

from __future__ import annotations

from ..errors import OptionError
from .executor import Executor, Local
from .placement import Placement

RAY_HINT = "pip install 'adapterkit[ray]'"


def open_executor(placement: Placement, *, several: bool = False) -> Executor:
    """Return the executor of a placement, to be used as a context manager.

    Here it is this process alone, unless --workers sets another number or, with `several`, it isn't set.

    Raises `OptionError` where Ray is not installed.
    """
    if placement.on == "local":
        if placement.workers == 1 or not (several or placement.workers):
            return Local()
        from .local_processes import LocalProcesses

        return LocalProcesses(placement.workers)
    check_ray()
    from .ray_executor import RayExecutor

    return RayExecutor(placement)


def check_ray() -> None:
    """Raise `OptionError` where Ray is not installed."""
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise OptionError(f"--on ray requires Ray: {RAY_HINT}") from error
