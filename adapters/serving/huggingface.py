"""POST /models/{name}: the request and response shapes of huggingface_hub's InferenceClient, by the adapter's task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from ..tasks import Task
from .errors import RequestError, message_of, status_of
from .http import Call, Endpoint, check_count, event, json_response
from .results import Result
from .target import Target

_IGNORED = {"options", "clean_up_tokenization_spaces", "truncation", "align_to_words", "return_text", "return_tensors"}
_IGNORED |= {"details", "decoder_input_details", "watermark", "doc_stride", "max_seq_len", "max_question_len", "stride"}
_GENERATION = {"max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams"}
_GENERATION |= {"typical_p", "min_new_tokens", "length_penalty", "no_repeat_ngram_size", "early_stopping"}


class Inputs(msgspec.Struct):
    """A row, a text or an object of columns, or a list of rows; and the parameters of the task."""

    inputs: Any
    parameters: dict[str, Any] = {}
    stream: bool | None = None


async def infer(call: Call) -> Response:
    """Answer one row or a list of rows with one adapter."""
    body = call.decoded(Inputs)
    target, task = await call.engine.task(call.request.path_params["name"])
    parameters = {k: v for k, v in body.parameters.items() if v is not None and k not in _IGNORED}
    options, top_k, full_text = _options(task, parameters)
    rows = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    check_count(len(rows), call.engine.limits.max_rows, "rows")
    if body.stream and task.generates:
        check_count(len(rows), 1, "rows of a stream")
        return await _streamed(call, target, rows[0], options, full_text)
    pairs: list[Any] = [(_row(task, row), target) for row in rows]
    results = await call.engine.answer(pairs, all_scores=not task.generates, options=options)
    call.count(rows, results)
    failed = [(i, r.error) for i, r in enumerate(results, 1) if r.error is not None]
    if failed and len(failed) == len(results):
        number, error = failed[0]
        message = message_of(error)
        if len(rows) > 1:
            of_row = message.removeprefix("row 1")  # each was read alone
            message = f"row {number}: {message}" if of_row == message else f"row {number}{of_row}"
        raise RequestError(status_of(error), message)
    answers = [
        {"error": message_of(r.error), "status": status_of(r.error)}
        if r.error is not None
        else _answer(task, row, r.value, top_k, full_text)
        for row, r in zip(rows, results, strict=True)
    ]
    if isinstance(body.inputs, list):
        return json_response(answers)
    nested = task.name == "text-classification" or task.generates
    return json_response(answers if nested else answers[0])


async def _streamed(call: Call, target: Target, row: Any, options: dict[str, Any], full_text: bool) -> Response:
    """Return server-sent events as text-generation-inference sends them; a piece of the text is called a token."""
    stream, prepared = await call.engine.stream(row, target, options)
    call.count([row], [Result(target.reference, {"generated_text": ""}, prepared.tokens)])

    async def events() -> AsyncIterator[bytes]:
        index, text, last = 0, "", ""
        try:
            async for piece in stream:
                if last:
                    yield event(_token(index, last))
                    index += 1
                text, last = text + piece, piece
            generated = f"{row}{text}" if full_text and isinstance(row, str) else text
            yield event({**_token(index, last), "generated_text": generated})
        except Exception as error:
            yield event({"error": message_of(error), "error_type": "generation"})

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _token(index: int, text: str) -> dict[str, Any]:
    token = {"id": 0, "text": text, "logprob": 0.0, "special": False}
    return {"index": index, "token": token, "generated_text": None, "details": None}


def _row(task: Task, row: Any) -> Any:
    """Return a row with the task's columns: question and context, and sequences of pairs, have names of their own."""
    if not isinstance(row, Mapping):
        return row
    columns = task.input_columns
    usual = {"question-answering": ("question", "context"), "text-classification": ("text", "text_pair")}
    names = usual.get(task.name, ())
    if set(row) == set(names[: len(columns)]) and not set(row) <= set(columns):
        return dict(zip(columns, (row[name] for name in names), strict=False))
    return row


