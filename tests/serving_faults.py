"""Faults under load: a server whose registry changes, whose files are damaged and whose clients hang up.

Every answer is compared with that of a single-threaded pool for the version that the response names; any other response
must be an error of a kind that the faults explain.

    python -m tests.serving_faults --seconds 120
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from adapterkit import Base, Pool, Registry
from adapterkit.errors import AdapterkitError
from adapterkit.serving.limits import Limits
from adapterkit.testing import tiny
from tests.helpers import random_adapters as made
from tests.helpers.adapters import classes
from tests.helpers.pooled import add, same
from tests.helpers.server import Running, folder_of

TEXTS = [f"{a} {b}" for a in ("a fine", "an awful", "a dull", "great") for b in ("film", "staff", "food by the bar")]
ADAPTERS = 6
EXPECTED_ERRORS = {404, 429, 500, 503, 504}
"""Removed, full, a worker that raised, files that can't be used, and a machine that is busy with other work."""


class Load:
    """Adapters of two versions each, what they answer, and clients that check it."""

    def __init__(self, folder: Path, base: Base) -> None:
        self.registry, self.answers = Registry(folder / "registry.json"), {}
        self.names = [f"a{i}" for i in range(ADAPTERS)]
        strategies = ("lora", "head-only", "lora")
        adapters = {
            (name, turn): made.adapter(base, classes(2 + i % 3), strategies[i % 3], seed=10 * i + turn)
            for i, name in enumerate(self.names)
            for turn in range(2)
        }
        references = [f"{name}@{add(self.registry, name, adapter)}" for (name, _), adapter in adapters.items()]
        with Pool(base, registry=self.registry) as pool:
            for reference in references:
                for text in TEXTS:
                    self.answers[reference, text] = pool.predict(text, reference, all_scores=True)
        self.ended, self.statuses, self.wrong = threading.Event(), Counter[int](), list[str]()

    def client(self, port: int, seed: int) -> None:
        """Send requests to random adapters and routes until the end, and check the answers."""
        dice, connection = random.Random(seed), http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not self.ended.is_set():
            name, texts = dice.choice(self.names), dice.sample(TEXTS, dice.randint(1, 4))
            route = dice.choice(["models", "models", "annotate", "classify"])
            body: dict[str, Any] = {"inputs": texts}
            path = f"/models/{name}"
            if route == "annotate":
                path, body = "/v1/annotate", {"text": texts[0], "adapters": self.names, "all_scores": True}
            elif route == "classify":
                path, body = "/classify", {"model": name, "input": texts}
            try:
                connection.request("POST", path, json.dumps(body))
                response = connection.getresponse()
                answer = json.loads(response.read())
                self.statuses[response.status] += 1
                self._check(route, name, texts, response, answer)
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"{route}: {type(error).__name__} {error}")
                connection.close()
            except AssertionError as error:
                self.wrong.append(f"{route} {name} {texts}: {str(error)[:300]}")

    def _check(self, route: str, name: str, texts: list[str], response: Any, answer: Any) -> None:
        if response.status != 200:
            assert response.status in EXPECTED_ERRORS, (response.status, answer)
            return
        if route == "annotate":
            for adapter, value in answer["answers"].items():
                if isinstance(value, dict) and "error" in value:
                    assert value["status"] in EXPECTED_ERRORS, value
                else:
                    same(value, self.answers[f"{adapter}@{answer['versions'][adapter]}", texts[0]])
            return
        reference = response.headers["x-adapter-version"]
        assert reference.startswith(f"{name}@")
        rows = answer if route == "models" else answer["data"]
        for text, row in zip(texts, rows, strict=True):
            if isinstance(row, dict) and "error" in row:
                assert row.get("status", row["error"]["code"] if route == "classify" else 0) in EXPECTED_ERRORS, row
            elif route == "models":
                same(row, self.answers[reference, text])
            else:
                expected = {c["label"]: c["score"] for c in self.answers[reference, text]}
                same(dict(sorted(expected.items())), dict(zip(sorted(expected), row["probs"], strict=True)))


