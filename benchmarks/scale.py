"""Measure what a model of many machines rests on: the driver's rows, the index of many adapters, a base, a task of Ray.

python -m benchmarks.scale                       # with Ray where it is installed
python -m benchmarks.scale --rows 1000000        # answers rows here and on Ray instead, in two processes each
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from adapterkit import Base, Registry, run
from adapterkit.cli.writing import WRITERS, records
from adapterkit.cluster import Placement, open_executor
from adapterkit.data.streams import from_file
from adapterkit.store.index import Index
from adapterkit.testing import tiny
from adapterkit.watch import Watch
from adapterkit.workflows.answer import Answering

ANSWER = {"label": "positive", "score": 0.98765, "scores": {"positive": 0.98765, "negative": 0.01235}}


def driver_rows_per_second(folder: Path, rows: int = 20_000) -> float:
    """Return the rows that one process reads, routes and writes, where the answers cost nothing."""
    run(dataset="demo:sentiment", strategy="head-only", num_train_epochs=1, name="s", registry=folder / "registry.json")
    path = folder / "rows.csv"
    path.write_text("text\n" + "".join(f"the soup was warm and the staff friendly on visit {i}\n" for i in range(rows)))
    answering = Answering(from_file(str(path)), Registry(folder / "registry.json"), ["s"])
    began = time.process_time()
    answering = Answering(from_file(str(path)), Registry(folder / "registry.json"), ["s"])
    chunks = (
        answering.finished(chunk, [dict(ANSWER) for _ in answering.requests_of(chunk)])
        for chunk in answering.routed_chunks(64)
    )
    answering._tokenizer = Base.load("minilm").tokenizer
    began = time.process_time()
    size = sum(len(text) for text in WRITERS["jsonl"](records(answering, chunks, "jsonl", Watch())))
    assert size
    return rows / (time.process_time() - began)


def index_of(folder: Path, adapters: int) -> dict[str, float]:
    """Return size, and CPU time to read and to write, of an index with so many adapters of one version."""
    entry = {"number": 1, "task": "text-classification", "strategy": "lora", "bytes": 300_000, "seconds": 31.4}
    entry |= {"base": {"name": "minilm", "fingerprint": "0" * 64}, "best": "accuracy"}
    entry["metrics"] = {split: {"accuracy": 0.9123456789, "f1": 0.91234, "n": 1000} for split in ("validation", "test")}
    index = Index.new(folder / "many.json")
    for number in range(adapters):
        version = f"{number:016x}"
        index.put(f"task-{number}-lora", {"current": version, "versions": {version: entry}})
    began = time.process_time()
    data = index.to_bytes()
    written = time.process_time() - began
    index.path.write_bytes(data)
    began = time.process_time()
    Index.read(index.path)
    return {"MB": len(data) / 1e6, "read s": time.process_time() - began, "write s": written}


@contextlib.contextmanager
def nothing() -> Iterator[Callable[[int], int]]:
    yield lambda task: task


def ray_seconds(count: int = 500) -> dict[str, float]:
    """Return the seconds to start a Ray of one process here with a worker, and of one more task that does nothing."""
    began = time.perf_counter()
    with open_executor(Placement(on="ray", workers=1, cpus_per_worker=1.0)) as executor:
        results = executor.map(nothing, range(count), ahead=8)
        next(results)
        started = time.perf_counter()
        list(results)
        return {"start": started - began, "task": (time.perf_counter() - started) / (count - 1)}


def rows_answered(folder: Path, rows: int, files: int = 20) -> dict[str, Any]:
    """Return seconds and memory of `adapt predict` for short rows with a tiny base: here and on a local Ray."""
    tiny.make("bert", folder / "base")
    values = {"base": str(folder / "base"), "strategy": "head-only", "num_train_epochs": 1, "name": "s"}
    run(dataset="demo:sentiment", registry=folder / "registry.json", **values)
    words = ("soup", "staff", "room", "view", "bed", "bar", "film", "plot", "warm", "cold", "dull", "fine")
    paths = [folder / f"part{number:02}.txt" for number in range(files)]
    for number, path in enumerate(paths):
        lines = (f"the {words[i % 12]} was {words[(i // 12 + number) % 12]} on visit {i}" for i in range(rows // files))
        path.write_text("".join(f"{line}\n" for line in lines))
    ray = ["--on", "ray", "--cpus-per-worker", "1"]
    figures: dict[str, Any] = {"rows": rows}
    for place, flags in (("here", []), ("ray", ray)):
        command = [sys.executable, "-m", "adapterkit.cli", "predict", "s", *paths, "--out", place]
        command += ["--workers", "2", *flags]
        began, memory = time.perf_counter(), []
        process = psutil.Popen(
            list(map(str, command)), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            time.sleep(1)
            with contextlib.suppress(psutil.Error):
                memory.append(round(process.memory_info().rss / 1e6))
        assert process.wait() == 0
        middle = len(memory) // 2
        figures[place] = {
            "s": round(time.perf_counter() - began, 1),
            "MB in the middle and at most": [memory[middle], max(memory)],
        }
    outputs = [[(folder / place / f"{path.stem}.jsonl").read_bytes() for path in paths] for place in ("here", "ray")]
    figures["equal files"] = sum(a == b for a, b in zip(*outputs, strict=True))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="answer so many rows here and on Ray, and measure nothing else")
    options = parser.parse_args()
    if options.rows:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(rows_answered(Path(folder), options.rows), indent=2))
        return
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        figures["driver rows per CPU second"] = round(driver_rows_per_second(Path(folder)))
        figures["index of 10,000 adapters"] = index_of(Path(folder), 10_000)
    began = time.process_time()
    Base.load("minilm")
    figures["minilm loads in CPU seconds"] = time.process_time() - began
    with contextlib.suppress(Exception):
        figures["ray"] = ray_seconds()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
