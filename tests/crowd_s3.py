"""Publish from many processes, each with a cache of its own as on another machine, into one bucket; count it.

python -m tests.crowd_s3                          # 32 processes, 20 adapters each; needs s3fs and moto
python -m tests.crowd_s3 --processes 4 --each 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

from adapterkit.store.mirror import Mirror
from adapterkit.store.object_store import ObjectStore
from adapterkit.store.registry import Registry
from tests.crowd import save, versions
from tests.faults import ENTRY, files
from tests.helpers.s3_server import inject, s3_server

URL = "s3://adapters/crowd"


def registry(folder: Path) -> Registry:
    return Registry(folder / "registry.json", Mirror(ObjectStore(URL), folder))


def publish(folder: Path, worker: int, each: int) -> None:
    save(registry(folder / str(worker)), worker, each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=32)
    parser.add_argument("--each", type=int, default=20)
    args = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder, s3_server() as address:
        os.environ["AWS_ENDPOINT_URL"] = address
        began = time.monotonic()
        every = [(Path(folder), number, args.each) for number in range(args.processes)]
        workers = [context.Process(target=publish, args=arguments) for arguments in every]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        seconds, requests = time.monotonic() - began, inject(address, "500", 0)
        here = registry(Path(folder) / "reader")
        listed = versions(here)
        for name, adapter in here.adapters().items():
            here.fetched(name, adapter["current"])
        here.rebuild()
        rebuilt, wanted = versions(here), args.processes * args.each
        print(f"{listed} of {wanted} listed, {rebuilt} after a rebuild, {seconds:.0f} s, {requests:,} requests")
        assert listed == rebuilt == wanted
        here.add("last", files("last"), ENTRY)


if __name__ == "__main__":
    main()