def fault(load: Load, server: Running, kind: str, dice: random.Random) -> None:
    """Do one thing that a server must survive."""
    registry, name = load.registry, dice.choice(load.names)
    versions = list(registry.adapters()[name]["versions"])
    if kind == "rollback":
        registry.rollback(name, dice.choice(versions))
    elif kind == "tag":
        registry.tag(f"{name}@{dice.choice(versions)}", "stable")
    elif kind == "remove":
        current = registry.resolve(name)[1]
        registry.remove(name)
        time.sleep(0.05)
        registry.rollback(name)
        assert registry.resolve(name)[1] == current
    elif kind in ("damage", "delete"):
        folder, target = folder_of(registry, name), server.models.resolve(name)
        beside = folder.with_name(f"{folder.name}.aside")
        shutil.copytree(folder, beside)
        if kind == "delete":
            shutil.rmtree(folder)
        else:
            weights = folder / "adapter_model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-8] + b"\1" * 8)
        target.pool.unload(target.reference)
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    elif kind in ("hang up", "slow reader"):
        body = json.dumps({"inputs": TEXTS * 8}).encode()
        head = b"POST /models/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % (name.encode(), len(body))
        for i in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall((head + body)[: None if i % 2 else -3])
                if kind == "slow reader" and i % 10 == 1:
                    client.settimeout(60)
                    for _ in range(10):
                        client.recv(1)
                        time.sleep(0.01)
    else:
        answer = Pool.answer
        with mock.patch.object(Pool, "answer", side_effect=MemoryError("of a test")):
            time.sleep(0.02)
        assert Pool.answer is answer


KINDS = ["rollback", "tag", "remove", "damage", "delete", "hang up", "slow reader", "a worker raises"]


def under_load(folder: Path, base: Base, seconds: float, clients: int = 16) -> dict[str, Any]:
    """Run clients and faults for some seconds; return what happened."""
    load, done = Load(folder, base), Counter[str]()
    dice, process = random.Random(0), psutil.Process()
    with Running(load.registry, limits=Limits(threads=2)) as server, ThreadPoolExecutor(clients) as threads:
        futures = [threads.submit(load.client, server.port, i) for i in range(clients)]
        begin, memory, files = time.monotonic(), [], []
        try:
            while time.monotonic() < begin + seconds:
                for kind in KINDS:
                    fault(load, server, kind, dice)
                    done[kind] += 1
                    time.sleep(0.05)
                server.lines.clear()  # of the log, which the server itself doesn't hold
                memory.append(process.memory_info().rss)
                files.append(process.num_fds())
        finally:
            load.ended.set()  # else the clients would never end
        for future in futures:
            future.result()
        until = time.monotonic() + 10
        engine = server.app.engine
        while engine.active and time.monotonic() < until:
            time.sleep(0.05)
        left = (engine.active, engine.batches._count, engine.batches._tokens)
        for name in load.names:  # and it is as before
            status, answer, headers = server.send(f"/models/{name}", {"inputs": TEXTS[0]})
            assert status == 200, answer
            same(answer[0], load.answers[headers["x-adapter-version"], TEXTS[0]])
    half = len(memory) // 2
    return {
        "faults": dict(done),
        "statuses": dict(sorted(load.statuses.items())),
        "wrong": load.wrong[:5],
        "left": left,
        "memory of the second half, MB": [round(m / 1e6) for m in (min(memory[half:]), max(memory[half:]))],
        "open files of the second half": [min(files[half:]), max(files[half:])],
    }


def main() -> None:
    """Print what happened; exit with 1 where an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny.make("bert", folder / "base")
        base = Base.load(str(folder / "base"))
        try:
            result = under_load(folder, base, args.seconds)
        except AdapterkitError as error:
            sys.exit(f"{type(error).__name__}: {error}")
        print(json.dumps(result, indent=2))
        sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
