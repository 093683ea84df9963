"""Overload: an open loop at 1, 3 and 10 times the capacity of a server in a process of its own.

    python -m tests.serving_overload --seconds 15 [--base minilm]

The server has one core and the clients another, where there are two. Prints, for each rate, the goodput as a part of
the peak, the 99th percentile of the accepted requests, and memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from adapterkit import Base
from adapterkit.testing import tiny
from tests.helpers.open_loop import Sent, send
from tests.helpers.pooled import same
from tests.helpers.server import serving
from tests.serving_faults import TEXTS, Load

DEADLINE = 5.0


def capacity(port: int, requests: list[tuple[str, bytes]], seconds: float, clients: ProcessPoolExecutor) -> float:
    """Return the most requests a second that are answered in an open loop, as its rate doubles."""
    best, rate = 0.0, 10.0
    while True:
        sent = clients.submit(send, port, requests, rate, seconds).result()
        goodput = sent.in_time / seconds
        if goodput < 1.2 * best:
            return max(best, goodput)
        best, rate = max(best, goodput), 2 * rate


def overload(folder: Path, base: Base, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield what happened at each load. Raises `AssertionError` for a wrong answer."""
    load = Load(folder, base)
    requests = [(f"/models/{name}", json.dumps({"inputs": TEXTS}).encode()) for name in load.names]
    flags = ["--deadline", str(DEADLINE), "--dtype", "float32"]
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])  # the server's, which it inherits
    with (
        serving(load.registry, *flags) as (process, port),
        ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=os.sched_setaffinity, initargs=(0, cores[-1:])
        ) as clients,
    ):
        os.sched_setaffinity(0, cores)
        most = capacity(port, requests, min(4.0, seconds), clients)
        for times in (1, 3, 10):
            sent: Sent = clients.submit(send, port, requests, times * most, seconds).result()
            for reference, answer in sent.samples:
                for text, value in zip(TEXTS, json.loads(answer), strict=True):
                    same(value, load.answers[reference, text])
            accepted = sorted(sent.accepted)
            goodput = sent.in_time / seconds
            most = max(most, goodput)
            begin = time.monotonic()
            normal = clients.submit(send, port, requests, 0.3 * most, 2.0).result()
            yield {
                "load": times,
                "sent a second": round(sent.count / seconds, 1),
                "statuses": dict(sorted(sent.statuses.items())),
                "goodput a second": round(goodput, 1),
                "of the peak": round(goodput / most, 3),
                "median and p99 of accepted, s": [
                    round(accepted[int(part * (len(accepted) - 1))], 3) for part in (0.5, 0.99)
                ],
                "memory, MB": round(psutil.Process(process.pid).memory_info().rss / 1e6),
                "then at 0.3": dict(normal.statuses),
                "after, s": round(time.monotonic() - begin, 1),
            }


def main() -> None:
    """Print a line for each load; exit with 1 where the goodput or the times don't hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--base", help="name or folder of the base; by default a tiny one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.base is None:
            tiny.make("bert", folder / "base")
        failed = False
        for row in overload(folder, Base.load(args.base or str(folder / "base")), args.seconds):
            print(json.dumps(row), flush=True)
            failed |= row["of the peak"] < 0.9 or row["median and p99 of accepted, s"][1] > DEADLINE
            failed |= set(row["statuses"]) - {"200", "429", "503"} != set() or set(row["then at 0.3"]) != {"200"}
        sys.exit(failed)


if __name__ == "__main__":
    main()
