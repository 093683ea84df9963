"""Hidden states in memory that several trainings on one base and the same rows share."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class SharedStates:
    """Tensors by what they were computed from, up to `room` bytes, and the seconds that sharing them saved."""

    room: float = math.inf
    saved: float = 0.0  # seconds that computing the shared tensors again would have taken
    nbytes: int = 0
    _tensors: dict[Hashable, tuple[Mapping[Hashable, Tensor], float]] = field(default_factory=dict)

    def get(self, key: Hashable) -> Mapping[Hashable, Tensor] | None:
        """Return the tensors that an earlier training computed, or None; `reused` counts their use."""
        entry = self._tensors.get(key)
        return None if entry is None else entry[0]

    def reused(self, key: Hashable, seconds: float = 0.0) -> None:
        """Count that a training reads shared tensors, after `seconds` spent on checking them."""
        self.saved += max(0.0, self._tensors[key][1] - seconds)

    def put(self, key: Hashable, tensors: Mapping[Hashable, Tensor], seconds: float) -> None:
        """Store tensors that took `seconds` to compute, unless they exceed the room."""
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        if key not in self._tensors and self.nbytes + size <= self.room:
            self._tensors[key] = dict(tensors), seconds
            self.nbytes += size
