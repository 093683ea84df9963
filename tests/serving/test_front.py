"""The front and a replica of `adapt serve --on ray`, in this process and without Ray."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from adapterkit import Registry
from adapterkit.serving.front import Sent, names_in
from adapterkit.serving.limits import Limits
from adapterkit.serving.replica import Replica, Served
from tests.helpers.server import ROWS


def test_the_adapters_of_a_request_are_read_from_its_path_and_body() -> None:
    assert names_in("/models/mood@prod", b'{"inputs": "a"}') == (("mood",), False)
    assert names_in("/v1/chat/completions", b'{"model": "story", "stream": true}') == (("story",), True)
    assert names_in("/v1/annotate", b'{"adapters": ["a", "b@1", "a"]}') == (("a", "b"), False)
    assert (
        names_in("/v1/annotate", b"[[[")
        == names_in("/v1/annotate", b"[" * 100_000)
        == names_in("/", b"")
        == ((), False)
    )


def test_requests_for_several_adapters_are_one_batch_of_a_replica(
    stocked: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # a replica sets those of the process that started it
    names = ("mood", "tags", "stars", "entities")
    replica = Replica(Served(stocked, Limits(wait_ms=2000), folder=os.getcwd()))
    engine = replica._app.engine
    sent = [
        Sent("POST", f"/models/{name}", b"", [(b"host", b"x")], json.dumps({"inputs": ROWS[name]}).encode())
        for name in names
    ]
    batches = []

    async def twice() -> None:
        for _ in range(2):  # the adapters are loaded, and are warm
            for (status, headers), _ in await asyncio.gather(*(replica.answer((), each) for each in sent)):
                assert status == 200
                assert b"x-replica" in dict(headers)
            values = {sample.name: sample.value for sample in next(iter(engine.metrics.batch_rows.collect())).samples}
            batches.append((values["adapterkit_batch_rows_count"], values["adapterkit_batch_rows_sum"]))

    asyncio.run(twice())
    (count, rows), (later, more) = batches
    assert (later - count, more - rows) == (1, len(names))
    assert set(names) <= set(replica.record_routing_stats()["warm"])
    engine.close()
