"""The ASGI application: routes, access, limits, errors of each dialect, the log of requests."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import annotate, decisions, feedback, huggingface, openai, vllm
from .engine import Engine
from .errors import RequestError, error_object, status_of
from .http import Call, Endpoint, check_access, error_response, json_response, read_body, request_id
from .limits import Access
from .outcomes import outcome, training_row

PAGE = Path(__file__).parent / "page" / "index.html"
_PREFLIGHT = {
    "access-control-allow-methods": "GET, POST",
    "access-control-allow-headers": "authorization, content-type, x-request-id",
    "access-control-max-age": "600",
}
_PAGE_POLICY = (
    "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
)


class App:
    """A server's application over an engine; `log` has a line of JSON for each request."""

    def __init__(self, engine: Engine, access: Access, log: logging.Logger) -> None:
        self.engine, self.access, self.log = engine, access, log
        self.describe: Callable[[Call], None] | None = None
        """Called with each request at its end, such as for its span."""
        self.endpoints = [
            *huggingface.endpoints(),
            *openai.endpoints(),
            *decisions.endpoints(),
            *vllm.endpoints(),
            *(vllm.admin_endpoints() if access.admin else ()),
            *annotate.endpoints(),
            *feedback.endpoints(),
            Endpoint("GET", "/health", self._health, None, "Return 200 while the process runs"),
            Endpoint("GET", "/ready", self._ready, None, "Return 200 while requests are accepted"),
            Endpoint("GET", "/metrics", self._metrics, None, "Metrics in Prometheus' format"),
            Endpoint("GET", "/openapi.json", self._schema, None, "This schema"),
            Endpoint("GET", "/", self._page, None, "The page"),
        ]
        routes = [Route(e.path, self._route(e), methods=[e.method]) for e in self.endpoints]
        self.asgi: Any = Starlette(routes=routes, exception_handlers={404: self._unrouted, 405: self._unrouted})

    # ---- one request

    def _route(self, endpoint: Endpoint) -> Any:
        async def answer(request: Request) -> Response:
            started = time.perf_counter()
            call = Call(self.engine, request, b"", request_id(request))
            self.engine.active += 1
            try:
                response = await self._answered(call, endpoint)
            except Exception as error:
                response = self._failed(call, error)
            finally:
                self.engine.active -= 1
            self._report(call, endpoint.path, response, time.perf_counter() - started)
            return response

        return answer

    async def _answered(self, call: Call, endpoint: Endpoint) -> Response:
        """Return the handler's response, unless access, size or time forbid it, or the client has gone."""
        check_access(self.access, call.request)
        if endpoint.method != "POST":
            return await endpoint.handler(call)
        if self.engine.draining:
            raise RequestError(503, "the server is shutting down", {"Retry-After": "5"})
        if endpoint.classifies:
            self.engine.check_wait(call.request.path_params.get("name"))
        call.body = await read_body(call.request, self.engine.limits)
        work = asyncio.ensure_future(endpoint.handler(call))
        gone = asyncio.ensure_future(call.request.receive())
        try:
            deadline = self.engine.limits.deadline
            done, _ = await asyncio.wait({work, gone}, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                return work.result()
            if gone in done:
                raise RequestError(499, "the client has closed the connection")
            raise RequestError(504, f"no answer within {deadline:g} s")
        finally:
            for future in (work, gone):
                future.cancel()

    def _failed(self, call: Call, error: Exception) -> Response:
        if status_of(error) == 500 and not isinstance(error, RequestError):
            self._log_trace(call, error)
        return error_response(call.request.url.path, error)

    def _log_trace(self, call: Call, error: BaseException) -> None:
        trace = "".join(traceback.format_exception(error))[-4000:]
        self.log.error(json.dumps({"id": call.id, "path": call.request.url.path, "error": trace}))

    def _report(self, call: Call, route: str, response: Response, seconds: float) -> None:
        """Set the headers, count the request, and log it."""
        response.headers["x-request-id"] = call.id.encode("ascii", "replace").decode()
        versions = list(call.versions)
        if versions:
            response.headers["x-adapter-version"] = ",".join(versions[:16])
        self._allow_origin(call.request, response)
        self.engine.metrics.requests.labels(route, response.status_code).inc()
        self.engine.metrics.seconds.labels(route).observe(seconds)
        line = {
            "time": round(time.time(), 3),
            "id": call.id,
            "method": call.request.method,
            "path": call.request.url.path,
            "status": response.status_code,
            "ms": round(1000 * seconds, 2),
            "adapters": versions[:16],
            "rows": call.rows,
            "tokens": call.tokens,
        }
        self.log.info(json.dumps(line))
        for error in call.unforeseen[:1]:  # the rest of a batch that failed would repeat it
            self._log_trace(call, error)
        if self.describe is not None:
            self.describe(call)
        if call.answered:
            self._remember(call)

    def _allow_origin(self, request: Request, response: Response) -> None:
        """Let the page of another origin that may call the server read a response."""
        if (origin := request.headers.get("origin")) in self.access.origins:
            response.headers["access-control-allow-origin"] = str(origin)
            response.headers["access-control-expose-headers"] = "x-request-id, x-adapter-version, retry-after"
            response.headers["vary"] = "Origin"

    def _remember(self, call: Call) -> None:
        """Hold the answered rows for feedback, and log them where a file was named."""
        self.engine.recent.remember(call.id, call.answered)
        if (log := self.engine.request_log) is not None:
            for answered in call.answered:
                result, task = answered.result, answered.result.task
                if task is not None:
                    row = training_row(task, answered.row, outcome(task, result.value))
                    log.write({"id": call.id, "adapter": result.reference}, row)

    async def _unrouted(self, request: Request, error: Any) -> Response:
        """Return the error of a request without a route, or the answer to a browser's preflight of another origin."""
        origin, path = request.headers.get("origin"), request.url.path
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        if request.method == "OPTIONS" and error.status_code == 405 and origin in self.access.origins:
            response = Response(status_code=204, headers=_PREFLIGHT)
        else:
            hint = f"this path takes {allowed}; " if allowed else ""
            message = f"no route {request.method} {path[:200]}; {hint}GET /openapi.json lists the routes"
            response = json_response(error_object(path, error.status_code, message), error.status_code)
            if allowed:
                response.headers["allow"] = allowed
        self._report(Call(self.engine, request, b"", request_id(request)), "none", response, 0.0)
        return response

    # ---- routes of the server itself

    async def _health(self, call: Call) -> Response:
        return json_response({"status": "ok"})

    async def _ready(self, call: Call) -> Response:
        """Wait for a state of the registry, where one is named, and return the current one."""
        wanted = call.request.query_params.get("generation", "0")
        if not wanted.isdigit() or len(wanted) > 20:
            raise RequestError(400, f"generation must be a whole number, got {wanted[:40]!r}")
        until = time.monotonic() + self.engine.limits.deadline
        models = self.engine.models
        while (current := models.generation()) < int(wanted):
            if time.monotonic() > until:
                raise RequestError(504, f"the registry is at {current}, not yet at {wanted}")
            await asyncio.sleep(0.05)
        models.names()  # raises where registry.json is damaged
        if self.engine.draining:
            raise RequestError(503, "the server is shutting down")
        return json_response({"status": "ready", "generation": current})

    async def _metrics(self, call: Call) -> Response:
        self.engine.refresh_metrics()
        return Response(self.engine.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _page(self, call: Call) -> Response:
        return Response(PAGE.read_bytes(), media_type="text/html", headers={"Content-Security-Policy": _PAGE_POLICY})

    async def _schema(self, call: Call) -> Response:
        """Return the OpenAPI schema, made from the structures of the bodies."""
        bodies = [e.body for e in self.endpoints if e.body is not None]
        schemas, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
        by_body = dict(zip(bodies, schemas, strict=True))
        paths: dict[str, Any] = {}
        for e in self.endpoints:
            operation: dict[str, Any] = {"summary": e.summary, "responses": {"default": {"description": "JSON"}}}
            if "{name}" in e.path:
                name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
                operation["parameters"] = [name]
            if e.body is not None:
                content = {"application/json": {"schema": by_body[e.body]}}
                operation["requestBody"] = {"required": True, "content": content}
            paths.setdefault(e.path, {})[e.method.lower()] = operation
        info = {"title": "adapterkit", "version": "1"}
        return json_response({"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": components}})