def _options(task: Task, parameters: dict[str, Any]) -> tuple[dict[str, Any], int | None, bool]:
    """Return the options of the task, how many answers to return, and whether a text is returned with its prompt."""
    top_k = parameters.pop("top_k", None) if not task.generates else None
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or not 1 <= top_k <= 1000):
        raise RequestError(400, f"top_k must be an integer from 1 to 1000, got {top_k!r}")
    if task.generates:
        full_text = bool(parameters.pop("return_full_text", False))
        nested = parameters.pop("generate_parameters", None) or {}
        for name in ("src_lang", "tgt_lang", "seed"):
            parameters.pop(name, None)
        return generation_options({**parameters, **nested}, _GENERATION), None, full_text
    if "max_answer_len" in parameters and task.name == "question-answering":
        parameters["max_answer_length"] = parameters.pop("max_answer_len")
    options = {"top_k": top_k} if task.name == "fill-mask" and top_k else {}
    parameters.pop("handle_impossible_answer", None)
    if task.name == "token-classification":
        strategy = parameters.pop("aggregation_strategy", "simple")
        if strategy == "none":
            raise RequestError(400, "aggregation_strategy 'none' is not offered; entities are words")
        parameters.pop("ignore_labels", None)
    length = parameters.pop("max_answer_length", None)
    if length is not None:
        if not isinstance(length, int) or isinstance(length, bool) or length < 1:
            raise RequestError(400, f"max_answer_len must be an integer >= 1, got {length!r}")
        options["max_answer_length"] = length
    if parameters:
        raise RequestError(400, f"no parameter of {task.name} named '{min(parameters)}'")
    return options, top_k, False


def generation_options(options: Mapping[str, Any], allowed: set[str]) -> dict[str, Any]:
    """Return options of generate. Raises `RequestError`, 400, for one that isn't allowed or has an invalid value."""
    for name, value in options.items():
        if name not in allowed:
            raise RequestError(400, f"no option of generation named '{name}'; there are {', '.join(sorted(allowed))}")
        if isinstance(value, list | dict | str):
            raise RequestError(400, f"{name} must be a number, got {str(value)[:40]!r}")
    most = options.get("max_new_tokens")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= 4096):
        raise RequestError(400, f"max_new_tokens must be an integer from 1 to 4096, got {most!r}")
    beams = options.get("num_beams", 1)
    if not isinstance(beams, int) or isinstance(beams, bool) or not 1 <= beams <= 16:
        raise RequestError(400, f"num_beams must be an integer from 1 to 16, got {beams!r}")
    result = dict(options)
    if "temperature" in result:
        if isinstance(result["temperature"], bool) or result["temperature"] < 0:
            raise RequestError(400, f"temperature must be >= 0, got {result['temperature']!r}")
        if result["temperature"] == 0:
            del result["temperature"]
            result["do_sample"] = False
    if {"temperature", "top_p", "top_k", "typical_p"} & set(result):
        result.setdefault("do_sample", True)
    return result


def _answer(task: Task, row: Any, value: Any, top_k: int | None, full_text: bool) -> Any:
    """Return an answer with the keys that the task has in InferenceClient."""
    if task.generates:
        text = value["generated_text"]
        generated = f"{row}{text}" if full_text and isinstance(row, str) else text
        if task.name == "text-generation":
            return {"generated_text": generated}
        return {"generated_text": text, "translation_text": text, "summary_text": text}
    if task.name == "question-answering":
        spans = [{**span, "start": span["start"] or 0, "end": span["end"] or 0} for span in value]
        empty = {"answer": "", "start": 0, "end": 0, "score": 0.0}
        return spans[:top_k] if top_k and top_k > 1 else (spans or [empty])[0]
    if task.name == "fill-mask" or task.name == "token-classification":
        return value
    return value[:top_k]


def endpoints() -> list[Endpoint]:
    """Return the routes of this dialect."""
    summary = "Answer rows with one adapter, as InferenceClient does"
    return [Endpoint("POST", "/models/{name}", infer, Inputs, summary, classifies=True)]
