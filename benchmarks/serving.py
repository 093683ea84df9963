"""Requests a second of `adapt serve` and of servers with a merged model per task, in one interleaved run.

All serve the same eight adapters on the small base. FastAPI has each merged into a transformers pipeline, as a plain
endpoint that its thread pool runs, with one torch thread and with as many as torch takes. Starlette has the same merged
models as ONNX files in onnxruntime, and in OpenVINO where it is installed, in float32. `adapt serve --runtime onnx` has
LoRA adapters in the place of two layerwise ones, which aren't exported. Clients keep their connection and send a text
of about 22 tokens to a random adapter. A turn is some seconds of one side; sides take turns, and a figure is the median
of them.

    make bench-serving   # installs FastAPI and OpenVINO in folders of their own; eight minutes
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from benchmarks.pages import cpu_name
from benchmarks.serving_rivals import FASTAPI, GRAPHS, export, runtimes

TEXTS = [
    f"the waiter brought the {dish} after an hour and it was {word}, but the view of the {view} made up for it all"
    for dish in ("soup", "bread", "salad", "fish")
    for word in ("cold", "fine", "lovely", "late")
    for view in ("harbour", "old town", "hills", "lake")
]


def prepare(folder: Path) -> list[str]:
    """Register eight adapters, merge each into a plain model, and export eight; return their names."""
    from adapterkit import Base, Registry
    from adapterkit.convert.merge import merge
    from adapterkit.convert.onnx_export import write_onnx
    from tests.helpers import random_adapters as made
    from tests.helpers.adapters import classes
    from tests.helpers.pooled import add

    base, registry, names = Base.load("minilm"), Registry(folder / "registry.json"), []
    exported = {}
    for i, strategy in enumerate(["lora"] * 4 + ["head-only"] * 2 + ["layerwise"] * 2):
        options = {"top": 1} if strategy == "layerwise" else {}
        adapter = made.adapter(base, classes(2 + i), strategy, seed=i, std=0.02, **options)
        names.append(f"task{i}")
        add(registry, names[-1], adapter)
        merge(base, adapter, folder / "merged" / names[-1])
        other = made.adapter(base, classes(2 + i), "lora", seed=i, std=0.02) if strategy == "layerwise" else adapter
        exported[names[-1]] = ("1", other)
    write_onnx(base, exported, folder / "onnx")
    export(folder / "merged")
    return names


def started(
    command: list[str], port: int, packages: Path | None, *, every_core: bool = False
) -> subprocess.Popen[bytes]:
    paths = {"PYTHONPATH": str(packages.resolve())} if packages else {}
    paths |= {} if every_core else {"OMP_NUM_THREADS": "1"}
    env = {**os.environ, **paths, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    body = json.dumps({"inputs": TEXTS[0]}).encode()
    for _ in range(600):
        try:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/models/task0", body, {"Content-Type": "application/json"}
            )
            urllib.request.urlopen(request, timeout=5).close()
            return process
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"{command} ended with {process.returncode}") from None
            time.sleep(0.2)
    raise SystemExit(f"{command} doesn't answer")


async def load(port: int, names: list[str], clients: int, seconds: float) -> list[float]:
    """Return the seconds of each request that `clients` send one after the other for some seconds."""
    until, times = time.perf_counter() + seconds, []

    async def client(number: int) -> None:
        dice = random.Random(number)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            body = json.dumps({"inputs": dice.choice(TEXTS)}).encode()
            head = f"POST /models/{dice.choice(names)} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            begin = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            times.append(time.perf_counter() - begin)
        writer.close()

    await asyncio.gather(*(client(i) for i in range(clients)))
    return times


def turn(
    process: subprocess.Popen[bytes], port: int, names: list[str], clients: int, seconds: float
) -> dict[str, float]:
    def used() -> float:
        cpu = psutil.Process(process.pid).cpu_times()
        return cpu.user + cpu.system

    before, begin = used(), time.perf_counter()
    times = asyncio.run(load(port, names, clients, seconds))
    spent = time.perf_counter() - begin
    ordered = sorted(times)
    return {
        "requests_per_second": len(times) / spent,
        "cpu_ms_per_request": 1000 * (used() - before) / len(times),
        "p50_ms": 1000 * statistics.median(times),
        "p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
        "memory_mb": psutil.Process(process.pid).memory_info().rss / 1e6,
    }


def decisions(port: int, count: int = 400, turns: int = 15) -> float:
    """Return the median milliseconds of a request of `count` questions on one text, all to head-only adapters."""
    questions = [{"type": "predicate", "instructions": "", "name": f"task{4 + i % 2}/l0"} for i in range(count)]
    body = json.dumps({"model": "task4", "input": TEXTS[0], "questions": questions}).encode()
    times = []
    for _ in range(turns):
        begin = time.perf_counter()
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/v1/decisions", body)).read()
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def _with_port(command: list[str], port: int) -> list[str]:
    return [str(port) if part == "PORT" else part for part in command]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def arguments(doc: str | None, seconds: float) -> argparse.ArgumentParser:
    """Return a parser of the options of benchmarks in turns: of how many seconds, how many, and where figures go."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    return parser


