"""Which replica answers a request on Ray Serve: one that has its adapters in memory, unless it is full."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

_REMEMBERED = 10_000
"""Names whose replica is remembered until the replicas report what they have."""


class AdapterRouter(RequestRouter):  # type: ignore[misc, unused-ignore]
    """Ranks replicas by how many of a request's adapters they have in memory; Serve takes the shortest queue of a rank.

    What replicas have is what they reported in the last seconds, and what was sent to them since. A cold adapter goes
    to the replica that a hash of both names chooses, so that all fronts agree; where that is full, another loads it.
    """

    def initialize_state(self, **_: Any) -> None:
        """Begin with nothing sent."""
        self._sent: dict[str, dict[ReplicaID, None]] = {}

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return the replicas in ranks, the best first."""
        names = _names(pending_request)
        if not names or len(candidate_replicas) < 2:
            return [candidate_replicas]
        free = self.select_available_replicas(candidate_replicas)
        warm = {replica.replica_id: self._warm(replica, names) for replica in free}
        most = max(warm.values(), default=0)
        best = [replica for replica in free if warm[replica.replica_id] == most]
        if not most and best:
            best = [max(best, key=lambda replica: _draw(names[0], replica))]
        chosen = {replica.replica_id for replica in best}
        others = [replica for replica in candidate_replicas if replica.replica_id not in chosen]
        return [rank for rank in (best, others) if rank]

    def _warm(self, replica: RunningReplica, names: Sequence[str]) -> int:
        reported = replica.routing_stats.get("warm", ())
        return sum(name in reported or replica.replica_id in self._sent.get(name, ()) for name in names)

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Remember that a replica loads the adapters of a request."""
        if len(self._sent) > _REMEMBERED:  # names come from clients
            self._sent.clear()
        for name in _names(pending_request):
            self._sent.setdefault(name, {})[replica_id] = None


def _names(request: PendingRequest | None) -> tuple[str, ...]:
    return tuple(request.args[0]) if request is not None and request.args else ()


def _draw(name: str, replica: RunningReplica) -> bytes:
    return hashlib.sha256(f"{name} {replica.replica_id.unique_id}".encode()).digest()
