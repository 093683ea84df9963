"""The registry changes under a server, clients overload it or hang up, and bodies are nonsense."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import random
import re
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base, Pool, Registry
from adapterkit.serving.limits import Access, Limits
from adapterkit.serving.models import Models
from adapterkit.serving.queue import Entry
from tests.helpers import random_adapters as made
from tests.helpers.adapters import classes
from tests.helpers.pooled import add, same
from tests.helpers.server import ROWS, Running, folder_of

TEXT = "a fine film"


@pytest.fixture
def small(tmp_path: Path, tiny_base: Base) -> tuple[Registry, Base]:
    registry = Registry(tmp_path / "registry.json")
    for i in range(3):
        add(registry, f"a{i}", made.adapter(tiny_base, classes(3), "lora", seed=i))
    return registry, tiny_base


def test_changes_of_the_registry_take_effect_at_the_next_request(small: tuple[Registry, Base]) -> None:
    registry, base = small
    newer = made.adapter(base, classes(2), "head-only", seed=9)
    with Running(registry) as server, Pool(base, registry=registry) as pool:

        def check(name: str, expected: str) -> None:
            status, answer, headers = server.send(f"/models/{name}", {"inputs": TEXT})
            assert (status, headers["x-adapter-version"]) == (200, expected)
            same(answer[0], pool.predict(TEXT, expected, all_scores=True))

        old = "@".join(registry.resolve("a0"))
        check("a0", old)
        new = f"a0@{add(registry, 'a0', newer)}"
        check("a0", new)
        check(old, old)
        registry.tag(old, "stable")
        check("a0@stable", old)
        registry.rollback("a0")
        check("a0", old)
        registry.remove("a0")
        assert server.send("/models/a0", {"inputs": TEXT})[0] == 404
        registry.rollback("a0")
        check("a0", old)


def test_damaged_and_deleted_files_are_reported_and_harm_no_other_adapter(small: tuple[Registry, Base]) -> None:
    registry, _ = small
    with Running(registry) as server:
        weights = folder_of(registry, "a1") / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8] + b"\0" * 8)
        shutil.rmtree(folder_of(registry, "a2"))
        for name in ("a1", "a2"):
            status, error, _ = server.send(f"/models/{name}", {"inputs": TEXT})
            assert (status, name in error["error"]) == (503, True)
        assert server.send("/models/a0", {"inputs": TEXT})[0] == 200
        registry.path.write_text("{")
        assert server.send("/models/a0", {"inputs": TEXT})[0] == 503
        assert server.send("/ready")[0] == 503
        assert server.send("/health")[0] == 200


def test_an_adapter_that_memory_has_no_room_for_is_the_servers_fault(small: tuple[Registry, Base]) -> None:
    registry, _ = small
    with Running(Models(registry, max_bytes=1)) as server:
        status, error, _ = server.send("/models/a0", {"inputs": TEXT})
        assert status == 503
        assert re.fullmatch(r"adapter 'a0@\w+' has [\d,]+ bytes, but max_bytes=1", error["error"])


@pytest.mark.slow
def test_beyond_the_queue_requests_are_refused_and_then_it_is_as_before(small: tuple[Registry, Base]) -> None:
    registry, _ = small
    with Running(registry, limits=Limits(max_queue_tokens=120, batch_tokens=30)) as server:
        expected = server.send("/models/a0", {"inputs": TEXT})[1]

        def ask(i: int) -> int:
            status, answer, headers = server.send("/models/a0", {"inputs": TEXT})
            if status == 200:
                same(answer, expected)
            else:
                assert int(headers["retry-after"]) >= 1
            return status

        with concurrent.futures.ThreadPoolExecutor(64) as clients:
            statuses = Counter(clients.map(ask, range(512)))
        assert set(statuses) == {200, 429}
        assert server.send("/models/a0", {"inputs": TEXT})[0] == 200
        assert server.app.engine.batches._tokens == 0
        status, error, _ = server.send(
            "/models/a0",
            {
                "inputs": [
                    f"{word} film " * 9 for word in ("a", "fine", "great", "rude", "so", "dull", "awful", "lovely")
                ]
            },
        )
        assert status == 429
        assert "wait" in error["error"]


def test_a_request_beyond_its_deadline_is_504_and_leaves_the_queue(
    small: tuple[Registry, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, _ = small
    with Running(registry, limits=Limits(deadline=0.3)) as server:
        server.models.resolve("a0").pool.load("a0")
        proceed, answer = threading.Event(), Pool.answer

        def slow(self: Pool, prepared: Any, **options: Any) -> Any:
            proceed.wait(30)
            return answer(self, prepared, **options)

        monkeypatch.setattr(Pool, "answer", slow)
        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            statuses = list(clients.map(lambda _: server.send("/models/a0", {"inputs": TEXT})[0], range(4)))
        proceed.set()
        assert statuses == [504] * 4
        until = time.monotonic() + 30
        while server.send("/models/a0", {"inputs": TEXT})[0] != 200:  # a busy machine may take longer than the deadline
            assert time.monotonic() < until
        queue = server.app.engine.batches
        assert (queue._count, queue._tokens) == (0, 0)


def test_clients_that_hang_up_leave_nothing_behind(server: Running) -> None:
    body = json.dumps({"inputs": [TEXT] * 64}).encode()
    request = b"POST /models/mood HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    stream = json.dumps({"model": "story", "prompt": "a", "max_tokens": 500, "stream": True}).encode()
    streamed = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(stream)
    for i in range(60):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall((request + body)[: -1 if i % 3 == 0 else None] if i % 3 else streamed + stream)
    until = time.monotonic() + 20
    engine = server.app.engine
    while engine.active or engine.batches._count or engine.generation._count:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert server.send("/models/mood", {"inputs": TEXT})[0] == 200
    assert server.send("/models/story", {"inputs": "a"})[0] == 200


def test_a_generation_ends_when_its_client_hangs_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    target = server.models.resolve("story")
    body = json.dumps({"inputs": "a", "parameters": {"max_new_tokens": 40}}).encode()
    request = b"POST /models/story HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    steps, begun, proceed = [], threading.Event(), threading.Event()
    model = target.pool._cache.get(["story"])[0].head.model
    forward = type(model).forward

    def slow(self: Any, *args: Any, **options: Any) -> Any:
        steps.append(1)
        begun.set()
        if len(steps) == 2:
            proceed.wait(30)
        return forward(self, *args, **options)

    monkeypatch.setattr(type(model), "forward", slow)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(request + body)
        assert begun.wait(30)
    until = time.monotonic() + 30
    while server.app.engine.active:
        assert time.monotonic() < until
        time.sleep(0.01)
    proceed.set()
    assert server.send("/models/story", {"inputs": "a", "parameters": {"max_new_tokens": 1}})[0] == 200
    assert len(steps) < 10


def test_a_queue_of_requests_whose_clients_have_gone_is_emptied(small: tuple[Registry, Base]) -> None:
    registry, _ = small
    with Running(registry) as server:
        queue, target = server.app.engine.batches, server.models.resolve("a0")
        row = target.pool.prepare(TEXT, target.reference)
        for _ in range(1500):  # more than the frames of a stack
            gone: asyncio.Future[Any] = asyncio.Future(loop=queue._loop)
            gone.cancel()
            queue.submit(Entry(target.pool, [row], row.tokens, False, gone))
            while queue._count:
                time.sleep(0)
        assert server.send("/models/a0", {"inputs": TEXT})[0] == 200


VALUES: list[Any] = [None, True, 0, -1, 1e308, "", "a", "\0", "é" * 50, [], {}, ["a"], [1], {"a": 1}, [["a"]], 2**70]


@pytest.mark.slow
def test_fuzzed_bodies_are_refused_or_answered(server: Running) -> None:
    """No body is a 500, and each has an error object where it isn't answered; FUZZED_BODIES is how many."""
    count = int(os.environ.get("FUZZED_BODIES", "640"))
    assert server.send("/models/mood", {"inputs": ["a"] * 200}, {"x-request-id": "fuzz"})[0] == 200
    dice = random.Random(0)
    bodies: dict[str, dict[str, Any]] = {
        f"/models/{name}": {"inputs": row, "parameters": {"top_k": 2}} for name, row in ROWS.items()
    }
    bodies |= {
        "/v1/completions": {"model": "story", "prompt": "a", "max_tokens": 2, "temperature": 0.5, "top_p": 0.9},
        "/v1/chat/completions": {
            "model": "story",
            "messages": [{"role": "user", "content": "a"}],
            "max_tokens": 2,
            "stop": ["b"],
        },
        "/v1/decisions": {
            "model": "mood",
            "input": "a",
            "questions": [{"type": "choice", "name": "mood", "choices": [{"value": "l0"}, {"value": "l1"}]}],
        },
        "/v1/annotate": {"text": "a", "adapters": ["mood", "entities"]},
        "/classify": {"model": "mood", "input": "a"},
        "/v1/feedback": {"id": "fuzz", "label": "l0", "row": 3, "adapter": "mood"},
    }

    def changed(value: Any) -> Any:
        if dice.random() < 0.3:
            return dice.choice(VALUES)
        if isinstance(value, dict):
            return {k: changed(v) if dice.random() < 0.5 else v for k, v in value.items() if dice.random() < 0.95}
        if isinstance(value, list):
            return [changed(v) for v in value] * dice.choice((1, 1, 2))
        return value

    cases = [(path, changed(body)) for path, body in bodies.items() for _ in range(count // len(bodies))]
    cases += [(path, json.dumps(body).encode()[: dice.randrange(20)]) for path, body in bodies.items()]

    def status(case: tuple[str, Any]) -> tuple[int, Any]:
        path, body = case
        code, answer, _ = server.send(path, body if isinstance(body, bytes) else json.dumps(body).encode())
        return code, code == 200 or answer

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        results = list(clients.map(status, cases))
    for case, (code, answer) in zip(cases, results, strict=True):
        assert code in (200, 400, 404, 409, 413, 422), (case, code, answer)
        assert answer is True or answer["error"], case
    assert {200, 400, 422} <= {code for code, _ in results}


def test_an_unforeseen_error_of_a_row_is_in_the_log_alone(
    small: tuple[Registry, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, _ = small
    with Running(registry) as server:
        monkeypatch.setattr(Pool, "answer", lambda self, rows, **_: [MemoryError("a secret")] * len(rows))
        status, error, headers = server.send("/models/a0", {"inputs": TEXT})
        assert (status, "secret" in error["error"]) == (500, False)
        assert server.send("/models/a0", {"inputs": [TEXT, "dull"]})[0] == 500
        (line,) = [one for one in server.lines if "error" in one and one["id"] == headers["x-request-id"]]
        assert "MemoryError: a secret" in line["error"]


def test_hosts_origins_and_tokens(small: tuple[Registry, Base]) -> None:
    registry, _ = small
    access = Access.of("127.0.0.1", "a long enough token", ("models.example",), ("http://friend.example",))
    with Running(registry, access=access) as server:
        token = {"Authorization": "Bearer a long enough token"}
        body = {"inputs": TEXT}
        assert server.send("/models/a0", body, token)[0] == 200
        assert server.send("/models/a0", body)[0] == 401
        assert server.send("/models/a0", body, {"Authorization": "Bearer a long enough tokem"})[0] == 401
        assert server.send("/metrics")[0] == 401
        assert server.send("/health")[0] == 200
        assert server.send("/models/a0", body, {**token, "Host": "evil.example"})[0] == 403
        assert server.send("/models/a0", body, {**token, "Host": "models.example:80"})[0] == 200
        assert server.send("/models/a0", body, {**token, "Origin": "http://evil.example"})[0] == 403
        status, _, headers = server.send("/models/a0", body, {**token, "Origin": "http://friend.example"})
        assert (status, headers["access-control-allow-origin"]) == (200, "http://friend.example")
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
        for origin, expected in (("http://friend.example", 204), ("http://evil.example", 405)):
            status, _, headers = server.send("/models/a0", None, {**asks, "Origin": origin}, method="OPTIONS")
            assert (status, headers.get("access-control-allow-origin")) == (expected, origin if status == 204 else None)
            assert (status == 204) == ("authorization" in headers.get("access-control-allow-headers", ""))


def test_an_address_that_others_reach_needs_a_token_and_hosts(adapt: Callable[..., Any], registry: Registry) -> None:
    registry.path.parent.mkdir(exist_ok=True)
    registry.path.write_text('{"schema_version": "1.0", "adapters": {}}')
    result = adapt("serve", "--host", "0.0.0.0", "--registry", registry.path)
    assert result.exit_code == 2
    assert "give --token-file and --allowed-hosts" in result.output
    result = adapt("serve", "--redact", "email", "--registry", registry.path)
    assert (result.exit_code, "give --log-requests FILE" in result.output) == (2, True)
    token = registry.path.with_name("token")
    for content, expected in ((b"", "got 0"), (b"\xff\xfe", "ASCII"), (b"two words of a token", "without spaces")):
        token.write_bytes(content)
        result = adapt("serve", "--token-file", token, "--registry", registry.path)
        assert (result.exit_code, expected in result.output) == (2, True)