def main() -> None:
    parser = arguments(__doc__, seconds=6)
    parser.add_argument("--fastapi", type=Path, help="folder with fastapi, where the interpreter doesn't have it")
    parser.add_argument("--openvino", type=Path, help="folder with openvino")
    args = parser.parse_args()
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = prepare(folder)
        (folder / "fastapi_app.py").write_text(FASTAPI)
        (folder / "graphs_app.py").write_text(GRAPHS)
        serve = [sys.executable, "-m", "adapterkit.cli", "serve", "--registry", str(folder / "registry.json")]
        serve += ["--port", "PORT"]
        onnx = [sys.executable, "-m", "adapterkit.cli", "serve", "--runtime", "onnx"]
        onnx += ["--export", str(folder / "onnx"), "--port", "PORT"]
        commands: dict[str, Any] = {
            "adapt serve": serve,
            "adapt serve --dtype float32": [*serve, "--dtype", "float32"],
            "adapt serve --threads 2": [*serve, "--threads", "2"],
            "adapt serve --dtype int8": [*serve, "--dtype", "int8"],
            "adapt serve --dtype int8 --threads 2": [*serve, "--dtype", "int8", "--threads", "2"],
            "adapt serve --runtime onnx": onnx,
            "adapt serve --runtime onnx --threads 2": [*onnx, "--threads", "2"],
            "FastAPI, pipelines": [sys.executable, str(folder / "fastapi_app.py"), str(folder / "merged"), "PORT"],
        }
        every_core = (folder / "fastapi_app.py").read_text().replace("torch.set_num_threads(1)", "")
        (folder / "fastapi_cores.py").write_text(every_core)
        of_cores = [sys.executable, str(folder / "fastapi_cores.py"), str(folder / "merged"), "PORT"]
        commands["FastAPI, pipelines, torch's threads"] = of_cores
        for runtime in runtimes(args.openvino):
            command = [sys.executable, str(folder / "graphs_app.py"), str(folder / "merged")]
            commands[f"Starlette, {runtime}"] = [*command, "PORT", runtime]
        packages = {side: args.fastapi for side in commands if "FastAPI" in side} | {
            "Starlette, openvino": args.openvino
        }
        ports = {side: free_port() for side in commands}
        processes = {
            side: started(
                _with_port(command, ports[side]), ports[side], packages.get(side), every_core="torch's threads" in side
            )
            for side, command in commands.items()
        }
        results: dict[str, Any] = {}
        try:
            for clients in (1, 32):
                turns: dict[str, list[dict[str, float]]] = {side: [] for side in commands}
                for number in range(args.turns + 1):
                    for side in commands:
                        one = turn(processes[side], ports[side], names, clients, args.seconds if number else 2)
                        turns[side] += [one] if number else []  # the first is for warming up
                results[f"{clients} clients"] = {
                    side: {key: round(statistics.median(t[key] for t in of_side), 2) for key in of_side[0]}
                    for side, of_side in turns.items()
                }
            results["400 head-only questions on one text, ms"] = {
                side: round(decisions(ports[side]), 1) for side in commands if "adapt serve" in side
            }
        finally:
            for process in processes.values():
                process.terminate()
    report = {"cpu": cpu_name(), "cores": os.cpu_count(), "load": busy, "seconds": args.seconds, **results}
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
