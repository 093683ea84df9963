"""Measure a registry of ten thousand adapters: what it takes to list them, and to add one.

    python benchmarks/registry.py

Writing `registry.json` with an indent, as was done at first, is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapterkit.io.atomic import json_bytes, sha256, write_file
from adapterkit.store.index import Index
from adapterkit.store.registry import Registry

METRICS = {"accuracy": 0.9333333, "f1_macro": 0.9322222, "f1_micro": 0.9311111, "matthews": 0.8677777, "n": 120}


def entry(number: int) -> dict[str, Any]:
    """Return an entry as long as a run's."""
    return {
        "number": 1,
        "task": "text-classification",
        "strategy": "lora",
        "base": {"name": "minilm", "fingerprint": f"{number:064x}"},
        "bytes": 301_500,
        "metrics": {"validation": METRICS, "test": METRICS},
        "best": "accuracy",
        "seconds": 12.3,
    }


def files(number: int) -> dict[str, bytes]:
    tensors = bytes(300_000)
    stated = {"adapter_model.safetensors": {"sha256": sha256(tensors), "bytes": len(tensors)}}
    names = {"task": {"name": "t"}, "strategy": {"name": "lora"}, "base": {"name": "minilm", "fingerprint": ""}}
    manifest = json_bytes({**names, "metrics": {}, "note": number, "files": stated})
    return {"adapter.json": manifest, "adapter_model.safetensors": tensors, "README.md": b"#", "run.yaml": b"a: 1"}


def measured(title: str, work: Callable[[int], Any], times: int) -> None:
    """Print the median of wall and processor time, and the least wall time."""
    walls, cpus = [], []
    for number in range(times):
        began, used = time.perf_counter(), time.process_time()
        work(number)
        walls.append(1e3 * (time.perf_counter() - began))
        cpus.append(1e3 * (time.process_time() - used))
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"{title:<36}{wall:7.1f} ms, least {min(walls):6.1f}; processor {cpu:6.1f}")


def as_before(registry: Registry) -> None:
    """Parse the whole index, check it, and write it with an indent."""
    index = json.loads(registry.path.read_bytes())
    dict(Index.read(registry.path))
    write_file(registry.path.with_name("before.json"), json_bytes(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=21)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder) / "registry.json")
        index = Index.new(registry.path)
        for number in range(args.adapters):
            version = f"{number:016x}"
            index.put(f"adapter-{number:05}", {"current": version, "versions": {version: entry(number)}})
        write_file(registry.path, index.to_bytes())
        print(f"{args.adapters} adapters, {registry.path.stat().st_size / 1e6:.1f} MB")
        measured("parse, check, write with an indent", lambda _: as_before(registry), 5)
        measured("add an adapter of 300 kB", lambda n: registry.add(f"new-{n}", files(n), entry(n)), args.times)
        measured("the same in an empty registry", empty(Path(folder) / "empty" / "registry.json"), args.times)
        command = [sys.executable, "-m", "adapterkit.cli", "list", "--registry", str(registry.path)]
        for title, more in (("adapt list, the whole command", []), ("adapt list --help, its imports", ["--help"])):
            measured(title, lambda _, more=more: subprocess.run([*command, *more], stdout=subprocess.DEVNULL), 7)  # type: ignore[misc]


def empty(path: Path) -> Callable[[int], Any]:
    return lambda n: Registry(path).add(f"new-{n}", files(n), entry(n))


if __name__ == "__main__":
    main()
