"""`adapt serve --on ray`: a front here and replicas on Ray Serve, which schedules, scales and replaces them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.schema import LoggingConfig

from ..cluster.placement import Placement
from ..cluster.ray_connection import connect, environment, resources
from ..cluster.ray_executor import DIED, no_start
from ..errors import ClusterError, OptionError
from ..store.registry import Registry
from .errors import RequestError
from .front import Front, Head, Sent
from .limits import Access, Limits
from .protocol import http_server
from .ray_router import AdapterRouter
from .replica import Replica, Served
from .run import allow_open_files, bound_to, log_to_stderr, until_signal

APP = "adapterkit"
"""The name of the application on Ray Serve."""
_STATS_SECONDS = 2.0
_HEALTH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many replicas there are, and what each takes at a time."""

    min_workers: int | None = None
    """Replicas that there are without load; by default all, so that their number is fixed."""
    requests_per_worker: int = 64
    """Requests that a replica has at a time, mixed into its batches; half of it is the target for scaling."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise OptionError(f"--{name.replace('_', '-')} must be > 0, got {value}")


def serve_on_ray(
    registry: Registry,
    placement: Placement,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    access: Access | None = None,
    scale: Scale | None = None,
    drain_seconds: float = 0.0,
    base: str | None = None,
    **pool_options: Any,
) -> None:
    """Serve a registry by replicas on Ray until SIGTERM or SIGINT. Prints the address to stderr.

    Where the application is on the cluster already, its replicas are replaced one after the other while they answer,
    also those that another front uses; the front that began last ends them. Raises `ClusterError` where no replica
    can start.
    """
    limits, access = limits or Limits(), access or Access.of(host, None, (), ())
    allow_open_files()
    bound = bound_to(host, port)
    served = Served(registry, limits, access.origins, base, pool_options, environment(), os.getcwd())
    log = log_to_stderr("adapterkit.serving", logging.Formatter("%(message)s"))
    with deployed(served, placement, scale or Scale()) as handle:
        print(f"serving    http://{host}:{bound.getsockname()[1]}", file=sys.stderr, flush=True)
        front = Front(RayReplicas(handle), limits, access, log)
        asyncio.run(until_signal(http_server(front.asgi, host, port, limits), front, drain_seconds, bound))


@contextlib.contextmanager
def deployed(served: Served, placement: Placement, scale: Scale) -> Iterator[Any]:
    """Yield the handle of the application, once a replica is ready; at the end remove it, unless it was replaced."""
    started = connect(ray, placement)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        size = resources(placement, ray.nodes())
        least = scale.min_workers or size.workers
        if least > size.workers:
            raise OptionError(f"--min-workers {least} is more than --workers, which is {size.workers}")
        deployment = serve.deployment(Replica).options(
            ray_actor_options={"num_cpus": size.cpus, "num_gpus": size.gpus},
            max_ongoing_requests=scale.requests_per_worker,
            max_queued_requests=scale.requests_per_worker * size.workers,
            autoscaling_config=AutoscalingConfig(
                min_replicas=least,
                max_replicas=size.workers,
                target_ongoing_requests=max(1.0, scale.requests_per_worker / 2),
            ),
            request_router_config=RequestRouterConfig(
                request_router_class=AdapterRouter, request_routing_stats_period_s=_STATS_SECONDS
            ),
            health_check_period_s=_HEALTH_SECONDS,
            graceful_shutdown_timeout_s=served.limits.deadline,
        )
        quiet = LoggingConfig(log_level="ERROR", enable_access_log=False)
        serve.start(proxy_location="Disabled", logging_config=quiet)
        try:
            handle = serve.run(deployment.bind(served), name=APP, route_prefix=None, logging_config=quiet)
        except (RuntimeError, RayError, RayServeException) as error:
            reason = _why_unhealthy() or str(error)
            with contextlib.suppress(Exception):
                serve.delete(APP)
            raise ClusterError(no_start(reason)) from None
        since = _deployed_at()
        try:
            yield handle
        finally:
            with contextlib.suppress(Exception):  # the cluster may be gone
                if _deployed_at() == since:
                    serve.delete(APP)
    finally:
        if started:
            with contextlib.suppress(Exception):
                serve.shutdown()
            ray.shutdown()


def _deployed_at() -> float:
    return float(serve.status().applications[APP].last_deployed_time_s)


def _why_unhealthy() -> str:
    """Return the message of Serve about a deployment that failed."""
    app = serve.status().applications.get(APP)
    return "" if app is None else "\n".join(each.message for each in app.deployments.values())


class RayReplicas:
    """Replicas behind a handle of Ray Serve."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._streaming = handle.options(stream=True)

    async def answer(self, names: tuple[str, ...], sent: Sent) -> tuple[Head, bytes]:
        """Return the whole response to a request."""
        response = self._handle.answer.remote(names, sent)
        with _as_status():
            try:
                complete: tuple[Head, bytes] = await response
                return complete
            except asyncio.CancelledError:
                response.cancel()
                raise

    async def stream(self, names: tuple[str, ...], sent: Sent) -> AsyncIterator[Any]:
        """Yield the head of a response, and then its body as it is made."""
        response = self._streaming.stream.remote(names, sent)
        try:
            with _as_status():
                async for part in response:
                    yield part
        finally:
            response.cancel()


@contextlib.contextmanager
def _as_status() -> Iterator[None]:
    """Raise the errors of Ray as those of requests."""
    try:
        yield
    except BackPressureError as error:
        raise RequestError(429, "too many requests wait for a replica; try again", {"Retry-After": "1"}) from error
    except (*DIED, DeploymentUnavailableError) as error:
        raise RequestError(503, "the replica that had the request is lost; try again", {"Retry-After": "1"}) from error
