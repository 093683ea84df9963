"""POST /v1/decisions: predicates, choices and scores about one text, as openai's client.decisions.create sends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from ..errors import AdapterkitError
from .errors import RequestError
from .http import Call, Endpoint, check_count, json_response
from .results import Result
from .target import Target

_YES = ("true", "yes", "1", "positive", "label_1")


class Choice(msgspec.Struct):
    """A label that may be chosen."""

    value: str | bool
    description: str | None = None


class Level(msgspec.Struct):
    """A level of a score; levels are ordered from 0."""

    label: str
    description: str | None = None


class Question(msgspec.Struct):
    """A question; its name is ADAPTER, ADAPTER/LABEL, or a label of the request's model."""

    type: Literal["predicate", "choice", "score"]
    instructions: Any = ""
    name: str | None = None
    choices: list[Choice] = []
    levels: list[Level] = []


class Decide(msgspec.Struct):
    """An input, a text or messages, and 1 to 400 questions about it; the model is an adapter or a bundle."""

    model: str
    input: str | list[dict[str, Any]]
    questions: list[Question]


async def decide(call: Call) -> Response:
    """Answer each question with a probability for every allowed answer, or a refusal."""
    body = call.decoded(Decide)
    check_count(len(body.questions), call.engine.limits.max_questions, "questions")
    text = _text(body.input)
    adapters, targets = await _targets(call, body)
    names = list(dict.fromkeys(adapters))
    results = await call.engine.answer([(text, targets[name]) for name in names], all_scores=True)
    call.count([text] * len(names), results)
    by_name = dict(zip(names, results, strict=True))
    answers = [_answer(q, by_name[name]) for q, name in zip(body.questions, adapters, strict=True)]
    read = max((result.tokens for result in results), default=0)
    usage = {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read,
    }
    return json_response({"answers": answers, "model": body.model, "usage": usage})


async def _targets(call: Call, body: Decide) -> tuple[list[str], dict[str, Target | AdapterkitError]]:
    """Return the adapter of each question, and the version that each of them means."""
    models = call.engine.models
    if body.model in models.bundles():
        members = list(models.members(body.model))
        targets = await call.engine.targets(members)
        adapters = [_member(question, targets) for question in body.questions]
        outside = RequestError(404, f"no adapter of bundle '{body.model}' answers this")
        return adapters, {"": outside, **targets}
    bases = models.bases()
    adapters = [_adapter(question, body.model) for question in body.questions]
    targets = await call.engine.targets([*adapters, *([] if body.model in bases else [body.model])])
    if body.model not in bases and isinstance(error := targets[body.model], AdapterkitError):
        raise error
    for question, name in zip(body.questions, adapters, strict=True):
        label = question.name is not None and "/" not in question.name
        if isinstance(targets[name], AdapterkitError) and label and body.model not in bases:
            targets[name] = targets[body.model]  # the name is a label of the model, or of the caller
    return adapters, targets


def _member(question: Question, targets: Mapping[str, Target | AdapterkitError]) -> str:
    """Return the adapter of a bundle that a question names, or that alone has its labels; empty where none does."""
    name = question.name or ""
    for member in targets:
        if name.partition("/")[0] in (member, member.partition("@")[0]):
            return member
    allowed = {str(c.value) for c in question.choices} | {level.label for level in question.levels} or {name}
    having = [
        member
        for member, target in targets.items()
        if isinstance(target, Target) and allowed <= set(getattr(target.pool.task(target.reference), "labels", ()))
    ]
    return having[0] if len(having) == 1 and "/" not in name else ""


def _adapter(question: Question, model: str) -> str:
    return (question.name or "").partition("/")[0] or model


def _text(value: str | list[dict[str, Any]]) -> str:
    """Return a text, or the texts of messages, a line each. Raises `RequestError`, 400, for images and other parts."""
    if isinstance(value, str):
        return value
    texts: list[str] = []
    for message in value:
        content = message.get("content", message.get("output"))
        for part in content if isinstance(content, list) else [content]:
            text = part.get("text") if isinstance(part, Mapping) else part
            if not isinstance(text, str):
                raise RequestError(400, "an input message must have a text as its content")
            texts.append(text)
    return "\n".join(texts)


def _answer(question: Question, result: Result) -> dict[str, Any]:
    """Return the answer to a question from the scores of its adapter's labels."""
    if result.error is not None or not all("label" in c and "score" in c for c in result.value):
        return _refusal(question)
    scores = {str(c["label"]): float(c["score"]) for c in result.value}
    if question.type == "predicate":
        return _predicate(question, scores)
    if question.type == "choice":
        return _choice(question, scores)
    return _score(question, scores)


def _refusal(question: Question) -> dict[str, Any]:
    return {"type": "refusal", "name": question.name}


def _predicate(question: Question, scores: Mapping[str, float]) -> dict[str, Any]:
    name = question.name or ""
    label = name.partition("/")[2] or name
    if label not in scores:
        label = next((x for x in scores if len(scores) == 2 and x.lower() in _YES), "") if "/" not in name else ""
    if not label:
        return _refusal(question)
    return {"type": "predicate", "name": question.name, "probability": scores[label]}


def _choice(question: Question, scores: Mapping[str, float]) -> dict[str, Any]:
    labels = [str(c.value).lower() if isinstance(c.value, bool) else c.value for c in question.choices]
    by_lower = {label.lower(): p for label, p in scores.items()}
    shares = _shares([scores.get(label, by_lower.get(label.lower())) for label in labels])
    if len(labels) < 2 or shares is None:
        return _refusal(question)
    best = max(range(len(shares)), key=shares.__getitem__)
    return {
        "type": "choice",
        "name": question.name,
        "choice": question.choices[best].value,
        "confidence": shares[best],
        "probabilities": [
            {"value": choice.value, "probability": p} for choice, p in zip(question.choices, shares, strict=True)
        ],
    }


def _score(question: Question, scores: Mapping[str, float]) -> dict[str, Any]:
    shares = _shares([scores.get(level.label) for level in question.levels])
    if not question.levels or shares is None:
        return _refusal(question)
    levels = enumerate(zip(question.levels, shares, strict=True))
    return {
        "type": "score",
        "name": question.name,
        "score": sum(i * p for i, p in enumerate(shares)),
        "confidence": max(shares),
        "probabilities": [{"label": level.label, "value": i, "probability": p} for i, (level, p) in levels],
    }


def _shares(scores: Sequence[float | None]) -> list[float] | None:
    """Return scores that sum to 1, or None where an answer isn't one of the adapter's labels."""
    values = [score for score in scores if score is not None]
    total = sum(values)
    return [value / total for value in values] if len(values) == len(scores) and total > 0 else None


def endpoints() -> list[Endpoint]:
    """Return the routes of this dialect."""
    summary = "Answer questions on one text, as openai's decisions"
    return [Endpoint("POST", "/v1/decisions", decide, Decide, summary, classifies=True)]
