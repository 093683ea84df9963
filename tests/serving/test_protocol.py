"""What is decided below the application: refusals under overload, and clients that stall or send too much."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from typing import Any

import pytest

from adapterkit import Registry
from adapterkit.pool import Pool
from adapterkit.serving.limits import Access, Limits
from adapterkit.serving.protocol import MOST_HEAD_BYTES
from tests.helpers.server import ROWS, Running


def request(path: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data


MOOD = request("/models/mood", {"inputs": ROWS["mood"]})


def responses(client: socket.socket, count: int) -> list[int]:
    """Return the statuses of the next responses on a connection."""
    return [status for status, _ in identified(client, count)]


def identified(client: socket.socket, count: int) -> list[tuple[int, str]]:
    """Return the status and the id of each of the next responses on a connection; each must have one id."""
    data, found = b"", []
    client.settimeout(30)
    while len(found) < count:
        while (end := data.find(b"\r\n\r\n")) < 0 or len(data) < end + 4 + length(data[:end]):
            data += (more := client.recv(65536))
            assert more, (found, data)
        [number] = re.findall(rb"\r\nx-request-id: ([^\r]+)", data[:end])
        found.append((int(data.split(b" ", 2)[1]), number.decode()))
        data = data[end + 4 + length(data[:end]) :]
    return found


def length(head: bytes) -> int:
    return int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])


def test_refusals_are_in_order_counted_and_leave_the_connection_usable(
    stocked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Running(stocked) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(MOOD)
        assert responses(client, 1) == [200]
        queue, answer, proceed = server.app.engine.batches, Pool.answer, threading.Event()

        def held(self: Pool, prepared: Any, **options: Any) -> Any:
            proceed.wait(30)
            return answer(self, prepared, **options)

        monkeypatch.setattr(Pool, "answer", held)
        client.sendall(MOOD)
        while not queue._computing:
            time.sleep(0.01)
        monkeypatch.setattr(queue, "_rate", 1.0)
        monkeypatch.setattr(queue, "_tokens", 60_000)
        client.sendall(MOOD)  # behind one that is still computed
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.sendall(MOOD * 3 + MOOD[:-3])  # in one packet, and a body in two
            assert responses(other, 3) == [429] * 3
            other.sendall(MOOD[-3:])
            assert responses(other, 1) == [429]
            proceed.set()
            assert responses(client, 2) == [200, 429]
            monkeypatch.setattr(queue, "_rate", 1e6)
            other.sendall(MOOD)
            assert responses(other, 1) == [200]
        until = time.monotonic() + 10
        # the one behind another is refused by its first line, or, where it is read late, by the application
        lines: list[dict[str, Any]] = []
        while sum(line.get("refused", 1) for line in lines) < 5:
            assert time.monotonic() < until, lines
            time.sleep(0.05)
            lines = [line for line in server.lines if line.get("status") == 429]
        counted = [line for line in lines if "refused" in line]
        assert sum(line["refused"] for line in counted) in (4, 5)
        assert {line["path"] for line in counted} == {"/models/{name}"}
        count = 'adapterkit_requests_total{route="/models/{name}",status="429"} 5.0'
        assert count in server.send("/metrics")[1]


def test_clients_that_stall_or_send_endless_headers_are_ended(stocked: Registry) -> None:
    with Running(stocked, limits=Limits(deadline=0.5)) as server:
        server._server.config.timeout_keep_alive = 1
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(MOOD[:-3])  # the end of the body never comes
            assert responses(client, 1) == [408]
        silent, slow = (socket.create_connection(("127.0.0.1", server.port)) for _ in range(2))
        with silent, slow:
            slow.sendall(MOOD[:30])
            for client in (silent, slow):
                client.settimeout(30)
                assert client.recv(100) == b""
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (MOST_HEAD_BYTES // 6))
            assert responses(client, 1) == [431]
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"no HTTP\r\n\r\n")
            assert responses(client, 1) == [400]
        assert server.send("/health")[0] == 200


def test_overload_tells_nothing_to_those_who_may_not_ask(stocked: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access.of("127.0.0.1", "a-token-of-a-test", (), ())
    allowed = MOOD.replace(b"Host", b"Authorization: Bearer a-token-of-a-test\r\nHost")
    cases = {
        allowed: 429,
        MOOD: 401,
        allowed.replace(b"Bearer a", b"Bearer b"): 401,
        allowed.replace(b"Host: 127.0.0.1", b"Host: evil.example"): 403,
    }
    with Running(stocked, access=access) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(allowed)
        assert responses(client, 1) == [200]
        monkeypatch.setattr(server.app.engine.batches, "_rate", 1.0)
        monkeypatch.setattr(server.app.engine.batches, "_tokens", 60_000)
        for sent, status in cases.items():
            client.sendall(sent.replace(b"Host", b"X-Request-Id: mine\r\nHost"))
            assert identified(client, 1) == [(status, "mine")]
        client.sendall(allowed * 2)
        (first, one), (second, other) = identified(client, 2)
        assert (first, second, one == other) == (429, 429, False)
