"""The server in front of replicas in other processes: access, limits, and an error for what was on a lost replica."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from .errors import RequestError, status_of
from .http import check_access, error_response, json_response, read_body, request_id
from .limits import Access, Limits

_PATIENCE = 5.0
"""Seconds beyond the deadline, which a replica checks by itself."""
_OF_ONE_SERVER = ("/v1/feedback", "/v1/canary", "/metrics")
Head = tuple[int, list[tuple[bytes, bytes]]]
"""Status and headers of a response."""


@dataclass(frozen=True)
class Sent:
    """A request as a replica gets it."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Replicas(Protocol):
    """Where requests are answered; both methods raise `RequestError`, 503, where the replica is lost on the way."""

    async def answer(self, names: tuple[str, ...], sent: Sent) -> tuple[Head, bytes]:
        """Return the whole response to a request for adapters of these names."""

    def stream(self, names: tuple[str, ...], sent: Sent) -> AsyncIterator[Any]:
        """Yield the head of a response, and then its body as it is made."""


class Front:
    """An ASGI application that passes requests on to replicas; `log` has a line of JSON for each."""

    def __init__(self, replicas: Replicas, limits: Limits, access: Access, log: logging.Logger) -> None:
        self.replicas, self.limits, self.access, self.log = replicas, limits, access, log
        self.draining = False
        every = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        self.asgi: Any = Starlette(routes=[Route("/{path:path}", self._answer, methods=every)])

    async def _answer(self, request: Request) -> Response:
        started, number = time.perf_counter(), request_id(request)
        try:
            response = await self._answered(request, number)
        except Exception as error:
            response = error_response(request.url.path, error)
            if status_of(error) == 500:
                trace = "".join(traceback.format_exception(error))[-4000:]
                self.log.error(json.dumps({"id": number, "path": request.url.path, "error": trace}))
        response.headers["x-request-id"] = number.encode("ascii", "replace").decode()
        line = {
            "time": round(time.time(), 3),
            "id": number,
            "method": request.method,
            "path": request.url.path,
            "status": response.status_code,
            "ms": round(1000 * (time.perf_counter() - started), 2),
            "adapters": [name for name in response.headers.get("x-adapter-version", "").split(",") if name],
        }
        self.log.info(json.dumps(line))
        return response

    async def _answered(self, request: Request, number: str) -> Response:
        """Return a replica's response, unless access, size or time forbid it, or the client has gone."""
        if request.method != "OPTIONS":  # a preflight, which a replica answers
            check_access(self.access, request)
        path = request.url.path
        if path == "/health":
            return json_response({"status": "ok"})
        if path in _OF_ONE_SERVER:
            raise RequestError(501, f"{path} is of one server, and this one passes requests on to replicas")
        if self.draining:
            raise RequestError(503, "the server is shutting down", {"Retry-After": "5"})
        body = await read_body(request, self.limits)
        headers = [(name, value) for name, value in request.headers.raw if name != b"x-request-id"]
        headers.append((b"x-request-id", number.encode("latin-1", "replace")))
        sent = Sent(request.method, path, request.url.query.encode(), headers, body)
        names, streams = names_in(path, body)
        work = asyncio.ensure_future(self._streamed(names, sent) if streams else self._complete(names, sent))
        gone = asyncio.ensure_future(request.receive())
        try:
            most = self.limits.deadline + _PATIENCE
            done, _ = await asyncio.wait({work, gone}, timeout=most, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                return work.result()
            if gone in done:
                raise RequestError(499, "the client has closed the connection")
            raise RequestError(504, f"no answer within {most:g} s")
        finally:
            work.cancel()
            gone.cancel()

    async def _complete(self, names: tuple[str, ...], sent: Sent) -> Response:
        (status, headers), body = await self.replicas.answer(names, sent)
        return _with_headers(Response(body, status), headers)

    async def _streamed(self, names: tuple[str, ...], sent: Sent) -> Response:
        parts = self.replicas.stream(names, sent)
        status, headers = await anext(parts)
        return _with_headers(StreamingResponse(parts, status), headers)


def names_in(path: str, body: bytes) -> tuple[tuple[str, ...], bool]:
    """Return the adapters that a request names in its path or body, and whether it requests a stream."""
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError):  # the replica reports what is wrong with it
        value = {}
    value = value if isinstance(value, dict) else {}
    parts = path.split("/")
    named: list[Any] = [parts[2]] if len(parts) == 3 and parts[1] == "models" else []
    adapters = value.get("adapters")
    named += [value.get("model"), *(adapters if isinstance(adapters, list) else ())]
    names = (name.partition("@")[0] for name in named if isinstance(name, str))
    return tuple(dict.fromkeys(name for name in names if name)), value.get("stream") is True


def _with_headers(response: Response, headers: list[tuple[bytes, bytes]]) -> Response:
    response.raw_headers = list(headers)
    return response
