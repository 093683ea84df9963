"""`adapt serve` as a process: it says where it listens, and SIGTERM lets requests in progress finish."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import statistics
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from adapterkit import Registry
from adapterkit.errors import OptionError
from adapterkit.serving.run import serve
from tests.helpers.server import serving


def test_sigterm_drains_and_exits_with_0(stocked: Registry, tmp_path: Path) -> None:
    log = tmp_path / "rows.jsonl"
    with serving(stocked, "--log-requests", log, "--drain-seconds", "0.5") as (process, port):
        url = f"http://127.0.0.1:{port}"
        assert seconds_of_answers(port) < 0.03  # an answer in two packets waits 40 ms for the client's delayed ACK
        statuses: list[int] = []

        def ask() -> None:
            body = json.dumps({"inputs": ["a fine film"] * 200}).encode()
            with urllib.request.urlopen(urllib.request.Request(f"{url}/models/mood", body), timeout=60) as response:
                statuses.append(len(json.loads(response.read())))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert process.wait(60) == 0
        assert statuses == [200] * 8
        assert process.stderr is not None
        process.stderr.seek(0)
        first, *rest = process.stderr.read().splitlines()
    assert first == f"serving    {url}"
    lines = [line for line in rest if not line.startswith("precision  ")]
    assert len(rest) - len(lines) == 3  # of three bases
    assert all(json.loads(line)["status"] in (200, 503) for line in lines)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(rows) == 1600
    assert set(rows[0]) == {"id", "adapter", "text", "label"}


def test_a_second_signal_ends_it_at_once(stocked: Registry) -> None:
    with serving(stocked) as (process, port):
        body = json.dumps({"inputs": ["a fine film by a great staff"] * 256}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/models/mood", body)

        def ask() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                urllib.request.urlopen(request, timeout=60).close()

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert process.wait(30) == 0
        for thread in threads:
            thread.join(60)


def seconds_of_answers(port: int) -> float:
    """Return the median time of answers on a connection that is used again."""
    connection, times = http.client.HTTPConnection("127.0.0.1", port, timeout=10), []
    for _ in range(15):
        begin = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        times.append(time.perf_counter() - begin)
    connection.close()
    return statistics.median(times)


def test_a_port_in_use_is_one_line_before_anything_is_loaded(registry: Registry) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=f"can't listen on 127.0.0.1:{port}: .*; --port chooses another"):
            serve(registry, port=port)
