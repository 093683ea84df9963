"""Requests a second of `adapt serve` by the number of its adapters: resident, and in a registry larger than memory.

One server answers for 1, 10, 100 and 1,000 adapters, all in memory; another, of the same registry of 10,000, has memory
for 500 and gets requests by Zipf's law, so that it reads and evicts adapters all the time. Adapters are head-only ones
on the small base. Turns are interleaved, and figures are medians.

    make bench-serving-adapters   # two minutes
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.pages import cpu_name
from benchmarks.serving import TEXTS, arguments, free_port, started, turn

RESIDENT = (1, 10, 100, 1000)
ROOM = 500


def fill(folder: Path, count: int) -> tuple[list[str], int]:
    """Write a registry of head-only adapters that differ in their values; return names and the bytes of one."""
    from adapterkit import Adapter, Base
    from adapterkit.adapter.manifest import MANIFEST, TENSORS, parse_manifest
    from adapterkit.io.atomic import version_of, write_file
    from adapterkit.serving.models import fastest_dtype
    from adapterkit.store.index import Index
    from adapterkit.store.version_files import entry_of
    from tests.helpers import random_adapters as made
    from tests.helpers.adapters import classes

    base = Base.load("minilm")
    first = made.adapter(base, classes(4), "head-only")
    index, names, nbytes = Index.new(folder / "registry.json"), [], 0
    for i in range(count):
        tensors = {key: tensor + i * 1e-4 for key, tensor in first.tensors.items()}
        files = Adapter(dict(first.manifest), tensors).files()
        manifest = parse_manifest(files[MANIFEST])
        nbytes, version = manifest["files"][TENSORS]["bytes"], version_of(files[MANIFEST])
        names.append(f"task{i}")
        place = folder / "store" / names[-1] / version
        place.mkdir(parents=True)
        for file, data in files.items():
            (place / file).write_bytes(data)
        entry = {**entry_of(manifest, nbytes), "best": "accuracy", "number": 1}
        index.put(names[-1], {"current": version, "versions": {version: entry}})
    write_file(folder / "registry.json", index.to_bytes())
    half = fastest_dtype(base, None)[0] == "bfloat16"  # as the server computes
    return names, nbytes // 2 if half else nbytes


def warm(port: int, names: list[str]) -> None:
    """Let a server answer once with each adapter."""
    for start in range(0, len(names), 200):
        body = json.dumps({"text": TEXTS[0], "adapters": names[start : start + 200]}).encode()
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/v1/annotate", body)).close()


def loaded(port: int) -> int:
    """Return the number of adapters that a server has in memory."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("adapterkit_adapters_loaded "))


def zipf(names: list[str], count: int) -> list[str]:
    """Return names as they are requested where the k-th is requested 1/k as often as the first."""
    weights = list(itertools.accumulate(1 / k for k in range(1, len(names) + 1)))
    return random.Random(0).choices(names, cum_weights=weights, k=count)


def main() -> None:
    parser = arguments(__doc__, seconds=5)
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    args = parser.parse_args()
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names, nbytes = fill(folder, args.adapters)
        serve = [sys.executable, "-m", "adapterkit.cli", "serve", "--registry", str(folder / "registry.json")]
        commands = {"all": serve, "room": [*serve, "--max-bytes", str(ROOM * nbytes)]}
        ports = {side: free_port() for side in commands}
        processes = {side: started([*c, "--port", str(ports[side])], ports[side], None) for side, c in commands.items()}
        loads: dict[str, tuple[str, list[str]]] = {
            f"{count} resident": ("all", names[:count]) for count in RESIDENT if count <= len(names)
        }
        loads[f"{len(names)} registered, memory for {ROOM}, Zipf"] = ("room", zipf(names, 200_000))
        turns: dict[str, list[dict[str, float]]] = {title: [] for title in loads}
        try:
            warm(ports["all"], names[: RESIDENT[-1]])
            warm(ports["room"], names[: 2 * ROOM])  # so that it evicts from the start
            for number in range(args.turns + 1):
                for title, (side, wanted) in loads.items():
                    one = turn(processes[side], ports[side], wanted, args.clients, args.seconds)
                    one["loaded"] = loaded(ports[side])
                    turns[title] += [one] if number else []  # the first is for warming up
        finally:
            for process in processes.values():
                process.terminate()
    report: dict[str, Any] = {"cpu": cpu_name(), "cores": os.cpu_count(), "load": busy, "clients": args.clients}
    report |= {
        title: {key: round(statistics.median(t[key] for t in of_load), 2) for key in of_load[0]}
        for title, of_load in turns.items()
    }
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
