"""POST /classify: the route of vLLM for sequence classifiers."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

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


def endpoints() -> list[Endpoint]:
    """Return the routes of this dialect."""
    return [Endpoint("POST", "/classify", classify, Classify, "Classify texts, as vLLM does")]
