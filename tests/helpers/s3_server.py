"""An S3 server on loopback: moto's, with faults on request, in a process of its own.

moto is S3 as its API is described, with conditional writes and real HTTP, and comes from the package registry; MinIO
would be a binary from elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.request import Request, urlopen

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Faulty:
    """A WSGI application that fails some requests: {"kind": "500" | "slow" | "cut", "count": N, "match": TEXT}."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.fault: dict[str, Any] = {"count": 0}
        self.requests = 0
        self.lock = threading.Lock()  # moto checks a condition and then writes, which S3 does at once

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/fault":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            self.fault, requests, self.requests = json.loads(body), self.requests, 0
            start("200 OK", [("Content-Length", str(len(str(requests))))])
            return [str(requests).encode()]
        self.requests += 1
        kind = self._kind(environ)
        if kind in ("500", "slow"):
            status, code = ("500 Error", "InternalError") if kind == "500" else ("503 Slow Down", "SlowDown")
            xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>secret {code}</Message></Error>".encode()
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(xml)))])
            return [xml]
        if environ["REQUEST_METHOD"] == "PUT":
            with self.lock:
                return list(self.app(environ, start))
        parts = list(self.app(environ, start))
        return [b"".join(parts)[:-10]] if kind == "cut" else parts  # fewer bytes than the Content-Length

    def _kind(self, environ: dict[str, Any]) -> str:
        fault = self.fault
        if fault["count"] <= 0 or fault.get("match", "") not in environ["PATH_INFO"]:
            return ""
        if fault["kind"] == "cut" and environ["REQUEST_METHOD"] != "GET":
            return ""
        fault["count"] -= 1
        return str(fault["kind"])


def serve(port: int) -> None:
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Faulty(DomainDispatcherApplication(create_backend_app))
    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


def inject(address: str, kind: str, count: int, match: str = "") -> int:
    """Let the next `count` requests whose path has `match` fail; return how many requests there were before."""
    body = json.dumps({"kind": kind, "count": count, "match": match}).encode()
    with urlopen(Request(f"{address}/fault", body)) as response:
        return int(response.read())


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Yield the address of a server with a bucket `adapters`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    process.start()
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            process.join(0.1)
        urlopen(Request(f"{address}/adapters", method="PUT")).close()
        yield address
    finally:
        process.kill()
        process.join()
