"""Send requests at a rate whatever the answers, from a process of its own, as many independent clients do."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass
class Sent:
    """What came of the requests of some seconds."""

    seconds: float
    count: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    accepted: list[float] = field(default_factory=list)
    """The seconds of each request that was answered with 200."""
    in_time: int = 0
    """Those of them whose answer came while requests were sent."""
    samples: list[tuple[str, bytes]] = field(default_factory=list)
    """The version that answered, and the body, of some of them."""


def send(port: int, requests: list[tuple[str, bytes]], rate: float, seconds: float) -> Sent:
    """Post a random one of `requests`, path and body, `rate` times a second, as a Poisson process."""
    return asyncio.run(_send(port, requests, rate, seconds))


async def _send(port: int, requests: list[tuple[str, bytes]], rate: float, seconds: float) -> Sent:
    dice, sent, idle = random.Random(0), Sent(seconds), deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
    begin = due = time.perf_counter()
    tasks = set[asyncio.Task[None]]()
    while (due := due + dice.expovariate(rate)) < begin + seconds:
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(_one(port, dice.choice(requests), idle, sent, begin + seconds))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        sent.count += 1
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return sent


async def _one(
    port: int,
    request: tuple[str, bytes],
    idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    sent: Sent,
    until: float,
) -> None:
    path, body = request
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(60):
            while idle and idle[-1][0].at_eof():  # the server has closed it, as it does after a while
                idle.pop()[1].close()
            reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            header = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            answer = await reader.readexactly(int(header.split("content-length: ")[1].split("\r\n")[0]))
    except (OSError, EOFError, TimeoutError) as error:
        sent.statuses[type(error).__name__] += 1
        return
    idle.append((reader, writer))
    status = header.split(" ", 2)[1]
    sent.statuses[status] += 1
    if status == "200":
        now = time.perf_counter()
        sent.accepted.append(now - begin)
        sent.in_time += now < until
        if len(sent.samples) < 100:
            sent.samples.append((header.split("x-adapter-version: ")[1].split("\r\n")[0], answer))
