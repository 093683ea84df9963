"""The options that choose an executor: here or on Ray, how many workers, and the resources of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where tasks are computed. Without `ray_address`, $RAY_ADDRESS is used, else a Ray of this process is started."""

    on: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    workers: int | None = None
    """Processes; by default one per GPU of the cluster, or without any GPU one per node. Here, the command decides."""
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        for name in ("ray_address", "workers", "cpus_per_worker", "gpus_per_worker"):
            value = getattr(self, name)
            flag = f"--{name.replace('_', '-')}"
            if value is not None and self.on == "local" and name != "workers":
                raise OptionError(f"{flag} {value} is for --on ray")
            if isinstance(value, int | float) and (value < 0 or (value == 0 and name != "gpus_per_worker")):
                raise OptionError(f"{flag} must be > 0, got {value}")
