"""Run a server until a signal: load, accept, and on SIGTERM drain before the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn

from ..errors import OptionError, RegistryError
from ..store.registry import Registry
from . import telemetry
from .app import App
from .canary import Canaries, Canary, report_path
from .engine import Engine
from .limits import Access, Limits
from .metrics import Metrics
from .protocol import Refusals, Server, http_server
from .request_log import RequestLog
from .target import ServedModels

_OPEN_FILES = 65_536


def application(
    models: ServedModels,
    limits: Limits,
    access: Access,
    *,
    log: logging.Logger,
    canaries: Canaries | None = None,
    request_log: RequestLog | None = None,
) -> App:
    """Return the application over `models`; its engine is started by whoever runs it."""
    return App(Engine(models, limits, Metrics(), canaries, request_log), access, log)


def serve(
    registry: Registry,
    *,
    export: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    access: Access | None = None,
    log_requests: Path | None = None,
    redact: Sequence[str] = (),
    canaries: Sequence[Canary] = (),
    canary_report: Path | None = None,
    otel: bool = False,
    drain_seconds: float = 0.0,
    base: str | None = None,
    **pool_options: Any,
) -> None:
    """Serve a registry, or an `export` without torch, until SIGTERM or SIGINT; a second signal ends at once.

    `pool_options` are those of `Models` or of `ExportedModels`. Prints the address to stderr. Raises `OptionError` for
    an address that can't be bound, `RegistryError` for a canary that isn't registered, and `AdapterError` for a damaged
    export.
    """
    for canary in canaries:
        registry.resolve(f"{canary.name}@{canary.version}")
    compared = Canaries(canaries, canary_report or report_path(registry))
    request_log = RequestLog(log_requests, redact) if log_requests is not None else None
    # an answer isn't sent while another thread holds the interpreter: 1 ms at most, where 5 would be the default
    sys.setswitchinterval(0.001)
    provided = telemetry.provider() if otel else None
    allow_open_files()
    bound = bound_to(host, port)
    models, notes = _opened(registry, export, base, pool_options)
    for line in (f"serving    http://{host}:{bound.getsockname()[1]}", *notes):
        print(line, file=sys.stderr, flush=True)
    limits = limits or Limits()
    log = log_to_stderr("adapterkit.serving", logging.Formatter("%(message)s"))
    for name in ("uvicorn.error", "asyncio"):
        log_to_stderr(name, _JsonLines())
    access = access or Access.of(host, None, (), ())
    app = application(models, limits, access, log=log, canaries=compared, request_log=request_log)
    if provided is not None:
        app.asgi, app.describe = telemetry.traced(app.asgi, provided), telemetry.describe
    at_once = asyncio.run(_served(app, host, port, drain_seconds, bound))
    if provided is not None:
        provided.shutdown()
    if at_once:  # threads that compute would abort an interpreter that is finalized
        sys.stderr.flush()
        os._exit(0)


def _opened(
    registry: Registry, export: Path | None, base: str | None, options: dict[str, Any]
) -> tuple[ServedModels, list[str]]:
    """Return the models to serve, and notes on how they compute."""
    if export is not None:
        from .exported import ExportedModels

        exported = ExportedModels(export, **options)
        adapters = f"{len(exported.names())} adapters of {exported.base}"
        return exported, [f"export     {export}: {adapters}, by onnxruntime; no registry is read"]
    from .models import Models  # imports torch

    models = Models(registry, base, **options)
    models.load()
    return models, [f"precision  {line}" for line in models.precisions]


def allow_open_files() -> None:
    """Allow many connections, where the system does; where there is none left, a server can't even refuse."""
    try:
        import resource
    except ImportError:  # there is no such limit on Windows
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    if now not in (resource.RLIM_INFINITY, wanted):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, wanted), most))


def bound_to(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, before anything is loaded; uvicorn listens on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY on sockets whose protocol is named alone; without it, an answer takes 40 ms longer
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OptionError(f"can't listen on {host}:{port}: {error.strerror}; --port chooses another") from None
    return bound


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": round(record.created, 3), "from": record.name, "message": record.getMessage()}
        return json.dumps(line | ({"error": self.formatException(record.exc_info)} if record.exc_info else {}))


def log_to_stderr(name: str, formatter: logging.Formatter) -> logging.Logger:
    """Return a log that writes lines to stderr: JSON of our own, or warnings of uvicorn and asyncio as JSON."""
    log, handler = logging.getLogger(name), logging.StreamHandler(sys.stderr)
    log.setLevel(logging.INFO if name.startswith("adapterkit") else logging.WARNING)
    log.propagate = False
    log.addHandler(handler)
    handler.setFormatter(formatter)
    return log


async def _served(app: App, host: str, port: int, drain_seconds: float, bound: socket.socket) -> bool:
    """Serve until a signal, and return whether a second one came before requests were answered."""
    server = server_of(app, host, port)
    app.engine.start()
    reports = asyncio.create_task(_write_reports(app))
    try:
        await until_signal(server, app.engine, drain_seconds, bound)
    finally:
        reports.cancel()
        app.engine.close()
        _save(app)
    return bool(server.force_exit)


async def until_signal(server: uvicorn.Server, drained: Any, drain_seconds: float, bound: socket.socket) -> None:
    """Accept connections until SIGTERM or SIGINT, then refuse work for a while; a second signal ends at once.

    `drained` refuses new work once it is `draining`.
    """
    loop = asyncio.get_running_loop()

    def ended() -> None:
        if drained.draining:
            server.should_exit = server.force_exit = True
            return
        drained.draining = True
        loop.call_later(drain_seconds, setattr, server, "should_exit", True)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended)
    await server.serve(sockets=[bound])


async def _write_reports(app: App) -> None:
    while True:
        await asyncio.sleep(2)
        await asyncio.to_thread(_save, app)


def _save(app: App) -> None:
    try:
        app.engine.canaries.save()
    except RegistryError as error:  # such as a folder that can't be written; GET /v1/canary has the report
        app.log.error(json.dumps({"error": f"the report of canaries: {error}"}))


def server_of(app: App, host: str, port: int) -> Server:
    """Return the HTTP server of an application, which refuses requests before it reads them where too many wait."""
    paths = frozenset(endpoint.path for endpoint in app.endpoints if endpoint.classifies)
    refusals = Refusals(app.engine, paths, app.access, app.log)
    return http_server(app.asgi, host, port, app.engine.limits, refusals)
