"""POST /v1/annotate: many adapters on one text, which share the computation of its trunk."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from .errors import message_of, status_of
from .http import Call, Endpoint, check_count, json_response


class Annotate(msgspec.Struct, forbid_unknown_fields=True):
    """A text, or an object of columns, and the adapters or bundles that answer it; by default all adapters."""

    text: str | dict[str, Any]
    adapters: list[str] | None = None
    model: str | None = None
    all_scores: bool = False


async def annotate(call: Call) -> Response:
    """Return the answer of each adapter, or its error."""
    body = call.decoded(Annotate)
    models, named = call.engine.models, [*(body.adapters or ()), *([body.model] if body.model else ())]
    unnamed = body.adapters is None and body.model is None
    names = list(dict.fromkeys(models.names() if unnamed else [x for name in named for x in models.members(name)]))
    check_count(len(names), call.engine.limits.max_questions, "adapters")
    targets = await call.engine.targets(names)
    results = await call.engine.answer([(body.text, targets[name]) for name in names], all_scores=body.all_scores)
    call.count([body.text] * len(names), results)
    answers = {
        name: {"error": message_of(r.error), "status": status_of(r.error)} if r.error is not None else r.value
        for name, r in zip(names, results, strict=True)
    }
    versions = {name: r.reference.partition("@")[2] for name, r in zip(names, results, strict=True) if r.reference}
    return json_response({"answers": answers, "versions": versions})


def endpoints() -> list[Endpoint]:
    """Return the routes of this dialect."""
    return [Endpoint("POST", "/v1/annotate", annotate, Annotate, "Answer one text with many adapters", classifies=True)]
