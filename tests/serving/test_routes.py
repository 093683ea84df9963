"""Every route answers with the pool's own values, in the shape of its dialect, and errors in its object."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import re
import struct
import urllib.request
from typing import Any

import pytest

from adapterkit.pool import Pool
from tests.helpers import tolerance
from tests.helpers.pooled import same
from tests.helpers.server import ROWS, Running

TEXT = "a fine film"


def pool_of(server: Running, name: str) -> Pool:
    return server.models.resolve(name).pool


@pytest.mark.parametrize("name", ROWS)
def test_an_answer_is_the_pools(server: Running, name: str) -> None:
    status, answer, headers = server.send(f"/models/{name}", {"inputs": ROWS[name]})
    assert status == 200, answer
    assert (status, headers["x-adapter-version"]) == (200, server.models.resolve(name).reference)
    pool = pool_of(server, name)
    if pool.task(name).generates:
        assert answer[0]["generated_text"] == pool.predict(ROWS[name], name)["generated_text"]
        return
    expected = pool.predict(ROWS[name], name, all_scores=True)
    labels = pool.task(name).name == "text-classification"
    same(answer, expected[0] if name == "questions" else [expected] if labels else expected)


def test_rows_of_a_list_fail_by_themselves(server: Running) -> None:
    status, answers, _ = server.send("/models/mood", {"inputs": [TEXT, "", {"a": 1}, TEXT], "parameters": {"top_k": 1}})
    assert status == 200
    same(answers[0], pool_of(server, "mood").predict(TEXT, "mood", all_scores=True)[:1])
    assert answers[0] == answers[3]
    assert [answer["status"] for answer in answers[1:3]] == [422, 422]
    assert "empty" in answers[1]["error"]
    status, error, _ = server.send("/models/mood", {"inputs": ["", " "]})
    assert (status, error["error"][:6]) == (422, "row 1:")


ERRORS: list[tuple[str, Any, int, str]] = [
    ("/models/moody", {"inputs": TEXT}, 404, "did you mean 'mood'"),
    ("/models/mood@nope", {"inputs": TEXT}, 404, "nope"),
    ("/models/..%2f..%2fetc", {"inputs": TEXT}, 404, "no route|no adapter"),
    ("/models/mood", b"{", 400, "invalid"),
    ("/models/mood", b"\xff", 400, "invalid"),
    ("/models/mood", {}, 400, "inputs"),
    ("/models/mood", b" ", 400, "body is empty"),
    ("/models/mood", b'\xef\xbb\xbf{"inputs": ""}', 422, "empty"),
    ("/models/" + "a" * 9000, {"inputs": TEXT}, 404, "^.{200,600}$"),
    ("/health", {}, 405, "no route POST /health; this path takes GET, HEAD; "),
    ("/models/mood", None, 405, "no route GET /models/mood; this path takes POST; "),
    ("/v1/completions", None, 405, "this path takes POST; "),
    ("/models/mood", {"inputs": []}, 400, "no rows"),
    ("/models/mood", {"inputs": ["a"] * 257}, 413, "at most 256"),
    ("/models/mood", b'{"inputs": "' + b"a" * 1_000_001 + b'"}', 413, "bytes"),
    ("/models/mood", {"inputs": {"question": "a"}}, 422, "has no 'text'"),
    ("/models/mood", {"inputs": TEXT, "parameters": {"top_k": 0}}, 400, "top_k"),
    ("/models/mood", {"inputs": TEXT, "parameters": {"nonsense": 1}}, 400, "nonsense"),
    ("/models/masks", {"inputs": "no mask here"}, 422, "the word to predict"),
    ("/models/story", {"inputs": TEXT, "parameters": {"max_new_tokens": 99999}}, 400, "max_new_tokens"),
    ("/v1/completions", {"model": "mood", "prompt": TEXT}, 400, "generates no text"),
    ("/v1/completions", {"model": "story", "prompt": TEXT, "temperature": -1}, 400, "temperature"),
    ("/v1/chat/completions", {"model": "story", "messages": []}, 400, "no messages"),
    ("/v1/chat/completions", {"model": "story", "messages": [{"a": 1}]}, 422, "messages"),
    ("/v1/embeddings", {"model": "nobody", "input": TEXT}, 404, "nobody"),
    ("/v1/decisions", {"model": "moody", "input": TEXT, "questions": [{"type": "predicate"}]}, 404, "moody"),
    ("/v1/decisions", {"model": "mood", "input": TEXT, "questions": [{"type": "predicate"}] * 401}, 413, "at most 400"),
    ("/classify", {"model": "entities", "input": TEXT}, 400, "token-classification"),
    ("/nowhere", {}, 404, "no route"),
    ("/v1/nowhere", {}, 404, "no route"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"), ERRORS, ids=[f"{e[0]}-{e[2]}-{i}" for i, e in enumerate(ERRORS)]
)
def test_an_error_is_the_dialects_object(server: Running, path: str, body: Any, status: int, text: str) -> None:
    code, error, headers = server.send(path, body, {"x-request-id": "mine"})
    message = error["error"]["message"] if path.startswith("/v1") or path == "/classify" else error["error"]
    assert (code, bool(re.search(text, message))) == (status, True), (code, message)
    assert headers["x-request-id"] == "mine"
    assert (headers.get("allow", "") in message, "allow" in headers) == (True, status == 405)


def test_decisions(server: Running) -> None:
    scores = {c["label"]: c["score"] for c in pool_of(server, "mood").predict(TEXT, "mood", all_scores=True)}
    questions: list[dict[str, Any]] = [
        {"type": "predicate", "instructions": "", "name": "mood/l0"},
        {"type": "choice", "instructions": "", "name": "mood", "choices": [{"value": "l0"}, {"value": "l2"}]},
        {"type": "score", "instructions": "", "name": "mood", "levels": [{"label": f"l{i}"} for i in range(3)]},
        {"type": "predicate", "instructions": "", "name": "tags/l1"},
        {"type": "predicate", "instructions": "", "name": "l1"},
        {"type": "predicate", "instructions": "", "name": "nobody/l1"},
        {"type": "choice", "instructions": "", "name": "mood", "choices": [{"value": "l0"}, {"value": "other"}]},
        {"type": "predicate", "instructions": "", "name": "entities"},
    ]
    status, decision, _ = server.send("/v1/decisions", {"model": "mood", "input": TEXT, "questions": questions})
    assert status == 200
    answers = decision["answers"]
    assert [a["type"] for a in answers] == [
        *("predicate", "choice", "score", "predicate", "predicate", "refusal", "refusal", "refusal")
    ]
    assert answers[0]["probability"] == pytest.approx(scores["l0"], abs=tolerance.TINY)
    pair = {p["value"]: p["probability"] for p in answers[1]["probabilities"]}
    assert pair == pytest.approx(
        {k: scores[k] / (scores["l0"] + scores["l2"]) for k in ("l0", "l2")}, abs=tolerance.TINY
    )
    assert answers[2]["score"] == pytest.approx(scores["l1"] + 2 * scores["l2"], abs=tolerance.TINY)
    assert answers[4]["probability"] == pytest.approx(scores["l1"], abs=tolerance.TINY)
    assert decision["usage"]["total_tokens"] == len(pool_of(server, "mood").prepare(TEXT, "mood").items[0][0][0])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/annotate", {"text": "fine", "all_score": True}),
        ("/v1/feedback", {"id": "a", "label": "positive", "rows": 1}),
    ],
)
def test_a_mistyped_field_of_our_routes_is_refused(server: Running, path: str, body: dict[str, Any]) -> None:
    status, result, _ = server.send(path, body)
    assert status == 400
    assert f"`{list(body)[-1]}`" in result["error"]["message"], result


def test_many_adapters_annotate_one_text(server: Running) -> None:
    names = ["mood", "tags", "stars", "entities", "nobody", "questions"]
    status, result, _ = server.send("/v1/annotate", {"text": TEXT, "adapters": names})
    assert status == 200
    for name in names[:4]:
        same(result["answers"][name], pool_of(server, name).predict(TEXT, name))
        assert result["versions"][name] == server.models.resolve(name).reference.partition("@")[2]
    assert [result["answers"][name]["status"] for name in names[4:]] == [404, 422]


def test_classify_is_vllms(server: Running) -> None:
    status, result, _ = server.send("/classify", {"model": "mood", "input": [TEXT, ""]})
    assert status == 200
    scores = {c["label"]: c["score"] for c in pool_of(server, "mood").predict(TEXT, "mood", all_scores=True)}
    first, second = result["data"]
    assert first["probs"] == pytest.approx([scores["l0"], scores["l1"], scores["l2"]], abs=tolerance.TINY)
    assert (first["label"], first["num_classes"]) == (max(scores, key=scores.__getitem__), 3)
    assert second["error"]["code"] == 422


def test_generation_streamed_is_generation_at_once(server: Running) -> None:
    for model in ("story", "short"):
        body = {"model": model, "prompt": ROWS[model], "max_tokens": 5}
        _, whole, _ = server.send("/v1/completions", body)
        data = json.dumps({**body, "stream": True}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}/v1/completions", data)) as response:
            events = [line[6:] for line in response.read().decode().splitlines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        pieces = [json.loads(event)["choices"][0]["text"] for event in events[:-1]]
        assert "".join(pieces).strip() == whole["choices"][0]["text"]
        assert json.loads(events[-2])["choices"][0]["finish_reason"] == "stop"


def test_embeddings_are_the_bases(server: Running) -> None:
    pool = pool_of(server, "mood")
    _, listed, _ = server.send("/v1/models")
    assert {m["id"] for m in listed["data"]} >= {*ROWS, pool.base.name}
    body = {"model": pool.base.name, "input": [TEXT, "so so"]}
    _, result, _ = server.send("/v1/embeddings", {**body, "encoding_format": "base64"})
    vectors = [struct.unpack("<32f", base64.b64decode(e["embedding"])) for e in result["data"]]
    for vector, expected in zip(vectors, pool.embed(body["input"]).tolist(), strict=True):
        assert list(vector) == pytest.approx(expected, abs=tolerance.TINY)


def test_64_clients_that_mix_routes_get_the_pools_answers(server: Running) -> None:
    names = ["mood", "tags", "stars", "pair", "entities", "questions", "choices", "masks"]
    alone = {name: server.send(f"/models/{name}", {"inputs": ROWS[name]})[1] for name in names}
    _, annotated, _ = server.send("/v1/annotate", {"text": TEXT, "adapters": ["mood", "tags"]})

    def ask(i: int) -> None:
        if i % 9 == 8:
            same(server.send("/v1/annotate", {"text": TEXT, "adapters": ["mood", "tags"]})[1], annotated)
        else:
            status, answer, headers = server.send(f"/models/{names[i % 9]}", {"inputs": ROWS[names[i % 9]]})
            assert status == 200
            assert headers["x-adapter-version"].startswith(f"{names[i % 9]}@")
            same(answer, alone[names[i % 9]])

    with concurrent.futures.ThreadPoolExecutor(64) as clients:
        list(clients.map(ask, range(450)))


def test_the_server_describes_itself(server: Running) -> None:
    assert server.send("/health")[1] == {"status": "ok"}
    status, ready, _ = server.send("/ready")
    assert (status, server.send(f"/ready?generation={ready['generation']}")[0]) == (200, 200)
    _, schema, _ = server.send("/openapi.json")
    assert set(schema["paths"]) >= {"/models/{name}", "/v1/decisions", "/classify", "/v1/annotate", "/metrics"}
    assert "Inputs" in schema["components"]["schemas"]
    assert server.send("/models/mood", {"inputs": ROWS["mood"]})[0] == 200
    text = server.send("/metrics")[1]
    assert 'adapterkit_requests_total{route="/models/{name}",status="200"}' in text
    assert "<title>" in server.send("/")[1]
    assert {"id", "status", "ms", "adapters", "rows", "tokens"} <= set(server.lines[-1])
