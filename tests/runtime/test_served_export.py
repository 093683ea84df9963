"""adapt serve --runtime onnx: every route over an export, in a process without torch too."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Adapter, Base
from adapterkit.errors import PoolError
from adapterkit.runtime import OnnxPool
from adapterkit.runtime.prepared import most_new_tokens
from adapterkit.serving.exported import ExportedModels
from adapterkit.serving.limits import Access, Limits
from adapterkit.tasks import TextGeneration
from tests.helpers.adapters import TEXTS
from tests.helpers.cli import Adapt
from tests.helpers.server import Running
from tests.helpers.without_torch import WITHOUT_TORCH
from tests.runtime.conftest import Export

TASK = TextGeneration(text_column_name=("text",), max_new_tokens=9)


@pytest.fixture(scope="module")
def server(export: Export) -> Iterator[Running]:
    access = Access.of("127.0.0.1", None, (), (), admin=True)
    with Running(ExportedModels(export.folder), limits=Limits(threads=2), access=access) as running:
        yield running


def test_answers_of_mixed_requests_equal_the_exports(export: Export, server: Running) -> None:
    texts = [(text, name) for text, name in export.rows if isinstance(text, str)]
    pool = OnnxPool(export.folder)
    wanted = [pool.predict(text, name, all_scores=True) for text, name in texts]

    def sent(row: tuple[str, str]) -> tuple[int, Any, dict[str, str]]:
        return server.send(f"/models/{row[1]}", {"inputs": row[0], "parameters": {}})

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(sent, texts * 2))
    assert len({name for _, name in texts}) >= 8
    for (status, answer, headers), expected, (_, name) in zip(answers, wanted * 2, texts * 2, strict=True):
        assert status == 200, answer
        expected = expected[0] if isinstance(answer, dict) else expected  # of a question, the best span
        assert headers["x-adapter-version"] == f"{name}@{pool.manifest.adapters[name].version}"
        assert numbers(answer) == pytest.approx(numbers(expected), abs=1e-5)
        assert words(answer) == words(expected)


def numbers(value: Any) -> list[float]:
    """Return the numbers of an answer, in their order."""
    if isinstance(value, dict):
        return [n for key in sorted(value) for n in numbers(value[key])]
    if isinstance(value, list):
        return [n for each in value for n in numbers(each)]
    return [value] if isinstance(value, int | float) else []


def words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [n for key in sorted(value) for n in words(value[key])]
    if isinstance(value, list):
        return [n for each in value for n in words(each)]
    return [value] if isinstance(value, str) else []


def test_names_versions_and_what_an_export_lacks(export: Export, server: Running) -> None:
    version = server.models.resolve("classes-lora").reference.partition("@")[2]
    row = {"inputs": TEXTS[0]}
    assert server.send(f"/models/classes-lora@{version[:8]}", row)[0] == 200
    status, error, _ = server.send("/models/classes-lora@0000", row)
    assert (status, f"the export has version {version} of 'classes-lora', expected 0000" in str(error)) == (404, True)
    assert server.send("/models/classes-lora@", row)[0] == 404
    status, error, _ = server.send("/models/classes-lor", row)
    assert (status, "did you mean 'classes-lora'" in str(error)) == (404, True)
    listed = {model["id"]: model for model in server.send("/v1/models")[1]["data"]}
    assert sorted(listed) == sorted(export.adapters)
    assert listed["number-lora"]["task"] == "text-classification"
    assert server.send("/v1/embeddings", {"model": "base", "input": "a"})[0] == 404
    assert server.send("/ready")[1]["generation"] == (export.folder / "export.json").stat().st_mtime_ns
    both = server.send("/v1/annotate", {"adapters": ["classes-lora", "nope"], "text": TEXTS[0]})
    assert both[0] == 200
    assert "no adapter named 'nope'" in json.dumps(both[1])


def test_one_bad_row_fails_alone_and_adapters_are_loaded_and_unloaded(server: Running) -> None:
    status, answers, _ = server.send("/models/classes-lora", {"inputs": [TEXTS[0], "", TEXTS[1]]})
    assert status == 200
    assert ["error" in json.dumps(answer) for answer in answers] == [False, True, False]
    assert server.send("/models/classes-lora", {"inputs": ["", " "]})[1]["error"] == "row 1: text is empty"
    assert server.models.resolve("classes-lora").pool.is_loaded("classes-lora")
    assert server.send("/v1/unload_lora_adapter", {"lora_name": "classes-lora"})[0] == 200
    assert not server.models.resolve("classes-lora").pool.is_loaded("classes-lora")
    assert server.send("/v1/load_lora_adapter", {"lora_name": "classes-lora"})[0] == 200
    assert "adapterkit_adapters_loaded" in server.send("/metrics")[1]


def test_options_of_a_request_are_of_its_rows_alone(export: Export, server: Running) -> None:
    text = next(text for text, name in export.rows if name == "masks-lora")

    def words_of(top_k: int) -> int:
        return len(server.send("/models/masks-lora", {"inputs": text, "parameters": {"top_k": top_k}})[1])

    with ThreadPoolExecutor(8) as clients:
        assert list(clients.map(words_of, [1, 2, 3, 7] * 4)) == [1, 2, 3, 7] * 4


def test_questions_on_one_text_run_each_adapter_once(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = OnnxPool(export.folder)
    rows = pool.prepare_each([(TEXTS[0], name) for name in ("classes-lora", "classes-probe") for _ in range(50)])
    base, counted = pool._base, []

    class Counting:
        def run(self, feeds: Any) -> Any:
            counted.append(len(feeds["input_ids"]))
            return base.run(feeds)

    monkeypatch.setattr(pool, "_base", Counting())
    answers = pool.answer(rows, all_scores=True)
    assert counted == [2]  # with the update, and without
    assert answers[:50] == [answers[0]] * 50
    assert answers[50:] == [answers[50]] * 50
    monkeypatch.undo()
    for answer, name in ((answers[0], "classes-lora"), (answers[50], "classes-probe")):
        assert numbers(answer) == pytest.approx(numbers(pool.predict(TEXTS[0], name, all_scores=True)), abs=1e-6)


def test_texts_are_generated(tmp_path: Path) -> None:
    from adapterkit.convert.onnx_export import write_onnx
    from adapterkit.testing import tiny
    from tests.helpers import random_adapters as made

    pytest.importorskip("onnxscript")
    base = Base.load(str(tiny.make("gpt2", tmp_path / "base", head="AutoModelForCausalLM", num_hidden_layers=2)))
    adapters: dict[str, Adapter] = {"story": made.adapter(base, TASK, "lora", seed=1, std=0.3)}
    write_onnx(base, {name: ("1", adapter) for name, adapter in adapters.items()}, tmp_path / "onnx")
    wanted = OnnxPool(tmp_path / "onnx").predict(TEXTS[0], "story")["generated_text"]
    with Running(ExportedModels(tmp_path / "onnx")) as running:
        body = {"model": "story", "prompt": TEXTS[0]}
        status, answer, _ = running.send("/v1/completions", body)
        assert (status, answer["choices"][0]["text"]) == (200, wanted)
        few = running.send("/v1/completions", {**body, "max_tokens": 2})[1]["choices"][0]["text"]
        assert wanted.startswith(few)
        assert len(few) < len(wanted)
        events = running.send("/v1/completions", {**body, "stream": True})[1]
        assert json.dumps(wanted)[1:-1] in events
        status, error, _ = running.send("/v1/completions", {**body, "temperature": 0.7})
        assert (status, "greedy search" in json.dumps(error)) == (400, True)


def test_options_of_greedy_search() -> None:
    assert most_new_tokens(TASK, {}) == TASK.max_new_tokens
    assert most_new_tokens(TASK, {"max_new_tokens": 3, "do_sample": False, "num_beams": 1}) == 3
    for options in ({"do_sample": True}, {"num_beams": 2}, {"temperature": 0.5}):
        with pytest.raises(PoolError, match=f"which has no {next(iter(options))}"):
            most_new_tokens(TASK, options)


def test_flags_of_torch_are_refused(export: Export, adapt: Adapt) -> None:
    flags = ["serve", "--runtime", "onnx", "--export", export.folder]
    of_torch = [["--base", "x"], ["--base", ""], ["--dtype", "int8"], ["--device", "cpu"], ["--canary", "a=1:10%"]]
    for more in (*of_torch, ["--canary-report", "report.json"], ["--on", "ray"]):
        refused = adapt(*flags, *more)
        assert (refused.exit_code, f"{more[0]} is for --runtime torch" in refused.stderr) == (2, True)
    assert "onnx doesn't exist; adapt export NAME" in adapt("serve", "--runtime", "onnx", "--port", "0").stderr


@contextlib.contextmanager
def process_without_torch(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the server where torch and all that needs it can't be imported; yield it and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", "--runtime", "onnx", "--export", str(folder), "--port", str(port)]
    code = f"{WITHOUT_TORCH}main({words!r})"
    env = {**os.environ, "ADAPT_REGISTRY": str(folder / "none.json")}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=env)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
                break
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def test_a_server_without_torch_and_without_a_registry(export: Export) -> None:
    with process_without_torch(export.folder) as (process, url):
        body = json.dumps({"model": "classes-lora", "input": TEXTS[0]}).encode()
        request = urllib.request.Request(f"{url}/classify", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            probabilities = json.load(response)["data"][0]["probs"]
        wanted = OnnxPool(export.folder).predict(TEXTS[0], "classes-lora", all_scores=True)
        assert sorted(probabilities) == pytest.approx(sorted(c["score"] for c in wanted), abs=1e-6)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert f"{len(export.adapters)} adapters of" in process.stderr.read()
