"""POST /classify: the route of vLLM for sequence classifiers."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import PlainTextResponse, Response

from ..errors import AdapterkitError
from .errors import RequestError, message_of, status_of
from .http import Call, Endpoint, check_count, json_response, new_id, now


class Classify(msgspec.Struct):
    """A text or several, and the adapter that classifies them."""

    model: str
    input: str | list[str]


async def classify(call: Call) -> Response:
    """Return the probability of each label, in the order of the labels."""
    body = call.decoded(Classify)
    texts = [body.input] if isinstance(body.input, str) else body.input
    check_count(len(texts), call.engine.limits.max_rows, "rows")
    target, task = await call.engine.task(body.model)
    labels = list(getattr(task, "labels", ()))
    if task.name != "text-classification" or not labels:
        raise RequestError(400, f"adapter '{target.name}' is for {task.name}, and /classify is for labels")
    results = await call.engine.answer([(text, target) for text in texts], all_scores=True)
    call.count(texts, results)
    data: list[dict[str, Any]] = []
    for i, result in enumerate(results):
        if (error := result.error) is not None:
            if len(texts) == 1:
                raise RequestError(status_of(error), message_of(error))
            data.append({"index": i, "error": {"message": message_of(error), "code": status_of(error)}})
            continue
        scores = {candidate["label"]: candidate["score"] for candidate in result.value}
        best = result.value[0]["label"]
        data.append({"index": i, "label": best, "probs": [scores[x] for x in labels], "num_classes": len(labels)})
    usage = {"prompt_tokens": call.tokens, "total_tokens": call.tokens, "completion_tokens": 0}
    usage["prompt_tokens_details"] = None  # type: ignore[assignment]
    about = {"id": new_id("classify"), "object": "list", "created": now(), "model": body.model}
    return json_response({**about, "data": data, "usage": usage})


class LoadAdapter(msgspec.Struct):
    """A registered adapter to load; `lora_path` may name it again, and is never a path."""

    lora_name: str
    lora_path: str | None = None
    load_inplace: bool = False


class UnloadAdapter(msgspec.Struct):
    """An adapter to remove from memory, until the next request for it."""

    lora_name: str
    lora_int_id: int | None = None


async def load_adapter(call: Call) -> Response:
    """Load a registered adapter before its first request."""
    body = call.decoded(LoadAdapter)
    target = call.engine.models.resolve(body.lora_name)
    if body.lora_path and body.lora_path not in (body.lora_name, target.name, target.reference):
        raise RequestError(
            400, f"lora_path must be empty or '{target.name}': adapters are loaded from the registry alone"
        )
    loaded = (await call.engine.targets([body.lora_name]))[body.lora_name]
    if isinstance(loaded, AdapterkitError):
        raise loaded
    call.versions[loaded.reference] = None
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


async def unload_adapter(call: Call) -> Response:
    """Remove an adapter from memory; requests in progress are answered."""
    body = call.decoded(UnloadAdapter)
    target = call.engine.models.resolve(body.lora_name)
    if not target.pool.is_loaded(target.reference):
        raise RequestError(404, f"adapter '{body.lora_name}' isn't loaded")
    target.pool.unload(target.reference)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


def endpoints() -> list[Endpoint]:
    """Return the routes of this dialect."""
    return [Endpoint("POST", "/classify", classify, Classify, "Classify texts, as vLLM does", classifies=True)]


def admin_endpoints() -> list[Endpoint]:
    """Return the routes that change what is in memory, for a server with --admin."""
    return [
        Endpoint("POST", "/v1/load_lora_adapter", load_adapter, LoadAdapter, "Load a registered adapter"),
        Endpoint("POST", "/v1/unload_lora_adapter", unload_adapter, UnloadAdapter, "Remove an adapter from memory"),
    ]
