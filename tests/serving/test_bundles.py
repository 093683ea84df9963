"""Bundles as models of requests, and the routes of vLLM that load adapters and remove them from memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Base, Registry
from adapterkit.errors import RegistryError
from adapterkit.serving.limits import Access
from adapterkit.store.bundles import bundles, put_bundle
from tests.helpers import random_adapters as made
from tests.helpers import tolerance
from tests.helpers.adapters import classes
from tests.helpers.pooled import add
from tests.helpers.server import Running

TEXT = "a fine film"


@pytest.fixture
def three(tmp_path: Path, tiny_base: Base) -> Registry:
    registry = Registry(tmp_path / "registry.json")
    for i in range(3):
        add(registry, f"a{i}", made.adapter(tiny_base, classes(2 + i), "lora", seed=i))
    registry.tag("a1", "stable")
    return registry


def test_a_bundle_is_a_model(three: Registry, adapt: Callable[..., Any]) -> None:
    first = three.resolve("a1")[1]
    result = adapt("bundle", "triage", "a0", "a1@stable", "a2", "--registry", three.path)
    assert (result.exit_code, result.output) == (0, "triage: a0, a1@stable, a2\n")
    questions = [
        {"type": "predicate", "name": "a0/l1"},
        {"type": "choice", "name": "a1", "choices": [{"value": "l0"}, {"value": "l1"}, {"value": "l2"}]},
        {"type": "choice", "choices": [{"value": "l2"}, {"value": "l3"}]},
        {"type": "predicate", "name": "l3"},
        {"type": "predicate", "name": "l0"},
        {"type": "predicate", "name": "a7/l0"},
    ]
    with Running(three) as server:
        alone = {n: server.send(f"/models/{n}", {"inputs": TEXT})[1][0] for n in ("a0", "a1", "a2")}
        scores = {n: {c["label"]: c["score"] for c in answer} for n, answer in alone.items()}
        body = {"model": "triage", "input": TEXT, "questions": questions}
        status, decision, headers = server.send("/v1/decisions", body)
        assert status == 200, decision
        answers = decision["answers"]
        assert [a["type"] for a in answers] == ["predicate", "choice", "choice", "predicate", "refusal", "refusal"]
        assert answers[0]["probability"] == pytest.approx(scores["a0"]["l1"], abs=tolerance.TINY)
        assert answers[1]["probabilities"][2]["probability"] == pytest.approx(scores["a1"]["l2"], abs=tolerance.TINY)
        assert answers[3]["probability"] == pytest.approx(scores["a2"]["l3"], abs=tolerance.TINY)
        assert f"a1@{first}" in headers["x-adapter-version"].split(",")
        _, annotated, _ = server.send("/v1/annotate", {"text": TEXT, "model": "triage"})
        assert list(annotated["answers"]) == ["a0", "a1@stable", "a2"]
        assert annotated["answers"]["a2"]["label"] == max(scores["a2"], key=scores["a2"].__getitem__)
        _, mixed, _ = server.send("/v1/annotate", {"text": TEXT, "adapters": ["a2", "triage"]})
        assert list(mixed["answers"]) == ["a2", "a0", "a1@stable"]
        assert ("triage", "bundle") in [(m["id"], m["owned_by"]) for m in server.send("/v1/models")[1]["data"]]
        put_bundle(three, "triage", ["a0"])  # and takes effect with the next request
        assert list(server.send("/v1/annotate", {"text": TEXT, "model": "triage"})[1]["answers"]) == ["a0"]
        put_bundle(three, "triage", [])
        assert server.send("/v1/annotate", {"text": TEXT, "model": "triage"})[1]["answers"]["triage"]["status"] == 404


def test_bundles_survive_changes_and_a_rebuild(three: Registry) -> None:
    before = three.path.read_bytes()
    put_bundle(three, "triage", ["a2", "a0"])
    three.tag("a0", "best")
    three.rebuild()
    assert bundles(three) == {"triage": ["a2", "a0"]}
    assert b'"schema_version": "1.1"' in three.path.read_bytes()
    three.untag("a0", "best")
    put_bundle(three, "triage", [])
    assert bundles(three) == {}
    assert three.path.read_bytes().replace(b'"1.1"', b'"1.0"') == before


@pytest.mark.parametrize(
    ("name", "adapters", "reason"),
    [
        ("triage", ["a9"], "no adapter named 'a9'"),
        ("triage", ["a1@nope"], "nope"),
        ("a1", ["a0"], "is an adapter"),
        ("../x", ["a0"], "no adapter's name"),
        ("nobody", [], "no bundle named 'nobody'"),
        ("triage", ["a0"] * 401, "at most 400"),
    ],
)
def test_bundles_that_are_refused(three: Registry, name: str, adapters: list[str], reason: str) -> None:
    before = three.path.read_bytes()
    with pytest.raises(RegistryError, match=reason):
        put_bundle(three, name, adapters)
    assert three.path.read_bytes() == before


def test_adapters_are_loaded_and_removed_from_memory_by_admins_alone(three: Registry) -> None:
    load, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
    with Running(three) as server:
        assert server.send(load, {"lora_name": "a0", "lora_path": "a0"})[0] == 404
    with Running(three, access=Access.of("127.0.0.1", None, (), (), admin=True)) as server:
        pool = server.models.resolve("a0").pool
        status, text, _ = server.send(load, {"lora_name": "a0", "lora_path": "a0"})
        assert (status, text) == (200, "Success: LoRA adapter 'a0' added successfully.")
        assert pool.is_loaded("a0")
        status, error, _ = server.send(load, {"lora_name": "a1", "lora_path": "/etc/passwd"})
        assert (status, "from the registry alone" in error["error"]["message"]) == (400, True)
        assert not pool.is_loaded("a1")
        assert server.send(load, {"lora_name": "a9", "lora_path": "a9"})[0] == 404
        assert server.send(load, {"lora_path": "a9"})[0] == 400
        assert server.send(unload, {"lora_name": "a0"})[0] == 200
        assert not pool.is_loaded("a0")
        assert server.send(unload, {"lora_name": "a0"})[0] == 404
        assert server.send("/models/a0", {"inputs": TEXT})[0] == 200
