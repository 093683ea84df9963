"""`adapt serve --on ray`: answers, routing, and what a client sees when a replica or its node is killed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from adapterkit import Base, Registry
from tests.helpers.ray_cluster import Cluster
from tests.helpers.server import ROWS, Running, serving, stock

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
NAMES = ("mood", "tags", "stars", "entities")


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory, base_for: Callable[[str, str], Base]) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("served") / "registry.json")
    stock(registry, base_for)
    return registry


@pytest.fixture(scope="module")
def front(started: Cluster, stocked: Registry) -> Iterator[tuple[Any, int]]:
    flags = ["--on", "ray", "--ray-address", started.address, "--dtype", "float32"]  # as the server to compare with
    with serving(stocked, *flags, seconds=400) as running:
        yield running


def send(port: int, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=90) as response:
            return response.status, response.read(), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def replicas() -> dict[int, psutil.Process]:
    """Return the processes of replicas by their id."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        if "ServeReplica:adapterkit" in str(process.info):
            found[process.pid] = process
    return found


def test_an_adapter_stays_with_the_replica_that_has_it(front: tuple[Any, int]) -> None:
    _, port = front
    settled(2)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for _ in range(2):  # what the front sent, and after some seconds what the replicas say they have
            where = {}
            for name, row in ROWS.items():
                path, bodies = f"/models/{name}", [{"inputs": row}] * 8
                several = threads.map(send, [port] * 8, [path] * 8, bodies)
                where[name] = {headers["x-replica"] for _, _, headers in several}
            assert {len(replicas) for replicas in where.values()} == {1}
            assert len(set.union(*where.values())) == 2
            time.sleep(3)


def test_the_answers_are_those_of_one_server(front: tuple[Any, int], stocked: Registry) -> None:
    _, port = front
    with Running(stocked) as one:
        bodies = [(f"/models/{name}", {"inputs": row}) for name, row in ROWS.items()]
        bodies += [("/classify", {"model": "mood", "input": ["a", "b"]})]
        bodies += [("/v1/annotate", {"text": "a fine film", "adapters": ["mood", "tags"]})]
        bodies += [("/models/none", {"inputs": "a"}), ("/v1/completions", {"model": "story"})]
        for path, body in bodies:
            status, answer, headers = send(port, path, body)
            expected, value, _ = one.send(path, body)
            assert status == expected, path
            assert _close(_lasting(json.loads(answer)), _lasting(value)), path
            assert headers["x-request-id"]
        stream = {"model": "story", "prompt": "a fine", "max_tokens": 5, "stream": True}
        assert [_texts(send(port, "/v1/completions", stream)[1])] == [
            _texts(one.send("/v1/completions", stream)[1].encode())
        ]
    assert send(port, "/v1/feedback", {"id": "x", "label": "a"})[0] == 501


def _lasting(value: Any) -> Any:
    """Return an answer without its id and time."""
    return {k: v for k, v in value.items() if k not in ("id", "created")} if isinstance(value, dict) else value


def _texts(events: bytes) -> list[str]:
    """Return the texts of server-sent events, without their ids and times."""
    lines = [line[6:] for line in events.decode().splitlines() if line.startswith("data: {")]
    return [choice["text"] for line in lines for choice in json.loads(line)["choices"]]


def _close(value: Any, other: Any) -> bool:
    """Return whether answers are equal but for what the shape of a batch changes in a tiny base's floats."""
    if isinstance(value, list):
        return len(value) == len(other) and all(map(_close, value, other))
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(_close(value[key], other[key]) for key in value)
    return bool(abs(value - other) < 1e-5 if isinstance(value, float) else value == other)


class Load:
    """Clients that ask without a pause, and count the statuses; a 503 is asked again."""

    def __init__(self, port: int, clients: int = 6) -> None:
        self.port, self.statuses, self.retried = port, Counter[int](), Counter[int]()
        self.wrong: list[Any] = []
        self._stop = threading.Event()
        self._threads = concurrent.futures.ThreadPoolExecutor(clients)
        self._futures = [self._threads.submit(self._ask, number) for number in range(clients)]

    def _ask(self, number: int) -> None:
        name = NAMES[number % len(NAMES)]
        body = {"inputs": [ROWS[name]] * 4}
        first = json.loads(send(self.port, f"/models/{name}", body)[1])
        while not self._stop.is_set():
            status, answer, _ = send(self.port, f"/models/{name}", body)
            self.statuses[status] += 1
            if status == 503:
                status, answer, _ = send(self.port, f"/models/{name}", body)
                self.retried[status] += 1
            if status == 200 and not _close(json.loads(answer), first):
                self.wrong.append(answer)

    def stop(self) -> None:
        self._stop.set()
        for future in self._futures:
            future.result(120)
        self._threads.shutdown()


@contextlib.contextmanager
def load(port: int) -> Iterator[Load]:
    running = Load(port)
    try:
        yield running
    finally:
        running.stop()


def settled(number: int, seconds: float = 150) -> dict[int, psutil.Process]:
    until = time.monotonic() + seconds
    while len(found := replicas()) != number:
        assert time.monotonic() < until, found
        time.sleep(0.5)
    return found


def test_a_killed_replica_costs_only_what_it_had(front: tuple[Any, int], cluster: Cluster) -> None:
    _, port = front
    before = settled(2)
    with load(port) as running:
        time.sleep(3)
        next(iter(before.values())).send_signal(signal.SIGKILL)
        time.sleep(5)
    statuses = running.statuses
    assert set(statuses) <= {200, 503}
    assert statuses[503] <= 6  # a request of each client
    assert set(running.retried) <= {200}
    assert statuses[200] > 20
    assert running.wrong == []
    after = settled(2)
    assert len({*after} - {*before}) == 1  # Serve has started another


def test_a_killed_node_costs_only_what_it_had(front: tuple[Any, int], cluster: Cluster) -> None:
    _, port = front
    settled(2)
    with load(port) as running:
        time.sleep(3)
        cluster.kill(cluster.nodes[0].node_id)
        time.sleep(8)
    assert set(running.statuses) <= {200, 503}
    assert running.statuses[503] <= 6
    assert set(running.retried) <= {200}
    assert running.statuses[200] > 20
    assert running.wrong == []


def test_replicas_are_replaced_without_an_error_and_grow_with_the_queue(
    front: tuple[Any, int], cluster: Cluster, stocked: Registry, base_for: Callable[[str, str], Base]
) -> None:
    _, port = front
    before = settled(2)
    flags = ["--on", "ray", "--ray-address", cluster.address, "--base", base_for("bert", "fill-mask").name]
    flags += ["--min-workers", "1", "--requests-per-worker", "2", "--dtype", "float32"]
    with load(port) as running, serving(stocked, *flags, seconds=400) as (process, other):
        assert send(other, "/models/story", {"inputs": "a"})[0] == 409  # of another base
        assert not {*replicas()} & {*before}
        settled(2)
        running.stop()
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
    assert set(running.statuses) <= {200, 429}
    assert running.wrong == []
