"""A request as a route's handler sees it: the decoded body and the context that the log and the headers report."""

from __future__ import annotations

import asyncio
import codecs
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..errors import AdapterkitError
from ..io.schema import decoded
from .engine import Engine
from .errors import RequestError, error_object, message_of, status_of
from .limits import Access, Limits
from .results import Answered, Result

T = TypeVar("T")
_OPEN = ("/health", "/ready")  # for probes, which have no token


@dataclass(eq=False)
class Call:
    """One request: its engine, its body, and what its log line and headers report."""

    engine: Engine
    request: Request
    body: bytes
    id: str
    versions: dict[str, None] = field(default_factory=dict)
    rows: int = 0
    tokens: int = 0
    answered: list[Answered] = field(default_factory=list)
    """Rows with answers, for feedback and `--log-requests`."""
    unforeseen: list[BaseException] = field(default_factory=list)
    """Errors of rows whose tracebacks the log has."""

    def decoded(self, kind: type[T]) -> T:
        """Return the body as a structure. Raises `RequestError`, 400, where it isn't one."""
        if not self.body.strip():
            raise RequestError(400, "the body is empty; expected JSON")
        try:
            body: T = decoded(self.body.removeprefix(codecs.BOM_UTF8), kind)
            return body
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise RequestError(400, f"the body is invalid: {error}") from error

    def count(self, rows: Iterable[Any], results: Iterable[Result]) -> None:
        """Add results to what the log and the headers report."""
        for row, result in zip(rows, results, strict=True):
            if result.error is not None and not isinstance(result.error, AdapterkitError):
                self.unforeseen.append(result.error)
            if not result.error:
                self.answered.append(Answered(self.rows, row, result))
            self.rows += 1
            self.tokens += result.tokens
            if result.reference:
                self.versions[result.reference] = None


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """A route: method, path, handler, and the structure of its body for the schema."""

    method: str
    path: str
    handler: Handler
    body: type | None = None
    summary: str = ""
    classifies: bool = False
    """Whether its rows wait in the queue of batches, unless the adapter in its path generates."""


def request_id(request: Request) -> str:
    """Return the id that the client gave the request, or a new one."""
    return id_of(request.headers.get("x-request-id", ""))


def id_of(header: str) -> str:
    """Return the id in a request's header, or a new one where it is empty."""
    return header[:64] or uuid.uuid4().hex


def check_access(access: Access, request: Request) -> None:
    """Raise `RequestError`, 403 or 401, for a request that may not be made."""
    host = request.headers.get("host", "")
    if not access.allows_host(host):
        raise RequestError(403, f"host '{host[:100]}' isn't served; --allowed-hosts names those that are")
    if not access.allows_origin(request.headers.get("origin"), host):
        raise RequestError(403, "requests from another page's origin aren't allowed; --cors names those that are")
    if request.url.path not in _OPEN and not access.allows_token(request.headers.get("authorization", "")):
        raise RequestError(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body.

    Raises `RequestError`, 408 for a late one, and 413 for a large one, which is read so that the client sees it.
    """
    most, deadline, body, size = limits.max_body_bytes, limits.deadline, bytearray(), 0
    try:
        async with asyncio.timeout(deadline):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= most:
                    body += chunk
                elif size > 16 * most:
                    break
    except ClientDisconnect as error:
        raise RequestError(499, "the client has closed the connection") from error
    except TimeoutError as error:
        raise RequestError(408, f"the body didn't arrive within {deadline:g} s", {"Connection": "close"}) from error
    if size > most:
        raise RequestError(413, f"the body has more than {most:,} bytes")
    return bytes(body)


def error_response(path: str, error: BaseException) -> Response:
    """Return an error as the object of the path's dialect, with its headers."""
    status = status_of(error)
    response = json_response(error_object(path, status, message_of(error)), status)
    response.headers.update(getattr(error, "headers", {}))
    return response


def json_response(value: Any, status: int = 200) -> Response:
    """Return a JSON response; values that JSON lacks, such as nan, become null."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def event(value: Any) -> bytes:
    """Return a value as a server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def new_id(prefix: str) -> str:
    """Return an id for an object of a response."""
    return f"{prefix}-{uuid.uuid4().hex[:24]}"


def now() -> int:
    """Return the time in seconds, as openai's objects have it."""
    return int(time.time())


def check_count(count: int, most: int, noun: str) -> None:
    """Raise `RequestError`, 413 for more than `most`, 400 for none."""
    if count > most:
        raise RequestError(413, f"{count:,} {noun}, but at most {most:,} are answered in a request")
    if not count:
        raise RequestError(400, f"no {noun}")
