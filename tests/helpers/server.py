"""A registry of adapters for every task, and a server over it on a loopback port, in a thread of the tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapterkit import Base, Registry
from adapterkit.serving.app import App
from adapterkit.serving.limits import Access, Limits
from adapterkit.serving.models import Models
from adapterkit.serving.run import application, server_of
from adapterkit.serving.target import ServedModels
from adapterkit.tasks import task_class
from adapterkit.testing import tiny
from tests.helpers import forked
from tests.helpers import random_adapters as made
from tests.helpers.adapters import classes
from tests.helpers.pooled import add

MASK = tiny.SPECIAL[tiny.MASK]


def stock(registry: Registry, base_for: Callable[[str, str], Base]) -> None:
    """Add adapters of every task on three tiny bases."""
    bert = base_for("bert", "fill-mask")
    tasks: dict[str, Any] = {
        "mood": classes(3),
        "tags": classes(3, "multi_label_classification"),
        "stars": classes(1, "regression"),
        "pair": task_class("text-classification")(
            text_column_name=("premise", "hypothesis"),
            label_column_name="label",
            labels=("no", "yes"),
            problem_type="single_label_classification",
        ),
        "entities": task_class("token-classification")(
            text_column_name=("tokens",), label_column_name="tags", labels=("O", "B-a", "I-a")
        ),
        "questions": task_class("question-answering")(
            question_column_name="q", context_column_name="c", answer_column_name="a", max_seq_length=48
        ),
        "choices": task_class("multiple-choice")(
            context_column_name="c", endings_column_name=("e",), label_column_name="label"
        ),
        "masks": task_class("fill-mask")(text_column_name=("text",)),
        "vectors": task_class("sentence-similarity")(text_column_name=("a", "b"), pooling="mean", normalize="yes"),
        "ranking": task_class("text-ranking")(query_column_name="q", passage_column_name="p", label_column_name="l"),
    }
    tasks = {name: replace(task, max_seq_length=48) for name, task in tasks.items()}  # what the tiny bases read
    for i, (name, task) in enumerate(tasks.items()):
        strategy, options = (("lora", {}), ("head-only", {}), ("layerwise", {"top": 1}))[i % 3]
        add(registry, name, made.adapter(bert, task, strategy, seed=i, **options))
    gpt = base_for("gpt2", "text-generation")
    story = task_class("text-generation")(text_column_name=("text",), max_new_tokens=6, max_seq_length=48)
    add(registry, "story", made.adapter(gpt, story, "lora", seed=20))
    t5 = base_for("t5", "text2text-generation")
    short = task_class("text2text-generation")(
        source_column_name="text", target_column_name="summary", max_target_length=6, max_seq_length=48
    )
    add(registry, "short", made.adapter(t5, short, "lora", seed=21))


ROWS: dict[str, Any] = {
    "mood": "a fine film",
    "tags": "rude staff and awful food",
    "stars": "great",
    "pair": {"premise": "a film", "hypothesis": "fine"},
    "entities": "the staff at the bar were rude",
    "questions": {"q": "what is it?", "c": "a fine film by a great staff"},
    "choices": {"c": "a film", "e": ["fine", "dull"]},
    "masks": f"a {MASK} film",
    "vectors": "a fine film",
    "ranking": {"q": "a film", "p": "fine staff"},
    "story": "a fine",
    "short": "a fine film by a great staff",
}
"""A row for each adapter of `stock`."""


class Running:
    """A server in a thread of this process."""

    def __init__(
        self,
        served: Registry | ServedModels,
        *,
        limits: Limits | None = None,
        access: Access | None = None,
        prepared: Callable[[App], None] | None = None,
        **parts: Any,
    ) -> None:
        """Start nothing yet; `parts` are those of `application`, such as canaries."""
        self.lines: list[dict[str, Any]] = []
        log = logging.Logger("tests.server")
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append(json.loads(record.getMessage()))  # type: ignore[method-assign]
        log.addHandler(handler)
        self.models = Models(served) if isinstance(served, Registry) else served
        if isinstance(self.models, Models):
            self.models.load()
        self.app: App = application(
            self.models, limits or Limits(), access or Access.of("127.0.0.1", None, (), ()), log=log, **parts
        )
        if prepared is not None:
            prepared(self.app)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = server_of(self.app, "127.0.0.1", self.port)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self.app.engine.start()
        await self._server.serve()

    def __enter__(self) -> Running:
        self._thread.start()
        until = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self.app.engine.close()

    def send(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, decoded body and headers of a request; a body that is bytes is sent as it is."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, _read(response), {k.lower(): v for k, v in response.headers.items()}
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error), {k.lower(): v for k, v in error.headers.items()}


@contextlib.contextmanager
def serving(registry: Registry, *flags: Any, seconds: float = 60) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run `adapt serve` as a process on a free port, and kill it at the end; its stderr is in a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "adapterkit.cli", "serve", "--registry", registry.path, "--port", port, *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = forked.Popen([*map(str, command)], stderr=log, text=True)
        process.stderr = log
        try:
            until = time.monotonic() + seconds
            while True:
                assert time.monotonic() < until
                if process.poll() is not None:
                    log.seek(0)
                    raise AssertionError(log.read())
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
                    break
                time.sleep(0.1)
            yield process, port
        finally:
            process.kill()
            process.wait()


def _read(response: Any) -> Any:
    data = response.read()
    return json.loads(data) if "json" in response.headers.get("content-type", "") else data.decode()


def folder_of(registry: Registry, name: str) -> Path:
    return registry.folder(*registry.resolve(name))
