"""What a queue accepts, by tokens and by the time until they are answered."""

from __future__ import annotations

import asyncio

import pytest

from adapterkit import Base, Pool, Registry
from adapterkit.serving.errors import RequestError
from adapterkit.serving.limits import Limits
from adapterkit.serving.metrics import Metrics
from adapterkit.serving.queue import Entry, Queue
from tests.helpers.server import ROWS


def test_rows_that_would_be_answered_too_late_are_refused(stocked: Registry) -> None:
    name = "mood"
    base = Base.load(stocked.load(name).manifest["base"]["name"])

    async def submit_three() -> list[tuple[int, int]]:
        waited: list[tuple[int, int]] = []
        with Pool(stocked, base=base) as pool:
            queue = Queue("batches", Limits(deadline=1.0), Metrics(), lambda: 0)  # no worker is started
            queue._rate = 100.0  # tokens a second
            loop, row = asyncio.get_running_loop(), pool.prepare(ROWS[name], name)
            for _ in range(3):
                try:
                    queue.submit(Entry(pool, [row], 60, False, loop.create_future()))
                    waited.append((0, 0))
                except RequestError as error:
                    waited.append((error.status, int(error.headers["Retry-After"])))
        return waited

    assert asyncio.run(submit_three()) == [(0, 0), (0, 0), (429, 2)]  # after 0, 0.6 and 1.2 s of 1 s
    assert asyncio.run(refused_for_its_size()) == 413


async def refused_for_its_size() -> int:
    queue = Queue("batches", Limits(max_queue_tokens=50), Metrics(), lambda: 0)
    with pytest.raises(RequestError) as raised:
        queue.submit(Entry(None, [], 60, False, asyncio.get_running_loop().create_future()))  # type: ignore[arg-type]
    return raised.value.status
