"""The routes of openai's client: models, completions, chat completions (streamed too) and embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from ..data.blank import is_blank
from ..errors import unknown
from ..tasks import Task
from .errors import RequestError, error_object, message_of, status_of
from .http import Call, Endpoint, check_count, event, json_response, new_id, now
from .huggingface import generation_options
from .results import Result
from .streaming import Stream
from .target import ServedPool, Target


class Generation(msgspec.Struct, kw_only=True):
    """What completions and chats have in common."""

    model: str
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    n: int | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of generate. Raises `RequestError`, 400, for an invalid one."""
        if self.n not in (None, 1):
            raise RequestError(400, f"n must be 1, got {self.n}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise RequestError(400, f"top_p must be > 0 and <= 1, got {self.top_p}")
        tokens = self.max_completion_tokens or self.max_tokens
        options = {"max_new_tokens": tokens, "temperature": self.temperature}
        if self.temperature:  # without one, texts are generated greedily, as adapters are evaluated
            options["top_p"] = self.top_p
        names = {"max_new_tokens", "temperature", "top_p", "do_sample"}
        return generation_options({k: v for k, v in options.items() if v is not None}, names)

    def stops(self) -> list[str]:
        """Return the texts that end an answer."""
        return [self.stop] if isinstance(self.stop, str) else [text for text in self.stop or () if text]


class Completion(Generation, kw_only=True):
    """Prompts to continue."""

    prompt: str | list[str]


class Chat(Generation, kw_only=True):
    """Messages to answer."""

    messages: list[dict[str, Any]]


class Embeddings(msgspec.Struct):
    """Texts to embed with the base."""

    model: str
    input: str | list[str]
    encoding_format: str = "float"


# ---- models


async def models(call: Call) -> Response:
    """List the adapters with their tasks, and the bases, which embed."""
    return json_response({"object": "list", "data": [_model(call, n, o) for n, o in _names(call)]})


async def model(call: Call) -> Response:
    """Return one model."""
    name, listed = call.request.path_params["name"], dict(_names(call))
    if name not in listed:
        call.engine.models.resolve(name)
    return json_response(_model(call, name, listed.get(name, "adapterkit")))


def _names(call: Call) -> list[tuple[str, str]]:
    served = call.engine.models
    names = {"adapterkit": served.names(), "bundle": served.bundles(), "base": served.bases()}
    return [(name, owner) for owner, owned in names.items() for name in owned]


def _model(call: Call, name: str, owner: str) -> dict[str, Any]:
    task = None if owner in ("base", "bundle") else call.engine.models.entry(name.partition("@")[0])["task"]
    return {"id": name, "object": "model", "created": 0, "owned_by": owner, "task": task}


# ---- generation


async def completions(call: Call) -> Response:
    """Continue prompts."""
    body = call.decoded(Completion)
    target, _ = await _generating(call, body)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    check_count(len(prompts), call.engine.limits.max_rows, "rows")
    about = {"id": new_id("cmpl"), "object": "text_completion", "created": now(), "model": body.model}

    def choice(text: str, reason: str | None, i: int = 0) -> dict[str, Any]:
        return {"index": i, "text": text, "finish_reason": reason, "logprobs": None}

    if body.stream:
        check_count(len(prompts), 1, "prompts of a stream")
        return await _streamed(call, body, target, prompts[0], about, choice, None)
    results = await call.engine.answer([(prompt, target) for prompt in prompts], options=body.options())
    call.count(prompts, results)
    texts = [_text(result, body) for result in results]
    choices = [
        choice(text, _reason(call, result, text, body), i)
        for i, (result, text) in enumerate(zip(results, texts, strict=True))
    ]
    return json_response({**about, "choices": choices, "usage": _usage(call, target, texts)})


async def chat(call: Call) -> Response:
    """Answer a conversation."""
    body = call.decoded(Chat)
    target, task = await _generating(call, body)
    row = _conversation(task, body.messages)
    about = {"id": new_id("chatcmpl"), "created": now(), "model": body.model}
    if body.stream:

        def delta(text: str, reason: str | None) -> dict[str, Any]:
            return {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason, "logprobs": None}

        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}
        return await _streamed(call, body, target, row, {**about, "object": "chat.completion.chunk"}, delta, first)
    results = await call.engine.answer([(row, target)], options=body.options())
    call.count([row], results)
    text = _text(results[0], body)
    message = {"role": "assistant", "content": text, "refusal": None}
    reason = _reason(call, results[0], text, body)
    choices = [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}]
    return json_response(
        {**about, "object": "chat.completion", "choices": choices, "usage": _usage(call, target, [text])}
    )


