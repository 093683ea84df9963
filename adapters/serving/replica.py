"""A replica of `adapt serve --on ray`: the application of one server, with its own base, queue and batches."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ClusterError

if TYPE_CHECKING:
    from ..store.registry import Registry
    from .front import Head, Sent
    from .limits import Limits


@dataclass(frozen=True)
class Served:
    """What each replica serves."""

    registry: Registry
    limits: Limits
    origins: tuple[str, ...] = ()
    base: str | None = None
    pool_options: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the process that started it."""
    folder: str = "."


class Replica:
    """An application over a registry; requests come from a front, which has checked them."""

    def __init__(self, served: Served) -> None:
        os.environ.update(served.variables)  # before torch is imported
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        try:
            os.chdir(served.folder)
        except OSError as error:
            raise ClusterError(f"a node has no folder {served.folder}: {error.strerror}") from None
        from .app import App
        from .engine import Engine
        from .limits import Access
        from .metrics import Metrics
        from .models import Models

        sys.setswitchinterval(0.001)
        self._models = Models(served.registry, served.base, **served.pool_options)
        self._models.load()
        log = logging.getLogger("adapterkit.serving")
        log.setLevel(logging.INFO)
        access = Access(hosts=("*",), origins=served.origins)
        self._app = App(Engine(self._models, served.limits, Metrics()), access, log)
        self._started = False
        self._name = f"{os.uname().nodename}-{os.getpid()}".encode()

    async def answer(self, names: tuple[str, ...], sent: Sent) -> tuple[Head, bytes]:
        """Return the response to a request; `names` are for the router."""
        parts = [part async for part in self.stream(names, sent)]
        return parts[0], b"".join(parts[1:])

    async def stream(self, names: tuple[str, ...], sent: Sent) -> AsyncIterator[Any]:
        """Yield the head of the response, and then its body as it is made."""
        if not self._started:
            self._started = True
            self._app.engine.start()
        messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        body = [{"type": "http.request", "body": sent.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if body:
                return body.pop()
            return await asyncio.Future()  # the front cancels where the client goes

        work = asyncio.ensure_future(self._app.asgi(_scope(sent), receive, messages.put))
        work.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            while (message := await messages.get()) is not None:
                if message["type"] == "http.response.start":
                    yield message["status"], [*message["headers"], (b"x-replica", self._name)]
                elif message.get("body"):
                    yield message["body"]
            await work
        finally:
            work.cancel()

    def record_routing_stats(self) -> dict[str, Any]:
        """Return the adapters in memory, by which the router chooses."""
        loaded = (name for pool in self._models.pools() for name in pool.loaded())
        return {"warm": list({name.partition("@")[0] for name in loaded})}


def _scope(sent: Sent) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": sent.path,
        "raw_path": sent.path.encode(),
        "query_string": sent.query,
        "root_path": "",
        "headers": sent.headers,
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
    }
