"""POST /v1/feedback: labels of rows that were answered, for the log that a run trains on and for canaries."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from .errors import RequestError
from .http import Call, Endpoint, json_response
from .outcomes import checked, outcome, training_row


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """The right label of a row: the request's x-request-id, the row's number from 0, and its adapter where several."""

    id: str
    label: Any
    row: int = 0
    adapter: str | None = None


async def feed_back(call: Call) -> Response:
    """Count a label for the canary of its adapter, and log its row for the next run."""
    body = call.decoded(Feedback)
    engine = call.engine
    answered = engine.recent.answered(body.id, body.row, body.adapter)
    if answered.labelled:
        raise RequestError(409, "this row has its label already")
    task = answered.result.task
    assert task is not None  # of every answered row
    label = checked(task, body.label)
    answered.labelled = True
    right = outcome(task, answered.result.value) == label
    engine.metrics.feedback.labels(answered.name, "right" if right else "wrong").inc()
    engine.label_canary(answered.result, label)
    if engine.request_log is not None:
        about = {"id": body.id, "adapter": answered.result.reference}
        engine.request_log.write_feedback(answered.name, about, training_row(task, answered.row, label))
    return json_response({"id": body.id, "adapter": answered.result.reference, "right": right})


async def canary(call: Call) -> Response:
    """Return the comparison of each canary."""
    return json_response(call.engine.canaries.report())


def endpoints() -> list[Endpoint]:
    """Return the routes of feedback and canaries."""
    return [
        Endpoint("POST", "/v1/feedback", feed_back, Feedback, "Send the right label of a row that was answered"),
        Endpoint("GET", "/v1/canary", canary, None, "How candidates compare with current versions"),
    ]
