"""What a queue accepts, by tokens and by the time until they are answered."""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import threading
import time
from collections import Counter
from typing import Any

import pytest

from adapterkit import Base, Pool, Registry
from adapterkit.serving import queue as queue_module
from adapterkit.serving.engine import Engine
from adapterkit.serving.errors import RequestError
from adapterkit.serving.limits import Limits
from adapterkit.serving.metrics import Metrics
from adapterkit.serving.queue import Entry, Queue
from tests.helpers.server import ROWS, Running


def test_rows_that_would_be_answered_too_late_are_refused(stocked: Registry) -> None:
    name = "mood"
    base = Base.load(stocked.load(name).manifest["base"]["name"])

    async def submit_three() -> list[tuple[int, int]]:
        waited: list[tuple[int, int]] = []
        with Pool(stocked, base=base) as pool:
            queue = Queue("batches", Limits(deadline=2.5), Metrics(), lambda: 0)  # no worker is started
            queue._rate = 100.0  # tokens a second
            loop, row = asyncio.get_running_loop(), pool.prepare(ROWS[name], name)
            for _ in range(3):
                try:
                    queue.submit(Entry(pool, [row], 60, False, loop.create_future()))
                    waited.append((0, 0))
                except RequestError as error:
                    waited.append((error.status, int(error.headers["Retry-After"])))
        return waited

    assert asyncio.run(submit_three()) == [(0, 0), (0, 0), (429, 2)]  # after 0, 0.6 and 1.2 s of 0.75 s
    assert asyncio.run(refused_for_its_size()) == 413


async def refused_for_its_size() -> int:
    queue = Queue("batches", Limits(max_queue_tokens=50), Metrics(), lambda: 0)
    with pytest.raises(RequestError) as raised:
        queue.submit(Entry(None, [], 60, False, asyncio.get_running_loop().create_future()))  # type: ignore[arg-type]
    return raised.value.status


def test_an_overloaded_server_refuses_before_it_reads_and_still_generates(stocked: Registry) -> None:
    with Running(stocked, limits=Limits(deadline=5.0)) as server:
        for name in ("mood", "story"):
            assert server.send(f"/models/{name}", {"inputs": ROWS[name]})[0] == 200
        queue = server.app.engine.batches
        queue._rate, queue._tokens = 10.0, 60
        for path in ("/models/mood", "/classify", "/v1/annotate", "/v1/decisions"):
            status, answer, headers = server.send(path, b"not read")
            assert (status, headers["retry-after"]) == (429, "6"), answer
        assert server.send("/models/nobody", b"not read")[0] == 404
        assert server.send("/models/story", {"inputs": ROWS["story"]})[0] == 200
        queue._tokens = 0
        assert server.send("/models/mood", {"inputs": ROWS["mood"]})[0] == 200


def test_a_row_that_would_be_late_is_refused_and_takes_no_time_of_others(
    stocked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    proceed, answer, computed = threading.Event(), Pool.answer, []

    def slow(self: Pool, prepared: Any, **options: Any) -> Any:
        computed.append(len(prepared))
        proceed.wait(30)
        return answer(self, prepared, **options)

    with Running(stocked, limits=Limits(deadline=10.0)) as server:
        assert server.send("/models/mood", {"inputs": ROWS["mood"]})[0] == 200
        monkeypatch.setattr(Pool, "answer", slow)
        monkeypatch.setattr(queue_module, "_LATE", 0.05)  # half a second
        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            requests = [clients.submit(server.send, "/models/mood", {"inputs": ROWS["mood"]})]
            while not computed:
                time.sleep(0.01)
            requests += [clients.submit(server.send, "/models/mood", {"inputs": ROWS["mood"]}) for _ in range(3)]
            time.sleep(1.0)
            proceed.set()
            responses = [request.result() for request in requests]
        queue = server.app.engine.batches
        late = [(error["error"], headers["retry-after"]) for status, error, headers in responses if status == 503]
        assert (computed[0], Counter(status for status, *_ in responses)) == (1, {200: 1, 503: 3})
        assert all(re.match(r"the request waited \d\.\d s for its turn", line) and to == "1" for line, to in late)
        assert (queue._count, queue._tokens, len(queue._entries)) == (0, 0, 0)
        monkeypatch.undo()
        assert server.send("/models/mood", {"inputs": ROWS["mood"]})[0] == 200


def test_short_rows_are_tokenized_in_the_event_loop_and_others_in_threads(
    stocked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    prepared = Engine._prepared

    def noted(pairs: Any, options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return prepared(pairs, options)

    monkeypatch.setattr(Engine, "_prepared", staticmethod(noted))
    with Running(stocked) as server:
        text = ROWS["mood"]
        short = server.send("/models/mood", {"inputs": text})[1]
        with server.app.engine.models.resolve("mood").pool._routed.tokenizing:  # another thread is tokenizing
            waiting = threading.Thread(target=lambda: server.send("/models/mood", {"inputs": text}))
            waiting.start()
            time.sleep(0.2)
            assert server.send("/health", None)[0] == 200
        waiting.join()
        assert server.send("/models/mood", {"inputs": f"{text} " * 400})[0] == 200
        server.app.engine.models.resolve("mood").pool.unload("mood")
        assert server.send("/models/mood", {"inputs": text})[1] == short
    assert [name.startswith("adapterkit-tokenize") for name in threads] == [False, True, True, False]