async def _generating(call: Call, body: Generation) -> tuple[Target, Task]:
    target, task = await call.engine.task(body.model)
    if not task.generates:
        raise RequestError(400, f"adapter '{target.name}' is for {task.name}, which generates no text")
    return target, task


def _conversation(task: Task, messages: list[dict[str, Any]]) -> Any:
    """Return messages as a row: the conversation of a causal model, the last message for an encoder-decoder."""
    if not messages:
        raise RequestError(400, "no messages")
    if task.name == "text-generation":
        return {task.input_columns[0] if len(task.input_columns) == 1 else _prompt_column(task): messages}
    content = messages[-1].get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise RequestError(400, "the content of the last message must be a text")
    return content


def _prompt_column(task: Task) -> str:
    return next(name for name in task.input_columns if name not in task.optional_columns)


def _text(result: Result, body: Generation) -> str:
    return _until(result.answer()["generated_text"], body.stops())


def _until(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first of `stops`."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def _reason(call: Call, result: Result, text: str, body: Generation) -> str:
    most = body.max_completion_tokens or body.max_tokens
    if most is None or len(text) < len(result.answer()["generated_text"]):
        return "stop"
    target = call.engine.models.resolve(result.reference)
    return "length" if _count(target.pool, [text]) >= most else "stop"


def _count(pool: ServedPool, texts: Sequence[str]) -> int:
    """Return the tokens of texts."""
    return pool.count_tokens(texts)


def _usage(call: Call, target: Target, texts: Sequence[str]) -> dict[str, int]:
    generated = _count(target.pool, texts)
    return {
        "prompt_tokens": call.tokens,
        "completion_tokens": generated,
        "total_tokens": call.tokens + generated,
    }


async def _streamed(
    call: Call,
    body: Generation,
    target: Target,
    row: Any,
    about: dict[str, Any],
    choice: Callable[[str, str | None], dict[str, Any]],
    first: dict[str, Any] | None,
) -> Response:
    """Return server-sent events with a piece of the text each, ended by [DONE]."""
    stream, prepared = await call.engine.stream(row, target, body.options())
    call.count([row], [Result(target.reference, "", prepared.tokens)])

    async def events() -> AsyncIterator[bytes]:
        if first is not None:
            yield event({**about, "choices": [first]})
        try:
            async for piece in _pieces(stream, body.stops()):
                yield event({**about, "choices": [choice(piece, None)]})
            yield event({**about, "choices": [choice("", "stop")]})
        except Exception as error:
            yield event(error_object("/v1/", status_of(error), message_of(error)))
        yield b"data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _pieces(stream: Stream, stops: Sequence[str]) -> AsyncIterator[str]:
    """Yield the pieces of a text up to the first of `stops`, and stop its generation there."""
    text = ""
    async for piece in stream:
        if len(_until(text + piece, stops)) < len(text + piece):
            stream.stop()
            if rest := _until(text + piece, stops)[len(text) :]:
                yield rest
            return
        text += piece
        yield piece


# ---- embeddings


async def embeddings(call: Call) -> Response:
    """Return the base's vectors of texts; the model is a base."""
    body = call.decoded(Embeddings)
    texts = [body.input] if isinstance(body.input, str) else body.input
    check_count(len(texts), call.engine.limits.max_rows, "rows")
    bases = call.engine.models.bases()
    if body.model not in bases:
        raise RequestError(404, unknown("base", body.model, bases, known_as="bases embed, and there are"))
    if any(map(is_blank, texts)):
        raise RequestError(422, f"row {next(i for i, t in enumerate(texts, 1) if is_blank(t))}: text is empty")
    if body.encoding_format not in ("float", "base64"):
        raise RequestError(400, f"encoding_format must be float or base64, got {body.encoding_format!r}")
    pool = bases[body.model]
    vectors = await call.engine.embed(pool, texts)
    call.rows, call.tokens = len(texts), _count(pool, texts)
    data = [
        {"object": "embedding", "index": i, "embedding": _packed(v) if body.encoding_format == "base64" else v}
        for i, v in enumerate(vectors)
    ]
    usage = {"prompt_tokens": call.tokens, "total_tokens": call.tokens}
    return json_response({"object": "list", "data": data, "model": body.model, "usage": usage})


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def endpoints() -> list[Endpoint]:
    """Return the routes of this dialect."""
    return [
        Endpoint("GET", "/v1/models", models, None, "List the adapters and bases"),
        Endpoint("GET", "/v1/models/{name}", model, None, "Return an adapter or base"),
        Endpoint("POST", "/v1/completions", completions, Completion, "Continue prompts"),
        Endpoint("POST", "/v1/chat/completions", chat, Chat, "Answer a conversation"),
        Endpoint("POST", "/v1/embeddings", embeddings, Embeddings, "Embed texts with a base"),
    ]
