"""HTTP/1.1 below the application: overload is refused before a request is read, and stalled connections are closed."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import AdapterkitError
from .engine import Engine
from .errors import error_object
from .http import id_of
from .limits import Access, Limits

MOST_HEAD_BYTES = 64 * 1024
_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_INVALID = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_SECOND, _MOMENT = 1.0, 0.02
"""Seconds for which an overloaded server caches which adapters classify, and its response."""
_NAMES = 10_000
"""The most adapters' names in that cache."""


def with_id(response: bytes, header: str = "") -> bytes:
    """Return a response with the id in its request's header, or a new one, after its first line."""
    first, rest = response.split(b"\r\n", 1)
    return b"%s\r\nx-request-id: %s\r\n%s" % (first, id_of(header).encode("ascii", "replace"), rest)


class Refusals:
    """Refuses requests that classify while too many wait, at a fraction of what they cost in an application.

    Refused requests are counted as others are; the log has a line for each second of them.
    """

    def __init__(self, engine: Engine, paths: frozenset[str], access: Access, log: logging.Logger) -> None:
        """Refuse requests of `paths`, where a path such as /models/{name} ends with an adapter."""
        self._engine, self._access, self._log = engine, access, log
        self._paths = {path.encode(): path for path in paths if "{" not in path}
        self._prefixes = {path.partition("{")[0].encode(): path for path in paths if "{" in path}
        self._classifies: dict[bytes, bool] = {}
        self._responses: dict[str, bytes] = {}
        self._refused: Counter[str] = Counter()
        self._since = self._computed = 0.0

    def response(self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
        """Return the response to a request that is refused by its first line; None for one to be read.

        Requests that the application forbids are for it, and those of pages, whose origins it allows or doesn't.
        """
        if self._engine.batches.has_room() or method != b"POST" or self._engine.draining:
            return None
        fields = {name: value.decode("latin-1") for name, value in headers}
        if b"origin" in fields or not self._access.allows_host(fields.get(b"host", "")):
            return None
        if not self._access.allows_token(fields.get(b"authorization", "")):
            return None
        path = target.partition(b"?")[0]
        route = self._paths.get(path)
        if route is None:
            stem, slash, name = path.rpartition(b"/")
            route = self._prefixes.get(stem + slash)
            if route is None or not self._is_for_batches(name):
                return None
        now = time.monotonic()
        if now - self._computed > _MOMENT:
            self._computed = now
            self._responses.clear()
            if now - self._since > _SECOND:
                self._since = now
                self._classifies.clear()
        if route not in self._responses:
            self._responses[route] = self._computed_response(route)
        self._refused[route] += 1
        return with_id(self._responses[route], fields.get(b"x-request-id", ""))

    def report(self) -> None:
        """Count and log what was refused since the last report."""
        for route, count in self._refused.items():
            self._engine.metrics.requests.labels(route, 429).inc(count)
            self._log.info(json.dumps({"time": round(time.time(), 3), "path": route, "status": 429, "refused": count}))
        self._refused.clear()

    def _computed_response(self, route: str) -> bytes:
        error = self._engine.batches.refusal()
        body = msgspec.json.encode(error_object(route, error.status, str(error)))
        headers = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items())
        first = f"HTTP/1.1 {error.status} Too Many Requests\r\n{headers}content-type: application/json\r\n"
        return f"{first}content-length: {len(body)}\r\n\r\n".encode() + body

    def _is_for_batches(self, name: bytes) -> bool:
        """Return whether an adapter classifies; names that can't be resolved are for the application to refuse."""
        if (classifies := self._classifies.get(name)) is None:
            try:
                classifies = self._engine.classifies(unquote(name.decode("ascii")))
            except (AdapterkitError, UnicodeDecodeError):
                classifies = False
            if len(self._classifies) < _NAMES:
                self._classifies[name] = classifies
        return classifies


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with refusals before the application is started, and bounds on what a request sends."""

    def __init__(self, refusals: Refusals | None, **options: Any) -> None:
        super().__init__(**options)
        self._refusals, self._refusal = refusals, b""
        self._in_head, self._head_bytes = False, 0
        self.reading_since: float | None = time.monotonic()
        """When the client began to send what is read now; None from the end of a request to the next one."""

    def data_received(self, data: bytes) -> None:
        """Read, and refuse a request whose first line and headers don't end."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                self.transport.write(with_id(_HEAD_TOO_LARGE))
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what isn't HTTP."""
        self.transport.write(with_id(_INVALID))
        self.transport.close()

    def on_message_begin(self) -> None:
        """Note the time."""
        self.reading_since, self._refusal = time.monotonic(), b""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the application, unless the request is refused."""
        self._in_head = False
        answered = self.cycle is None or self.cycle.response_complete  # else the refusal would come before its answer
        ready = answered and not (self.pipeline or self.flow.write_paused or self.expect_100_continue)
        if self._refusals is not None and ready:
            self._unset_keepalive_if_required()  # of a refusal in the same packet
            if self.parser.should_keep_alive():
                self._refusal = self._refusals.response(self.parser.get_method(), self.url, self.headers) or b""
        if not self._refusal:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Skip the body of a refused request."""
        if not self._refusal:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Send the refusal, if it is one."""
        self.reading_since = None
        if not self._refusal:
            super().on_message_complete()
            return
        self.transport.write(self._refusal)
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def end_if_stalled(self, before: float) -> None:
        """Close the connection where its client began a request before a time, and hasn't sent all of it."""
        if self.reading_since is not None and self.reading_since < before:
            self.transport.close()


class Server(uvicorn.Server):
    """A uvicorn server that closes connections whose requests don't arrive, and leaves signals to `serve`."""

    def __init__(self, config: uvicorn.Config, refusals: Refusals | None) -> None:
        super().__init__(config)
        self._refusals = refusals

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Look for them every second, and report what was refused."""
        if counter % 10 == 0:
            if self._refusals is not None:
                self._refusals.report()
            before = time.monotonic() - self.config.timeout_keep_alive
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    connection.end_if_stalled(before)
        return await super().on_tick(counter)


def http_server(asgi: Any, host: str, port: int, limits: Limits, refusals: Refusals | None = None) -> Server:
    """Return uvicorn's server of an application: no log of its own, no header with its name."""
    configuration = uvicorn.Config(
        asgi,
        http=partial(Protocol, refusals),  # type: ignore[arg-type]
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        backlog=2048,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(limits.deadline) + 1,
    )
    return Server(configuration, refusals)
